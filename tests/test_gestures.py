"""Laughter, sighs, breath and nods: found in sounds made for them, shown, scaled and off."""

import numpy as np
import pytest

from talkemo import AnimateOptions, InputError
from talkemo.audio.pipe import AudioStream
from talkemo.audio.prosody import ANTICIPATION_S, ONSET_S, Prosody, Voice, VoiceEvent
from talkemo.audio.recording import SAMPLE_RATE, audio_of_samples, open_audio
from talkemo.expression.brows import Brows
from talkemo.expression.head_motion import HeadMotion
from talkemo.expression.laughter import LAUGH_SHAPES, Laughter
from talkemo.expression.lip_parting import MAX_PARTED_MM, LipParting
from talkemo.expression.liveliness import liveliness_amount
from talkemo.face.motion import Motion
from talkemo.pipelines.acting import ActingPlan

FPS = 50


def buzz(seconds, hertz=150.0, level=0.1):
    """Return samples of a voice."""
    phase = 2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return level * sum(np.sin(k * phase) / k for k in range(1, 12))


def breath(seconds, level=0.02, seed=0):
    """Return noise of middle frequencies."""
    count = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, count))
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * ((hertz > 500) & (hertz < 3000)), count)
    return level * noise / noise.std()


def quiet(seconds):
    return 1e-5 * np.random.default_rng(1).normal(0, 1, int(seconds * SAMPLE_RATE))


def laughing(bursts=8, every_s=0.2):
    """Return a second of quiet, bursts of a voice that become fainter, and a second of quiet."""
    parts = [quiet(1.0)]
    for k in range(bursts):
        voiced = buzz(0.09, 220 - 5 * k, 0.15 * 0.93**k)
        parts += [voiced * np.hanning(len(voiced)), breath(every_s - 0.09, 0.004, k)]
    return np.concatenate([*parts, quiet(1.0)]).astype(np.float32)


def sighing(fall=8.0):
    """Return quiet, a phrase, a breath that falls by `fall` dB, and quiet."""
    sigh = breath(0.9)
    sigh *= 10 ** (-fall / 20 * np.arange(len(sigh)) / len(sigh))
    parts = [quiet(1.5), buzz(1.0, 140), quiet(0.15), sigh, quiet(1.0)]
    return np.concatenate(parts).astype(np.float32)


def events_of(samples, *kinds):
    times = np.arange(0, len(samples) / SAMPLE_RATE, 1 / FPS)
    events = Prosody(audio_of_samples(samples, SAMPLE_RATE)).until(times).events
    return [event for event in events if event.kind in kinds]


@pytest.fixture(scope="module")
def plain(example_speech):
    return open_audio(example_speech).samples()


def still(face, seconds=5.0):
    times = np.arange(0, seconds, 1 / FPS)
    return Motion(times, np.zeros((len(times), len(face.span)), np.float32))


def voice(*events, seconds=5.0):
    times = np.arange(0, seconds, 1 / FPS)
    return Voice(list(events), np.ones(len(times)), times)


LAUGHS = tuple(
    VoiceEvent("laugh", 1 + 0.2 * k, min((k + 1) / 3, 1), (100 + 20 * k, 5)) for k in range(6)
)
SIGH, ONSET = VoiceEvent("sigh", 1.0, 1.0, (100, 9)), VoiceEvent("onset", 1.0, 1.0, (100, 4))
STRESSES = tuple(VoiceEvent("stress", 1 + 0.4 * k, 1.5, (100 + k, 3)) for k in range(8))


def test_laughter_is_found_and_speech_is_not_laughter(plain):
    laughs = events_of(laughing(), "laugh")
    assert len(laughs) >= 3 and 1.6 < laughs[0].time < 2
    assert laughs[0].strength == 0.5 and laughs[-1].strength == 1
    assert not events_of(laughing(bursts=4), "laugh")
    assert not events_of(laughing(every_s=0.5), "laugh")  # sobs, or words
    assert not events_of(plain, "laugh", "sigh")


def test_sighs_are_found_once_and_other_noise_is_none(plain):
    sighs = events_of(sighing(), "sigh")
    assert len(sighs) == 1 and 2.8 < sighs[0].time < 3.2
    assert not events_of(sighing(fall=0.0), "sigh")  # a fan
    assert not events_of(sighing(fall=60.0), "sigh")  # reverberation
    without_phrase = sighing()[int(2.5 * SAMPLE_RATE) :]
    assert not events_of(np.concatenate([quiet(2), without_phrase]).astype(np.float32), "sigh")


def test_phrases_are_announced():
    onsets, phrases = (events_of(sighing(), kind) for kind in ("onset", "phrase"))
    assert [e.time + ONSET_S for e in onsets] == pytest.approx([e.time for e in phrases])


@pytest.mark.parametrize("sound", [laughing, sighing])
def test_a_stream_gestures_as_a_file(face, sound):
    samples = sound()
    times = np.arange(0, len(samples) / SAMPLE_RATE, 1 / FPS)

    def gestured(steps, chunk):
        pieces = (samples[k : k + chunk] for k in range(0, len(samples), chunk))
        prosody = Prosody(AudioStream(pieces, SAMPLE_RATE))
        laughter, parting, head = Laughter(face), LipParting(face), HeadMotion()
        brows, faces, heads = Brows(face), [], []
        for part in np.array_split(times, steps):
            heard = prosody.until(part)
            emotion = np.zeros(len(part))
            motion = Motion(part, np.zeros((len(part), len(face.span)), np.float32))
            motion = laughter.add(brows.add(motion, heard, emotion), heard, emotion)
            faces.append(parting.add(motion, heard).coordinates)
            heads.append(head.angles(part, heard))
        return np.concatenate(faces), np.concatenate(heads)

    whole = gestured(1, len(samples))
    for other in (gestured(len(times) // 2, 640), gestured(7, 5000)):
        for values, expected in zip(other, whole, strict=True):
            np.testing.assert_allclose(values, expected, atol=2e-4)


def test_a_laugh_smiles_narrows_the_eyes_and_bobs_and_ends(face):
    laughed = Laughter(face, 1).add(still(face), voice(*LAUGHS), np.zeros(5 * FPS))
    weights = face.fit_weights(laughed.coordinates, gaze=False)
    for name in LAUGH_SHAPES:
        rows = [k for k, full in enumerate(face.expression_names) if full.startswith(name)]
        if name != "noseSneer":
            assert weights[:, rows].max(0).min() > 0.5 * LAUGH_SHAPES[name], name
    assert np.abs(laughed.lip_opening(face)).max() < 0.05  # mm: the mouth is the speech's
    size = np.linalg.norm(laughed.coordinates, axis=1)
    assert not size[: int((1 - ANTICIPATION_S) * FPS)].any() and size[-1] < 1e-4
    # A short laugh shows less.
    single = Laughter(face, 1).add(still(face), voice(LAUGHS[0]), np.zeros(5 * FPS))
    assert np.linalg.norm(single.coordinates, axis=1).max() < 0.45 * size.max()
    calm = Laughter(face, 1).add(still(face), voice(*LAUGHS), np.ones(5 * FPS))
    np.testing.assert_allclose(calm.coordinates, 0.5 * laughed.coordinates, atol=1e-4)
    times = still(face).times
    bob = HeadMotion(1).angles(times, voice(*LAUGHS)) - HeadMotion(1).angles(times, voice())
    assert 0.3 < np.degrees(bob[:, 0]).max() < 2


def test_a_sigh_parts_lips_and_sinks_brows_and_head(face):
    parted = LipParting(face).add(still(face), voice(SIGH)).lip_opening(face)
    assert 1.5 < parted.max() < 4 and 0.7 < still(face).times[parted.argmax()] < 1.6
    times, none = still(face).times, np.zeros(5 * FPS)
    sunk = HeadMotion().angles(times, voice(SIGH)) - HeadMotion().angles(times, voice())
    assert 1 < np.degrees(sunk[:, 0]).max() < 2.5
    brows = [
        Brows(face).add(still(face), voice(*e), none).displacement(face) for e in ((SIGH,), ())
    ]
    lowered = (brows[0] - brows[1])[:, face.landmarks68[17:27], 1].mean(1)
    assert -2 < lowered.min() < -0.2


def test_lips_part_before_a_phrase_but_never_where_speech_closes_or_opens_them(face):
    onsets = [VoiceEvent("onset", 1.0, 1.0, (k, 4)) for k in range(12)]
    openings = [
        LipParting(face).add(still(face), voice(onset)).lip_opening(face) for onset in onsets
    ]
    parted = [opening for opening in openings if opening.any()]
    assert 3 < len(parted) < 12  # not at every phrase
    for opening in parted:
        times = still(face).times[opening > 0.05]
        first_sound = 1.0 + ONSET_S
        assert 0.3 < opening.max() <= MAX_PARTED_MM + 0.1
        assert first_sound - 0.4 < times[0] and times[-1] < first_sound - 0.1
    for opening in (-0.6, 3.0):  # pressed together, and open already
        rest = still(face)
        spoken = Motion(rest.times, rest.coordinates + np.float32(opening) * face.unit_jaw_opening)
        for onset in onsets:
            after = LipParting(face).add(spoken, voice(onset)).coordinates
            np.testing.assert_array_equal(after, spoken.coordinates)


def test_gestures_are_proportional_and_follow_the_seed(face):
    rest, none = still(face), np.zeros(5 * FPS)
    heard = (*LAUGHS, SIGH, ONSET, *STRESSES)

    def shown(amount, seed=3):
        brows = Brows(face, seed, amount).add(rest, voice(*heard), none).coordinates
        laugh = Laughter(face, seed, amount).add(rest, voice(*heard), none).coordinates
        lips = LipParting(face, seed, amount).add(rest, voice(*heard)).coordinates
        head = HeadMotion(seed, amount).angles(rest.times, voice(*heard))
        return brows, laugh, lips, head

    full, half, off = shown(1.0), shown(0.5), shown(0.0)
    for one, part, none_of_it, other in zip(full, half, off, shown(1.0, seed=4), strict=True):
        np.testing.assert_allclose(part - none_of_it, (one - none_of_it) / 2, atol=1e-4)
        assert np.abs(one - none_of_it).max() > 1e-3 and np.abs(one - other).max() > 1e-3
    for face_part in off[:3]:
        assert not face_part.any()
    # Without liveliness the head keeps its own motion, without nods.
    without_nods = HeadMotion(3).angles(rest.times, voice())
    nodding = np.abs(full[3] - without_nods)[:, 0].max()
    assert np.degrees(nodding) > 0.3


def test_liveliness_is_auto_off_or_a_number():
    assert [liveliness_amount(value) for value in ("auto", "off", "0.25", 0, 1)] == [
        1,
        0,
        0.25,
        0,
        1,
    ]
    for value in ("on", "1.5", -0.1, "nan", None):
        with pytest.raises(InputError, match="liveliness"):
            liveliness_amount(value)
    named = {value: ActingPlan.of(AnimateOptions(liveliness=value)) for value in ("off", 0.0, 0.3)}
    assert named["off"].meta == named[0.0].meta and not named[0.0].face_lives
    assert named["off"].meta["liveliness"] == "off" and named[0.3].meta["liveliness"] == 0.3
