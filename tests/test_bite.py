"""Lower teeth and tongue stay below the closed bite, and an emotion leaves the jaw to the speech."""

import numpy as np
import pytest
from openings_of_heads import heights as heights_of_gaps
from scipy.spatial.transform import Rotation
from test_page import numbers

from talkemo.binding.fill import fill_of
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import EMOTIONS, one_hot
from talkemo.expression.lip_contact import LipContact
from talkemo.expression.speaking_jaw import jaw_behind_lips, jaw_of_speech
from talkemo.face.motion import Motion
from talkemo.face.openings import face_lips
from talkemo.pipelines.acting import bound_header
from talkemo.render.added_parts import FollowingVertices
from talkemo.render.page import face_data

RAISED_MM = 0.2  # what the root of the tongue may rise by as the jaw goes back
POSES = (
    {"jawOpen": -0.3},
    {"jawOpen": -0.3, "mouthSmile": 0.6, "mouthLowerDown": 0.8},
    {"jawForward": -0.4, "jawOpen": -0.05},
    {"jawOpen": -0.2, "jawLeft": 0.6},
)


@pytest.fixture(scope="module")
def follow(bound, face):
    """The added parts of the example mask, which follow its frames."""
    return FollowingVertices(fill_of(bound, face.anatomy))


@pytest.fixture(scope="module")
def arkit_targets(bound):
    return bound.arkit_targets()


def coordinates_of(face, poses=POSES):
    weights = np.stack([face.weight_vector(pose) for pose in poses])
    return (weights @ face.weights_to_coordinates).astype(np.float32)


def heights(binding, points):
    return binding.placement.to_canonical(points.astype(np.float64))[..., 1]


def lower_row(fill):
    """The added points that jawOpen lowers as a whole: the lower teeth, their gums and the tongue."""
    jaw = fill.shapes[fill.binding.face.expression_names.index("jawOpen")]
    rigid = np.unique(np.concatenate([fill.faces[n].ravel() for n in ("teeth", "gums", "tongue")]))
    return rigid[jaw[rigid].any(1)]


def test_an_added_lower_row_stays_below_the_bite_in_every_frame(bound, face, follow):
    fill = fill_of(bound, face.anatomy)
    row = lower_row(fill)
    assert 1000 < len(row) < len(fill.points)
    turn = Rotation.from_euler("y", 20, degrees=True).as_matrix()
    for vertices in bound.vertices(coordinates_of(face)):
        raised = heights(bound, follow(vertices)) - heights(bound, fill.points)
        assert raised[row].max() < RAISED_MM
        assert (heights(bound, follow.linear(vertices)) - heights(bound, fill.points))[
            row
        ].max() > 1
        turned = follow((vertices @ turn.T).astype(np.float32)) @ turn
        assert np.abs(turned - follow(vertices))[row].max() < 0.2 * bound.scale
    opened = bound.vertices(coordinates_of(face, ({"jawOpen": 0.5},)))[0]
    np.testing.assert_array_equal(follow(opened), follow.linear(opened))


def test_the_page_keeps_the_bite_as_the_video_does(bound, face, follow):
    data = face_data(bound_header(bound, 0, 30.0, {}))
    coordinates = coordinates_of(face)
    lacking = np.maximum(-(coordinates @ np.array(data["bite"]["open"]).T).min(1), 0)
    rows = numbers(data["bite"]["rows"], "<u4") - len(bound.rest)
    lowered = numbers(data["bite"]["lowered"], "<f4").reshape(-1, 3)
    for k, vertices in enumerate(bound.vertices(coordinates)):
        points = follow.linear(vertices)
        points[rows] += lacking[k] * lowered
        assert np.abs(points - follow(vertices)).max() < 0.02 * bound.scale


@pytest.mark.parametrize("name", EMOTIONS[1:])
def test_an_emotion_leaves_the_jaw_to_the_speech(models, name):
    face = models.face
    gradient, _ = jaw_behind_lips(face)
    speech = Motion(np.zeros(2), coordinates_of(face, ({}, {"jawOpen": 0.4})))
    shown = models.emotion.transfer(speech, one_hot(name)[None])
    kept = jaw_of_speech(shown, speech, face)
    assert ((kept.coordinates - speech.coordinates) @ gradient).min() > -1e-4
    opening = face_lips(face).gap(face.span)
    assert np.abs((kept.coordinates - shown.coordinates) @ opening).max() < 0.1
    if name == "surprised":  # it raised the lower teeth by 6 mm
        assert ((shown.coordinates - speech.coordinates) @ gradient).max() < -0.15
    assert jaw_of_speech(speech, speech, face) is speech


def seen_gap(binding, vertices):
    """The largest height in mm between the lips of the example mask, as seen from ahead."""
    points = binding.placement.to_canonical(vertices.astype(np.float64))
    marks = points[binding.landmarks68]
    faces = binding.mesh.faces
    faces = faces[binding.face.regions["lips"][binding.canonical][faces].any(1)]
    planes = marks[60, 0] + np.linspace(0.05, 0.95, 31) * (marks[64, 0] - marks[60, 0])
    return heights_of_gaps(points, faces, planes, (marks[48:68, 1].min(), marks[48:68, 1].max()))


@pytest.mark.parametrize("name", EMOTIONS)
def test_lips_meet_on_a_mesh_where_speech_closes_them(models, bound, arkit_targets, name):
    """In the motion, and by the weights of ARKit's shapes that files hold."""
    face = models.face
    contact, rest = LipContact(face, bound.lip_gap), coordinates_of(face, ({},))
    shut = Motion(np.zeros(1), rest - 2 * face.unit_jaw_opening)
    shut = contact(shut, shut)
    moved = with_emotion(models.emotion, shut, one_hot(name)[None], face)
    shown = contact(moved if name != "neutral" else shut, shut)
    assert seen_gap(bound, bound.vertices(shown.coordinates)[0]).max() < 0.4
    weighted = bound.rest + np.tensordot(shown.arkit(face)[0], arkit_targets, 1)
    assert seen_gap(bound, weighted).max() < 0.6


@pytest.mark.parametrize("name", EMOTIONS)
def test_no_light_falls_between_lips_that_meet(models, bound, follow, name):
    """Teeth behind a slit are dark, also where one lip has slid over the other, as in disgust."""
    face = models.face
    contact, fill = LipContact(face, bound.lip_gap), fill_of(bound, face.anatomy)
    still = Motion(np.zeros(2), coordinates_of(face, ({}, {"jawOpen": 0.5})))
    motion = still if name == "neutral" else models.emotion.transfer(still, one_hot(name)[None])
    closed, opened = bound.vertices(contact(motion, still).coordinates)
    turn = Rotation.from_euler("yx", [20, 10], degrees=True).as_matrix()
    row = np.unique(fill.faces["teeth"])
    for vertices, dark in ((closed, True), (closed @ turn.T, True), (opened, False)):
        follow(vertices.astype(np.float32))
        light = 1 - follow.shade[row] / follow.occlusion.rows
        assert light.max() < 0.05 if dark else light.min() > 0.8
