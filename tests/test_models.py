"""What the bundled weights promise: lips move with the sound, an emotion moves the face and leaves the lips in time."""

import numpy as np
import pytest
import soundfile

from talkemo import InputError, metrics, speech
from talkemo.emotion import load_emotion, parse_emotion
from talkemo.talking import load_talking


@pytest.fixture(scope="module")
def talk(face, example_speech):
    audio = speech.open_audio(example_speech)
    return load_talking(face).displacement(audio, np.arange(0, audio.duration, 1 / 30))


def write(path, samples, rate=16000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return speech.open_audio(path)


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
    slow = model.displacement(audio, np.arange(0, 2, 1 / 12))
    fast = model.displacement(audio, np.arange(0, 2, 1 / 60))
    np.testing.assert_allclose(fast[::5], slow, atol=1e-3)


@pytest.mark.parametrize(("batch", "piece"), [(7, 0.5), (64, 2.0), (33, 0.02)])
def test_pieces_equal_one_shot(face, tmp_path, example_speech, batch, piece):
    samples = speech.open_audio(example_speech).samples()
    audio = write(tmp_path / "a.wav", np.concatenate([samples, samples[::-1], samples])[: 20 * 16000 + 77])
    model = load_talking(face)
    times = np.arange(0, audio.duration, 1 / 60)
    whole = np.concatenate(list(model.coordinates(audio, times, None, 10**6, 1e6)))
    parts = np.concatenate(list(model.coordinates(audio, times, None, batch, piece)))
    largest = np.linalg.norm(((parts - whole) @ model.span).reshape(len(times), -1, 3), axis=2).max()
    assert largest < 1e-4  # mm


def test_silence_rests(face, silence):
    rest = load_talking(face).displacement(speech.open_audio(silence), np.arange(10) / 10)
    assert np.abs(rest).max() == 0


def test_hiss_rests(face, tmp_path):
    audio = write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(32000) * 1e-4)
    rest = load_talking(face).displacement(audio, np.arange(4) / 2)
    assert np.abs(rest).max() < 1.0


def test_noise_is_no_speech(face, tmp_path):
    audio = write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(64000) * 0.05)
    rest = load_talking(face).displacement(audio, np.arange(0.5, 3.5, 0.1))
    assert metrics.mouth_opening(rest, face).std() < 1.0


def test_leading_silence_stays_still(face, tmp_path, example_speech):
    samples = speech.open_audio(example_speech).samples()
    audio = write(tmp_path / "a.wav", np.concatenate([np.zeros(32000), samples]))
    model = load_talking(face)
    times = np.arange(0, 6, 1 / 30)
    motion = model.displacement(audio, times)
    assert np.abs(motion[times < 1.8]).max() == 0
    plain = model.displacement(write(tmp_path / "b.wav", samples), times[times < 4])
    np.testing.assert_allclose(motion[60:150], plain[:90], atol=0.02)


@pytest.mark.parametrize("harm", ["faint", "offset", "clipped", "both channels, 48 kHz"])
def test_a_bad_recording_moves_the_lips_alike(face, tmp_path, example_speech, talk, harm):
    samples = speech.open_audio(example_speech).samples()
    if harm == "faint":
        audio = write(tmp_path / "a.wav", samples * 0.01)
    elif harm == "offset":
        audio = write(tmp_path / "a.wav", samples * 0.5 + 0.3)
    elif harm == "clipped":
        limit = np.abs(samples).max() * 0.5
        audio = write(tmp_path / "a.wav", samples.clip(-limit, limit))
    else:
        high = np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples)
        audio = write(tmp_path / "a.wav", np.stack([high, high], 1), 48000)
    motion = load_talking(face).displacement(audio, np.arange(len(talk)) / 30)
    opening = metrics.mouth_opening(motion, face), metrics.mouth_opening(talk, face)
    assert metrics.pearson(*opening) > 0.9
    assert 0.8 < opening[0].std() / opening[1].std() < 1.25


def test_a_style_changes_the_motion_and_an_unknown_one_is_refused(face, example_speech, talk):
    model = load_talking(face)
    own = model.displacement(speech.open_audio(example_speech), np.arange(60) / 30, model.styles[0])
    assert np.abs(own - talk[:60]).max() > 0.1
    with pytest.raises(InputError, match="unknown style"):
        model.style("nobody")


def test_the_encoder_spells(example_speech):
    import torch

    from talkemo.data.voices import LETTERS
    from talkemo.encoder import load_encoder

    ear = load_encoder()
    feature = ear.features(speech.open_audio(example_speech))
    assert feature.shape[1] == ear.width + 1
    with torch.inference_mode():
        spelled = ear.network.log_probabilities(torch.from_numpy(feature[None, :, :-1]))[0]
    assert spelled.shape[1] == len(LETTERS) + 1
    np.testing.assert_allclose(spelled.exp().sum(1), 1, atol=1e-4)
    best = spelled.argmax(1).tolist()
    text = "".join(LETTERS[k - 1] for k, before in zip(best, [0, *best]) if k and k != before)
    assert len(text) > 20


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


def test_times_beyond_the_sound_rest(face, short_speech):
    motion = load_talking(face).stream(speech.open_audio(short_speech), np.arange(-1, 9, 0.05), None, 8)
    motion = np.concatenate(list(motion))
    assert len(motion) == 200 and np.isfinite(motion).all()
    assert np.abs(motion[-60:]).max() == 0 and np.abs(motion[:5]).max() == 0


def test_weights_of_another_version_are_refused(face, tmp_path):
    from talkemo import weights

    tensors, settings = weights.load(None, "talking")
    weights.save(tmp_path / "a.safetensors", "talking", tensors, {"styles": []})
    weights.save(tmp_path / "b.safetensors", "talking", {"x": np.zeros(3)}, settings)
    for name in ("a", "b"):
        with pytest.raises(InputError, match="another version"):
            load_talking(face, tmp_path / f"{name}.safetensors")
