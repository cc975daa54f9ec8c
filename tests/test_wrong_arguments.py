"""What commands say of wrong arguments: what is wrong, and what is accepted."""

import pytest

from talkemo import InputError
from talkemo.pipelines.options import ReconstructOptions
from talkemo_cli.app import main


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
