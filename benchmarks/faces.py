"""How meshes are bound: `python benchmarks/faces.py MESH... [--sheet faces.png]`.

For each mesh, and for copies of it turned, scaled and shifted at random, subdivided, and cut down to less (with the
package fast-simplification): seconds, the median distance of the model's face in mm, the relief, how far the lips open
beside the canonical face's relative to the width of the mouth, and of the example sentence, neutral, happy, angry and
surprised, the largest stretch of an edge beside the canonical face's largest in the same frame. For copies also the mean
and the largest distance in canonical mm between their motion and the original's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

import talkemo
from talkemo import InputError, Models, Motion
from talkemo.audio.recording import open_audio
from talkemo.binding import Binding
from talkemo.expression.emotions import one_hot
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.meshes import mesh_edges
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

SPEECH = Path(__file__).parent.parent / "examples" / "speech.wav"
EMOTIONS = ("neutral", "happy", "angry", "surprised")
FPS = 8


def sentence(models: Models) -> Motion:
    """The example sentence with each emotion, one after the other, 4·T frames."""
    audio = open_audio(SPEECH)
    spoken = models.talking.motion(audio, np.arange(0, audio.duration, 1 / FPS))
    parts = [models.emotion.transfer(spoken, one_hot(name)).coordinates for name in EMOTIONS]
    return Motion(np.arange(len(EMOTIONS) * len(spoken)) / FPS, np.concatenate(parts))


def stretch(vertices: np.ndarray, moved: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The longest that an edge gets, beside its own length, in each frame."""
    a, b = mesh_edges(faces)[0].T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    a, b, length = a[length > 0], b[length > 0], length[length > 0]
    return np.array(
        [(np.linalg.norm(frame[a] - frame[b], axis=1) / length).max() for frame in moved]
    )


def copies(mesh: Mesh):
    """Name, mesh, and how its vertices are taken back to the original's: rotation, scale, shift and the first so many."""
    yield "as it is", mesh, np.eye(3), 1.0, np.zeros(3)
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        turn, scale = Rotation.random(random_state=seed).as_matrix(), 10 ** rng.uniform(-3, 3)
        shift = scale * np.ptp(mesh.vertices) * rng.standard_normal(3)
        yield (
            f"turned {seed}",
            Mesh(scale * mesh.vertices @ turn.T + shift, mesh.faces),
            turn,
            scale,
            shift,
        )
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    fine = solid.subdivide()
    yield (
        "subdivided",
        Mesh(np.array(fine.vertices), np.array(fine.faces, np.int32)),
        np.eye(3),
        1.0,
        np.zeros(3),
    )
    try:
        coarse = solid.simplify_quadric_decimation(face_count=len(mesh.faces) // 4)
    except ImportError:
        return
    yield (
        "a quarter",
        Mesh(np.array(coarse.vertices), np.array(coarse.faces, np.int32)),
        None,
        1.0,
        np.zeros(3),
    )


def row(
    binding: Binding, seconds: float, frames: Motion, canonical: np.ndarray
) -> tuple[str, np.ndarray]:
    """A line of the table, and the vertices (4·T, N, 3) of the mesh; canonical: the canonical face's stretch."""
    mesh = binding.mesh
    moved = binding.vertices(frames.coordinates)
    ratio = (stretch(mesh.vertices, moved, mesh.faces) / canonical).max()
    still = np.setdiff1d(np.arange(len(mesh.vertices)), binding.moving)
    size = np.ptp(mesh.vertices, axis=0).max()
    drift = np.abs(moved[:, still] - mesh.vertices[still].astype(np.float32)).max(initial=0) / size
    text = f"{len(mesh.vertices):7d} {seconds:6.1f} {binding.error:7.2f} {binding.relief:7.2f}"
    return f"{text} {binding.lip_opening_ratio():8.2f} {ratio:8.2f} {drift:9.0e}", moved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("meshes", nargs="+", type=Path)
    parser.add_argument(
        "--sheet", type=Path, help="a picture: each mesh at rest and at five moments"
    )
    arguments = parser.parse_args()
    models = talkemo.load_models()
    face, frames = models.face, sentence(models)
    canonical = stretch(face.mean, face.mean + frames.displacement(face), face.faces)
    print(
        f"{'':34s}vertices seconds error relief  opening  stretch  still at   differs by mm: mean, most"
    )
    pictures = []
    for path in arguments.meshes:
        mesh = load_mesh(path)
        first = None
        for name, copy, turn, scale, shift in copies(mesh):
            began = time.perf_counter()
            try:
                binding = talkemo.bind(copy, models=models, cache=False)
            except InputError as error:
                print(f"{path.stem:20s}{name:14s} {error}")
                continue
            text, moved = row(binding, time.perf_counter() - began, frames, canonical)
            if first is None:
                first = moved
                pictures.append(strip(binding, frames))
            elif turn is not None:
                back = (moved[:, : len(mesh.vertices)] - shift) @ turn / scale
                off = np.linalg.norm(back - first, axis=2) * scale / binding.scale
                text += f"   {off.mean():.3f} {off.max():.1f}"
            print(f"{path.stem:20s}{name:14s}{text}", flush=True)
    if arguments.sheet:
        import imageio.v3 as imageio

        imageio.imwrite(arguments.sheet, np.vstack(pictures))


def strip(binding: Binding, frames: Motion, size: int = 230) -> np.ndarray:
    """A mesh at rest, and where its mouth is open widest: neutral, happy, angry, surprised; and happy with lips shut."""
    mesh = binding.mesh
    each = np.split(np.arange(len(frames)), len(EMOTIONS))
    opening = frames.lip_opening(binding.face)
    chosen = [part[opening[part].argmax()] for part in each] + [each[1][opening[each[1]].argmin()]]
    view = frame_view(mesh.vertices, binding.focus, facing=binding.placement.rotation)
    renderer = SoftwareRenderer(appearance_of(binding), view, (size, size))
    moved = binding.vertices(frames.coordinates[chosen])
    return np.hstack([renderer.draw(v) for v in (mesh.vertices.astype(np.float32), *moved)])


if __name__ == "__main__":
    main()
