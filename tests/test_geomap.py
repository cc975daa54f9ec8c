"""The geometry map: geodesics, multidimensional scaling, and the round trip of expressions."""

import numpy as np
import pytest
import trimesh
from conftest import random_weights

from talkemo.face import geometry_map as geometry_map_module
from talkemo.face.canonical import INNER_LIPS
from talkemo.train import map_chart as chart


def test_geodesics_on_a_sphere():
    sphere = trimesh.creation.icosphere(3, radius=10.0)
    points = np.array(sphere.vertices)
    distances = chart.geodesic_distances(points, np.array(sphere.faces))
    true = 10 * np.arccos(np.clip(points @ points.T / 100, -1, 1))
    assert np.abs(distances - true).mean() < 0.03 * true.mean()


def test_geodesics_reach_far():
    """Heat vanishes far from its source; distances must not stop there."""
    x, y = np.meshgrid(np.arange(200.0), np.arange(4.0))
    points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    a = (np.arange(199)[None] + 200 * np.arange(3)[:, None]).ravel()
    faces = np.concatenate(
        [np.stack([a, a + 1, a + 200], 1), np.stack([a + 1, a + 201, a + 200], 1)]
    )
    assert chart.geodesic_distances(points, faces)[0, 199] == pytest.approx(199, rel=0.03)


def test_mds_of_plane_points_is_exact():
    points = np.random.default_rng(0).standard_normal((60, 2)) * [3, 1]
    distances = np.linalg.norm(points[:, None] - points, axis=2).astype(np.float32)
    embedded, stress = chart.classical_mds(distances)
    assert stress < 1e-4
    between = np.linalg.norm(embedded[:, None] - embedded, axis=2)
    np.testing.assert_allclose(between, distances, atol=1e-2)


def test_stress_of_a_scaled_chart_is_zero_and_of_noise_is_not():
    points = np.random.default_rng(1).standard_normal((50, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert chart.mds_stress(3 * points, distances) < 1e-6
    assert chart.mds_stress(points[::-1], distances) > 0.3


def test_chart_is_upright_symmetric_and_open(face):
    points = face.chart
    np.testing.assert_allclose(points[face.mirror] * [-1, 1], points, atol=1e-3)
    assert np.corrcoef(points[:, 1], face.mean[:, 1])[0, 1] > 0.9
    assert np.corrcoef(points[:, 0], face.mean[:, 0])[0, 1] > 0.9
    # The lips touch in space; in the chart the slit between them is a hole.
    upper, lower = face.landmarks68[list(INNER_LIPS)]
    assert np.linalg.norm(face.mean[upper] - face.mean[lower]) < 2
    mask = geometry_map_module.geometry_map(face).mask
    middle = chart.chart_to_pixels(points)[[upper, lower]].mean(0).round().astype(int)
    assert not mask[middle[0], middle[1]]
    assert mask[middle[0] - 10, middle[1]] and mask[middle[0] + 10, middle[1]]
    assert 0 < face.chart_stress < 0.1


def test_round_trip_is_accurate(face):
    """For faces that the tables were not fitted to: random people with random expressions."""
    rng = np.random.default_rng(12345)
    sampling = geometry_map_module.geometry_map(face)
    critical = face.regions["lips"] | face.regions["eyelids"]
    people = face.identity_weights(rng.standard_normal((40, 30)))
    shapes = face.expression_weights(random_weights(face, rng, 40))
    displacement = np.stack([face.vertices(e, p) for e, p in zip(shapes, people)]) - face.mean
    error = np.linalg.norm(sampling.decode(sampling.encode(displacement)) - displacement, axis=2)
    assert error.mean() < 0.1
    assert error[:, critical].max() < 1.0


def test_round_trip_reports_its_errors(face):
    expression = face.expression_weights(random_weights(face, np.random.default_rng(1), 1))[0]
    vertices = face.vertices(expression, face.identity_weights(np.zeros(1)))
    maps, errors = geometry_map_module.round_trip(face, vertices)
    back = face.mean + geometry_map_module.geometry_map(face).decode(maps[None])[0]
    error = np.linalg.norm(back - vertices, axis=1)
    assert errors["round_trip_mean_mm"] == pytest.approx(error.mean(), abs=1e-4)
    assert errors["round_trip_mean_mm"] < 0.1
    assert errors["round_trip_max_mm"] == pytest.approx(error.max(), abs=1e-4)
    assert errors["round_trip_lips_eyelids_max_mm"] < 1.0


def test_a_shift_is_preserved(face):
    sampling = geometry_map_module.geometry_map(face)
    shift = np.broadcast_to(np.float32([1, -2, 3]), (2, len(face.mean), 3))
    np.testing.assert_allclose(sampling.decode(sampling.encode(shift)), shift, atol=2e-3)


def test_maps_are_zero_outside_the_mask(face):
    sampling = geometry_map_module.geometry_map(face)
    maps = sampling.encode(np.ones((1, len(face.mean), 3), np.float32))
    assert (maps[0, :, ~sampling.mask] == 0).all()
    np.testing.assert_allclose(maps[0][:, sampling.mask], 1, atol=1e-5)
