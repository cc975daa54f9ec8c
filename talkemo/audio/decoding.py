"""Decoding of audio files, by libsndfile or ffmpeg, in chunks."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError, TalkemoError
from ..files.reading import naming_content, open_file, printable, quiet_stderr
from ..video.ffmpeg import AUDIO_DEMUXERS, Watchdog, check_end, input_arguments, start_ffmpeg
from .samples import (
    MAX_AUDIO_S,
    SAMPLE_RATE,
    Converter,
    HighPass,
    MonoMixer,
    check_channels,
    check_duration,
    check_rate,
)
from .wav import MIN_REST_S, found_bytes, read_wav_header, write_repaired

AUDIO_CHUNK_S = 30.0  # read at a time
MAX_BLOCK_SAMPLES = 1 << 24  # samples of all channels read at a time; limits the memory
MAX_REPAIRED_BYTES = 1 << 32  # of samples behind a wrong header, which are copied
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
AUDIO_ENDINGS = (*LIBSNDFILE_FORMATS, *FFMPEG_AUDIO_ENDINGS)


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
        The file cannot be opened or decoded.
    """
    what = "an audio file that can be read"
    naming = naming_content(path, what, AUDIO_FILE_HINT, AUDIO_ENDINGS, name)
    with naming, open_file(path, "an audio file", AUDIO_FILE_HINT) as file:
        if path.suffix.lower() in FFMPEG_AUDIO_ENDINGS:
            yield from _read_with_ffmpeg(path, file, name, chunk_s)
            return
        try:
            yield from _read_with_libsndfile(path, file, name, chunk_s)
        except TalkemoError:
            raise
        except Exception as error:  # libsndfile and soxr raise several kinds for a broken file
            reason = printable(str(error).rpartition(":")[2].strip().rstrip("."))
            raise _unreadable(name, reason or "unreadable") from None


@dataclass(frozen=True)
class RepairedWav:
    """What is odd about the length of a wav.

    Attributes
    ----------
    note : str
        A remark for the user.
    copy : open temporary file, optional
        The same audio with the right length, where decoders would not read all of it. It is removed
        when it is closed.
    """

    note: str
    copy: Any = None


def repaired_wav(path: Path, name: str) -> RepairedWav | None:
    """Return what is odd about the length in a wav's header; None if nothing is, or for no wav.

    Raises
    ------
    InputError
        The file cannot be opened, or has nothing but a header.
    """
    if path.suffix.lower() in FFMPEG_AUDIO_ENDINGS:
        return None
    with open_file(path, "an audio file", AUDIO_FILE_HINT) as file:
        try:
            header = read_wav_header(file)
        except ValueError as error:
            raise _unreadable(name, str(error)) from None
        if header is None or not (header.says_length or header.data_bytes == 0):
            return None
        found = found_bytes(file, header, os.fstat(file.fileno()).st_size)
        if header.seconds(abs(found - header.data_bytes)) < MIN_REST_S:
            return None
        note = f"{name}: {header.note(found)}"
        if found < header.data_bytes:  # decoders end with the file
            return RepairedWav(note)
        check_duration(header.seconds(found), name)
        if found > MAX_REPAIRED_BYTES:
            raise InputError(
                f"{note}, more than {MAX_REPAIRED_BYTES >> 30} GiB",
                "write it again with the right header: ffmpeg -i OLD.wav NEW.wav",
            )
        copy = tempfile.NamedTemporaryFile(prefix="talkemo-", suffix=path.suffix)  # noqa: SIM115
        write_repaired(file, header, found, copy)
        copy.flush()
        return RepairedWav(note, copy)


def _unreadable(name: str, reason: str) -> InputError:
    return InputError(f"{name}: not an audio file that can be read ({reason})", AUDIO_FILE_HINT)


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
    command += [*input_arguments(source, AUDIO_DEMUXERS), "-vn"]
    # One or two channels, as they are: ffmpeg's mean would lose a voice in opposite phases. The
    # wav's header says how many.
    command += ["-af", "aformat=channel_layouts=mono|stereo", "-c:a", "pcm_f32le"]
    command += ["-t", str(MAX_AUDIO_S + AUDIO_CHUNK_S), "-ar", str(SAMPLE_RATE), "-f", "wav", "-"]
    mix, high_pass = MonoMixer(SAMPLE_RATE), HighPass(SAMPLE_RATE)
    descriptors = (file.fileno(),)
    with tempfile.TemporaryFile() as log:
        with start_ffmpeg(
            command, stdout=subprocess.PIPE, stderr=log, descriptors=descriptors
        ) as process:
            assert process.stdout is not None
            watchdog = Watchdog(process)
            try:
                channels = _channels_of(process.stdout, watchdog)
                frame_bytes = 4 * channels
                size = frame_bytes * int(chunk_s * SAMPLE_RATE)
                while block := _read(process.stdout, size, watchdog):
                    whole = block[: len(block) // frame_bytes * frame_bytes]
                    yield high_pass(mix(np.frombuffer(whole, np.float32).reshape(-1, channels)))
            finally:
                watchdog.close()
        if process.returncode:
            log.seek(0)
            text = log.read(10_000).decode("utf-8", "replace").replace(f"file:{source}", name)
            check_end(name, text, watchdog.ended)
            raise _unreadable(name, _ffmpeg_reason(text))


def _channels_of(stream: IO[bytes], watchdog: Watchdog) -> int:
    """Read the header of the wav that ffmpeg writes; return its channels, 1 if there is none."""
    try:
        with watchdog.waiting():
            header = read_wav_header(stream)
    except ValueError:
        header = None
    return 1 if header is None else header.channels


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
