"""Metrics of timing with known answers."""

import numpy as np
import pytest

from talkemo.data.phones import Phone
from talkemo.evaluation.by_phone import PHONE_CLASSES, SHAPES, d_prime, lips_by_phone
from talkemo.evaluation.timing import intensity_correlation, soft_dtw, temporal_misalignment

FPS = 50.0
TIME = np.arange(200) / FPS


def speech(delay: float = 0.0) -> np.ndarray:
    """A mouth that opens three times a second, wider and narrower."""
    t = TIME - delay
    return 4 * np.sin(2 * np.pi * 3 * t) ** 2 * (1.5 + np.sin(2 * np.pi * 0.7 * t))


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06])
def test_misalignment_is_the_delay(delay):
    measured = temporal_misalignment(speech(delay), speech(), FPS)
    assert measured == pytest.approx(delay, abs=0.006)
    assert temporal_misalignment(3 * speech(delay), speech(), FPS) == pytest.approx(measured)


def test_soft_dtw_forgives_timing_and_not_shape():
    assert soft_dtw(speech(), speech(), FPS) == pytest.approx(0, abs=1e-9)
    late, other = soft_dtw(speech(0.06), speech(), FPS), soft_dtw(np.sin(7 * TIME), speech(), FPS)
    plain = np.mean(np.square((speech(0.06) - speech()) / speech().std()))
    assert late < 0.3 * plain and other > 3 * late


def test_a_still_mouth_has_no_timing():
    still = np.zeros(200)
    assert temporal_misalignment(still, speech(), FPS) is None
    assert soft_dtw(still, speech(), FPS) is None
    assert intensity_correlation(still, speech(), FPS) is None


def test_lips_that_move_more_where_speech_is_louder():
    level = np.repeat([-60.0, -20, -40, -30, -25, -50, -20, -60], 25)
    movement = 10 ** (level / 40) * np.sin(2 * np.pi * 6 * TIME)
    assert intensity_correlation(movement, level, FPS) > 0.9
    assert intensity_correlation(np.roll(movement, 50), level, FPS) < 0.5


def test_lips_are_collected_by_phone():
    phones = [Phone("B", 0.2, 0.3), Phone("W", 0.5, 0.6), Phone("AA", 1.0, 1.2)]
    measures = np.zeros((200, 3 + len(SHAPES)))
    measures[50:61, 0] = 9.0  # AA
    measures[25:31, 1], measures[25:31, 3] = -4.0, 0.7  # W, with pursed lips
    lips = lips_by_phone([(TIME, measures, phones)] * 5)
    mean_width = measures[:, 1].mean()
    assert set(lips.values) == set(PHONE_CLASSES)
    assert lips.values["aa aw ay"][0, 0] == pytest.approx(9)
    assert lips.values["w"][0] == pytest.approx([0, 0, -4 - mean_width, 0, 0.7, 0, 0, 0], abs=1e-9)
    rows = lips.table()["classes"]
    assert rows["p b m"]["count"] == 5 and "f v" not in rows


def test_d_prime_of_two_normal_classes():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4000, 4)), rng.normal([2, 1, 0, 0.5], 1, (4000, 4))
    assert list(d_prime(a, b).values()) == pytest.approx([2, 1, 0, 0.5], abs=0.1)
