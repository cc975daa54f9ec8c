"""The upper face and the sides of the mouth live, in neutral too, and know the recording."""

import numpy as np
import pytest

from talkemo import AnimateOptions
from talkemo.audio.prosody import ANTICIPATION_S, Voice, VoiceEvent
from talkemo.audio.recording import SAMPLE_RATE, audio_of_samples, open_audio
from talkemo.expression import sad_lids
from talkemo.expression.brows import BROW_SHAPES, Brows
from talkemo.expression.emotions import one_hot
from talkemo.expression.lip_contact import LipContact
from talkemo.expression.mouth_sides import MouthSides
from talkemo.face.canonical import ARKIT_NAMES, LIP_PAIRS, MOUTH_CORNERS
from talkemo.face.motion import Motion, split_times
from talkemo.pipelines.acting import ActingPlan, FaceActor

FPS = 30
BROWS = slice(17, 27)


@pytest.fixture(scope="module")
def acted(models, bound, example_speech):
    """Act the example speech, or other audio, with options."""

    def act(audio=None, frames=10**9, chunk_s=20.0, **options):
        audio = audio or open_audio(example_speech)
        actor = FaceActor(models, bound, ActingPlan.of(AnimateOptions(**options)))
        times = np.arange(int(audio.duration * FPS)) / FPS
        parts = split_times(times, frames)
        acts = [
            actor.perform(m)
            for m in models.talking.stream(actor.listen(audio), parts, None, chunk_s)
        ]
        joined = {
            name: np.concatenate([getattr(a, name) for a in acts])
            for name in ("head", "gaze", "arkit")
            if getattr(acts[0], name) is not None
        }
        return joined | {
            name: np.concatenate([getattr(a, name).coordinates for a in acts])
            for name in ("shown", "speech", "emotional")
        }

    return act


@pytest.fixture(scope="module")
def neutral(acted):
    return acted(blink="off", gaze="off")


def landmarks(face, coordinates):
    return np.tensordot(coordinates, face.span[:, face.landmarks68], 1)


def r(first, second):
    return np.corrcoef(first, second)[0, 1]


def test_brows_live_in_neutral_and_do_not_follow_the_jaw(face, acted, neutral):
    brows = landmarks(face, neutral["shown"])[:, BROWS, 1]
    assert 0.4 < brows.std(0).mean() < 1.8  # mm; people 1.1
    inner, jaw = (neutral["arkit"][:, ARKIT_NAMES.index(n)] for n in ("browInnerUp", "jawOpen"))
    assert abs(r(inner, jaw)) < 0.4
    off = acted(blink="off", gaze="off", liveliness="off")
    assert landmarks(face, off["shown"])[:, BROWS, 1].std(0).mean() < 0.2
    # The jaw is that of the talking model.
    opening = [acts["shown"] @ face.lip_opening_gradient for acts in (neutral, off)]
    assert r(*opening) > 0.999


def test_sides_of_the_mouth_are_not_twins_and_lips_still_meet(face, neutral, acted):
    corners = landmarks(face, neutral["shown"])[:, MOUTH_CORNERS]
    assert 0.6 < r(corners[:, 0, 1], corners[:, 1, 1]) < 0.99
    assert 0.6 < r(-corners[:, 0, 0], corners[:, 1, 0]) < 0.99
    twins = acted(blink="off", gaze="off", liveliness="off")["shown"]
    for upper, lower in LIP_PAIRS:
        gaps = [
            marks[:, upper, 1] - marks[:, lower, 1]
            for marks in (landmarks(face, neutral["shown"]), landmarks(face, twins))
        ]
        closed = gaps[1] < 0.3
        assert closed.any() and np.abs(gaps[0] - gaps[1])[closed].max() < 0.25  # mm


def test_recordings_differ_and_repeat(face, acted, example_speech):
    samples = open_audio(example_speech).samples()
    later = audio_of_samples(samples[SAMPLE_RATE:], SAMPLE_RATE)
    first, again, other, seed = acted(), acted(), acted(later), acted(seed=1)
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
    count = len(other["head"])
    lids = [
        acts["arkit"][:count, ARKIT_NAMES.index("eyeBlinkLeft")] > 0.5 for acts in (first, other)
    ]
    assert all(closed.any() for closed in lids) and lids[0].argmax() != lids[1].argmax()
    for another in (other, seed):
        difference = first["head"][:count] - another["head"][:count]
        assert np.abs(difference).max() > np.radians(1.5)
        assert np.abs(first["gaze"][:count] - another["gaze"][:count]).max() > np.radians(1)


def test_a_stream_acts_as_a_file(acted, short_speech):
    audio = open_audio(short_speech)
    whole, stream = acted(audio, emotion="happy"), acted(audio, 2, 0.04, emotion="happy")
    for name, values in whole.items():
        np.testing.assert_allclose(stream[name], values, 1e-4, 2e-3)  # mm, radians, weights


def test_everything_off_is_the_speech_alone(models, bound, acted, example_speech):
    off = acted(blink="off", gaze="off", head="off", liveliness="off")
    audio = open_audio(example_speech)
    times = np.arange(int(audio.duration * FPS)) / FPS
    speech = models.talking.motion(audio, times)
    touching = LipContact(models.face, bound.lip_gap)(speech, speech)  # lips that close meet
    np.testing.assert_array_equal(off["shown"], touching.coordinates)
    assert "head" not in off and "gaze" not in off


def test_no_liveliness_is_off_and_a_little_moves_the_brows_a_little(face, acted, short_speech):
    audio = open_audio(short_speech)
    none, off, half, full = (
        acted(audio, blink="off", liveliness=value) for value in (0.0, "off", 0.5, "auto")
    )
    for name, values in off.items():
        np.testing.assert_array_equal(none[name], values)
    shown = [acts["speech"] for acts in (off, half, full)]
    np.testing.assert_allclose(shown[1] - shown[0], (shown[2] - shown[0]) / 2, atol=0.05)  # mm
    brows = [landmarks(face, acts["shown"])[:, BROWS, 1] for acts in (off, half, full)]
    np.testing.assert_allclose(brows[1] - brows[0], (brows[2] - brows[0]) / 2, atol=0.05)
    assert np.abs(brows[2] - brows[0]).max() > 0.3


def test_a_face_at_rest_begins_at_rest(acted):
    silence = acted(
        audio_of_samples(np.zeros(4 * SAMPLE_RATE, np.float32), SAMPLE_RATE), blink="off"
    )
    assert np.abs(silence["shown"][0]).max() == 0
    assert np.abs(silence["shown"]).max() > 0.05


def test_questions_raise_the_brows_and_emotions_calm_them(face):
    times = np.arange(0, 6, 1 / FPS)
    motion = Motion(times, np.zeros((len(times), len(face.span)), np.float32))

    def height(events, emotion=0.0):
        voice = Voice(events, np.ones(len(times)), times)
        moved = Brows(face, 1).add(motion, voice, np.full(len(times), emotion))
        return landmarks(face, moved.coordinates)[:, BROWS, 1].mean(1)

    question = [VoiceEvent("question", 3.0, 1.0, (300, 2))]
    rise = height(question) - height([])
    assert 1 < rise.max() < 4 and 2.9 < times[rise.argmax()] < 3.8
    assert rise[: int((3 - ANTICIPATION_S) * FPS)].max() == 0 and abs(rise[-1]) < 1e-6
    assert (height(question, 1.0) - height([], 1.0)).max() == pytest.approx(
        0.5 * rise.max(), rel=0.01
    )
    # Few stresses move the brows, as in people.
    stresses = [VoiceEvent("stress", 1 + 0.2 * k, 1.5, (k, 7)) for k in range(24)]
    assert np.abs(height(stresses) - height([])).max() > 0.5


def test_what_speech_does_to_brows_and_lids_is_removed(face):
    names = face.expression_names
    upper = [names.index(n) for n in (*BROW_SHAPES, "eyeBlink_L")]
    jaw = face.weights_to_coordinates[names.index("jawOpen")]
    speech = Motion(np.zeros(1), (0.3 * face.weights_to_coordinates[upper].sum(0) + jaw)[None])
    left = Brows(face).without_learned(speech).coordinates[0]
    np.testing.assert_allclose(left, jaw, atol=0.02 * np.linalg.norm(jaw))
    still = MouthSides(face).add(
        Motion(np.zeros(1), 0 * jaw[None]), Voice([], np.ones(1), np.zeros(1))
    )
    assert np.abs(still.coordinates).max() == 0


def test_sad_lids_are_lowered_but_awake(face, acted, monkeypatch):
    """The opening is that between the lids' landmarks; other emotions are left as they are."""
    motion = Motion(np.arange(2) / FPS, np.zeros((2, len(face.span)), np.float32))
    assert sad_lids.awake(motion, one_hot("happy")[None], face) is motion
    amounts = np.array([0, 1])[:, None] * one_hot("sad")
    moved = sad_lids.awake(motion, amounts, face).displacement(face)[:, face.landmarks68]
    upper, lower = [37, 38, 43, 44], [41, 40, 47, 46]
    wider = (moved[:, upper, 1] - moved[:, lower, 1]).mean(1)
    assert wider[0] == 0 and 0.5 < wider[1] < 2.5  # mm
    options = {"emotion": "sad", "blink": "off", "gaze": "off", "liveliness": "off"}
    audio = audio_of_samples(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    shown = acted(audio, **options)["shown"]
    monkeypatch.setattr(sad_lids, "OPENED_WEIGHT", 0.0)
    opened = shown - acted(audio, **options)["shown"]
    monkeypatch.undo()
    expected = sad_lids.awake(motion, amounts, face).coordinates[1]
    np.testing.assert_allclose(
        opened, np.tile(expected, (len(opened), 1)), atol=0.3
    )  # lips meet, too
