"""Motion of the inside of a mouth that begins at the lips: it stays behind lips, cheeks and chin."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..geometry.numerics import smoothstep
from .body import Body
from .features import Features
from .mouth import Mouth

SKIN_NEIGHBOURS = 8  # vertices of the skin whose motion a vertex behind them follows
# How far behind the skin it is followed alone, and from where on the jaw is.
SKIN_ALONE_MM, JAW_ALONE_MM = 8.0, 18.0
FOLLOWING_STIFFNESS_MM = 1.0  # of following skin and jaw, beside the edges' inverse lengths
MIN_DISTANCE_MM = 1.0  # lower bound of the distance that the stiffness falls with
LIP_HALF_MM = 0.5  # skin this far above the line of the lips may still be the lower lip's


def place_lining(
    body: Body, mouth: Mouth, features: Features, rows: np.ndarray, skin_rows: np.ndarray
) -> None:
    """Assign the motion of vertices `rows` of a mouth's inside.

    They move as smoothly as possible between their neighbours that have a motion already. Near the
    skin they follow it, so that they never come through; deep in the mouth they follow the jaw by
    their height.
    """
    if not len(rows) or not len(skin_rows):
        return
    points = body.points[rows]
    follow, distance = motion_of_lips(body, features, points, skin_rows)
    deep = smoothstep((distance - SKIN_ALONE_MM) / (JAW_ALONE_MM - SKIN_ALONE_MM))
    jaw = mouth.jaw_share(body, rows)[:, None] * mouth.jaw_motion(points)
    aim = (1 - deep)[:, None] * follow + deep[:, None] * jaw
    body.fill_smoothly(rows, aim, FOLLOWING_STIFFNESS_MM / np.maximum(distance, MIN_DISTANCE_MM))


def motion_of_lips(
    body: Body, features: Features, points: np.ndarray, skin_rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion (S, P, 3) of the skin nearest to points (P, 3), and its distance (P,).

    Above the line of the lips it is that of the upper lip, below that of the lower one.
    """
    motion = np.zeros((len(body.targets), *points.shape))
    distance = np.full(len(points), np.inf)
    skin = body.points[skin_rows]
    skin_above = skin[:, 1] - features.lip_height(skin[:, 0])
    above = points[:, 1] > features.lip_height(points[:, 0])
    for half, of_half in ((above, skin_above > -LIP_HALF_MM), (~above, skin_above < LIP_HALF_MM)):
        if half.any() and of_half.any():
            motion[:, half], distance[half] = skin_motion(body, points[half], skin_rows[of_half])
    return motion, distance


def skin_motion(
    body: Body, points: np.ndarray, skin_rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion (S, P, 3) of the skin nearest to points (P, 3), and its distance (P,)."""
    count = min(SKIN_NEIGHBOURS, len(skin_rows))
    distance, near = cKDTree(body.points[skin_rows]).query(points, k=count)
    distance, near = distance.reshape(-1, count), near.reshape(-1, count)
    weight = 1 / (distance**2 + 0.25 * distance[:, :1] ** 2 + 0.01)
    weight /= weight.sum(1, keepdims=True)
    motion = np.einsum("pk,spkc->spc", weight, body.targets[:, skin_rows[near]], optimize=True)
    return motion, distance[:, 0]
