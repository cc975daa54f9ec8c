"""Vertex sequences of other methods, .npy: evaluated, rendered, given an emotion, or refused."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import talkemo
from talkemo import InputError
from talkemo.evaluation.compare import compare, is_folder_of_animations
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.obj import save_obj
from talkemo.formats.registry import open_animation
from talkemo.pipelines.rendering import render
from talkemo_cli.app import main

FPS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory, example_face, short_speech):
    """talk.npz of the example at 10 fps, and its vertices as flat.npy (T, 3·V) and full.npy."""
    folder = tmp_path_factory.mktemp("arrays")
    talkemo.animate(example_face, short_speech, folder / "talk.npz", fps=FPS)
    vertices = NpzAnimation(folder / "talk.npz").vertices()
    np.save(folder / "flat.npy", vertices.reshape(len(vertices), -1))
    np.save(folder / "full.npy", vertices.astype(np.float64))
    return folder


def metrics(result):
    return {(m["name"], m["mask"]): m["value"] for m in result["figures"]}


@pytest.mark.parametrize("name", ["flat.npy", "full.npy"])
def test_an_array_is_read_in_chunks(folder, example_face, name):
    source = open_animation(folder / name, FPS, example_face)
    wanted = NpzAnimation(folder / "talk.npz").vertices()
    assert source.shape == wanted.shape and source.fps == FPS and source.rest is None
    np.testing.assert_array_equal(np.concatenate(list(source.chunks(4))), wanted)
    np.testing.assert_array_equal(source.faces, load_mesh(example_face).faces)


def test_an_array_is_evaluated_as_the_animation_itself(folder, example_face, face):
    talk, flat = folder / "talk.npz", folder / "flat.npy"
    wanted = metrics(compare(talk, talk, face=face, neutral=example_face))
    # The other animation has the mesh and the frame rate.
    assert metrics(compare(flat, talk, face=face, neutral=example_face)) == wanted
    # Two arrays need both.
    both = compare(flat, folder / "full.npy", face=face, neutral=example_face, fps=FPS)
    assert metrics(both) == wanted and both["fps"] == FPS
    with pytest.raises(InputError, match=r"flat\.npy: an array of vertices has no triangles"):
        compare(flat, flat, face=face, fps=FPS)
    with pytest.raises(InputError, match="has no frame rate"):
        compare(flat, flat, face=face, mesh=example_face)
    with pytest.raises(InputError, match="triangles of its own"):
        compare(talk, talk, face=face, mesh=example_face)


def test_folders_of_arrays_are_compared(folder, example_face, tmp_path, capsys):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.npy").symlink_to(folder / "flat.npy")
    assert is_folder_of_animations(tmp_path / "mine")
    arguments = [tmp_path / "mine", tmp_path / "theirs", "--neutral", example_face, "--fps", FPS]
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 1


def test_an_array_is_rendered(folder, example_face, tmp_path):
    look = {"size": 64, "time": 0.5, "heatmap": True}  # no search for the face
    render(folder / "flat.npy", tmp_path / "a.png", mesh=example_face, fps=FPS, **look)
    assert np.array(Image.open(tmp_path / "a.png"), float).std() > 20
    with pytest.raises(InputError, match="no triangles"):
        render(folder / "flat.npy", tmp_path / "c.png", fps=FPS, **look)
    mask = load_mesh(example_face)
    save_obj(tmp_path / "other.obj", mask.vertices, mask.faces[:-1])
    with pytest.raises(InputError, match=r"talk\.npz: its triangles are not those of other\.obj"):
        render(folder / "talk.npz", tmp_path / "c.png", mesh=tmp_path / "other.obj", **look)


def test_an_older_npz_gets_what_is_hidden_from_its_mesh(folder, example_face, tmp_path):
    lines = example_face.read_text().splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("f "))
    lines[first:first] = ["g helper-skirt"]
    lines.insert(first + 8000, "g body")
    (tmp_path / "helpers.obj").write_text("\n".join(lines))
    look = {"size": 64, "time": 0.5, "heatmap": True}  # no search for the face
    drawn = []
    for name, mesh in (("all.png", None), ("seen.png", tmp_path / "helpers.obj")):
        render(folder / "talk.npz", tmp_path / name, mesh=mesh, **look)
        image = np.array(Image.open(tmp_path / name), int)
        drawn.append(np.abs(image - image[:1]).max(2) > 30)
    assert drawn[0].sum() - drawn[1].sum() > 100


def test_an_emotion_is_transferred_to_an_array(folder, example_face, tmp_path):
    arguments = ["transfer", folder / "flat.npy", "--neutral", example_face, "--fps", FPS]
    out = ["--emotion", "happy", "-o", tmp_path / "happy.npz"]
    assert main([*map(str, arguments), *map(str, out)]) == 0
    wanted = tmp_path / "wanted.npz"
    talkemo.transfer(folder / "talk.npz", wanted, emotion="happy", neutral=example_face)
    changed = NpzAnimation(tmp_path / "happy.npz")
    np.testing.assert_allclose(changed.vertices(), NpzAnimation(wanted).vertices(), atol=1e-4)
    assert changed.fps == FPS and changed.meta["source"] == "flat.npy"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3 * 7), np.float32), "has 7 vertices, the mesh"),
        (np.zeros((4, 20), np.float32), "not a sequence of vertices (it is float32 (4, 20))"),
        (np.zeros((4, 7, 2), np.float32), "it is float32 (4, 7, 2)"),
        (np.zeros((4, 21), np.int32), "it is int32 (4, 21)"),
        (np.zeros(21, np.float32), "it is float32 (21,)"),
        (np.zeros((4, 0), np.float32), "it is float32 (4, 0)"),
        (np.asfortranarray(np.zeros((4, 21), np.float32)), "it is in Fortran order"),
        (np.array([{}], object), "an array of object"),
    ],
)
def test_other_arrays_are_refused(example_face, tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        open_animation(tmp_path / "a.npy", FPS, example_face)
    assert "a.npy" in caught.value.message


def test_a_truncated_or_non_finite_array_is_refused(folder, example_face, face, tmp_path):
    content = (folder / "flat.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-10])
    with pytest.raises(InputError, match="claims more than it holds"):
        open_animation(tmp_path / "cut.npy", FPS, example_face)
    vertices = np.load(folder / "flat.npy")
    vertices[3, 5] = np.nan
    np.save(tmp_path / "nan.npy", vertices)
    with pytest.raises(InputError, match="contain NaN or infinity"):
        compare(tmp_path / "nan.npy", folder / "talk.npz", face=face, neutral=example_face)
    for fps in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="frames per second"):
            open_animation(folder / "flat.npy", fps, example_face)
