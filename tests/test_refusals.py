"""Trainings and evaluations that are refused: before any work, and they leave nothing behind."""

import os
import shutil
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from talkemo import InputError, TalkemoError
from talkemo.data import capture_cache, captures
from talkemo.evaluation import split as split_module
from talkemo.train import face as face_stage
from talkemo.train import lips, map_chart, stages, talking
from talkemo.train.options import TrainOptions
from talkemo.train.run import Run
from talkemo_cli.app import main


@pytest.fixture
def no_fits(monkeypatch):
    """Fitting a corpus fails the test."""
    monkeypatch.setattr(captures, "make_captures", None)


@pytest.mark.parametrize("stage", ["face", "capture", "speech", "talking", "emotion", "all"])
def test_a_training_without_its_data_leaves_nothing(tmp_path, capsys, no_fits, stage):
    (tmp_path / "data").mkdir()
    out = tmp_path / "run"
    assert main(["train", stage, "--data", str(tmp_path / "data"), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "no such file" in error or "none of the corpora" in error
    assert not out.exists()


def test_all_stages_are_checked_before_the_first_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(face_stage, "source_files", lambda data: None)
    monkeypatch.setattr(face_stage, "train_face", None)
    with pytest.raises(InputError, match="none of the corpora ravdess, grid_s1"):
        stages.train_all(Run(tmp_path, tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def broken(corpus, tmp_path):
    """The synthetic corpus, whose audio cannot be read until `mend` is called."""
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    files = {path: path.read_bytes() for path in data.rglob("*.flac")}
    for path in files:
        path.write_bytes(b"junk")
    return data, lambda: [path.write_bytes(content) for path, content in files.items()]


def test_a_refused_training_does_not_block_the_next(broken, fitted, tmp_path, monkeypatch):
    data, mend = broken
    tiny = replace(talking.TalkingConfig(), batch=2, seconds=1.0)
    monkeypatch.setattr(talking, "TalkingConfig", lambda: tiny)
    monkeypatch.setattr(talking, "NOISE_CLIPS", 1)
    # Captures of the corpus without its audio: captures of a broken corpus are up to date.
    monkeypatch.setattr(captures, "_is_up_to_date", lambda *arguments: True)
    run = Run(data, tmp_path / "run", device="cpu", captures_folder=fitted[0] / "captures")
    with pytest.raises(InputError, match=r"\.flac"):
        stages.train("talking", run, options=TrainOptions(steps=1))
    assert not run.out.exists()
    mend()
    stages.train("talking", run, options=TrainOptions(steps=1))
    record = (run.out / "talking.json").read_bytes()
    for path in data.rglob("*.flac"):
        path.write_bytes(b"junk again")
    with pytest.raises(InputError, match=r"\.flac"):
        stages.train("talking", run, options=TrainOptions(steps=2))
    assert (run.out / "talking.json").read_bytes() == record


def test_a_missing_teacher_leaves_nothing(corpus, tmp_path, monkeypatch):
    def missing(name):
        raise TalkemoError("the teacher is not installed", "install it")

    monkeypatch.setattr(lips, "teacher_files", missing)
    with pytest.raises(TalkemoError, match="not installed"):
        stages.train("lips", Run(corpus, tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_the_face_holds_the_time_limit_and_reports_its_progress(tmp_path, monkeypatch):
    def endless(model, mediapipe, config, progress):
        for number in count():
            progress("geodesics", number, 10)

    seen = []
    monkeypatch.setattr(face_stage, "source_files", lambda data: (None, None))
    monkeypatch.setattr(face_stage, "build_face", endless)
    run = Run(tmp_path, tmp_path / "run", device="cpu", max_minutes=1e-4)
    run = replace(run, progress=lambda *step: seen.append(step))
    with pytest.raises(InputError, match=r"not complete after 0\.0001 minutes"):
        stages.train("face", run)
    assert not (tmp_path / "run").exists()
    assert len(seen) > 1 and seen[:2] == [("geodesics", 0, 10), ("geodesics", 1, 10)]


def test_every_long_step_of_the_face_reports_its_progress():
    import trimesh

    ball = trimesh.creation.icosphere(2)
    mean, faces = np.array(ball.vertices, np.float32) * 10, np.array(ball.faces)
    rng = np.random.default_rng(0)
    seen = []
    report = lambda *step: seen.append(step)
    config = face_stage.FaceConfig(identities=6, vertex_rank=8, identity_rank=3)
    modes = rng.normal(0, 1, (4, len(mean), 3)).astype(np.float32)
    tensors, _ = face_stage.bilinear_model(mean, modes, modes[:2], config, report)
    face_stage.refine_mesh(mean, faces, np.arange(3), 200, lambda *step: report("mesh", *step))
    mirror = np.arange(len(mean))
    chart, _ = map_chart.make_chart(mean, faces, mirror, report)
    displacements = face_stage.random_faces(tensors, 0, 5)
    map_chart.make_tables(chart, faces, displacements, lambda *step: report("map", *step))
    names = [step for step, _, _ in seen]
    assert {"identities", "bilinear model", "mesh", "geodesics", "chart", "map"} <= set(names)
    assert all(done <= total for _, done, total in seen)
    assert names.count("identities") == 7 and names.count("mesh") == 24


# -------------------------------------------------------------------------------------- evaluations


@pytest.mark.parametrize(
    ("option", "stage"),
    [("--weights", "talking"), ("--weights", "classifier"), ("--against", "talking")],
)
def test_unusable_weights_are_refused_before_corpora_are_fitted(
    corpus, tmp_path, capsys, no_fits, option, stage
):
    (tmp_path / f"{stage}.safetensors").write_bytes(b"junk")
    assert main(["evaluate", "--data", str(corpus), option, str(tmp_path)]) == 2
    assert f"{stage}.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("suite", ["table1", "table2", "figure6", "figure7", "paper", "dev"])
def test_a_suite_without_its_corpora_leaves_nothing(tmp_path, capsys, no_fits, suite):
    (tmp_path / "data").mkdir()
    arguments = ["evaluate", "--suite", suite, "--data", str(tmp_path / "data")]
    output = tmp_path / ("report" if suite == "paper" else "a.png")
    if suite not in ("table1", "table2"):
        arguments += ["-o", str(output)]
    assert main(arguments) == 2
    assert "corpora" in capsys.readouterr().err or suite == "dev"
    assert not output.exists()


def test_fits_are_kept_in_the_cache(corpus, fitted, face, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path / "cache"))
    made = []

    def make_captures(name, data, path, *rest):
        made.append(name)
        shutil.copy(fitted[0] / "captures" / "ravdess.npz", path)

    def load(corpora, models, **settings):
        recordings = captures.load_captures(
            corpora.data, corpora.captures, models, ("ravdess",), progress=None
        )
        raise InputError(f"{len(list(recordings))} recordings", "in this test")

    monkeypatch.setattr(captures, "make_captures", make_captures)
    monkeypatch.setattr(split_module, "evaluate_split", load)
    for _ in range(2):
        assert main(["evaluate", "--data", str(corpus)]) == 2
        error = capsys.readouterr().err
        assert f"are kept in {tmp_path / 'cache' / 'captures'}" in error
        assert "15 recordings" in error
    assert made == ["ravdess"]


def test_the_cache_of_fits_is_limited(face, tmp_path, monkeypatch):
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(capture_cache, "MAX_CAPTURES_BYTES", 250)
    folders = [capture_cache.cached_captures_folder(tmp_path / name, face) for name in ("a", "b")]
    assert folders[0] != folders[1]
    for folder in folders:
        for name in ("x.npz", "y.npz", "mine.txt"):
            (folder / name).write_bytes(bytes(100))
            os.utime(folder / name, (1, 1))
    capture_cache.mark_captures_used(folders[0])
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names == [["mine.txt", "x.npz", "y.npz"], ["mine.txt"]]
