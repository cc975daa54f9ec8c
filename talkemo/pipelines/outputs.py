"""What animate, transfer and reconstruct share: options of what is written, checks of where, and the writing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio
from ..errors import InputError
from ..face.motion import Motion
from ..files.writing import check_folder, check_output
from ..formats.animation import Frames, Header, output_errors
from ..formats.registry import BAKED_ENDINGS, OUTPUT_ENDINGS, SEQUENCE_MESH_TYPES, open_writer

FPS = (1.0, 240.0)
MODES = ("off", "auto")  # of what is done by itself or not at all
FRAMES_AT_A_TIME = 128  # frames made and written at a time
Progress = Callable[[int, int], None]  # called with the frames done and their total
PathLike = str | Path


@dataclass(frozen=True)
class ExportOptions:
    """How animations are written.

    size: pixels on a side of a video, or its width and height
    bake: whether a .glb or USD has each frame as it is, exact, instead of ARKit's 52 shapes
    sequence: obj or ply, the meshes of a folder
    """

    size: int | tuple[int, int] = 512
    bake: bool = False
    sequence: str = "obj"


@dataclass(frozen=True, eq=False)
class Result:
    """What a function made.

    outputs: files and folders written; frames, fps; seconds: of sound or animation
    binding_error_mm: median distance between the face model and the mesh, canonical mm
    metrics: what the writers report, such as the residual of ARKit's shapes
    motion: of the canonical face; vertices (T, N, 3), landmarks68 (T, 68, 3) and arkit (T, 52), float32: only where no
        outputs were asked for, and None otherwise, so that length costs no memory
    """

    outputs: list[Path]
    frames: int
    fps: float
    seconds: float
    binding_error_mm: float
    metrics: dict[str, float] = field(default_factory=dict)
    motion: Motion | None = None
    vertices: np.ndarray | None = None
    landmarks68: np.ndarray | None = None
    arkit: np.ndarray | None = None


def output_paths(
    outputs: PathLike | Sequence[PathLike] | None,
    export: ExportOptions,
    inputs: Iterable[PathLike | None],
) -> list[Path]:
    """The outputs as paths: files with a known ending or folders, where they can be written, and none of the inputs.

    Raises InputError for any that is not, and for export options that are unknown or meaningless.
    """
    if export.sequence not in SEQUENCE_MESH_TYPES:
        raise InputError(
            f"unknown kind of mesh '{export.sequence}'",
            f"choose {' or '.join(SEQUENCE_MESH_TYPES)}",
        )
    named = [outputs] if isinstance(outputs, str | Path) else list(outputs or ())
    paths = [Path(output) for output in named]
    if export.bake and not any(path.suffix.lower() in BAKED_ENDINGS for path in paths):
        raise InputError(
            "nothing to bake", f"baking is for outputs that end in {', '.join(BAKED_ENDINGS)}"
        )
    sources = [source for source in inputs if source is not None]
    for path in paths:
        if str(path) == "-":
            raise InputError("animations are not written to standard output", "name a file by -o")
        if path.suffix:
            check_output(path, OUTPUT_ENDINGS, *sources)
        elif not path.name or path.is_symlink():
            raise InputError(
                f"{path}: not a name for a folder of meshes",
                "choose a new folder, or a file's ending",
            )
        else:
            check_folder(path)
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(paths):
        raise InputError("the same output is named twice", "leave one out")
    if any(a in b.parents for a in resolved for b in resolved):
        raise InputError("an output lies inside another", "choose another folder for one of them")
    return paths


def check_fps(fps: float) -> None:
    """Raise InputError for an unusable frame rate."""
    if not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"{fps:g} frames a second", f"choose from {FPS[0]:g} to {FPS[1]:g}")


def frame_count(seconds: float, fps: float) -> int:
    """How many frames so much sound has, at least one."""
    return max(1, int(np.ceil(seconds * fps - 1e-6)))


def check_mode(mode: str, what: str) -> bool:
    """Whether something moves by itself. Raises InputError for a word that is none of MODES."""
    if mode not in MODES:
        raise InputError(f"unknown {what} '{mode}'", f"choose {' or '.join(MODES)}")
    return mode == "auto"


def write_animation(
    paths: list[Path],
    header: Header,
    parts: Iterable[tuple[Motion, Frames]],
    *,
    export: ExportOptions,
    audio: Audio | None = None,
    seconds: float | None = None,
    binding_error_mm: float = 0.0,
    progress: Progress | None = None,
) -> Result:
    """Write an animation to every path, part by part; without paths the result holds its arrays."""
    kept: list[tuple[Motion, Frames]] = []
    done = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                open_writer(
                    path,
                    header,
                    audio=audio,
                    size=export.size,
                    bake=export.bake,
                    sequence=export.sequence,
                )
            )
            for path in paths
        ]
        for motion, frames in parts:
            for path, writer in zip(paths, writers):
                with output_errors(path):
                    writer.write(frames)
            if not writers:
                kept.append((motion, frames))
            done += len(motion)
            if progress:
                progress(done, header.frames)
        for writer in writers:  # all of them, before the first takes its final name
            writer.complete()
    return Result(
        outputs=paths,
        frames=header.frames,
        fps=header.fps,
        seconds=header.frames / header.fps if seconds is None else seconds,
        binding_error_mm=binding_error_mm,
        metrics={name: value for writer in writers for name, value in writer.metrics.items()},
        **_joined(kept),
    )


def _joined(parts: list[tuple[Motion, Frames]]) -> dict[str, Any]:
    """The motion and the arrays of consecutive parts, by their names in `Result`."""
    if not parts:
        return {}
    times = np.concatenate([motion.times for motion, _ in parts])
    coordinates = np.concatenate([motion.coordinates for motion, _ in parts])
    arrays = ("vertices", "landmarks68", "arkit")
    return {
        "motion": Motion(times, coordinates),
        **{name: np.concatenate([getattr(frames, name) for _, frames in parts]) for name in arrays},
    }
