"""The main job: a face, a recording and an emotion give an animation. Everything streams, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, speech
from .animation import Chunk, Header, NpzWriter, Writer
from .binding import Binding, bind
from .errors import InputError
from .face import Face, load_face
from .files import check_output, read_npz, whole
from .geomap import geometry_map
from .mesh import load_mesh, save_obj

CHUNK = 128  # frames
FORMATS = (".mp4", ".npz")
FPS = (1.0, 240.0)
LONGEST = 24 * 3600.0  # s


@dataclass(frozen=True)
class Result:
    """What `animate` did: the files written, frames, seconds of sound, fit of the binding in canonical mm."""

    outputs: list[Path]
    frames: int
    fps: float
    seconds: float
    binding_error_mm: float


def animate(
    face: str | Path,
    audio: str | Path,
    outputs: list[str | Path],
    emotion: str = "neutral",
    intensity: float = 1.0,
    fps: float = 60.0,
    size: int = 512,
    seed: int = 0,
    style: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Make the face of a mesh file speak a sound file with an emotion, and write .mp4 and .npz files.

    emotion: one of the eight, an everyday spelling, or a mix `happy:0.6,surprised:0.4`; intensity 0…1 scales it
    fps: frames a second; a video has at most 30, every second or third frame of the rest
    style: whose way of speaking, one of `TalkingModel.styles`; None for the default
    Raises InputError for anything unusable; no output is left then.
    """
    from .emotion import load_emotion, parse_emotion

    paths = check_outputs(outputs, face, audio)
    label = parse_emotion(emotion)
    if not 0 <= intensity <= 1:
        raise InputError(f"intensity {intensity:g} is not between 0 and 1")
    if not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"{fps:g} frames a second: choose from {FPS[0]:g} to {FPS[1]:g}")
    mesh = load_mesh(face)
    sound = speech.open_audio(audio)
    if sound.duration > LONGEST:
        raise InputError(f"{audio}: {sound.duration / 3600:.0f} hours of sound are too many")

    canonical = load_face()
    binding = bind(canonical, mesh)
    from .talking import load_talking

    talking = load_talking(canonical)
    talking.style(style)
    transfer = load_emotion(canonical) if label[1:].any() and intensity > 0 else None
    frames = max(1, int(np.ceil(sound.duration * fps - 1e-6)))
    focus = np.zeros(len(mesh.vertices), bool)
    focus[binding.moving] = True
    meta: dict[str, Any] = {
        "talkemo": __version__,
        "mesh": Path(face).name,
        "audio": Path(audio).name,
        "emotion": emotion,
        "intensity": intensity,
        "style": style or "default",
        "seed": seed,
        "weights": {"talking": talking.settings.get("steps")},
    }
    if transfer:
        meta["weights"]["emotion"] = transfer.settings.get("iterations")
    header = Header(frames, fps, mesh.faces, mesh.vertices.astype(np.float32), focus, meta)

    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(path, header, sound, size)) for path in paths]
        motion = talking.stream(sound, np.arange(frames) / fps, style, CHUNK)
        for chunk in _frames(canonical, binding, motion, transfer, label, intensity):
            for writer in writers:
                writer.write(chunk)
            if progress:
                progress(len(chunk.vertices), frames)
    return Result(paths, frames, fps, sound.duration, binding.error)


def _frames(face: Face, binding: Binding, motion, transfer, label, intensity) -> Iterator[Chunk]:
    for displacement in motion:
        if transfer:
            displacement = transfer.transfer(displacement, label, intensity)
        vertices = binding.apply(displacement)
        yield Chunk(vertices, vertices[:, binding.landmarks68], face.fit_shapes(displacement) @ face.arkit_matrix)


def check_outputs(outputs: list[str | Path], *inputs: str | Path) -> list[Path]:
    """The output paths, each with a known ending, in a folder that exists, and none of the inputs; raises InputError."""
    paths = [Path(output) for output in outputs]
    for path in paths:
        check_output(path, FORMATS, *inputs)
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("the same output is named twice")
    return paths


def open_writer(path: Path, header: Header, sound: speech.Audio | None, size: int) -> Writer:
    """The writer for a path's ending."""
    if path.suffix.lower() == ".npz":
        return NpzWriter(path, header)
    from .render.video import VideoWriter

    return VideoWriter(path, header, None if sound is None else sound.path, size)


def map_round_trip(face: Face, vertices: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """A mesh of the canonical topology (V, 3) mm through the geometry map and back: the map (3, 128, 128) and errors."""
    sampling = geometry_map(face)
    displacement = (vertices - face.mean)[None].astype(np.float32)
    maps = sampling.encode(displacement)
    error = np.linalg.norm(sampling.decode(maps) - displacement, axis=2)[0]
    critical = face.regions["lips"] | face.regions["eyelids"]
    figures = {
        "round_trip_mean_mm": float(error.mean()),
        "round_trip_max_mm": float(error.max()),
        "round_trip_lips_eyelids_max_mm": float(error[critical].max()),
    }
    return maps[0], figures


def convert_map(source: str | Path, output: str | Path) -> dict[str, float]:
    """A mesh file of the canonical topology → its geometry map (.npz with `map` in mm, or .png to look at), or such an
    npz → a mesh (.obj). Returns the stress of the chart and, for a mesh, the round-trip errors in mm."""
    source, output = Path(source), Path(output)
    from_map = source.suffix.lower() == ".npz"
    check_output(output, (".obj",) if from_map else (".npz", ".png"), source)
    face = load_face()
    figures = {"chart_stress": face.chart_stress}
    if from_map:
        maps = np.asarray(read_npz(source, "a geometry map", "map")["map"], np.float32)
        if maps.shape != (3, 128, 128) or not np.isfinite(maps).all():
            raise InputError(f"{source}: a map is (3, 128, 128) and finite, this one {maps.shape}")
        save_obj(output, face.mean + geometry_map(face).decode(maps[None])[0], face.faces)
        return figures
    mesh = load_mesh(source)
    if not np.array_equal(mesh.faces, face.faces):
        raise InputError(
            f"{source}: {len(mesh.vertices)} vertices and {len(mesh.faces)} faces that are not the canonical face's",
            f"only meshes of its topology, {len(face.mean)} vertices in its order, have a map of their own",
        )
    if not 0.5 < np.ptp(mesh.vertices[:, 1]) / np.ptp(face.mean[:, 1]) < 2:
        raise InputError(f"{source}: {np.ptp(mesh.vertices[:, 1]):.3g} high; the map is in mm, and so must the mesh be")
    maps, errors = map_round_trip(face, mesh.vertices)
    with whole(output) as partial:
        if output.suffix.lower() == ".npz":
            np.savez_compressed(partial, map=maps, mask=face.map_mask)
        else:
            import imageio.v3 as imageio

            # Grey is no displacement, 20 mm either way are black and white.
            picture = np.where(face.map_mask[..., None], 127.5 + maps.transpose(1, 2, 0) * 127.5 / 20, 0)
            imageio.imwrite(partial, picture.clip(0, 255).astype(np.uint8))
    return figures | errors
