"""Sound of any kind as mono samples at 16 kHz, and its log-mel bands at 100 Hz, normalised per recording."""

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
RANGE = 8.0  # log10 units under the recording's loudest band that are distinguished
AUDIBLE = 4.0  # log10 units under the loudest moment that count as sound when the level is measured
FAINTEST = -4.0  # lower bound of a recording's level, log10 mel power: noise alone stays faint
QUIET = 1e-3  # peak, −60 dB, under which a recording is silence
LARGEST_SAMPLE = 1e6  # absolute value; files of floats that hold integers stay well below it
CUTOFF = 5.0  # Hz, of the high-pass filter that removes a microphone's offset
FILTER_BLOCK = 256  # samples that the high-pass filter handles as one matrix product
LONGEST = 24 * 3600.0  # s
CHUNK = 30.0  # s read at a time
SHORT = 120.0  # s up to which a recording's samples are kept in memory instead of being read again
# libsndfile's names of the formats that belong to an ending.
CONTENTS = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3", "MPEG"),
}
DECODED_BY_FFMPEG = (".m4a", ".aac", ".mp4", ".mov", ".webm", ".wma")


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording: mono samples at 16 kHz on demand, from a file or from memory.

    path: of the file, None for samples in memory; duration: s; peak: largest absolute sample
    """

    path: Path | None
    duration: float
    peak: float
    held: np.ndarray | None = None  # (N,) float32 at 16 kHz, of a recording that is in memory

    @property
    def name(self) -> str:
        """What the recording is called in messages and metadata."""
        return self.path.name if self.path is not None else "samples"

    def chunks(self, seconds: float = CHUNK) -> Iterator[np.ndarray]:
        """Consecutive pieces (N,) float32 in about [-1, 1] at 16 kHz, `duration` seconds in all."""
        if self.held is None:
            assert self.path is not None
            yield from _read(self.path, seconds)
            return
        size = max(1, int(seconds * SAMPLE_RATE))
        for start in range(0, len(self.held), size):
            yield self.held[start : start + size]

    def samples(self) -> np.ndarray:
        """The whole signal (N,) float32."""
        return np.concatenate(list(self.chunks()))


def load_audio(source: str | Path | tuple[np.ndarray, int] | Audio) -> Audio:
    """A sound file by its path, or samples (N,) or (N, channels) in [-1, 1] with their rate in Hz.

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
        raise InputError(f"samples are {samples.dtype} {samples.shape}", "give (N,) or (N, channels) floats in [-1, 1]")
    if not 1000 <= rate <= 1_000_000:
        raise InputError(f"{rate} samples a second", "give the samples with their rate in Hz, such as 16000")
    if samples.dtype.kind in "iu":  # whole numbers use the range of their type
        samples = samples / np.float32(np.iinfo(samples.dtype).max)
    mono = samples.mean(1) if samples.ndim == 2 else samples
    if not np.isfinite(mono).all():
        raise InputError("the samples contain NaN or infinity", "give finite numbers in [-1, 1]")
    levelled = _HighPass(rate)(mono)
    held = levelled if rate == SAMPLE_RATE else soxr.resample(levelled, rate, SAMPLE_RATE).astype(np.float32)
    peak = float(np.abs(held).max(initial=0.0))
    if not len(held) or peak > LARGEST_SAMPLE:
        raise InputError(f"{len(held)} samples of up to {peak:.0e}", "sound lies between -1 and 1")
    return Audio(None, len(held) / SAMPLE_RATE, peak, held)


def open_audio(path: str | Path) -> Audio:
    """Check a sound file and measure it, reading it once from end to end.

    Raises InputError for a missing file, a folder, more than a day, and anything without sound in it.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a sound file", "name one sound file")
    if not path.exists():
        raise InputError(f"{path}: no such sound file", "is the path right?")
    _refuse_cut_wav(path)
    count, peak = 0, 0.0
    pieces: list[np.ndarray] = []
    for piece in _read(path, CHUNK):
        if not np.isfinite(piece).all():
            raise InputError(f"{path}: the sound's samples contain NaN or infinity", "export it again")
        count += len(piece)
        peak = max(peak, float(np.abs(piece).max(initial=0.0)))
        if peak > LARGEST_SAMPLE:
            raise InputError(f"{path}: samples of {peak:.0e}; sound lies between -1 and 1", "export it again")
        pieces = [*pieces, piece] if count <= SHORT * SAMPLE_RATE else []
        if count > LONGEST * SAMPLE_RATE:
            raise InputError(f"{path}: more than {LONGEST / 3600:.0f} hours of sound", "cut it into pieces")
    if count == 0:
        raise InputError(f"{path}: no sound in it", "the file is empty or cut off before its first sample")
    return Audio(path, count / SAMPLE_RATE, peak, np.concatenate(pieces) if pieces else None)


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


class _HighPass:
    """Removes a constant offset from consecutive pieces: y[n] = x[n] − x[n−1] + pole · y[n−1].

    It starts as if the first sample had always been there, so that there is no click where the sound begins. Within a
    block the recursion is a triangular matrix; importing scipy.signal for it takes longer than all the rest.
    """

    def __init__(self, rate: float):
        pole = np.exp(-2 * np.pi * CUTOFF / rate)
        lag = np.arange(FILTER_BLOCK)[:, None] - np.arange(FILTER_BLOCK)
        self.within = np.where(lag >= 0, pole ** np.maximum(lag, 0), 0.0).T
        self.carried = pole ** np.arange(1, FILTER_BLOCK + 1)  # what is left of the last output, sample by sample
        self.last_input: float | None = None
        self.last_output = 0.0

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The next piece (N,), filtered, float32."""
        if not len(samples):
            return samples.astype(np.float32)
        x = samples.astype(np.float64)
        steps = np.diff(x, prepend=x[0] if self.last_input is None else self.last_input)
        blocks = np.pad(steps, (0, -len(steps) % FILTER_BLOCK)).reshape(-1, FILTER_BLOCK) @ self.within
        before = np.empty(len(blocks))
        last = self.last_output
        for k, end in enumerate(blocks[:, -1]):
            before[k] = last
            last = end + self.carried[-1] * last
        y = (blocks + before[:, None] * self.carried).ravel()[: len(x)]
        self.last_input, self.last_output = x[-1], y[-1]
        return y.astype(np.float32)


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
            level = _HighPass(rate)
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
    level = _HighPass(SAMPLE_RATE)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while block := process.stdout.read(4 * int(seconds * SAMPLE_RATE)):
            yield level(np.frombuffer(block[: len(block) // 4 * 4], np.float32))
    if process.returncode:
        raise InputError(
            f"{path}: not a sound file that can be read", "is the ending the right one, and the file whole?"
        )


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
