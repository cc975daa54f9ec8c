"""Seconds and memory of the first binding of large meshes: 10,000, 100,000 and 500,000 vertices.

python benchmarks/large_meshes.py [MESH ...] [--sizes 10000 100000 500000] [--clothes 3] [--no-tracker]

Each mesh is the example head, or a MESH, whose triangles are subdivided, the longest edges first,
until it has the number of vertices. `--clothes` adds so many layers over its lower half, as parts
of their own, before that. Each binding is a process of its own, `talkemo bind` with an empty cache,
so reading the file and loading the face model count. Processor time hardly depends on what else
the machine does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.formats.obj import save_obj
from talkemo.geometry.meshes import edge_lengths, mesh_edges, vertex_normals

EXAMPLE = Path(__file__).parent.parent / "examples" / "face.obj"
LAYER_DISTANCE = 0.01  # between layers of clothes, relative to the mesh's size
WORN_BELOW = 0.5  # of the height of the mesh


def dressed(mesh: Mesh, layers: int) -> Mesh:
    """Return a mesh with layers around its lower half."""
    vertices, faces = [mesh.vertices], [mesh.faces]
    size = float(np.ptp(mesh.vertices, axis=0).max())
    top = mesh.vertices[:, 1].min() + WORN_BELOW * float(np.ptp(mesh.vertices[:, 1]))
    worn = mesh.faces[(mesh.vertices[mesh.faces, 1] < top).all(1)]
    rows, renumbered = np.unique(worn, return_inverse=True)
    outwards = vertex_normals(mesh.vertices, mesh.faces)[rows]
    for layer in range(1, layers + 1):
        faces.append(renumbered.reshape(-1, 3) + sum(map(len, vertices)))
        vertices.append(mesh.vertices[rows] + layer * LAYER_DISTANCE * size * outwards)
    return Mesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int32))


def subdivided(mesh: Mesh, count: int) -> Mesh:
    """Return a mesh with at least `count` vertices: the middles of its longest edges are added.

    Triangles between them are divided into two, three or four.
    """
    vertices, faces = mesh.vertices, mesh.faces.astype(np.int64)
    while len(vertices) < count:
        edges, _ = mesh_edges(faces)
        longest = edge_lengths(vertices, edges).argsort()[::-1][: count - len(vertices)]
        chosen = edges[np.sort(longest)]
        middle = vertices[chosen].mean(1)
        faces = _divided(faces, chosen, len(vertices))
        vertices = np.concatenate([vertices, middle])
    return Mesh(vertices, faces.astype(np.int32))


def _divided(faces: np.ndarray, edges: np.ndarray, first: int) -> np.ndarray:
    """Return triangles whose edges (E, 2) are divided by new vertices, `first` and the next ones."""
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1), axis=-1)
    keys, wanted = (pairs[..., 0] * first + pairs[..., 1] for pairs in (edges, ends))
    place = np.searchsorted(keys, wanted).clip(0, len(keys) - 1)
    middle = np.where(keys[place] == wanted, first + place, -1)  # (F, 3), of corner k and the next
    count = (middle >= 0).sum(1)
    # Turned so that one divided edge comes first, or the one that is not divided last.
    turn = np.where(count == 2, (middle < 0).argmax(1) + 1, (middle >= 0).argmax(1))
    order = (turn[:, None] + np.arange(3)) % 3
    (a, b, c), (ab, bc, ca) = (
        np.take_along_axis(rows, order, axis=1).T for rows in (faces, middle)
    )
    patterns = {
        0: [(a, b, c)],
        1: [(a, ab, c), (ab, b, c)],
        2: [(ab, b, bc), (a, ab, bc), (a, bc, c)],
        3: [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
    }
    return np.concatenate(
        [
            np.stack(corners, axis=1)[count == divided]
            for divided, triangles in patterns.items()
            for corners in triangles
        ]
    )


def time_binding(path: Path, options: list[str]) -> tuple[float, float, float, str]:
    """Return seconds, processor seconds and peak MB of `talkemo bind`, and what it says of a fit."""
    command = [sys.executable, "-m", "talkemo_cli", "bind", str(path), "-o", f"{path}.npz"]
    before, start, peak = os.times(), time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TALKEMO_CACHE": cache}
        process = subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            time.sleep(0.02)
        said = process.communicate()[1]
    after = os.times()
    processor = after.children_user + after.children_system
    processor -= before.children_user + before.children_system
    return time.perf_counter() - start, processor, peak, said.strip().split("\n")[0]


def memory_mb(process: int) -> float:
    """Return the peak memory of a process in MB, 0 if it has ended or has no /proc."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Print a row for each mesh and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("meshes", type=Path, nargs="*", default=[EXAMPLE])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--clothes", type=int, default=0)
    parser.add_argument("--no-tracker", action="store_true")
    options = parser.parse_args()
    print(f"{'mesh':24}{'vertices':>10}{'s':>8}{'s of CPU':>10}{'MB':>8}  fit")
    with tempfile.TemporaryDirectory() as folder:
        for path in options.meshes:
            mesh = load_mesh(path)
            mesh = dressed(mesh, options.clothes) if options.clothes else mesh
            for size in options.sizes:
                large = subdivided(mesh, size)
                file = Path(folder) / f"{size}.obj"
                save_obj(file, large.vertices, large.faces)
                flags = ["--no-tracker"] if options.no_tracker else []
                seconds, processor, memory, fit = time_binding(file, flags)
                row = f"{path.stem:24}{len(large.vertices):10,}{seconds:8.1f}{processor:10.1f}"
                print(f"{row}{memory:8.0f}  {fit}", flush=True)


if __name__ == "__main__":
    main()
