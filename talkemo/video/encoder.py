"""Video encoding: frames are piped into a process of ffmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import TalkemoError
from .ffmpeg import AUDIO_DEMUXERS, Watchdog, input_arguments, start_ffmpeg

ENCODER_TIMEOUT_S = 600.0  # the encoder is ended if it takes longer after the last frame
# ffmpeg's options of video codec and container for each ending.
VIDEO_CODECS = {
    ".mp4": "-c:v libx264 -preset veryfast -crf 20 -pix_fmt yuv420p -movflags +faststart -f mp4",
    ".webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 6 -crf 32 -b:v 0 -pix_fmt yuv420p "
    "-f webm",
    ".gif": "-vf split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer "
    "-loop 0 -f gif",
}


class VideoEncoder:
    """Encode frames and audio: H.264 and AAC in an mp4, VP9 and Opus in a webm, or a gif.

    Parameters
    ----------
    path
        Where the video is written; an existing file is replaced.
    name
        Final name of the video: its ending selects the format, and messages show it.
    size
        Width and height in pixels, both even.
    fps
        Frames per second.
    audio
        A file with the audio, None for a silent video. A gif has no audio.
    duration_s
        Length of the video; audio is cut to it or padded with silence.

    Raises
    ------
    TalkemoError
        From `write` or `finish` if the encoder fails, with its first message.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        size: tuple[int, int],
        fps: float,
        audio: Path | None,
        duration_s: float,
    ):
        self.name = name
        ending = name.suffix.lower()
        frame_input = f"-f rawvideo -pix_fmt rgb24 -s {size[0]}x{size[1]} -r {fps:.9g} -i pipe:0"
        command = [*"-v error -y".split(), *frame_input.split()]
        if audio is not None and ending != ".gif":
            codec = "libopus" if ending == ".webm" else "aac"
            command += input_arguments(str(audio.resolve()), AUDIO_DEMUXERS)
            command += f"-map 0:v -map 1:a:0 -c:a {codec} -af apad".split()
        command += VIDEO_CODECS.get(ending, VIDEO_CODECS[".mp4"]).split()
        command += ["-t", f"{duration_s:.6f}", f"file:{path.resolve()}"]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self.process = start_ffmpeg(command, stdin=subprocess.PIPE, stderr=self.log, encodes=True)
        self.watchdog = Watchdog(self.process, ENCODER_TIMEOUT_S)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8."""
        assert self.process.stdin is not None
        try:
            with self.watchdog.waiting():
                self.process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError:  # the encoder has ended
            raise self._failure() from None

    def finish(self) -> None:
        """Complete the video."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            status = self.process.wait(ENCODER_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            raise self._failure() from None
        if status:
            raise self._failure()

    def close(self) -> None:
        """End the process, whether the video is complete or not."""
        self.watchdog.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.log.close()

    def _failure(self) -> TalkemoError:
        """Return the error for an encoder that failed, with the first of its own messages."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read(10_000).decode("utf-8", "replace").split("\n")
        messages = (line.strip()[:200] for line in lines if line.strip())
        reason = next(messages, f"status {self.process.returncode}")
        return TalkemoError(
            f"{self.name}: the video encoder failed ({reason})", "is there space left on the disk?"
        )
