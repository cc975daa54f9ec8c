"""Motion of the inside of a mouth that begins at the lips: it stays behind lips, cheeks and chin."""

from __future__ import annotations

import numpy as np

from ..geometry.numerics import smoothstep
from .body import Body
from .followed import FollowedSkin
from .mouth import Mouth

# How far behind the skin it is followed alone, and from where on the jaw is.
SKIN_ALONE_MM, JAW_ALONE_MM = 8.0, 18.0
FOLLOWING_STIFFNESS_MM = 1.0  # of following skin and jaw, beside the edges' inverse lengths
MIN_DISTANCE_MM = 1.0  # lower bound of the distance that the stiffness falls with


def place_lining(body: Body, mouth: Mouth, rows: np.ndarray, skin: FollowedSkin) -> None:
    """Assign the motion of vertices `rows` of a mouth's inside.

    They move as smoothly as possible between their neighbours that have a motion already. Near the
    skin they follow it, so that they never come through; deep in the mouth they follow the jaw by
    their height.
    """
    if not len(rows) or not len(skin.rows):
        return
    points = body.points[rows]
    follow, distance = skin.motion_of_lips(points)
    deep = smoothstep((distance - SKIN_ALONE_MM) / (JAW_ALONE_MM - SKIN_ALONE_MM))
    jaw = mouth.jaw_share(body, rows)[:, None] * mouth.jaw_motion(points)
    aim = (1 - deep)[:, None] * follow + deep[:, None] * jaw
    body.fill_smoothly(rows, aim, FOLLOWING_STIFFNESS_MM / np.maximum(distance, MIN_DISTANCE_MM))
