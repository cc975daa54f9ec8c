"""Parts of a mesh beside its skin: what each is, by where it lies, and how it moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from ..face.canonical import EYE_CENTRES_MM, LEFT_EYE, RIGHT_EYE, Face
from .body import Body
from .mouth import Mouth

TOUCH = 2.5  # mm between a part and the skin that it is attached to
TOUCHING_RIM = 0.3  # share of a part's rim that touches the skin if it is attached to it
MARGIN = 20.0  # mm around the fitted face outside which parts are not looked at
EYE_REACH, EYE_SIZE = (
    14.0,
    45.0,
)  # mm from an eye's centre to the middle of its parts, and largest extent
LARGEST_EYE_OFFSET = (
    30.0  # mm from the middle of an eyeball's points to the centre of the sphere through them
)
FEWEST_VERTICES = 3  # of a part
BOTH_JAWS = 0.6  # of the mouth's width that a part has which holds upper and lower teeth
TALL_MOUTH = 18.0  # mm of height from which a part may hold both
BETWEEN = 8.0  # mm off the skin up to which the inside of a mouth that hangs on the lips goes along
# Lashes, brows, a beard, or what hangs on the skin's rim: largest distance from the surface, usual one, extent; mm.
NEAR_SURFACE, USUALLY_NEAR, LARGEST_ATTACHED = 12.0, 25.0, 110.0


@dataclass
class Parts:
    """What the parts of a body were recognised as: name → vertices, and for each eye its vertices and centre."""

    found: dict[str, list[np.ndarray]] = field(default_factory=dict)
    eyes: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, name: str, rows: np.ndarray) -> None:
        self.found.setdefault(name, []).append(rows)

    def vertices(self) -> dict[str, np.ndarray]:
        """Name → all vertices (P,) of that kind."""
        return {name: np.concatenate(rows) for name, rows in self.found.items()}


@dataclass(frozen=True, eq=False)
class _Part:
    """A connected part: its vertices, their points (P, 3) mm, and how it touches the skin."""

    rows: np.ndarray
    points: np.ndarray
    middle: np.ndarray
    extent: np.ndarray
    touching: np.ndarray  # (P,) bool
    attached: bool  # its rim lies on the skin


def place_parts(body: Body, mouth: Mouth) -> Parts:
    """Recognise the parts of a body beside its skin and give them their motion."""
    result = Parts()
    result.add("skin", np.flatnonzero(body.skin))
    centres = eye_centres(body.face, body.fitted)
    eyes: list[list[_Part]] = [[], []]
    skin = np.flatnonzero(body.skin)
    to_skin, to_surface = cKDTree(body.points[skin]), cKDTree(body.fitted)
    low, high = body.fitted.min(0) - MARGIN, body.fitted.max(0) + MARGIN
    for rows in _connected(body):
        if body.skin[rows[0]] or len(rows) < FEWEST_VERTICES:
            continue
        points = body.points[rows]
        middle = (points.min(0) + points.max(0)) / 2
        if not ((middle > low) & (middle < high)).all():
            continue
        touching = to_skin.query(points, distance_upper_bound=TOUCH)[0] < TOUCH
        rim = body.rim[rows]
        attached = bool(rim.any() and touching[rim].mean() > TOUCHING_RIM)
        part = _Part(rows, points, middle, np.ptp(points, axis=0), touching, attached)
        to_eyes = np.linalg.norm(centres - middle, axis=1)
        if _is_eye(part, to_eyes):
            eyes[int(to_eyes.argmin())].append(part)
            result.add("eyes", rows)
        elif mouth.contains(middle[None])[0] and points[:, 2].max() < mouth.front + 1:
            result.add(_place_in_mouth(body, mouth, part, to_skin, skin), rows)
        elif _hangs_on_skin(part, to_surface.query(points)[0]):
            _attach(body, part, to_skin, skin)
            result.add("on_skin", rows)
        else:
            result.add("still", rows)
    result.eyes = [
        (np.concatenate([p.rows for p in own]), _sphere_centre(own[0].points))
        if own
        else (np.zeros(0, int), centre)
        for own, centre in zip(eyes, centres)
    ]
    return result


def _connected(body: Body):
    """The vertices of each connected part."""
    order = np.argsort(body.label, kind="stable")
    bounds = np.searchsorted(body.label[order], np.arange(body.parts + 1))
    for k in range(body.parts):
        yield order[bounds[k] : bounds[k + 1]]


def _is_eye(part: _Part, to_eyes: np.ndarray) -> bool:
    """Whether a part is an eyeball or lies in one; a flat part attached to the skin is a lash."""
    near = to_eyes.min() < EYE_REACH and part.extent.max() < EYE_SIZE
    return bool(near and not (part.attached and part.extent.min() < 0.5 * part.extent.max()))


def _place_in_mouth(
    body: Body, mouth: Mouth, part: _Part, to_skin: cKDTree, skin: np.ndarray
) -> str:
    """Let teeth, gums and tongue follow the jaw or the skull; returns which."""
    above = float((part.points[:, 1] > mouth.line).mean())
    both = (
        part.extent[0] > BOTH_JAWS * mouth.width
        and part.extent[1] > TALL_MOUTH
        and 0.25 < above < 0.75
    )
    share = (
        mouth.jaw_share(body, part.rows) if both else np.float64(part.middle[1] < mouth.line + 2)
    )
    body.shapes[:, part.rows] = (np.reshape(share, (-1, 1)) * mouth.jaw_motion(part.points)).astype(
        np.float32
    )
    if part.attached:  # the inside of a mouth, with its tongue perhaps, that hangs on the lips
        _attach(body, part, to_skin, skin, BETWEEN)
    return "jaw" if np.mean(share) > 0.5 else "upper_teeth"


def _hangs_on_skin(part: _Part, to_surface: np.ndarray) -> bool:
    """Whether a part is lashes, brows or a beard, or lies behind the skin and hangs on its rim, as eye sockets do.

    to_surface: (P,) mm, distance of its vertices from the fitted face
    """
    near = part.attached or to_surface.max() < NEAR_SURFACE
    size = np.quantile(to_surface, 0.7) < USUALLY_NEAR and part.extent.max() < LARGEST_ATTACHED
    return bool(part.touching.any() and near and size)


def _attach(
    body: Body, part: _Part, to_skin: cKDTree, skin: np.ndarray, between: float = np.inf
) -> None:
    """Let a part follow the skin that it touches; its vertices up to `between` mm off move harmonically."""
    rows, touching = part.rows, part.touching
    distance, near = to_skin.query(part.points[touching], k=min(4, len(skin)))
    weight = 1 / (distance + 0.05) ** 2
    weight /= weight.sum(1, keepdims=True)
    body.shapes[:, rows[touching]] = np.einsum("mk,smkc->smc", weight, body.shapes[:, skin[near]])
    free = np.zeros(len(body.points), bool)
    free[rows[~touching & (to_skin.query(part.points)[0] < between)]] = True
    body.fill(free)


def eye_centres(face: Face, fitted: np.ndarray) -> np.ndarray:
    """(2, 3) mm, where the eyeballs of a fitted face (V, 3) should be, the right one first."""
    lids = [face.landmarks68[points] for points in (RIGHT_EYE, LEFT_EYE)]
    return EYE_CENTRES_MM + np.stack([fitted[lid].mean(0) - face.mean[lid].mean(0) for lid in lids])


def _sphere_centre(points: np.ndarray) -> np.ndarray:
    """Centre (3,) of the sphere nearest to points (P, 3), in least squares."""
    middle = points.mean(0)
    p = points - middle
    solution = np.linalg.lstsq(
        np.column_stack([2 * p, np.ones(len(p))]), np.square(p).sum(1), rcond=None
    )[0]
    return middle + (solution[:3] if np.linalg.norm(solution[:3]) < LARGEST_EYE_OFFSET else 0)
