"""Writing animations: the checks of outputs, the writing itself, and what functions return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio
from ..errors import InputError
from ..expression.heard import HeardEmotion
from ..face.motion import Motion
from ..files.reading import printable
from ..files.writing import all_or_none, check_folder, check_output
from ..formats.animation import Frames, Header, Writer, output_errors
from ..formats.mesh import GLTF_ENDINGS
from ..formats.registry import (
    ARRAY_ENDINGS,
    ARRAY_KINDS,
    BAKED_ENDINGS,
    CURVE_ENDINGS,
    CURVE_KINDS,
    OUTPUT_ENDINGS,
    SEQUENCE_MESH_TYPES,
    find_format,
    open_writer,
)
from ..formats.target_names import OWN_CURVES
from ..formats.units import METRE, LengthUnit, check_unit
from ..formats.usd_layers import USD_ENDINGS
from ..formats.usd_origin import UsdOrigin
from ..option_limits import FPS_LIMITS
from .options import ExportOptions, PathLike
from .target_checks import check_targets

OUTPUT_CHUNK_FRAMES = 128  # frames that are computed and written at a time, which bounds memory
Progress = Callable[[int, int], None]  # called with the frames done and their total


@dataclass(frozen=True, eq=False)
class Result:
    """What `animate`, `transfer` and `reconstruct` return.

    The arrays and the motion are None where outputs were written, so that memory does not grow with
    length.
    """

    outputs: list[Path]  # files and folders written
    frames: int
    fps: float
    seconds: float  # duration of the audio or the animation
    binding_error_mm: float  # median distance between face model and mesh, canonical mm
    metrics: dict[str, float] = field(default_factory=dict)  # of writers: error of ARKit's weights
    notes: list[str] = field(default_factory=list)  # what was odd about the inputs, for the user
    motion: Motion | None = None  # of the canonical face
    vertices: np.ndarray | None = None  # (T, N, 3) float32
    landmarks68: np.ndarray | None = None  # (T, 68, 3) float32
    arkit: np.ndarray | None = None  # (T, 52) float32 in [0, 1]
    unit: LengthUnit = METRE  # of the mesh
    heard: HeardEmotion | None = None  # the emotion of the voice, if it was read from it


def as_paths(outputs: PathLike | Sequence[PathLike] | None) -> list[Path]:
    """Return one output, several or none as a list of paths."""
    if isinstance(outputs, str | Path):
        return [Path(outputs)]
    return [Path(output) for output in outputs or ()]


def output_paths(
    outputs: PathLike | Sequence[PathLike] | None,
    export: ExportOptions,
    inputs: Iterable[object],
) -> list[Path]:
    """Return the outputs as paths, after checking that all of them can be written.

    Parameters
    ----------
    outputs : path, sequence of paths or None
        Files with a known ending, and folders for meshes.
    export : ExportOptions
        How the outputs are written.
    inputs : iterable
        Paths among the inputs must not be overwritten; other inputs are ignored.

    Raises
    ------
    InputError
        An output cannot be written, or an export option is unknown or has no effect.
    """
    paths = as_paths(outputs)
    _check_export(export, paths)
    given = [source for source in inputs if source is not None]
    sources = [source for source in given if isinstance(source, str | Path)]
    if len(sources) == len(given):  # with a mesh in memory its writer finds out
        _check_vrm(paths, sources)
    for path in paths:
        if str(path) == "-":
            raise InputError(
                "animations cannot be written to standard output",
                "name a file with -o, or use --stream, which writes lines of JSON",
            )
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
        raise InputError("the same output is given twice", "leave one out")
    if any(a in b.parents for a in resolved for b in resolved):
        raise InputError("an output lies inside another", "choose another folder for one of them")
    return paths


def _check_vrm(paths: list[Path], inputs: list[str | Path]) -> None:
    """Raise InputError for a VRM among the outputs if no input could be one."""
    vrm = [path for path in paths if path.suffix.lower() == ".vrm"]
    if vrm and not any(Path(source).suffix.lower() in GLTF_ENDINGS for source in inputs):
        raise InputError(
            f"{printable(vrm[0])}: a .vrm can only be made of a .vrm", "write a .glb instead"
        )


def _check_export(export: ExportOptions, paths: list[Path]) -> None:
    """Raise InputError for export options that are unknown or have no effect on the outputs."""
    if export.sequence not in SEQUENCE_MESH_TYPES:
        raise InputError(
            f"unknown kind of mesh '{export.sequence}'",
            f"choose {' or '.join(SEQUENCE_MESH_TYPES)}",
        )
    check_unit(export.unit)
    check_mode(export.fill, "fill")
    _check_content(export.curves, CURVE_KINDS, "curves", CURVE_ENDINGS, paths)
    _check_content(export.arrays, ARRAY_KINDS, "arrays", ARRAY_ENDINGS, paths)
    check_targets(export, paths)
    if export.bake and not any(path.suffix.lower() in BAKED_ENDINGS for path in paths):
        raise InputError(
            "nothing to bake", f"baking is for outputs that end in {', '.join(BAKED_ENDINGS)}"
        )


def _check_content(
    kind: str, kinds: tuple[str, ...], what: str, endings: tuple[str, ...], paths: list[Path]
) -> None:
    """Raise InputError for an unknown kind of content, or one that no output holds.

    `what` names the content; outputs with one of the `endings` hold it, by default `kinds[0]`.
    """
    if kind not in kinds:
        raise InputError(
            f"unknown kind of {what} '{printable(kind, 40)}'", f"choose {', '.join(kinds)}"
        )
    if kind != kinds[0] and not any(path.suffix.lower() in endings for path in paths):
        raise InputError(
            f"no output for the {what} of {kind}",
            f"they are for outputs that end in {' or '.join(endings)}",
        )


def check_fps(fps: float) -> None:
    """Raise InputError for an unusable frame rate."""
    low, high = FPS_LIMITS
    if not low <= fps <= high:
        raise InputError(f"{fps:g} frames per second", f"choose from {low:g} to {high:g}")


def frame_count(seconds: float, fps: float) -> int:
    """Return the number of frames for a duration, at least one."""
    return max(1, int(np.ceil(seconds * fps - 1e-6)))


def check_mode(mode: str, name: str) -> bool:
    """Return whether something automatic is on.

    Parameters
    ----------
    mode : str
        auto or off.
    name : str
        What the mode switches, for the message.

    Raises
    ------
    InputError
        The mode is neither.
    """
    if mode not in ("off", "auto"):
        raise InputError(f"unknown {name} '{mode}'", "choose off or auto")
    return mode == "auto"


def write_animation(
    paths: list[Path],
    header: Header,
    chunks: Iterable[tuple[Motion, Frames]],
    *,
    export: ExportOptions,
    audio: Audio | None = None,
    seconds: float | None = None,
    binding_error_mm: float = 0.0,
    progress: Progress | None = None,
) -> Result:
    """Write an animation to all paths, chunk by chunk; without paths the result holds its arrays.

    Parameters
    ----------
    paths : list of Path
        What `output_paths` returned.
    header : Header
        What writers need to know before the first frame.
    chunks : iterable of (Motion, Frames)
        Consecutive motion of the canonical face, and the frames of the mesh that show it.
    export : ExportOptions
        How the outputs are written.
    audio : Audio, optional
        For videos and pages.
    seconds : float, optional
        Duration of the audio, by default that of the frames.
    binding_error_mm : float
        Goes into the result.
    progress : callable, optional
        Called with the frames done and their total.
    """
    in_memory: list[tuple[Motion, Frames]] = []
    header = replace(header, fill=export.fill == "auto")
    done = 0
    with all_or_none(paths), ExitStack() as stack:
        writers = [stack.enter_context(_writer(path, header, export, audio)) for path in paths]
        for motion, frames in chunks:
            own_frames = frames.of_own_mesh(header)
            for path, writer in zip(paths, writers):
                with output_errors(path):
                    has_own = _has_own_mesh(path, header, export)
                    writer.write(own_frames if has_own else frames)
            if not writers:
                in_memory.append((motion, own_frames))
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
        unit=header.unit,
        notes=[] if audio is None else list(audio.notes),
        **_joined(in_memory),
    )


def with_notes(result: Result, notes: Iterable[str]) -> Result:
    """Return a result with further notes."""
    return replace(result, notes=[*result.notes, *notes])


def _has_own_mesh(path: Path, header: Header, export: ExportOptions) -> bool:
    """Whether a file contains the user's mesh without the vertices of a cut."""
    entry = find_format(path)
    has_shapes = (entry.can_bake and not export.bake) or export.curves == OWN_CURVES
    if entry.own_mesh or (header.own_shapes is not None and has_shapes):
        return True
    # A stage that comes back keeps its points.
    is_stage = header.own is not None and isinstance(header.own.origin, UsdOrigin)
    return is_stage and path.suffix.lower() in USD_ENDINGS and not export.bake


def _writer(path: Path, header: Header, export: ExportOptions, audio: Audio | None) -> Writer:
    if _has_own_mesh(path, header, export) and header.own is not None:
        header = replace(header.own, fill=header.fill)
    return open_writer(
        path,
        header,
        audio=audio,
        size=export.size,
        bake=export.bake,
        sequence=export.sequence,
        curves=export.curves,
        arrays=export.arrays,
    )


def _joined(chunks: list[tuple[Motion, Frames]]) -> dict[str, Any]:
    """The motion and the arrays of consecutive chunks, by their names in `Result`."""
    if not chunks:
        return {}
    names = ("vertices", "landmarks68", "arkit")
    return {
        "motion": Motion.of_parts([motion for motion, _ in chunks]),
        **{name: np.concatenate([getattr(frames, name) for _, frames in chunks]) for name in names},
    }
