"""The paper's tables and figures, on a synthetic corpus, with trainings of a few steps."""

import json
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import talkemo
from talkemo import EMOTIONS, Motion
from talkemo.audio.recording import load_audio
from talkemo.paper import (
    code,
    decoders,
    figure6,
    generators,
    karras,
    pointnet,
    report,
    seen,
    table1,
    table2,
    training,
)
from talkemo.paper.figure7 import FIGURE7_COLUMNS, Roughness
from talkemo.train import emotion, talking
from talkemo.train.emotion import EmotionConfig
from talkemo.train.talking import PAPER_TALKING_CONFIG
from talkemo_cli.app import main


@pytest.fixture(scope="module")
def cache(fitted):
    return fitted[0] / "captures"


def suite(name, corpus, cache):
    """Arguments of the command that reproduces a table or a figure."""
    return ["evaluate", "--suite", name, "--data", str(corpus), "--captures", str(cache)]


@pytest.fixture
def small_generator(monkeypatch):
    """A generator that trains quickly."""
    monkeypatch.setattr(
        training, "EmotionConfig", lambda: EmotionConfig(batch=4, channels=16, blocks=1)
    )


def test_table_1(corpus, cache, models, monkeypatch):
    splits, errors = [], table1._errors
    monkeypatch.setattr(table1, "_errors", lambda *those: splits.append(those[2]) or errors(*those))
    result = table1.table1(corpus, cache, models, seeds=1, steps=3, corpora=("ravdess",))
    assert [(row["decoder"], row["weights"], row["mask"]) for row in result["rows"]] == [
        (decoder, weights, mask)
        for decoder in ("blend shapes", "vertices")
        for weights in ("constant", "local", "local, normalised")
        for mask in ("mouth landmarks", "lips", "all")
    ]
    assert result["masks"] == {"mouth landmarks": 20, "lips": 2004, "all": 12500}
    assert all(
        np.isfinite(row[c]["mean"])
        for row in result["rows"]
        for c in ("T-RE", "T-VE", "V-RE", "V-VE")
    )
    # Both start from the same network and are trained with different weights.
    constant, local = (
        next(r for r in result["rows"] if r["weights"] == w) for w in ("constant", "local")
    )
    assert constant["T-RE"]["mean"] != local["T-RE"]["mean"]
    assert constant["T-RE"]["mean"] == pytest.approx(local["T-RE"]["mean"], rel=0.5)
    assert result["clips"] == {"T": 1, "V": 2} and result["steps"] == 3
    for measured in splits:
        assert {name: {r.split for r in chosen} for name, chosen in measured.items()} == {
            "T": {"train"},
            "V": {"dev"},
        }
        assert {r.emotion for r in measured["T"]} <= {"neutral", "calm"}


def test_errors_of_a_model_that_does_not_move_are_the_motion_itself(corpus, fitted, face):
    recordings = [r for r in fitted[1] if not r.rejected][:3]
    measured = {"T": recordings[:1], "V": recordings[1:]}

    def still(features, times, style):
        return np.zeros((len(times), len(face.expression_names)), np.float32), None

    encoder = SimpleNamespace(stream=lambda audio: [np.zeros((2, 3), np.float32)])
    model = SimpleNamespace(face=face, predict=still, encoder=encoder, styles=["a", "b"])
    errors = table1._errors(model, corpus, measured)
    masks = {
        "mouth landmarks": face.landmarks68[48:],
        "lips": np.flatnonzero(face.regions["lips"]),
        "all": np.arange(12500),
    }
    for split, of_split in measured.items():
        moved = [r.capture.motion(face).displacement(face) for r in of_split]
        for mask, rows in masks.items():
            re = np.concatenate([np.linalg.norm(m[:, rows], axis=2).mean(1) for m in moved])
            ve = np.concatenate(
                [np.linalg.norm(np.diff(m[:, rows], axis=0), axis=2).mean(1) for m in moved]
            )
            assert errors[f"{split}-RE {mask}"] == pytest.approx(re.mean(), rel=1e-4)
            assert errors[f"{split}-VE {mask}"] == pytest.approx(ve.mean(), rel=1e-4)
            assert errors[f"{split}-RE {mask} still"] == pytest.approx(re.mean(), rel=1e-4)


def test_speakers_are_predicted_in_their_own_style_and_strangers_in_several(corpus, fitted, face):
    recording = next(r for r in fitted[1] if not r.rejected)
    asked = []

    def predict(features, times, style):
        asked.append(style)
        return np.zeros((len(times), 3 * len(face.mean)), np.float32), None

    encoder = SimpleNamespace(stream=lambda audio: [np.zeros((2, 3), np.float32)])
    styles = [f"person {k}" for k in range(9)]
    for known in (["x", recording.speaker], styles):
        model = SimpleNamespace(face=face, predict=predict, encoder=encoder, styles=known)
        for moved in table1._predictions(model, corpus, recording):
            assert moved.shape == (len(recording.capture.time), len(face.mean), 3)
    assert asked == [1, 0, 2, 4, 6, 8]


def test_a_decoder_of_vertices_starts_like_one_of_blend_shapes(corpus, cache, models, tmp_path):
    run = training.training_run(tmp_path, corpus, cache, models)
    config = replace(PAPER_TALKING_CONFIG, shares=(("ravdess", 1.0),), steps=2)
    data = talking.gather_training_data(run, config)
    outputs, losses = [], []
    for decoder in decoders.DECODERS:
        for weighting in decoders.WEIGHTINGS:
            made = decoders.training_maker(decoder, weighting)(data, run, config)
            network = made.network.eval()
            with torch.no_grad():
                code = torch.randn(4, 6, 50, generator=torch.Generator().manual_seed(0))
                output = network.decoder(code)
                target = torch.ones(4, 6, len(models.face.span))
                ones = torch.ones(4, 6), torch.ones(4)
                losses.append(torch.stack(made.objective(output, target, *ones)))
            outputs.append(output if decoder == "vertices" else output @ made_span(models.face))
    torch.testing.assert_close(outputs[0], outputs[-1], rtol=1e-3, atol=1e-3)
    for of_shapes, of_vertices in zip(losses[:3], losses[3:]):  # the same terms by other means
        torch.testing.assert_close(of_shapes, of_vertices, rtol=1e-3, atol=1e-3)
    constant, local, normalised = (float(loss[0]) for loss in losses[:3])
    assert local > constant and local > normalised


def test_errors_of_vertices_by_columns_have_the_gradient_of_plain_ones(face):
    generator = torch.Generator().manual_seed(0)
    span, weight = made_span(face), np.linspace(0.1, 2, len(face.mean))
    target = torch.randn(2, 5, len(span), generator=generator)
    start = torch.randn(2, 5, span.shape[1], generator=generator)
    inside = torch.ones(2, 5)
    inside[0, 2] = 0
    objective = decoders.VertexObjective(face, weight)

    def plain(output, target, inside, mean):
        error = (output - target @ span) * inside[..., None]
        change = (error[:, 1:] - error[:, :-1]) * (inside[:, 1:] * inside[:, :-1])[..., None]
        scale = inside.sum()
        position = (error * objective.root).square().sum() / scale
        return position, change.square().sum() / len(weight) / scale

    results = []
    for terms in (objective, plain):
        output = start.clone().requires_grad_()
        position, velocity = terms(output, target, inside, torch.ones(2))
        (position + 10 * velocity).backward()
        results.append((position, velocity, output.grad))
    for by_columns, at_once in zip(*results):
        torch.testing.assert_close(by_columns, at_once, rtol=1e-4, atol=1e-6)


def made_span(face):
    return torch.from_numpy(face.span.reshape(len(face.span), -1))


class Judge(torch.nn.Module):
    """Classifies every face as one class. Its features are the map itself."""

    def __init__(self, answer: int, classes: int = len(EMOTIONS)):
        super().__init__()
        self.answer, self.classes = answer, classes
        self.parameter = torch.nn.Parameter(torch.zeros(1))  # tells the network's device

    def forward(self, maps):
        return torch.eye(self.classes)[[self.answer] * len(maps)]

    logits = forward

    def features(self, maps):
        return maps.flatten(1)


class Mover:
    """An emotion transfer that opens the mouth by the same amount for every emotion."""

    device = torch.device("cpu")

    def __init__(self, face):
        self.face, self.by = face, 3 * face.unit_jaw_opening / np.linalg.norm(face.unit_jaw_opening)

    def residual(self, maps, opening, shares):
        return np.tile(self.by, (len(maps), 1)).astype(np.float32)

    def transfer(self, motion, shares, from_neutral=True):
        return Motion(motion.times, motion.coordinates + np.float32(self.by))


CLASSES = ["surprised", "angry", "happy", "neutral"]  # not in the order of the emotions


def networks(face, discriminator, classifier):
    """Networks whose judges have fixed answers."""
    return table2.Networks(Mover(face), Judge(discriminator), Judge(classifier, 4), CLASSES)


def test_table_2_on_real_faces_counts_wrong_answers(face):
    real = [
        ("happy", np.zeros((3, 12500, 3), np.float32)),
        ("angry", np.ones((1, 12500, 3), np.float32)),
    ]
    judged = networks(face, EMOTIONS.index("happy"), CLASSES.index("neutral"))
    errors = table2._on_real_faces(judged, real)
    assert errors["D-CE"] == pytest.approx(1 / 4) and errors["D-CE classifier"] == 1
    judged = networks(face, EMOTIONS.index("neutral"), CLASSES.index("angry"))
    assert table2._on_real_faces(judged, real)["D-CE classifier"] == 3 / 4
    there_and_back = np.tensordot(2 * judged.transfer.by, face.span, 1)
    twice = np.linalg.norm(there_and_back, axis=-1).mean()
    assert errors["D-RE"] == pytest.approx(twice, rel=1e-3) and errors["D-RE features"] > 0


def test_table_2_on_generated_faces_counts_wrong_answers(face):
    talking = Motion(np.arange(5), np.zeros((5, len(face.expression_names)), np.float32))
    judged = networks(face, EMOTIONS.index("angry"), CLASSES.index("neutral"))
    errors = table2._on_generated_faces(judged, talking)
    # Of happy, angry and surprised, one is right; none is neutral.
    assert errors["G-CE"] == pytest.approx(2 / 3) and errors["G-CE classifier"] == 1
    twice = np.linalg.norm(np.tensordot(2 * judged.transfer.by, face.span, 1), axis=-1).mean()
    assert errors["G-RE"] == pytest.approx(twice, rel=1e-3)


def test_silhouettes_of_separate_features(corpus, cache, models, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    rng, lengths = np.random.default_rng(0), []
    dev = figure6.recordings_of(corpus, cache, models)
    recorded = len(figure6._recorded(models.face, dev))  # emotions, whose features overlap

    def features(models, motion):
        lengths.append(len(motion))
        distance = 100 * max(0, len(lengths) - recorded)
        return rng.standard_normal((len(motion), 8)) + distance

    monkeypatch.setattr(figure6, "_features", features)
    figure = figure6.figure6(corpus, cache, models, tmp_path / "6.png")
    assert figure["silhouette_generated"] > 0.9 and figure["silhouette_recorded"] < 0.2
    assert figure["points_recorded"] == sum(lengths[:recorded])


def test_table_2(corpus, cache, models, small_generator):
    table = table2.table2(corpus, cache, models, seeds=2, steps=3)
    assert [row["training"] for row in table["rows"]] == ["with augmentation", "without"]
    for row in table["rows"]:
        assert all(0 <= row[c]["mean"] <= 1 for c in ("D-CE", "G-CE", "G-CE classifier"))
        assert (
            row["D-RE"]["mean"] >= 0 and row["G-RE"]["mean"] >= 0 and len(row["G-RE"]["seeds"]) == 2
        )
        assert row["D-RE features"]["mean"] >= 0 and row["G-RE features"]["mean"] > 0
    assert table["iterations"] == 3 and table["generated_frames"] == 3 * 25
    assert [row["iterations"] for row in table["curve"]] == [3, 3]


def test_table_2_follows_the_trainings(
    corpus, cache, models, small_generator, tmp_path, monkeypatch
):
    intervals = replace(emotion.EMOTION_INTERVALS, weights=2)
    monkeypatch.setattr(emotion, "EMOTION_INTERVALS", intervals)
    run = partial(table2.table2, corpus, cache, models, seeds=1, steps=3, trainings=tmp_path)
    curve = run()["curve"]
    assert [row["iterations"] for row in curve] == [2, 3, 2, 3]
    assert curve[0]["G-RE"]["mean"] != curve[1]["G-RE"]["mean"]
    trained = sorted((tmp_path / "table2").glob("*/after-*/emotion.safetensors"))
    times = [path.stat().st_mtime_ns for path in trained]
    assert len(trained) == 4
    assert run()["curve"] == curve  # nothing is trained again
    assert [path.stat().st_mtime_ns for path in trained[::2]] == times[::2]


def test_figure_6(corpus, cache, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="talkemo[figures] is not installed")
    pytest.importorskip("sklearn", reason="talkemo[figures] is not installed")
    image = str(tmp_path / "6.png")
    assert main([*suite("figure6", corpus, cache), "-o", image, "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    assert figure["output"] == image
    assert -1 <= figure["silhouette_generated"] <= 1 and figure["points_recorded"] > 20
    assert (tmp_path / "6.png").stat().st_size > 10000


def test_figure_7(corpus, cache, small_generator, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="talkemo[figures] is not installed")
    monkeypatch.chdir(tmp_path)
    steps = ["--steps", "3", "--seeds", "1"]
    assert main([*suite("figure7", corpus, cache), *steps, "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    names = [row["generator"] for row in figure["rows"]]
    assert names[::3] == [*generators.GENERATORS, "the animator's pose"] and len(names) == 18
    assert all(row["moved_mm"]["mean"] > 0 for row in figure["rows"])
    assert all(row["identity_mm"]["mean"] >= 0 for row in figure["rows"])
    assert all(row["seen"] is None for row in figure["rows"])  # no corpus to compare with
    assert (tmp_path / "figure7.png").stat().st_size > 10000


def test_tables_and_figures_are_printed(corpus, cache, monkeypatch, capsys):
    def replace(function, **result):
        """Let a suite return one row of results for the requested number of seeds."""

        def reproduce(*_, seeds=1, **__):
            values = {"mean": 1.25, "spread": 0.5, "seeds": [1.25] * seeds}
            row = {key: value or values for key, value in result["row"].items()}
            return {**result, "rows": [row]}

        monkeypatch.setattr(function, reproduce)

    row = {"decoder": "vertices", "weights": "local", "mask": "lips"}
    row |= {**dict.fromkeys(("T-RE", "T-VE", "V-RE", "V-VE")), "V-RE still": 0.25}
    clips = {"T": 1, "V": 2}
    replace(
        "talkemo.paper.table1.table1",
        row=row,
        masks={"lips": 7, "all": 9},
        clips=clips,
        steps=3,
        epochs=0.5,
    )
    assert main([*suite("table1", corpus, cache), "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "of 2 seeds after 3 steps" in printed and "1.250 ± 0.500" in printed
    columns = ("D-CE", "D-RE", "G-CE", "G-RE", "G-CE classifier")
    row = {"training": "without", **dict.fromkeys(columns)}
    replace(
        "talkemo.paper.table2.table2",
        row=row,
        iterations=3,
        real_frames=4,
        generated_frames=5,
        mask_vertices=6,
    )
    assert main([*suite("table2", corpus, cache), "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "D 4 real frames" in printed and "1.250 ± 0.500" in printed
    row = {"generator": "PointNet", "emotion": "happy", **dict.fromkeys(FIGURE7_COLUMNS)}
    replace("talkemo.paper.figure7.figure7", row=row, iterations=3, frames=4, output="figure7.png")
    assert main(suite("figure7", corpus, cache)) == 0
    printed = capsys.readouterr().out
    assert "PointNet" in printed and printed.endswith("figure7.png\n")


def test_stale_parts_of_the_report_are_made_anew(
    corpus, cache, tmp_path, monkeypatch, capsys, models
):
    made = []
    spread = {"mean": 0.5, "spread": 0.1, "seeds": [0.4, 0.6]}
    errors = dict.fromkeys(("T-RE", "T-VE", "V-RE", "V-VE"), spread)
    errors |= {"T-RE still": 0.3, "V-RE still": 0.4}
    tables = {
        "table1": {
            "rows": [{"decoder": "vertices", "weights": "local", "mask": "lips", **errors}],
            "masks": {"lips": 2004},
            "clips": {"T": 1, "V": 2},
            "training": {"recordings": 5, "frames": 1234},
            "steps": 3,
            "epochs": 0.5,
        },
        "table2": {
            "rows": [{"training": "without", "iterations": 3, "D-CE": spread}],
            "curve": [{"training": "without", "iterations": 3, "G-CE": spread, "D-CE": spread}],
            "iterations": 3,
            "real_frames": 1,
            "generated_frames": 2,
        },
    }
    row = {"generator": "PointNet", "emotion": "happy", **dict.fromkeys(FIGURE7_COLUMNS, spread)}
    row["seen"] = None  # without a tracker
    figures = {
        "figure6": {"silhouette_recorded": 0.0, "silhouette_generated": 0.5},
        "figure7": {"iterations": 3, "rows": [row]},
    }

    def table(name):
        return lambda *_, **__: made.append(name) or tables[name]

    def figure(name):
        def make(data, cache, models, image, **_):
            made.append(name)
            image.write_bytes(b"png")
            return figures[name]

        return make

    for name in tables:
        monkeypatch.setattr(report, name, table(name))
    for name in figures:
        monkeypatch.setattr(report, name, figure(name))
    command = [*suite("paper", corpus, cache), "-o", str(tmp_path / "paper")]
    assert main(command) == 0 and made == ["table1", "table2", "figure6", "figure7"]
    page = (tmp_path / "paper" / "report.html").read_text("utf-8")
    assert "0.500 ± 0.100" in page and "the paper, local" in page and "No answers yet" in page
    assert "1,234 frames" in page
    assert (
        "<td>vertices, local, lips</td>" in page
        and "lips 2004." in page
        and "generated\n0.50." in page
    )
    for name in ("figure3", "figure4", "figure5"):
        assert (tmp_path / "paper" / f"{name}.png").read_bytes()[1:4] == b"PNG"
    made.clear()
    (tmp_path / "paper" / "figure7.png").unlink()
    assert main(command) == 0 and made == ["figure7"]  # the others are up to date
    made.clear()
    assert main([*command, "--steps", "5"]) == 0 and made == ["table1", "table2", "figure7"]
    made.clear()  # what depends on the steps was stale
    assert main([*command, "--steps", "5", "--seeds", "7"]) == 0
    assert made == ["table1", "table2", "figure7"]
    made.clear()
    assert (
        main([*command, "--steps", "5", "--seeds", "7", "--weights", "free"]) == 0
        and "table2" in made
    )
    assert "weights free" in (tmp_path / "paper" / "report.html").read_text("utf-8")
    (tmp_path / "paper" / "table1.json").write_text("[]")
    assert main([*command, "--study", str(tmp_path)]) == 2 and "key.json" in capsys.readouterr().err
    assert main(command) == 2 and "not a part of a report" in capsys.readouterr().err


def test_figures_without_matplotlib_say_what_to_install(
    corpus, cache, models, tmp_path, monkeypatch
):
    from talkemo.paper.figure7 import figure7

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(talkemo.TalkemoError, match="not installed") as caught:
        figure7(corpus, cache, models, tmp_path / "7.png")
    assert "[figures]" in caught.value.hint and not (tmp_path / "7.png").exists()


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


def test_a_pointnets_maximum_is_that_of_all_points_and_so_is_its_gradient(face):
    torch.manual_seed(0)
    network = pointnet.new_pointnet(face, 8, 64)
    local = torch.randn(2, len(network.pixels), 8)
    results = []
    for maximum in (network._maximum, lambda local: network.common(local).amax(1)):
        points = local.clone().requires_grad_()
        network.zero_grad()
        value = maximum(points)
        value.square().sum().backward()
        results.append((value, points.grad, *(p.grad for p in network.common.parameters())))
    for quick, plain in zip(*results):
        torch.testing.assert_close(quick, plain)


class Repeat(torch.nn.Module):
    """A generator whose residual is the face itself."""

    def forward(self, x, label):
        return x


def test_generators_raw_and_projected_return_what_blend_shapes_make(face):
    observed = generators.residual_basis(face)[1]
    shapes = np.random.default_rng(0).standard_normal((2, len(observed)))
    moved = np.tensordot(10 * shapes, observed, 1).astype(np.float32)
    projected = generators.Projected(Repeat(), generators._rows(face))
    for network, most in ((Repeat(), 0.2), (projected, 0.02)):
        made = generators.TrainedGenerator(network, face, torch.device("cpu"))
        change = made.change(moved, "happy")
        error = np.linalg.norm(change - moved, axis=2).mean()
        assert error < most * np.linalg.norm(moved, axis=2).mean()
    noise = moved + np.random.default_rng(1).standard_normal(moved.shape).astype(np.float32)
    roughness = Roughness(face)
    raw = generators.TrainedGenerator(Repeat(), face, torch.device("cpu")).change(noise, "happy")
    assert roughness(raw) > 2 * roughness(made.change(noise, "happy"))


def test_autocorrelation_shows_the_pitch_and_not_the_level():
    time = np.arange(16000) / 16000
    tone = 0.1 * np.sin(2 * np.pi * 1000 * time)  # a period of 16 samples
    pieces = karras.autocorrelation(tone)
    assert pieces.shape == (126, 32) and np.allclose(pieces[:, 0], 1)
    assert pieces[60].argmin() in (7, 8, 9) and pieces[60, 16] > 0.8
    np.testing.assert_allclose(karras.autocorrelation(5 * tone)[60], pieces[60], atol=1e-3)
    assert not karras.autocorrelation(np.zeros(1600)).any()
    windows = karras.windows_at(pieces, np.array([0.0, 0.48]))
    assert windows.shape == (2, 64, 32) and not windows[0, :32].any()
    np.testing.assert_array_equal(windows[1, 32], pieces[60])


def test_karras_learns_and_goes_on(corpus, cache, models, tmp_path, short_speech):
    run = training.Trainings(tmp_path, corpus, cache, models).run("karras")
    config = karras.KarrasConfig(steps=3, batch=4, corpora=("ravdess",))
    model = karras.train_karras(run, config)
    audio = load_audio(short_speech)
    times = np.arange(5) / 5
    moved = {name: model.motion(audio, times, name).coordinates for name in model.states}
    assert "neutral" in moved and len(moved) > 1
    assert all(np.isfinite(rows).all() and rows.any() for rows in moved.values())
    sizes = karras.KarrasTraining(run, config).scales.sizes  # the terms' weights go on, too
    assert (sizes > 0).all()
    again = karras.train_karras(run, config)  # nothing is left to train
    np.testing.assert_allclose(
        again.motion(audio, times).coordinates, moved["neutral"], rtol=1e-5, atol=1e-5
    )


def test_the_digest_of_code_is_that_of_what_runs(monkeypatch):
    before = code.code_digest("talkemo.paper.table1")
    assert before == code.code_digest("talkemo.paper.table1")
    assert before != code.code_digest("talkemo.paper.figure7")
    read = code._read("talkemo.paper.table1", code._path("talkemo.paper.table1"))
    assert "talkemo.train.talking" in read[1] and "talkemo.paper.decoders" in read[1]
    same = 'def f(x):\n    """Say this."""\n    return x + 1\n', "def f( x ):  # that\n  return x+1"
    assert code.normalised(same[0]) == code.normalised(same[1])
    assert code.normalised(same[0]) != code.normalised("def f(x):\n    return x + 2\n")
    original = code._read

    def changed(name, path):
        known, imports = original(name, path)
        return ("other" if name == "talkemo.networks.talking" else known), imports

    monkeypatch.setattr(code, "_read", changed)
    assert code.code_digest("talkemo.paper.table1") != before  # a module that it imports


def test_actors_scores_are_means_over_actors():
    count = len(seen.SCORE_NAMES)

    def clip(speaker, emotion, level):
        scores = np.full((4, count), level, np.float32)
        scores[0] = np.nan  # no face
        return SimpleNamespace(speaker=speaker, emotion=emotion, scores=scores)

    clips = [clip("a", "neutral", 0.1), clip("a", "happy", 0.5), clip("a", "happy", 0.7)]
    clips += [clip("b", "neutral", 0.2), clip("b", "happy", 0.2), clip("c", "happy", 0.9)]
    scores = seen.actors_scores(clips)
    assert list(scores) == ["happy"] and seen.COMPARED_SCORES.sum() == len(scores["happy"])
    assert scores["happy"] == pytest.approx((0.5 + 0) / 2)


def test_roughness(face):
    smooth = np.ones((2, len(face.mean), 3), np.float32)
    rough = smooth.copy()
    rough[:, ::7, 1] += 1
    roughness = Roughness(face)
    assert roughness(smooth) < 1e-5 and roughness(rough) > 0.1
