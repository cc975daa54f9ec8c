"""Blinks: their rate and duration, and that lids meet."""

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.audio.prosody import Voice, VoiceEvent
from talkemo.expression.blinking import Blinking, blink_rate, lid_closure
from talkemo.face.motion import Motion
from talkemo.face.openings import lid_opening_gradient


def still(face, seconds, fps=60):
    times = np.arange(0, seconds, 1 / fps)
    return Motion(
        times,
        np.zeros((len(times), len(face.span)), np.float32),
        np.ones(len(times), np.float32),
    )


def closed(face, motion):
    """How far the right lids are closed, (T,), from 0 to 1."""
    return -(motion.coordinates @ lid_opening_gradient(face))[:, 0]


def starts(closing):
    """Frames in which a blink begins."""
    return np.flatnonzero((closing[1:] > 0.5) & (closing[:-1] <= 0.5))


def test_rate_is_the_requested_one(face):
    for rate in (12, 24, 40):
        measured = len(starts(closed(face, Blinking(face, rate, 1).add(still(face, 600))))) / 10
        assert 0.65 * rate < measured < 1.15 * rate
    motion = still(face, 600)
    silence = Voice([], np.zeros(len(motion)), np.zeros(len(motion)))
    silent = len(starts(closed(face, Blinking(face, 24, 1).add(motion, silence))))
    speech = len(starts(closed(face, Blinking(face, 24, 1).add(motion))))
    assert silent > 1.15 * speech
    motion = still(face, 5)
    assert Blinking(face, 0).add(motion) is motion


def test_blinks_come_with_stresses_and_depend_on_the_recording(face):
    motion = still(face, 600)
    times = np.arange(3, 600, 5.0)
    ones = np.ones(len(motion))
    events = [VoiceEvent("stress", time, 1.0, (int(time), 9)) for time in times]
    stressed = Blinking(face, 24, 1).add(motion, Voice(events, ones, motion.times))
    begins = motion.times[starts(closed(face, stressed))]
    near = ((begins[:, None] > times) & (begins[:, None] < times + 0.35)).any(1).mean()
    assert near > 1.4 * 0.35 / 5
    first = set()
    for number in range(5):
        start = VoiceEvent("start", 0.0, 1.0, (0, number))
        blinks = Blinking(face, 24, 1).add(
            still(face, 30), Voice([start], ones[:1800], ones[:1800])
        )
        first.add(starts(closed(face, blinks))[0])
    assert len(first) == 5


def test_lids_meet_and_do_not_pass_each_other(face):
    closing = closed(face, Blinking(face).add(still(face, 60)))
    assert 0.95 < closing.max() < 1.01 and closing.min() > -0.01
    squint = still(face, 60)
    squint.coordinates[:] = (
        0.8 * face.weights_to_coordinates[face.expression_names.index("eyeSquint_R")]
    )
    assert closed(face, Blinking(face).add(squint)).max() < 1.01


def test_lids_close_faster_than_they_open():
    phase = np.linspace(0, 1, 1001)
    closure = lid_closure(phase)
    assert closure[0] == 0 and closure[-1] == pytest.approx(0, abs=1e-6)
    assert closure.max() == pytest.approx(1)
    top = closure.argmax()
    assert (np.diff(closure[:top]) >= -1e-9).all() and (np.diff(closure[top + 60 :]) <= 1e-9).all()
    down, up = np.abs(closure[:top] - 0.5).argmin(), top + np.abs(closure[top:] - 0.5).argmin()
    assert phase[down] < phase[up] - phase[top]


def test_blinks_do_not_depend_on_batches_or_frame_rate(face):
    motion = still(face, 60)
    whole = Blinking(face, 24, 3).add(motion)
    batches, blinking = [], Blinking(face, 24, 3)
    for k in range(0, len(whole), 128):
        rows = slice(k, k + 128)
        batch = Motion(motion.times[rows], motion.coordinates[rows], motion.loudness[rows])
        batches.append(blinking.add(batch).coordinates)
    np.testing.assert_allclose(np.concatenate(batches), whole.coordinates, atol=1e-6)
    slow = Blinking(face, 24, 3).add(still(face, 60, fps=30))
    np.testing.assert_allclose(slow.coordinates, whole.coordinates[::2], atol=1e-5)
    another_seed = Blinking(face, 24, 4).add(still(face, 60))
    assert np.abs(another_seed.coordinates - whole.coordinates).max() > 0.1


def test_animations_blink(example_face, silence, models):
    index = list(talkemo.face.canonical.ARKIT_NAMES).index("eyeBlinkLeft")
    often = talkemo.animate(example_face, silence, blink=60, fps=30, models=models)
    never = talkemo.animate(example_face, silence, blink="off", fps=30, models=models)
    assert often.arkit[:, index].max() > 0.7 and never.arkit[:, index].max() < 0.1
    assert often.vertices.shape == never.vertices.shape


def test_invalid_rates_are_refused():
    assert blink_rate("auto") == 24 and blink_rate("off") == 0
    assert blink_rate("12") == 12 == blink_rate(12)
    for wrong in ("often", "-1", "nan", 500):
        with pytest.raises(InputError):
            blink_rate(wrong)
