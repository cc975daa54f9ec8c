"""Meshes of the canonical topology to geometry maps and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map, round_trip
from ..files.arrays import read_npz
from ..files.reading import printable, quiet_libraries
from ..files.writing import atomic_write, check_output
from ..formats.mesh import load_mesh
from ..formats.obj import save_obj
from .options import PathLike

MAX_MAP_BYTES = 1 << 24
MAX_MAP_DISPLACEMENT_MM = 1e6  # in a map that is read
WHITE_DISPLACEMENT_MM = 20.0  # shown as white in an image of a map; grey is no displacement


def convert_map(source: PathLike, output: PathLike, face: Face) -> dict[str, float]:
    """Convert a mesh to its geometry map, or a map to its mesh.

    Parameters
    ----------
    source : path
        A mesh file of the canonical topology, or an npz with `map` in mm.
    output : path
        For a mesh an .npz with `map` and `mask`, or a .png that shows the map; for a map an .obj.
    face : Face
        The canonical face.

    Returns
    -------
    dict
        Stress of the chart and, for a mesh, round-trip errors in mm.

    Raises
    ------
    InputError
        The mesh has another topology, or a file is unusable.
    """
    source, output = Path(source), Path(output)
    from_map = source.suffix.lower() == ".npz"
    check_output(output, (".obj",) if from_map else (".npz", ".png"), source)
    metrics = {"chart_stress": face.chart_stress}
    if from_map:
        maps = _read_map(source)
        save_obj(output, face.mean + geometry_map(face).decode(maps[None])[0], face.faces)
        return metrics
    vertices = _canonical_vertices(source, face)
    maps, errors = round_trip(face, vertices)
    with atomic_write(output) as partial:
        if output.suffix.lower() == ".npz":
            np.savez_compressed(partial, map=maps, mask=face.map_mask)
        else:
            import imageio.v3 as imageio

            grey = 127.5 + maps.transpose(1, 2, 0) * 127.5 / WHITE_DISPLACEMENT_MM
            image = np.where(face.map_mask[..., None], grey, 0)
            imageio.imwrite(partial, image.clip(0, 255).astype(np.uint8))
    return metrics | errors


def _canonical_vertices(source: Path, face: Face) -> np.ndarray:
    """The vertices (N, 3) mm of a mesh file of the canonical topology."""
    mesh = load_mesh(source)
    if not np.array_equal(mesh.faces, face.faces):
        raise InputError(
            f"{source}: {len(mesh.vertices)} vertices and {len(mesh.faces)} faces that are not the "
            "canonical face's",
            f"only meshes of its topology, {len(face.mean)} vertices in its order, have a map",
        )
    height = np.ptp(mesh.vertices[:, 1])
    if not 0.5 < height / np.ptp(face.mean[:, 1]) < 2:
        raise InputError(
            f"{source}: {height:.3g} high", "the map is in mm, and so must the mesh be"
        )
    return mesh.vertices


def _read_map(path: Path) -> np.ndarray:
    """The map (3, MAP_SIZE, MAP_SIZE) float32 mm of an npz. Raises InputError otherwise."""
    maps = read_npz(path, "a geometry map", "map", max_bytes=MAX_MAP_BYTES)["map"]
    hint = "check that it is the right file"
    if maps.shape != (3, MAP_SIZE, MAP_SIZE) or maps.dtype.kind not in "fiu":
        raise InputError(
            f"{printable(path)}: a map is (3, {MAP_SIZE}, {MAP_SIZE}) numbers, "
            f"this one {maps.shape}",
            hint,
        )
    with quiet_libraries():  # signalling NaN
        maps = maps.astype(np.float64)
    if not np.abs(maps).max() <= MAX_MAP_DISPLACEMENT_MM:  # not so for NaN
        raise InputError(
            f"{printable(path)}: a map in mm is finite, and at most {MAX_MAP_DISPLACEMENT_MM:g}",
            hint,
        )
    return maps.astype(np.float32)
