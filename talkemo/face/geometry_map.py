"""The geometry map (3D-TalkEmo, section 3.2): the canonical face's displacement as a 128×128×3 picture.

Geodesics between all vertices by the heat method → classical multidimensional scaling to the plane → sampling on a
regular grid inside a mask. The chart is computed once, when the face is trained (train/chart.py), and kept in its
weights; this module samples displacements to maps and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .canonical import Face

MAP_SIZE = 128  # pixels on a side


@dataclass(frozen=True, eq=False)
class GeometryMap:
    """Sampling between vertex displacements (T, V, 3) and maps (T, 3, 128, 128), both in mm.

    Row 0 of a map is the top of the face, column 0 the face's own right side, as one sees it from the front.
    Pixels outside `mask` (128, 128) are zero.
    """

    mask: np.ndarray
    sample: Any  # sparse (M, V): vertices → the M pixels of the mask
    lookup: Any  # sparse (V, M): pixels → vertices

    @cached_property
    def pixels(self) -> np.ndarray:
        """Flat indices (M,) of the mask's pixels."""
        return np.flatnonzero(self.mask)

    def encode(self, displacement: np.ndarray) -> np.ndarray:
        """Maps (T, 3, 128, 128) float32 of displacements (T, V, 3)."""
        frames, count = displacement.shape[:2]
        columns = (
            np.ascontiguousarray(displacement.transpose(1, 0, 2))
            .reshape(count, -1)
            .astype(np.float32)
        )
        maps = np.zeros((frames, 3, MAP_SIZE * MAP_SIZE), np.float32)
        maps[:, :, self.pixels] = (self.sample @ columns).reshape(-1, frames, 3).transpose(1, 2, 0)
        return maps.reshape(frames, 3, MAP_SIZE, MAP_SIZE)

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Displacements (T, V, 3) float32 of maps (T, 3, 128, 128)."""
        frames = len(maps)
        values = maps.reshape(frames, 3, -1)[:, :, self.pixels]
        columns = np.ascontiguousarray(values.transpose(2, 0, 1)).reshape(len(self.pixels), -1)
        return np.ascontiguousarray(
            (self.lookup @ columns).reshape(-1, frames, 3).transpose(1, 0, 2)
        )


@lru_cache(maxsize=2)
def geometry_map(face: Face) -> GeometryMap:
    """The sampling of a face, from the tables in its weights."""
    import scipy.sparse as sp

    mask = face.map_mask.astype(bool)
    count, pixels = len(face.mean), int(mask.sum())

    def table(columns: np.ndarray, values: np.ndarray, width: int) -> Any:
        starts = np.arange(0, columns.size + 1, columns.shape[1])
        return sp.csr_matrix((values.ravel(), columns.ravel(), starts), (len(columns), width))

    return GeometryMap(
        mask,
        table(face.map_vertices, face.map_vertex_weights, count),
        table(face.map_pixels, face.map_pixel_weights, pixels),
    )


def round_trip(face: Face, vertices: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """A mesh of the canonical topology (V, 3) mm through the map and back: the map (3, 128, 128) and errors in mm."""
    sampling = geometry_map(face)
    displacement = (vertices - face.mean)[None].astype(np.float32)
    maps = sampling.encode(displacement)
    error = np.linalg.norm(sampling.decode(maps) - displacement, axis=2)[0]
    critical = face.regions["lips"] | face.regions["eyelids"]
    return maps[0], {
        "round_trip_mean_mm": float(error.mean()),
        "round_trip_max_mm": float(error.max()),
        "round_trip_lips_eyelids_max_mm": float(error[critical].max()),
    }
