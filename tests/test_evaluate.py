"""Comparison of animations, metrics of models on a synthetic corpus, and messages for bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import talkemo
from talkemo import InputError
from talkemo.data.phones import Phone
from talkemo.evaluation import emotion, lips, map_error, plots
from talkemo.evaluation.actors import ActorChanges
from talkemo.evaluation.classification_error import emotion_class
from talkemo.evaluation.compare import _metrics_at_phones, compare, compare_folders, compare_pair
from talkemo.evaluation.metrics import PAPER_MASK, Comparison
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.obj import save_obj
from talkemo_cli.app import main


@pytest.fixture
def one_corpus(monkeypatch):
    """The suites use ravdess alone, and few faces for the round trip."""
    monkeypatch.setattr(emotion, "EMOTION_CORPORA", ("ravdess",))
    monkeypatch.setattr(map_error, "ROUND_TRIP_FACES", 20)


@pytest.fixture(scope="module")
def animations(tmp_path_factory, example_face, short_speech):
    """A folder with the example, neutral.npz and happy.npz at 20 fps and fast.npz at 40."""
    folder = tmp_path_factory.mktemp("animations")
    binding = talkemo.bind(example_face, cache=False)
    for name, fps in (("neutral", 20), ("happy", 20), ("fast", 40)):
        spoken = name if name in talkemo.EMOTIONS else "neutral"
        talkemo.animate(binding, short_speech, folder / f"{name}.npz", emotion=spoken, fps=fps)
    return folder


@pytest.fixture
def balls(tmp_path, monkeypatch):
    """A moving ball as ball.npz, and a still one as a folder of meshes. It has no face."""

    def no_face(*arguments):
        raise InputError("no face found", "give its position")

    monkeypatch.setattr("talkemo.binding.bind_mesh", no_face)  # the real search takes seconds
    ball = trimesh.creation.icosphere(2)
    rest, faces = np.array(ball.vertices, np.float32), np.array(ball.faces, np.int32)
    vertices = np.stack([rest + np.array([0, height, 0], np.float32) for height in (0, 1, 3)])
    np.savez(tmp_path / "ball.npz", vertices=vertices, faces=faces, fps=24.0)
    folder = tmp_path / "balls"
    folder.mkdir()
    for number in range(3):
        save_obj(folder / f"{number}.obj", rest, faces)
    return folder, tmp_path / "ball.npz"


def by_name(result):
    """The metrics of a comparison by name and mask."""
    return {(metric["name"], metric["mask"]): metric for metric in result["figures"]}


def test_a_pair(animations, example_face, face):
    neutral, happy = animations / "neutral.npz", animations / "happy.npz"
    result = compare(happy, neutral, neutral=example_face, face=face)
    metrics = by_name(result)
    p, g = (NpzAnimation(path).vertices() for path in (happy, neutral))
    # The example is in centimetres: lengths are in the canonical face's millimetres.
    scale = result["mm_a_mesh_unit"]
    by_hand = np.linalg.norm(p - g, axis=2).mean() * scale
    assert abs(metrics["RE", "all"]["value"] - by_hand) < 1e-3 * by_hand
    assert metrics["RE", "all"]["unit"] == "mm" and metrics["RE", "all"]["vertices"] == 12500
    assert 1500 < metrics["LVE", "lips"]["vertices"] < 2500
    assert metrics["LVE", "lips"]["value"] > metrics["RE", "lips"]["value"] > 0
    assert metrics["r opening", "mouth opening"]["value"] > 0.8
    names = {metric["name"] for metric in result["figures"]}
    assert {"VE", "LVE²", "EVE", "MVE", "FDD", "|FDD|", "r width", "amplitude"} <= names


def test_the_papers_mask_is_ibugs_20_landmarks_of_the_mouth(animations, bound, face):
    neutral, happy = animations / "neutral.npz", animations / "happy.npz"
    result = compare(happy, neutral, face=face)
    metrics = by_name(result)
    p, g = (NpzAnimation(path).vertices() for path in (happy, neutral))
    rows = bound.landmarks68[48:68]
    re = np.linalg.norm(p[:, rows] - g[:, rows], axis=2).mean() * result["mm_a_mesh_unit"]
    assert metrics["RE", PAPER_MASK]["value"] == pytest.approx(re, rel=1e-3)
    assert metrics["RE", PAPER_MASK]["vertices"] == 20 == metrics["VE", PAPER_MASK]["vertices"]
    assert metrics["VE", PAPER_MASK]["unit"] == "mm a frame"


def test_an_animation_and_itself(animations, face):
    neutral = animations / "neutral.npz"
    result = compare(neutral, neutral, face=face)
    assert all(abs(f["value"]) < 1e-6 for f in result["figures"] if f["unit"])
    assert result["classification_error"]["value"] is None


def ce(result):
    """CE of a comparison, which is given twice."""
    metric = by_name(result)["CE", "canonical face"]
    assert metric["unit"] == "share" and metric["vertices"] == 12500
    assert metric["value"] == result["classification_error"]["value"]
    return metric["value"]


def test_ce_is_low_for_the_emotion_shown_and_high_for_another(animations, models):
    neutral, happy = animations / "neutral.npz", animations / "happy.npz"
    judge = {"face": models.face, "discriminator": models.discriminator}
    shown = compare(happy, happy, **judge)
    assert shown["classification_error"]["emotion"] == "happy"
    assert ce(shown) < 0.1
    assert ce(compare(neutral, neutral, emotion="happy", **judge)) > ce(shown)
    assert ce(compare(happy, neutral, emotion="angry", **judge)) > 0.9
    assert ce(compare(neutral, happy, **judge)) < 0.5


def test_ce_is_the_share_of_frames_with_another_class(animations, models):
    """A judge that sees every frame but the first as happy."""

    class Judge(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parameter = torch.nn.Parameter(torch.zeros(1))
            self.frames = 0

        def logits(self, maps):
            classes = torch.full((len(maps),), talkemo.EMOTIONS.index("happy"))
            if self.frames == 0:
                classes[0] = talkemo.EMOTIONS.index("sad")
            self.frames += len(maps)
            return torch.eye(len(talkemo.EMOTIONS))[classes]

    happy = animations / "happy.npz"
    result = compare(happy, happy, face=models.face, discriminator=Judge())
    assert ce(result) == pytest.approx(1 / result["frames"])


def test_the_class_of_an_animation():
    assert emotion_class({"emotion": "happy"}) == "happy"
    assert emotion_class({"emotion": "sad"}, "joy") == "happy"
    for meta in ({}, {"timeline": "a.txt"}, {"emotion": "happy:0.6,sad:0.4"}, {"emotion": "bored"}):
        with pytest.raises(InputError):
            emotion_class(meta)


def test_meshes_without_a_face_are_compared_in_their_own_unit(balls, face):
    """A folder of meshes gets the other's fps, and a ball has only RE and VE."""
    result = compare(*balls, face=face)
    metrics = by_name(result)
    assert set(metrics) == {("RE", "all"), ("VE", "all")} and result["mm_a_mesh_unit"] is None
    assert result["fps"] == 24 and metrics["RE", "all"]["unit"] == "mesh units"
    assert metrics["RE", "all"]["value"] == pytest.approx(4 / 3, abs=1e-5)
    assert metrics["VE", "all"]["value"] == pytest.approx(3 / 2, abs=1e-5)


def test_a_missing_ce_is_explained(balls, animations, tmp_path, capsys):
    folder, ball = map(str, balls)
    assert main(["evaluate", folder, ball, "--emotion", "happy"]) == 0
    printed = capsys.readouterr()
    assert "CE is left out: no face was found in the mesh" in printed.err
    assert " CE " not in printed.out and "RE" in printed.out
    assert main(["evaluate", folder, ball, "--emotion", "happy", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    reason = "no face was found in the mesh"
    assert result["classification_error"] == {"value": None, "emotion": None, "reason": reason}


def test_without_a_single_emotion_there_is_no_ce(animations, capsys):
    neutral = str(animations / "neutral.npz")
    assert main(["evaluate", neutral, neutral, "--emotion", "happy:0.6,sad:0.4"]) == 0
    printed = capsys.readouterr()
    assert "not one of the discriminator's classes" in printed.err and " CE " not in printed.out
    assert main(["evaluate", neutral, neutral, "--emotion", "bored"]) == 2
    assert "unknown emotion 'bored'" in capsys.readouterr().err


def test_the_command_prints_a_table_or_json(animations, tmp_path, capsys):
    neutral, happy = str(animations / "neutral.npz"), str(animations / "happy.npz")
    (tmp_path / "chin.txt").write_text("0, 5\n7")
    table_and_csv = ["--mask", str(tmp_path / "chin.txt"), "-o", str(tmp_path / "m.csv")]
    assert main(["evaluate", happy, neutral, *table_and_csv]) == 0
    table = capsys.readouterr().out
    assert "chin.txt" in table and "mm a frame" in table and "lips" in table and " CE " in table
    rows = {
        (r["metric"], r["mask"]): r
        for r in csv.DictReader((tmp_path / "m.csv").open(encoding="utf-8"))
    }
    assert rows["CE", "canonical face"]["unit"] == "share"
    assert rows["RE", PAPER_MASK]["vertices"] == "20" and rows["VE", "chin.txt"]["vertices"] == "3"
    assert main(["evaluate", happy, neutral, "--weights", "default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 30


def test_unusable_input_is_refused(animations, tmp_path, capsys):
    slow, fast = animations / "neutral.npz", animations / "fast.npz"
    (tmp_path / "mask.txt").write_text("1 2 99999999")
    (tmp_path / "lips").write_text("1 2")
    (tmp_path / PAPER_MASK).write_text("1 2")
    with np.load(slow) as file:
        arrays = dict(file)
    arrays["vertices"][3, 5] = np.nan
    np.savez(tmp_path / "broken.npz", **arrays)
    np.savez(tmp_path / "short.npz", **{**arrays, "vertices": arrays["vertices"][:1]})
    on_data = ("--data", tmp_path)
    for arguments, why in (
        ((slow, fast), "frames per second"),
        ((slow, tmp_path / "none.npz"), "no such animation"),
        ((slow,), "PRED and REF"),
        ((slow, slow, "--mask", tmp_path / "none.txt"), "no such mask file"),
        ((slow, slow, "--mask", tmp_path / "mask.txt"), "vertex numbers"),
        ((slow, slow, "--mask", tmp_path / "lips"), "another mask has this name"),
        ((slow, slow, "--mask", tmp_path / PAPER_MASK), "another mask has this name"),
        ((slow, slow, "--weights", tmp_path / "none"), "no such set of weights"),
        ((slow, tmp_path / "short.npz"), "1 frames in common"),
        ((slow, tmp_path / "broken.npz"), "NaN or infinity"),
        ((slow, slow, *on_data), "belongs to a --suite"),
        ((slow, slow, "--against", "default"), "belongs to the suite dev"),
        ((slow, slow, "--steps", 3), "--steps belongs to"),
        ((slow, slow, "--suite", "dev"), "not both"),
        (("--suite", "dev", "--neutral", slow), "belongs to PRED and REF"),
        (("--suite", "dev", *on_data, "--emotion", "happy"), "belongs to PRED and REF"),
        (("--suite", "dev", *on_data, "--weights", tmp_path), "no weights in it"),
        (("--suite", "dev", *on_data, "--against", tmp_path / "none"), "no such set of weights"),
        (("--suite", "dev", "--data", tmp_path / "none"), "no such folder of corpora"),
        (("--suite", "dev", *on_data, "--captures", slow), "is not a folder"),
        (("--suite", "dev", *on_data, "--seeds", 2), "--seeds belongs to"),
        (("--suite", "table9"), "unknown suite"),
        (("--suite", "table1"), "--data is needed"),
        (("--suite", "table1", *on_data, "--weights", tmp_path), "trains its own models"),
        (("--suite", "table1", *on_data, "--against", tmp_path), "belongs to the suite dev"),
        (("--suite", "table2", *on_data, "-o", tmp_path / "a.png"), "-o belongs to"),
        (("--suite", "figure7", *on_data, "-o", tmp_path / "a.gif"), "cannot write"),
        (("--suite", "figure6", *on_data, "-o", tmp_path / "none" / "a.png"), "no such folder"),
    ):
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        message = capsys.readouterr().err
        assert why in message and len(message.splitlines()) == 2, (arguments, message)


def test_closing_frames_are_those_of_the_alignment(tmp_path):
    """Lips close at the beginning of bin, and at the end of the letter m; blue has no frames."""
    (tmp_path / "a.align").write_text(
        "0 25000 sil\n25000 37500 bin\n37500 50000 at\n50000 62500 m\n250000 260000 blue\n"
    )
    times = np.arange(0, 3, 0.04)
    opening = np.ones(len(times))
    opening[[25, 62]] = 0  # 1.00 s and 2.48 s
    assert lips.closing_frames(tmp_path / "a.align", times, opening) == [25, 62]


def on_corpus(corpus, fitted, *arguments):
    """Arguments of the command on the corpus and its captures."""
    captures = fitted[0] / "captures"
    return ["evaluate", "--data", str(corpus), "--captures", str(captures), *map(str, arguments)]


def test_the_dev_suite(corpus, fitted, one_corpus, capsys):
    assert main(on_corpus(corpus, fitted, "--suite", "dev", "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = result["lips"]["corpora"]
    assert row["corpus"] == "ravdess" and row["clips"] == 2 and "closures" not in row
    assert row["re_mm"] > 0 and row["re_still_mm"] > 0 and -1 <= row["r_opening"] <= 1
    (emotions,) = result["emotions"]
    rows = {row["emotion"]: row for row in emotions["emotions"]}
    assert set(rows) == set(talkemo.EMOTIONS) - {"surprised"}  # the dev actor's was rejected
    assert rows["neutral"]["moved_mm"] == 0 and rows["happy"]["moved_mm"] > 0.1
    assert rows["neutral"]["acceleration"] == 1 and rows["calm"]["real_four"] is None
    assert rows["happy"]["generated_four"] > 0.5 and 0 < rows["happy"]["identity_mm"] < 3
    assert result["map"]["faces"] == 20 and 0 < result["map"]["round_trip_mean_mm"] < 0.2
    poses, actors = emotions["prototypes"]
    assert poses["prototypes"] == "poses" and actors["prototypes"] == "ravdess"
    assert poses["generated"]["by_emotion"]["happy"] == [1, 1] and poses["actors"] is None
    assert actors["actors"]["of"] > actors["generated"]["of"] > 0
    matrix = emotions["confusion"]["four"]
    counts = matrix["generated"][matrix["emotions"].index("happy")]
    share = counts[matrix["classes"].index("happy")] / sum(matrix["generated"][0])
    assert share == pytest.approx(rows["happy"]["generated_four"])


def test_actors_are_recognised_by_each_other_however_wide_they_open_their_mouths(face):
    rng = np.random.default_rng(0)
    shown = {"happy": {"mouthSmile": 0.5}, "sad": {"browInnerUp": 0.4}, "angry": {"browDown": 0.4}}
    shouts = lambda: {"jawOpen": rng.uniform(-0.2, 0.4), "eyeBlink": rng.uniform(-0.2, 0.2)}
    actors = ActorChanges(
        {
            f"actor {k}": {
                name: face.weight_vector({**weights, **shouts()}) for name, weights in shown.items()
            }
            for k in range(6)
        }
    )
    assert actors.held_out(face).as_json() == {
        "right": 18,
        "of": 18,
        "by_emotion": {name: [6, 6] for name in shown},
    }
    judge = actors.judge(face)
    wide_smile = face.weight_vector({"mouthSmile": 1.0, "jawOpen": 0.5})
    assert judge.nearest(wide_smile @ face.weights_to_coordinates) == "happy"
    assert set(actors.prototypes(without="actor 0")) == set(shown)
    assert ActorChanges({}).judge(face) is None
    # The mean of neutral frames is subtracted; an actor without any is left out.
    assert ActorChanges.of_recordings([]).changes == {}


def test_the_metrics_of_a_split_are_written_as_a_csv_and_plotted(
    corpus, fitted, one_corpus, tmp_path, capsys
):
    pytest.importorskip("matplotlib")
    recordings = [
        r
        for r in fitted[1]
        if r.emotion in ("neutral", "calm") and r.split == "train" and not r.rejected
    ]
    # In the synthetic corpus the lips close in every gap of the tone, a sine of 9 radians a second.
    closed = np.arange(1, 3) * 2 * np.pi / 9 - np.pi / 18
    phones = [
        [p, start, end]
        for t in closed
        for p, start, end in (("AA", t - 0.3, t - 0.04), ("B", t - 0.04, t + 0.04))
    ]
    (tmp_path / "phones.json").write_text(json.dumps({r.name: phones for r in recordings}))
    with_phones = ("--phones", tmp_path / "phones.json")
    train = on_corpus(corpus, fitted, "--split", "train", *with_phones)
    assert main([*train, "-o", str(tmp_path / "train.csv"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["lips"]["corpora"]
    captured = row["phones"]["captured"]
    assert row["clips"] == len(recordings) and captured["spoken"] == 2 * len(recordings)
    assert captured["recall"] > 0.9
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    values = {(r["model"], r["emotion"], r["metric"]): r["value"] for r in rows}
    about = {
        (r["model"], r["emotion"], r["metric"]): (r["unit"], r["mask"], r["count"]) for r in rows
    }
    assert about["talking", "neutral", "re_mm"] == ("mm", "lips", str(len(recordings)))
    recall = "talking", "neutral", "captured recall"
    assert about[recall] == ("share", "lips", str(2 * len(recordings)))
    right, wrong = (float(values["emotion", "happy", f"{c}generated_four"]) for c in ("", "CE "))
    assert right + wrong == pytest.approx(1)
    assert int(about["emotion", "happy", "generated_four"][2]) > 20
    assert values["emotion", "calm", "real_four"] == ""
    assert float(values[recall]) == captured["recall"]
    assert float(values["talking", "neutral", "r_opening"]) == row["r_opening"]
    assert ("emotion", "happy", "generated_discriminator") in values
    assert values["emotion", "happy", "nearest prototype of poses"] == "1.0"
    on_split = on_corpus(corpus, fitted, "--split")
    assert main([*on_split, "dev", "-o", str(tmp_path / "confusion.png")]) == 0
    image = np.array(Image.open(tmp_path / "confusion.png").convert("RGB"))
    assert image.shape[1] > 1000 and len(np.unique(image.reshape(-1, 3), axis=0)) > 100
    capsys.readouterr()
    assert main([*on_split, "test"]) == 2
    assert "choose from dev, train" in capsys.readouterr().err
    assert main([*on_split, "others"]) == 2 and "unknown split" in capsys.readouterr().err
    (tmp_path / "phones.json").write_text('{"a": [["B"]]}')
    assert main(train) == 2
    assert "aligned phones" in capsys.readouterr().err


def test_two_sets_are_measured_against_each_other(corpus, fitted, one_corpus, monkeypatch, capsys):
    monkeypatch.setattr(emotion, "EMOTION_CORPORA", ())
    assert main(on_corpus(corpus, fitted, "--suite", "dev", "--against", "default")) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert table.count("Lips on the dev split") == 2 and table.count("weights in default") == 2


def test_a_damaged_corpus_of_actors_is_left_out(corpus, fitted, one_corpus, monkeypatch, capsys):
    found = emotion.emotion_corpora(corpus)
    monkeypatch.setattr(emotion, "emotion_corpora", lambda data: (*found, "broken"))
    assert main([*on_corpus(corpus, fitted, "--suite", "dev"), "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert "broken" in printed.err and "left out" in printed.err
    assert [row["corpus"] for row in result["emotions"]] == list(found)
    for row in result["emotions"]:
        assert [judge["prototypes"] for judge in row["prototypes"]] == ["poses", *found]


def test_a_corpus_without_dev_actors_is_refused(corpus, fitted, monkeypatch):
    monkeypatch.setattr(emotion, "recordings_of", lambda *arguments: [])
    with pytest.raises(InputError, match="no neutral recordings"):
        emotion.evaluate_emotion(corpus, fitted[0] / "captures", talkemo.load_models())


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory, example_face, short_speech, models):
    """mine/ and theirs/, whose a.npz differ in emotion, and whose b.npz are the same."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, mood in (("mine", "happy"), ("theirs", "neutral")):
        (folder / name).mkdir()
        talkemo.animate(
            example_face, short_speech, folder / name / "a.npz", emotion=mood, fps=20, models=models
        )
    shutil.copy(folder / "mine" / "a.npz", folder / "mine" / "b.npz")
    shutil.copy(folder / "mine" / "a.npz", folder / "theirs" / "b.npz")
    shutil.copy(folder / "mine" / "a.npz", folder / "theirs" / "only.npz")
    return folder


def test_folders_are_matched_by_name(two_folders, models, tmp_path, capsys):
    mine, theirs = two_folders / "mine", two_folders / "theirs"
    judge = {"face": models.face, "discriminator": models.discriminator}
    result = compare_folders(mine, theirs, **judge)
    assert result["alone"] == ["only"]
    assert [Path(pair["predicted"]).stem for pair in result["pairs"]] == ["a", "b"]
    pair = by_name(compare(mine / "a.npz", theirs / "a.npz", **judge))
    means = {(metric["name"], metric["mask"]): metric for metric in result["mean"]}
    assert means["RE", "lips"]["mean"] == pytest.approx(pair["RE", "lips"]["value"] / 2)
    assert means["RE", "lips"]["pairs"] == 2 and means["RE", "lips"]["vertices"] == 2004
    assert means["CE", "canonical face"]["mean"] < 0.1
    assert pair["closure recall", "mouth opening"]["value"] > 0.9
    assert pair["closure precision", "mouth opening"]["value"] > 0.9
    assert main(["evaluate", str(mine), str(theirs), "-o", str(tmp_path / "m.csv"), "--json"]) == 0
    printed = capsys.readouterr()
    assert "only: in one of the folders only" in printed.err
    assert len(json.loads(printed.out)["pairs"]) == 2
    rows = list(csv.DictReader((tmp_path / "m.csv").open(encoding="utf-8")))
    assert len(rows) == len(pair) + len(result["pairs"][1]["figures"])
    with pytest.raises(InputError, match="no animations with the same name"):
        (tmp_path / "other").mkdir()
        shutil.copy(mine / "a.npz", tmp_path / "other" / "z.npz")
        compare_folders(mine, tmp_path / "other", face=models.face)


def test_lips_that_stay_open_miss_the_closures(two_folders, models, tmp_path):
    mine = two_folders / "mine"
    with np.load(mine / "b.npz") as arrays:
        content = dict(arrays)
    above = content["landmarks68"][0, 62]
    unit = compare(mine / "b.npz", mine / "a.npz", face=models.face)["mm_a_mesh_unit"]
    first = content["vertices"][0]
    near = (np.linalg.norm(first - above, axis=1) < 4 / unit) & (first[:, 1] >= above[1])
    content["vertices"][:, near] += np.float32([0, 2.5 / unit, 0])
    np.savez(tmp_path / "open.npz", **content)
    result = compare(tmp_path / "open.npz", mine / "b.npz", face=models.face)
    assert by_name(result)["closure recall", "mouth opening"]["value"] == 0


@pytest.fixture
def saved_plots(monkeypatch):
    """The matplotlib figures that would be saved."""
    figures = []
    monkeypatch.setattr(plots, "save_plot", lambda figure, output: figures.append(figure))
    return figures


def test_errors_are_plotted_over_time_and_on_the_mesh(two_folders, models, saved_plots, tmp_path):
    pytest.importorskip("matplotlib")
    a, b = (two_folders / name / "a.npz" for name in ("mine", "theirs"))
    compared = compare_pair(a, b, face=models.face)
    result = compared.result
    plots.plot_comparison(compared.comparison, compared.mesh, result["fps"], tmp_path / "e.png")
    p, g = (NpzAnimation(path).vertices() for path in (a, b))
    distance = result["mm_a_mesh_unit"] * np.linalg.norm(p - g, axis=2)
    over_time, on_mesh, _ = saved_plots[0].axes
    line = next(line for line in over_time.lines if line.get_label() == "all")
    np.testing.assert_allclose(line.get_ydata(), distance.mean(1), rtol=1e-3, atol=1e-4)
    on_vertices = on_mesh.collections[0].get_array()
    np.testing.assert_allclose(on_vertices, distance.mean(0), rtol=1e-3, atol=1e-4)


def test_a_confusion_matrix_has_the_shares_of_a_row(saved_plots, tmp_path):
    pytest.importorskip("matplotlib")
    counts = {
        "classes": ["calm", "sad"],
        "emotions": ["sad", "calm"],
        "real": [[1, 3], [2, 0]],
        "generated": [[0, 4], [0, 0]],
    }
    plots.plot_confusion([{"corpus": "made up", "confusion": {"four": counts}}], tmp_path / "c.png")
    real, generated = (axes.images[0].get_array().tolist() for axes in saved_plots[0].axes)
    assert real == [[0.25, 0.75], [1, 0]] and generated == [[0, 1], [0, 0]]
    labels = saved_plots[0].axes[0].get_yticklabels()
    assert [text.get_text() for text in labels] == ["sad", "calm"]


class SeesSize(torch.nn.Module):
    """Takes maps that differ from the mean face for the second class."""

    def __init__(self):
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(1))  # tells the network's device

    def forward(self, maps):
        large = (maps.flatten(1).abs().max(1).values > 1e-3).float()
        return torch.stack([1 - large, large], 1)


def test_the_recognition_rate_is_the_share_of_a_class(face):
    faces = np.zeros((4, len(face.mean), 3), np.float32)
    faces[:3] += 5

    def rate(name):
        return emotion.recognition_rate(SeesSize(), ["calm", "sad"], face, faces, name)

    assert rate("sad") == 0.75 and rate("calm") == 0.25 and rate("happy") is None


def test_closures_of_a_pair_are_measured_by_phones(two_folders, tmp_path, capsys):
    a, b = two_folders / "mine" / "b.npz", two_folders / "theirs" / "b.npz"  # the same, at 20 fps
    with np.load(a) as arrays:
        upper, lower = np.moveaxis(arrays["landmarks68"][:, [62, 66]], 1, 0)
    gap = np.linalg.norm(upper - lower, axis=1)
    command = ["evaluate", str(a), str(b), "--phones", str(tmp_path / "phones.json"), "--json"]
    for frame, share in ((gap.argmin(), 1), (gap.argmax(), 0)):
        spoken = [
            ["AA", 0.0, frame / 20],
            ["M", frame / 20, frame / 20 + 0.01],
            ["AA", frame / 20 + 0.01, 9.0],
        ]
        (tmp_path / "phones.json").write_text(json.dumps({"b": spoken}))
        assert main(command) == 0
        metrics = {f["name"]: f for f in json.loads(capsys.readouterr().out)["figures"]}
        for source in ("predicted", "reference"):
            recall = metrics[f"{source} recall at phones"]
            assert recall["value"] == share
            assert recall["about"] == "of 1 p, b and m, where the lips meet"
    (tmp_path / "phones.json").write_text('{"c": []}')
    assert main(command) == 2 and "no recording called b" in capsys.readouterr().err


def test_lips_meet_where_they_are_no_further_apart_than_at_rest():
    # Upper and lower lip, 2 mm apart at rest as in some meshes, and the mouth corners.
    neutral = np.array([[0, 2.0, 0], [0, 0, 0], [-20, 0, 0], [20, 0, 0]])
    predicted, reference = np.repeat(neutral[None], 4, 0), np.repeat(neutral[None], 4, 0)
    predicted[:, 0, 1], reference[:, 0, 1] = (9.0, 2.5, 9.0, 9.0), 9.0
    comparison = Comparison(neutral, {"all": np.arange(4)}, np.arange(4), up=np.array([0, 1.0, 0]))
    comparison.add(predicted, reference)
    spoken = [Phone("AA", 0.0, 0.09), Phone("B", 0.09, 0.11), Phone("AA", 0.11, 0.3)]
    assert {m.name: m.value for m in _metrics_at_phones(comparison, 10.0, spoken)} == {
        "predicted recall at phones": 1,
        "predicted precision at phones": 1,
        "reference recall at phones": 0,
    }


def test_a_pair_is_plotted(two_folders, tmp_path):
    pytest.importorskip("matplotlib")
    a, b = (str(two_folders / name / "a.npz") for name in ("mine", "theirs"))
    assert main(["evaluate", a, b, "-o", str(tmp_path / "e.png")]) == 0
    image = np.array(Image.open(tmp_path / "e.png").convert("RGB"))
    assert image.shape[1] > 800 and len(np.unique(image.reshape(-1, 3), axis=0)) > 500
    folders = [str(two_folders / name) for name in ("mine", "theirs")]
    assert main(["evaluate", *folders, "-o", str(tmp_path / "e.png")]) == 2
