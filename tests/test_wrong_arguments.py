"""What commands say of wrong arguments: what is wrong, and what is accepted."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.audio import recording
from talkemo.pipelines.options import ReconstructOptions
from talkemo_cli.app import main
from talkemo_cli.facts import animation_facts


@pytest.fixture
def refused(capsys):
    """Run a command that is refused; returns its message and its hint."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        message, hint = err.splitlines()
        assert not out and message.startswith("talkemo: ")
        return message.removeprefix("talkemo: "), hint.strip()

    return run


# -------------------------------------------------------------------------------- numbers and empty


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("animate f.obj s.wav --fps 25fps", "--fps '25fps': not a number", "such as --fps 60;"),
        ("animate f.obj s.wav --fps=25fps", "--fps '25fps': not a number", "without a unit"),
        ("animate f.obj s.wav --seed 1.5", "--seed '1.5': not a whole number", "such as --seed 0;"),
        ("reconstruct v.mp4 -o a.npz --fov 60deg", "--fov '60deg': not a number", "such as --fov"),
        ("render a.npz --time 1s -o a.png", "--time '1s': not a number", "such as --time"),
        ("animate f.obj s.wav --timeline @", "--timeline is empty", "name a file"),
        ("animate f.obj s.wav --timeline=", "--timeline is empty", "name a file"),
        ("animate f.obj s.wav --intensity 1 -o @", "-o is empty", "name a file"),
        ("animate @ s.wav", "an argument is empty", "name a file"),
        ("animate f.obj s.wav --size @", "--size without a value: not a size", "512 or 1280x720"),
        ("animate f.obj s.wav --emotion happy,", "'happy,': the name of an emotion", "choose from"),
        (
            "reconstruct v.mp4 -o a.npz --rest @",
            "--rest '': neither a number",
            "such as --rest 0.4",
        ),
        ("reconstruct v.mp4 -o a.npz --rest 0.4s", "--rest '0.4s': neither", "such as --rest 0.4"),
        ("reconstruct v.mp4 -o a.npz --rest 0:04", "--rest '0:04': neither", "seconds"),
    ],
)
def test_values_that_cannot_be_read_are_named(refused, arguments, message, hint):
    found = refused(*(part.replace("@", "") for part in arguments.split(" ")))
    assert found[0].startswith(message) and hint in found[1]


def test_a_caption_may_be_empty(refused, tmp_path):
    message, _ = refused("render", tmp_path / "a.npz", "--caption", "", "-o", tmp_path / "a.png")
    assert "no such animation" in message


def test_a_file_may_be_named_like_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "4s").write_bytes(b"")
    assert str(ReconstructOptions(rest="4s").resting) == "4s"
    assert ReconstructOptions(rest="0.5").resting == 0.5
    assert str(ReconstructOptions(rest="me.png").resting) == "me.png"
    with pytest.raises(InputError, match="neither a number"):
        ReconstructOptions(rest="5 s")


# --------------------------------------------------------------------------------------- wrong kinds


@pytest.fixture
def odd(tmp_path, example_face):
    """A folder of files that are empty, or hold something else than their names say."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    wav = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(range(256))
    obj = example_face.read_bytes()[:400]
    for name, content in (("png", png), ("wav", wav), ("obj", obj), ("empty", b"")):
        for ending in "obj glb wav mp3 mp4 png npz npy csv txt json".split():
            (tmp_path / f"{name}.{ending}").write_bytes(content)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message", "accepted"),
    [
        ("bind png.obj", "png.obj: not a readable mesh, its content is a png image", ".obj, .ply"),
        ("bind wav.obj", "wav.obj: not a readable mesh, its content is a wav recording", ".glb"),
        ("bind obj.glb", "obj.glb: not a readable mesh, its content is text", ".glb"),
        ("bind empty.glb", "empty.glb: not a readable mesh, it is empty", ".glb"),
        ("bind wav.wav", "wav.wav: a recording, not a mesh", "talkemo reads .obj"),
        ("bind folder", "folder is a folder, not a mesh file", "talkemo reads .obj"),
        (
            "emotion obj.wav",
            "obj.wav: not an audio file that can be read, its content is text",
            "mp3",
        ),
        ("emotion empty.mp3", "empty.mp3: not an audio file that can be read, it is empty", "mp3"),
        ("emotion png.mp4", "png.mp4: not an audio file that can be read, its content", "m4a"),
        (
            "transfer obj.npz --emotion sad",
            "obj.npz: not an animation of talkemo, its",
            "name another",
        ),
        (
            "transfer obj.obj --emotion sad",
            "obj.obj: a mesh, not an animation",
            "talkemo bind MESH",
        ),
        ("render wav.wav -o a.png", "wav.wav: a recording, not an animation", ".npz"),
        ("reconstruct folder -o a.npz", "folder is a folder, not a video, an", "--corpus folder"),
        ("reconstruct obj.obj -o a.npz", "obj.obj: a mesh, not a video, an image", ".mp4, .mpg"),
        ("reconstruct none -o a.npz", "none: no such file", "check the path"),
        ("reconstruct wav.npy -o a.npz", "wav.npy: not a file of landmarks, its", "68 points"),
        (
            "reconstruct wav.png -o a.npz",
            "wav.png: not an image that can be read, its",
            "jpg and png",
        ),
        ("reconstruct png.mp4 -o a.npz", "png.mp4: not a video that can be read, its", "mkv, webm"),
        ("reconstruct empty.mp4 -o a.npz", "empty.mp4: not a video that can be read, it is", "mkv"),
    ],
)
def test_a_wrong_kind_of_file_is_named_with_what_is_accepted(
    refused, odd, monkeypatch, command, message, accepted
):
    monkeypatch.chdir(odd)
    found, hint = refused(*command.split())
    assert found.startswith(message) and accepted in hint


def test_an_animation_is_not_landmarks(refused, tmp_path):
    arrays = {"vertices": np.zeros((2, 9, 3)), "faces": np.zeros((1, 3), int), "fps": 30.0}
    np.savez(tmp_path / "talk.npz", **arrays)
    message, hint = refused("reconstruct", tmp_path / "talk.npz", "-o", tmp_path / "a.npz")
    assert "talk.npz: an animation of talkemo, not landmarks" in message
    assert "talkemo transfer" in hint


def test_an_empty_standard_input_is_not_called_a_file(refused, monkeypatch, tmp_path):
    stdin = SimpleNamespace(closed=False, buffer=io.BytesIO())
    stdin.buffer.isatty = lambda: False
    monkeypatch.setattr(sys, "stdin", stdin)
    recording._copy_of_stdin.cache_clear()
    message, hint = refused("emotion", "-")
    assert message == "stdin: not an audio file that can be read, it is empty"
    assert "name another file" not in hint and "wav" in hint


def test_a_name_without_an_ending_is_said_to_be_a_folder(tmp_path):
    result = talkemo.Result([tmp_path / "talk"], 2, 30.0, 0.1, 0.0)
    assert any("a folder with a mesh per frame" in fact for fact in animation_facts(result))


def test_what_looks_odd_and_is_right_is_read(odd, monkeypatch):
    from talkemo.files.content import other_content

    assert other_content(b"RIFF\0\0\0\0WAVE", "a.wav") == ""
    assert other_content(b"v 1 2 3\n", "a.obj") == "" == other_content(b"\x00\x01", "a.stl")
    assert other_content("grüße ".encode() * 20, "a.npz")[:30] == "its content is text"
    assert "git lfs pull" in other_content(b"version https://git-lfs.github.com/spec/v1", "a.npz")


@pytest.mark.parametrize("name", ["png.txt", "wav.csv", "empty.json"])
def test_a_wrong_timeline_is_named(odd, name):
    from talkemo import Timeline

    with pytest.raises(InputError, match=r"not a timeline, (its content is a|it is empty)"):
        Timeline.read(odd / name)
