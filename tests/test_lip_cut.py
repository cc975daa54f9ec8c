"""Lips that are one skin are cut along their line, closed at rest and whole when open."""

import json

import numpy as np
import pytest
from openings_of_heads import one_skin
from scipy.spatial.transform import Rotation

import talkemo
from talkemo.binding import FaceHint, bind_mesh, load_binding, save_binding
from talkemo.binding.cut_frames import CutFrames, uncut
from talkemo.binding.mesh_to_motion import MeshToMotion
from talkemo.expression.emotions import Timeline
from talkemo.formats.mesh import load_mesh
from talkemo.formats.obj import save_obj
from talkemo.formats.registry import open_animation
from talkemo.pipelines.acting import bound_header
from talkemo.pipelines.bind import describe
from talkemo.pipelines.options import ExportOptions
from talkemo.pipelines.rendering import render
from talkemo.render.added_parts import MOUTH_PARTS
from talkemo.render.software import SoftwareRenderer
from talkemo_cli.app import main

KINDS = {"scan": (1.8, 0.0), "voxels": (2.0, 2.0), "coarse": (3.2, 0.0)}  # mm of steps and voxels


@pytest.fixture(scope="module")
def solid(face, example_face):
    """Bindings of heads whose lips are one skin."""
    mesh = load_mesh(example_face)
    return {kind: bind_mesh(face, one_skin(mesh, *steps)) for kind, steps in KINDS.items()}


@pytest.fixture(scope="module")
def poses(face):
    amounts = [{"jawOpen": 0.7}, {"mouthSmile": 1.0, "jawOpen": 0.2}, {"mouthFunnel": 0.8}]
    weights = np.stack([face.weight_vector(amount) for amount in amounts])
    return weights @ face.weights_to_coordinates


def edges_of(faces):
    """Edges (E, 2), and how many triangles each belongs to (E,)."""
    ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return np.unique(ends, axis=0, return_counts=True)


def seams(binding):
    """Rows (P, 2) of the cut mesh that lie in one place but on different lips."""
    shown, own = binding.shown.mesh, len(binding.mesh.vertices)
    added = np.arange(own, len(shown.vertices))
    places = shown.vertices[added].round(6)
    order = np.lexsort(places.T)
    same = (places[order][1:] == places[order][:-1]).all(1)
    return np.column_stack([added[order][:-1][same], added[order][1:][same]])


@pytest.mark.parametrize("kind", KINDS)
def test_lips_of_one_skin_are_cut(solid, kind):
    binding = solid[kind]
    shown, own = binding.shown, len(binding.mesh.vertices)
    np.testing.assert_array_equal(shown.mesh.vertices[:own], binding.mesh.vertices)
    assert describe(binding)["lips_cut"] == len(shown.mesh.vertices) - own > 0
    assert shown.lip_opening_ratio() == pytest.approx(1, abs=0.2)
    pairs = seams(binding)
    corners = binding.mesh.vertices[binding.landmarks68[[48, 54]], 0]
    along = shown.mesh.vertices[pairs[:, 0], 0]
    assert np.ptp(along) > 0.75 * np.ptp(corners)  # from corner to corner


@pytest.mark.parametrize("kind", KINDS)
def test_cut_lips_are_closed_at_rest_and_open_apart(solid, poses, kind):
    binding = solid[kind].shown
    pairs = seams(solid[kind])
    rest = binding.vertices(np.zeros_like(poses[:1]))[0]
    assert np.linalg.norm(rest[pairs[:, 0]] - rest[pairs[:, 1]], axis=1).max() < 1e-3
    assert solid[kind].lip_gap.max() < 1e-3
    middle = np.abs(rest[pairs[:, 0], 0]) < 8
    opened = binding.vertices(poses[:1])[0][pairs[middle]]
    assert np.abs(opened[:, 0, 1] - opened[:, 1, 1]).min() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_no_triangle_is_torn_or_bridges_the_lips(solid, poses, kind):
    binding = solid[kind].shown
    edges, triangles = edges_of(binding.mesh.faces)
    assert triangles.max() <= 2
    a, b = edges.T
    near = np.abs(binding.rest[a] - binding.rest[binding.landmarks68[66]]).max(1) < 45
    length = np.linalg.norm(binding.rest[a] - binding.rest[b], axis=1)
    for moved in binding.vertices(poses):
        after = np.linalg.norm(moved[a] - moved[b], axis=1)
        assert (after[near] < np.maximum(4 * length[near], 0.5)).all()
        assert (after - length)[near].max() < 7  # a bridge is as long as the mouth is open


def test_cut_has_a_lining_behind_each_lip(solid):
    binding, shown = solid["scan"], solid["scan"].shown
    added = shown.mesh.vertices[len(binding.mesh.vertices) :]
    lips = shown.mesh.vertices[seams(binding)[:, 0]]
    middle = np.abs(added[:, 0]) < 8
    depth = lips[np.abs(lips[:, 0]) < 8, 2].mean() - added[middle, 2]
    height = added[middle, 1] - lips[np.abs(lips[:, 0]) < 8, 1].mean()
    assert depth.max() > 6 and height[depth > 4].max() > 2 and height[depth > 4].min() < -2


def test_open_mouths_are_not_cut(bound):
    assert bound.cut is None and bound.shown is bound
    assert describe(bound)["lips_cut"] == 0


def test_binding_of_a_cut_mesh_in_a_file(solid, poses, face, tmp_path):
    binding, path = solid["coarse"], tmp_path / "cut.npz"
    save_binding(path, binding)
    again = load_binding(path, face, binding.mesh)
    np.testing.assert_array_equal(again.shown.mesh.faces, binding.shown.mesh.faces)
    np.testing.assert_allclose(again.shown.vertices(poses), binding.shown.vertices(poses))
    np.testing.assert_allclose(again.vertices(poses), binding.vertices(poses))


def test_drawn_outputs_show_the_cut_and_others_keep_the_mesh(
    solid, models, short_speech, tmp_path, capsys
):
    mesh, saved = tmp_path / "coarse.obj", tmp_path / "cut.npz"
    own = solid["coarse"].mesh
    save_obj(mesh, own.vertices, own.faces)
    assert main(["bind", str(mesh), "-o", str(saved)]) == 0
    assert "the lips are one skin and were cut apart" in capsys.readouterr().err
    outputs = [tmp_path / "a.npz", tmp_path / "a.glb"]
    talkemo.animate(
        mesh, short_speech, outputs, fps=10, models=models, hint=FaceHint(binding=saved)
    )
    with np.load(outputs[0]) as arrays:
        assert arrays["vertices"].shape[1] == len(own.vertices)
        np.testing.assert_array_equal(arrays["faces"], own.faces)
        assert json.loads(str(arrays["meta"]))["lips_are_one_skin"]
    header = bound_header(solid["coarse"], 1, 10, {})
    names = [{part.name for part in kept.added().meshes} for kept in (header, header.own)]
    assert "teeth" in names[0] and not names[1] & set(MOUTH_PARTS)
    # Other programs draw the cut mesh; talkemo reads the mesh again.
    assert len(load_mesh(outputs[1]).vertices) > len(own.vertices)
    assert open_animation(outputs[1]).shape[1] == len(own.vertices)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_the_mesh_get_the_vertices_of_its_cut(solid, poses, kind):
    binding = solid[kind]
    turns = Rotation.from_euler("yx", [[0, 0], [20, 5], [-15, 10]], degrees=True).as_matrix()
    shown = binding.shown.vertices(poses) @ turns.transpose(0, 2, 1).astype(np.float32)
    own = shown[:, : len(binding.rest)]
    motion, _ = MeshToMotion(uncut(binding)).motion_of_mesh(own, np.arange(3.0))
    completed = CutFrames(binding).complete(own, motion.coordinates)
    np.testing.assert_array_equal(completed[:, : own.shape[1]], own)
    assert np.linalg.norm(completed - shown, axis=2).max() < 0.3  # mm


@pytest.fixture
def drawn(monkeypatch):
    """Vertices and gaze of the frames that are drawn, in a list that grows."""
    frames, draw = [], SoftwareRenderer.draw

    def collect(self, vertices):
        frames.append((vertices, self.appearance.added.gaze))
        return draw(self, vertices)

    monkeypatch.setattr(SoftwareRenderer, "draw", collect)
    return frames


def assert_alike(drawn, animated, mm, quantile=1.0):
    """Assert that frames show what `animate` showed, and forget them."""
    assert len(drawn) == len(animated) > 5
    for (vertices, gaze), (expected, wanted) in zip(drawn, animated):
        assert np.quantile(np.linalg.norm(vertices - expected, axis=1), quantile) < mm
        np.testing.assert_allclose(gaze, wanted, atol=1e-3)
    drawn.clear()


def test_a_file_without_the_cut_is_drawn_with_it(solid, models, short_speech, tmp_path, drawn):
    """`render` and `transfer` draw an npz as `animate` draws its frames: lips, head and eyes."""
    own = solid["coarse"].mesh
    mesh, npz, video = tmp_path / "coarse.obj", tmp_path / "a.npz", tmp_path / "a.mp4"
    save_obj(mesh, own.vertices, own.faces)
    small = ExportOptions(size=64)
    talkemo.animate(mesh, short_speech, [npz, video], fps=5, export=small, models=models)
    animated = drawn.copy()
    drawn.clear()
    assert max(np.abs(gaze).max() for _, gaze in animated) > 0.01
    render(npz, video, size=64, models=models)
    assert_alike(drawn, animated, mm=0.3)
    talkemo.transfer(npz, video, timeline=Timeline.unchanged(), export=small, models=models)
    assert_alike(drawn, animated, mm=0.3)


@pytest.mark.parametrize("bake", [False, True])
def test_a_glb_of_a_cut_mesh_is_read_as_the_mesh(
    solid, models, short_speech, tmp_path, drawn, bake
):
    own = solid["coarse"].mesh
    mesh, glb, video = tmp_path / "coarse.obj", tmp_path / "a.glb", tmp_path / "a.mp4"
    save_obj(mesh, own.vertices, own.faces)
    small = ExportOptions(size=64, bake=bake)
    talkemo.animate(mesh, short_speech, [glb, video], fps=5, export=small, models=models)
    animated = drawn.copy()
    drawn.clear()
    source = open_animation(glb)
    np.testing.assert_array_equal(source.faces, own.faces)
    np.testing.assert_allclose(source.rest, load_mesh(mesh).vertices, atol=1e-3)
    render(glb, video, size=64, models=models)
    # ARKit's shapes stand for the motion.
    assert_alike(drawn, animated, mm=0.3 if bake else 1.5, quantile=0.99)
    small = ExportOptions(size=64)
    talkemo.transfer(glb, video, timeline=Timeline.unchanged(), export=small, models=models)
    assert_alike(drawn, animated, mm=0.3 if bake else 1.5, quantile=0.99)


def test_a_glb_is_drawn_with_head_and_eyes(example_face, models, short_speech, tmp_path, drawn):
    glb, video, small = tmp_path / "a.glb", tmp_path / "a.mp4", ExportOptions(size=64)
    talkemo.animate(example_face, short_speech, [glb, video], fps=5, export=small, models=models)
    animated = drawn.copy()
    drawn.clear()
    render(glb, video, size=64, models=models)
    assert_alike(drawn, animated, mm=0.5, quantile=0.5)  # ARKit's shapes show a motion nearly
    (first, _), (last, _) = animated[0], animated[-1]
    assert np.median(np.linalg.norm(last - first, axis=1)) > 1  # the head turns
