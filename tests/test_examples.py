"""The examples run and write their files."""

import runpy
from pathlib import Path

import numpy as np
from PIL import Image

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


def test_the_poster_loops_and_is_small(tmp_path, capsys):
    poster = runpy.run_path(str(EXAMPLES / "poster.py"))
    width, height = poster["TILE_SIZE"]
    row = np.linspace(0, 200, width) + 8 * np.arange(6)[:, None]  # a gradient that brightens
    video = np.repeat(np.repeat(row.astype(np.uint8)[:, None], height, 1)[..., None], 3, 3)
    frames = poster["poster_frames"]([poster["looped"](video)] * 8, list("abcdefgh"))
    target = tmp_path / "made" / "poster.webp"
    poster["save_poster"](target, frames)
    for path in (target, EXAMPLES.parent / "docs" / "poster.webp"):
        assert path.stat().st_size <= poster["MAX_POSTER_BYTES"]
        with Image.open(path) as image:
            assert image.info["loop"] == 0 and image.n_frames > 3
            assert image.size == (4 * width, 2 * height)
    first, last = (video[k].astype(float) for k in (0, -1))
    faded = poster["looped"](video)[-1]
    assert np.abs(faded - first).mean() < 0.4 * np.abs(last - first).mean()


def test_the_examples_are_type_checked():
    settings = (EXAMPLES.parent / "pyproject.toml").read_text("utf-8")
    assert '"examples"' in settings[settings.index("[tool.mypy]") :]
