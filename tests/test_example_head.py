"""The example head: a whole head whose parts are found, and move as they should."""

import numpy as np
import pytest
from conftest import ROOT
from scipy.spatial import cKDTree

import talkemo
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
