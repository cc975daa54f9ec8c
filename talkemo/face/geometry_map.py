"""The geometry map (3D-TalkEmo, section 3.2): displacements of the face as 128×128×3 images.

Geodesic distances between all vertices (heat method) are embedded in the plane by classical
multidimensional scaling, and the plane is sampled on a regular grid inside a mask. Training
computes this chart once (train/map_chart.py) and stores it in the face's weights; this module converts
displacements to maps and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .canonical import Face

MAP_SIZE = 128  # pixels on a side of a geometry map


@dataclass(frozen=True, eq=False)
class GeometryMap:
    """Resampling between vertex displacements (T, V, 3) and maps (T, 3, 128, 128), both in mm.

    Row 0 of a map is the top of the face; column 0 is the face's own right side, which is on the
    left when seen from the front. Pixels outside the mask are zero.
    """

    mask: np.ndarray  # (128, 128) bool
    sample: Any  # sparse (M, V): vertices → the M pixels of the mask
    lookup: Any  # sparse (V, M): pixels → vertices

    @cached_property
    def pixels(self) -> np.ndarray:
        """Flat indices (M,) of the mask's pixels."""
        return np.flatnonzero(self.mask)

    def encode(self, displacement: np.ndarray) -> np.ndarray:
        """Return the maps (T, 3, 128, 128) float32 of displacements (T, V, 3)."""
        frames, vertices = displacement.shape[:2]
        columns = np.ascontiguousarray(displacement.transpose(1, 0, 2)).reshape(vertices, -1)
        values = self.sample @ columns.astype(np.float32)
        maps = np.zeros((frames, 3, MAP_SIZE * MAP_SIZE), np.float32)
        maps[:, :, self.pixels] = values.reshape(-1, frames, 3).transpose(1, 2, 0)
        return maps.reshape(frames, 3, MAP_SIZE, MAP_SIZE)

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Return the displacements (T, V, 3) float32 of maps (T, 3, 128, 128)."""
        frames = len(maps)
        values = maps.reshape(frames, 3, -1)[:, :, self.pixels]
        columns = np.ascontiguousarray(values.transpose(2, 0, 1)).reshape(len(self.pixels), -1)
        displacement = (self.lookup @ columns).reshape(-1, frames, 3).transpose(1, 0, 2)
        return np.ascontiguousarray(displacement)


@lru_cache(maxsize=2)
def geometry_map(face: Face) -> GeometryMap:
    """Return the geometry map of a face, from the tables in its weights."""
    import scipy.sparse as sp

    def table(columns: np.ndarray, values: np.ndarray, width: int) -> Any:
        """Make a sparse (rows, width) matrix of the column indices and values (rows, K)."""
        starts = np.arange(0, columns.size + 1, columns.shape[1])
        return sp.csr_matrix((values.ravel(), columns.ravel(), starts), (len(columns), width))

    mask = face.map_mask.astype(bool)
    return GeometryMap(
        mask,
        table(face.map_vertices, face.map_vertex_weights, len(face.mean)),
        table(face.map_pixels, face.map_pixel_weights, int(mask.sum())),
    )


def round_trip(face: Face, vertices: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Convert a mesh of the canonical topology (V, 3) mm to a map and back.

    Returns
    -------
    map : (3, 128, 128) float32
    errors : dict
        Mean and largest vertex error in mm, and the largest on lips and eyelids.
    """
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
