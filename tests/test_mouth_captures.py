"""Captures hold the mouth's shapes: width, opening, and what a tracker's scores see."""

import io
import lzma

import numpy as np
import pytest

from talkemo.capture.fitting import Fitter
from talkemo.capture.landmark_tracker import SCORE_NAMES
from talkemo.capture.landmarks import LandmarkSchema
from talkemo.capture.video_capture import expected_shapes
from talkemo.data import corpora
from talkemo.face.lip_measures import distance_gradients

FPS, FRAMES = 30, 120
TIME = np.arange(FRAMES) / FPS
JAW = 0.4 * np.clip(np.sin(9 * TIME), 0, 1)
PUCKER = 0.7 * np.clip(np.sin(4 * TIME + 1), 0, 1)
PRESS = 0.5 * np.clip(np.sin(3 * TIME + 3), 0, 1)


def weights_of(face, **by_name) -> np.ndarray:
    weights = np.zeros((FRAMES, len(face.expression_names)))
    for name, values in by_name.items():
        for k, full in enumerate(face.expression_names):
            if full.startswith(name):
                weights[:, k] = values
    return weights


@pytest.fixture(scope="module")
def speaker(face):
    """Landmarks (T, 478, 2) px of a person who rounds and presses lips, scores, and weights."""
    rng = np.random.default_rng(1)
    weights = weights_of(face, jawOpen=JAW, mouthPucker=PUCKER, mouthPress=PRESS)
    person = face.identity_weights(rng.standard_normal(30) * 0.7)
    at_rest = face.vertices(face.expression_weights(np.zeros(weights.shape[1])), person)
    points = at_rest + face.displacement(weights)
    operator = face.mediapipe_operator(face.mesh_points)
    pixels = np.full((FRAMES, 478, 2), np.nan)
    placed = np.einsum("pv,tvc->tpc", operator, points)
    pixels[:, face.mesh_points] = placed[..., :2] * [1.5, -1.5] + 300
    pixels += rng.normal(0, 0.3, pixels.shape)
    scores = np.full((FRAMES, len(SCORE_NAMES)), 0.02)
    for k, name in enumerate(SCORE_NAMES):
        for start, values in (("jawOpen", JAW), ("mouthPucker", PUCKER), ("mouthPress", PRESS)):
            if name.startswith(start):
                scores[:, k] = np.clip(0.1 + values, 0, 1)
    return pixels, scores, weights


def fitted(face, speaker, with_scores: bool):
    pixels, scores, _ = speaker
    schema = LandmarkSchema.of(face, np.arange(478))
    landmarks = pixels[:, schema.rows]
    fitter = Fitter(face, schema)
    identity, _ = fitter.fit_person([landmarks])
    fitter.learn_closed_mouth([landmarks], identity)
    expected = expected_shapes(face, scores) if with_scores else None
    return fitter.fit(landmarks, TIME, identity, expected=expected)


@pytest.mark.parametrize("with_scores", [False, True])
def test_width_and_opening_have_the_spread_of_the_landmarks(face, speaker, with_scores):
    """In mm on the canonical face; the width had 0.7 to 0.8 of it, the opening up to 1.4."""
    capture = fitted(face, speaker, with_scores)
    measured = capture.motion(face).coordinates
    true = speaker[2].astype(np.float32) @ face.weights_to_coordinates
    for name in ("opening", "width"):
        gradient = distance_gradients(face)[name]
        a, b = measured @ gradient, true @ gradient
        assert np.corrcoef(a, b)[0, 1] > 0.97
        assert 0.92 < a.std() / b.std() < 1.12, name


def test_scores_show_which_shape_moves_the_lips(face, speaker):
    without, with_scores = (fitted(face, speaker, use).shapes for use in (False, True))
    for name, values in (("mouthPucker", PUCKER), ("mouthPress_L", PRESS)):
        k = face.expression_names.index(name)
        assert np.corrcoef(with_scores[:, k], values)[0, 1] > 0.95, name
        assert np.abs(with_scores[:, k] - values).mean() < np.abs(without[:, k] - values).mean()


def test_lips_that_score_as_rounded_all_the_time_are_at_rest(face):
    scores = np.full((20, len(SCORE_NAMES)), 0.02)
    scores[:, SCORE_NAMES.index("mouthPucker")] = 0.7
    scores[10, SCORE_NAMES.index("mouthPucker")] = 1.0
    pucker = expected_shapes(face, scores)[:, face.expression_names.index("mouthPucker")]
    assert pucker[:10].max() < 0.01 and pucker[10] == pytest.approx(1)


def test_the_scores_of_a_tracked_corpus_are_read(tmp_path):
    folder = tmp_path / "talking"
    folder.mkdir()
    np.savez(
        folder / "tracks.npz", clips=["a", "b"], start=[0, 3, 5], index=[1, 5], time=np.arange(5)
    )
    points = np.full((2, 3, 5), 160, np.int16)
    points[..., 1] = -16  # no face
    scores = np.random.default_rng(0).integers(0, 256, (52, 5)).astype(np.uint8)
    for name, table in (("xyz", points), ("arkit", scores)):
        content = io.BytesIO()
        np.save(content, np.diff(table, axis=-1, prepend=table.dtype.type(0)))
        (folder / f"{name}.npy.xz").write_bytes(lzma.compress(content.getvalue()))
    a, b = corpora.read_corpus("talking", tmp_path)
    np.testing.assert_allclose(a.scores[[0, 2]], scores.T[[0, 2]] / 255, atol=1e-6)
    assert np.isnan(a.scores[1]).all() and b.scores.shape == (2, 52)


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [("mouthPucker", 2, 6), ("mouthFunnel", 2, 6), ("jawOpen", -0.5, 0.5), ("mouthSmile", -3, 0)],
)
def test_rounded_lips_protrude_and_open_ones_do_not(face, shape, least, most):
    motion = weights_of(face, **{shape: 0.5})[:1].astype(np.float32) @ face.weights_to_coordinates
    gradients = distance_gradients(face)
    assert least < (motion @ gradients["protrusion"])[0] < most
    assert ((motion @ gradients["width"])[0] > 0) == (shape == "mouthSmile")
