"""Level, pitch and spectrum of a voice: rows as audio arrives, and numbers that describe a window."""

from __future__ import annotations

import numpy as np

from .mel import FFT_SAMPLES, HOP_SAMPLES, MEL_BANDS, MIN_MEL_POWER
from .prosody import MIN_SPEECH_LOG10, WINDOW_SAMPLES, voice_rows

ROWS_PER_FRAME = 2  # rows of 10 ms in a frame of 20 ms, the speech encoder's
SPECTRUM_BANDS = 20  # neighbouring mel bands are averaged
POWER, PITCH = slice(0, ROWS_PER_FRAME), slice(ROWS_PER_FRAME, 2 * ROWS_PER_FRAME)
SPECTRUM = slice(2 * ROWS_PER_FRAME, 2 * ROWS_PER_FRAME + MEL_BANDS)
FRAME_WIDTH = SPECTRUM.stop  # numbers of a frame: power and pitch of its rows, and its bands
LOUD_QUANTILE = 0.95  # of the power in a window: its level
SPEECH_RANGE_LOG10 = 2.5  # below the level: fainter frames of a window are not speech
ACTIVE_RANGE_LOG10 = 3.0  # below the level: fainter rows are pauses
MAX_GLIDE_SEMITONES = 3.0  # from one row to the next; larger steps are errors of the pitch
MIN_VOICE_FRAMES = 4  # one after the other, of a voice; a pitch that is found in noise ends sooner
MIN_VOICED_ROWS = 4  # of a window, for its pitch to count
UNKNOWN_PITCH_SEMITONES = 12.0  # of a window without a voice
LEVEL_AND_PITCH_NUMBERS = 16  # the first of the numbers of a window
WINDOW_NUMBERS = LEVEL_AND_PITCH_NUMBERS + 2 * SPECTRUM_BANDS
_ROW_WINDOW = np.hanning(FFT_SAMPLES + 1)[:-1].astype(np.float32)
_MARGIN = (WINDOW_SAMPLES - FFT_SAMPLES) // 2  # of a row's pitch window around its spectrum's


class VoiceRows:
    """Analyses audio as it comes, in frames of 20 ms; frame k is centred on k / 50 s.

    Parameters
    ----------
    filters : (80, 257)
        Mel filter bank.
    """

    def __init__(self, filters: np.ndarray):
        self.filters = filters
        self._samples = np.zeros(WINDOW_SAMPLES // 2, np.float32)

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames (n, FRAME_WIDTH) float32 that further samples (N,) complete."""
        samples = np.concatenate([self._samples, samples])
        rows = (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        rows -= rows % ROWS_PER_FRAME
        if rows <= 0:
            self._samples = samples
            return np.zeros((0, FRAME_WIDTH), np.float32)
        end = (rows - 1) * HOP_SAMPLES + WINDOW_SAMPLES
        power, semitones = voice_rows(samples[:end])
        bands = self._bands(samples[:end])
        self._samples = samples[rows * HOP_SAMPLES :]
        columns = (
            power.reshape(-1, ROWS_PER_FRAME),
            semitones.reshape(-1, ROWS_PER_FRAME),
            bands.reshape(-1, ROWS_PER_FRAME, MEL_BANDS).mean(1),
        )
        return np.concatenate(columns, 1).astype(np.float32)

    def _bands(self, samples: np.ndarray) -> np.ndarray:
        """Return log10 mel power (n, 80) in the middle of each row's window."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]
        middle = frames[:, _MARGIN : _MARGIN + FFT_SAMPLES] * _ROW_WINDOW
        power = np.abs(np.fft.rfft(middle)) ** 2
        return np.log10(np.maximum(power @ self.filters.T, MIN_MEL_POWER))


def frames_of(samples: np.ndarray, filters: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` frames (count, FRAME_WIDTH) of samples (N,), silence after them."""
    silence = np.zeros((count + 2) * ROWS_PER_FRAME * HOP_SAMPLES, np.float32)
    return VoiceRows(filters).add(np.concatenate([samples, silence]))[:count]


def is_speech(frames: np.ndarray) -> np.ndarray:
    """Return which frames (n, FRAME_WIDTH) of a window are not much fainter than its loudest."""
    power = frames[:, POWER].max(1)
    return power > np.quantile(power, LOUD_QUANTILE) - SPEECH_RANGE_LOG10


def has_pitch(frames: np.ndarray) -> np.ndarray:
    """Return which frames (n, FRAME_WIDTH) have a pitch and are loud enough for speech."""
    is_loud: np.ndarray = frames[:, POWER].max(1) > MIN_SPEECH_LOG10
    return is_loud & np.isfinite(frames[:, PITCH]).any(1)


def has_voice(frames: np.ndarray) -> np.ndarray:
    """Return which frames (n, FRAME_WIDTH) belong to a voice: their pitch lasts."""
    run = np.ones(MIN_VOICE_FRAMES)
    ends = np.convolve(has_pitch(frames), run)[: len(frames)] == MIN_VOICE_FRAMES
    return np.convolve(ends[::-1], run)[: len(frames)][::-1] > 0


def window_numbers(frames: np.ndarray) -> np.ndarray:
    """Return numbers (WINDOW_NUMBERS,) float32 that describe a window's voice.

    The first LEVEL_AND_PITCH_NUMBERS are of level and pitch; the others are mean and spread of the
    spectrum's shape.

    Parameters
    ----------
    frames : (n, FRAME_WIDTH)
        Of `VoiceRows`.
    """
    power, semitones = frames[:, POWER].ravel(), frames[:, PITCH].ravel()
    return np.concatenate([_level_and_pitch(power, semitones), _spectrum(frames[:, SPECTRUM])])


def _level_and_pitch(power: np.ndarray, semitones: np.ndarray) -> np.ndarray:
    """Return LEVEL_AND_PITCH_NUMBERS of rows (m,) of log10 power and of pitch, NaN unvoiced."""
    level = np.quantile(power, LOUD_QUANTILE)
    active = power > level - ACTIVE_RANGE_LOG10
    loud = power[active] if active.any() else power
    voiced = np.isfinite(semitones) & (power > level - SPEECH_RANGE_LOG10)
    pitch = np.array([UNKNOWN_PITCH_SEMITONES])
    if voiced.sum() >= MIN_VOICED_ROWS:
        pitch = semitones[voiced]
    glides = np.diff(semitones)
    glides = glides[np.abs(np.nan_to_num(glides, nan=np.inf)) < MAX_GLIDE_SEMITONES]
    glides = glides if len(glides) else np.zeros(1)
    steps = np.diff(power) if len(power) > 1 else np.zeros(1)
    numbers = [level, loud.mean(), loud.std(), np.quantile(loud, 0.2), voiced.mean()]
    numbers += [active.mean(), pitch.mean(), pitch.std(), *np.quantile(pitch, (0.1, 0.5, 0.9))]
    numbers += [np.abs(glides).mean(), glides.std(), glides.mean()]
    return np.array([*numbers, np.abs(steps).mean(), steps.std()], np.float32)


def _spectrum(bands: np.ndarray) -> np.ndarray:
    """Return mean and spread of the shape of bands (n, 80): 2 · SPECTRUM_BANDS."""
    loudest = bands.max(1)
    active = bands[loudest > loudest.max() - ACTIVE_RANGE_LOG10]
    groups = active.reshape(len(active), SPECTRUM_BANDS, -1).mean(2)
    shape = groups - groups.mean(1, keepdims=True)
    return np.concatenate([shape.mean(0), shape.std(0)]).astype(np.float32)
