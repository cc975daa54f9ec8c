"""Frames of videos and images, decoded by ffmpeg and Pillow."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.reading import printable, quiet_libraries
from .ffmpeg import VIDEO_DEMUXERS, ffmpeg_program, input_arguments

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
VIDEO_ENDINGS = (".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CAPTURE_ENDINGS = (*VIDEO_ENDINGS, *IMAGE_ENDINGS)
MAX_FRAME_SIDE_PX = 1280  # larger videos are scaled down to this
MAX_IMAGE_PIXELS = 1 << 26  # larger images are refused
DEFAULT_VIDEO_FPS = 25.0  # of videos that do not state their frame rate
VIDEO_FPS_RANGE = (1.0, 120.0)  # frame rates are clipped to this range
VIDEO_HINT = "mp4, mov, mkv, webm, avi and mpg are read; is the file complete?"


@dataclass(frozen=True, eq=False)
class Video:
    """An open video: its frames at a constant rate, the first at 0 s."""

    fps: float
    scale: float  # video pixels per pixel of a frame
    size: tuple[int, int]  # width and height of the video, px
    duration_s: float  # as stated by the file, 0 if it does not say
    frames: Iterator[np.ndarray]  # each (H, W, 3) uint8; can be read once


def check_video(path: Path) -> None:
    """Raise InputError for a file that is neither a video nor an image."""
    _check_exists(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        _read_image(path)
    else:
        _probe(path)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video, or an image as a video of one frame.

    Frames at varying intervals are resampled to a constant rate. Raises InputError for a file that
    cannot be read.
    """
    _check_exists(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        image = _read_image(path)
        yield Video(1.0, 1.0, (image.shape[1], image.shape[0]), 0.0, iter([image]))
        return
    fps, longest_side, duration_s = _probe(path)
    limit = MAX_FRAME_SIDE_PX
    size = f"'if(gt(iw,ih),min(iw,{limit}),-2)':'if(gt(iw,ih),-2,min(ih,{limit}))'"
    # start_time=0: times count from the start of the audio. If the video starts later, its first
    # frame is repeated until then.
    filters = ["-vf", f"fps={fps:g}:start_time=0,scale={size}"]
    command = [*_read_command(path), "-v", "error", *filters, *"-f image2pipe -c:v ppm -".split()]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            first = _next_frame(process.stdout)
            if first is None:
                process.wait()
                log.seek(0)
                raise _unreadable(path, log.read(10_000).decode("utf-8", "replace"))
            scale = max(1.0, longest_side / max(first.shape))
            width, height = round(first.shape[1] * scale), round(first.shape[0] * scale)
            frames = chain([first], _remaining_frames(process.stdout))
            yield Video(fps, scale, (width, height), duration_s, frames)
        finally:
            process.kill()


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{printable(path)}: no such file", "name a video or an image")


def _read_command(path: Path) -> list[str]:
    """Return the start of an ffmpeg command that reads a video and nothing else."""
    return [ffmpeg_program(), "-nostdin", *input_arguments(str(path.absolute()), VIDEO_DEMUXERS)]


def _remaining_frames(stream: IO[bytes]) -> Iterator[np.ndarray]:
    while (frame := _next_frame(stream)) is not None:
        yield frame


def _next_frame(stream: IO[bytes]) -> np.ndarray | None:
    """Return the next frame (H, W, 3) of a stream of PPM files, None at its end."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # the maximum value, 255
    content = stream.read(3 * width * height)
    if len(content) < 3 * width * height:
        return None
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)


def _probe(path: Path) -> tuple[float, int, float]:
    """Return a video's frame rate, its longer side in pixels and its duration in seconds.

    Raises InputError if the file has no video stream.
    """
    command = [*_read_command(path), "-hide_banner"]
    log = subprocess.run(command, stderr=subprocess.PIPE, check=False).stderr
    text = log.decode("utf-8", "replace")
    stream = next((line for line in text.splitlines() if re.search(r"Stream #.*Video:", line)), "")
    size = re.search(r"\b(\d{2,5})x(\d{2,5})\b", stream)
    if size is None:
        raise _unreadable(path, text)
    rate = re.search(r"([\d.]+) fps", stream) or re.search(r"([\d.]+) tbr", stream)
    fps = float(rate[1]) if rate else DEFAULT_VIDEO_FPS
    low, high = VIDEO_FPS_RANGE
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", text)
    duration_s = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3]) if length else 0.0
    return min(max(fps, low), high), max(int(size[1]), int(size[2])), duration_s


def _unreadable(path: Path, log: str) -> InputError:
    """Return the error for a file that ffmpeg cannot read, with the first reason in its log."""
    lines = [re.sub(r"^\[[^]]*\] ", "", line.strip()) for line in log.splitlines()]
    reasons = (line for line in lines if re.search(r"nvalid|rror|not found|No ", line))
    reason = next(reasons, "it has no video stream").replace(f"file:{path.absolute()}", path.name)
    reason = printable(reason[:120].rstrip("."))
    return InputError(f"{printable(path)}: not a video that can be read ({reason})", VIDEO_HINT)


def _read_image(path: Path) -> np.ndarray:
    """Return an image (H, W, 3) uint8, upright."""
    from PIL import Image, ImageOps

    try:
        with quiet_libraries(), Image.open(path, formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError:  # Pillow has a limit of its own, which is higher
        limit = MAX_IMAGE_PIXELS / 1e6
        raise InputError(
            f"{printable(path)}: an image of more than {limit:.0f} megapixels", "scale it down"
        ) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{printable(path)}: not an image that can be read ({error})", "jpg and png are read"
        ) from None
