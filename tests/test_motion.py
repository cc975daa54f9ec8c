"""One motion from sound to mesh: coordinates give what drawing every vertex and every map gives.

The long way round, as the paper draws it: coordinates → displaced vertices → geometry maps of 128×128 → the generator →
maps → vertices → projected onto the mesh. It must come out within a thousandth of a millimetre.
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
from talkemo.face.geometry_map import SIZE, geometry_map
from talkemo.networks.emotion import INNER, SHUT, SPOKEN, UNIT
from talkemo.train.generator import residual_basis

CLOSE = 1e-3  # mm


@pytest.fixture(scope="module")
def spoken(models, short_speech):
    audio = open_audio(short_speech)
    return models.talking.motion(audio, np.arange(0, audio.duration, 1 / 30))


def long_way(models, displacement: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Emotion transfer on displacements (T, V, 3) mm by way of maps and vertices; amounts (T, 8)."""
    face, generator = models.face, models.emotion.generator
    sampling = geometry_map(face)
    maps = torch.from_numpy(sampling.encode(displacement)) / UNIT
    assert maps.shape[2:] == (SIZE, SIZE)
    rows, _ = residual_basis(face)
    residual = torch.zeros_like(maps)
    with torch.inference_mode():
        for k in np.flatnonzero(amounts.any(0)):
            level, share = models.emotion.labels(int(k), amounts[:, k])
            label = (
                functional.one_hot(torch.full((len(maps),), int(k)), len(EMOTIONS))
                * torch.from_numpy(level)[:, None]
            )
            coordinates = generator(functional.adaptive_avg_pool2d(maps, INNER), label)
            drawn = (coordinates @ rows.flatten(1)).view_as(maps)
            residual += torch.from_numpy(share)[:, None, None, None] * drawn
    moved = sampling.decode((residual * UNIT).numpy())
    jaw = face.expression_basis[face.expression_names.index("jawOpen")]
    closed = SPOKEN + (1 - SPOKEN) * np.exp(-np.maximum(face.lip_opening(displacement), 0) / SHUT)
    cancelled = (face.lip_opening(moved) * closed)[:, None, None] * jaw / face.lip_opening(jaw)
    return displacement + moved - cancelled


def projected(binding, displacement: np.ndarray) -> np.ndarray:
    """Vertices of a bound mesh for canonical displacements (T, V, 3), by projection on the whole face's span."""
    face = binding.face
    shapes = np.linalg.qr(
        face.expression_basis.reshape(len(face.expression_names), -1).T.astype(np.float64)
    )[0].T
    own = face.expression_basis.reshape(len(shapes), -1).astype(np.float64)
    weights = np.linalg.solve(
        own @ own.T, own @ (displacement.reshape(len(displacement), -1) @ shapes.T @ shapes).T
    )
    result = np.repeat(binding.mesh.vertices[None], len(displacement), axis=0)
    result[:, binding.moving] += np.tensordot(weights.T, binding.shapes, 1)
    return result


@pytest.mark.parametrize("emotion", ["happy", "angry", "surprised:0.5,sad:0.4"])
def test_coordinates_give_what_the_long_way_round_gives(models, spoken, bound, emotion):
    amounts = np.broadcast_to(parse_emotion(emotion), (len(spoken), len(EMOTIONS))).copy()
    amounts[10:15] = 0
    short = bound.vertices(models.emotion.transfer(spoken, amounts).coordinates)
    changed = spoken.displacement(models.face)
    moved = amounts.any(1)
    changed[moved] = long_way(models, changed[moved], amounts[moved])
    apart = np.linalg.norm(short - projected(bound, changed), axis=2)
    assert apart.max() < CLOSE
    assert np.linalg.norm(short[moved] - bound.rest, axis=2).max() > 5  # it does move


def test_arkit_weights_are_those_of_the_displacement(models, spoken):
    face = models.face
    displacement = spoken.displacement(face).reshape(len(spoken), -1)
    basis = face.expression_basis.reshape(len(face.expression_names), -1)
    np.testing.assert_allclose(
        spoken.coordinates @ face.shape_coordinates.T, displacement @ basis.T, atol=2e-2, rtol=1e-4
    )
    weights = spoken.arkit(face)
    assert weights.shape == (len(spoken), 52) and weights.min() >= 0 and weights.max() <= 1


def test_shapes_vertices_and_coordinates_go_round(face):
    shapes = random_weights(face, np.random.default_rng(0), 9).astype(np.float32)
    motion = Motion.of_shapes(face, np.arange(9) / 30, shapes)
    np.testing.assert_allclose(motion.displacement(face), face.displacement(shapes), atol=1e-3)
    back = Motion.of_displacement(face, motion.times, motion.displacement(face))
    np.testing.assert_allclose(back.coordinates, motion.coordinates, atol=1e-2)
    np.testing.assert_allclose(
        motion.lip_opening(face), face.lip_opening(face.displacement(shapes)), atol=1e-3
    )
    span = face.span.reshape(len(face.span), -1)
    np.testing.assert_allclose(span @ span.T, np.eye(len(span)), atol=1e-4)
    # A motion's coordinates are its length: their norm is that of the displacement of all vertices.
    np.testing.assert_allclose(
        np.linalg.norm(motion.coordinates, axis=1),
        np.linalg.norm(motion.displacement(face).reshape(9, -1), axis=1),
        rtol=1e-3,
    )
    assert len(Motion.joined([], face)) == 0
    joined = Motion.joined([motion, motion], face)
    np.testing.assert_array_equal(joined.coordinates[9:], motion.coordinates)


def test_the_generators_linear_maps_are_the_charts(models):
    from talkemo.train.generator import linear_maps

    fresh, kept = linear_maps(models.face), models.emotion.generator
    for name, tolerance in (
        ("picture", 1e-5),
        ("measure", 1e-3),
        ("residual", 1e-3),
        ("opening", 1e-4),
        ("place", 0),
    ):
        np.testing.assert_allclose(
            getattr(kept, name).numpy(), getattr(fresh, name).numpy(), atol=tolerance
        )


def modules_of(folder: Path):
    return [path for path in sorted(folder.rglob("*.py")) if path.name != "__pycache__"]


def test_inference_imports_nothing_of_training():
    """No module outside train, paper, data and evaluation imports them when it is loaded."""
    root = Path(talkemo.__file__).parent
    apart = {"train", "paper", "data", "evaluation"}
    for path in modules_of(root):
        if path.relative_to(root).parts[0] in apart:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.col_offset == 0:
                named = (node.module or "").split(".")
                assert not apart & set(named), f"{path.name} imports {node.module}"


def test_a_stranger_sees_the_public_names():
    import subprocess
    import sys

    script = (
        "import sys, talkemo; print(*dir(talkemo)); "
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy', 'scipy', 'trimesh', 'librosa')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    names, heavy = done.stdout.splitlines()
    for name in (
        "animate",
        "transfer",
        "bind",
        "reconstruct",
        "load_models",
        "Timeline",
        "EMOTIONS",
        "ExportOptions",
    ):
        assert name in names.split()
        assert getattr(talkemo, name) is getattr(talkemo, name)
    assert heavy == ""  # importing the package is cheap
    with pytest.raises(AttributeError, match="nothing"):
        talkemo.nothing  # noqa: B018
