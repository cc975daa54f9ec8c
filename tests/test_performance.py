"""Emotion transfer of performances: what is the person's own stays."""

from itertools import pairwise

import numpy as np
import pytest

import talkemo
from talkemo.evaluation.metrics import pearson
from talkemo.expression.emotions import Timeline
from talkemo.expression.performance import PerformanceTransfer, held_expressions
from talkemo.face.canonical import BROWS, MOUTH_CORNERS
from talkemo.face.motion import Motion

FPS = 25
TIMES = np.arange(6 * FPS) / FPS


def motion_of(face, **weights):
    """Return a motion of 6 s by blend-shape weights, of both sides if their names have none."""
    shapes = np.zeros((len(TIMES), len(face.expression_names)), np.float32)
    for start, values in weights.items():
        shapes[:, [name.startswith(start) for name in face.expression_names]] = np.broadcast_to(
            values, (1, len(TIMES))
        ).T
    return Motion.from_weights(face, TIMES, shapes)


@pytest.fixture(scope="module")
def flashes():
    """Brows that rise for 0.4 s every 1.6 s."""
    return 0.5 * (TIMES % 1.6 > 1.2)


def heights(face, motion, points):
    return np.tensordot(motion.coordinates, face.span[:, face.landmarks68[points], 1], 1)


def brow_height(face, motion):
    return np.mean([heights(face, motion, side).mean(1) for side in BROWS], axis=0)


def changed(models, motion, emotion):
    transfer = PerformanceTransfer(models.emotion, models.face)
    return next(transfer.changed([motion], Timeline.constant(emotion), FPS))


@pytest.mark.parametrize("emotion", ["happy", "angry", "sad"])
def test_an_emotion_keeps_the_brows_rhythm_and_the_mouths_asymmetry(face, models, flashes, emotion):
    jaw = 0.3 * (1 + np.sin(8 * TIMES))
    before = motion_of(face, browInnerUp=flashes, mouthSmile_L=0.3, jawOpen=jaw)
    after = changed(models, before, emotion)
    assert np.abs(after.coordinates - before.coordinates).max() > 1
    brows = [brow_height(face, motion) for motion in (before, after)]
    rise = [height[flashes > 0].mean() - height[flashes == 0].mean() for height in brows]
    assert pearson(*brows) > 0.97 and rise[1] == pytest.approx(rise[0], rel=0.1)
    sides = [heights(face, motion, list(MOUTH_CORNERS)) for motion in (before, after)]
    lower = [corners[:, 1] - corners[:, 0] for corners in sides]
    np.testing.assert_allclose(lower[1], lower[0], atol=0.35)  # mm of about 3


def test_neutral_takes_away_what_is_held_and_not_what_moves(face, models, flashes):
    jaw = 0.3 * (1 + np.sin(8 * TIMES))
    held = motion_of(face, browDown=0.5, mouthSmile=0.4, eyeSquint=0.5)
    moving = motion_of(face, browInnerUp=flashes, jawOpen=jaw)
    before = Motion(TIMES, held.coordinates + moving.coordinates)
    after = changed(models, before, "neutral")
    arkit = face.fit_weights(after.coordinates)
    of = lambda start: arkit[:, [n.startswith(start) for n in face.expression_names]].mean()
    assert max(of("browDown"), of("mouthSmile"), of("eyeSquint")) < 0.12
    assert pearson(brow_height(face, after), brow_height(face, moving)) > 0.97
    np.testing.assert_allclose(after.lip_opening(face), before.lip_opening(face), atol=0.7)


def test_an_emotion_takes_the_place_of_what_is_held(face, models):
    jaw = 0.3 * (1 + np.sin(8 * TIMES))
    calm = motion_of(face, jawOpen=jaw)
    smiling = motion_of(face, jawOpen=jaw, mouthSmile=0.6, cheekSquint=0.4, browOuterUp=0.3)
    for emotion in ("sad", "happy", "angry"):
        of_calm, of_smiling = (changed(models, m, emotion) for m in (calm, smiling))
        apart = [
            np.linalg.norm(a.displacement(face) - b.displacement(face), axis=2).mean()
            for a, b in ((smiling, calm), (of_smiling, of_calm))
        ]
        assert apart[1] < apart[0] / 4


def test_chunks_hold_what_the_whole_holds(face, flashes):
    motion = motion_of(face, browInnerUp=flashes, mouthSmile=np.linspace(0, 0.6, len(TIMES)))
    (whole,) = held_expressions(face, [motion], FPS)
    bounds = [0, 7, 40, 41, 120, len(TIMES)]
    parts = [Motion(TIMES[a:b], motion.coordinates[a:b]) for a, b in pairwise(bounds)]
    held = list(held_expressions(face, parts, FPS))
    assert [len(part.mean) for part in held] == [len(part) for part in parts]
    np.testing.assert_allclose(np.concatenate([h.mean for h in held]), whole.mean, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([h.weights for h in held]), whole.weights, atol=1e-4)


def test_times_without_an_emotion_stay_as_they_are(face, models, flashes, tmp_path):
    (tmp_path / "t.txt").write_text("3 5 happy\n")
    before = motion_of(face, browInnerUp=flashes)
    transfer = PerformanceTransfer(models.emotion, face)
    (after,) = transfer.changed([before], Timeline.read(tmp_path / "t.txt"), FPS)
    early = TIMES < 2.7
    np.testing.assert_array_equal(after.coordinates[early], before.coordinates[early])
    assert (after.coordinates[TIMES > 3.3] != before.coordinates[TIMES > 3.3]).any()


def test_reconstruction_keeps_the_rhythm_too(face, models, flashes, tmp_path):
    from talkemo.face.canonical import ARKIT_NAMES

    rows = np.zeros((len(TIMES), len(ARKIT_NAMES)))
    rows[:, ARKIT_NAMES.index("browInnerUp")] = flashes
    path = tmp_path / "curves.csv"
    header = ",".join(["Timecode", "BlendShapeCount", *(n[0].upper() + n[1:] for n in ARKIT_NAMES)])
    lines = [
        ",".join([f"00:00:{k // FPS:02d}:{k % FPS:02d}.000", "61", *map(str, row)])
        for k, row in enumerate(rows)
    ]
    path.write_text("\n".join([header, *lines]))
    happy = talkemo.reconstruct(path, models=models, emotion="happy", fps=FPS)
    height = happy.landmarks68[:, [21, 22], 1].mean(1)
    assert pearson(height, flashes) > 0.95
