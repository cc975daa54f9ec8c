"""The camera, and the colours and lights that both renderers share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..option_limits import IMAGE_SIDE_PIXELS

SKIN = np.array([224, 178, 152], np.float32)  # RGB
BACKGROUND = np.array([46, 50, 56], np.float32)
BACKGROUND_GRADIENT = np.array([26, 27, 28], np.float32)  # added at the top
# Wrap lighting: how far light reaches around a curve, in red, green and blue; 0 is Lambert.
SOFTNESS = np.array([0.28, 0.14, 0.1], np.float32)
# Unit direction towards the light in camera space, and strength: key, fill, rim.
_DIRECTIONS = np.array([[-0.45, 0.55, 0.75], [0.8, 0.1, 0.55], [0.0, 0.9, -0.2]])
LIGHTS = np.column_stack(
    [_DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True), [0.62, 0.3, 0.15]]
).astype(np.float32)
AMBIENT, AMBIENT_ABOVE = 0.2, 0.07  # ambient light, and how much more comes from above
GLOSS, GLOSS_EXPONENT = 0.1, 18  # specular strength and Phong exponent
# The catch-light is the key light, mirrored by the cornea. The cornea is rounder than the eyeball: a
# step on the ball turns its normal by 1 + CORNEA of the step. Largest distance from the middle of
# the iris, size and strength of the catch-light, the first two in radians. The light is a window
# that reaches down: what lowered lids leave of an iris still mirrors it.
CORNEA, CORNEA_REACH, CATCH_SIZE, CATCH_STRENGTH, CATCH_SHARE = 0.87, 0.5, 0.15, 0.95, 0.5
_HALFWAY = _DIRECTIONS[0] / np.linalg.norm(_DIRECTIONS[0]) + [0, 0, 1]
CATCH_DIRECTION = (CATCH_SHARE * _HALFWAY / np.linalg.norm(_HALFWAY))[:2].astype(np.float32)
BACKFACE_LIGHT = 0.35  # share of the light on back faces, seen through the mouth and the eyes
# A head around its face: beside it in widths, above and behind it in heights of the face.
HEAD_BESIDE, HEAD_ABOVE, HEAD_BEHIND = 0.3, 0.6, 1.5
# Degrees that the camera is turned to the face's left.
VIEWS = {
    **{"front": 0.0, "three-quarter": 35.0, "side": 90.0, "left": 35.0, "right": -35.0},
    **{"left-profile": 90.0, "right-profile": -90.0},
}


@dataclass(frozen=True, eq=False)
class View:
    """A perspective camera in front of a face.

    Attributes
    ----------
    centre : (3,)
        The point that it looks at, in the mesh's space.
    half : float
        Half the height that the image shows at the centre, in mesh units.
    distance : float
        From the centre, in mesh units.
    yaw : float
        Turn to the face's left, in radians.
    facing : (3, 3)
        Rotation from a face that looks along +z with y up to the mesh's face.
    """

    centre: np.ndarray
    half: float
    distance: float
    yaw: float
    facing: np.ndarray

    @property
    def rotation(self) -> np.ndarray:
        """Rotation (3, 3) from the mesh's space to the camera's."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ self.facing.T

    def to_camera(self, vertices: np.ndarray) -> np.ndarray:
        """Return vertices (V, 3) in camera space: x right, y up, z towards the camera."""
        return (vertices - self.centre) @ self.rotation.T

    def to_pixels(self, seen: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return column, row and depth (V, 3) of camera-space points; larger depth is nearer."""
        scale = (
            self.distance
            / np.maximum(self.distance - seen[:, 2], 1e-3 * self.distance)
            * (height / 2 / self.half)
        )
        return np.stack(
            [width / 2 - 0.5 + seen[:, 0] * scale, height / 2 - 0.5 - seen[:, 1] * scale, scale],
            axis=1,
        )


def frame_view(
    vertices: np.ndarray,
    focus: np.ndarray | None = None,
    view: str = "front",
    facing: np.ndarray | None = None,
    drawn: np.ndarray | None = None,
) -> View:
    """Return a camera that shows a mesh with a margin.

    A face in focus is shown with the whole head that it belongs to, up to the crown.

    Parameters
    ----------
    vertices : (V, 3)
    focus : (V,) bool, optional
        The vertices to show; all if None.
    view : str
        One of `VIEWS`.
    facing : (3, 3), optional
        Rotation of the face in the mesh; None for a face that looks along +z with y up.
    drawn : (D,) int, optional
        The vertices that are drawn, among which the head is sought; all if None.

    Raises
    ------
    InputError
        For an unknown view.
    """
    if view not in VIEWS:
        raise InputError(f"unknown view '{view}'", f"choose from {', '.join(VIEWS)}")
    turn = np.eye(3) if facing is None else facing
    visible = (vertices if focus is None or not focus.any() else vertices[focus]) @ turn
    low, high = visible.min(0).astype(float), visible.max(0).astype(float)
    if len(visible) < len(vertices):
        low, high = _with_head((vertices if drawn is None else vertices[drawn]) @ turn, low, high)
    half = 0.5 * 1.16 * max(high[1] - low[1], high[0] - low[0])
    # Seen from seven half-heights away: the perspective of a portrait lens.
    return View(turn @ ((low + high) / 2), half, 7 * half, np.radians(VIEWS[view]), turn)


def _with_head(
    points: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the box (3,), (3,) of a face, widened to the head's sides, back and crown.

    Points (D, 3) far beside, above or behind the face belong to a body, a hat or wings. What lies
    below the middle of the face is a neck or a body, of which the box shows no more than before.
    """
    size, middle = high - low, (low + high) / 2
    reach = np.array([HEAD_BESIDE, HEAD_ABOVE, 0]) * size
    near = (points > [low[0] - reach[0], middle[1], high[2] - HEAD_BEHIND * size[1]]).all(1)
    near &= (points < high + reach).all(1)
    if not near.any():
        return low, high
    head = points[near]
    return np.minimum(low, head.min(0)), np.maximum(high, head.max(0))


def lit(normals: np.ndarray) -> np.ndarray:
    """Return the light (V, 3) on unit normals (V, 3) in camera space, as in software.py."""
    back = normals[:, 2] < 0
    normals = np.where(back[:, None], -normals, normals)
    cosine = normals @ LIGHTS[:, :3].T
    wrapped = np.maximum((cosine[..., None] + SOFTNESS) / (1 + SOFTNESS), 0)
    light = (AMBIENT + AMBIENT_ABOVE * normals[:, 1])[:, None] + np.einsum(
        "vlc,l->vc", wrapped, LIGHTS[:, 3]
    )
    mirrored = np.where(cosine > 0, np.maximum(2 * cosine * normals[:, 2:] - LIGHTS[:, 2], 0), 0)
    light = light + (GLOSS * mirrored**GLOSS_EXPONENT @ LIGHTS[:, 3])[:, None] * 255 / SKIN
    return np.asarray(np.where(back[:, None], BACKFACE_LIGHT, 1) * light)


def catch_light(normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the share of white (V,) that eyes reflect, as in software.py.

    Parameters
    ----------
    normals : (V, 3)
        Unit normals of the eyeball in camera space.
    offsets : (V, 2)
        From the middle of the iris, to the right and up, in radians.
    """
    mirror = normals[:, :2] + CORNEA * offsets - CATCH_DIRECTION
    share = np.clip(1.5 - np.linalg.norm(mirror, axis=1) / CATCH_SIZE, 0, 1)
    on_cornea = (np.linalg.norm(offsets, axis=1) < CORNEA_REACH) & (normals[:, 2] > 0)
    return np.asarray(CATCH_STRENGTH * share * on_cornea)


def shading_of_page() -> dict[str, list]:
    """Return lights and reflections as the script of a page reads them."""
    return {
        "lights": LIGHTS.tolist(),
        "softness": SOFTNESS.tolist(),
        "catch": [*CATCH_DIRECTION.tolist(), CATCH_SIZE, CATCH_STRENGTH],
        "cornea": [CORNEA, CORNEA_REACH],
        "glow": [AMBIENT, AMBIENT_ABOVE, GLOSS, BACKFACE_LIGHT],
    }


def background_rows(height: int) -> np.ndarray:
    """Return the background's colour in each row, (height, 3) float32, lighter at the top."""
    share = 1 - np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return (BACKGROUND + share * BACKGROUND_GRADIENT).astype(np.float32)


def width_and_height(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels of an image of that size.

    Raises
    ------
    InputError
        If it is too small or too large.
    """
    width, height = (size, size) if isinstance(size, int) else size
    check_size(width)
    check_size(height)
    return width, height


def fitted(view: View, aspect: float) -> View:
    """Return a view that shows the whole face in an image of that aspect (width / height)."""
    if aspect >= 1:
        return view
    return replace(view, half=view.half / aspect, distance=view.distance / aspect)


def check_size(size: int) -> None:
    """Raise InputError for an image side that is too small or too large."""
    smallest, largest = IMAGE_SIDE_PIXELS
    if not smallest <= size <= largest:
        raise InputError(
            f"an image of {size} pixels", f"choose a size from {smallest} to {largest}"
        )
