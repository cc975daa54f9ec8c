"""The example head: a whole head whose parts are found, and move as they should."""

import numpy as np
import pytest
from conftest import ROOT
from openings_of_heads import least_cover
from scipy.spatial import cKDTree

import talkemo
from talkemo.expression.blinking import Blinking
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import EMOTIONS, one_hot
from talkemo.face.motion import Motion
from talkemo.face.openings import lid_opening_gradient
from talkemo.formats.mesh import load_mesh

HEAD = ROOT / "examples" / "face.obj"
PARTS = (
    "skin mouth gums_upper gums_lower tongue teeth_upper teeth_lower eye_left eye_right "
    "lashes_left lashes_right"
).split()


@pytest.fixture(scope="module")
def parts():
    """The vertices of each group of the head."""
    rows, name = {}, ""
    for line in HEAD.read_text("utf-8").splitlines():
        kind, *words = line.split()
        if kind == "g":
            name = words[0]
        elif kind == "f":
            rows.setdefault(name, set()).update(int(word.split("/")[0]) - 1 for word in words)
    return {name: np.array(sorted(vertices)) for name, vertices in rows.items()}


@pytest.fixture(scope="module")
def bound_head(models):
    return talkemo.bind(HEAD, models=models)


def moved(binding, **weights):
    """How far each vertex moves, (N, 3) canonical mm, by weights of blend shapes."""
    names = binding.face.expression_names
    row = np.array([weights.get(name, weights.get(name[:-2], 0.0)) for name in names])
    vertices = binding.vertices((row @ binding.face.weights_to_coordinates)[None])[0]
    return (vertices - binding.rest) / binding.scale


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_closed_lids_cover_its_corneas(bound_head, models, emotion):
    """They bulge out of the eyeballs, and raised brows and wide eyes draw the lids back."""
    still = Motion(np.zeros(1), np.zeros((1, len(models.face.span)), np.float32))
    shown = with_emotion(models.emotion, still, one_hot(emotion)[None], models.face)
    motion = Motion(np.arange(240) / 60, np.repeat(shown.coordinates, 240, axis=0), np.ones(240))
    blinking = Blinking(models.face, 60, 1).add(motion)
    opening = 1 + blinking.coordinates @ lid_opening_gradient(models.face)
    shut = blinking.coordinates[opening.max(1).argmin()]
    vertices = bound_head.vertices(shut[None])[0]
    skin = np.zeros(len(vertices), bool)
    skin[bound_head.moving[bound_head.canonical >= 0]] = True
    faces = bound_head.mesh.faces[skin[bound_head.mesh.faces].all(1)]
    for rows, centre in bound_head.eyes:
        from_centre = bound_head.rest[rows] - centre
        front = rows[from_centre[:, 2] > 0.9 * np.linalg.norm(from_centre, axis=1)]
        near = faces[np.linalg.norm(bound_head.rest[faces].mean(1) - centre, axis=1) < 40]
        covers = np.array([least_cover(point, vertices[near]) for point in vertices[front, None]])
        in_slit = np.isneginf(covers)  # where the lids meet
        assert len(front) > 50 and in_slit.sum() < 4 and covers[~in_slit].min() > 0


def test_its_lower_teeth_stay_below_the_closed_bite(bound_head, parts):
    shut = moved(bound_head, jawOpen=-0.3)
    for name in ("teeth_lower", "gums_lower", "tongue"):
        assert shut[parts[name], 1].max() < 0.05, name
    assert shut[bound_head.landmarks68[8], 1] > 3  # the chin rises


def test_the_head_has_its_parts_and_is_small(parts):
    assert list(parts) == PARTS
    text = HEAD.read_text("utf-8")
    assert "ICT-FaceKit (MIT" in text and text.count("\nvt ") > 20_000
    assert HEAD.stat().st_size < 2.5e6 and HEAD.with_suffix(".glb").stat().st_size < 1.5e6
    mask = load_mesh(HEAD.with_name("mask.obj"))
    assert len(mask.vertices) == 12_500  # what tests and benchmarks use


def test_each_part_of_the_head_goes_its_way(bound_head, parts):
    found = [set(rows) for rows, _ in bound_head.eyes]
    assert found == [set(parts["eye_right"]), set(parts["eye_left"])]
    jaw = np.linalg.norm(moved(bound_head, jawOpen=1.0), axis=1)
    for name in ("teeth_upper", "gums_upper", "eye_left", "eye_right"):
        assert jaw[parts[name]].max() < 0.01, name
    for name in ("teeth_lower", "gums_lower", "tongue"):
        assert jaw[parts[name]].min() > 5, name
    blink = moved(bound_head, eyeBlink=1.0)
    for name in ("lashes_left", "lashes_right"):
        near = cKDTree(bound_head.rest[parts["skin"]]).query(bound_head.rest[parts[name]])[1]
        difference = blink[parts[name]] - blink[parts["skin"][near]]
        assert np.median(np.linalg.norm(difference, axis=1)) < 1.5
        assert blink[parts[name], 1].min() < -4


def test_the_glb_is_the_same_head(parts, bound_head):
    import pygltflib

    document = pygltflib.GLTF2().load(str(HEAD.with_suffix(".glb")))
    named = [node.name for node in document.nodes if node.mesh is not None]
    assert named == PARTS and len(document.images) == 1
    mesh = load_mesh(HEAD.with_suffix(".glb"))
    assert mesh.attributes.texture is not None
    distance, _ = cKDTree(mesh.vertices * 1000).query(bound_head.rest)
    assert distance.max() < 0.01  # mm
