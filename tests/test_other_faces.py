"""A note where a file has two faces and one of them speaks."""

from dataclasses import replace

import numpy as np
import pytest

from talkemo import bind
from talkemo.binding.other_faces import other_face_note
from talkemo.formats.mesh_types import Mesh


def beside(mesh, *others):
    """A mesh and others (points, faces) as one."""
    parts = [(mesh.vertices, mesh.faces), *others]
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    return Mesh(
        np.concatenate([points for points, _ in parts]),
        np.concatenate([faces + k for (_, faces), k in zip(parts, starts)]).astype(np.int32),
    )


def with_mesh(bound, mesh):
    """The binding of the first part of a mesh."""
    return replace(bound, mesh=mesh)


def test_a_second_face_is_named(bound):
    points, faces = bound.mesh.vertices, bound.mesh.faces
    assert other_face_note(bound) is None
    two = beside(bound.mesh, (points * [1.1, 0.95, 1] + np.array([300, 10, 0]), faces))
    assert other_face_note(with_mesh(bound, two)).startswith("another face in the file")
    three = beside(
        bound.mesh, (points + np.array([300, 0, 0]), faces), (points + np.array([0, 500, 0]), faces)
    )
    assert other_face_note(with_mesh(bound, three)).startswith("2 other faces")


@pytest.mark.parametrize("kind", ["ball", "the same place", "small"])
def test_what_is_no_second_face(bound, kind):
    points, faces = bound.mesh.vertices, bound.mesh.faces
    step = np.array([300, 0, 0])
    centre, size = points.mean(0), np.ptp(points, axis=0)
    if kind == "ball":
        other = points - centre
        other = other / np.linalg.norm(other, axis=1, keepdims=True) * size / 2 + centre + step
    elif kind == "small":
        other = (points - centre) * 0.3 + centre + step
    else:
        other = points - np.array([0, 0, 20])
    assert other_face_note(with_mesh(bound, beside(bound.mesh, (other, faces)))) is None


def test_bind_notes_it(bound, models, monkeypatch):
    monkeypatch.setattr("talkemo.pipelines.bind.other_face_note", lambda binding: "another face")
    monkeypatch.setattr("talkemo.pipelines.bind.bind_with_hint", lambda *given: bound)
    assert bind(bound.mesh, models=models).mesh.notes[-1] == "another face"
