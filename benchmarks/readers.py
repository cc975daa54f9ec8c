"""What readers that are not ours make of the files that talkemo writes.

    TALKEMO_NODE_MODULES=FOLDER python benchmarks/readers.py [FACE …] [--seconds 1] [--keep FOLDER]

Speaks a second with each FACE (by default the examples), writes GLB, baked GLB, USD and VRM
animation, and prints a table: errors and warnings of the Khronos validator, and the mean and the
largest distance in mm of the vertices that three.js, Blender and usd-core show from those of a point
cache, which has every vertex in its place, with the head turned. ARKit's shapes leave a residual,
baked frames none.

FOLDER is a node_modules with gltf-validator, three, @pixiv/three-vrm and
@pixiv/three-vrm-animation. `TALKEMO_BLENDER` names another program than `blender`. A reader that is missing
is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

import talkemo
from talkemo import ExportOptions, animate
from talkemo.audio.recording import SAMPLE_RATE, open_audio
from talkemo.formats.registry import open_animation

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(__file__).parent / "readers"
NODE_MODULES = os.environ.get("TALKEMO_NODE_MODULES", "")
BLENDER = os.environ.get("TALKEMO_BLENDER", "blender")
SAME_PLACE_M = 1e-6  # distance of vertices that count as one at rest
CANDIDATES = 6  # vertices of the mesh that may lie in one place
FPS = 30.0
SHOWN_FRAMES = 4  # of each file
FACES = (ROOT / "examples" / "mask.obj", ROOT / "examples" / "face.obj")
COLUMNS = ("file", "errors, warnings", "three.js", "Blender", "usd-core")
TIMEOUT_S = 600


@dataclass(frozen=True)
class Verdict:
    """What the Khronos validator says of a file."""

    errors: int
    warnings: int
    messages: list[str]


def has_node() -> bool:
    """Return whether node and the folder of its modules are there."""
    return bool(NODE_MODULES) and shutil.which("node") is not None


def validated(paths: Sequence[Path]) -> list[Verdict]:
    """Return the Khronos validator's verdict on each glTF file."""
    lines = _node("validate.cjs", *map(str, paths)).splitlines()
    return [Verdict(**json.loads(line)) for line in lines]


def played_by_three(path: Path, times: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the vertices (1 + T, V, 3) in m of a GLB's meshes, at rest and at times in s."""
    return _played(path, times, lambda *words: _node("play_three.mjs", *words))


def played_by_blender(path: Path, times: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the same as Blender shows it."""
    command = [BLENDER, "-b", "--python-use-system-env", "--python-exit-code", "3", "--python"]

    def run(*words: str) -> str:
        return _output([*command, str(SCRIPTS / "play_blender.py"), "--", *words])

    return _played(path, times, run)


def played_by_usd(path: Path, times: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the same of the face of a USD with y up, as usd-core computes it."""
    from pxr import Usd, UsdGeom, UsdSkel, Vt

    stage = Usd.Stage.Open(str(path))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/face/mesh"))
    rest = np.array(mesh.GetPointsAttr().Get())
    cache = UsdSkel.Cache()
    cache.Populate(UsdSkel.Root(stage.GetPrimAtPath("/face")), Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath("/face/skeleton")))
    skinning = cache.GetSkinningQuery(mesh.GetPrim())
    shapes = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(mesh.GetPrim()))
    frames = [rest]
    for time in times:
        code = round(time * stage.GetTimeCodesPerSecond())
        points = Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rest))
        weights = skeleton.GetAnimQuery().ComputeBlendShapeWeights(code)
        parts = shapes.ComputeSubShapeWeights(weights)
        assert shapes.ComputeDeformedPoints(
            *parts,
            shapes.ComputeBlendShapePointIndices(),
            shapes.ComputeSubShapePointOffsets(),
            points,
        )
        if skinning.HasJointInfluences():
            matrices = skeleton.ComputeSkinningTransforms(code)
            assert skinning.ComputeSkinnedPoints(matrices, points, code)
        frames.append(np.array(points))
    return {"mesh": UsdGeom.GetStageMetersPerUnit(stage) * np.stack(frames)}


def distances_mm(meshes: dict[str, np.ndarray], rest: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return how far vertices lie from where they should be, (D,) in mm.

    A vertex is known by its place at rest; meshes of added parts have no counterpart and are left
    out.

    Parameters
    ----------
    meshes : dict of str to (1 + T, V, 3)
        What a reader shows, at rest and in frames, in m.
    rest : (N, 3)
    frames : (T, N, 3)
        What it should show, in m.
    """
    tree, result = cKDTree(rest), [np.zeros(0)]
    for points in meshes.values():
        apart, vertex = tree.query(points[0], CANDIDATES)
        is_known = apart[:, 0] < SAME_PLACE_M
        errors = np.full((len(frames), len(points[0]), CANDIDATES), np.inf)
        for k in range(CANDIDATES):  # vertices of both lips may lie in one place
            same = np.flatnonzero(apart[:, k] < SAME_PLACE_M)
            wanted = frames[:, vertex[same, k]]
            errors[:, same, k] = np.linalg.norm(points[1:, same] - wanted, axis=2)
        closest = errors.max(0).argmin(1)
        result.append(errors[:, np.arange(len(closest)), closest][:, is_known].ravel())
    return np.asarray(1000 * np.concatenate(result))


def vrma_in_three(path: Path) -> str:
    """Return what three-vrm-animation finds in a VRM animation."""
    return _node("read_vrma.mjs", str(path)).strip()


def played_by_three_vrm(avatar: Path, path: Path, time: float) -> dict[str, Any]:
    """Return what a VRM avatar shows of a VRM animation at a time, see `play_vrma.mjs`."""
    shown: dict[str, Any] = json.loads(
        _node("play_vrma.mjs", str(avatar), str(path), str(time)).splitlines()[-1]
    )
    return shown


def _played(path: Path, times: Sequence[float], run: Callable[..., str]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "points"
        printed = run(str(path), str(output), *(f"{time:.6f}" for time in times))
        names = next(line for line in printed.splitlines() if line.startswith("[{"))
        values = np.fromfile(output, "<f4")
    meshes, first = {}, 0
    for mesh in json.loads(names):
        size = (1 + len(times)) * mesh["count"] * 3
        meshes[mesh["name"]] = values[first : first + size].reshape(1 + len(times), -1, 3)
        first += size
    return meshes


def _node(script: str, *words: str) -> str:
    return _output(["node", str(SCRIPTS / script), NODE_MODULES, *words])


def _output(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.environ.get("BLENDER_PYTHONPATH", "")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr[-2000:]}")
    return done.stdout


# --------------------------------------------------------------------------------------- the table


def written(face: Path, audio: tuple[np.ndarray, int], folder: Path) -> dict[str, Path]:
    """Write the files of a face; return them by their kind."""
    paths = {kind: folder / f"{face.stem}.{kind}" for kind in ("glb", "usdc", "vrma", "mdd")}
    paths["baked glb"] = folder / f"{face.stem}_baked.glb"
    baked = [paths.pop("baked glb")]
    animate(face, audio, list(paths.values()), emotion="happy", fps=FPS)
    animate(face, audio, baked, emotion="happy", fps=FPS, export=ExportOptions(bake=True))
    return {**paths, "baked glb": baked[0]}


def to_metres(glb: Path) -> np.ndarray:
    """Return the matrix (3, 3) from the mesh's axes and unit to those of a GLB of talkemo."""
    content = glb.read_bytes()
    tree = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    return np.array(tree["asset"]["extras"]["mesh_space"]["to_file"])


def rows_of(face: Path, paths: dict[str, Path]) -> list[list[str]]:
    """Return the table's rows of a face's files."""
    cache = np.concatenate(list(open_animation(paths["mdd"], mesh=face).chunks()))
    numbers = np.unique(np.linspace(0, len(cache) - 1, SHOWN_FRAMES).astype(int))
    times, space = [float(number / FPS) for number in numbers], to_metres(paths["glb"])
    binding = talkemo.bind(face)
    rest, frames = binding.rest @ space, cache[numbers] @ space

    def shown(meshes: dict[str, np.ndarray]) -> str:
        distances = distances_mm(meshes, rest, frames)
        return f"{distances.mean():.3f}, {distances.max():.3f}"

    rows = []
    for kind in ("glb", "baked glb", "vrma", "usdc"):
        row = {"file": f"{face.stem} {kind}"}
        path = paths[kind]
        if has_node() and kind != "usdc":
            (verdict,) = validated([path])
            row["errors, warnings"] = f"{verdict.errors}, {verdict.warnings}"
            row["three.js"] = (
                vrma_in_three(path) if kind == "vrma" else shown(played_by_three(path, times))
            )
        if shutil.which(BLENDER) and kind.endswith("glb"):
            row["Blender"] = shown(played_by_blender(path, times))
        if kind == "usdc":
            row["usd-core"] = shown(played_by_usd(path, times))
        rows.append([row.get(name, "-") for name in COLUMNS])
    return rows


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", nargs="*", type=Path, default=list(FACES))
    parser.add_argument("--audio", type=Path, default=ROOT / "examples" / "speech.wav")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    audio = open_audio(options.audio)
    samples = audio.samples()[: round(options.seconds * SAMPLE_RATE)]
    print(" | ".join(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for face in options.faces:
            for row in rows_of(face, written(face, (samples, SAMPLE_RATE), Path(folder))):
                print(" | ".join(row))


if __name__ == "__main__":
    main()
