"""Coordinates of a motion give the same result as the paper's path by vertices and geometry maps.

The paper's path is: coordinates, displaced vertices, geometry maps of 128×128, the generator, maps,
vertices, projection onto the mesh. The results agree within a thousandth of a millimetre.
"""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_weights
from torch.nn import functional

import talkemo
from talkemo import Motion
from talkemo.audio.recording import open_audio
from talkemo.expression.emotions import EMOTIONS, parse_emotion
from talkemo.face.geometry_map import MAP_SIZE, geometry_map
from talkemo.face.lip_measures import without_opening
from talkemo.networks.emotion import (
    BEYOND_MEAN,
    GENERATOR_MAP_SIZE,
    MAP_UNIT_MM,
)
from talkemo.train.generator import residual_basis

TOLERANCE_MM = 1e-3


@pytest.fixture(scope="module")
def spoken(models, short_speech):
    audio = open_audio(short_speech)
    return models.talking.motion(audio, np.arange(0, audio.duration, 1 / 30))


def test_a_result_keeps_the_loudness_of_speech(example_face, short_speech, models):
    motion = talkemo.animate(example_face, short_speech, models=models, fps=5).motion
    assert motion.loudness is not None and len(motion.loudness) == len(motion)


def transfer_by_maps(models, displacement: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Emotion transfer on displacements (T, V, 3) mm by vertices and maps, for amounts (T, 8)."""
    face, generator = models.face, models.emotion.generator
    sampling = geometry_map(face)
    maps = torch.from_numpy(sampling.encode(displacement)) / MAP_UNIT_MM
    assert maps.shape[2:] == (MAP_SIZE, MAP_SIZE)
    rows, _ = residual_basis(face)
    residual = torch.zeros_like(maps)
    with torch.inference_mode():
        for k in np.flatnonzero(amounts.any(0)):
            level, share = models.emotion.labels(int(k), amounts[:, k])
            label = (
                functional.one_hot(torch.full((len(maps),), int(k)), len(EMOTIONS))
                * torch.from_numpy(level)[:, None]
            )
            coordinates = generator(functional.adaptive_avg_pool2d(maps, GENERATOR_MAP_SIZE), label)
            coordinates = coordinates - models.emotion._residual_of_levels(int(k), level)
            drawn = (coordinates @ rows.flatten(1)).view_as(maps)
            residual += torch.from_numpy(share)[:, None, None, None] * drawn
    moved = sampling.decode((residual * MAP_UNIT_MM).numpy())
    span = face.span.reshape(len(face.span), -1)
    beyond_mean = moved.reshape(len(moved), -1) @ span.T @ without_opening(face)
    change = amounts @ models.emotion.mean_change + BEYOND_MEAN * beyond_mean
    return displacement + np.tensordot(change, face.span, 1)


def on_span(face, displacement: np.ndarray) -> np.ndarray:
    """Displacements (T, V, 3) projected on the span of the blend shapes."""
    orthonormal = np.linalg.qr(
        face.expression_basis.reshape(len(face.expression_names), -1).T.astype(np.float64)
    )[0].T
    flat = displacement.reshape(len(displacement), -1) @ orthonormal.T @ orthonormal
    return flat.reshape(displacement.shape)


def projected(binding, displacement: np.ndarray) -> np.ndarray:
    """Vertices of a bound mesh for canonical displacements (T, V, 3), projected on the span."""
    face = binding.face
    targets = face.expression_basis.reshape(len(face.expression_names), -1).astype(np.float64)
    flat = on_span(face, displacement).reshape(len(displacement), -1)
    weights = np.linalg.solve(targets @ targets.T, targets @ flat.T)
    result = np.repeat(binding.mesh.vertices[None], len(displacement), axis=0)
    result[:, binding.moving] += np.tensordot(weights.T, binding.targets, 1)
    return result


@pytest.mark.parametrize("emotion", ["happy", "angry", "surprised:0.5,sad:0.4"])
def test_coordinates_agree_with_vertices_and_maps(models, spoken, bound, emotion):
    amounts = np.broadcast_to(parse_emotion(emotion), (len(spoken), len(EMOTIONS))).copy()
    amounts[10:15] = 0
    short = bound.vertices(models.emotion.transfer(spoken, amounts).coordinates)
    changed = spoken.displacement(models.face)
    moved = amounts.any(1)
    changed[moved] = transfer_by_maps(models, changed[moved], amounts[moved])
    difference = np.linalg.norm(short - projected(bound, changed), axis=2)
    assert difference.max() < TOLERANCE_MM
    assert np.linalg.norm(short[moved] - bound.rest, axis=2).max() > 5  # there is motion


def test_arkit_weights_are_those_of_the_displacement(models, spoken):
    face = models.face
    displacement = spoken.displacement(face).reshape(len(spoken), -1)
    basis = face.expression_basis.reshape(len(face.expression_names), -1)
    np.testing.assert_allclose(
        spoken.coordinates @ face.weights_to_coordinates.T,
        displacement @ basis.T,
        atol=2e-2,
        rtol=1e-4,
    )
    weights = spoken.arkit(face)
    assert weights.shape == (len(spoken), 52) and weights.min() >= 0 and weights.max() <= 1


def test_weights_vertices_and_coordinates_round_trip(face):
    shapes = random_weights(face, np.random.default_rng(0), 9).astype(np.float32)
    motion = Motion.from_weights(face, np.arange(9) / 30, shapes)
    np.testing.assert_allclose(motion.displacement(face), face.displacement(shapes), atol=1e-3)
    back = Motion.from_displacement(face, motion.times, motion.displacement(face))
    np.testing.assert_allclose(back.coordinates, motion.coordinates, atol=1e-2)
    np.testing.assert_allclose(
        motion.lip_opening(face), face.lip_opening(face.displacement(shapes)), atol=1e-3
    )
    span = face.span.reshape(len(face.span), -1)
    np.testing.assert_allclose(span @ span.T, np.eye(len(span)), atol=1e-4)
    # The norm of the coordinates is the norm of the displacement of all vertices.
    np.testing.assert_allclose(
        np.linalg.norm(motion.coordinates, axis=1),
        np.linalg.norm(motion.displacement(face).reshape(9, -1), axis=1),
        rtol=1e-3,
    )
    assert len(Motion.concatenate([], face)) == 0
    joined = Motion.concatenate([motion, motion], face)
    np.testing.assert_array_equal(joined.coordinates[9:], motion.coordinates)


def test_linear_maps_of_the_generator_match_the_chart(models):
    from talkemo.train.generator import linear_maps

    fresh, stored = linear_maps(models.face), models.emotion.generator
    for name, tolerance in (
        ("picture", 1e-5),
        ("measure", 1e-3),
        ("residual", 1e-3),
        ("opening", 1e-4),
        ("place", 0),
    ):
        np.testing.assert_allclose(
            getattr(stored, name).numpy(), getattr(fresh, name).numpy(), atol=tolerance
        )


def modules_of(folder: Path):
    return [path for path in sorted(folder.rglob("*.py")) if path.name != "__pycache__"]


def test_inference_does_not_import_training():
    """No module outside train, paper, data and evaluation imports them when it is loaded."""
    root = Path(talkemo.__file__).parent
    training_folders = {"train", "paper", "data", "evaluation"}
    for path in modules_of(root):
        if path.relative_to(root).parts[0] in training_folders:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.col_offset == 0:
                named = (node.module or "").split(".")
                assert not training_folders & set(named), f"{path.name} imports {node.module}"


def test_public_names_are_listed_and_loaded_lazily():
    import subprocess
    import sys

    script = (
        "import sys, talkemo; print(*dir(talkemo)); "
        "heavy = {'torch', 'numpy', 'scipy', 'trimesh', 'librosa'}; "
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in heavy))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    functions = ("animate", "transfer", "bind", "reconstruct", "load_models")
    for name in (*functions, "Timeline", "EMOTIONS", "ExportOptions"):
        assert name in names.split()
        assert getattr(talkemo, name) is getattr(talkemo, name)
    assert heavy == ""  # importing the package is cheap
    with pytest.raises(AttributeError, match="nothing"):
        talkemo.nothing  # noqa: B018
