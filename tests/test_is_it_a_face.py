"""Whether a mesh has a face, and where: scores of the shape, and the landmark tracker's opinion."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import trimesh
from scipy.spatial.transform import Rotation

import talkemo
from talkemo import InputError
from talkemo.binding import FaceHint, bind_with_hint
from talkemo.binding.cache import BindingCache
from talkemo.binding.likeness import Likeness
from talkemo.binding.registration import Fit, fit_face, locate
from talkemo.binding.sighting import (
    Sighting,
    disagreement_mm,
    front_of,
    landmarks_of,
    placement_of,
    viewpoints,
)
from talkemo.binding.surface import sample_surface
from talkemo.capture import landmarker_bundle
from talkemo.capture.landmark_tracker import Crop, TrackedLandmarks
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.meshes import mesh_edges
from talkemo.geometry.rigid import Similarity
from talkemo.pipelines import second_opinion
from talkemo.pipelines.second_opinion import (
    IMAGE_SIDE_PX,
    TrackerOpinion,
    installed_opinion,
    lay_back,
    opinion_for,
    seen_ids,
)
from talkemo.render.view import View

WORN_ROUNDS = 538  # of smoothing: lids and lips are gone, as on a worn sculpture
FACE = Likeness(0.9, 0.9, {"eyes": 0.8, "nose": 0.9, "mouth": 0.8}, 0.0)
ASKEW = Rotation.from_rotvec(np.radians(50) * np.array([1, 2, 3]) / 14**0.5).as_matrix()


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def worn(mesh):
    """The example face as time leaves a sculpture."""
    edges, _ = mesh_edges(mesh.faces)
    count, points = len(mesh.vertices), mesh.vertices
    graph = sp.csr_matrix((np.ones(len(edges)), edges.T), (count, count))
    graph = graph + graph.T
    mean = sp.diags(1 / np.asarray(graph.sum(1))[:, 0]) @ graph
    for _ in range(WORN_ROUNDS):
        points = 0.5 * points + 0.5 * (mean @ points)
    return Mesh(points, mesh.faces)


class Seer:
    """A second opinion that sees the example face from everywhere, where `placement` puts it."""

    name, failure = "seer", None

    def __init__(self, face, placement):
        ids = np.array([k for k in seen_ids() if k in set(face.mesh_points)])
        points = placement.to_mesh(face.mediapipe_operator(ids) @ face.mean)
        self.sighting, self.asked = Sighting(ids, points), 0

    def of(self, vertices, faces):
        return self.look

    def look(self, viewpoint):
        self.asked += 1
        return self.sighting if self.asked in (1, 73) else None


# ------------------------------------------------------------------------------- the shape alone


def fit(face, vertices, faces):
    """The face fitted to a mesh, from where it is."""
    there = Similarity(1.0, np.eye(3), np.zeros(3))
    return fit_face(face, sample_surface(vertices, faces), there)


def test_a_worn_sculpture_is_a_face(face, worn):
    """Its error is too large for one score of relief and error; relief and area are a face's."""
    found = fit(face, worn.vertices, worn.faces)
    assert found.score < 0.33 and found.likeness.is_face


def test_a_likely_face_with_a_figure_above_it_is_none(face, worn):
    """As a belly with its legs up; the same surface is a face if nothing rises above it."""
    column = trimesh.creation.box([120, 900, 100]).subdivide_to_size(15)
    above = column.vertices + np.array([0, worn.vertices[:, 1].max() + 460, 0])
    vertices = np.concatenate([worn.vertices, above])
    faces = np.concatenate([worn.faces, np.array(column.faces) + len(worn.vertices)])
    scores = fit(face, vertices, faces).likeness
    assert not scores.is_face and "of the mesh above it" in scores.doubt


def test_a_refusal_says_why_and_what_to_do(face):
    ball = trimesh.creation.icosphere(4)
    surface = sample_surface(np.array(ball.vertices), np.array(ball.faces))
    with pytest.raises(
        InputError, match=r"no face found in the mesh: the place most like one has no "
    ) as refusal:
        locate(face, surface, [np.eye(3)])
    assert "--up" in refusal.value.hint and "--landmarks" in refusal.value.hint


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"relief": 0.2}, "relief"),
        ({"relief": 0.5, "coverage": 0.3}, "30% of its area"),
        ({"relief": 0.68, "coverage": 0.54}, "54% of its area"),  # a car
        ({"relief": 0.5, "features": {"eyes": 0.0, "nose": 0.8, "mouth": 0.0}}, "eyes and mouth"),
        ({"relief": 0.5, "above": 0.4}, "40% of the mesh above it"),
        ({"relief": 0.35, "seen": False}, "the landmark tracker sees none"),
    ],
)
def test_each_score_can_refuse_and_says_why(change, doubt):
    scores = replace(FACE, **change)
    assert FACE.is_face and not scores.is_face and doubt in scores.doubt


def test_a_second_opinion_changes_the_decision_in_doubt_only():
    doubtful = replace(FACE, relief=0.2)
    assert replace(doubtful, seen=True).is_face and not doubtful.is_face
    assert replace(FACE, seen=False).is_face
    assert not replace(FACE, relief=0.05, seen=True).is_face


# ----------------------------------------------------------------------------- a second opinion


def test_what_is_seen_starts_the_registration(face, mesh, monkeypatch):
    """A face that no axis shows is found at once where it is seen; nothing else is searched."""
    monkeypatch.setattr(
        "talkemo.binding.registration.symmetry_rotations", lambda *_: pytest.fail("searched")
    )
    placement = Similarity(0.02, ASKEW, np.array([3.0, 1, 2]))
    turned = Mesh(placement.to_mesh(mesh.vertices), mesh.faces)
    seer = Seer(face, placement)
    surface = sample_surface(turned.vertices, turned.faces)
    found = locate(face, surface, None, None, seer.of(turned.vertices, turned.faces))
    assert found.likeness.seen and seer.asked > 1
    np.testing.assert_allclose(found.placement.rotation, ASKEW, atol=0.05)
    assert found.placement.scale == pytest.approx(0.02, rel=0.05)


def test_a_plain_face_needs_no_second_opinion(face, mesh):
    seer = Seer(face, Similarity(1.0, np.eye(3), np.zeros(3)))
    seer.look = lambda viewpoint: pytest.fail("asked")
    surface = sample_surface(mesh.vertices, mesh.faces)
    assert locate(face, surface, None, None, seer.of(None, None)).likeness.seen is None


def test_sightings_place_the_face_and_disagree_with_others(face):
    placement = Similarity(3.0, ASKEW, np.array([1.0, -2, 5]))
    sighting = Seer(face, placement).sighting
    sighting.points[:20] += 200  # laid onto something in front of the face
    sighting.points[20] = np.nan
    found = placement_of(face, sighting)
    np.testing.assert_allclose(found.rotation, ASKEW, atol=0.02)
    assert found.scale == pytest.approx(3, rel=0.02)
    assert disagreement_mm(face, found, face.mean, sighting) < 2
    upside_down = found.compose(1.0, np.diag([-1.0, -1, 1]), np.zeros(3))
    assert disagreement_mm(face, upside_down, face.mean, sighting) > 30
    landmarks = landmarks_of(face, sighting)
    known = np.isfinite(landmarks).all(1)
    assert known.sum() > 12 and not known[:17].any()
    true = placement.to_mesh(face.mean[face.landmarks68])
    assert np.median(np.linalg.norm(landmarks - true, axis=1)[known]) < 3 * 3.0
    hidden = replace(sighting, points=np.full_like(sighting.points, np.nan))
    assert placement_of(face, hidden) is None
    assert disagreement_mm(face, found, face.mean, hidden) == np.inf


def test_viewpoints_show_heads_of_bodies(face):
    """Of a figure of seven heads one view shows the head alone, from each side that is asked for."""
    points = np.random.default_rng(0).uniform([-200, 0, -100], [200, 1600, 100], (4000, 3))
    surface = sample_surface(points, np.arange(3999).reshape(-1, 3))
    views = list(viewpoints(surface, [np.eye(3), ASKEW]))
    assert len(views) == 6
    assert min(abs(view.centre[1] - 1480) for view in views[:3]) < 40
    assert {round(view.half / views[0].half, 2) for view in views[:3]} >= {1.0, 0.17}


def test_the_cache_tells_opinions_apart(face, bound, tmp_path, monkeypatch):
    cache, opinions = BindingCache(tmp_path), []

    def bind(*_, opinion, **__):
        opinions.append(opinion)
        return bound

    monkeypatch.setattr("talkemo.binding.bind_face.bind_mesh", bind)
    seer = Seer(face, Similarity(1.0, np.eye(3), np.zeros(3)))
    for opinion in (None, seer, None, seer):
        bind_with_hint(face, bound.mesh, FaceHint(), cache, opinion)
    assert opinions == [None, seer]


# ------------------------------------------------------------------------------ the real tracker


class _BrokenLibrary:
    """A package that is installed, but cannot be loaded on this machine."""

    def __init__(self, path):
        raise OSError("libLiteRt.so: undefined symbol: _Z")


def test_a_broken_tracker_is_no_opinion(face, mesh, monkeypatch, tmp_path):
    """The search goes on as without one, says so, and the cache keeps nothing of it."""
    monkeypatch.setattr("talkemo.capture.landmark_tracker.LandmarkTracker", _BrokenLibrary)
    monkeypatch.setattr(Fit, "is_sure", False)
    there = Similarity(1.0, np.eye(3), np.zeros(3))
    monkeypatch.setattr("talkemo.binding.registration.search_placements", lambda *_: [there])
    cache, hint = BindingCache(tmp_path), FaceHint(up="y", forward="z")
    found = bind_with_hint(face, mesh, hint, cache, TrackerOpinion(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))
    alone = bind_with_hint(face, mesh, hint)
    (note,) = found.mesh.notes
    assert "landmark tracker cannot be used (libLiteRt.so" in note and "shape alone" in note
    assert not alone.mesh.notes
    np.testing.assert_array_equal(found.targets, alone.targets)


def test_pixels_are_laid_back_onto_the_front_of_the_mesh(face):
    ids = np.array([k for k in seen_ids() if k in set(face.mesh_points)])
    points = face.mediapipe_operator(ids) @ face.mean
    there = Similarity(1.0, np.eye(3), np.zeros(3))
    front = front_of(face, there)
    view = View(front.centre, front.half, 7 * front.half, 0.1, np.eye(3))
    pixels = view.to_pixels(view.to_camera(points), IMAGE_SIDE_PX, IMAGE_SIDE_PX)[:, :2]
    found = lay_back(pixels, view, face.mean, face.faces)
    distance = np.linalg.norm(found - points, axis=1)
    assert np.nanmedian(distance) < 0.1 and np.nanquantile(distance, 0.9) < 1
    assert np.isnan(lay_back(pixels + 500, view, face.mean, face.faces)).all()
    behind = replace(view, yaw=np.pi)
    pixels = behind.to_pixels(behind.to_camera(points), IMAGE_SIDE_PX, IMAGE_SIDE_PX)[:, :2]
    found = lay_back(pixels, behind, face.mean, face.faces)  # the hollow back of the mask
    assert np.isnan(found).mean() > 0.8


class Tracker:
    """A tracker that finds the example face in the middle of every image."""

    def __init__(self, face, pixels):
        self.pixels, self.images = pixels, []

    def detect(self, image):
        self.images.append(image)
        half = IMAGE_SIDE_PX / 2
        return [Crop(np.array([half, half]), IMAGE_SIDE_PX, 0.0)]

    def track(self, image):
        self.images.append(image)
        landmarks = np.zeros((478, 3))
        landmarks[:, :2] = self.pixels
        return TrackedLandmarks(landmarks, np.zeros(52))


def test_the_tracker_is_shown_the_mesh_in_one_colour(face, mesh, tmp_path):
    placement = Similarity(50.0, ASKEW, np.array([1e4, 0, 0]))
    vertices = placement.to_mesh(mesh.vertices)
    viewpoint = front_of(face, placement)
    size = np.ptp(vertices, axis=0).max()
    half = viewpoint.half / size
    view = View(viewpoint.centre, viewpoint.half, (7 * half + 1) * size, 0.0, ASKEW)
    points = np.zeros((478, 3)) + placement.to_mesh(face.mean[face.landmarks68[30]])
    points[face.mesh_points] = placement.to_mesh(
        face.mediapipe_operator(face.mesh_points) @ face.mean
    )
    pixels = view.to_pixels(view.to_camera(points), IMAGE_SIDE_PX, IMAGE_SIDE_PX)[:, :2] + 0.5
    opinion = TrackerOpinion(tmp_path)
    opinion.tracker = Tracker(face, pixels)
    sighting = opinion.of(vertices, mesh.faces)(viewpoint)
    found = placement_of(face, sighting)
    np.testing.assert_allclose(found.rotation, ASKEW, atol=0.05)
    assert found.scale == pytest.approx(50, rel=0.05)
    image = opinion.tracker.images[0]
    assert image[100:156, 100:156, 0].mean() > 100 > image[:10, :10].mean()


def test_binding_downloads_no_tracker(monkeypatch, tmp_path):
    monkeypatch.setattr(
        landmarker_bundle, "fetch_landmarker", lambda: pytest.fail("downloads the tracker")
    )
    monkeypatch.setattr(landmarker_bundle, "fetch_file", lambda *_: pytest.fail("asks the Hub"))
    monkeypatch.setattr(landmarker_bundle, "_packaged", list)
    monkeypatch.setattr(landmarker_bundle, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(second_opinion, "find_spec", lambda name: object())
    monkeypatch.delenv(landmarker_bundle.LANDMARKER_VARIABLE, raising=False)
    assert installed_opinion() is None
    monkeypatch.setenv(landmarker_bundle.LANDMARKER_VARIABLE, "hf://somebody/tracker")
    assert installed_opinion() is None
    monkeypatch.setattr(second_opinion, "find_spec", lambda name: None)
    assert installed_opinion() is None


def test_the_tracker_can_be_left_out(monkeypatch, bound, example_face, models):
    opinions = []
    monkeypatch.setattr(second_opinion, "installed_opinion", lambda: "installed")
    monkeypatch.setattr(
        "talkemo.pipelines.bind.bind_with_hint", lambda *a: opinions.append(a[-1]) or bound
    )
    for hint in (None, FaceHint(), FaceHint(tracker=False)):
        talkemo.bind(example_face, hint=hint, models=models)
    assert opinions == ["installed", "installed", None]
    assert opinion_for(None) == "installed"
