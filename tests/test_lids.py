"""Lids close and lips meet on any mesh, in every emotion."""

import numpy as np
import pytest
from openings_of_heads import heights, least_cover, with_wide_eyes
from parts_of_heads import eyeball, with_parts

from talkemo.binding import bind_mesh
from talkemo.expression.blinking import Blinking, weights_with_blinks
from talkemo.expression.emotions import EMOTIONS, one_hot
from talkemo.expression.head_motion import lids_of_gaze
from talkemo.expression.lip_contact import LipContact
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.face.motion import Motion
from talkemo.face.openings import exported_weights, face_lids, face_lips, lid_opening_gradient
from talkemo.formats.mesh import load_mesh

EYES = (slice(36, 42), slice(42, 48))  # iBUG landmarks
MAX_GAP_MM = 0.3


def lid_heights(binding, vertices):
    """Heights (2, 9) mm of the openings of both eyes, of a mesh in mm whose face looks along +z."""
    rest = binding.mesh.vertices
    skin = np.zeros(len(rest), bool)
    skin[binding.moving[binding.canonical >= 0]] = True
    faces = binding.mesh.faces[skin[binding.mesh.faces].all(1)]
    result = []
    for eye in EYES:
        lids = rest[binding.landmarks68[eye]]
        middle, half = lids.mean(0), np.ptp(lids[:, 0]) / 2
        window = (lids[:, 1].min() - 4, lids[:, 1].max() + 4)
        ahead = faces[(rest[faces, 2] > lids[:, 2].min() - 6).all(1)]
        planes = middle[0] + np.linspace(-0.7, 0.7, 9) * half
        result.append(heights(vertices, ahead, planes, window))
    return np.array(result)


def blinked(binding):
    """Vertices (N, 3) with eyeBlink at 1 on both sides."""
    weights = binding.face.weight_vector({"eyeBlink": 1.0})
    return binding.vertices((weights @ binding.face.weights_to_coordinates)[None])[0]


def test_blinking_lids_meet(bound):
    assert lid_heights(bound, bound.mesh.vertices).min() > 4
    assert lid_heights(bound, blinked(bound)).max() < 0.1  # 0.18 with edges that shift apart


def test_the_exported_blink_closes_the_mesh(bound):
    targets = bound.arkit_targets()
    rows = [ARKIT_NAMES.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    assert lid_heights(bound, bound.rest + targets[rows].sum(0)).max() < MAX_GAP_MM


@pytest.fixture(scope="module")
def wide(face, bound, example_face):
    """A head with wide eyes and eyeballs of its own, and the rows of its parts."""
    lids = [bound.mesh.vertices[bound.landmarks68[eye]] for eye in EYES]
    mesh = with_wide_eyes(load_mesh(example_face), np.array([eye.mean(0) for eye in lids]))
    lids = [mesh.vertices[bound.landmarks68[eye]] for eye in EYES]
    mesh, rows = with_parts(mesh, right=eyeball(lids[0], 16, 3), left=eyeball(lids[1], 16, 3))
    return bind_mesh(face, mesh), rows


def test_wide_eyes_close(wide, bound):
    binding, _ = wide
    open_eyes = lid_heights(binding, binding.mesh.vertices)
    assert open_eyes.mean() > 1.3 * lid_heights(bound, bound.mesh.vertices).mean()
    assert lid_heights(binding, blinked(binding)).max() < MAX_GAP_MM


def test_closed_lids_hide_the_iris(wide):
    binding, rows = wide
    vertices, rest = blinked(binding), binding.mesh.vertices
    for name, eye in zip(("right", "left"), EYES):
        ball = vertices[rows[name]]
        middle = rest[binding.landmarks68[eye]].mean(0)
        iris = ball[np.linalg.norm((ball - middle)[:, :2], axis=1) < 6]
        iris = iris[iris[:, 2] > ball[:, 2].mean()]
        corners = vertices[binding.mesh.faces[(binding.mesh.faces < len(rows["skin"])).all(1)]]
        assert least_cover(iris, corners) > 0


def test_neighbours_in_the_lids_stay_together(bound):
    mesh, vertices = bound.mesh, blinked(bound)
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    before, after = (
        np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        for points in (mesh.vertices, vertices)
    )
    assert (after / np.maximum(before, 0.05)).max() < 5.5


# -------------------------------------------------------------------------------------- emotions


def emotional(models, name, frames):
    """A motion of some frames at rest with an emotion."""
    still = Motion(np.zeros(1), np.zeros((1, len(models.face.span)), np.float32))
    if name != "neutral":
        still = models.emotion.transfer(still, one_hot(name)[None])
    coordinates = np.repeat(still.coordinates, frames, axis=0)
    return Motion(np.arange(frames) / 60, coordinates, np.ones(frames, np.float32))


@pytest.mark.parametrize("name", EMOTIONS)
def test_blinks_close_in_every_emotion_and_gaze(models, bound, name):
    motion = emotional(models, name, 240)
    gaze = np.radians(np.array([[12.0, 0], [-12.0, 0], [0, 10]])[np.arange(240) // 10 % 3])
    looking = motion.coordinates + lids_of_gaze(models.face, gaze)
    blinking = Blinking(models.face, 60, 1).add(Motion(motion.times, looking, motion.loudness))
    opening = 1 + blinking.coordinates @ lid_opening_gradient(models.face)
    peaks = np.flatnonzero(opening.max(1) < 0.01)
    assert len(np.unique(peaks // 30)) >= 2 and opening.min() > -0.01
    shut = bound.vertices(blinking.coordinates[peaks[[0, len(peaks) // 2, -1]]])
    assert max(lid_heights(bound, vertices).max() for vertices in shut) < MAX_GAP_MM


@pytest.mark.parametrize("name", EMOTIONS)
def test_closed_lips_meet_in_every_emotion(models, name):
    face, lips = models.face, face_lips(models.face)
    motion = emotional(models, name, 2)
    jaw = face.weight_vector({"jawOpen": 0.4}) @ face.weights_to_coordinates
    neutral = emotional(models, "neutral", 2)
    speech = Motion(neutral.times, neutral.coordinates + [[0], [1]] * jaw.astype(np.float32))
    motion.coordinates[1] += jaw
    contact = LipContact(face, np.zeros(len(lips.position)))
    closed, opened = contact(motion, contact(speech, speech)).coordinates @ lips.gap(face.span)
    assert np.abs(closed[1:-1]).max() < MAX_GAP_MM
    assert np.abs(closed[4:-4]).max() < 0.15
    assert opened[len(opened) // 2] > 4
    untouched = contact(motion, speech).coordinates[1]
    np.testing.assert_array_equal(untouched, motion.coordinates[1])


def test_exported_weights_close_lips_as_the_motion_does(models):
    """In a fit of the whole face, lips that meet were up to 2 mm apart."""
    face, lips = models.face, face_lips(models.face)
    contact, plain = LipContact(face, np.zeros(len(lips.position))), []
    for name in EMOTIONS:
        shown, still = emotional(models, name, 1), emotional(models, "neutral", 1)
        shut = contact(shown, contact(still, still)).coordinates
        wanted = (lips.gap(face.mean) + shut @ lips.gap(face.span))[0, 1:-1]
        weights = exported_weights(face, shut), face.fit_weights(shut, gaze=False)
        kept, whole = (w[0] @ lips.gap(face.expression_basis) for w in weights)
        off = np.abs(lips.gap(face.mean)[1:-1] + np.stack([kept, whole])[:, 1:-1] - wanted).max(1)
        assert off[0] < 0.35 and weights[0].min() >= 0, name
        plain.append(off[1])
    assert max(plain) > 0.7


def test_lips_never_cross(face):
    pressed = face.weight_vector({"mouthFrown": 1.0, "mouthShrugLower": 1.0})
    coordinates = np.float32(pressed @ face.weights_to_coordinates)[None]
    motion = Motion(np.zeros(1), coordinates)
    contact, gradient = LipContact(face, np.zeros(20)), face_lips(face).gap(face.span)
    assert (coordinates @ gradient).min() < -1
    assert (contact(motion, motion).coordinates @ gradient)[:, 1:-1].min() > -0.25


@pytest.mark.parametrize("name", ["happy", "surprised"])
def test_exported_weights_close_blinks(models, name):
    face = models.face
    motion = Blinking(face, 60, 1).add(emotional(models, name, 240))
    opening = 1 + motion.coordinates @ lid_opening_gradient(face)
    peaks = np.flatnonzero(opening.max(1) < 0.01)[:6]
    shut = Motion(motion.times[peaks], motion.coordinates[peaks])
    weights = weights_with_blinks(shut.arkit(face), shut, face)
    changes = np.stack([lids.change for lids in face_lids(face)], axis=1)
    left_open = 1 + weights @ ((face.arkit_matrix > 0).T @ changes)
    blinks = weights[:, [ARKIT_NAMES.index(f"eyeBlink{side}") for side in ("Right", "Left")]]
    assert (np.abs(left_open) < 0.01)[blinks < 1].all() and (left_open < 0.1).all()
