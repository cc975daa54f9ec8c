"""The examples run and write their files."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_quickstart(tmp_path, capsys):
    runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"](tmp_path)
    printed = capsys.readouterr().out
    assert "refused: unknown emotion 'bored'" in printed and "arrays: 60 frames" in printed
    written = {path.name for path in tmp_path.iterdir()}
    assert {
        "happy.npz",
        "happy.glb",
        "happy.csv",
        "face.binding.npz",
        "timeline.npz",
        "angry.npz",
    } <= written


def test_the_examples_are_type_checked():
    settings = (EXAMPLES.parent / "pyproject.toml").read_text("utf-8")
    assert '"examples"' in settings[settings.index("[tool.mypy]") :]
