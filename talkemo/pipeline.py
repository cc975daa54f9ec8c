"""The main job: a face, a recording and an emotion give an animation. Everything streams, chunk by chunk;
only what is baked has to wait for its last frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, speech
from .animation import Chunk, Header, NpzWriter, Source, Writer, open_animation
from .binding import ANYWHERE, Binding, Placing, bind_placed, save_binding
from .errors import InputError
from .face import Face, load_face
from .files import check_output, read_npz, whole
from .geomap import geometry_map
from .mesh import Mesh, load_mesh, save_obj

if TYPE_CHECKING:
    from .emotion import Timeline

CHUNK = 128  # frames
FORMATS = (".mp4", ".npz", ".glb", ".csv", ".usda", ".usdc")
BAKED = (".glb", ".usda", ".usdc")
SEQUENCES = ("obj", "ply")
FPS = (1.0, 240.0)
LONGEST = 24 * 3600.0  # s


@dataclass(frozen=True)
class Result:
    """What `animate` or `transfer` did: the files written, frames, seconds of sound, fit of the binding in canonical mm."""

    outputs: list[Path]
    frames: int
    fps: float
    seconds: float
    binding_error_mm: float
    # What the writers tell, such as the residual of ARKit's shapes.
    figures: dict[str, float] = field(default_factory=dict)


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
    timeline: str | Path | None = None,
    bake: bool = False,
    sequence: str = "obj",
    placing: Placing = ANYWHERE,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Make the face of a mesh file speak a sound file with an emotion, and write .mp4, .npz, .glb, .usda, .usdc and .csv files,
    and folders of meshes.

    emotion: one of the eight, an everyday spelling, or a mix `happy:0.6,surprised:0.4`; intensity 0…1 scales it
    fps: frames a second; a video has at most 30, every second or third frame of the rest
    style: whose way of speaking, one of `TalkingModel.styles`; None for the default
    timeline: a file of emotions that come and go, see `emotion.read_timeline`, in the place of one emotion
    bake: whether a .glb or USD has each frame as it is, exact, instead of ARKit's 52 shapes
    sequence: obj or ply, what a folder of meshes is made of
    placing: where the mesh has its face, if it is not found by itself; or a saved binding
    Raises InputError for anything unusable; no output is left then.
    """
    from .emotion import load_emotion

    _check_forms(outputs, bake, sequence)
    paths = check_outputs(outputs, face, audio, timeline, placing.binding, placing.landmarks)
    course = _course(emotion, intensity, timeline)
    if not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"{fps:g} frames a second: choose from {FPS[0]:g} to {FPS[1]:g}")
    mesh = load_mesh(face)
    sound = speech.open_audio(audio)
    if sound.duration > LONGEST:
        raise InputError(f"{audio}: {sound.duration / 3600:.0f} hours of sound are too many")

    canonical = load_face()
    binding = bind_placed(canonical, mesh, placing)
    from .talking import load_talking

    talking = load_talking(canonical)
    talking.style(style)
    emotions = load_emotion(canonical) if course.shown[1:].any() else None
    frames = max(1, int(np.ceil(sound.duration * fps - 1e-6)))
    meta: dict[str, Any] = {
        "talkemo": __version__,
        "mesh": Path(face).name,
        "audio": Path(audio).name,
        **({"timeline": Path(timeline).name} if timeline else {"emotion": emotion}),
        "intensity": intensity,
        "style": style or "default",
        "seed": seed,
        "weights": {"talking": talking.settings.get("steps")},
    }
    if emotions:
        meta["weights"]["emotion"] = emotions.settings.get("iterations")
    times = np.arange(frames) / fps

    def chunks() -> Iterator[Chunk]:
        done = 0
        for displacement in talking.stream(sound, times, style, CHUNK):
            if emotions:
                amounts = course.amounts(times[done : done + len(displacement)])
                displacement = emotions.transfer(displacement, amounts)
            done += len(displacement)
            yield _chunk(canonical, binding, binding.apply(displacement), displacement)

    open_one = lambda path, header: open_writer(path, header, sound, size, bake, sequence)
    figures = _write(paths, canonical, binding, frames, fps, meta, chunks(), open_one, progress)
    return Result(paths, frames, fps, sound.duration, binding.error, figures)


def _course(emotion: str, intensity: float, timeline: str | Path | None) -> Timeline:
    """A timeline file's emotions, or one emotion throughout."""
    from .emotion import constant, read_timeline

    return read_timeline(timeline).scaled(intensity) if timeline else constant(emotion, intensity)


def _write(
    paths: list[Path],
    face: Face,
    binding: Binding,
    frames: int,
    fps: float,
    meta: dict[str, Any],
    chunks: Iterator[Chunk],
    open_one: Callable[[Path, Header], Writer],
    progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    """Write an animation of a bound mesh to every path; returns what the writers tell of it."""
    mesh = binding.mesh
    rest = mesh.vertices.astype(np.float32)
    meta = {**meta, "facing": binding.placement.rotation.round(6).tolist()}
    header = Header(frames, fps, mesh.faces, rest, binding.focus, meta, binding.arkit_targets, mesh.look)
    with ExitStack() as stack:
        writers = [stack.enter_context(open_one(path, header)) for path in paths]
        for chunk in chunks:
            for writer in writers:
                writer.write(chunk)
            if progress:
                progress(len(chunk.vertices), frames)
    return {name: value for writer in writers for name, value in writer.figures.items()}


def _chunk(face: Face, binding: Binding, vertices: np.ndarray, displacement: np.ndarray) -> Chunk:
    return Chunk(
        vertices, vertices[:, binding.landmarks68], face.fit_shapes(displacement, gaze=False) @ face.arkit_matrix
    )


def transfer(
    animation: str | Path,
    outputs: list[str | Path],
    emotion: str = "neutral",
    intensity: float = 1.0,
    timeline: str | Path | None = None,
    neutral: str | Path | None = None,
    audio: str | Path | None = None,
    fps: float | None = None,
    size: int = 512,
    seed: int = 0,
    bake: bool = False,
    sequence: str = "obj",
    placing: Placing = ANYWHERE,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Change the emotion of an animation that exists, an npz, a GLB with morph targets or a folder of meshes.

    The mesh at rest is bound to the canonical face; what its frames do is read as blend shapes and the head's motion,
    emotion transfer draws a difference, and that is added to the frames as they are, turned along with the head.
    emotion, intensity, timeline: as of `animate`, but for neutral, which takes off what emotion there is
    neutral: a mesh file, the mesh at rest; the animation's own, or else its first frame, if None
    audio: sound for a video; if None the file that an npz names, where it lies beside it
    fps: of a folder of meshes
    bake, sequence, placing: as of `animate`
    Frames in which nothing is asked for stay as they are, to the bit. Raises InputError for anything unusable.
    """
    from .emotion import load_emotion
    from .tracking import FaceTracker

    _check_forms(outputs, bake, sequence)
    paths = check_outputs(outputs, animation, audio, neutral, timeline, placing.binding, placing.landmarks)
    course = _course(emotion, intensity, timeline)
    if fps is not None and not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"{fps:g} frames a second: choose from {FPS[0]:g} to {FPS[1]:g}")
    source = open_animation(animation, fps)
    if not len(source):
        raise InputError(f"{animation}: no frames in it")
    mesh = Mesh(_rest(source, neutral), source.faces, source.look)
    sound = _sound(source, audio) if any(path.suffix.lower() == ".mp4" for path in paths) else None
    if sound is not None:
        check_outputs(outputs, sound.path)
    canonical = load_face()
    binding = bind_placed(canonical, mesh, placing)
    tracker = FaceTracker(canonical, binding)
    emotions = load_emotion(canonical)
    meta: dict[str, Any] = {
        **{key: value for key, value in source.meta.items() if key not in ("emotion", "intensity", "timeline")},
        "talkemo": __version__,
        "source": Path(animation).name,
        **({"timeline": Path(timeline).name} if timeline else {"emotion": emotion}),
        "intensity": intensity,
        "seed": seed,
    }

    def chunks() -> Iterator[Chunk]:
        done = 0
        for vertices in source.chunks(CHUNK):
            if not np.isfinite(vertices).all():
                raise InputError(f"{animation}: vertices that are no numbers, in frames {done} to {done + CHUNK - 1}")
            amounts = course.amounts(np.arange(done, done + len(vertices)) / source.fps)
            shapes, rotation = tracker.track(vertices)
            before = np.tensordot(shapes, canonical.expression_basis, 1)
            after = emotions.transfer(before, amounts, from_neutral=False)
            changed = amounts.any(1)
            if changed.any():
                step = binding.apply(after[changed] - before[changed])[:, binding.moving]
                step -= mesh.vertices[binding.moving].astype(np.float32)
                turned = np.einsum("tvi,tji->tvj", step, rotation[changed].astype(np.float32), optimize=True)
                vertices = vertices.copy()
                vertices[np.ix_(changed, binding.moving)] += turned
            done += len(vertices)
            yield _chunk(canonical, binding, vertices, after)

    open_one = lambda path, header: open_writer(path, header, sound, size, bake, sequence)
    figures = _write(paths, canonical, binding, len(source), source.fps, meta, chunks(), open_one, progress)
    return Result(paths, len(source), source.fps, len(source) / source.fps, binding.error, figures)


def _rest(source: Source, neutral: str | Path | None) -> np.ndarray:
    """The vertices (V, 3) of an animation's mesh at rest."""
    if neutral is not None:
        rest = load_mesh(neutral).vertices
        if len(rest) != source.shape[1]:
            raise InputError(f"{neutral} has {len(rest)} vertices, {source.path} {source.shape[1]}")
        return rest
    rest = source.rest if source.rest is not None else next(source.chunks(1))[0]
    if not np.isfinite(rest).all():
        raise InputError(f"{source.path}: vertices that are no numbers, in its first frame", "name a --neutral mesh")
    return np.asarray(rest, np.float64)


def _sound(source: Source, audio: str | Path | None) -> speech.Audio | None:
    if audio is not None:
        return speech.open_audio(audio)
    # Only the name is believed: a file from elsewhere must not choose what is read.
    name = Path(str(source.meta.get("audio", ""))).name
    beside = source.path.parent / name
    return speech.open_audio(beside) if name and beside.is_file() else None


def _check_forms(outputs: list[str | Path], bake: bool, sequence: str) -> None:
    if sequence not in SEQUENCES:
        raise InputError(f"unknown kind of mesh '{sequence}' for a sequence", f"choose {' or '.join(SEQUENCES)}")
    if bake and not any(Path(output).suffix.lower() in BAKED for output in outputs):
        raise InputError("nothing to bake", f"--bake is for outputs that end in {', '.join(BAKED)}")


def check_outputs(outputs: list[str | Path], *inputs: str | Path | None) -> list[Path]:
    """The output paths, each with a known ending or, for a folder, none, in a folder that exists, and none of the inputs.

    Raises InputError.
    """
    paths = [Path(output) for output in outputs]
    for path in paths:
        if path.suffix:
            check_output(path, FORMATS, *(source for source in inputs if source is not None))
        elif not path.name or path.is_symlink():
            raise InputError(f"{path}: not a name for a folder of meshes")
        elif not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder", "make it first, or choose another")
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(paths):
        raise InputError("the same output is named twice")
    if any(a in b.parents for a in resolved for b in resolved):
        raise InputError("an output lies inside another")
    return paths


def open_writer(
    path: Path, header: Header, sound: speech.Audio | None, size: int, bake: bool = False, sequence: str = "obj"
) -> Writer:
    """The writer for a path's ending; without one it is a folder of meshes, `sequence` files."""
    from .exports import GlbWriter, LiveLinkWriter, SequenceWriter, UsdWriter

    ending = path.suffix.lower()
    if ending == ".npz":
        return NpzWriter(path, header)
    if ending == ".glb":
        return GlbWriter(path, header, bake)
    if ending in (".usda", ".usdc"):
        return UsdWriter(path, header, bake)
    if ending == ".csv":
        return LiveLinkWriter(path, header)
    if not ending:
        return SequenceWriter(path, header, sequence)
    from .render.video import VideoWriter

    return VideoWriter(path, header, None if sound is None else sound.path, size)


def bind_face(face: str | Path, outputs: list[str | Path], placing: Placing = ANYWHERE) -> dict[str, Any]:
    """Bind a mesh file and write the binding (.npz), and a picture of it (.png); returns how good it is.

    The figures: `error_mm`, the median distance of the bilinear model's face from the mesh; `relief`, how far the mesh's
    relief is a face's, up to 1; `lip_opening`, how far the lips open beside the canonical face's, relative to the width
    of the mouth; `parts`, vertices by what they were taken for.
    """
    paths = [Path(output) for output in outputs]
    for path in paths:
        given = (placing.binding, placing.landmarks)
        check_output(path, (".npz", ".png"), face, *(source for source in given if source is not None))
    mesh, canonical = load_mesh(face), load_face()
    binding = bind_placed(canonical, mesh, placing)
    for path in paths:
        if path.suffix.lower() == ".npz":
            save_binding(path, binding)
        else:
            from .render.jobs import binding_picture, save_picture

            save_picture(path, binding_picture(binding))
    return {
        "vertices": len(mesh.vertices),
        "moving": len(binding.moving),
        "error_mm": binding.error,
        "relief": binding.relief,
        "lip_opening": binding.lip_opening(),
        "mesh_units_a_mm": binding.scale,
        "up": binding.placement.rotation[:, 1].round(3).tolist(),
        "forward": binding.placement.rotation[:, 2].round(3).tolist(),
        "parts": binding.parts,
    }


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
