"""The bundled weights: lips follow the speech, and emotions move the face but not the timing."""

import numpy as np
import pytest
import soundfile

from talkemo import InputError, Motion
from talkemo.audio.recording import audio_of_samples, open_audio
from talkemo.evaluation import metrics
from talkemo.expression.emotions import EMOTIONS, parse_emotion
from talkemo.face.motion import split_times


@pytest.fixture(scope="module")
def spoken(models, example_speech):
    """The motion of the example's speech."""
    audio = open_audio(example_speech)
    return models.talking.motion(audio, np.arange(0, audio.duration, 1 / 30))


@pytest.fixture(scope="module")
def talk(face, spoken):
    """Displacements (T, V, 3) of the example's speech."""
    return spoken.displacement(face)


@pytest.fixture(scope="module")
def say(face, models):
    """A function that returns the displacements for a recording at times, in a style."""

    def displacement(audio, times, style=None):
        return models.talking.motion(audio, times, style).displacement(face)

    return displacement


@pytest.fixture(scope="module")
def feel(face, models, spoken):
    """A function that returns the displacements of the example with an emotion."""

    def make(emotion, frames=None, intensity=1.0):
        motion = Motion(spoken.times[:frames], spoken.coordinates[:frames])
        return models.emotion.transfer(
            motion, parse_emotion(emotion) * np.float32(intensity)
        ).displacement(face)

    return make


def write(path, samples, rate=16000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return open_audio(path)


def test_lips_move_with_the_speech(face, example_speech, talk):
    opening = metrics.mouth_opening(talk, face)
    assert opening.std() > 1.0
    assert np.ptp(opening) > 4
    # Loud frames are more open than faint ones.
    samples = open_audio(example_speech).samples()
    level = np.array(
        [np.abs(samples[int(t * 16000 / 30) :][:533]).mean() for t in range(len(talk))]
    )
    assert metrics.pearson(opening, np.log(level + 1e-4)) > 0.2


def test_any_fps_samples_the_same_motion(say, example_speech):
    audio = open_audio(example_speech)
    slow, fast = say(audio, np.arange(0, 2, 1 / 12)), say(audio, np.arange(0, 2, 1 / 60))
    np.testing.assert_allclose(fast[::5], slow, atol=1e-3)


@pytest.mark.parametrize(("batch", "piece"), [(7, 0.5), (64, 2.0), (33, 0.1)])
def test_a_stream_equals_the_whole_recording(face, models, tmp_path, example_speech, batch, piece):
    samples = open_audio(example_speech).samples()
    audio = write(
        tmp_path / "a.wav", np.concatenate([samples, samples[::-1], samples])[: 12 * 16000 + 77]
    )
    times = np.arange(0, audio.duration, 1 / 60)
    whole = Motion.concatenate(models.talking.stream(audio, [times], None, 1e6), face)
    parts = Motion.concatenate(
        models.talking.stream(audio, split_times(times, batch), None, piece), face
    )
    apart = Motion(times, parts.coordinates - whole.coordinates).displacement(face)
    assert np.linalg.norm(apart, axis=2).max() < 1e-4  # mm


def test_the_face_rests_during_silence(say, silence):
    assert np.abs(say(open_audio(silence), np.arange(10) / 10)).max() == 0


def test_the_mouth_stays_closed_during_hiss(face, say, tmp_path):
    """Hiss as faint as the faintest speech that moves the lips: they press a little."""
    audio = write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(32000) * 1e-4)
    displacement = say(audio, np.arange(4) / 2)
    assert face.lip_opening(displacement).max() < 0.1 and np.abs(displacement).max() < 2.0


def test_noise_hardly_opens_the_mouth(face, say, tmp_path):
    audio = write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(64000) * 0.05)
    assert metrics.mouth_opening(say(audio, np.arange(0.5, 3.5, 0.1)), face).std() < 1.0


def test_leading_silence_stays_still(say, tmp_path, example_speech):
    samples = open_audio(example_speech).samples()
    times = np.arange(0, 6, 1 / 30)
    motion = say(write(tmp_path / "a.wav", np.concatenate([np.zeros(32000), samples])), times)
    assert np.abs(motion[times < 1.8]).max() == 0
    plain = say(write(tmp_path / "b.wav", samples), times[times < 4])
    np.testing.assert_allclose(motion[60:150], plain[:90], atol=0.02)


def test_samples_in_memory_give_the_motion_of_the_file(say, example_speech):
    samples, rate = soundfile.read(example_speech, dtype="float32")
    times = np.arange(0, 3, 0.1)
    stereo = np.stack([samples, samples], axis=1)
    np.testing.assert_allclose(
        say(audio_of_samples(stereo, rate), times),
        say(open_audio(example_speech), times),
        atol=1e-4,
    )
    for wrong in (
        np.zeros(0),
        np.array([np.nan] * 99),
        np.zeros((3, 3, 3)),
        1e9 * np.sin(np.arange(99)),
    ):
        with pytest.raises(InputError):
            audio_of_samples(wrong, rate)


@pytest.mark.parametrize("harm", ["faint", "offset", "clipped", "both channels, 48 kHz"])
def test_a_bad_recording_gives_similar_motion(face, say, tmp_path, example_speech, talk, harm):
    samples = open_audio(example_speech).samples()
    if harm == "faint":
        audio = write(tmp_path / "a.wav", samples * 0.03)  # 30 dB less
    elif harm == "offset":
        audio = write(tmp_path / "a.wav", samples * 0.5 + 0.3)
    elif harm == "clipped":
        limit = np.abs(samples).max() * 0.5
        audio = write(tmp_path / "a.wav", samples.clip(-limit, limit))
    else:
        high = np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples)
        audio = write(tmp_path / "a.wav", np.stack([high, high], 1), 48000)
    motion = say(audio, np.arange(len(talk)) / 30)
    opening = metrics.mouth_opening(motion, face), metrics.mouth_opening(talk, face)
    assert metrics.pearson(*opening) > 0.9
    assert 0.8 < opening[0].std() / opening[1].std() < 1.25


def test_a_style_changes_the_motion_and_an_unknown_one_is_refused(
    models, say, example_speech, talk
):
    styled = say(open_audio(example_speech), np.arange(60) / 30, models.talking.styles[0])
    assert np.abs(styled - talk[:60]).max() > 0.1
    with pytest.raises(InputError, match="unknown style"):
        models.talking.style("nobody")


def test_the_encoder_recognises_letters_in_speech_only(models, example_speech, silence):
    import torch

    from talkemo.data.utterances import CTC_LETTERS

    encoder = models.encoder
    letters = {}
    for name, path in (("speech", example_speech), ("silence", silence)):
        feature = encoder.features(open_audio(path))
        assert feature.shape[1] == encoder.width + 1
        with torch.inference_mode():
            spelled = encoder.network.log_probabilities(torch.from_numpy(feature[None, :, :-1]))[
                0
            ].exp()
        assert spelled.shape[1] == len(CTC_LETTERS) + 1
        np.testing.assert_allclose(spelled.sum(1), 1, atol=1e-4)
        letters[name] = float(spelled[:, 1:].sum(1).mean())
    assert letters["speech"] > 0.1 and letters["speech"] > 3 * letters["silence"]


def test_intensity_zero_changes_nothing_and_more_moves_more(models, spoken, talk, feel):
    assert models.emotion.transfer(spoken, 0 * parse_emotion("happy")) is spoken
    assert models.emotion.transfer(spoken, parse_emotion("neutral")) is spoken
    moved = [
        np.linalg.norm(feel("happy", 60, i) - talk[:60], axis=2).mean() for i in (0.25, 0.5, 1.0)
    ]
    np.testing.assert_allclose(moved, [moved[2] / 4, moved[2] / 2, moved[2]], rtol=0.15)


def test_frames_without_an_emotion_stay_identical(models, spoken):
    amounts = np.zeros((len(spoken), len(EMOTIONS)), np.float32)
    amounts[100:, EMOTIONS.index("sad")] = 1
    changed = models.emotion.transfer(spoken, amounts)
    np.testing.assert_array_equal(changed.coordinates[:100], spoken.coordinates[:100])
    assert np.abs(changed.coordinates[100:] - spoken.coordinates[100:]).max() > 1


@pytest.mark.parametrize("name", ["happy", "angry", "surprised", "sad"])
def test_an_emotion_is_visible_and_keeps_the_timing_of_the_lips(face, talk, feel, name):
    changed = feel(name)
    assert np.linalg.norm(changed - talk, axis=2).mean() > 0.4
    assert (
        metrics.pearson(metrics.mouth_opening(changed, face), metrics.mouth_opening(talk, face))
        > 0.85
    )


def test_happy_smiles(face, talk, feel):
    happy = feel("happy")
    corners = face.landmarks68[[48, 54]]
    assert (happy - talk)[:, corners, 1].mean() > 0.5
    assert metrics.mouth_width(happy, face).mean() > metrics.mouth_width(talk, face).mean()


def test_emotion_does_not_flicker(talk, feel):
    def mean_acceleration(vertices):
        return np.linalg.norm(np.diff(vertices, 2, axis=0), axis=2).mean()

    assert mean_acceleration(feel("angry")) < 1.5 * mean_acceleration(talk)


def test_mixes_add_their_emotions(talk, feel):
    neutral = talk[:20]
    mix = feel("happy:0.6,surprised:0.4", 20) - neutral
    single = [
        feel(name, 20, share) - neutral for name, share in (("happy", 0.6), ("surprised", 0.4))
    ]
    np.testing.assert_allclose(mix, single[0] + single[1], atol=1e-3)


def test_synonyms_of_emotions():
    assert parse_emotion("Joy").argmax() == parse_emotion("happy").argmax()
    assert parse_emotion("anger").tolist() == parse_emotion("angry").tolist()
    for bad in ("furious", "happy:2", "happy:x", "happy:0.7,sad:0.7", "happy:nan", ""):
        with pytest.raises(InputError):
            parse_emotion(bad)


def test_the_face_rests_at_times_beyond_the_audio(face, models, short_speech):
    parts = models.talking.stream(open_audio(short_speech), split_times(np.arange(-1, 9, 0.05), 8))
    motion = Motion.concatenate(parts, face)
    assert len(motion) == 200 and np.isfinite(motion.coordinates).all()
    assert np.abs(motion.coordinates[-60:]).max() == 0 and np.abs(motion.coordinates[:5]).max() == 0
