"""A note where a file has two faces and one of them speaks."""

from dataclasses import replace

import numpy as np
import pytest

from talkemo import bind
from talkemo.binding import FaceHint, load_binding, save_binding
from talkemo.binding.other_faces import count_other_faces, other_faces_note
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
    assert count_other_faces(bound) == 0 and other_faces_note(0) is None
    two = beside(bound.mesh, (points * [1.1, 0.95, 1] + np.array([300, 10, 0]), faces))
    assert count_other_faces(with_mesh(bound, two)) == 1
    assert other_faces_note(1).startswith("another face in the file")
    three = beside(
        bound.mesh, (points + np.array([300, 0, 0]), faces), (points + np.array([0, 500, 0]), faces)
    )
    assert count_other_faces(with_mesh(bound, three)) == 2
    assert other_faces_note(2).startswith("2 other faces")


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
    assert count_other_faces(with_mesh(bound, beside(bound.mesh, (other, faces)))) == 0


def test_bind_notes_it_and_remembers_it(face, bound, models, monkeypatch, tmp_path):
    counted = []
    count = lambda binding: counted.append(binding) or 1
    monkeypatch.setattr("talkemo.binding.other_faces.count_other_faces", count)
    monkeypatch.setattr("talkemo.binding.bind_face.bind_mesh", lambda *given, **named: bound)
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path))
    for _ in range(2):
        assert bind(bound.mesh, models=models).mesh.notes[-1] == other_faces_note(1)
    assert len(counted) == 1
    # A file of an older version does not tell: the faces are counted.
    save_binding(tmp_path / "old.npz", bound)
    again = bind(bound.mesh, hint=FaceHint(binding=tmp_path / "old.npz"), models=models)
    assert again.mesh.notes[-1] == other_faces_note(1) and len(counted) == 2
    save_binding(tmp_path / "new.npz", again)
    assert load_binding(tmp_path / "new.npz", face, bound.mesh).other_faces == 1
