"""How well meshes are bound, and how stable the binding is.

python benchmarks/faces.py MESH... [--sheet faces.png]

Each mesh is bound as it is, and as copies that are randomly rotated, scaled and shifted,
subdivided, and simplified (with the package fast-simplification). Printed for each:

seconds   of binding
error     median distance of the model's face, mm
relief    see `Binding.relief`
opening   how far the lips open relative to the width of the mouth, compared with the canonical
          face, see `Binding.lip_opening_ratio`
stretch   largest stretch of an edge in the example sentence (neutral, happy, angry, surprised),
          relative to the largest of the canonical face in the same frame
still     largest movement of vertices that should not move, relative to the mesh's size
copies    mean and largest distance between a copy's motion and the original's, canonical mm
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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

EXAMPLE_SPEECH = Path(__file__).parent.parent / "examples" / "speech.wav"
TESTED_EMOTIONS = ("neutral", "happy", "angry", "surprised")
TESTED_FPS = 8


@dataclass(frozen=True)
class Copy:
    """A transformed copy of a mesh: its vertices are scale · x · rotationᵀ + shift."""

    name: str
    mesh: Mesh
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    scale: float = 1.0
    shift: np.ndarray = field(default_factory=lambda: np.zeros(3))
    same_vertices: bool = True  # its first vertices are the original's


def example_motion(models: Models) -> Motion:
    """The example sentence with each of the tested emotions, one after the other: 4·T frames."""
    audio = open_audio(EXAMPLE_SPEECH)
    neutral = models.talking.motion(audio, np.arange(0, audio.duration, 1 / TESTED_FPS))
    coordinates = [
        models.emotion.transfer(neutral, one_hot(name)).coordinates for name in TESTED_EMOTIONS
    ]
    times = np.arange(len(TESTED_EMOTIONS) * len(neutral)) / TESTED_FPS
    return Motion(times, np.concatenate(coordinates))


def largest_stretch(rest: np.ndarray, frames: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(T,) largest ratio of an edge's length in a frame to its length at rest."""
    a, b = mesh_edges(faces)[0].T
    length = np.linalg.norm(rest[a] - rest[b], axis=1)
    a, b, length = a[length > 0], b[length > 0], length[length > 0]
    return np.array(
        [(np.linalg.norm(frame[a] - frame[b], axis=1) / length).max() for frame in frames]
    )


def copies(mesh: Mesh) -> Iterator[Copy]:
    """The mesh itself, then its copies."""
    yield Copy("as it is", mesh)
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        rotation = Rotation.random(random_state=seed).as_matrix()
        scale = 10 ** rng.uniform(-3, 3)
        shift = scale * np.ptp(mesh.vertices) * rng.standard_normal(3)
        transformed = Mesh(scale * mesh.vertices @ rotation.T + shift, mesh.faces)
        yield Copy(f"rotated {seed}", transformed, rotation, scale, shift)
    original = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    yield Copy("subdivided", _mesh(original.subdivide()))
    try:
        simplified = original.simplify_quadric_decimation(face_count=len(mesh.faces) // 4)
    except ImportError:
        return
    yield Copy("a quarter", _mesh(simplified), same_vertices=False)


def _mesh(mesh: trimesh.Trimesh) -> Mesh:
    """Convert a mesh of trimesh's."""
    return Mesh(np.array(mesh.vertices), np.array(mesh.faces, np.int32))


def table_cells(
    binding: Binding, seconds: float, vertices: np.ndarray, canonical_stretch: np.ndarray
) -> str:
    """The columns of the table for a bound mesh with vertices (4·T, N, 3)."""
    mesh = binding.mesh
    stretch = largest_stretch(mesh.vertices, vertices, mesh.faces) / canonical_stretch
    still = np.setdiff1d(np.arange(len(mesh.vertices)), binding.moving)
    size = np.ptp(mesh.vertices, axis=0).max()
    movement = np.abs(vertices[:, still] - mesh.vertices[still].astype(np.float32)).max(initial=0)
    return (
        f"{len(mesh.vertices):7d} {seconds:6.1f} {binding.error:7.2f} {binding.relief:7.2f}"
        f" {binding.lip_opening_ratio():8.2f} {stretch.max():8.2f} {movement / size:9.0e}"
    )


def measure_mesh(
    path: Path, models: Models, motion: Motion, canonical_stretch: np.ndarray
) -> np.ndarray | None:
    """Print a row for a mesh and each copy; returns the mesh's strip of images if it was bound."""
    mesh = load_mesh(path)
    original = strip = None
    for copy in copies(mesh):
        started = time.perf_counter()
        try:
            binding = talkemo.bind(copy.mesh, models=models, cache=False)
        except InputError as error:
            print(f"{path.stem:20s}{copy.name:14s} {error}")
            continue
        seconds = time.perf_counter() - started
        vertices = binding.vertices(motion.coordinates)
        text = table_cells(binding, seconds, vertices, canonical_stretch)
        if original is None:
            original, strip = vertices, draw_strip(binding, motion)
        elif copy.same_vertices:
            aligned = (vertices[:, : len(mesh.vertices)] - copy.shift) @ copy.rotation / copy.scale
            distance = np.linalg.norm(aligned - original, axis=2) * copy.scale / binding.scale
            text += f"   {distance.mean():.3f} {distance.max():.1f}"
        print(f"{path.stem:20s}{copy.name:14s}{text}", flush=True)
    return strip


def draw_strip(binding: Binding, motion: Motion, size: int = 230) -> np.ndarray:
    """A mesh at rest, each emotion with the mouth open widest, and happy with the lips closed."""
    mesh = binding.mesh
    opening = motion.lip_opening(binding.face)
    by_emotion = np.split(np.arange(len(motion)), len(TESTED_EMOTIONS))
    frames = [numbers[opening[numbers].argmax()] for numbers in by_emotion]
    happy = by_emotion[TESTED_EMOTIONS.index("happy")]
    frames.append(happy[opening[happy].argmin()])
    view = frame_view(mesh.vertices, binding.focus, facing=binding.placement.rotation)
    renderer = SoftwareRenderer(appearance_of(binding), view, (size, size))
    vertices = binding.vertices(motion.coordinates[frames])
    return np.hstack([renderer.draw(v) for v in (mesh.vertices.astype(np.float32), *vertices)])


def main() -> None:
    """Parse the command line, print the table, and write the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("meshes", nargs="+", type=Path, metavar="MESH")
    parser.add_argument(
        "--sheet", type=Path, help="image to write: each mesh at rest and at five moments"
    )
    options = parser.parse_args()
    models = talkemo.load_models()
    face, motion = models.face, example_motion(models)
    canonical_stretch = largest_stretch(
        face.mean, face.mean + motion.displacement(face), face.faces
    )
    columns = "vertices seconds error relief  opening  stretch  still     differs by mm: mean, max"
    print(" " * 34 + columns)
    strips = [measure_mesh(path, models, motion, canonical_stretch) for path in options.meshes]
    if options.sheet:
        import imageio.v3 as imageio

        imageio.imwrite(options.sheet, np.vstack([strip for strip in strips if strip is not None]))


if __name__ == "__main__":
    main()
