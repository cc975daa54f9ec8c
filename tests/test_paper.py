"""The paper's tables and figures are made on a made-up corpus of a few seconds, with trainings of a few steps."""

import json
import sys

import numpy as np
import pytest
import torch

import talkemo
from talkemo.paper import pointnet, report, training
from talkemo.paper.figure7 import Roughness
from talkemo.paper.table1 import table1
from talkemo.paper.table2 import table2
from talkemo.train.emotion import EmotionConfig
from talkemo_cli.app import main


@pytest.fixture(scope="module")
def cache(fitted):
    return fitted[0] / "captures"


def suite(name, corpus, cache):
    """The arguments of the command that makes a table or a figure."""
    return ["evaluate", "--suite", name, "--data", str(corpus), "--captures", str(cache)]


@pytest.fixture
def small_generator(monkeypatch):
    """A generator that trains quickly."""
    monkeypatch.setattr(training, "EmotionConfig", lambda: EmotionConfig(batch=4, channels=16, blocks=1))


def test_table_1(corpus, cache, models):
    result = table1(corpus, cache, models, seeds=1, steps=3, corpora=("ravdess",))
    assert [(row["weights"], row["mask"]) for row in result["rows"]] == [
        (weights, mask) for weights in ("constant", "local") for mask in ("mouth landmarks", "lips", "all")
    ]
    assert result["masks"] == {"mouth landmarks": 20, "lips": 2004, "all": 12500}
    assert all(np.isfinite(row[c]["mean"]) for row in result["rows"] for c in ("T-RE", "T-VE", "V-RE", "V-VE"))
    # From the same start, and then another weight.
    constant, local = (next(r for r in result["rows"] if r["weights"] == w) for w in ("constant", "local"))
    assert constant["T-RE"]["mean"] != local["T-RE"]["mean"]
    assert constant["T-RE"]["mean"] == pytest.approx(local["T-RE"]["mean"], rel=0.5)
    assert result["clips"] == {"T": 1, "V": 2} and result["steps"] == 3


def test_table_2(corpus, cache, models, small_generator):
    table = table2(corpus, cache, models, seeds=2, steps=3)
    assert [row["training"] for row in table["rows"]] == ["with augmentation", "without"]
    for row in table["rows"]:
        assert all(0 <= row[c]["mean"] <= 1 for c in ("D-CE", "G-CE", "G-CE classifier"))
        assert row["D-RE"]["mean"] >= 0 and row["G-RE"]["mean"] >= 0 and len(row["G-RE"]["seeds"]) == 2
        assert row["D-RE features"]["mean"] >= 0 and row["G-RE features"]["mean"] > 0
    assert table["iterations"] == 3 and table["generated_frames"] == 3 * 25


def test_figure_6(corpus, cache, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="talkemo[figures] is not installed")
    pytest.importorskip("sklearn", reason="talkemo[figures] is not installed")
    picture = str(tmp_path / "6.png")
    assert main([*suite("figure6", corpus, cache), "-o", picture, "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    assert figure["output"] == picture
    assert -1 <= figure["silhouette_generated"] <= 1 and figure["points_recorded"] > 20
    assert (tmp_path / "6.png").stat().st_size > 10000


def test_figure_7(corpus, cache, small_generator, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="talkemo[figures] is not installed")
    monkeypatch.chdir(tmp_path)
    assert main([*suite("figure7", corpus, cache), "--steps", "3", "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    assert [row["generator"] for row in figure["rows"]] == ["PointNet"] * 3 + ["geometry map"] * 3
    assert all(row["moved_mm"] > 0 for row in figure["rows"])
    assert (tmp_path / "figure7.png").stat().st_size > 10000


def test_tables_and_figures_are_printed(corpus, cache, monkeypatch, capsys):
    value = {"mean": 1.25, "spread": 0.5, "seeds": [1.0, 1.5]}
    row = {"weights": "local", "mask": "lips", **dict.fromkeys(("T-RE", "T-VE", "V-RE", "V-VE"), value)}
    about = {"masks": {"lips": 7, "all": 9}, "clips": {"T": 1, "V": 2}, "steps": 3}
    monkeypatch.setattr("talkemo.paper.table1.table1", lambda **arguments: {**about, "rows": [row]})
    assert main([*suite("table1", corpus, cache), "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "of 2 seeds after 3 steps" in printed and "1.250 ± 0.500" in printed
    row = {"training": "without", **dict.fromkeys(("D-CE", "D-RE", "G-CE", "G-RE", "G-CE classifier"), value)}
    about = {"iterations": 3, "real_frames": 4, "generated_frames": 5, "mask_vertices": 6}
    monkeypatch.setattr("talkemo.paper.table2.table2", lambda **arguments: {**about, "rows": [row]})
    assert main([*suite("table2", corpus, cache), "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "D 4 real frames" in printed and "1.250 ± 0.500" in printed
    row = {"generator": "PointNet", "emotion": "happy", "recognised": 0.5, "roughness_mm": 0.1, "moved_mm": 2.0}
    about = {"iterations": 3, "frames": 4, "output": "figure7.png"}
    monkeypatch.setattr("talkemo.paper.figure7.figure7", lambda **arguments: {**about, "rows": [row]})
    assert main(suite("figure7", corpus, cache)) == 0
    printed = capsys.readouterr().out
    assert "PointNet" in printed and printed.endswith("figure7.png\n")


def test_the_report_is_made_part_by_part(corpus, cache, tmp_path, monkeypatch, capsys, models):
    made = []
    spread = {"mean": 0.5, "spread": 0.1, "seeds": [0.4, 0.6]}
    tables = {
        "table1": {"rows": [{"weights": "local", "mask": "lips", **dict.fromkeys(("T-RE", "T-VE", "V-RE", "V-VE"), spread)}],
                   "masks": {"lips": 2004}, "clips": {"T": 1, "V": 2}, "steps": 3},
        "table2": {"rows": [{"training": "without", "D-CE": spread}], "iterations": 3, "real_frames": 1, "generated_frames": 2},
    }  # fmt: skip
    pictured = {
        "figure6": {"silhouette_recorded": 0.0, "silhouette_generated": 0.5},
        "figure7": {"iterations": 3, "rows": [{"generator": "PointNet", "emotion": "happy", "recognised": 0.5, "roughness_mm": 0.1, "moved_mm": 1.0}]},
    }  # fmt: skip

    def table(name):
        return lambda *_, **__: made.append(name) or tables[name]

    def figure(name):
        return lambda data, cache, models, picture, **_: (
            made.append(name),
            picture.write_bytes(b"png"),
            pictured[name],
        )[2]

    for name in tables:
        monkeypatch.setattr(report, name, table(name))
    for name in pictured:
        monkeypatch.setattr(report, name, figure(name))
    command = [*suite("paper", corpus, cache), "-o", str(tmp_path / "paper")]
    assert main(command) == 0 and made == ["table1", "table2", "figure6", "figure7"]
    page = (tmp_path / "paper" / "report.html").read_text("utf-8")
    assert "0.500 ± 0.100" in page and "the paper, local" in page and "Nobody has answered yet" in page
    for name in ("figure3", "figure4", "figure5"):
        assert (tmp_path / "paper" / f"{name}.png").read_bytes()[1:4] == b"PNG"
    made.clear()
    (tmp_path / "paper" / "figure7.png").unlink()
    assert main(command) == 0 and made == ["figure7"]  # what is there is kept
    (tmp_path / "paper" / "table1.json").write_text("[]")
    assert main(command) == 2 and "not a part of a report" in capsys.readouterr().err


def test_figures_without_matplotlib_say_what_to_install(corpus, cache, models, tmp_path, monkeypatch):
    from talkemo.paper.figure7 import figure7

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(talkemo.TalkemoError, match="not installed") as caught:
        figure7(corpus, cache, models, tmp_path / "7.png")
    assert "talkemo[figures]" in caught.value.hint and not (tmp_path / "7.png").exists()


def test_a_pointnet_moves_the_points_and_nothing_else(face):
    torch.manual_seed(0)
    network = pointnet.new_pointnet(face, 8, 64)
    maps = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        moved = network(maps, torch.eye(8)[:2]).flatten(2)
    outside = torch.ones(64 * 64, dtype=torch.bool)
    outside[network.pixels] = False
    assert moved.shape == (2, 3, 64 * 64) and not moved[:, :, outside].any()
    assert moved[:, :, network.pixels].abs().min() > 0
    # Trained on the points of a smaller map, its weights serve a larger one.
    pointnet.new_pointnet(face, 8).load_state_dict(network.state_dict())


def test_roughness(face):
    smooth = np.ones((2, len(face.mean), 3), np.float32)
    rough = smooth.copy()
    rough[:, ::7, 1] += 1
    roughness = Roughness(face)
    assert roughness(smooth) < 1e-5 and roughness(rough) > 0.1
