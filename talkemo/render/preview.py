"""A film beside what was made of it: the tracker's points, and the fitted face over the person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.recording import Audio
from ..capture.camera import Lens
from ..capture.video_capture import VideoCapture
from ..files.writing import atomic_write
from ..video.reader import open_video
from ..video.writer import VideoEncoder
from .appearance import plain_appearance
from .images import save_image
from .software import SoftwareRenderer

FORMATS = (".mp4", ".png")
WIDEST = 640  # pixels, of each of the two pictures that lie side by side
POINT = np.array([90, 255, 120], np.uint8)  # RGB of a point
MISSING = np.array([255, 90, 80], np.uint8)  # of the border of a frame without a face
OPACITY = 0.7  # of the face over the person
BORDER = 4  # pixels


@dataclass(eq=False)
class FilmView:
    """The camera of a film's frame, in the place of `render.view.View`.

    rotation: (3, 3); scale: film pixels a mm; translation: (2,) film pixels; lens: of a perspective camera
    per: pixels of the preview to one of the film
    """

    rotation: np.ndarray
    scale: float
    translation: np.ndarray
    lens: Lens | None
    per: float

    def to_camera(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) in camera space: x right, y up, z towards the camera."""
        return vertices @ self.rotation.T

    def to_pixels(self, seen: np.ndarray, width: int, height: int) -> np.ndarray:
        """Column, row, depth (V, 3) of camera-space points in a picture drawn twice as large, see `SoftwareRenderer`."""
        pixels = seen[:, :2] * [self.scale, -self.scale] + self.translation
        if self.lens is not None:
            pixels = self.lens.bent(
                pixels[None], seen[None], np.eye(3)[None], np.array([self.scale])
            )[0]
        return np.column_stack([2 * self.per * pixels - 0.5, seen[:, 2]])


def write_preview(
    path: Path,
    source: Path,
    film: VideoCapture,
    faces: np.ndarray,
    vertices: Callable[[slice], np.ndarray],
    sound: Audio | None,
) -> None:
    """Write a film with its points beside itself with the fitted face over it; of a photograph, or to a png, one picture.

    vertices: gives those of the person's face (T, V, 3) mm in a slice of the frames. Frames in which no face was found
    have a red border.
    """
    fps = film.fps
    with open_video(source) as opened, atomic_write(path) as partial:
        pictures = _side_by_side(opened.pictures, opened.scale, film, faces, vertices)
        if path.suffix.lower() == ".png":
            save_image(partial, next(pictures))
            return
        first = next(pictures)
        size = (first.shape[1], first.shape[0])
        track = sound.path if sound is not None else None
        encoder = VideoEncoder(partial, path, size, fps, track, len(film.points) / fps)
        try:
            encoder.write(first)
            for picture in pictures:
                encoder.write(picture)
            encoder.finish()
        finally:
            encoder.close()


def _side_by_side(
    pictures: Iterator[np.ndarray],
    scale: float,
    film: VideoCapture,
    faces: np.ndarray,
    vertices: Callable[[slice], np.ndarray],
) -> Iterator[np.ndarray]:
    """The pictures of a preview, with even sides."""
    capture = film.capture
    renderer: SoftwareRenderer | None = None
    try:
        for k, picture in enumerate(pictures):
            step = -(-picture.shape[1] // WIDEST)
            small = picture[::step, ::step]
            small = small[: len(small) // 2 * 2, : small.shape[1] // 2 * 2]
            per = 1 / (scale * step)  # pixels of the preview to one of the film
            view = FilmView(
                capture.rotation[k], float(capture.scale[k]), capture.translation[k], film.lens, per
            )
            if renderer is None:
                size = (small.shape[1], small.shape[0])
                appearance = plain_appearance(faces)
                renderer = SoftwareRenderer(appearance, view, size)  # type: ignore[arg-type]
            renderer.view = view  # type: ignore[assignment]
            drawn = renderer.draw(vertices(slice(k, k + 1))[0])
            empty = (drawn == renderer.background.astype(np.uint8)[:, None]).all(2)
            share = np.where(empty, 0.0, OPACITY)[..., None]
            over = (share * drawn + (1 - share) * small).astype(np.uint8)
            left = small.copy()
            if capture.seen[k]:
                column, row = np.round(film.points[k] * per).astype(int).T
                inside = (
                    (column >= 0) & (row >= 0) & (column < left.shape[1]) & (row < left.shape[0])
                )
                left[row[inside], column[inside]] = POINT
            else:
                left[:BORDER] = left[-BORDER:] = left[:, :BORDER] = left[:, -BORDER:] = MISSING
            yield np.concatenate([left, over], axis=1)
    finally:
        if renderer is not None:
            renderer.close()
