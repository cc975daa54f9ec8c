"""Voices as they come: faint ones, channels in opposite phases, and how widely a face speaks."""

import numpy as np
import pytest
import soundfile

import talkemo
from talkemo import InputError
from talkemo.audio.recording import audio_of_samples, load_audio
from talkemo.audio.samples import MonoMixer
from talkemo.expression.articulation import articulated
from talkemo.face.motion import Motion

RATE = 16000


@pytest.fixture(scope="module")
def voice(example_speech):
    """The first 3 s of the example speech at 16 kHz."""
    return load_audio(example_speech).samples()[: 3 * RATE]


def lip_opening(models, samples, rate=RATE):
    audio = audio_of_samples(samples, rate)
    times = np.arange(int(audio.duration * 60)) / 60
    return models.talking.motion(audio, times).lip_opening(models.face)


@pytest.mark.parametrize("decibels", [-20, -40, -60])
def test_faint_speech_moves_lips_like_loud_speech(models, voice, decibels):
    usual = lip_opening(models, voice)
    faint = lip_opening(models, voice * 10 ** (decibels / 20))
    assert np.corrcoef(usual, faint)[0, 1] > (0.92 if decibels == -60 else 0.95)
    assert 0.9 < faint.std() / usual.std() < 1.1


@pytest.mark.parametrize("decibels", [-10, -40, -70])
@pytest.mark.parametrize("colour", [0, 1, 2])
def test_noise_of_any_level_keeps_the_mouth_closed(models, decibels, colour):
    rng = np.random.default_rng(colour)
    spectrum = np.fft.rfft(rng.standard_normal(2 * RATE))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, 2 * RATE)
    noise *= 10 ** (decibels / 20) / np.abs(noise).max()
    assert lip_opening(models, noise.astype(np.float32)).max() < 0.5


@pytest.mark.parametrize("tempo_s", [0.25, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_music_hardly_opens_the_mouth(models, tempo_s, seed):
    # Plucked strings (Karplus and Strong 1983), a synthesis that no training used.
    rng, music = np.random.default_rng(seed), np.zeros(4 * RATE)
    for start in np.arange(0, 3.5, tempo_s):
        for step in rng.choice([0, 3, 5, 7, 10, 12], 3, replace=False):
            string = plucked(110 * 2 ** (step / 12), rng)
            first = int(start * RATE)
            music[first : first + len(string)] += string[: len(music) - first]
    opening = lip_opening(models, (0.3 * music / music.std()).clip(-1, 1).astype(np.float32))
    assert opening.std() < 0.5 and opening.max() < 3


def plucked(pitch_hz, rng, seconds=1.0):
    """A string's sound: noise that goes round in a loop and is smoothed in each round."""
    loop = rng.uniform(-1, 1, round(RATE / pitch_hz))
    rounds = [loop]
    for _ in range(int(seconds * pitch_hz)):
        rounds.append(0.998 * (rounds[-1] + np.roll(rounds[-1], 1)) / 2)
    return np.concatenate(rounds)


def test_the_last_bit_of_a_converter_is_silence(models):
    bits = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.int16)
    assert not lip_opening(models, bits).any()


def test_channels_in_opposite_phases_are_heard(models, voice, tmp_path):
    usual = lip_opening(models, voice)
    opposite = np.stack([voice, -voice], 1)
    assert np.corrcoef(lip_opening(models, opposite), usual)[0, 1] > 0.99
    soundfile.write(tmp_path / "opposite.wav", opposite, RATE)
    from_file = load_audio(tmp_path / "opposite.wav").samples()
    assert np.abs(from_file).max() > 0.9 * np.abs(voice).max()


def test_a_mix_does_not_depend_on_how_it_is_cut():
    rng = np.random.default_rng(0)
    block = rng.standard_normal((5000, 2)).astype(np.float32)
    block[2000:4000, 1] = -block[2000:4000, 0]
    whole = MonoMixer(RATE)(block)
    mixer = MonoMixer(RATE)
    pieces = np.split(block, [1, 700, 701, 1900, 3333])
    np.testing.assert_allclose(np.concatenate([mixer(piece) for piece in pieces]), whole, atol=1e-6)
    np.testing.assert_allclose(whole[:1000], block[:1000].mean(1), atol=1e-6)
    assert np.abs(MonoMixer(RATE)(block[:, :1]) - block[:, 0]).max() == 0


def test_articulation_widens_speech_and_keeps_closures(face):
    jaw = face.expression_names.index("jawOpen")
    weights = np.zeros((5, len(face.expression_names)))
    weights[:, jaw] = [0.0, 0.01, 0.1, 0.3, 0.5]
    motion = Motion.from_weights(face, np.arange(5) / 60, weights)
    opening = motion.lip_opening(face)
    wide, small = (articulated(motion, factor, face).lip_opening(face) for factor in (1.5, 0.5))
    np.testing.assert_allclose(small, 0.5 * opening, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(wide[2:], 1.5 * opening[2:], rtol=1e-4)
    np.testing.assert_allclose(wide[:2], opening[:2], atol=0.01)  # 0 and 0.4 mm
    assert articulated(motion, 1.0, face) is motion


def test_articulation_is_an_option_of_files_and_streams(bound, short_speech, models):
    still = {"blink": "off", "head": "off", "gaze": "off", "liveliness": "off"}
    usual = talkemo.animate(bound, short_speech, models=models, **still)
    less = talkemo.animate(bound, short_speech, models=models, articulation=0.5, **still)
    difference = (less.vertices - bound.rest) - 0.5 * (usual.vertices - bound.rest)
    assert np.abs(difference).mean() < 0.02  # mm; closed lips meet in both
    wide = usual.motion.lip_opening(models.face) > 4
    assert wide.any() and np.abs(difference[wide]).max() < 0.02
    chunks = talkemo.stream(bound, short_speech, models=models, articulation=0.5, **still)
    coordinates = np.concatenate([chunk.coordinates for chunk in chunks])
    np.testing.assert_allclose(coordinates, less.motion.coordinates, atol=1e-3)
    with pytest.raises(InputError, match=r"articulation of 2"):
        talkemo.animate(bound, short_speech, models=models, articulation=2.0)
