"""mp4 with sound: H.264 and AAC by the ffmpeg that imageio-ffmpeg carries."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from ..animation import Chunk, Header, Writer
from ..errors import InputError, TalkemoError
from . import facing_of, frame_view, new_renderer

VIDEO_FPS = 30.0  # at most: more costs time and shows nothing that a face does
SIZES = (64, 4096)


class VideoWriter(Writer):
    """Renders every frame, or every n-th so that there are at most 30 a second, beside the sound of a file."""

    def __init__(self, path: Path, header: Header, sound: Path | None, size: int = 512, view: str = "front"):
        super().__init__(path)
        if not SIZES[0] <= size <= SIZES[1]:
            raise InputError(f"a picture of {size} pixels: choose from {SIZES[0]} to {SIZES[1]}")
        self.every = max(1, int(np.ceil(header.fps / VIDEO_FPS - 1e-6)))
        self.count = 0
        size += size % 2  # H.264 wants even sides
        camera = frame_view(header.rest, header.focus, view, facing_of(header.meta))
        self.renderer = new_renderer(header.faces, camera, (size, size))
        self.stream = _ffmpeg(self.partial, size, header.fps / self.every, sound, header.frames / header.fps)

    def write(self, chunk: Chunk) -> None:
        self.write_vertices(chunk.vertices)

    def write_vertices(self, vertices: np.ndarray) -> None:
        """Append frames (T, V, 3)."""
        first = -self.count % self.every
        self.count += len(vertices)
        for frame in vertices[first :: self.every]:
            try:
                self.stream.send(self.renderer.draw(frame).tobytes())
            except (OSError, StopIteration) as error:
                raise TalkemoError(f"{self.path}: the video encoder stopped ({error})") from None

    def finish(self) -> None:
        self.stream.close()
        self.renderer.close()
        import imageio_ffmpeg

        try:  # the encoder's exit status is not told: a full disk shows only in a film that cannot be read
            imageio_ffmpeg.count_frames_and_secs(str(self.partial.resolve()))
        except (RuntimeError, OSError):
            raise TalkemoError(f"{self.path}: the video encoder failed", "is the disk full?") from None

    def abort(self) -> None:
        self.stream.close()
        self.renderer.close()


def _ffmpeg(path: Path, size: int, fps: float, sound: Path | None, seconds: float) -> Generator[None, bytes, None]:
    import imageio_ffmpeg

    # The film is as long as the animation: shorter sound ends in silence, longer sound is cut.
    as_long = [] if sound is None else ["-af", "apad", "-t", f"{seconds:.6f}"]
    stream = imageio_ffmpeg.write_frames(
        str(path.resolve()),
        (size, size),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        audio_path=None if sound is None else str(sound.resolve()),
        audio_codec=None if sound is None else "aac",
        output_params=["-preset", "veryfast", "-crf", "20", "-movflags", "+faststart", *as_long],
        ffmpeg_log_level="error",
    )
    stream.send(None)
    return stream
