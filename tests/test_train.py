"""Every stage trains, resumes and writes weights that load, on a made-up corpus of a few seconds."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from talkemo import InputError
from talkemo.data import captures, corpora
from talkemo.data.motion import from_rest
from talkemo.face import load_face
from talkemo.train.emotion import EmotionConfig, train_emotion
from talkemo.train.talking import TalkingConfig, train_talking


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
    happy = next(r for r in from_rest(result) if r.emotion == "happy")
    neutral = next(r for r in from_rest(result) if r.emotion == "neutral")
    assert happy.capture.shapes[10:, smile].mean() > 0.4 > 0.1 > neutral.capture.shapes[:, smile].mean()


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


def test_talking_trains_and_resumes(face, corpus, fitted):
    from talkemo.talking import load_talking

    out, _ = fitted
    config = TalkingConfig(epochs=8, batch=16, learning_rate=1e-3, shares=(("ravdess", 1.0),))
    path = train_talking(face, corpus, out, replace(config, epochs=4))
    first = load_talking(face, path).settings["steps"]
    path = train_talking(face, corpus, out, config, resume=True)
    load_talking.cache_clear()
    model = load_talking(face, path)
    assert model.settings["steps"] == 2 * first
    assert model.styles == ["ravdess_01"]


def test_emotion_trains_and_resumes(face, corpus, fitted):
    from talkemo.emotion import load_classifier, load_emotion, parse_emotion

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


def test_a_foreign_checkpoint_is_refused(face, corpus, fitted):
    out, _ = fitted
    (out / "talking.checkpoint.safetensors").write_bytes(b"junk")
    config = TalkingConfig(epochs=1, shares=(("ravdess", 1.0),))
    with pytest.raises(InputError, match="cannot resume"):
        train_talking(face, corpus, out, config, resume=True)


def test_no_corpus(tmp_path):
    with pytest.raises(InputError, match="no such corpus"):
        captures.fit_corpus("ravdess", tmp_path, None)
