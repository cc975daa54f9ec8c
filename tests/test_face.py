"""The canonical face and its bilinear model."""

import numpy as np
import pytest
from conftest import random_weights

from talkemo import InputError, load_models
from talkemo.face.canonical import ARKIT_NAMES, INNER_LIPS, face_of_tensors, tensors_of_face
from talkemo.face.motion import Motion
from talkemo.geometry.meshes import boundary_loops, mesh_edges, vertex_normals
from talkemo.geometry.numerics import bounded_least_squares
from talkemo.weights.files import load_weights, save_weights


def test_canonical_face(face):
    assert len(face.mean) == 12500
    assert face.faces.max() == len(face.mean) - 1
    np.testing.assert_allclose(face.mean[face.mirror] * [-1, 1, 1], face.mean, atol=1e-3)
    # It looks along +z: the nose is in front, the eyes above the mouth, its right side at −x.
    nose, eye, mouth = face.mean[face.landmarks68[[30, 36, 48]]]
    assert nose[2] == pytest.approx(face.mean[:, 2].max(), abs=1)
    assert eye[1] > nose[1] > mouth[1]
    assert eye[0] < 0 and mouth[0] < 0


def test_surface_has_no_cracks(face):
    """Every inner edge has two triangles; the borders are the outline, two eyes and the mouth."""
    assert len(boundary_loops(face.faces, len(face.mean))) == 4
    assert mesh_edges(face.faces)[1].max() == 2


def test_model_is_bilinear(face):
    """Eq. 1 is linear in each factor; the mean identity at rest is the canonical face."""
    rest = face.vertices(face.expression_factor[0], face.identity_mean)
    assert np.abs(rest - face.mean).max() < 0.2
    rng = np.random.default_rng(0)
    e1, e2 = face.expression_weights(random_weights(face, rng, 2))
    person = face.identity_weights(rng.standard_normal(10))
    half = face.vertices((e1 + e2) / 2, person)
    np.testing.assert_allclose(
        half, (face.vertices(e1, person) + face.vertices(e2, person)) / 2, atol=1e-3
    )


def test_expressions_depend_on_identity(face):
    """A wide mouth opens wide: the opening of the jaw grows with the length of the lower face."""
    jaw = np.zeros(len(face.expression_names))
    jaw[face.expression_names.index("jawOpen")] = 1
    lips = face.landmarks68[list(INNER_LIPS)]
    heights, openings = [], []
    for seed in range(40):
        person = face.identity_weights(np.random.default_rng(seed).standard_normal(30))
        rest = face.vertices(face.expression_factor[0], person)
        opened = face.vertices(face.expression_weights(jaw), person)
        heights.append(np.linalg.norm(rest[face.landmarks68[27]] - rest[face.landmarks68[8]]))
        openings.append(
            np.linalg.norm(np.diff(opened[lips], axis=0))
            - np.linalg.norm(np.diff(rest[lips], axis=0))
        )
    assert np.corrcoef(heights, openings)[0, 1] > 0.5


def test_regions_are_symmetric(face):
    for name in ("lips", "mouth", "eyelids", "upper_face", "lower_face"):
        mask = face.regions[name]
        assert 500 < mask.sum() < 8000
        assert (mask == mask[face.mirror]).mean() > 0.99
    assert face.regions["lips"][face.landmarks68[60:]].all()


def test_fit_weights_recovers_a_weight(face):
    for name in ("jawOpen", "mouthSmile_L", "browInnerUp_R"):
        k = face.expression_names.index(name)
        fitted = face.fit_weights(0.7 * face.weights_to_coordinates[k : k + 1], 300)[0]
        assert fitted.argmax() == k
        assert fitted[k] == pytest.approx(0.7, abs=0.12)


def test_bounded_least_squares_stays_in_bounds():
    x = bounded_least_squares(np.eye(2), np.array([[2.0, -1.0], [0.3, 0.4]]), 50)
    np.testing.assert_allclose(x, [[1, 0], [0.3, 0.4]], atol=1e-6)


def test_arkit_names(face):
    assert len(ARKIT_NAMES) == 52
    assert face.arkit_matrix[:, ARKIT_NAMES.index("jawOpen")].sum() == 1
    assert face.arkit_matrix[:, ARKIT_NAMES.index("tongueOut")].sum() == 0
    assert face.arkit_matrix.sum(0).max() == pytest.approx(1)


def test_vertex_normals_point_outwards(face):
    normals = vertex_normals(face.mean, face.faces)
    assert normals[face.landmarks68[30], 2] > 0.5
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_span_is_orthonormal_and_contains_all_shapes(face):
    flat = face.span.reshape(len(face.span), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-3)
    weights = random_weights(face, np.random.default_rng(3), 5)
    motion = Motion.from_weights(face, np.arange(5.0), weights)
    np.testing.assert_allclose(motion.displacement(face), face.displacement(weights), atol=1e-2)
    again = Motion.from_displacement(face, motion.times, face.displacement(weights))
    np.testing.assert_allclose(again.coordinates, motion.coordinates, atol=0.05)
    np.testing.assert_allclose(
        motion.lip_opening(face), face.lip_opening(face.displacement(weights)), atol=1e-2
    )


def test_saved_face_is_the_same(face, tmp_path):
    path = tmp_path / "face.safetensors"
    save_weights(path, "face", *tensors_of_face(face))
    again = face_of_tensors(*load_weights(path, "face"))
    np.testing.assert_array_equal(again.mean, face.mean)
    np.testing.assert_array_equal(again.basis, face.basis)
    assert again.expression_names == face.expression_names
    assert again.fingerprint == face.fingerprint == load_models(tmp_path).face.fingerprint


def test_unusable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such weights"):
        load_weights(tmp_path / "none.safetensors", "face")
    (tmp_path / "face.safetensors").write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match="not a weights file"):
        _ = load_models(tmp_path).face
    save_weights(tmp_path / "face.safetensors", "talking", {"a": np.zeros(1)}, {})
    with pytest.raises(InputError, match="'talking', not 'face'"):
        _ = load_models(tmp_path).face
    save_weights(tmp_path / "face.safetensors", "face", {"a": np.zeros(1)}, {})
    with pytest.raises(InputError, match="another version"):
        _ = load_models(tmp_path).face
