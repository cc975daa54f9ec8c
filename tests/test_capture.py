"""Fitting of the face model to landmarks: pose, expression, missing faces."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkemo.capture import camera
from talkemo.capture.fitting import Fitter
from talkemo.capture.landmarks import LandmarkSchema


def poses(count):
    angle = np.linspace(-1, 1, count)
    rotation = Rotation.from_euler(
        "yxz", np.stack([0.3 * angle, 0.1 * angle**2, 0.1 * angle], 1)
    ).as_matrix()
    return rotation, np.linspace(1.8, 2.2, count), np.stack([300 + 20 * angle, 250 - 10 * angle], 1)


def test_pose_is_recovered():
    """The pose that Eq. 3 projects with is estimated from its pixels."""
    points = np.random.default_rng(0).standard_normal((20, 3)) * 40
    rotation, scale, translation = poses(9)
    many = np.broadcast_to(points, (9, 20, 3))
    pixels = camera.project(many, rotation, scale, translation)
    pose = camera.estimate_pose(many, pixels, np.ones((9, 20)))
    for a, b in zip(pose, (rotation, scale, translation)):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_up_in_the_world_is_up_in_the_image():
    pixels = camera.project(
        np.array([[[0, 10.0, 0]]]), np.eye(3)[None], np.ones(1), np.zeros((1, 2))
    )
    assert pixels[0, 0, 1] == -10


@pytest.fixture(scope="module")
def performance(face):
    """Landmarks (T, 68, 2), shapes (T, S) and identity of a person who opens the jaw and smiles."""
    rng = np.random.default_rng(4)
    identity = rng.standard_normal(12) * 0.7
    time = np.arange(60) / 30
    shapes = np.zeros((60, len(face.expression_names)))
    shapes[:, face.expression_names.index("jawOpen")] = 0.35 * (1 - np.cos(5 * time)) / 2
    smile = 0.6 * np.clip(time - 0.8, 0, 1)
    for side in "LR":
        shapes[:, face.expression_names.index(f"mouthSmile_{side}")] = smile
    w_id = face.identity_weights(identity)
    points = np.stack(
        [face.vertices(e, w_id)[face.landmarks68] for e in face.expression_weights(shapes)]
    )
    pixels = camera.project(points, *poses(60)) + rng.normal(0, 0.3, (60, 68, 2))
    return pixels, shapes, time


@pytest.fixture(scope="module")
def fit(face, performance):
    """A function that fits landmarks (T, 68, 2) of the made-up person."""
    pixels, _, time = performance
    fitter = Fitter(face, LandmarkSchema.of(face, None))
    identity, _ = fitter.fit_person([pixels])
    return lambda landmarks: fitter.fit(landmarks, time, identity)


def test_expression_is_recovered(face, performance, fit):
    pixels, shapes, _ = performance
    capture = fit(pixels)
    assert capture.residual.mean() < 1.5
    assert capture.shapes.min() >= 0 and capture.shapes.max() <= 1
    for name in ("jawOpen", "mouthSmile_L"):
        k = face.expression_names.index(name)
        assert np.corrcoef(capture.shapes[:, k], shapes[:, k])[0, 1] > 0.9


def test_frames_without_a_face_are_interpolated(performance, fit):
    pixels, _, _ = performance
    whole = fit(pixels)
    holed = pixels.copy()
    holed[20:24] = np.nan
    capture = fit(holed)
    assert capture.seen.sum() == 56
    assert np.isfinite(capture.shapes).all()
    assert np.abs(capture.shapes - whole.shapes).mean() < 0.03


def test_no_face_at_all(face):
    fitter = Fitter(face, LandmarkSchema.of(face, None))
    with pytest.raises(ValueError, match="no frame"):
        fitter.fit(np.full((5, 68, 2), np.nan), np.arange(5), np.zeros(30))


def test_mediapipes_landmarks_agree_with_ibugs(face):
    """Both kinds have the corners of eyes and mouth and the tip of the nose."""
    ids, landmarks = [33, 263, 61, 291, 4], [36, 45, 48, 54, 30]
    placed = face.mediapipe_operator(np.array(ids)) @ face.mean
    np.testing.assert_allclose(placed, face.mean[face.landmarks68[landmarks]], atol=4)
