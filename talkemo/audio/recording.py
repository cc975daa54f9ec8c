"""Sound of any kind as mono samples at 16 kHz, and its log-mel bands at 100 Hz."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ..errors import InputError, TalkemoError
from ..files.reading import open_file, printable, quiet_stderr
from ..video.ffmpeg import AUDIO_DEMUXERS, ffmpeg_program, input_arguments

SAMPLE_RATE = 16000  # Hz
MAX_ABS_SAMPLE = 1e6  # absolute value; files of floats that hold integers stay well below it
HIGH_PASS_CUTOFF_HZ = 5.0  # Hz, of the high-pass filter that removes a microphone's offset
HIGH_PASS_BLOCK_SAMPLES = 256  # samples that the high-pass filter handles as one matrix product
MAX_AUDIO_S = 24 * 3600.0  # s
SAMPLE_RATE_RANGE = (1000, 1_000_000)  # samples a second, that a recording may have
MAX_AUDIO_CHANNELS = 64
MAX_STDIN_BYTES = 1 << 32  # bytes of sound from standard input
AUDIO_CHUNK_S = 30.0  # s read at a time
MAX_BLOCK_SAMPLES = 1 << 24  # numbers read at a time, of all channels together, which bounds the memory
MAX_WAV_CHUNKS = 10_000  # chunks of a wav before its samples
MAX_IN_MEMORY_S = 120.0  # s up to which a recording's samples are kept in memory instead of being read again
# libsndfile's names of the formats that belong to an ending.
LIBSNDFILE_FORMATS = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3", "MPEG"),
}
FFMPEG_AUDIO_ENDINGS = (
    ".m4a",
    ".aac",
    ".mp4",
    ".mov",
    ".webm",
    ".wma",
    ".mkv",
    ".avi",
    ".mpg",
    ".mpeg",
    ".m4v",
)
# How the content of files that ffmpeg decodes begins: from a pipe comes no ending.
AUDIO_SIGNATURES = (
    (re.compile(rb"....ftyp", re.DOTALL), ".m4a"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), ".webm"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), ".wma"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), ".aac"),
)
STANDARD_INPUT = "-"
AUDIO_FILE_HINT = "wav, flac, ogg, opus, mp3 and m4a are read; is the ending the right one?"


class AudioSource(Protocol):
    """What a face can be moved by: a recording, or sound as it comes. peak: largest absolute sample, inf if not known"""

    @property
    def peak(self) -> float: ...

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive pieces (N,) float32 in about [-1, 1], mono, at 16 kHz."""
        ...


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording: mono samples at 16 kHz on demand, from a file or from memory.

    path: of the file, None for samples in memory; duration: s; peak: largest absolute sample
    title: what it is called where that is not the file's name
    """

    path: Path | None
    duration: float
    peak: float
    held: np.ndarray | None = None  # (N,) float32 at 16 kHz, of a recording that is in memory
    title: str = ""

    @property
    def name(self) -> str:
        """What the recording is called in messages and metadata."""
        return self.title or (self.path.name if self.path is not None else "samples")

    def chunks(self, seconds: float = AUDIO_CHUNK_S) -> Iterator[np.ndarray]:
        """Consecutive pieces (N,) float32 in about [-1, 1] at 16 kHz, `duration` seconds in all."""
        if self.held is None:
            assert self.path is not None
            yield from _read(self.path, self.title or printable(self.path), seconds)
            return
        size = max(1, int(seconds * SAMPLE_RATE))
        for start in range(0, len(self.held), size):
            yield self.held[start : start + size]

    def samples(self) -> np.ndarray:
        """The whole signal (N,) float32."""
        return np.concatenate(list(self.chunks()))


def load_audio(source: str | Path | tuple[np.ndarray, int] | Audio) -> Audio:
    """A sound file by its path, "-" for standard input, or samples (N,) or (N, channels) in [-1, 1] with their rate in Hz.

    Raises InputError for anything without usable sound in it.
    """
    if isinstance(source, Audio):
        return source
    if isinstance(source, tuple):
        return audio_of_samples(*source)
    return open_audio(source)


def audio_of_samples(samples: np.ndarray, rate: int) -> Audio:
    """A recording of samples (N,) or (N, channels) in [-1, 1] at `rate` Hz. Raises InputError for unusable samples."""
    import soxr

    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or not len(samples) or samples.dtype.kind not in "fiu":
        raise InputError(
            f"samples are {samples.dtype} {samples.shape}",
            "give (N,) or (N, channels) floats in [-1, 1]",
        )
    if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
        raise InputError(
            f"{rate} samples a second", "give the samples with their rate in Hz, such as 16000"
        )
    if samples.ndim == 2 and not 1 <= samples.shape[1] <= MAX_AUDIO_CHANNELS:
        raise InputError(
            f"samples of {samples.shape[1]} channels",
            f"give (N, channels), at most {MAX_AUDIO_CHANNELS}",
        )
    if len(samples) > MAX_AUDIO_S * rate:
        raise InputError(f"more than {MAX_AUDIO_S / 3600:.0f} hours of sound", "cut it into pieces")
    if samples.dtype.kind in "iu":  # whole numbers use the range of their type
        samples = samples / np.float32(np.iinfo(samples.dtype).max)
    mono = samples.mean(1) if samples.ndim == 2 else samples
    if not np.isfinite(mono).all():
        raise InputError("the samples contain NaN or infinity", "give finite numbers in [-1, 1]")
    levelled = HighPass(rate)(mono)
    held = (
        levelled
        if rate == SAMPLE_RATE
        else soxr.resample(levelled, rate, SAMPLE_RATE).astype(np.float32)
    )
    peak = float(np.abs(held).max(initial=0.0))
    if not len(held) or peak > MAX_ABS_SAMPLE:
        raise InputError(f"{len(held)} samples of up to {peak:.0e}", "sound lies between -1 and 1")
    return Audio(None, len(held) / SAMPLE_RATE, peak, held)


def open_audio(path: str | Path) -> Audio:
    """Check a sound file and measure it, reading it once from end to end. "-" is what comes by standard input.

    Raises InputError for anything but a regular file, more than a day, and anything without sound in it.
    """
    title = "stdin" if str(path) == STANDARD_INPUT else ""
    path = _standard_input() if title else Path(path)
    name = title or printable(path)
    count, peak = 0, 0.0
    pieces: list[np.ndarray] = []
    for piece in _read(path, name, AUDIO_CHUNK_S):
        if not np.isfinite(piece).all():
            raise InputError(
                f"{name}: the sound's samples contain NaN or infinity", "export it again"
            )
        count += len(piece)
        peak = max(peak, float(np.abs(piece).max(initial=0.0)))
        if peak > MAX_ABS_SAMPLE:
            raise InputError(
                f"{name}: samples of {peak:.0e}; sound lies between -1 and 1", "export it again"
            )
        pieces = [*pieces, piece] if count <= MAX_IN_MEMORY_S * SAMPLE_RATE else []
        if count > MAX_AUDIO_S * SAMPLE_RATE:
            raise _too_long(name)
    if count == 0:
        raise InputError(
            f"{name}: no sound in it", "the file is empty or cut off before its first sample"
        )
    return Audio(path, count / SAMPLE_RATE, peak, np.concatenate(pieces) if pieces else None, title)


def _too_long(name: str) -> InputError:
    return InputError(
        f"{name}: more than {MAX_AUDIO_S / 3600:.0f} hours of sound", "cut it into pieces"
    )


@lru_cache(maxsize=1)
def _standard_input() -> Path:
    """A temporary file with what comes by standard input, removed when the process ends."""
    source = None if sys.stdin is None or sys.stdin.closed else sys.stdin.buffer
    if source is None or source.isatty():
        raise InputError(
            "stdin: no sound comes by standard input",
            "for instance: talkemo animate MESH - < sound.wav",
        )
    start = source.read(64)
    ending = next((ending for beginning, ending in AUDIO_SIGNATURES if beginning.match(start)), "")
    copy = tempfile.NamedTemporaryFile(prefix="talkemo-", suffix=ending)  # noqa: SIM115 (closed when the process ends)
    atexit.register(copy.close)
    size = 0
    block = start
    while block:
        size += len(block)
        if size > MAX_STDIN_BYTES:
            copy.close()
            raise InputError(
                f"stdin: more than {MAX_STDIN_BYTES >> 30} GiB of sound", "name a file instead"
            )
        copy.write(block)
        block = source.read(1 << 20)
    copy.flush()
    return Path(copy.name)


def _refuse_cut_wav(file: IO[bytes], name: str) -> None:
    """Raise InputError for a wav that holds fewer bytes of sound than its header promises.

    Programs that write to a pipe leave 0 or the largest number there, which promises nothing.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(4) != b"RIFF":
        return
    file.seek(12)
    for _ in range(MAX_WAV_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            there = size - file.tell()
            if there < length < 0x7FFFF000:
                raise InputError(
                    f"{name}: cut off, {there} of {length} bytes of sound are there",
                    "copy or record it again, or keep what there is: ffmpeg -i CUT.wav NEW.wav",
                )
            return
        file.seek(length + length % 2, 1)
    raise InputError(f"{name}: not a sound file that can be read (too many parts)", AUDIO_FILE_HINT)


class HighPass:
    """Removes a constant offset from consecutive pieces: y[n] = x[n] − x[n−1] + pole · y[n−1].

    It starts as if the first sample had always been there, so that there is no click where the sound begins. Within a
    block the recursion is a triangular matrix; importing scipy.signal for it takes longer than all the rest.
    """

    def __init__(self, rate: float):
        pole = np.exp(-2 * np.pi * HIGH_PASS_CUTOFF_HZ / rate)
        lag = np.arange(HIGH_PASS_BLOCK_SAMPLES)[:, None] - np.arange(HIGH_PASS_BLOCK_SAMPLES)
        self.within = np.where(lag >= 0, pole ** np.maximum(lag, 0), 0.0).T
        self.carried = pole ** np.arange(
            1, HIGH_PASS_BLOCK_SAMPLES + 1
        )  # what is left of the last output, sample by sample
        self.last_input: float | None = None
        self.last_output = 0.0

    @np.errstate(
        invalid="ignore", over="ignore"
    )  # NaN and infinity come out as such, and are refused there
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The next piece (N,), filtered, float32."""
        if not len(samples):
            return samples.astype(np.float32)
        x = samples.astype(np.float64)
        steps = np.diff(x, prepend=x[0] if self.last_input is None else self.last_input)
        blocks = (
            np.pad(steps, (0, -len(steps) % HIGH_PASS_BLOCK_SAMPLES)).reshape(-1, HIGH_PASS_BLOCK_SAMPLES) @ self.within
        )
        before = np.empty(len(blocks))
        last = self.last_output
        for k, end in enumerate(blocks[:, -1]):
            before[k] = last
            last = end + self.carried[-1] * last
        y = (blocks + before[:, None] * self.carried).ravel()[: len(x)]
        self.last_input, self.last_output = x[-1], y[-1]
        return y.astype(np.float32)


class Converter:
    """Makes consecutive pieces of sound mono, at 16 kHz, without a constant offset. rate: Hz, of what comes"""

    def __init__(self, rate: float):
        import soxr

        self.level = HighPass(rate)
        self.resampler = (
            soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            if rate != SAMPLE_RATE
            else None
        )

    def __call__(self, block: np.ndarray, last: bool) -> np.ndarray:
        """The next samples (N, channels) in [-1, 1]: (M,) float32. last: whether nothing follows"""
        mono = self.level(block.mean(1))
        return mono if self.resampler is None else self.resampler.resample_chunk(mono, last=last)


def _read(path: Path, name: str, seconds: float) -> Iterator[np.ndarray]:
    """Consecutive pieces (N,) float32 at 16 kHz of a file, of about so many seconds. name: in messages."""
    with open_file(path, "a sound file", AUDIO_FILE_HINT) as file:
        if path.suffix.lower() in FFMPEG_AUDIO_ENDINGS:
            yield from _read_with_ffmpeg(path, file, name, seconds)
            return
        _refuse_cut_wav(file, name)
        file.seek(0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # Python's buffer has read ahead
        try:
            yield from _read_with_libsndfile(path, file, name, seconds)
        except TalkemoError:
            raise
        except Exception as error:  # libsndfile's and soxr's for a broken file
            reason = printable(str(error).rpartition(":")[2].strip().rstrip(".")) or "unreadable"
            raise InputError(
                f"{name}: not a sound file that can be read ({reason})", AUDIO_FILE_HINT
            ) from None


def _read_with_libsndfile(
    path: Path, source: IO[bytes], name: str, seconds: float
) -> Iterator[np.ndarray]:
    import soundfile

    with quiet_stderr():  # its mp3 decoder writes there
        opened = soundfile.SoundFile(
            source.fileno() if os.name == "posix" else source, closefd=False
        )
    with opened as file:
        wanted = LIBSNDFILE_FORMATS.get(path.suffix.lower(), (file.format,))
        if file.format not in wanted:
            raise InputError(
                f"{name}: named {path.suffix}, but what it holds is {file.format}",
                "give it the ending of its kind",
            )
        _check_header(name, file)
        rate = file.samplerate
        size = max(1, min(int(seconds * rate), MAX_BLOCK_SAMPLES // file.channels))
        convert = Converter(rate)
        while True:
            with quiet_stderr(needed=file.format in LIBSNDFILE_FORMATS[".mp3"]):
                block = file.read(size, dtype="float32", always_2d=True)
            last = len(block) < size
            out = convert(block, last)
            if len(out):
                yield out
            if last:
                return


def _check_header(name: str, file: Any) -> None:
    """Raise InputError for what a sound file's header says, before any sample is read."""
    if not SAMPLE_RATE_RANGE[0] <= file.samplerate <= SAMPLE_RATE_RANGE[1]:
        raise InputError(
            f"{name}: {file.samplerate} samples a second",
            f"from {SAMPLE_RATE_RANGE[0]} to {SAMPLE_RATE_RANGE[1]} are read; export it again",
        )
    if file.channels > MAX_AUDIO_CHANNELS:
        raise InputError(
            f"{name}: {file.channels} channels", f"at most {MAX_AUDIO_CHANNELS} are read; mix it down"
        )
    if (
        file.frames / file.samplerate > MAX_AUDIO_S and file.frames < 1 << 60
    ):  # a larger one means that it is not known
        raise _too_long(name)


def _read_with_ffmpeg(
    path: Path, file: IO[bytes], name: str, seconds: float
) -> Iterator[np.ndarray]:
    # By its descriptor, where there is a name for that: the path may be another file by now.
    inside = f"/dev/fd/{file.fileno()}"
    source = inside if os.path.exists(inside) else str(path.absolute())
    command = [
        ffmpeg_program(),
        "-v",
        "error",
        "-nostdin",
        *input_arguments(source, AUDIO_DEMUXERS),
        "-vn",
        "-ac",
        "1",
    ]
    command += ["-t", str(MAX_AUDIO_S + AUDIO_CHUNK_S), "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    level = HighPass(SAMPLE_RATE)
    passed = (file.fileno(),) if os.name == "posix" else ()
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, pass_fds=passed
        ) as process:
            assert process.stdout is not None
            while block := process.stdout.read(4 * int(seconds * SAMPLE_RATE)):
                yield level(np.frombuffer(block[: len(block) // 4 * 4], np.float32))
        if process.returncode:
            said.seek(0)
            lines = said.read(10_000).decode("utf-8", "replace").splitlines()
            # The first says most; it begins with the part of ffmpeg that says it.
            reason = next(
                (re.sub(r"^\[[^]]*\] ", "", line) for line in lines if line.strip()),
                "ffmpeg failed",
            )
            reason = printable(reason.replace(f"file:{source}", name).strip().rstrip("."))
            raise InputError(f"{name}: not a sound file that can be read ({reason})", AUDIO_FILE_HINT)
