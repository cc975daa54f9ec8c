"""mp4 with sound: frames drawn by a renderer, H.264 and AAC by ffmpeg."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..audio.recording import SAMPLE_RATE, Audio
from ..formats.animation import FileWriter, Frames, Header, video_frame_step
from ..video.writer import VideoEncoder
from . import new_renderer
from .appearance import appearance_of_header
from .view import fitted, frame_view, width_and_height


class VideoWriter(FileWriter):
    """Renders every frame, or every n-th so that there are at most 30 a second, beside the sound of a recording.

    The film is as long as the animation: shorter sound ends in silence, longer sound is cut.
    """

    def __init__(
        self, path: Path, header: Header, audio: Audio | None, size: int | tuple[int, int] = 512
    ):
        width, height = (
            side + side % 2 for side in width_and_height(size)
        )  # H.264 wants even sides
        camera = fitted(frame_view(header.rest, header.focus, facing=header.facing), width / height)
        self.every = video_frame_step(header.fps)
        self.count, self.turn = 0, header.turn
        with ExitStack() as stack:  # if one of these fails, those before it are closed
            self.appearance = appearance_of_header(header)
            self.renderer = new_renderer(self.appearance, camera, (width, height))
            stack.callback(self.renderer.close)
            sound = None if audio is None else audio_file(audio, stack)
            super().__init__(path)
            stack.callback(self.partial.discard)  # does nothing once the film has its final name
            frame = (width, height), header.fps / self.every
            self.encoder = VideoEncoder(
                self.partial.path, path, *frame, sound, header.frames / header.fps
            )
            stack.callback(self.encoder.close)
            self.opened = stack.pop_all()

    def __exit__(self, *error) -> None:
        with self.opened:
            super().__exit__(*error)

    def write(self, frames: Frames) -> None:
        first = -self.count % self.every
        self.count += len(frames.vertices)
        for k in range(first, len(frames.vertices), self.every):
            vertices = frames.vertices[k]
            gaze = None if frames.gaze is None else frames.gaze[k]
            if self.turn is not None:
                head = np.eye(3) if frames.head is None else frames.head[k]
                vertices = self.turn(vertices, head, gaze)
            self.appearance.look_at(gaze)
            self.encoder.write(self.renderer.draw(vertices))

    def finish(self) -> None:
        self.encoder.finish()

    def close(self) -> None:
        self.encoder.close()


def audio_file(audio: Audio, stack: ExitStack) -> Path:
    """The file of a recording; samples in memory are written to one that is removed when the stack is closed."""
    if audio.path is not None:
        return audio.path
    import soundfile

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="talkemo-"))
    path = Path(folder) / "sound.wav"
    soundfile.write(path, audio.samples(), SAMPLE_RATE, subtype="FLOAT")
    return path
