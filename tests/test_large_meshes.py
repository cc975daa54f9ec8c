"""Meshes with many vertices: what makes their binding quick changes nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from talkemo.binding import bind_mesh
from talkemo.binding import surface as surfaces
from talkemo.binding.body import Body, weld
from talkemo.binding.features import Features
from talkemo.binding.followed import FollowedSkin
from talkemo.binding.mouth import Mouth
from talkemo.binding.registration import fit_face, refine_fit
from talkemo.binding.skin import place_skin
from talkemo.binding.strain import _Strain
from talkemo.binding.surface import Surface, sample_surface
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.rigid import Similarity


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def body(face, mesh):
    """The example face with its skin's motion."""
    there = Similarity(1.0, np.eye(3), np.zeros(3))
    fit = fit_face(face, sample_surface(mesh.vertices, mesh.faces), there)
    result = Body(face, fit, refine_fit(face, fit), mesh.vertices, mesh.faces)
    place_skin(result, Mouth(face, result.fitted), Features(face, result.fitted))
    return result


def test_a_dense_surface_keeps_a_point_in_each_cell_and_direction(monkeypatch):
    monkeypatch.setattr(surfaces, "MAX_POINTS", 100)
    rng = np.random.default_rng(0)
    flat = rng.uniform(0, 10, (4000, 3)) * [1, 1, 0]
    up = np.array([0.0, 0, 1])
    both = Surface(np.concatenate([flat, flat]), np.repeat([up, -up], 4000, axis=0))
    thin = both.thinned(1.0)
    assert len(thin.points) == 200  # 10 × 10 cells, both sides
    assert (np.bincount((thin.normals[:, 2] > 0).astype(int)) == 100).all()
    few = Surface(both.points[:90], both.normals[:90])
    assert few.thinned(1.0) is few


def test_a_dense_mesh_is_bound_as_a_coarse_one(face, mesh, bound, monkeypatch):
    """With a tenth of the points in the search, the motion is hardly another."""
    monkeypatch.setattr(surfaces, "MAX_POINTS", 5000)
    for module in ("surface", "placement_search"):
        monkeypatch.setattr(f"talkemo.binding.{module}.MATCH_CELL_MM", 6.0)
    thinned = []
    inside = Surface.inside
    monkeypatch.setattr(
        Surface, "inside", lambda self, *a: thinned.append(inside(self, *a)) or thinned[-1]
    )
    found = bind_mesh(face, mesh)
    assert max(len(surface.points) for surface in thinned) < 0.5 * (len(mesh.vertices) + 20_000)
    jaw = face.weights_to_coordinates[[face.expression_names.index("jawOpen")]]
    distance = np.linalg.norm(found.vertices(jaw) - bound.vertices(jaw), axis=2)[0]
    assert distance.mean() < 0.2 and np.quantile(distance, 0.99) < 1.5


def test_duplicates_are_numbered_by_their_place():
    """As rows that are sorted, whatever the offset of the mesh."""
    rng = np.random.default_rng(0)
    points = rng.integers(-3, 4, (400, 3)) * 1.0 + 1e4
    mesh = Mesh(points, rng.permutation(399).reshape(-1, 3).astype(np.int32))
    welded = weld(mesh)
    np.testing.assert_array_equal(points[welded.first][welded.merged], points)
    kept = points[welded.first]
    assert (np.lexsort(kept.T[::-1]) == np.arange(len(kept))).mean() > 0.9
    assert len(np.unique(kept, axis=0)) == len(np.unique(points, axis=0))


def test_only_what_is_connected_with_freed_vertices_is_filled_again(body):
    kept = body.targets.copy()
    free = np.zeros(len(body.points), bool)
    near = lambda number: np.linalg.norm(body.points - body.points[number], axis=1) < 15
    first, second = near(100), near(len(free) // 2)
    assert not (first & second).any()
    free[first | second] = True
    body.fill_harmonic(free, second)
    np.testing.assert_array_equal(body.targets[:, first], kept[:, first])
    partly = body.targets[:, second].copy()
    body.fill_harmonic(free)
    np.testing.assert_allclose(body.targets[:, second], partly, atol=1e-5)
    body.targets[:] = kept


def test_strain_measured_in_part_is_that_measured_at_once(body):
    kept = body.targets.copy()
    edges = body.edges
    strain = _Strain(body, edges)
    moved = np.zeros(len(body.points), bool)
    moved[::50] = True
    body.targets[:3, moved] += 1
    strain.measure(np.flatnonzero(moved[edges].any(1)))
    again = _Strain(body, edges)
    np.testing.assert_array_equal(strain.torn, again.torn)
    assert strain.torn.any() and not strain.torn.all()
    for part, whole in zip(strain.excessive, again.excessive):
        np.testing.assert_array_equal(np.sort(part), whole)
    strain.limit()
    after = _Strain(body, edges)
    assert sum(map(len, after.excessive)) < 0.5 * sum(map(len, again.excessive))
    body.targets[:] = kept


def test_parts_follow_the_nearest_skin_by_search_trees_built_once(body):
    skin = FollowedSkin(body, Features(body.face, body.fitted), np.flatnonzero(body.skin))
    points = body.points[::500] + np.array([0, 0, 2.0])
    motion, distance = skin.motion(points)
    apart = np.linalg.norm(body.points[skin.rows] - points[7], axis=1)
    near = apart.argsort()[:8]
    weight = 1 / (apart[near] ** 2 + 0.25 * apart[near[0]] ** 2 + 0.01)
    expected = (weight / weight.sum()) @ body.targets[:, skin.rows[near]]
    np.testing.assert_allclose(motion[:, 7], expected, atol=1e-5)
    assert distance[7] == pytest.approx(apart.min())
    lips, _ = skin.motion_of_lips(points)
    again, _ = skin.motion_of_lips(points[:3])
    np.testing.assert_array_equal(lips[:, :3], again)
    assert len({id(half.tree) for half in skin._lips}) == 2 and skin._lips is skin._lips


def test_the_lips_opening_needs_no_matrix_of_the_whole_mesh(face, bound):
    bound = replace(bound)
    opening = bound.lip_opening_ratio()
    assert "matrix" not in vars(bound) and "_dense_matrix" not in vars(bound)
    jaw = face.weights_to_coordinates[[face.expression_names.index("jawOpen")]]
    opened = bound.vertices(jaw)[0]
    inner = bound.landmarks68[[62, 66]]
    moved = (opened - bound.rest)[inner, 1]
    assert opening > 0.8 and moved[0] - moved[1] > 10
