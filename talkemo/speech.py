"""Reading sound of any kind as mono samples at 16 kHz, and its log-mel bands at 100 Hz, normalised per recording."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError

SAMPLE_RATE = 16000  # Hz
HOP = 160  # samples, 10 ms
FFT = 512  # samples, 32 ms
MELS = 80
FLOOR = 1e-10  # of the mel power: −100 dB
RANGE = 8.0  # log10 units under the recording's loudest band that are told apart
AUDIBLE = 4.0  # log10 units under the loudest moment that count as sound when the level is measured
FAINTEST = -4.0  # log10 mel power that a recording's level is never taken to be under: hiss stays faint
QUIET = 1e-3  # a recording whose loudest sample is fainter than this, −60 dB, is silence
LOUDEST = 1e6  # a sample beyond that is no sound; whole numbers in a file of floats are
LOWEST = 5.0  # Hz; what is slower is no sound but an offset
CHUNK = 30.0  # s read at a time
# What libsndfile calls the contents that belong to an ending.
CONTENTS = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3", "MPEG"),
}
DECODED_BY_FFMPEG = (".m4a", ".aac", ".mp4", ".mov", ".webm", ".wma")


@dataclass(frozen=True)
class Audio:
    """A readable sound file: mono samples at 16 kHz on demand."""

    path: Path
    duration: float  # s
    peak: float  # largest absolute sample of the mono signal

    def chunks(self, seconds: float = CHUNK) -> Iterator[np.ndarray]:
        """Consecutive pieces (N,) float32 in about [-1, 1] at 16 kHz, in all `duration` seconds."""
        yield from _read(self.path, seconds)

    def samples(self) -> np.ndarray:
        """The whole signal (N,) float32."""
        return np.concatenate(list(self.chunks()))


def open_audio(path: str | Path) -> Audio:
    """Check a sound file and measure it, reading it once from end to end.

    Raises InputError for a missing file, a folder, and anything without sound in it.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a sound file")
    if not path.exists():
        raise InputError(f"{path}: no such sound file")
    _refuse_cut_wav(path)
    count, peak = 0, 0.0
    for piece in _read(path, CHUNK):
        if not np.isfinite(piece).all():
            raise InputError(f"{path}: the sound has samples that are no numbers")
        count += len(piece)
        peak = max(peak, float(np.abs(piece).max(initial=0.0)))
        if peak > LOUDEST:
            raise InputError(f"{path}: samples of {peak:.0e}; sound lies between -1 and 1")
    if count == 0:
        raise InputError(f"{path}: no sound in it", "the file is empty or cut off before its first sample")
    return Audio(path, count / SAMPLE_RATE, peak)


def _refuse_cut_wav(path: Path) -> None:
    """Raise InputError for a wav that holds fewer bytes of sound than its header promises.

    Programs that write to a pipe leave 0 or the largest number there, which promises nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                there = size - file.tell()
                if there < length < 0x7FFFF000:
                    raise InputError(
                        f"{path}: cut off, {there} of {length} bytes of sound are there",
                        "copy or record it again, or keep what there is: ffmpeg -i CUT.wav NEW.wav",
                    )
                return
            file.seek(length + length % 2, 1)


class _Levelled:
    """Takes the offset of a bad microphone off consecutive pieces: a high-pass filter that starts at the first sample,
    so that there is no click where the sound begins."""

    def __init__(self, rate: float):
        self.pole = float(np.exp(-2 * np.pi * LOWEST / rate))
        self.state: np.ndarray | None = None

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        from scipy.signal import lfilter

        if self.state is None:
            self.state = -samples[:1].astype(np.float64)
        if not len(samples):
            return samples.astype(np.float32)
        levelled, self.state = lfilter([1.0, -1.0], [1.0, -self.pole], samples.astype(np.float64), zi=self.state)
        return levelled.astype(np.float32)


def _read(path: Path, seconds: float) -> Iterator[np.ndarray]:
    if path.suffix.lower() in DECODED_BY_FFMPEG:
        yield from _read_with_ffmpeg(path, seconds)
        return
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(str(path)) as file:
            wanted = CONTENTS.get(path.suffix.lower(), (file.format,))
            if file.format not in wanted:
                raise InputError(
                    f"{path}: named {path.suffix}, but what it holds is {file.format}", "give it the ending of its kind"
                )
            rate = file.samplerate
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
            size = int(seconds * rate)
            level = _Levelled(rate)
            while True:
                block = file.read(size, dtype="float32", always_2d=True)
                mono = level(block.mean(1))
                last = len(block) < size
                out = mono if resampler is None else resampler.resample_chunk(mono, last=last)
                if len(out):
                    yield out
                if last:
                    return
    except InputError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError) as error:
        reason = str(error).rpartition(":")[2].strip().rstrip(".") or "unreadable"
        raise InputError(
            f"{path}: not a sound file that can be read ({reason})",
            "wav, flac, ogg, opus, mp3 and m4a are read; is the ending the right one?",
        ) from None


def _read_with_ffmpeg(path: Path, seconds: float) -> Iterator[np.ndarray]:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", f"file:{path}", "-vn", "-ac", "1"]
    command += ["-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    level = _Levelled(SAMPLE_RATE)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while block := process.stdout.read(4 * int(seconds * SAMPLE_RATE)):
            yield level(np.frombuffer(block[: len(block) // 4 * 4], np.float32))
    if process.returncode:
        raise InputError(f"{path}: not a sound file that can be read")


def mel_filters() -> np.ndarray:
    """The mel filter bank (80, 257); kept in the encoder's weights, so librosa is needed in training only."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=MELS, fmin=50, fmax=7600).astype(np.float32)


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Log10 mel power ((N − 512) // 160 + 1, B) float32 of samples (N,); row k is centred on sample 256 + 160·k."""
    import torch

    signal = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    spectrum = torch.stft(signal, FFT, HOP, window=torch.hann_window(FFT), center=False, return_complex=True)
    power = torch.from_numpy(filters) @ spectrum.abs().square()
    return power.clamp_min(FLOOR).log10().T.numpy()


def mel_rows(audio: Audio, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive log10 mel rows (n, B) at 100 Hz of a recording; row k is centred on k / 100 s."""
    rest = np.zeros(FFT // 2, np.float32)
    for piece in audio.chunks():
        rest = np.concatenate([rest, piece])
        whole = (len(rest) - FFT) // HOP + 1
        if whole > 0:
            yield log_mel(rest[: (whole - 1) * HOP + FFT], filters)
            rest = rest[whole * HOP :]
    tail = np.concatenate([rest, np.zeros(FFT // 2, np.float32)])
    if len(tail) >= FFT:
        yield log_mel(tail, filters)


def loud_level(audio: Audio, filters: np.ndarray) -> float:
    """The level that `normalise` takes for loud, in log10 mel power, from the whole recording; inf for silence."""
    if audio.peak < QUIET:
        return float("inf")
    return reference_level(np.concatenate([rows.max(1) for rows in mel_rows(audio, filters)] or [np.zeros(1)]))


def reference_level(level: np.ndarray) -> float:
    """The same from the loudest band (T',) of each row."""
    # Of what can be heard at all: a minute with one word in it is mostly noise floor.
    return max(float(np.percentile(level[level > level.max() - AUDIBLE], 95)), FAINTEST)


def normalise(bands: np.ndarray, level: float) -> np.ndarray:
    """Bands (T', B) in log10 mel power to about 1 where the recording is loud and 0 for RANGE under that.

    Relative to the recording's own loud parts, so that a faint or a loud voice looks alike.
    """
    if np.isinf(level):
        return np.zeros_like(bands)
    return np.clip(1 + (bands - level) / RANGE, 0, 1.2).astype(np.float32)
