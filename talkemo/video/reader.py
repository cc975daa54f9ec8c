"""Pictures of films and photographs, by the ffmpeg that imageio-ffmpeg carries."""

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
from ..files.reading import printable
from .ffmpeg import VIDEO_DEMUXERS, ffmpeg_program, input_arguments

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
VIDEO_ENDINGS = (".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CAPTURE_ENDINGS = (*VIDEO_ENDINGS, *IMAGE_ENDINGS)
LONGEST_SIDE = 1280  # pixels of a picture that is looked at; larger films are scaled down
LARGEST_PHOTO = 1 << 26  # pixels
USUAL_FPS = 25.0  # of films that do not say
FPS = (1.0, 120.0)  # of a film; others are brought into this range
HINT = "mp4, mov, mkv, webm, avi and mpg are read; is it whole?"


@dataclass(frozen=True, eq=False)
class Video:
    """A film's pictures at a constant rate, the first at 0 s.

    fps: frames a second; scale: pixels of the film to one of a picture; size: width and height of the film
    seconds: how long the file says that it is, 0 where it does not
    pictures: (H, W, 3) uint8 each, to be read once
    """

    fps: float
    scale: float
    size: tuple[int, int]
    seconds: float
    pictures: Iterator[np.ndarray]


def check_video(path: Path) -> None:
    """Raise InputError for a file that is no film and no photograph."""
    _check_there(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        _photo(path)
    else:
        _about(path)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """A film, or a photograph as a film of one picture. Frames at varying intervals are brought to a constant rate.

    Raises InputError for a file that cannot be read.
    """
    _check_there(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        photo = _photo(path)
        yield Video(1.0, 1.0, (photo.shape[1], photo.shape[0]), 0.0, iter([photo]))
        return
    fps, longest, seconds = _about(path)
    side = f"'if(gt(iw,ih),min(iw,{LONGEST_SIDE}),-2)':'if(gt(iw,ih),-2,min(ih,{LONGEST_SIDE}))'"
    # Counted from the sound's beginning: a picture that begins later is shown from there on.
    wanted = [
        "-vf",
        f"fps={fps:g}:start_time=0,scale={side}",
        "-f",
        "image2pipe",
        "-c:v",
        "ppm",
        "-",
    ]
    with tempfile.TemporaryFile() as said:
        command = [*_begin(path), "-v", "error", *wanted]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process:
            assert process.stdout is not None
            try:
                first = _next_picture(process.stdout)
                if first is None:
                    process.wait()
                    said.seek(0)
                    raise _unreadable(path, said.read(10_000).decode("utf-8", "replace"))
                scale = max(1.0, longest / max(first.shape))
                size = (round(first.shape[1] * scale), round(first.shape[0] * scale))
                yield Video(fps, scale, size, seconds, chain([first], _pictures(process.stdout)))
            finally:
                process.kill()


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{printable(path)}: no such file", "name a film or a photograph")


def _begin(path: Path) -> list[str]:
    """How a command of ffmpeg's begins that reads a film and nothing else."""
    return [ffmpeg_program(), "-nostdin", *input_arguments(str(path.absolute()), VIDEO_DEMUXERS)]


def _pictures(stream: IO[bytes]) -> Iterator[np.ndarray]:
    """What is left of the pictures of a stream."""
    while (picture := _next_picture(stream)) is not None:
        yield picture


def _next_picture(stream: IO[bytes]) -> np.ndarray | None:
    """The next picture (H, W, 3) of a stream of PPM files, None at its end."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # the largest value, 255
    content = stream.read(3 * width * height)
    return (
        np.frombuffer(content, np.uint8).reshape(height, width, 3)
        if len(content) == 3 * width * height
        else None
    )


def _about(path: Path) -> tuple[float, int, float]:
    """Frames a second of a film, pixels along its longer side, and its seconds. Raises InputError where it has no pictures."""
    done = subprocess.run([*_begin(path), "-hide_banner"], stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode("utf-8", "replace")
    stream = next((line for line in said.splitlines() if re.search(r"Stream #.*Video:", line)), "")
    size = re.search(r"\b(\d{2,5})x(\d{2,5})\b", stream)
    if size is None:
        raise _unreadable(path, said)
    rate = re.search(r"([\d.]+) fps", stream) or re.search(r"([\d.]+) tbr", stream)
    fps = float(rate[1]) if rate else USUAL_FPS
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", said)
    seconds = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3]) if length else 0.0
    return min(max(fps, FPS[0]), FPS[1]), max(int(size[1]), int(size[2])), seconds


def _unreadable(path: Path, said: str) -> InputError:
    """What ffmpeg says of a file: the first line that names a reason."""
    lines = [re.sub(r"^\[[^]]*\] ", "", line.strip()) for line in said.splitlines()]
    reasons = [line for line in lines if re.search(r"nvalid|rror|not found|No ", line)]
    reason = (
        reasons[0].replace(f"file:{path.absolute()}", path.name)[:120].rstrip(".")
        if reasons
        else "no pictures in it"
    )
    return InputError(f"{printable(path)}: not a film that can be read ({printable(reason)})", HINT)


def _photo(path: Path) -> np.ndarray:
    """A photograph (H, W, 3) uint8, upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as picture:
            if picture.width * picture.height > LARGEST_PHOTO:
                raise InputError(
                    f"{printable(path)}: {picture.width}×{picture.height} pixels", "scale it down"
                )
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            f"{printable(path)}: not a photograph that can be read ({error})",
            "jpg and png are read",
        ) from None
