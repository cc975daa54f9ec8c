"""Frames of videos and images, decoded by ffmpeg and Pillow."""

from __future__ import annotations

import math
import queue
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.limits import limit
from ..files.reading import (
    CONTENT_HINT,
    content_of,
    naming_content,
    open_file,
    printable,
    quiet_libraries,
)
from .ffmpeg import (
    VIDEO_DEMUXERS,
    Watchdog,
    check_end,
    input_arguments,
    lacks_memory,
    passthrough_arguments,
    run_ffmpeg,
    start_ffmpeg,
)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
VIDEO_ENDINGS = (".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CAPTURE_ENDINGS = (*VIDEO_ENDINGS, *IMAGE_ENDINGS)
MAX_FRAME_SIDE_PX = 1280  # larger videos are scaled down to this
MAX_IMAGE_PIXELS = 1 << 26  # larger images and videos are refused
MAX_IMAGE_FILE_BYTES = 1 << 28
DEFAULT_VIDEO_FPS = 25.0  # of videos that do not state their frame rate
VIDEO_FPS_RANGE = (1.0, 120.0)  # videos of lower rates are refused, higher rates are lowered
MAX_VIDEO_FRAMES = limit("MAX_VIDEO_FRAMES", 3600 * 60)  # longer videos are refused
MAX_VIDEO_GAP_S = limit("MAX_VIDEO_GAP_S", 60)  # time without frames
MAX_LOG_LINES = 100  # of ffmpeg's errors that are kept
MAX_LOG_LINE_BYTES = 1 << 16  # of its log, read at once
FRAME_TIME = re.compile(rb"\[Parsed_metadata_\d+ @ \w+\] \[info\] frame: *\d+ +pts: *(-?\d+|NOPTS)")
ERROR_LINE = re.compile(rb"(\[[^]]* @ \w+\] )?\[(error|fatal|panic)\]")
IMAGE_HINT = "jpg and png are read"
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


def stated_length(path: Path) -> float | None:
    """Return the seconds that a video's header states; None for a file that cannot be read."""
    try:
        return _probe(path).duration_s or None
    except InputError:
        return None


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video, or an image as a video of one frame.

    Frames at varying intervals are resampled to a constant rate: each is repeated, as the same
    array, until the next one begins. Raises InputError for a file that cannot be read, lasts too
    long, or has a long gap.
    """
    _check_exists(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        image = _read_image(path)
        yield Video(1.0, 1.0, (image.shape[1], image.shape[0]), 0.0, iter([image]))
        return
    header = _probe(path)
    limit = MAX_FRAME_SIDE_PX
    size = f"'if(gt(iw,ih),min(iw,{limit}),-2)':'if(gt(iw,ih),-2,min(ih,{limit}))'"
    # Every frame once, in their order; their times, in microseconds, are printed to the log.
    filters = f"scale={size},settb=AVTB,metadata=add:key=t:value=1,metadata=print:key=t,setpts=N"
    command = ["-nostats", "-v", "level+info", *_input_arguments(path), "-vf", filters]
    command += [*passthrough_arguments(), "-frames:v", str(MAX_VIDEO_FRAMES + 1)]
    command += "-f image2pipe -c:v ppm -pix_fmt rgb24 -".split()  # also of 10 and more bits
    with start_ffmpeg(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        watchdog = Watchdog(process)
        log = _Log(process.stderr, watchdog)
        try:
            decoded = _frames(process.stdout, watchdog)
            first = next(decoded, None)
            if first is None:
                log.check_end(path)
                raise _unreadable(path, log.text)
            scale = max(1.0, max(header.size) / max(first.shape))
            width, height = round(first.shape[1] * scale), round(first.shape[0] * scale)
            timed = zip(chain([first], decoded), log.times())
            frames = _resampled(timed, header.fps, path)
            yield Video(
                header.fps,
                scale,
                (width, height),
                header.duration_s,
                _checked(frames, log, path),
            )
        finally:
            process.kill()
            watchdog.close()


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{printable(path)}: no such file", "name a video or an image")


def _input_arguments(path: Path) -> list[str]:
    """Return the arguments that let ffmpeg read a video and nothing else."""
    return ["-nostdin", *input_arguments(str(path.absolute()), VIDEO_DEMUXERS)]


class _Log:
    """What ffmpeg writes to standard error, read by a thread: times of frames, and messages."""

    def __init__(self, stream: IO[bytes], watchdog: Watchdog):
        self._watchdog = watchdog
        self._times: queue.Queue[float | None] = queue.Queue()
        self._lines: list[str] = []  # the first of its errors
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with suppress(ValueError, OSError):  # the stream is closed when the video is
            while line := stream.readline(MAX_LOG_LINE_BYTES):
                time = FRAME_TIME.match(line)
                if time is not None:
                    self._times.put(math.nan if time[1] == b"NOPTS" else int(time[1]) / 1e6)
                elif ERROR_LINE.match(line):
                    message = line.decode("utf-8", "replace")
                    if lacks_memory(message):
                        self._watchdog.end()
                        self._lines = [message]
                    elif len(self._lines) < MAX_LOG_LINES:
                        self._lines.append(message)
        self._times.put(None)

    def times(self) -> Iterator[float]:
        """Yield the time of each frame in s, NaN if the file does not state it."""
        while (time := self._times.get()) is not None:
            yield time

    def check_end(self, path: Path) -> None:
        """Raise InputError if the video ended because ffmpeg ran out of memory or hung."""
        self._thread.join()
        check_end(printable(path), self.text, self._watchdog.ended)

    @property
    def text(self) -> str:
        """The error messages."""
        return "".join(self._lines)


def _checked(frames: Iterator[np.ndarray], log: _Log, path: Path) -> Iterator[np.ndarray]:
    """Yield frames; then raise InputError if ffmpeg failed before the end of the video."""
    yield from frames
    log.check_end(path)


def _resampled(
    timed_frames: Iterable[tuple[np.ndarray, float]], fps: float, path: Path
) -> Iterator[np.ndarray]:
    """Yield frames at a constant rate, the first at 0 s.

    Each is repeated until the next one begins; of several that fall on one tick, the last is used.
    If the video starts later than 0 s, when the audio starts, its first frame is shown until then.

    Raises InputError for a gap between frames, or a number of frames, that is too large.
    """
    shown, latest, tick = None, 0.0, 0  # frame that is shown, its time, the next tick to fill
    for frame, stated in timed_frames:
        time = latest + 1 / fps if math.isnan(stated) else stated
        if time - latest > MAX_VIDEO_GAP_S:
            raise InputError(
                f"{printable(path)}: a gap of {time - latest:.0f} s after {latest:.0f} s",
                f"cut it into pieces; at most {MAX_VIDEO_GAP_S} s may be without frames",
            )
        while tick < math.floor(time * fps + 0.5):
            yield frame if shown is None else shown
            tick += 1
            _check_frame_count(path, tick)
        shown, latest = frame, max(latest, time)
    if shown is not None:
        yield shown


def _check_frame_count(path: Path, frames: float) -> None:
    if frames > MAX_VIDEO_FRAMES:
        raise InputError(
            f"{printable(path)}: more than {MAX_VIDEO_FRAMES} frames", "cut it into pieces"
        )


def _frames(stream: IO[bytes], watchdog: Watchdog) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) of a stream of PPM files, and close it."""
    while True:
        with watchdog.waiting():
            frame = _next_frame(stream)
        if frame is None:
            stream.close()  # so that ffmpeg does not wait, if it has more
            return
        yield frame


def _next_frame(stream: IO[bytes]) -> np.ndarray | None:
    """Return the next frame (H, W, 3) of a stream of PPM files, None at its end."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    if stream.readline() != b"255\n":  # the maximum value
        return None
    content = stream.read(3 * width * height)
    if len(content) < 3 * width * height:
        return None
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)


@dataclass(frozen=True)
class _VideoHeader:
    """What a video's header states, once it is checked."""

    fps: float  # in VIDEO_FPS_RANGE
    size: tuple[int, int]  # width and height, px
    duration_s: float  # 0 if it does not say


def _probe(path: Path) -> _VideoHeader:
    """Return what a video's header states.

    Raises InputError if the file has no video stream, or states a rate, a size or a duration beyond
    the limits.
    """
    _, text = run_ffmpeg(_input_arguments(path))
    stream = next((line for line in text.splitlines() if re.search(r"Stream #.*Video:", line)), "")
    size = re.search(r"\b(\d{2,5})x(\d{2,5})\b", stream)
    if size is None:
        check_end(printable(path), text)
        raise _unreadable(path, text)
    width, height = int(size[1]), int(size[2])
    if width * height > MAX_IMAGE_PIXELS:
        raise InputError(f"{printable(path)}: {width}×{height} pixels", "scale it down")
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", text)
    duration_s = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3]) if length else 0.0
    fps = _stated_fps(stream, path)
    if duration_s * fps > MAX_VIDEO_FRAMES:
        raise InputError(
            f"{printable(path)}: {duration_s:.0f} s at {fps:g} frames a second are more than "
            f"{MAX_VIDEO_FRAMES} frames",
            "cut it into pieces; if it is shorter, write it again: ffmpeg -i OLD -r 30 NEW.mp4",
        )
    return _VideoHeader(fps, (width, height), duration_s)


def _stated_fps(stream: str, path: Path) -> float:
    """Return the frame rate that ffmpeg's line about a video stream states.

    This is the average rate or, if that is too low to be true, the nominal one. Higher rates are
    lowered. Raises InputError if both are too low.
    """
    stated = [re.search(rf"([\d.]+)(k?) {unit}", stream) for unit in ("fps", "tbr")]
    rates = [float(rate[1]) * (1000 if rate[2] else 1) for rate in stated if rate]
    low, high = VIDEO_FPS_RANGE
    possible = [rate for rate in rates if rate >= low]
    if rates and not possible:
        raise InputError(
            f"{printable(path)}: its header states {max(rates):g} frames a second",
            f"at least {low:g} are needed; write it again: ffmpeg -i OLD -r 30 NEW.mp4",
        )
    return min(possible[0], high) if possible else DEFAULT_VIDEO_FPS


def _unreadable(path: Path, log: str) -> InputError:
    """Return the error for a file that ffmpeg cannot read, with the first reason in its log."""
    content = content_of(path, VIDEO_ENDINGS)
    if content:
        message = f"{printable(path)}: not a video that can be read, {content}"
        return InputError(message, f"{CONTENT_HINT}; {VIDEO_HINT.partition(';')[0]}")
    lines = [re.sub(r"^(\[[^]]*\] )+", "", line.strip()) for line in log.splitlines()]
    reasons = (line for line in lines if re.search(r"nvalid|rror|not found|No ", line))
    reason = next(reasons, "it has no video stream").replace(f"file:{path.absolute()}", path.name)
    reason = printable(reason[:120].rstrip("."))
    return InputError(f"{printable(path)}: not a video that can be read ({reason})", VIDEO_HINT)


def _read_image(path: Path) -> np.ndarray:
    """Return an image (H, W, 3) uint8, upright."""
    with naming_content(path, "an image that can be read", IMAGE_HINT, IMAGE_ENDINGS):
        return _decoded_image(path)


def _decoded_image(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with (
            open_file(path, "an image", IMAGE_HINT, MAX_IMAGE_FILE_BYTES) as file,
            quiet_libraries(),
            Image.open(file, formats=["JPEG", "PNG"]) as image,
        ):
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError:  # Pillow has a limit of its own, which is higher
        megapixels = MAX_IMAGE_PIXELS / 1e6
        raise InputError(
            f"{printable(path)}: an image of more than {megapixels:.0f} megapixels",
            "scale it down",
        ) from None
    except InputError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for a broken file
        reason = re.sub(r" <.*>$", "", printable(error, 100))  # an object, not the file's name
        raise InputError(
            f"{printable(path)}: not an image that can be read ({reason})", IMAGE_HINT
        ) from None
