"""Meshes of the canonical topology to geometry maps and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.geometry_map import SIZE, geometry_map, round_trip
from ..files.arrays import read_npz
from ..files.reading import printable
from ..files.writing import atomic_write, check_output
from ..formats.mesh import load_mesh
from ..formats.obj import save_obj
from .outputs import PathLike

LARGEST_MAP = 1 << 24  # bytes of an npz's map
LARGEST_DISPLACEMENT = 1e6  # mm, of a map that is read
WHITE = 20.0  # mm of displacement that a picture of a map shows as white; grey is none


def _read_map(path: Path) -> np.ndarray:
    """The map (3, SIZE, SIZE) float32 in mm of an npz. Raises InputError for another file."""
    maps = read_npz(path, "a geometry map", "map", max_bytes=LARGEST_MAP)["map"]
    hint = "is it the right file?"
    if maps.shape != (3, SIZE, SIZE) or maps.dtype.kind not in "fiu":
        raise InputError(
            f"{printable(path)}: a map is (3, {SIZE}, {SIZE}) numbers, this one {maps.shape}", hint
        )
    maps = maps.astype(np.float64)
    if not np.abs(maps).max() <= LARGEST_DISPLACEMENT:  # not so for NaN
        raise InputError(
            f"{printable(path)}: a map in mm is finite, and at most {LARGEST_DISPLACEMENT:g}", hint
        )
    return maps.astype(np.float32)


def convert_map(source: PathLike, output: PathLike, face: Face) -> dict[str, float]:
    """A mesh file of the canonical topology → its geometry map (.npz with `map` in mm, or .png to look at), or such an
    npz → a mesh (.obj).

    Returns the stress of the chart and, for a mesh, the round-trip errors in mm. Raises InputError for another mesh.
    """
    source, output = Path(source), Path(output)
    from_map = source.suffix.lower() == ".npz"
    check_output(output, (".obj",) if from_map else (".npz", ".png"), source)
    metrics = {"chart_stress": face.chart_stress}
    if from_map:
        maps = _read_map(source)
        save_obj(output, face.mean + geometry_map(face).decode(maps[None])[0], face.faces)
        return metrics
    mesh = load_mesh(source)
    if not np.array_equal(mesh.faces, face.faces):
        raise InputError(
            f"{source}: {len(mesh.vertices)} vertices and {len(mesh.faces)} faces that are not the canonical face's",
            f"only meshes of its topology, {len(face.mean)} vertices in its order, have a map of their own",
        )
    if not 0.5 < np.ptp(mesh.vertices[:, 1]) / np.ptp(face.mean[:, 1]) < 2:
        raise InputError(
            f"{source}: {np.ptp(mesh.vertices[:, 1]):.3g} high",
            "the map is in mm, and so must the mesh be",
        )
    maps, errors = round_trip(face, mesh.vertices)
    with atomic_write(output) as partial:
        if output.suffix.lower() == ".npz":
            np.savez_compressed(partial, map=maps, mask=face.map_mask)
        else:
            import imageio.v3 as imageio

            picture = np.where(
                face.map_mask[..., None], 127.5 + maps.transpose(1, 2, 0) * 127.5 / WHITE, 0
            )
            imageio.imwrite(partial, picture.clip(0, 255).astype(np.uint8))
    return metrics | errors
