"""The examples do what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_quickstart(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"](tmp_path)
    printed = capsys.readouterr().out
    assert "refused: unknown emotion 'bored'" in printed and "arrays: 60 frames" in printed
    made = {path.name for path in tmp_path.iterdir()}
    assert {
        "happy.npz",
        "happy.glb",
        "happy.csv",
        "face.binding.npz",
        "timeline.npz",
        "angry.npz",
    } <= made


def test_every_python_file_of_the_examples_is_shown_to_the_type_checker():
    settings = (EXAMPLES.parent / "pyproject.toml").read_text("utf-8")
    assert '"examples"' in settings[settings.index("[tool.mypy]") :]
