"""Parts that a mesh already has are found by their shape, and follow what they hang on or stay."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import parts_of_heads as build
import pytest

from talkemo.binding import Binding, bind_mesh
from talkemo.binding.head_turner import HeadTurner
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import MeshAttributes
from talkemo.geometry.meshes import closest_points, edge_lengths, mesh_edges, vertex_normals
from talkemo.render.appearance import appearance_of

POSES = {
    "open": {"jawOpen": 1.0},
    "half open": {"jawOpen": 0.5},
    "smile": {"mouthSmile": 1.0, "jawOpen": 0.2},
    "pucker": {"mouthPucker": 0.8},
    "blink": {"eyeBlink": 1.0},
    "brows up": {"browInnerUp": 1.0, "browOuterUp": 1.0},
}
STILL_MM = 1e-3  # a part moves less than this if it stays with the skull
MIN_EDGE_MM = 0.3  # shorter edges are not compared
BALLS = ("right_eye", "left_eye")


@dataclass
class Head:
    """A bound mesh, the vertices of each of its parts, and their motion in the poses."""

    binding: Binding
    rows: dict[str, np.ndarray]
    moved: dict[str, np.ndarray]  # vertices (N, 3) of the mesh in each pose

    def displacement(self, part: str, pose: str) -> np.ndarray:
        """How far the vertices (P,) of a part move."""
        rows = self.rows[part]
        return np.linalg.norm(self.moved[pose][rows] - self.binding.mesh.vertices[rows], axis=1)

    def stays(self, part: str) -> bool:
        """Whether a part never moves."""
        return all(self.displacement(part, pose).max() < STILL_MM for pose in POSES)

    def lengths(self, part: str) -> np.ndarray:
        """Length of each edge of a part by that at rest, in all poses."""
        edges, _ = mesh_edges(self.faces(part))
        rest = edge_lengths(self.binding.mesh.vertices, edges)
        edges, rest = edges[rest > MIN_EDGE_MM], rest[rest > MIN_EDGE_MM]
        return np.concatenate([edge_lengths(v, edges) / rest for v in self.moved.values()])

    def off_skin(self, part: str, pose: str) -> np.ndarray:
        """How much the motion of the vertices (P,) of a part differs from that of the skin there."""
        rest, moved, rows = self.binding.mesh.vertices, self.moved[pose], self.rows[part]
        faces = self.faces("skin")
        triangle, weights, _ = closest_points(rest, faces, rest[rows])
        of_skin = np.einsum("pk,pkc->pc", weights, (moved - rest)[faces[triangle]])
        return np.linalg.norm(moved[rows] - rest[rows] - of_skin, axis=1)

    def faces(self, part: str) -> np.ndarray:
        """The triangles of a part."""
        faces = self.binding.mesh.faces
        return faces[np.isin(faces, self.rows[part]).all(1)]


@pytest.fixture(scope="module")
def heads(face, example_face):
    """Returns a head of HEADS by its name; each is bound once."""
    mesh = load_mesh(example_face)
    landmarks = mesh.vertices[face.landmarks68]
    coordinates = np.stack([face.weight_vector(a) for a in POSES.values()])
    coordinates = coordinates @ face.weights_to_coordinates

    @cache
    def head(name):
        cell_mm, parts = HEADS[name]
        skin = build.coarse(mesh, cell_mm) if cell_mm else mesh
        whole, rows = build.with_parts(skin, **parts(mesh, landmarks))
        binding = bind_mesh(face, whole)
        return Head(binding, rows, dict(zip(POSES, binding.vertices(coordinates))))

    return head


def eyes(landmarks, radius, subdivisions, ahead_mm=0.0):
    """Two eyeballs, moved forwards."""
    balls = [build.eyeball(landmarks[lids], radius, subdivisions) for lids in (LIDS_R, LIDS_L)]
    ahead = np.array([0, 0, ahead_mm])
    return {name: (p + ahead, faces) for name, (p, faces) in zip(BALLS, balls)}


def teeth(landmarks, behind_mm):
    """Two rows of teeth and a tongue; the lower row lies behind the upper one."""
    return {
        "upper_teeth": build.teeth_row(landmarks, behind_mm, (-2, 8)),
        "lower_teeth": build.teeth_row(landmarks, behind_mm + 1, (-10, -1)),
        "tongue": build.tongue(landmarks),
    }


def shells(landmarks):
    """A shell around each eyeball of 13 mm, as a cornea that is a ball; narrower than high."""
    balls = eyes(landmarks, 15.5, 2)
    return {
        name.replace("eye", "shell"): (
            (points - points.mean(0)) * [0.96, 1, 1] + points.mean(0),
            faces,
        )
        for name, (points, faces) in balls.items()
    }


def unlike_eyes(mesh, landmarks):
    """A right eye, and a left one that is no ball: half as deep, and higher than wide."""
    balls = eyes(landmarks, 13, 3)
    points, faces = balls["left_eye"]
    middle = points.mean(0)
    return balls | {"left_eye": ((points - middle) * [0.85, 1.1, 0.45] + middle, faces)}


def joined_eyes(mesh, landmarks):
    """Both eyeballs in one part, joined by a triangle."""
    right, left = eyes(landmarks, 13, 3).values()
    points, faces = build.joined(right, left)
    inner = right[0][:, 0].argmax()
    nearest = len(right[0]) + np.argsort(left[0][:, 0])[:2]
    return {"both_eyes": (points, np.concatenate([faces, [[inner, *nearest]]]))}


def hair_and_brows(mesh, landmarks):
    """Cards of hair that hang over brows and lids, at several distances; brows and lashes."""
    cards = [(-40, 38, 0.5), (-20, 34, 2), (0, 55, 1), (20, 34, 3), (40, 38, 6)]
    cards = {
        f"hair_{k}": build.hair_card(x, 95, bottom, mesh.vertices, off)
        for k, (x, bottom, off) in enumerate(cards)
    }
    return cards | {
        "right_brow": build.brow(landmarks[17:22], 1.5),
        "left_brow": build.brow(landmarks[22:27], 6),
        "upper_lash": build.lash(landmarks[36:40], 2),
        "lower_lash": build.lash(landmarks[[42, 47, 46, 45]], -2),
    }


LIDS_R, LIDS_L = slice(36, 42), slice(42, 48)
# By name: size in mm of the cells in which the skin is made coarse, 0 for all of its triangles; and
# the parts that are added.
HEADS = {
    "small balls": (0, lambda m, p: eyes(p, 12, 1) | teeth(p, 0.5)),
    "large balls": (7, lambda m, p: eyes(p, 22, 4, 2) | teeth(p, 2)),
    "bulging balls": (7, lambda m, p: eyes(p, 14, 4, 4) | teeth(p, 6)),
    "unlike eyes": (5, unlike_eyes),
    "joined eyes": (5, joined_eyes),
    "bag": (0, lambda m, p: {"bag": build.mouth_bag(m, 0.3, 20, 2)}),
    "hair": (0, lambda m, p: hair_and_brows(m, p) | eyes(p, 13, 3) | shells(p)),
    "glasses": (
        5,
        lambda m, p: {
            "right_lens": build.lens(p[LIDS_R], 10),
            "left_lens": build.lens(p[LIDS_L], 10),
            "beard": build.beard(m, p, 4),
        },
    ),
}


def odd_parts(mesh, landmarks):
    """Parts that lie a little too far off for their shape alone to say what they are."""
    plates = {}
    for name, lids in (("right_plate", LIDS_R), ("left_plate", LIDS_L)):
        points, faces = build.lens(landmarks[lids], -12)
        middle = points.mean(0)
        plates[name] = ((points - middle) * [0.6, 0.8, 1] + middle - [0, 18, 0], faces)
    lash, lash_faces = build.lash(landmarks[37:41], 3)
    lashes = (lash + np.array([0, 6, 13]), lash_faces)
    return {**plates, "lashes": lashes, "brow": build.brow(landmarks[17:22], 21)}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({}, set()),
        ({"right_plate": "eyes", "left_plate": "eyes"}, {"right_plate", "left_plate"}),
        ({"lashes": "lashes", "brow": "brows"}, {"lashes", "brow"}),
        ({"lashes": "teeth", "brow": "eyes", "right_plate": "brows", "skin": "tongue"}, set()),
    ],
    ids=["no names", "eyes", "hairs", "wrong names"],
)
def test_names_are_a_hint_that_shape_has_to_confirm(face, example_face, names, found):
    mesh = load_mesh(example_face)
    parts = odd_parts(mesh, mesh.vertices[face.landmarks68])
    whole, rows = build.with_parts(build.coarse(mesh, 6), **parts)
    named = np.full(len(whole.vertices), "", "<U6")
    for part, kind in names.items():
        named[rows[part]] = kind
    binding = bind_mesh(face, replace(whole, attributes=MeshAttributes(named=named)))
    assert len(binding.moving) > 0.9 * len(rows["skin"])
    eyes = np.concatenate([of_eye for of_eye, _ in binding.eyes])
    recognised = {part for part in parts if np.isin(rows[part], eyes).all()}
    recognised |= {part for part in parts if np.isin(rows[part], binding.moving).any()}
    assert recognised == found


@pytest.mark.parametrize("name", ["small balls", "large balls", "bulging balls", "unlike eyes"])
def test_both_eyes_are_found_and_turn(heads, name):
    head = heads(name)
    binding = head.binding
    gaze = np.radians([-15.0, 20.0])
    turned = HeadTurner(binding)(binding.rest, np.eye(3), gaze)
    for part, (rows, centre) in zip(BALLS, binding.eyes):
        np.testing.assert_array_equal(np.sort(rows), head.rows[part])
        assert head.stays(part)
        before, after = (v[head.rows[part]] - centre for v in (binding.mesh.vertices, turned))
        radii = np.linalg.norm(before, axis=1)
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), radii, atol=1e-3)
        front = before[:, 2].argmax()
        assert (after[front] - before[front])[:2].min() > 0.2 * radii[front]
        if name != "unlike eyes":
            assert np.ptp(radii) < 0.1 * radii.mean()  # the centre is the ball's


def test_eyes_that_a_triangle_joins_turn_each_about_its_centre(heads):
    head = heads("joined eyes")
    right, left = head.binding.eyes
    assert head.stays("both_eyes")
    found = np.sort(np.concatenate([right[0], left[0]]))
    np.testing.assert_array_equal(found, head.rows["both_eyes"])
    for rows, centre in (right, left):
        radii = np.linalg.norm(head.binding.mesh.vertices[rows] - centre, axis=1)
        np.testing.assert_allclose(radii, 13, atol=0.5)


def test_a_shell_around_an_eyeball_turns_with_it(heads):
    head = heads("hair")
    for side, (rows, _) in zip(("right", "left"), head.binding.eyes):
        expected = np.concatenate([head.rows[f"{side}_eye"], head.rows[f"{side}_shell"]])
        np.testing.assert_array_equal(np.sort(rows), np.sort(expected))


@pytest.mark.parametrize("name", ["small balls", "large balls", "bulging balls"])
def test_teeth_keep_their_lengths_and_their_jaw(heads, name):
    head = heads(name)
    assert head.stays("upper_teeth")
    chin = head.binding.landmarks68[8]
    of_chin = np.linalg.norm(head.moved["open"][chin] - head.binding.mesh.vertices[chin])
    for part in ("lower_teeth", "tongue"):
        assert head.lengths(part).min() > 0.9 and head.lengths(part).max() < 1.1
        moved = head.displacement(part, "open")
        assert 0.5 * of_chin < np.median(moved) < 1.5 * of_chin
        assert head.displacement(part, "pucker").max() < 1


def test_teeth_are_not_painted_like_the_lips_before_them(heads):
    head = heads("small balls")
    drawn = appearance_of(head.binding, fill=False)
    of_teeth = np.isin(
        drawn.vertex, np.concatenate([head.rows["upper_teeth"], head.rows["tongue"]])
    )
    # One plain colour, which is darker behind the lips.
    assert of_teeth.any() and not np.ptp(drawn.place[of_teeth, 0])


def test_a_mouth_bag_goes_with_the_lips_and_stays_behind_the_skin(heads, face):
    head = heads("bag")
    bag, skin_faces = head.rows["bag"], head.faces("skin")
    rings = {pose: head.off_skin("bag", pose).reshape(10, -1).max(1) for pose in POSES}
    assert max(off_skin[0] for off_skin in rings.values()) < 1.5
    assert rings["smile"][:4].max() < 4  # in the cheeks
    assert head.lengths("bag").max() < 6
    lips = face.regions["lips"] | face.regions["mouth"]
    for moved in head.moved.values():
        triangle, weights, _ = closest_points(moved, skin_faces, moved[bag])
        corners = skin_faces[triangle]
        nearest = np.einsum("pk,pkc->pc", weights, moved[corners])
        normal = vertex_normals(moved, skin_faces)[corners].mean(1)
        ahead = np.einsum("pc,pc->p", moved[bag] - nearest, normal)
        assert ahead[~lips[corners].any(1)].max() < -1  # 2 mm behind it at rest


def test_hair_stays_and_brows_and_lashes_follow(heads):
    head = heads("hair")
    for k in range(5):
        assert head.stays(f"hair_{k}"), k
    for part in ("right_brow", "left_brow"):
        assert head.displacement(part, "brows up").min() > 4
        assert head.lengths(part).min() > 0.7 and head.lengths(part).max() < 1.4
    blink = {part: head.displacement(part, "blink") for part in ("upper_lash", "lower_lash")}
    assert blink["upper_lash"].max() > 5 > 4 > blink["lower_lash"].max() > 1
    assert head.lengths("upper_lash").max() < 1.5


def test_glasses_stay_and_a_beard_follows_the_chin(heads):
    head = heads("glasses")
    assert head.stays("right_lens") and head.stays("left_lens")
    chin = head.binding.landmarks68[8]
    of_chin = np.linalg.norm(head.moved["open"][chin] - head.binding.mesh.vertices[chin])
    beard = head.displacement("beard", "open")
    assert beard.max() > 0.8 * of_chin and np.median(head.off_skin("beard", "open")) < 3
    assert head.lengths("beard").max() < 2
