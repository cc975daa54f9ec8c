import numpy as np
import pytest

from talkemo import metrics


def test_reconstruction_error_by_hand():
    reference = np.zeros((2, 2, 3))
    predicted = reference.copy()
    predicted[0, 0] = [3, 4, 0]
    assert metrics.reconstruction_error(predicted, reference) == pytest.approx(5 / 4)


def test_velocity_error_by_hand():
    reference = np.zeros((3, 1, 3))
    predicted = reference + np.array([0.0, 2.0, 2.0])[:, None, None] * [1, 0, 0]
    assert metrics.velocity_error(predicted, reference) == pytest.approx(1.0)
    # A constant offset is no error of velocity.
    assert metrics.velocity_error(reference + 7, reference) == 0


def test_mouth_opening_and_width(face):
    move = np.zeros((2, len(face.mean), 3))
    move[1, face.landmarks68[66], 1] = -10
    move[1, face.landmarks68[54], 0] = 5
    opening, width = metrics.mouth_opening(move, face), metrics.mouth_width(move, face)
    assert opening[1] - opening[0] == pytest.approx(10, abs=0.7)
    assert width[1] - width[0] == pytest.approx(5, abs=0.1)


def test_pearson():
    a = np.arange(5.0)
    assert metrics.pearson(a, -2 * a + 1) == pytest.approx(-1)
    assert metrics.pearson(a, np.ones(5)) == 0
