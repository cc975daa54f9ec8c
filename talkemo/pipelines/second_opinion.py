"""The landmark tracker's opinion on where the face of a mesh is, if the tracker is installed."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..binding.hint import FaceHint
from ..binding.sighting import Look, Sighting, Viewpoint
from ..errors import InputError

if TYPE_CHECKING:
    from ..capture.landmark_tracker import Crop, LandmarkTracker
    from ..render.view import View

IMAGE_SIDE_PX = 256  # the input of the tracker's networks is not larger
DISTANCE = 7.0  # of the camera, in halves of the height that it shows
MIN_HALF = 1e-4  # of the height that a closer view shows, relative to the mesh
MIN_TRIANGLE_PX2 = 1e-9  # twice the area; smaller triangles are seen from their edge
SEEN_POINT_STEP = 2  # of MediaPipe's 468 points, every second is laid back onto the mesh


def installed_opinion() -> TrackerOpinion | None:
    """Return the tracker's opinion if runtime and networks are on this machine, else None.

    Nothing is downloaded, and nothing is loaded before a mesh is looked at.
    """
    if find_spec("ai_edge_litert") is None:
        return None
    from ..capture.landmarker_bundle import local_landmarker

    try:
        path = local_landmarker()
    except InputError:  # another file of that name; binding needs no tracker
        return None
    return None if path is None else TrackerOpinion(path)


def opinion_for(hint: FaceHint | None) -> TrackerOpinion | None:
    """Return the installed tracker's opinion, unless the hint does without it."""
    return installed_opinion() if hint is None or hint.tracker else None


class TrackerOpinion:
    """Draws a mesh in one colour, and asks MediaPipe's Face Landmarker for a face, see `SecondOpinion`.

    Nothing is painted: painted brows and lips would make a face of anything.
    """

    name = "face_landmarker/1"

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def tracker(self) -> LandmarkTracker:
        """The tracker, loaded when it is first used."""
        from ..capture.landmark_tracker import LandmarkTracker

        return LandmarkTracker(self.path)

    def of(self, vertices: np.ndarray, faces: np.ndarray) -> Look:
        """Return what looks at a mesh, see `SecondOpinion.of`."""
        from ..render.appearance import plain_appearance
        from ..render.software import SoftwareRenderer
        from ..render.view import View

        size = float(np.ptp(vertices, axis=0).max())
        appearance = plain_appearance(faces)
        count = len(appearance.vertex)
        # Single precision suffices around the middle of the mesh.
        middle = (vertices.min(0) + vertices.max(0)) / 2
        scaled = ((vertices - middle) / size)[:count]
        blank = View(np.zeros(3), 1.0, DISTANCE, 0.0, np.eye(3))
        renderer = SoftwareRenderer(appearance, blank, (IMAGE_SIDE_PX, IMAGE_SIDE_PX))

        def look(viewpoint: Viewpoint) -> Sighting | None:
            centre, half = (viewpoint.centre - middle) / size, viewpoint.half / size
            view = View(centre, half, DISTANCE * half + 1, 0.0, viewpoint.facing)
            renderer.view = view
            crops = self.tracker.detect(renderer.draw(scaled))
            if not crops:
                return None
            renderer.view = view = _closer(view, crops[0])
            pixels = self._landmarks(renderer.draw(scaled))
            if pixels is None:
                return None
            ids = seen_ids()
            points = lay_back(pixels[ids] - 0.5, view, scaled, faces)
            return Sighting(ids, middle + size * points)

        return look

    def _landmarks(self, image: np.ndarray) -> np.ndarray | None:
        """Return the landmarks (478, 2) px of the face in an image, None if there is none."""
        seen = self.tracker.track(image)
        return None if seen is None else seen.landmarks[:, :2]


def seen_ids() -> np.ndarray:
    """Return the ids (P,) of the points that are laid back onto the mesh.

    The outline is left out: it slides over the skin as the head turns.
    """
    from ..capture.landmarks import FACE_OVAL_IDS

    return np.array([k for k in range(0, 468, SEEN_POINT_STEP) if k not in FACE_OVAL_IDS])


def _closer(view: View, crop: Crop) -> View:
    """Return a view that shows little more than a square of an image."""
    unit = 2 * view.half / IMAGE_SIDE_PX
    across, up = (crop.centre - IMAGE_SIDE_PX / 2) * [unit, -unit]
    half = max(crop.side * unit / 2, MIN_HALF)
    centre = view.centre + view.rotation.T @ [across, up, 0]
    return replace(view, centre=centre, half=half, distance=DISTANCE * half + 1)


def lay_back(pixels: np.ndarray, view: View, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the points of a mesh that are seen at pixels of an image.

    Parameters
    ----------
    pixels : (P, 2)
        Column and row; centres of pixels are integers.
    view : View
        The camera, for an image of IMAGE_SIDE_PX.
    vertices, faces : (V, 3), (F, 3)

    Returns
    -------
    (P, 3), NaN where there is no surface.
    """
    drawn = view.to_pixels(view.to_camera(vertices), IMAGE_SIDE_PX, IMAGE_SIDE_PX)[faces]
    low, high = drawn[..., :2].min(1), drawn[..., :2].max(1)
    near = ((high >= pixels.min(0)) & (low <= pixels.max(0))).all(1)
    drawn, low, high = drawn[near], low[near], high[near]
    # Pixels a mesh unit, which a perspective camera interpolates linearly over a triangle.
    scale = np.full(len(pixels), np.nan)
    for row, pixel in enumerate(pixels):
        around = drawn[((low <= pixel) & (high >= pixel)).all(1)]
        scale[row] = _nearest_scale(pixel, around)
    middle = IMAGE_SIDE_PX / 2 - 0.5
    across = (pixels - middle) * [1, -1] / scale[:, None]
    towards = view.distance * (1 - IMAGE_SIDE_PX / 2 / view.half / scale)
    return np.column_stack([across, towards]) @ view.rotation + view.centre


def _nearest_scale(pixel: np.ndarray, triangles: np.ndarray) -> float:
    """Return the scale at a pixel of the nearest of triangles (T, 3, 3).

    NaN if there is none, or if its back is seen.
    """
    a, b, c = triangles.transpose(1, 0, 2)
    cross = lambda u, v: u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    area = cross(b - a, c - a)
    hit = np.abs(area) > MIN_TRIANGLE_PX2
    a, b, c, area = a[hit], b[hit], c[hit], area[hit]
    to_pixel = pixel - a[:, :2]
    second, third = cross(to_pixel, c - a) / area, cross(b - a, to_pixel) / area
    inside = (second >= 0) & (third >= 0) & (second + third <= 1)
    scale = a[:, 2] + second * (b - a)[:, 2] + third * (c - a)[:, 2]
    if not inside.any():
        return np.nan
    nearest = np.flatnonzero(inside)[scale[inside].argmax()]
    # Rows count downwards: a triangle that is seen from its front has a negative area. The hollow
    # back of a mask looks like a face, too.
    return float(scale[nearest]) if area[nearest] < 0 else np.nan
