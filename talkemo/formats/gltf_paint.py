"""The colours of a mesh in a GLB that has no texture: those of its file, or those of a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .animation import Header
from .appearance import Appearance
from .texture_atlas import as_png, to_linear

EYE_MARGIN_PIXELS = 2  # around the part of a texture that shows eyeballs


@dataclass(frozen=True, eq=False)
class Paint:
    """The colours of a mesh of N vertices and F triangles.

    Attributes
    ----------
    colours : (N, 3) float32
        Of each vertex, linear in light, as glTF expects.
    drawn : (F,) bool
        Which triangles a video draws: not the sheets over eyeballs that some heads have.
    texture : (H, W, 3) uint8, optional
        The image that a video shows.
    texels : (N, 2), optional
        Column and row of each vertex in it; NaN for vertices that are not drawn.
    """

    colours: np.ndarray
    drawn: np.ndarray
    texture: np.ndarray | None = None
    texels: np.ndarray | None = None

    def image_of(self, rows: np.ndarray) -> tuple[np.ndarray, bytes] | None:
        """Return the part of the texture that shows some vertices, such as an eyeball's.

        Parameters
        ----------
        rows : (R,)
            Indices of vertices.

        Returns
        -------
        uv : (R, 2) float32
            Their texture coordinates, v pointing down.
        png : bytes
            The part. None is returned if one of them is not drawn, or without a texture.
        """
        if self.texture is None or self.texels is None:
            return None
        texels = self.texels[rows]
        if not len(texels) or not np.isfinite(texels).all():
            return None
        size = np.array(self.texture.shape[1::-1])
        low = np.clip(np.floor(texels.min(0)).astype(int) - EYE_MARGIN_PIXELS, 0, size)
        high = np.clip(np.ceil(texels.max(0)).astype(int) + EYE_MARGIN_PIXELS, low + 1, size)
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
    return _paint_of_appearance(header.appearance(False), header.faces, len(header.rest))


def _paint_of_appearance(appearance: Appearance, faces: np.ndarray, count: int) -> Paint:
    """Return the colours that an appearance without added parts gives to `count` vertices."""
    texture = appearance.texture
    columns, rows = (
        appearance.place[:, k].round().astype(int).clip(0, texture.shape[1 - k] - 1)
        for k in range(2)
    )
    colours = to_linear(texture[rows, columns])
    corners = np.bincount(appearance.vertex, minlength=count)[:, None]
    sums = np.stack(
        [np.bincount(appearance.vertex, channel, count) for channel in colours.T], axis=1
    )
    usual = np.median(colours, axis=0)  # of skin, for what is not drawn
    texels = np.full((count, 2), np.nan)
    texels[appearance.vertex] = appearance.place
    return Paint(
        np.where(corners > 0, sums / np.maximum(corners, 1), usual).astype(np.float32),
        _are_among(faces, appearance.vertex[appearance.faces]),
        texture,
        texels,
    )


def _are_among(faces: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return which triangles (F, 3) are among others, in whatever order their corners are."""
    first, second, third = np.sort(np.concatenate([faces, drawn]).astype(np.int64), axis=1).T
    count = int(third.max(initial=0)) + 1
    _, pair = np.unique(first * count + second, return_inverse=True)
    triangle = pair.reshape(-1) * count + third
    return np.isin(triangle[: len(faces)], triangle[len(faces) :])
