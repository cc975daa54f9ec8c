"""Two animations compared, the models measured on a made-up corpus, and what the command says to bad input."""

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
from talkemo.evaluation.compare import _metrics_at_phones, compare, compare_folders, compare_pair
from talkemo.evaluation.metrics import Comparison
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.obj import save_obj
from talkemo_cli.app import main


@pytest.fixture
def one_corpus(monkeypatch):
    """The suites know of ravdess alone, and few faces go through the map."""
    monkeypatch.setattr(lips, "CORPORA", ("ravdess",))
    monkeypatch.setattr(map_error, "CORPORA", ("ravdess",))
    monkeypatch.setattr(emotion, "EMOTION_CORPORA", ("ravdess",))
    monkeypatch.setattr(map_error, "ROUND_TRIP_FACES", 20)


@pytest.fixture(scope="module")
def animations(tmp_path_factory, example_face, short_speech):
    """A folder with the example, calm.npz and happy.npz at 20 fps and fast.npz at 40."""
    folder = tmp_path_factory.mktemp("animations")
    binding = talkemo.bind(example_face, cache=False)
    for name, fps in (("neutral", 20), ("happy", 20), ("fast", 40)):
        spoken = name if name in talkemo.EMOTIONS else "neutral"
        talkemo.animate(binding, short_speech, folder / f"{name}.npz", emotion=spoken, fps=fps)
    return folder


def test_a_pair(animations, example_face, face):
    calm, happy = animations / "neutral.npz", animations / "happy.npz"
    result = compare(happy, calm, neutral=example_face, face=face)
    value = {(f["name"], f["mask"]): f for f in result["figures"]}
    p, g = (NpzAnimation(path).vertices() for path in (happy, calm))
    # The example is in centimetres: lengths are in the canonical face's millimetres.
    scale = result["mm_a_mesh_unit"]
    by_hand = np.linalg.norm(p - g, axis=2).mean() * scale
    assert abs(value["RE", "all"]["value"] - by_hand) < 1e-3 * by_hand
    assert value["RE", "all"]["unit"] == "mm" and value["RE", "all"]["vertices"] == 12500
    assert 1500 < value["LVE", "lips"]["vertices"] < 2500
    assert value["LVE", "lips"]["value"] > value["RE", "lips"]["value"] > 0
    assert value["r opening", "mouth opening"]["value"] > 0.8
    names = {f["name"] for f in result["figures"]}
    assert {"VE", "LVE²", "EVE", "MVE", "FDD", "|FDD|", "r width", "amplitude"} <= names


def test_an_animation_and_itself(animations, face):
    calm = animations / "neutral.npz"
    result = compare(calm, calm, face=face)
    assert all(abs(f["value"]) < 1e-6 for f in result["figures"] if f["unit"])


def test_meshes_without_a_face_are_compared_in_their_own_unit(tmp_path, face, monkeypatch):
    """A folder of meshes has the other's fps, and of a ball only RE and VE are known."""

    def no_face(*arguments):
        raise InputError("no face found", "say where it is")

    monkeypatch.setattr("talkemo.binding.bind_mesh", no_face)  # which takes seconds to be sure
    ball = trimesh.creation.icosphere(2)
    rest, faces = np.array(ball.vertices, np.float32), np.array(ball.faces, np.int32)
    vertices = np.stack([rest + np.array([0, height, 0], np.float32) for height in (0, 1, 3)])
    np.savez(tmp_path / "ball.npz", vertices=vertices, faces=faces, fps=24.0)
    folder = tmp_path / "balls"
    folder.mkdir()
    for number in range(3):
        save_obj(folder / f"{number}.obj", rest, faces)
    result = compare(folder, tmp_path / "ball.npz", face=face)
    value = {(f["name"], f["mask"]): f for f in result["figures"]}
    assert set(value) == {("RE", "all"), ("VE", "all")} and result["mm_a_mesh_unit"] is None
    assert result["fps"] == 24 and value["RE", "all"]["unit"] == "mesh units"
    assert value["RE", "all"]["value"] == pytest.approx(4 / 3, abs=1e-5)
    assert value["VE", "all"]["value"] == pytest.approx(3 / 2, abs=1e-5)


def test_the_command_prints_a_table_or_json(animations, tmp_path, capsys):
    calm, happy = str(animations / "neutral.npz"), str(animations / "happy.npz")
    (tmp_path / "chin.txt").write_text("0, 5\n7")
    assert main(["evaluate", happy, calm, "--mask", str(tmp_path / "chin.txt")]) == 0
    table = capsys.readouterr().out
    assert "chin.txt" in table and "mm a frame" in table and "lips" in table
    assert main(["evaluate", happy, calm, "--weights", "default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 30


def test_what_cannot_be_compared_is_refused(animations, tmp_path, capsys):
    slow, fast = animations / "neutral.npz", animations / "fast.npz"
    (tmp_path / "mask.txt").write_text("1 2 99999999")
    (tmp_path / "lips").write_text("1 2")
    with np.load(slow) as file:
        arrays = dict(file)
    arrays["vertices"][3, 5] = np.nan
    np.savez(tmp_path / "broken.npz", **arrays)
    np.savez(tmp_path / "short.npz", **{**arrays, "vertices": arrays["vertices"][:1]})
    for arguments, why in (
        ((slow, fast), "frames a second"),
        ((slow, tmp_path / "none.npz"), "no such animation"),
        ((slow,), "PRED and REF"),
        ((slow, slow, "--mask", tmp_path / "none.txt"), "no such mask file"),
        ((slow, slow, "--mask", tmp_path / "mask.txt"), "vertex numbers"),
        ((slow, slow, "--mask", tmp_path / "lips"), "there already"),
        ((slow, slow, "--weights", tmp_path / "none"), "no such set of weights"),
        ((slow, tmp_path / "short.npz"), "1 frames in common"),
        ((slow, tmp_path / "broken.npz"), "NaN or infinity"),
        ((slow, slow, "--data", tmp_path), "belongs to a --suite"),
        ((slow, slow, "--against", "default"), "belongs to the suite dev"),
        ((slow, slow, "--steps", 3), "--steps belongs to"),
        ((slow, slow, "--suite", "dev"), "not both"),
        (("--suite", "dev", "--neutral", slow), "belongs to PRED and REF"),
        (("--suite", "dev", "--data", tmp_path, "--weights", tmp_path), "no weights in it"),
        (
            ("--suite", "dev", "--data", tmp_path, "--against", tmp_path / "none"),
            "no such set of weights",
        ),
        (("--suite", "dev", "--data", tmp_path / "none"), "no such folder of corpora"),
        (("--suite", "dev", "--data", tmp_path, "--captures", slow), "is not a folder"),
        (("--suite", "dev", "--data", tmp_path, "--seeds", 2), "--seeds belongs to"),
        (("--suite", "table9"), "unknown suite"),
        (("--suite", "table1"), "--data is needed"),
        (
            ("--suite", "table1", "--data", tmp_path, "--weights", tmp_path),
            "trains its own models",
        ),
        (
            ("--suite", "table1", "--data", tmp_path, "--against", tmp_path),
            "belongs to the suite dev",
        ),
        (("--suite", "table2", "--data", tmp_path, "-o", tmp_path / "a.png"), "-o belongs to"),
        (("--suite", "figure7", "--data", tmp_path, "-o", tmp_path / "a.gif"), "cannot write"),
        (
            ("--suite", "figure6", "--data", tmp_path, "-o", tmp_path / "none" / "a.png"),
            "no such folder",
        ),
    ):
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        message = capsys.readouterr().err
        assert why in message and len(message.splitlines()) == 2, (arguments, message)


def test_closures_are_found_by_the_alignment(tmp_path):
    """Lips close at the beginning of bin, and at the end of the letter m; a blue without frames is left out."""
    (tmp_path / "a.align").write_text(
        "0 25000 sil\n25000 37500 bin\n37500 50000 at\n50000 62500 m\n250000 260000 blue\n"
    )
    time = np.arange(0, 3, 0.04)
    opening = np.ones(len(time))
    opening[[25, 62]] = 0  # 1.00 s and 2.48 s
    assert lips.closing_frames(tmp_path / "a.align", time, opening) == [25, 62]


def test_the_dev_suite(corpus, fitted, one_corpus, capsys):
    captures = str(fitted[0] / "captures")
    assert (
        main(
            ["evaluate", "--suite", "dev", "--data", str(corpus), "--captures", captures, "--json"]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    (row,) = result["lips"]["corpora"]
    assert row["corpus"] == "ravdess" and row["clips"] == 2 and "closures" not in row
    assert row["re_mm"] > 0 and row["re_still_mm"] > 0 and -1 <= row["r_opening"] <= 1
    (found,) = result["emotions"]
    rows = {row["emotion"]: row for row in found["emotions"]}
    assert set(rows) == set(talkemo.EMOTIONS) - {
        "surprised"
    }  # of the dev actor's that one was rejected
    assert rows["neutral"]["moved_mm"] == 0 and rows["happy"]["moved_mm"] > 0.1
    assert rows["neutral"]["acceleration"] == 1 and rows["calm"]["real_four"] is None
    assert rows["happy"]["generated_four"] > 0.5 and 0 < rows["happy"]["identity_mm"] < 3
    assert result["map"]["faces"] == 20 and 0 < result["map"]["round_trip_mean_mm"] < 0.2
    judged = found["confusion"]["four"]
    share = judged["generated"][judged["emotions"].index("happy")][judged["classes"].index("happy")]
    assert share / sum(judged["generated"][0]) == pytest.approx(rows["happy"]["generated_four"])


def test_a_split_by_name_with_phones_is_written_as_a_csv_and_a_picture(
    corpus, fitted, one_corpus, tmp_path, capsys
):
    pytest.importorskip("matplotlib")
    spoken = [
        r
        for r in fitted[1]
        if r.emotion in ("neutral", "calm") and r.split == "train" and not r.rejected
    ]
    # In the made-up corpus the lips close in every gap of the tone, by a sine of 9 radians a second.
    closed = np.arange(1, 3) * 2 * np.pi / 9 - np.pi / 18
    phones = [
        [p, start, end]
        for t in closed
        for p, start, end in (("AA", t - 0.3, t - 0.04), ("B", t - 0.04, t + 0.04))
    ]
    (tmp_path / "phones.json").write_text(json.dumps({r.name: phones for r in spoken}))
    common = [
        "evaluate",
        "--data",
        str(corpus),
        "--captures",
        str(fitted[0] / "captures"),
        "--split",
        "train",
    ]
    assert (
        main(
            [
                *common,
                "--phones",
                str(tmp_path / "phones.json"),
                "-o",
                str(tmp_path / "train.csv"),
                "--json",
            ]
        )
        == 0
    )
    (row,) = json.loads(capsys.readouterr().out)["lips"]["corpora"]
    assert row["clips"] == len(spoken) and row["phones"]["captured"]["spoken"] == 2 * len(spoken)
    assert row["phones"]["captured"]["recall"] > 0.9
    rows = list(csv.DictReader((tmp_path / "train.csv").open()))
    written = {(r["model"], r["emotion"], r["metric"]): r["value"] for r in rows}
    about = {
        (r["model"], r["emotion"], r["metric"]): (r["unit"], r["mask"], r["count"]) for r in rows
    }
    assert about["talking", "neutral", "re_mm"] == ("mm", "lips", str(len(spoken)))
    assert about["talking", "neutral", "captured recall"] == ("share", "lips", str(2 * len(spoken)))
    right, wrong = (float(written["emotion", "happy", f"{ce}generated_four"]) for ce in ("", "CE "))
    assert (
        right + wrong == pytest.approx(1)
        and int(about["emotion", "happy", "generated_four"][2]) > 20
    )
    assert written["emotion", "calm", "real_four"] == ""
    assert (
        float(written["talking", "neutral", "captured recall"])
        == row["phones"]["captured"]["recall"]
    )
    assert float(written["talking", "neutral", "r_opening"]) == row["r_opening"]
    assert ("emotion", "happy", "generated_discriminator") in written
    assert main([*common[:-1], "dev", "-o", str(tmp_path / "confusion.png")]) == 0
    picture = np.array(Image.open(tmp_path / "confusion.png").convert("RGB"))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    capsys.readouterr()
    assert main([*common[:-1], "test"]) == 2
    assert "there are those of dev, train" in capsys.readouterr().err
    assert main([*common[:-1], "others"]) == 2 and "unknown split" in capsys.readouterr().err
    (tmp_path / "phones.json").write_text('{"a": [["B"]]}')
    assert main([*common, "--phones", str(tmp_path / "phones.json")]) == 2
    assert "aligned phones" in capsys.readouterr().err


def test_two_sets_are_measured_against_each_other(corpus, fitted, one_corpus, monkeypatch, capsys):
    monkeypatch.setattr(emotion, "EMOTION_CORPORA", ())
    common = [
        "evaluate",
        "--suite",
        "dev",
        "--data",
        str(corpus),
        "--captures",
        str(fitted[0] / "captures"),
    ]
    assert main([*common, "--against", "default"]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert table.count("Lips on the dev split") == 2 and table.count("weights in default") == 1


def test_a_corpus_without_dev_actors_is_refused(corpus, fitted, monkeypatch):
    monkeypatch.setattr(emotion, "recordings_of", lambda *arguments: [])
    with pytest.raises(InputError, match="no neutral recordings"):
        emotion.evaluate_emotion(corpus, fitted[0] / "captures", talkemo.load_models())


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory, example_face, short_speech, models):
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
    found = compare_folders(mine, theirs, face=models.face)
    assert found["alone"] == ["only"] and [
        Path(pair["predicted"]).stem for pair in found["pairs"]
    ] == ["a", "b"]
    one = {
        (f["name"], f["mask"]): f["value"]
        for f in compare(mine / "a.npz", theirs / "a.npz", face=models.face)["figures"]
    }
    means = {(f["name"], f["mask"]): f for f in found["mean"]}
    assert (
        means["RE", "lips"]["mean"] == pytest.approx(one["RE", "lips"] / 2)
        and means["RE", "lips"]["pairs"] == 2
    )
    assert (
        one["closure recall", "mouth opening"] > 0.9
        and one["closure precision", "mouth opening"] > 0.9
    )
    assert main(["evaluate", str(mine), str(theirs), "-o", str(tmp_path / "m.csv"), "--json"]) == 0
    said = capsys.readouterr()
    assert (
        "only: in one of the folders only" in said.err and len(json.loads(said.out)["pairs"]) == 2
    )
    rows = list(csv.DictReader((tmp_path / "m.csv").open()))
    assert len(rows) == len(one) + len(found["pairs"][1]["figures"])
    with pytest.raises(InputError, match="no animations of one name"):
        (tmp_path / "other").mkdir()
        shutil.copy(mine / "a.npz", tmp_path / "other" / "z.npz")
        compare_folders(mine, tmp_path / "other", face=models.face)


def test_lips_that_stay_open_miss_the_closures(two_folders, models, tmp_path):
    with np.load(two_folders / "mine" / "b.npz") as arrays:
        content = dict(arrays)
    above = content["landmarks68"][0, 62]
    unit = compare(
        two_folders / "mine" / "b.npz", two_folders / "mine" / "a.npz", face=models.face
    )["mm_a_mesh_unit"]
    near = np.linalg.norm(content["vertices"][0] - above, axis=1) < 4 / unit
    content["vertices"][:, near] += np.float32([0, 2.5 / unit, 0])
    np.savez(tmp_path / "open.npz", **content)
    found = compare(tmp_path / "open.npz", two_folders / "mine" / "b.npz", face=models.face)
    values = {f["name"]: f["value"] for f in found["figures"]}
    assert values["closure recall"] == 0


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, which are not."""
    figures = []
    monkeypatch.setattr(plots, "save_plot", lambda figure, output: figures.append(figure))
    return figures


def test_errors_are_drawn_where_and_when_they_are(two_folders, models, drawn, tmp_path):
    pytest.importorskip("matplotlib")
    a, b = (two_folders / name / "a.npz" for name in ("mine", "theirs"))
    compared = compare_pair(a, b, face=models.face)
    result = compared.result
    plots.plot_comparison(compared.comparison, compared.mesh, result["fps"], tmp_path / "e.png")
    with np.load(a) as one, np.load(b) as other:
        apart = result["mm_a_mesh_unit"] * np.linalg.norm(
            one["vertices"] - other["vertices"], axis=2
        )
    course, place, _ = drawn[0].axes
    line = next(line for line in course.lines if line.get_label() == "all")
    np.testing.assert_allclose(line.get_ydata(), apart.mean(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        place.collections[0].get_array(), apart.mean(0), rtol=1e-3, atol=1e-4
    )


def test_a_confusion_matrix_has_the_shares_of_a_row(drawn, tmp_path):
    pytest.importorskip("matplotlib")
    counts = {
        "classes": ["calm", "sad"],
        "emotions": ["sad", "calm"],
        "real": [[1, 3], [2, 0]],
        "generated": [[0, 4], [0, 0]],
    }
    plots.plot_confusion([{"corpus": "made up", "confusion": {"four": counts}}], tmp_path / "c.png")
    real, generated = (axes.images[0].get_array().tolist() for axes in drawn[0].axes)
    assert real == [[0.25, 0.75], [1, 0]] and generated == [[0, 1], [0, 0]]
    assert [text.get_text() for text in drawn[0].axes[0].get_yticklabels()] == ["sad", "calm"]


class SeesSize(torch.nn.Module):
    """Takes maps that differ from the mean face for the second class."""

    def __init__(self):
        super().__init__()
        self.own = torch.nn.Parameter(torch.zeros(1))

    def forward(self, maps):
        large = (maps.flatten(1).abs().max(1).values > 1e-3).float()
        return torch.stack([1 - large, large], 1)


def test_the_share_that_is_recognised(face):
    faces = np.zeros((4, len(face.mean), 3), np.float32)
    faces[:3] += 5
    share = lambda name: emotion.recognition_rate(SeesSize(), ["calm", "sad"], face, faces, name)
    assert share("sad") == 0.75 and share("calm") == 0.25 and share("happy") is None


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
        figures = {f["name"]: f for f in json.loads(capsys.readouterr().out)["figures"]}
        for whose in ("predicted", "reference"):
            assert figures[f"{whose} recall at phones"]["value"] == share
            assert (
                figures[f"{whose} recall at phones"]["about"]
                == "of 1 p, b and m, where the lips meet"
            )
    (tmp_path / "phones.json").write_text('{"c": []}')
    assert main(command) == 2 and "no recording called b" in capsys.readouterr().err


def test_lips_meet_where_they_are_no_further_apart_than_at_rest():
    neutral = np.array(
        [[0, 2.0, 0], [0, 0, 0], [-20, 0, 0], [20, 0, 0]]
    )  # 2 mm apart, as masks are
    predicted, reference = np.repeat(neutral[None], 4, 0), np.repeat(neutral[None], 4, 0)
    predicted[:, 0, 1], reference[:, 0, 1] = (9.0, 2.5, 9.0, 9.0), 9.0
    made = Comparison(neutral, {"all": np.arange(4)}, np.arange(4), up=np.array([0, 1.0, 0]))
    made.add(predicted, reference)
    spoken = [Phone("AA", 0.0, 0.09), Phone("B", 0.09, 0.11), Phone("AA", 0.11, 0.3)]
    found = {m.name: m.value for m in _metrics_at_phones(made, 10.0, spoken)}
    assert found == {
        "predicted recall at phones": 1,
        "predicted precision at phones": 1,
        "reference recall at phones": 0,
    }


def test_a_pair_is_plotted(two_folders, tmp_path):
    pytest.importorskip("matplotlib")
    a, b = (str(two_folders / name / "a.npz") for name in ("mine", "theirs"))
    assert main(["evaluate", a, b, "-o", str(tmp_path / "e.png")]) == 0
    picture = np.array(Image.open(tmp_path / "e.png").convert("RGB"))
    assert picture.shape[1] > 800 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    folders = [str(two_folders / name) for name in ("mine", "theirs")]
    assert main(["evaluate", *folders, "-o", str(tmp_path / "e.png")]) == 2
