"""Eyes that skin closes: they are opened along the lids, alike on both sides, and blink."""

from pathlib import Path

import numpy as np
import pytest
from openings_of_heads import heights, one_skin

from talkemo.binding import bind_mesh, load_binding, save_binding
from talkemo.binding.lid_cut import cut_lids
from talkemo.binding.mouth_edge import edges_of_openings, lid_edge, membranes
from talkemo.formats.gltf_origin import GltfOrigin
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh, MeshAttributes

EYES = (slice(36, 42), slice(42, 48))  # iBUG landmarks
MIRRORED_LANDMARKS = [45, 44, 43, 42, 47, 46]  # of the left eye, in the right eye's order
MAX_GAP_MM = 0.3


def mirrored(points):
    """Points (N, 3) on the other side of the face."""
    return points * [-1, 1, 1]


def symmetric_surface(mesh, step_mm):
    """The mesh as one skin on a coarse grid, of which both sides have the same depth."""
    surface = one_skin(mesh, step_mm)
    depth = {(round(x, 3), round(y, 3)): z for x, y, z in surface.vertices}
    x, y, z = surface.vertices.T
    other = [depth.get((round(-a, 3), round(b, 3)), c) for a, b, c in surface.vertices]
    return Mesh(np.column_stack([x, y, (z + other) / 2]), surface.faces)


def with_webs(binding):
    """A cut mesh with long triangles from lid to lid in place of the surface of its eyes."""
    mesh = binding.shown.mesh
    rest = binding.placement.to_canonical(mesh.vertices)
    openings = edges_of_openings(binding.shown, rest)
    faces = [mesh.faces[~membranes(binding.shown, rest)]]
    for side in (0, 1):
        rim = lid_edge(openings, binding.shown, rest, side)
        rim = np.roll(rim, -int(rest[rim, 0].argmin()))
        first, last = np.arange(len(rim) // 2), -np.arange(len(rim) // 2)
        a, b, c, d = rim[first], rim[first + 1], rim[last], rim[last - 1]
        web = np.concatenate([np.column_stack([b, a, c]), np.column_stack([b, c, d])])
        faces.append(web[(web != np.roll(web, 1, axis=1)).all(1)])
    used, numbered = np.unique(np.concatenate(faces), return_inverse=True)
    return Mesh(mesh.vertices[used], numbered.reshape(-1, 3).astype(np.int32))


@pytest.fixture(scope="module")
def closed(face, example_face):
    """Bindings of masks whose eyes are closed by skin."""
    upright = {"up": "y", "forward": "z"}
    surface = bind_mesh(face, symmetric_surface(load_mesh(example_face), 3.2), **upright)
    return {"surface": surface, "web": bind_mesh(face, with_webs(surface), **upright)}


def posed(binding, **weights):
    """Vertices (N, 3) with blend shapes."""
    coordinates = binding.face.weight_vector(weights) @ binding.face.weights_to_coordinates
    return binding.vertices(coordinates[None])[0]


def lid_heights(binding, vertices):
    """Heights (2, 9) mm of the openings that are drawn of both eyes, from outside inwards."""
    rest = binding.mesh.vertices
    faces = binding.mesh.faces[~membranes(binding, binding.placement.to_canonical(rest))]
    result = []
    for eye, inwards in zip(EYES, (1, -1)):
        lids = rest[binding.landmarks68[eye]]
        middle, half = lids.mean(0), np.ptp(lids[:, 0]) / 2
        window = (lids[:, 1].min() - 4, lids[:, 1].max() + 4)
        ahead = faces[(rest[faces, 2] > lids[:, 2].min() - 6).all(1)]
        planes = middle[0] + inwards * np.linspace(-0.7, 0.7, 9) * half
        result.append(heights(vertices, ahead, planes, window))
    return np.array(result)


@pytest.mark.parametrize("kind", ["surface", "web"])
def test_closed_eyes_open_and_blink(closed, kind):
    binding = closed[kind].shown
    assert lid_heights(binding, binding.mesh.vertices).min() > 3
    for squint in (0.0, 0.5):
        shut = posed(binding, eyeBlink=1.0, eyeSquint=squint)
        assert lid_heights(binding, shut).max() < MAX_GAP_MM


def test_both_sides_of_a_symmetric_mesh_move_alike(closed):
    binding = closed["surface"].shown
    for pose in ({}, {"eyeSquint": 1.0}, {"eyeBlink": 0.5}, {"eyeWide": 0.3}):
        right, left = lid_heights(binding, posed(binding, **pose))
        np.testing.assert_allclose(right, left, atol=0.2)
    landmarks = closed["surface"].mesh.vertices[closed["surface"].landmarks68]
    np.testing.assert_allclose(landmarks[EYES[0]], mirrored(landmarks[MIRRORED_LANDMARKS]))


def test_the_edge_of_a_cut_lid_is_smooth(closed):
    binding = closed["surface"].shown
    rest = binding.placement.to_canonical(binding.mesh.vertices)
    openings = edges_of_openings(binding, rest)
    for side, contour in enumerate(binding.lid_contours):
        edge = rest[lid_edge(openings, binding, rest, side), :2]
        assert len(edge) > 16
        distance = np.linalg.norm(edge[:, None] - dense(contour[:, :2]), axis=2).min(1)
        assert distance.max() < 0.3  # triangles of 3.2 mm without the cut


def dense(polygon):
    """Points along a polygon (P, 2)."""
    steps = np.linspace(0, 1, 20, endpoint=False)[:, None, None]
    return (polygon + steps * (np.roll(polygon, -1, axis=0) - polygon)).reshape(-1, 2)


def test_modelled_lids_are_not_cut(closed):
    binding = closed["web"]
    assert binding.cut is None and binding.lid_contours.any()
    rest = binding.placement.to_canonical(binding.mesh.vertices)
    openings = edges_of_openings(binding, rest)
    assert all(len(lid_edge(openings, binding, rest, side)) > 16 for side in (0, 1))


def test_open_eyes_have_no_sheet(bound):
    assert bound.lid_contours is None


def test_bindings_of_closed_eyes_in_files(closed, face, tmp_path):
    for kind, binding in closed.items():
        path = tmp_path / f"{kind}.npz"
        save_binding(path, binding)
        again = load_binding(path, face, binding.mesh)
        np.testing.assert_array_equal(again.lid_contours, binding.lid_contours)
        np.testing.assert_array_equal(again.shown.mesh.faces, binding.shown.mesh.faces)
        before, after = (
            lid_heights(b.shown, posed(b.shown, eyeBlink=0.4)) for b in (binding, again)
        )
        np.testing.assert_allclose(after, before)


def test_texture_and_colours_go_on_across_cut_lids(closed):
    binding = closed["surface"]
    mesh = binding.mesh
    plane = mesh.vertices[:, :2].astype(np.float32) / 200
    colours = np.repeat((100 + mesh.vertices[:, :1]).round().astype(np.uint8), 3, axis=1)
    attributes = MeshAttributes(uv=plane, uv_faces=mesh.faces, colours=colours)
    origin = GltfOrigin(Path("face.glb"), b"", {}, ()).with_cut(np.array([[3, 4]]), np.array([0.5]))
    dressed = Mesh(mesh.vertices, mesh.faces, attributes, origin=origin)
    everywhere = np.ones(len(mesh.vertices), bool)
    cut = cut_lids(dressed, everywhere, binding.placement, binding.lid_contours)
    added = len(cut.vertices) - len(mesh.vertices)
    assert added > 40
    across = cut.vertices[:, :2] / 200
    np.testing.assert_allclose(
        cut.attributes.uv[cut.attributes.uv_faces], across[cut.faces], atol=1e-5
    )
    np.testing.assert_allclose(cut.attributes.colours[:, 0], 100 + cut.vertices[:, 0], atol=1.1)
    assert len(cut.origin.between) == len(cut.origin.fraction) == 1 + added
    ends = cut.vertices[cut.origin.between[1:]]
    share = cut.origin.fraction[1:, None]
    on_edges = (1 - share) * ends[:, 0] + share * ends[:, 1]
    np.testing.assert_allclose(on_edges, cut.vertices[-added:])
