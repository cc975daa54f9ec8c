"""Metrics by hand, and accumulated over chunks of frames."""

import numpy as np
import pytest

from talkemo.evaluation import metrics


def test_reconstruction_error_by_hand():
    reference = np.zeros((2, 2, 3))
    predicted = reference.copy()
    predicted[0, 0] = [3, 4, 0]
    assert metrics.reconstruction_error(predicted, reference) == pytest.approx(5 / 4)


def test_velocity_error_by_hand():
    reference = np.zeros((3, 1, 3))
    predicted = reference + np.array([0.0, 2.0, 2.0])[:, None, None] * [1, 0, 0]
    assert metrics.velocity_error(predicted, reference) == pytest.approx(1.0)
    # A constant offset is not a velocity error.
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


def two_frames():
    """Two frames of three vertices; one is 3, then 4 mm off the reference at rest, another 2 mm."""
    reference = np.zeros((2, 3, 3))
    predicted = reference.copy()
    predicted[0, 0, 0], predicted[1, 0, 0] = 3, 4
    predicted[:, 1, 1] = 2
    return predicted, reference


def test_lip_vertex_error_by_hand():
    predicted, reference = two_frames()
    assert metrics.lip_vertex_error(predicted, reference) == pytest.approx((3 + 4) / 2)
    assert metrics.lip_vertex_error_sq(predicted, reference) == pytest.approx((9 + 16) / 2)


def test_dynamics_deviation_by_hand():
    predicted, reference = two_frames()
    # Squared distances from rest: 9 and 16 have a spread of 3.5, the other two vertices have none.
    assert metrics.dynamics_deviation(predicted, reference, np.zeros((3, 3))) == pytest.approx(
        -3.5 / 3
    )
    assert metrics.dynamics_deviation(reference, predicted, np.zeros((3, 3))) == pytest.approx(
        3.5 / 3
    )


def test_comparison_by_hand():
    predicted, reference = two_frames()
    masks = {
        "all": np.arange(3),
        "lips": np.array([0, 1]),
        "upper_face": np.array([0]),
        "face": np.array([1, 2]),
    }
    comparison = metrics.Comparison(np.zeros((3, 3)), masks, np.array([0, 1, 1, 2]), scale=10.0)
    for frame in range(2):
        comparison.add(predicted[frame : frame + 1] / 10, reference[frame : frame + 1] / 10)
    value = {(f.name, f.mask): f.value for f in comparison.metrics()}
    assert value["RE", "all"] == pytest.approx((3 + 2 + 4 + 2) / 6)
    assert value["RE", "lips"] == pytest.approx((3 + 2 + 4 + 2) / 4)
    assert value["VE", "all"] == pytest.approx(1 / 3)
    assert value["VE", "lips"] == pytest.approx(1 / 2)
    assert value["LVE", "lips"] == pytest.approx(3.5)
    assert value["LVE²", "lips"] == pytest.approx(12.5)
    assert value["EVE", "upper_face"] == pytest.approx(3.5)
    assert value["MVE", "face"] == pytest.approx(1.0)
    assert value["FDD", "upper_face"] == pytest.approx(-3.5)
    assert value["|FDD|", "upper_face"] == pytest.approx(3.5)
    assert {f.unit for f in comparison.metrics()} == {"mm", "mm a frame", "mm²", ""}
    assert {f.mask: f.vertices for f in comparison.metrics()}["lips"] == 2


def test_a_comparison_in_chunks_equals_the_functions():
    rng = np.random.default_rng(0)
    g = rng.standard_normal((23, 40, 3))
    p = g + 0.3 * rng.standard_normal(g.shape)
    neutral = rng.standard_normal((40, 3))
    masks = {"all": np.arange(40), "lips": np.arange(5, 20), "upper_face": np.arange(20, 40)}
    comparison = metrics.Comparison(neutral, masks, np.array([1, 2, 3, 4]))
    for start in range(0, 23, 7):
        comparison.add(p[start : start + 7], g[start : start + 7])
    value = {(f.name, f.mask): f.value for f in comparison.metrics()}
    lips, upper = slice(5, 20), slice(20, 40)
    assert value["RE", "all"] == pytest.approx(metrics.reconstruction_error(p, g))
    assert value["VE", "lips"] == pytest.approx(metrics.velocity_error(p[:, lips], g[:, lips]))
    assert value["LVE", "lips"] == pytest.approx(metrics.lip_vertex_error(p[:, lips], g[:, lips]))
    assert value["EVE", "upper_face"] == pytest.approx(
        metrics.lip_vertex_error(p[:, upper], g[:, upper])
    )
    fdd = metrics.dynamics_deviation(p[:, upper], g[:, upper], neutral[upper])
    assert value["FDD", "upper_face"] == pytest.approx(fdd)
    opening = [np.linalg.norm(m[:, 1] - m[:, 2], axis=1) for m in (p, g)]
    assert value["r opening", "mouth opening"] == pytest.approx(metrics.pearson(*opening))
