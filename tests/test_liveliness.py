"""Emotions follow the voice and drift; splitting a motion into batches changes nothing."""

import numpy as np
import pytest

from talkemo import Motion
from talkemo.expression.emotions import EMOTIONS, MAX_INTENSITY, one_hot
from talkemo.expression.liveliness import STRESS_SWELL, Liveliness

RATE = 60


@pytest.fixture
def spoken(face) -> Motion:
    """Three seconds: a pause, a loud word, a pause."""
    times = np.arange(3 * RATE) / RATE
    loudness = np.where((times > 1) & (times < 2), 0.9, 0.1)
    return Motion(times, np.zeros((len(times), len(face.span)), np.float32), loudness)


def happy(motion: Motion, amount: float = 1.0) -> np.ndarray:
    return np.tile(amount * one_hot("happy"), (len(motion), 1))


def test_emotion_grows_with_the_voice(face, spoken):
    amounts = Liveliness(face).amounts(spoken, happy(spoken))[:, EMOTIONS.index("happy")]
    without = Liveliness(face).amounts(Motion(spoken.times, spoken.coordinates), happy(spoken))[
        :, 2
    ]
    change = amounts - without
    assert change[int(1.5 * RATE)] == pytest.approx(STRESS_SWELL, abs=0.02)
    assert change[int(0.9 * RATE)] == pytest.approx(0, abs=0.02) and change[-1] < 0
    assert np.abs(np.diff(amounts)).max() < 0.05  # nothing jumps


def test_amounts_stay_within_their_limits(face, spoken):
    limited = Liveliness(face, 3).amounts(spoken, happy(spoken, MAX_INTENSITY))
    assert limited.max() <= MAX_INTENSITY and limited.min() >= 0
    assert not Liveliness(face).amounts(spoken, happy(spoken, 0)).any()


def test_brows_and_corners_drift_but_lips_hardly(face, spoken):
    long = Motion(np.arange(60 * RATE) / RATE, np.zeros((60 * RATE, len(face.span)), np.float32))
    drifted = Liveliness(face, 1).drift(long, happy(long))
    moved = np.linalg.norm(drifted.displacement(face)[::30], axis=2)
    assert 0.1 < moved[:, face.regions["upper_face"]].max() < 2
    assert np.abs(drifted.lip_opening(face)).max() < 0.5
    assert Liveliness(face, 1).drift(spoken, happy(spoken, 0)) is spoken


def test_batches_and_seeds(face, spoken):
    whole = Liveliness(face, 5)
    amounts = whole.amounts(spoken, happy(spoken))
    drifted = whole.drift(spoken, amounts).coordinates
    life, parts = Liveliness(face, 5), []
    for start in range(0, len(spoken), 50):
        rows = slice(start, start + 50)
        motion = Motion(spoken.times[rows], spoken.coordinates[rows], spoken.loudness[rows])
        batch = life.amounts(motion, happy(motion))
        np.testing.assert_array_equal(batch, amounts[rows])
        parts.append(life.drift(motion, batch).coordinates)
    np.testing.assert_allclose(np.concatenate(parts), drifted, atol=1e-5)
    another_seed = Liveliness(face, 6)
    drifted_otherwise = another_seed.drift(spoken, another_seed.amounts(spoken, happy(spoken)))
    assert np.abs(drifted_otherwise.coordinates - drifted).max() > 0.1
