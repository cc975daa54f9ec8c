"""The colours of a mesh in a GLB that has no texture: those of its file, or those of a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .animation import Header
from .appearance import Appearance
from .texture_atlas import as_png, to_linear

EYE_MARGIN_PIXELS = 2  # around the part of a texture that shows eyeballs
MAX_SPAN_PIXELS = 8.0  # of the median triangle in a painted texture, whose vertices are coloured


@dataclass(frozen=True, eq=False)
class Paint:
    """The colours of a mesh of N vertices and F triangles.

    Attributes
    ----------
    colours : (N, 3) float32
        Of each vertex, linear in light, as glTF expects.
    drawn : (F,) bool
        Which triangles a video draws: not the sheets over eyes and mouth that some heads have.
    texture : (H, W, 3) uint8, optional
        The image that a video shows.
    corners : (F, 3, 2), optional
        Column and row of each triangle's corners in it; 0 for triangles that are not drawn.
    """

    colours: np.ndarray
    drawn: np.ndarray
    texture: np.ndarray | None = None
    corners: np.ndarray | None = None

    @property
    def is_finer_than_vertices(self) -> bool:
        """Whether colours of the vertices would blur the brows that the texture shows."""
        if self.corners is None:
            return False
        spans = np.ptp(self.corners[self.drawn], axis=1).max(1)
        return bool((spans > 1).any() and np.median(spans[spans > 1]) > MAX_SPAN_PIXELS)

    @property
    def uv(self) -> np.ndarray | None:
        """Texture coordinates (F, 3, 2) of each triangle's corners, v pointing down."""
        if self.texture is None or self.corners is None:
            return None
        return np.asarray((self.corners + 0.5) / self.texture.shape[1::-1], np.float32)

    def image_of(self, triangles: np.ndarray) -> tuple[np.ndarray, bytes] | None:
        """Return the part of the texture that shows some triangles, such as an eyeball's.

        Parameters
        ----------
        triangles : (F,) bool

        Returns
        -------
        uv : (P, 3, 2) float32
            Texture coordinates of their corners, v pointing down.
        png : bytes
            The part. None is returned if one of them is not drawn, or without a texture.
        """
        if self.texture is None or self.corners is None or not self.drawn[triangles].all():
            return None
        texels = self.corners[triangles]
        size = np.array(self.texture.shape[1::-1])
        low = np.clip(np.floor(texels.min((0, 1))).astype(int) - EYE_MARGIN_PIXELS, 0, size - 1)
        high = np.clip(np.ceil(texels.max((0, 1))).astype(int) + EYE_MARGIN_PIXELS, low + 1, size)
        part = self.texture[low[1] : high[1], low[0] : high[0]]
        uv = (texels + 0.5 - low) / (high - low)
        return uv.astype(np.float32), as_png(np.ascontiguousarray(part))


def paint_of(header: Header) -> Paint | None:
    """Return the colours of a header's mesh; None if its file has a texture, or nothing is known.

    A mesh whose file has no colours either gets skin, lips, brows and eyes as in a video.
    """
    attributes = header.attributes
    if attributes is not None and attributes.texture is not None:
        return None
    if attributes is not None and attributes.colours is not None:
        colours = to_linear(attributes.colours).astype(np.float32)
        return Paint(colours, np.ones(len(header.faces), bool))
    if header.appearance is None:
        return None
    return _paint_of_appearance(header.appearance(header.fill), header.faces, len(header.rest))


def _paint_of_appearance(appearance: Appearance, faces: np.ndarray, count: int) -> Paint:
    """Return the colours that an appearance gives to triangles (F, 3) of `count` vertices."""
    texture = appearance.texture
    own = appearance.vertex < count  # the others are added to the mesh
    vertex, place = appearance.vertex[own], appearance.place[own]
    columns, rows = (
        place[:, k].round().astype(int).clip(0, texture.shape[1 - k] - 1) for k in range(2)
    )
    colours = to_linear(texture[rows, columns])
    shares = np.bincount(vertex, minlength=count)[:, None]
    sums = np.stack([np.bincount(vertex, channel, count) for channel in colours.T], axis=1)
    usual = np.median(colours, axis=0)  # of skin, for what is not drawn
    drawn = appearance.faces[own[appearance.faces].all(1)]
    shown = _positions(faces, appearance.vertex[drawn])
    corners = np.zeros((len(faces), 3, 2), np.float32)
    corners[shown >= 0] = appearance.place[drawn[shown[shown >= 0]]]
    return Paint(
        np.where(shares > 0, sums / np.maximum(shares, 1), usual).astype(np.float32),
        shown >= 0,
        texture,
        corners,
    )


def _positions(faces: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return where each triangle (F, 3) stands in a list of others (D, 3), -1 if it does not."""
    first, second, third = np.concatenate([faces, drawn]).astype(np.int64).T
    count = int(max(faces.max(initial=0), drawn.max(initial=0))) + 1
    _, pair = np.unique(first * count + second, return_inverse=True)
    key = pair.reshape(-1) * count + third
    order = np.argsort(key[len(faces) :], kind="stable")
    ordered = key[len(faces) :][order]
    place = np.searchsorted(ordered, key[: len(faces)]).clip(0, max(len(ordered) - 1, 0))
    if not len(ordered):
        return np.full(len(faces), -1)
    return np.where(ordered[place] == key[: len(faces)], order[place], -1)
