"""The landmark tracker's opinion on where the face of a mesh is, if the tracker is installed."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..binding.hint import FaceHint
from ..binding.sighting import Look, OpinionUnavailable, Sighting, Viewpoint
from ..errors import InputError

if TYPE_CHECKING:
    from ..capture.landmark_tracker import Crop, LandmarkTracker
    from ..render.software import SoftwareRenderer
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
    """Shows meshes to MediaPipe's Face Landmarker, see `SecondOpinion`."""

    name = "face_landmarker/1"

    def __init__(self, path: Path):
        self.path = path
        self.failure: str | None = None

    @cached_property
    def tracker(self) -> LandmarkTracker:
        """The tracker, loaded when it is first used."""
        from ..capture.landmark_tracker import LandmarkTracker

        return LandmarkTracker(self.path)

    def of(self, vertices: np.ndarray, faces: np.ndarray) -> Look:
        """Return what looks at a mesh, see `SecondOpinion.of`."""
        return _ShownMesh(self, vertices, faces).look


class _ShownMesh:
    """A mesh that is drawn in one colour and shown to the tracker.

    Nothing is painted: painted brows and lips would make a face of anything.
    """

    def __init__(self, opinion: TrackerOpinion, vertices: np.ndarray, faces: np.ndarray):
        self.opinion, self.faces = opinion, faces
        # The renderer computes in single precision: the mesh is moved to the origin.
        self.size = float(np.ptp(vertices, axis=0).max())
        self.middle = (vertices.min(0) + vertices.max(0)) / 2
        self.vertices = (vertices - self.middle) / self.size

    @cached_property
    def renderer(self) -> SoftwareRenderer:
        """The renderer, made when the mesh is first looked at: it takes a while to load."""
        from ..render.appearance import plain_appearance
        from ..render.software import SoftwareRenderer

        blank = self.view(Viewpoint(np.eye(3), self.middle, self.size))
        side = (IMAGE_SIDE_PX, IMAGE_SIDE_PX)
        return SoftwareRenderer(plain_appearance(self.faces), blank, side)

    def view(self, viewpoint: Viewpoint) -> View:
        """Return the camera of a viewpoint, in front of all of the mesh."""
        from ..render.view import View

        half = viewpoint.half / self.size
        centre = (viewpoint.centre - self.middle) / self.size
        return View(centre, half, DISTANCE * half + 1, 0.0, viewpoint.facing)

    def draw(self, view: View) -> np.ndarray:
        """Return an image (IMAGE_SIDE_PX, IMAGE_SIDE_PX, 3) uint8."""
        self.renderer.view = view
        drawn = len(self.renderer.appearance.vertex)  # vertices beyond belong to no triangle
        return self.renderer.draw(self.vertices[:drawn])

    def look(self, viewpoint: Viewpoint) -> Sighting | None:
        """Return the face that the tracker sees from a viewpoint, None if it sees none.

        Raises OpinionUnavailable if tracker or renderer do not work on this machine.
        """
        try:
            return self._sighting(viewpoint)
        except Exception as error:  # other people's compiled code fails in many ways
            self.opinion.failure = str(error) or type(error).__name__
            raise OpinionUnavailable(self.opinion.failure) from error

    def _sighting(self, viewpoint: Viewpoint) -> Sighting | None:
        tracker, view = self.opinion.tracker, self.view(viewpoint)
        crops = tracker.detect(self.draw(view))
        if not crops:
            return None
        view = _closer(view, crops[0])
        seen = tracker.track(self.draw(view))
        if seen is None:
            return None
        ids = seen_ids()
        points = lay_back(seen.landmarks[ids, :2] - 0.5, view, self.vertices, self.faces)
        return Sighting(ids, self.middle + self.size * points)


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
