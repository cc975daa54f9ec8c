"""Preview of a video's capture: tracked landmarks, and the fitted face over the person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.recording import Audio
from ..capture.camera import Lens
from ..capture.video_capture import VideoCapture
from ..files.writing import atomic_write
from ..video.encoder import VideoEncoder
from ..video.reader import Video, open_video
from .appearance import plain_appearance
from .images import save_image
from .software import SoftwareRenderer

PREVIEW_ENDINGS = (".mp4", ".png")
MAX_PANEL_WIDTH_PX = 640  # of each of the two images side by side
LANDMARK_RGB = np.array([90, 255, 120], np.uint8)
MISSING_FACE_RGB = np.array([255, 90, 80], np.uint8)  # border of a frame without a face
FACE_OPACITY = 0.7  # of the fitted face over the person
BORDER_PX = 4


@dataclass(eq=False)
class CapturedView:
    """The camera of a captured frame, used in place of `render.view.View`."""

    rotation: np.ndarray  # (3, 3)
    scale: float  # video px per mm
    translation: np.ndarray  # (2,) video px
    lens: Lens | None  # of a perspective camera
    zoom: float  # preview pixels per video pixel

    def to_camera(self, vertices: np.ndarray) -> np.ndarray:
        """Return vertices (V, 3) in camera space: x right, y up, z towards the camera."""
        return vertices @ self.rotation.T

    def to_pixels(self, seen: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return column, row and depth (V, 3) of camera-space points (V, 3).

        The image is drawn at twice its size, see `SoftwareRenderer`.
        """
        pixels = seen[:, :2] * [self.scale, -self.scale] + self.translation
        if self.lens is not None:
            pixels = self.lens.to_perspective(
                pixels[None], seen[None], np.eye(3)[None], np.array([self.scale])
            )[0]
        return np.column_stack([2 * self.zoom * pixels - 0.5, seen[:, 2]])


def write_preview(
    path: Path,
    source: Path,
    capture: VideoCapture,
    faces: np.ndarray,
    vertices_of: Callable[[np.ndarray], np.ndarray],
    audio: Audio | None,
) -> None:
    """Write the preview of a video, or the first frame's to a png.

    Left are the landmarks, right the fitted face over the person. Frames in which no face was found
    have a red border.

    Parameters
    ----------
    path : Path
        The preview, an mp4 or a png.
    source : Path
        The video or image.
    capture : VideoCapture
        Its fit.
    faces : (F, 3) int
        Triangles of the fitted face.
    vertices_of : callable
        From blend-shape weights (T, S) to the person's vertices (T, V, 3) in mm.
    audio : Audio, optional
        Audio of the preview.
    """
    with open_video(source) as video, atomic_write(path) as partial:
        images = _side_by_side(video, capture, faces, vertices_of)
        first = next(images)
        if path.suffix.lower() == ".png":
            save_image(partial, first)
            return
        size = (first.shape[1], first.shape[0])
        audio_path = None if audio is None else audio.path
        duration_s = len(capture.landmarks) / capture.fps
        encoder = VideoEncoder(partial, path, size, capture.fps, audio_path, duration_s)
        try:
            encoder.write(first)
            for image in images:
                encoder.write(image)
            encoder.finish()
        finally:
            encoder.close()


def _side_by_side(
    video: Video,
    capture: VideoCapture,
    faces: np.ndarray,
    vertices_of: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield the images (H, W, 3) uint8 of a preview, with even sides."""
    pose = capture.capture
    renderer: SoftwareRenderer | None = None
    try:
        for frame, image in enumerate(video.frames):
            step = -(-image.shape[1] // MAX_PANEL_WIDTH_PX)
            small = image[::step, ::step]
            small = small[: len(small) // 2 * 2, : small.shape[1] // 2 * 2]
            view = CapturedView(
                pose.rotation[frame],
                float(pose.scale[frame]),
                pose.translation[frame],
                capture.lens,
                1 / (video.scale * step),
            )
            if renderer is None:
                size = (small.shape[1], small.shape[0])
                appearance = plain_appearance(faces)
                renderer = SoftwareRenderer(appearance, view, size)  # type: ignore[arg-type]
            renderer.view = view  # type: ignore[assignment]
            drawn = renderer.draw(vertices_of(pose.shapes[frame : frame + 1])[0])
            background = (drawn == renderer.background.astype(np.uint8)[:, None]).all(2)
            opacity = np.where(background, 0.0, FACE_OPACITY)[..., None]
            overlay = (opacity * drawn + (1 - opacity) * small).astype(np.uint8)
            marked = small.copy()
            if pose.seen[frame]:
                _mark_landmarks(marked, capture.landmarks[frame] * view.zoom)
            else:
                for edge in (slice(BORDER_PX), slice(-BORDER_PX, None)):
                    marked[edge] = marked[:, edge] = MISSING_FACE_RGB
            yield np.concatenate([marked, overlay], axis=1)
    finally:
        if renderer is not None:
            renderer.close()


def _mark_landmarks(image: np.ndarray, landmarks: np.ndarray) -> None:
    """Colour the pixels of landmarks (P, 2) in an image."""
    column, row = np.round(landmarks).astype(int).T
    height, width = image.shape[:2]
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    image[row[inside], column[inside]] = LANDMARK_RGB
