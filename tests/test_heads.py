"""Motion of head and eyes, and how a mesh turns with them."""

import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import talkemo
from talkemo import InputError
from talkemo.audio.prosody import ANTICIPATION_S, Prosody, Voice, VoiceEvent
from talkemo.audio.recording import open_audio
from talkemo.binding.head_turner import HeadTurner
from talkemo.expression.head_motion import (
    HEAD_MOTION_SCALE,
    HEAD_MOTION_STD_DEG,
    Gaze,
    HeadMotion,
    gaze_from_weights,
    lids_of_gaze,
    weights_with_gaze,
)
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.live_link import head_angles
from talkemo.geometry.rigid import eye_rotation
from talkemo.pipelines.outputs import check_mode
from talkemo.render.appearance import appearance_of
from talkemo.video.reader import open_video


def test_head_moves_like_speakers_heads():
    times = np.arange(0, 120, 1 / 30)
    measured = np.array([HeadMotion(seed).angles(times).std(0) for seed in range(20)])
    expected = np.radians(HEAD_MOTION_SCALE * np.sqrt((HEAD_MOTION_STD_DEG**2).sum(0)))
    np.testing.assert_allclose(measured.mean(0), expected, rtol=0.15)
    assert np.abs(HeadMotion(3).angles(np.zeros(1))).max() < 1e-9  # it looks ahead at first
    np.testing.assert_array_equal(
        HeadMotion(3).angles(times)[::2], HeadMotion(3).angles(times[::2])
    )
    assert np.abs(HeadMotion(3).angles(times) - HeadMotion(4).angles(times)).max() > 0.02
    turns = HeadMotion(1).rotations(times)
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-5
    )


def test_mesh_turns_and_shoulders_stay_still(models, example_face):
    binding = talkemo.bind(example_face, models=models)
    turner = HeadTurner(binding)
    turn = Rotation.from_euler("y", 0.3).as_matrix()
    moved = turner(binding.rest, turn)
    nose = binding.placement.rotation.T @ (moved - binding.rest)[binding.landmarks68[30]]
    assert abs(nose[0]) > 10 * binding.scale  # the nose goes to the side
    chin = binding.placement.to_canonical(binding.rest.astype(np.float64))[
        binding.landmarks68[8], 1
    ]
    far = binding.placement.to_mesh(np.array([[0, chin - 200, 0.0]]))
    low = HeadTurner(binding)
    low.share = np.zeros((1, 1), np.float32)
    np.testing.assert_array_equal(low(far.astype(np.float32), turn), far.astype(np.float32))
    np.testing.assert_allclose(
        turner(binding.rest, np.eye(3)), binding.rest, atol=1e-5 * binding.scale
    )


def test_outputs_contain_the_head_motion(example_face, short_speech, models, tmp_path):
    outputs = [tmp_path / name for name in ("a.csv", "a.npz", "a.mp4")]
    options = {"fps": 20, "models": models, "seed": 2, "gaze": "off"}
    talkemo.animate(example_face, short_speech, outputs, **options)
    with np.load(tmp_path / "a.npz") as arrays:
        head, vertices = arrays["head"], arrays["vertices"]
    times = np.arange(len(head)) / 20
    voice = Prosody(open_audio(short_speech)).until(times)
    np.testing.assert_allclose(head, HeadMotion(2).rotations(times, voice), atol=1e-6)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    yaw = [float(row["HeadYaw"]) for row in rows]
    np.testing.assert_allclose(yaw, head_angles(head)[:, 0], atol=1e-5)
    outputs = [tmp_path / "b.npz", tmp_path / "b.mp4"]
    still = talkemo.animate(example_face, short_speech, outputs, head="off", **options)
    with np.load(still.outputs[0]) as arrays:
        assert "head" not in arrays
        # The mesh of an npz does not turn.
        np.testing.assert_array_equal(arrays["vertices"], vertices)
    videos = []
    for name in ("a.mp4", "b.mp4"):
        with open_video(tmp_path / name) as video:
            videos.append(np.stack(list(video.frames)).astype(int))
    first, last = (np.abs(videos[0][k] - videos[1][k]).mean() for k in (0, -1))
    assert last > 1.5 * first
    with pytest.raises(InputError, match="head motion"):
        check_mode("on", "head motion")


def test_eyes_stay_on_the_camera_and_leap():
    times = np.arange(0, 60, 1 / 60)
    head = HeadMotion(2).rotations(times)
    alone, with_head = Gaze(1).angles(times), Gaze(1).angles(times, head)
    # The gaze in the world, of head and eyes together, is that of eyes in a still head.
    looks = np.stack([h @ eye_rotation(g) @ [0, 0, 1] for h, g in zip(head, with_head)])
    expected = np.stack([eye_rotation(g) @ [0, 0, 1] for g in alone])
    assert np.degrees(np.arccos(np.clip((looks * expected).sum(1), -1, 1))).max() < 1.5
    speed = np.degrees(np.abs(np.diff(alone, axis=0)).max(1)) * 60
    assert (speed == 0).mean() > 0.8 and 10 < ((speed[1:] > 5) & (speed[:-1] <= 5)).sum() < 70
    parts, looking = [], Gaze(1)
    for k in range(0, len(times), 100):
        parts.append(looking.angles(times[k : k + 100]))
    np.testing.assert_allclose(np.concatenate(parts), alone, atol=1e-9)


def test_gaze_in_arkit_weights(example_face, short_speech, models):
    weights = weights_with_gaze(np.zeros((2, 52)), np.radians([[10.0, 5.0], [-10.0, -5.0]]))
    names = {name: weights[:, k] for k, name in enumerate(ARKIT_NAMES)}
    assert names["eyeLookDownLeft"][0] == pytest.approx(0.4) == names["eyeLookUpRight"][1]
    assert names["eyeLookOutLeft"][0] == pytest.approx(0.2) == names["eyeLookInRight"][0]
    assert weights[0].sum() == pytest.approx(1.2)
    np.testing.assert_allclose(
        gaze_from_weights(weights), np.radians([[10.0, 5.0], [-10.0, -5.0]]), atol=1e-9
    )
    lively, still = (
        talkemo.animate(example_face, short_speech, gaze=g, models=models) for g in ("auto", "off")
    )
    gaze = [k for k, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook")]
    others = np.setdiff1d(np.arange(52), gaze)
    assert lively.arkit[:, gaze].max() > still.arkit[:, gaze].max() + 0.02
    # The gaze's shapes lower and raise the lids; nothing else does so a second time.
    difference = np.abs(lively.arkit[:, others] - still.arkit[:, others])
    blinks = np.isin(others, [k for k, name in enumerate(ARKIT_NAMES) if "Blink" in name])
    assert difference[:, ~blinks].max() < 0.02 and difference[:, blinks].max() < 0.3


def test_lids_follow_the_gaze(face):
    upper, lower = face.landmarks68[[37, 38, 43, 44]], face.landmarks68[[41, 40, 47, 46]]
    gaze = np.radians([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.0]])
    lids = np.tensordot(lids_of_gaze(face, gaze), face.span, 1)
    down, up, ahead = lids[:, upper, 1].mean(1)
    assert -3.5 < down < -1.5 and 0.8 < up < 2 and ahead == 0
    assert (lids[0, upper, 1] < lids[0, lower, 1]).all()  # the eye narrows


def test_the_head_is_slower_in_pauses():
    times = np.arange(0, 40, 1 / 30)
    pause = Voice([], 1.0 * (times < 20), np.minimum(times, 20.0))
    steps = [np.abs(np.diff(HeadMotion(seed).angles(times, pause), axis=0)) for seed in range(6)]
    before, after = np.mean(steps, (0, 2))[:1198].reshape(2, -1).mean(1)
    assert 0.4 < after / before < 0.7


def test_the_head_nods_with_stresses():
    times = np.arange(0, 20, 1 / 30)
    still = HeadMotion(1).angles(times, Voice.unknown(times))
    nods = []
    for number in range(20):
        stress = VoiceEvent("stress", 10.0, 1.5, (number,))
        voice = Voice([stress], np.ones(len(times)), times)
        nods.append(HeadMotion(1).angles(times, voice) - still)
    nod = np.degrees(np.mean(nods, 0))[:, 0]
    assert abs(times[nod.argmax()] - 10) < 0.25 and 0.2 < nod.max() < 2
    assert np.abs(nod[times < 10 - ANTICIPATION_S]).max() == 0


def test_eyeballs_turn(models, example_face):
    binding = talkemo.bind(example_face, models=models)
    appearance, rest = appearance_of(binding), binding.rest
    ahead = appearance.points(rest)
    appearance.look_at(np.radians([0.0, 20.0]))
    aside = appearance.points(rest)
    moved = np.linalg.norm(aside - ahead, axis=1)
    assert moved.max() > 0.3 * 14.6 * binding.scale and moved[: len(rest)].max() == 0
    appearance.look_at(None)
    np.testing.assert_array_equal(appearance.points(rest), ahead)
