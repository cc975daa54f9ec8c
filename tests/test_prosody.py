"""Prosody: pitch, stresses, pauses, phrases and questions, the same however audio arrives."""

import numpy as np
import pytest

from talkemo.audio.pipe import AudioStream
from talkemo.audio.prosody import (
    ANTICIPATION_S,
    MIN_PITCH_HZ,
    PROSODY_DELAY_S,
    Prosody,
    voice_rows,
)
from talkemo.audio.recording import SAMPLE_RATE, audio_of_samples, open_audio


def voice(parts):
    """Samples of a buzz; parts are (seconds, loudness, first and last pitch in Hz)."""
    level = np.concatenate([np.full(int(s * SAMPLE_RATE), a) for s, a, *_ in parts])
    hertz = np.concatenate([np.linspace(f, g, int(s * SAMPLE_RATE)) for s, _, f, g in parts])
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    return (level * sum(np.sin(k * phase) / k for k in range(1, 9))).astype(np.float32)


QUIET, PAUSE = 0.08, 0.0
SPOKEN = voice(
    [
        (0.5, PAUSE, 120, 120),
        (1.0, QUIET, 120, 120),
        (0.2, 3 * QUIET, 150, 150),
        (0.8, QUIET, 120, 110),
        (0.6, PAUSE, 120, 120),
        (0.8, QUIET, 115, 115),
        (0.3, QUIET, 120, 190),
        (1.0, PAUSE, 120, 120),
    ]
)


def heard(samples, step_s=0.1, chunk=None, seconds=5.0):
    """Return events and activity of samples, asked for in steps."""
    if chunk is None:
        prosody = Prosody(audio_of_samples(samples, SAMPLE_RATE))
    else:
        pieces = (samples[k : k + chunk] for k in range(0, len(samples), chunk))
        prosody = Prosody(AudioStream(pieces, SAMPLE_RATE))
    times = np.arange(0, seconds, 0.02)
    parts = [prosody.until(t) for t in np.array_split(times, round(seconds / step_s))]
    return [e for p in parts for e in p.events], np.concatenate([p.activity for p in parts])


@pytest.mark.parametrize("hertz", [80, 120, 210, 350])
def test_pitch(hertz):
    power, semitones = voice_rows(voice([(1.0, 0.2, hertz, hertz)]))
    expected = 12 * np.log2(hertz / MIN_PITCH_HZ)
    np.testing.assert_allclose(semitones, expected, atol=0.5)
    assert np.ptp(power) < 0.3
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert np.isnan(voice_rows(noise)[1]).mean() > 0.95
    assert np.isnan(voice_rows(np.zeros(SAMPLE_RATE, np.float32))[1]).all()


def test_events():
    events, activity = heard(SPOKEN)
    times = {kind: [e.time for e in events if e.kind == kind] for kind in {e.kind for e in events}}
    assert times["start"] == [0.0]
    assert times["phrase"] == pytest.approx([0.5, 3.1], abs=0.05)
    assert times["pause"] == pytest.approx([2.5, 4.2], abs=0.05)
    assert times["question"] == pytest.approx([4.2], abs=0.05)
    assert any(abs(time - 1.6) < 0.1 for time in times["stress"])
    assert activity[int(2.8 / 0.02)] < 0.3 and activity[int(1.5 / 0.02)] == 1
    assert [e.time for e in events] == sorted(e.time for e in events)


def test_the_same_however_audio_arrives():
    events, activity = heard(SPOKEN)
    for other, other_activity in (
        heard(SPOKEN, step_s=5.0),
        heard(SPOKEN, step_s=0.04, chunk=317),
        heard(SPOKEN, step_s=1.0, chunk=20000),
    ):
        assert other == events
        np.testing.assert_array_equal(other_activity, activity)
    # Another recording has other signatures, from its first event on.
    noisy = SPOKEN + np.random.default_rng(1).normal(0, 1e-3, len(SPOKEN)).astype(np.float32)
    assert heard(noisy)[0][0].signature != events[0].signature
    assert events[0].random(1).random() != events[0].random(2).random()


def test_audio_passes_unchanged_and_no_more_than_needed(example_speech):
    audio = open_audio(example_speech)
    prosody, pieces, asked = Prosody(audio), [], 0.0
    for piece in prosody.chunks():
        pieces.append(piece)
        heard_s = sum(map(len, pieces)) / SAMPLE_RATE
        while asked < heard_s - PROSODY_DELAY_S:
            assert all(
                e.time <= asked + ANTICIPATION_S for e in prosody.until(np.array([asked])).events
            )
            asked += 0.02
            assert not prosody._passed
    np.testing.assert_array_equal(np.concatenate(pieces), audio.samples())
    # Asked for more than was passed on, it reads ahead; beyond the end there is silence.
    ahead = Prosody(audio)
    assert ahead.until(np.array([1.0, audio.duration + 2])).activity[-1] == 0
    np.testing.assert_array_equal(np.concatenate(list(ahead.chunks())), audio.samples())


def test_long_audio_keeps_few_rows():
    prosody = Prosody(audio_of_samples(np.tile(SPOKEN, 8), SAMPLE_RATE))
    times = np.arange(0, 40, 0.1)
    spoken = np.concatenate([prosody.until(t).spoken for t in np.array_split(times, 40)])
    assert prosody._analysis._rows.shape[1] < 4000 and (np.diff(spoken) >= 0).all()
    assert 20 < spoken[-1] < 32
