"""Decoding of audio files, by libsndfile or ffmpeg, in chunks."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError, TalkemoError
from ..files.reading import open_file, printable, quiet_stderr
from ..video.ffmpeg import AUDIO_DEMUXERS, Watchdog, check_end, input_arguments, start_ffmpeg
from .samples import (
    MAX_AUDIO_S,
    SAMPLE_RATE,
    Converter,
    HighPass,
    check_channels,
    check_duration,
    check_rate,
)

AUDIO_CHUNK_S = 30.0  # read at a time
MAX_BLOCK_SAMPLES = 1 << 24  # samples of all channels read at a time; limits the memory
MAX_WAV_CHUNKS = 10_000  # RIFF chunks before the samples
# libsndfile's names of the formats that a file's ending allows.
LIBSNDFILE_FORMATS = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3", "MPEG"),
}
FFMPEG_AUDIO_ENDINGS = frozenset(".m4a .aac .mp4 .mov .webm .wma .mkv .avi .mpg .mpeg .m4v".split())
AUDIO_FILE_HINT = "wav, flac, ogg, opus, mp3 and m4a are read; is the ending the right one?"


def read_chunks(path: Path, name: str, chunk_s: float) -> Iterator[np.ndarray]:
    """Yield the samples of a file in consecutive chunks (N,) float32, mono at 16 kHz.

    Parameters
    ----------
    name : str
        The file's name in messages.
    chunk_s : float
        Approximate seconds of audio in a chunk.

    Raises
    ------
    InputError
        The file cannot be opened or decoded, or is cut off.
    """
    with open_file(path, "an audio file", AUDIO_FILE_HINT) as file:
        if path.suffix.lower() in FFMPEG_AUDIO_ENDINGS:
            yield from _read_with_ffmpeg(path, file, name, chunk_s)
            return
        _check_wav_length(file, name)
        file.seek(0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # libsndfile reads from the descriptor
        try:
            yield from _read_with_libsndfile(path, file, name, chunk_s)
        except TalkemoError:
            raise
        except Exception as error:  # libsndfile and soxr raise several kinds for a broken file
            reason = printable(str(error).rpartition(":")[2].strip().rstrip("."))
            raise _unreadable(name, reason or "unreadable") from None


def _unreadable(name: str, reason: str) -> InputError:
    return InputError(f"{name}: not an audio file that can be read ({reason})", AUDIO_FILE_HINT)


def _check_wav_length(file: IO[bytes], name: str) -> None:
    """Raise InputError for a wav with fewer bytes of samples than its header says.

    Programs that write to a pipe leave the length at 0 or at its maximum; both are accepted.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(4) != b"RIFF":
        return
    file.seek(12)
    for _ in range(MAX_WAV_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            available = size - file.tell()
            if available < length < 0x7FFFF000:
                raise InputError(
                    f"{name}: cut off, only {available} of {length} bytes of audio are there",
                    "copy or record it again, or keep what there is: ffmpeg -i CUT.wav NEW.wav",
                )
            return
        file.seek(length + length % 2, 1)
    raise _unreadable(name, "too many parts")


def _read_with_libsndfile(
    path: Path, source: IO[bytes], name: str, chunk_s: float
) -> Iterator[np.ndarray]:
    import soundfile

    with quiet_stderr():  # the mp3 decoder writes to stderr
        opened = soundfile.SoundFile(
            source.fileno() if os.name == "posix" else source, closefd=False
        )
    with opened as file:
        if file.format not in LIBSNDFILE_FORMATS.get(path.suffix.lower(), (file.format,)):
            raise InputError(
                f"{name}: named {path.suffix}, but contains {file.format}",
                "give it the ending of its format",
            )
        rate = file.samplerate
        check_rate(rate, name)
        check_channels(file.channels, name)
        if file.frames < 1 << 60:  # libsndfile gives more if it does not know the length
            check_duration(file.frames / rate, name)
        size = max(1, min(int(chunk_s * rate), MAX_BLOCK_SAMPLES // file.channels))
        convert = Converter(rate)
        last = False
        while not last:
            with quiet_stderr(needed=file.format in LIBSNDFILE_FORMATS[".mp3"]):
                block = file.read(size, dtype="float32", always_2d=True)
            last = len(block) < size
            samples = convert(block, last)
            if len(samples):
                yield samples


def _read_with_ffmpeg(
    path: Path, file: IO[bytes], name: str, chunk_s: float
) -> Iterator[np.ndarray]:
    # Read the open file where the system allows it: the path may name another file by now.
    descriptor_path = f"/dev/fd/{file.fileno()}"
    source = descriptor_path if os.path.exists(descriptor_path) else str(path.absolute())
    command = ["-v", "error", "-nostdin"]
    command += [*input_arguments(source, AUDIO_DEMUXERS), "-vn", "-ac", "1"]
    command += ["-t", str(MAX_AUDIO_S + AUDIO_CHUNK_S), "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    high_pass = HighPass(SAMPLE_RATE)
    descriptors = (file.fileno(),)
    with tempfile.TemporaryFile() as log:
        with start_ffmpeg(
            command, stdout=subprocess.PIPE, stderr=log, descriptors=descriptors
        ) as process:
            assert process.stdout is not None
            watchdog = Watchdog(process)
            try:
                while block := _read(process.stdout, 4 * int(chunk_s * SAMPLE_RATE), watchdog):
                    yield high_pass(np.frombuffer(block[: len(block) // 4 * 4], np.float32))
            finally:
                watchdog.close()
        if process.returncode:
            log.seek(0)
            text = log.read(10_000).decode("utf-8", "replace").replace(f"file:{source}", name)
            check_end(name, text, watchdog.ended)
            raise _unreadable(name, _ffmpeg_reason(text))


def _read(stream: IO[bytes], size: int, watchdog: Watchdog) -> bytes:
    """Return the next bytes that ffmpeg writes, none at the end."""
    with watchdog.waiting():
        return stream.read(size)


def _ffmpeg_reason(log: str) -> str:
    """Return the first line of ffmpeg's messages without the component that it begins with."""
    for line in log.splitlines():
        if line.strip():
            return printable(re.sub(r"^\[[^]]*\] ", "", line).strip().rstrip("."))
    return "ffmpeg failed"
