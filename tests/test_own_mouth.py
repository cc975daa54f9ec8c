"""The mouth of a head whose skin goes on behind its lips, and whose teeth are MakeHuman's helpers."""

from dataclasses import dataclass

import numpy as np
import pytest

from talkemo.binding import Binding, bind_mesh
from talkemo.binding.fill import fill_of
from talkemo.formats.groups import vertex_groups
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.render.appearance import appearance_of
from talkemo.render.own_mouth import inside_of_mouth
from talkemo.render.textures import SWATCH_PIXELS, part_texels

HELPERS = {"teeth": "helper-upper-teeth", "tongue": "helper-tongue"}


@dataclass
class Head:
    """A bound head with a socket joined with its skin, and the vertices of its parts."""

    binding: Binding
    skin_faces: np.ndarray
    rows: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def head(face, bound, tmp_path_factory):
    """The example with the parts of the face model as its own, in groups that MakeHuman has."""
    fill = fill_of(bound, bound.face.anatomy)
    count = len(bound.mesh.vertices)
    own = count + np.arange(len(fill.points))
    own[fill.edge_rows] = fill.edge
    socket = own[fill.faces["mouth"]]
    skin_faces = np.concatenate([bound.mesh.faces, socket])
    rows = {"socket": np.setdiff1d(socket, fill.edge)}
    path = tmp_path_factory.mktemp("own_mouth") / "head.obj"
    points = np.concatenate([bound.mesh.vertices, fill.points])
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    groups = {"body": skin_faces}
    for name, group in HELPERS.items():
        groups[group] = own[fill.faces[name]]
        rows[name] = np.unique(groups[group])
    for name, faces in groups.items():
        lines += [f"g {name}", *("f {} {} {}".format(*triangle) for triangle in faces + 1)]
    path.write_text("\n".join(lines))
    return Head(bind_mesh(face, load_mesh(path)), skin_faces, rows)


def test_helper_teeth_are_hidden_and_others_take_their_place(head):
    binding = head.binding
    groups = vertex_groups(binding.mesh.attributes, len(binding.mesh.vertices))
    hidden = np.concatenate([head.rows["teeth"], head.rows["tongue"]])
    assert {*groups[hidden]} == {"hidden"} and {*groups[head.rows["socket"]]} == {"skin"}
    assert not binding.has_teeth and binding.parts["hidden"] == len(hidden)
    assert {"teeth", "gums", "tongue"} <= fill_of(binding, binding.face.anatomy).faces.keys()
    drawn = appearance_of(binding)
    assert not np.isin(drawn.vertex, hidden).any()


def test_hidden_teeth_still_follow_skull_and_jaw(head):
    binding = head.binding
    weights = binding.face.weight_vector({"jawOpen": 0.8})[None]
    opened = binding.vertices(weights @ binding.face.weights_to_coordinates)[0]
    moved = np.linalg.norm(opened - binding.rest, axis=1) / binding.scale
    assert np.median(moved[head.rows["tongue"]]) > 5


def test_a_pocket_of_the_skin_is_drawn_as_the_inside_of_a_mouth(head):
    drawn, socket = appearance_of(head.binding), head.rows["socket"]
    depth = head.binding.placement.to_canonical(head.binding.mesh.vertices)[:, 2]
    deep = socket[depth[socket] < depth[socket].max() - 20]
    of_deep = np.isin(drawn.vertex, deep)
    column = part_texels("mouth", np.zeros(1))[0, 0] + SWATCH_PIXELS  # in the second swatch
    assert of_deep.sum() >= len(deep)
    np.testing.assert_allclose(drawn.place[of_deep, 0], column)
    assert np.isin(np.flatnonzero(of_deep), drawn.mouth).all()  # dark between closed lips


def test_only_what_lies_behind_the_lips_is_inside(head, bound):
    rest = head.binding.placement.to_canonical(head.binding.mesh.vertices)
    landmarks = rest[head.binding.landmarks68]
    inside = inside_of_mouth(rest, head.skin_faces, landmarks)
    of_mask = rest[np.flatnonzero(inside[: len(bound.mesh.vertices)])]  # inner sides of its lips
    lips = landmarks[48:60]
    assert (of_mask[:, :2] > lips.min(0)[:2]).all() and (of_mask[:, :2] < lips.max(0)[:2]).all()
    assert of_mask[:, 2].max() < landmarks[60:68, 2].max() - 3
    assert inside[head.rows["socket"]].mean() > 0.8
    bare = Mesh(bound.mesh.vertices, bound.mesh.faces)
    rest = bound.placement.to_canonical(bare.vertices)
    assert not inside_of_mouth(rest, bare.faces, rest[bound.landmarks68]).any()
