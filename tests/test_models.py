"""What the bundled weights promise: lips move with the sound, an emotion moves the face and leaves the lips in time."""

import numpy as np
import pytest

from talkemo import InputError, metrics, speech
from talkemo.emotion import load_emotion, parse_emotion
from talkemo.talking import load_talking


@pytest.fixture(scope="module")
def talk(face, example_speech):
    audio = speech.open_audio(example_speech)
    model = load_talking(face)
    times = np.arange(0, audio.duration, 1 / 30)
    return model.displacement(model.features(audio), times)


def test_lips_move_with_the_sound(face, example_speech, talk):
    opening = metrics.mouth_opening(talk, face)
    assert opening.std() > 1.0
    assert np.ptp(opening) > 4
    # Loud frames are more open than faint ones.
    samples = speech.open_audio(example_speech).samples()
    level = np.array([np.abs(samples[int(t * 16000 / 30) :][:533]).mean() for t in range(len(talk))])
    assert metrics.pearson(opening, np.log(level + 1e-4)) > 0.2


def test_any_fps_samples_the_same_motion(face, example_speech):
    audio = speech.open_audio(example_speech)
    model = load_talking(face)
    feature = model.features(audio)
    slow = model.displacement(feature, np.arange(0, 2, 1 / 12))
    fast = model.displacement(feature, np.arange(0, 2, 1 / 60))
    np.testing.assert_allclose(fast[::5], slow, atol=1e-3)


def test_silence_rests(face, silence):
    model = load_talking(face)
    rest = model.displacement(model.features(speech.open_audio(silence)), np.arange(10) / 10)
    assert np.abs(rest).max() == 0


def test_hiss_rests(face, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(32000) * 1e-4, 16000, subtype="FLOAT")
    model = load_talking(face)
    rest = model.displacement(model.features(speech.open_audio(tmp_path / "a.wav")), np.arange(4) / 2)
    assert np.abs(rest).max() < 1.0


def test_intensity_zero_changes_nothing_and_more_moves_more(face, talk):
    model = load_emotion(face)
    happy = parse_emotion("happy")
    assert model.transfer(talk, happy, 0.0) is talk
    moved = [np.linalg.norm(model.transfer(talk[:60], happy, i) - talk[:60], axis=2).mean() for i in (0.25, 0.5, 1.0)]
    np.testing.assert_allclose(moved, [moved[2] / 4, moved[2] / 2, moved[2]], rtol=1e-3)


@pytest.mark.parametrize("name", ["happy", "angry", "surprised", "sad"])
def test_an_emotion_shows_and_keeps_the_lips_in_time(face, talk, name):
    changed = load_emotion(face).transfer(talk, parse_emotion(name))
    assert np.linalg.norm(changed - talk, axis=2).mean() > 0.4
    assert metrics.pearson(metrics.mouth_opening(changed, face), metrics.mouth_opening(talk, face)) > 0.85


def test_happy_smiles(face, talk):
    model = load_emotion(face)
    corners = face.landmarks68[[48, 54]]
    lift = (model.transfer(talk, parse_emotion("happy")) - talk)[:, corners]
    assert lift[..., 1].mean() > 0.5
    assert (
        metrics.mouth_width(model.transfer(talk, parse_emotion("happy")), face).mean()
        > metrics.mouth_width(talk, face).mean()
    )


def test_emotion_does_not_flicker(face, talk):
    changed = load_emotion(face).transfer(talk, parse_emotion("angry"))
    jolt = lambda x: np.linalg.norm(np.diff(x, 2, axis=0), axis=2).mean()
    assert jolt(changed) < 1.5 * jolt(talk)


def test_mixes_are_mixes(face, talk):
    model = load_emotion(face)
    part = talk[:20]
    mix = model.transfer(part, parse_emotion("happy:0.6,surprised:0.4")) - part
    own = [model.transfer(part, parse_emotion(n)) - part for n in ("happy", "surprised")]
    np.testing.assert_allclose(mix, 0.6 * own[0] + 0.4 * own[1], atol=1e-3)


def test_spellings():
    assert parse_emotion("Joy").argmax() == parse_emotion("happy").argmax()
    assert parse_emotion("anger").tolist() == parse_emotion("angry").tolist()
    for bad in ("furious", "happy:2", "happy:x", "happy:0.7,sad:0.7", "happy:nan", ""):
        with pytest.raises(InputError):
            parse_emotion(bad)
