"""Emotions that live: they follow the voice and drift, and are the same in parts as in one piece."""

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


def test_an_emotion_swells_with_the_voice(face, spoken):
    amounts = Liveliness(face).amounts(spoken, happy(spoken))[:, EMOTIONS.index("happy")]
    without = Liveliness(face).amounts(Motion(spoken.times, spoken.coordinates), happy(spoken))[
        :, 2
    ]
    follows = amounts - without
    assert follows[int(1.5 * RATE)] == pytest.approx(STRESS_SWELL, abs=0.02)
    assert follows[int(0.9 * RATE)] == pytest.approx(0, abs=0.02) and follows[-1] < 0
    assert np.abs(np.diff(amounts)).max() < 0.05  # nothing jumps


def test_amounts_stay_within_their_limits(face, spoken):
    most = Liveliness(face, 3).amounts(spoken, happy(spoken, MAX_INTENSITY))
    assert most.max() <= MAX_INTENSITY and most.min() >= 0
    assert not Liveliness(face).amounts(spoken, happy(spoken, 0)).any()


def test_brows_and_corners_drift_and_lips_hardly(face, spoken):
    long = Motion(np.arange(60 * RATE) / RATE, np.zeros((60 * RATE, len(face.span)), np.float32))
    drifted = Liveliness(face, 1).drift(long, happy(long))
    moved = np.linalg.norm(drifted.displacement(face)[::30], axis=2)
    assert 0.1 < moved[:, face.regions["upper_face"]].max() < 2
    assert np.abs(drifted.lip_opening(face)).max() < 0.5
    assert Liveliness(face, 1).drift(spoken, happy(spoken, 0)) is spoken


def test_seeds_and_parts(face, spoken):
    whole = Liveliness(face, 5)
    amounts = whole.amounts(spoken, happy(spoken))
    drifted = whole.drift(spoken, amounts).coordinates
    life, parts = Liveliness(face, 5), []
    for start in range(0, len(spoken), 50):
        part = slice(start, start + 50)
        motion = Motion(spoken.times[part], spoken.coordinates[part], spoken.loudness[part])
        own = life.amounts(motion, happy(motion))
        np.testing.assert_array_equal(own, amounts[part])
        parts.append(life.drift(motion, own).coordinates)
    np.testing.assert_allclose(np.concatenate(parts), drifted, atol=1e-5)
    other = Liveliness(face, 6)
    assert (
        np.abs(
            other.drift(spoken, other.amounts(spoken, happy(spoken))).coordinates - drifted
        ).max()
        > 0.1
    )
