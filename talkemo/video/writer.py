"""The film encoder: a process of ffmpeg, the one that imageio-ffmpeg carries, that is fed with frames."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import TalkemoError
from .ffmpeg import ffmpeg_program

PATIENCE = 600.0  # s that the encoder may take to complete a film after its last frame


class VideoEncoder:
    """Encodes frames (H, W, 3) uint8 with the sound of a file: H.264 and AAC in an mp4, VP9 and Opus in a webm, a gif.

    path: where the encoder writes, over what is there; name: what the film is called in messages, and whose ending says
        what is written; a gif has no sound
    size: (W, H) pixels, even; seconds: length of the film, to which sound is cut or filled with silence
    Raises TalkemoError, by `write` or `finish`, where the encoder fails; its own messages are summed up in it.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        size: tuple[int, int],
        fps: float,
        sound: Path | None,
        seconds: float,
    ):
        self.name = name
        frames = [
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            f"{size[0]}x{size[1]}",
            "-r",
            f"{fps:.9g}",
            "-i",
            "pipe:0",
        ]
        kind = name.suffix.lower()
        if kind == ".gif":
            sound = None
        audio = [] if sound is None else ["-i", f"file:{sound.resolve()}"]
        codec = "libopus" if kind == ".webm" else "aac"
        tracks = (
            [] if sound is None else ["-map", "0:v", "-map", "1:a:0", "-c:a", codec, "-af", "apad"]
        )
        video = {
            ".webm": [
                "-c:v",
                "libvpx-vp9",
                "-deadline",
                "realtime",
                "-cpu-used",
                "6",
                "-crf",
                "32",
                "-b:v",
                "0",
            ],
            ".gif": [
                "-vf",
                "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer",
                "-loop",
                "0",
            ],
        }.get(kind, ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"])
        container = {".webm": ["-pix_fmt", "yuv420p", "-f", "webm"], ".gif": ["-f", "gif"]}.get(
            kind, ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
        )
        output = ["-t", f"{seconds:.6f}", *container, f"file:{path.resolve()}"]
        command = [ffmpeg_program(), "-v", "error", "-y", *frames, *audio, *tracks, *video, *output]
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        # In a session of its own: an interrupt from the terminal is for us, who then end it.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            start_new_session=True,
        )

    def write(self, frame: np.ndarray) -> None:
        """Append a frame."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError:  # it has ended
            raise self._failure() from None

    def finish(self) -> None:
        """Complete the film."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            status = self.process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            raise self._failure() from None
        if status:
            raise self._failure()

    def close(self) -> None:
        """End the process, whether the film is complete or not."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.said.close()

    def _failure(self) -> TalkemoError:
        """The error for an encoder that failed, with the first of its own messages."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.said.seek(0)
        lines = self.said.read(10_000).decode("utf-8", "replace").split("\n")
        reason = next(
            (line.strip()[:200] for line in lines if line.strip()),
            f"status {self.process.returncode}",
        )
        return TalkemoError(
            f"{self.name}: the video encoder failed ({reason})", "is there space left on the disk?"
        )
