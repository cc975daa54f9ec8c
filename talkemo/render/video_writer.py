"""mp4 with audio: frames drawn by a renderer, H.264 and AAC by ffmpeg."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..audio.recording import SAMPLE_RATE, Audio
from ..formats.animation import FileWriter, Frames, Header, video_frame_step
from ..video.encoder import VideoEncoder
from .appearance import appearance_of_header
from .renderers import new_renderer
from .view import fitted, frame_view, width_and_height


class VideoWriter(FileWriter):
    """Renders frames, at most 30 per second, with the audio of a recording.

    The video is as long as the animation: shorter audio ends in silence, longer audio is cut.
    """

    def __init__(
        self, path: Path, header: Header, audio: Audio | None, size: int | tuple[int, int] = 512
    ):
        width, height = (side + side % 2 for side in width_and_height(size))  # H.264: even sides
        self.frame_step = video_frame_step(header.fps)
        self.frames_seen, self.turn = 0, header.turn
        with ExitStack() as stack:  # if one of these fails, those before it are closed
            self.appearance = appearance_of_header(header)
            drawn = self.appearance.drawn
            view = frame_view(header.rest, header.focus, facing=header.facing, drawn=drawn)
            camera = fitted(view, width / height)
            self.renderer = new_renderer(self.appearance, camera, (width, height))
            stack.callback(self.renderer.close)
            audio_path = None if audio is None else audio_file(audio, stack)
            super().__init__(path)
            stack.callback(self.partial.discard)  # does nothing once the video has its final name
            fps, seconds = header.fps / self.frame_step, header.frames / header.fps
            self.encoder = VideoEncoder(
                self.partial.path, path, (width, height), fps, audio_path, seconds
            )
            stack.callback(self.encoder.close)
            self.resources = stack.pop_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.resources:
            super().__exit__(kind, error, trace)

    def write(self, frames: Frames) -> None:
        """Draw and encode frames."""
        first = -self.frames_seen % self.frame_step
        self.frames_seen += len(frames.vertices)
        for k in range(first, len(frames.vertices), self.frame_step):
            self.appearance.look_at(frames.gaze_of(k))
            self.encoder.write(self.renderer.draw(frames.turned(k, self.turn)))

    def finish(self) -> None:
        """Complete the video."""
        self.encoder.finish()

    def close(self) -> None:
        """End the encoder."""
        self.encoder.close()


def audio_file(audio: Audio, stack: ExitStack) -> Path:
    """Return the file of a recording; samples in memory go to one that `stack` removes."""
    if audio.path is not None:
        return audio.path
    import soundfile

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="talkemo-"))
    path = Path(folder) / "audio.wav"
    soundfile.write(path, audio.samples(), SAMPLE_RATE, subtype="FLOAT")
    return path
