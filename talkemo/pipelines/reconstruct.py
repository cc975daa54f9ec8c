"""3D reconstruction: transfers a source's performance to a target face and writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import __version__
from ..audio.recording import load_audio
from ..binding import Binding, FaceHint
from ..binding.head_turner import Turner
from ..capture.fitted_clips import is_fitted_clip
from ..capture.sources import (
    ClipSource,
    Performance,
    PerformanceSource,
    VideoSource,
    WithAudio,
    is_video,
    landmark_source,
)
from ..errors import InputError
from ..expression.emotions import Timeline
from ..expression.frown import FROWN_GAIN, frowning_face, frowning_header
from ..expression.head_motion import gaze_from_weights, weights_with_gaze
from ..expression.performance import PerformanceTransfer
from ..face.canonical import Face
from ..face.motion import Motion
from ..files.writing import all_or_none, check_output
from ..formats.animation import FROWN_META, Frames, Header
from ..formats.face_models import FaceModel, read_face_model
from ..formats.mesh import save_ply
from ..formats.mesh_types import Mesh
from ..formats.obj import save_obj
from ..formats.units import AUTO_UNIT, METRES_PER_UNIT, LengthUnit
from ..geometry.rigid import Similarity, nearest_rotation
from ..render.preview import PREVIEW_ENDINGS, write_preview
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .acting import bound_header
from .bind import bind
from .options import ReconstructOptions
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    check_mode,
    output_paths,
    with_notes,
    write_animation,
)
from .own_targets import with_targets
from .shown_frames import HEAD_META

if TYPE_CHECKING:
    from ..formats.appearance import AddedMeshes, Appearance

HEAD_SMOOTHING_FRAMES = 7  # the head's rotation is averaged over this window
MODEL_PRIOR = 0.01  # penalty (mm² a vertex) on a squared coefficient of a user's face model
NEUTRAL_ENDINGS = (".obj", ".ply")


def reconstruct(
    source: PathLike | np.ndarray,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    onto: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding | None = None,
    options: ReconstructOptions | None = None,
    export: ExportOptions | None = None,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    device: str = "auto",
    models: Models | None = None,
    cache: bool = True,
    progress: Progress | None = None,
    **settings: Any,
) -> Result:
    """Reconstruct a person's performance, as an animation of the person's own face or of a mesh.

    Parameters
    ----------
    source : path or array
        A video, an image, ARKit curves (Live Link Face's csv), a fitted clip of a folder of videos
        (clips/*.npz), or landmarks: an array or file of iBUG's (T, 68, 2) or MediaPipe's
        (T, 478, 2) in px, y down, NaN without a face.
    outputs, export, hint, weights, device, models, cache, progress
        As in `animate`. Videos and npz files get the audio of a video.
    onto : mesh, optional
        A mesh that gets the performance instead of the person's own face, as in `animate`.
    options : ReconstructOptions, optional
    **settings
        Fields of `ReconstructOptions`, such as ``emotion="sad"``; they replace those of `options`.

    Returns
    -------
    Result
        `metrics`: `residual_mm`, the mean distance of the landmarks from the model's; of a video also
        `residual_px`, `frames_without_face`, `faces`, `missing_s` (truncated), `sound_delay_s`.

    Raises
    ------
    InputError, TalkemoError
        For unusable inputs or options; for a video if `talkemo[video]` is not installed.
    """
    options = replace(options or ReconstructOptions(), **settings)
    export, hint = export or ExportOptions(), hint or FaceHint()
    paths, timeline = _checked(source, outputs, onto, options, export, hint)
    opened = _open_source(source, options)
    face_model = None if options.model is None else read_face_model(options.model)
    models = models or load_models(weights, device=device)
    bound = None if onto is None else bind(onto, hint=hint, models=models, cache=cache)
    performance = opened.fit(models, progress)
    check_fps(performance.fps)
    person = Person(models.face, performance.capture.identity)
    target = _target(performance, person, bound, face_model, models, cache, export.unit)
    frames = _frames(performance, target, models, timeline, options.head)
    header = _header(performance, target, options)
    shape_notes: list[str] = []
    if bound is not None:
        header, shape_notes = with_targets(header, bound, export, paths)
    if FROWN_META in header.meta:
        header = frowning_header(header)
    with all_or_none([*paths, *_extra_outputs(options)]):
        result = _write(paths, header, frames, performance, target.error_mm, export, progress)
        _write_extras(options, source, performance, person, header)
    notes = [*shape_notes, *models.licence_notes(*([] if timeline is None else ["emotion"]))]
    return with_notes(result, notes if bound is None else [*bound.mesh.notes, *notes])


def _extra_outputs(options: ReconstructOptions) -> list[PathLike]:
    """Return the files of the face at rest and the preview that are asked for."""
    return [path for path in (options.neutral, options.preview) if path is not None]


def _write(
    paths: list[Path],
    header: Header,
    frames: Iterator[tuple[Motion, Frames]],
    performance: Performance,
    error_mm: float,
    export: ExportOptions,
    progress: Progress | None,
) -> Result:
    """Write a performance, and add its metrics to the result."""
    result = write_animation(
        paths,
        header,
        frames,
        export=export,
        audio=performance.audio,
        binding_error_mm=error_mm,
        progress=progress,
    )
    result.metrics.update(_metrics(performance))
    return result


def _write_extras(
    options: ReconstructOptions,
    source: object,
    performance: Performance,
    person: Person,
    header: Header,
) -> None:
    """Write the face at rest and the preview, if they are asked for."""
    if options.neutral is not None:
        save = save_obj if Path(options.neutral).suffix.lower() == ".obj" else save_ply
        own = header.own or header
        save(options.neutral, own.rest, own.faces)
    if options.preview is not None and is_video(source):
        _write_preview(Path(options.preview), Path(str(source)), performance, person)


# ------------------------------------------------------------------------------------------ inputs


def _checked(
    source: object,
    outputs: PathLike | Sequence[PathLike] | None,
    onto: object,
    options: ReconstructOptions,
    export: ExportOptions,
    hint: FaceHint,
) -> tuple[list[Path], Timeline | None]:
    """Check all but the source itself; return the outputs and the timeline of the emotion."""
    named = (source, onto, options.model, options.audio, options.resting)
    inputs = [path for path in named if isinstance(path, str | Path)]
    paths = output_paths(outputs, export, [*inputs, export.shape_map, *hint.files])
    check_character(onto, export)
    timeline = check_options(options, source, onto, [*inputs, *paths])
    check_unit_of_target(options, onto, export)
    return paths, timeline


def check_character(onto: object, export: ExportOptions) -> None:
    """Raise InputError if a character's own shapes are asked for, but no character is named."""
    if onto is None and (export.targets in ("own", "both") or export.shape_map is not None):
        raise InputError(
            "the person's own face has no blend shapes of a character", "name one with --onto"
        )


def check_unit_of_target(options: ReconstructOptions, onto: object, export: ExportOptions) -> None:
    """Raise InputError for a unit of the person's own face, which is in mm."""
    if onto is None and options.model is None and export.unit not in (AUTO_UNIT, "mm"):
        raise InputError(
            f"unit {export.unit} of the person's own face", "it is in mm: leave --unit out"
        )


def check_options(
    options: ReconstructOptions, source: object, onto: object, taken: Sequence[PathLike]
) -> Timeline | None:
    """Check all but the source itself; return the timeline of the emotion.

    `taken` are the inputs and outputs, which neutral face and preview must not overwrite.
    """
    if options.neutral is not None:
        check_output(Path(options.neutral), NEUTRAL_ENDINGS, *taken)
    if options.preview is not None:
        check_output(Path(options.preview), PREVIEW_ENDINGS, *taken)
        if not is_video(source):
            raise InputError("only videos and images have a preview", "leave --preview out")
    check_mode(options.sync, "way to synchronise")
    if options.model is not None and onto is not None:
        raise InputError("a face model and a mesh to animate", "give one of them")
    if options.emotion is None:
        return None
    return Timeline.constant(options.emotion, options.intensity)


def _open_source(source: PathLike | np.ndarray, options: ReconstructOptions) -> PerformanceSource:
    """Open the source and check it."""
    if is_video(source):
        if options.fps is not None:
            raise InputError("a video has its own frame rate", "leave --fps out")
        if options.audio is not None:
            raise InputError("a video has its own audio", "leave --audio out")
        synchronise = options.sync == "auto"
        return VideoSource(
            Path(source), options.number, options.field_of_view, synchronise, options.resting
        )
    if options.number > 1 or options.field_of_view is not None or options.sync != "off":
        raise InputError(
            "face number, field of view and audio delay are options of videos", "leave them out"
        )
    opened: PerformanceSource
    if is_fitted_clip(source):
        if options.fps is not None:
            raise InputError("a fitted clip has its own frame rate", "leave --fps out")
        if options.rest is not None:
            raise InputError("a fitted clip has its own face at rest", "leave --rest out")
        opened = ClipSource(Path(str(source)))
    else:
        opened = landmark_source(source, options.fps, options.picture, options.resting)
    return opened if options.audio is None else WithAudio(opened, load_audio(options.audio))


# ----------------------------------------------------------------------------------------- targets


class Target(Protocol):
    """A face that takes a performance."""

    face: Face  # the canonical face whose blend shapes the performance's weights are
    meta: dict[str, Any]  # its metadata of an animation
    error_mm: float  # see `Result.binding_error_mm`
    landmarks68: np.ndarray  # (68,) vertices of the iBUG landmarks
    lip_gap: np.ndarray | None  # see `LipContact`
    turner: Turner  # rotates the whole mesh with the head, and the eyes
    own_turner: Turner  # the same of the mesh without the vertices of a cut, see `Header.own`

    def header(self, frames: int, fps: float, meta: dict[str, Any]) -> Header:
        """Return the header of an animation of this face."""
        ...

    def perform(self, shapes: np.ndarray, motion: Motion, change: np.ndarray) -> np.ndarray:
        """Return the vertices (T, N, 3) float32 of a performance.

        `shapes` (T, S) are its blend-shape weights, `motion` is its motion after a change of
        emotion, and `change` (T, S) what that adds to the motion's coordinates.
        """
        ...


class BoundMesh:
    """A user's mesh as the target.

    `frowns`: whether it frowns as deeply as faces that were filmed, see `expression.frown`.
    """

    def __init__(
        self,
        binding: Binding,
        unit: str = AUTO_UNIT,
        meta: dict[str, Any] | None = None,
        frowns: bool = True,
    ):
        self.binding, self.unit = binding, unit
        self.face = frowning_face(binding.face) if frowns else binding.face
        self.meta = {**(meta or {}), **({FROWN_META: FROWN_GAIN} if frowns else {})}
        self.error_mm, self.landmarks68 = binding.error, binding.landmarks68
        self.lip_gap = binding.shown.lip_gap
        pivot = binding.rest[binding.focus].mean(0)
        self.turner, self.own_turner = (
            Turner.of_whole_mesh(one.placement, len(one.rest), pivot, one.eyes)
            for one in (binding.shown, binding)
        )

    def header(self, frames: int, fps: float, meta: dict[str, Any]) -> Header:
        """Return the header of an animation of the mesh."""
        return bound_header(self.binding, frames, fps, meta, unit=self.unit)

    def perform(self, shapes: np.ndarray, motion: Motion, change: np.ndarray) -> np.ndarray:
        """Return the vertices (T, N, 3) of the mesh that is drawn, see `Target`."""
        return self.binding.shown.vertices(motion.coordinates)


class Person:
    """A person's own face as the target: the canonical face with identity coefficients (I,)."""

    def __init__(self, face: Face, identity: np.ndarray):
        self.face = face
        at_rest = face.expression_weights(np.zeros(len(face.expression_names)))
        neutral = face.vertices(at_rest, face.identity_weights(identity))
        self.neutral = neutral.astype(np.float32)
        self.meta: dict[str, Any] = {}
        self.error_mm, self.landmarks68 = 0.0, face.landmarks68
        in_place = Similarity(1.0, np.eye(3), np.zeros(3))
        self.turner = Turner.of_whole_mesh(in_place, len(self.neutral), self.neutral.mean(0))
        self.lip_gap: np.ndarray | None = None
        self.own_turner = self.turner

    def vertices(self, shapes: np.ndarray) -> np.ndarray:
        """Return vertices (T, V, 3) float32 mm for blend-shape weights (T, S)."""
        return self.neutral + self.face.displacement(shapes).astype(np.float32)

    def header(self, frames: int, fps: float, meta: dict[str, Any]) -> Header:
        """Return the header of an animation of this face."""
        width = float(np.ptp(self.neutral[:, 0]))
        return Header(
            frames=frames,
            fps=fps,
            faces=self.face.faces,
            rest=self.neutral,
            focus=np.ones(len(self.face.mean), bool),
            meta={**meta, "unit": "mm"},
            targets=self.arkit_targets,
            appearance=self.appearance,
            added=self.added,
            basis=self.basis,
            unit=LengthUnit("mm", METRES_PER_UNIT["mm"], face_width_mm=width),
            canonical=self.face,
        )

    def perform(self, shapes: np.ndarray, motion: Motion, change: np.ndarray) -> np.ndarray:
        """Return the person's vertices (T, V, 3), see `Target`."""
        emotion = np.tensordot(change, self.face.span, 1).astype(np.float32)
        return self.vertices(shapes) + emotion

    def basis(self) -> np.ndarray:
        """Return the displacement (S, V, 3) float32 mm of this face by 1 mm of each coordinate."""
        return self.vertices(self.face.coordinates_to_weights.astype(np.float32)) - self.neutral

    def arkit_targets(self) -> np.ndarray:
        """Return the displacement (52, V, 3) float32 mm by ARKit's shapes at weight 1."""
        return self.vertices((self.face.arkit_matrix > 0).T.astype(np.float32)) - self.neutral

    def appearance(self, fill: bool) -> Appearance:
        """Return the appearance of this face in images, with or without eyes and teeth."""
        from ..render.appearance import canonical_appearance

        return canonical_appearance(self.face, self.neutral, fill)

    def added(self) -> AddedMeshes:
        """Return the eyes, teeth, tongue and mouth of this face, for files of meshes."""
        from ..render.added_parts import added_meshes
        from ..render.appearance import canonical_binding

        return added_meshes(canonical_binding(self.face, self.neutral))


def _target(
    performance: Performance,
    person: Person,
    onto: Binding | None,
    face_model: FaceModel | None,
    models: Models,
    cache: bool,
    unit: str,
) -> Target:
    """Return the bound mesh, the person's face in the model's topology, or the person's own."""
    if onto is not None:
        return BoundMesh(onto, unit, frowns=not performance.is_curves)
    if face_model is None:
        return person
    binding, coefficients = bound_person(face_model, person, models, cache)
    meta = {"model": face_model.name, "identity": coefficients.round(4).tolist()}
    return BoundMesh(binding, unit, meta, frowns=False)  # the person's own face


def bound_person(
    model: FaceModel, person: Person, models: Models, cache: bool = True
) -> tuple[Binding, np.ndarray]:
    """Fit a face model to a person, and bind the result.

    The model's mean face is bound; its vertices should move by the person's difference from the
    canonical face, to which coefficients are fitted by ridge regression.

    Returns
    -------
    binding : Binding
        Of the person's face in the model's topology.
    coefficients : (I,)
        Of the model.
    """
    mean = bind(model.mesh, models=models, cache=cache)
    on_skin = mean.canonical >= 0
    difference = (person.neutral - models.face.mean)[mean.canonical[on_skin]]
    target = mean.scale * difference @ mean.placement.rotation.T
    design = model.identity[:, mean.moving[on_skin]].reshape(len(model.identity), -1)
    design = design / np.float32(mean.scale)
    gram = design @ design.T + MODEL_PRIOR * on_skin.sum() * np.eye(len(design))
    coefficients = np.linalg.solve(gram, design @ target.reshape(-1) / mean.scale)
    vertices = model.mesh.vertices + np.tensordot(coefficients, model.identity, 1)
    return bind(replace(model.mesh, vertices=vertices), models=models, cache=False), coefficients


# ------------------------------------------------------------------------------------------ frames


def _frames(
    performance: Performance, target: Target, models: Models, timeline: Timeline | None, head: bool
) -> Iterator[tuple[Motion, Frames]]:
    """Yield motion and frames of a performance on a target, chunk by chunk."""
    face, capture = target.face, performance.capture
    head_rotation = smooth_head_rotation(capture.rotation)
    motions = _motions(performance, target, models, timeline)
    for start in range(0, len(capture.shapes), OUTPUT_CHUNK_FRAMES):
        chunk = slice(start, start + OUTPUT_CHUNK_FRAMES)
        shapes, rotation = capture.shapes[chunk], head_rotation[chunk]
        captured, motion = next(motions)
        arkit = shapes @ face.arkit_matrix
        gaze = gaze_from_weights(arkit)  # an emotion does not change it
        if timeline is not None:
            arkit = weights_with_gaze(motion.arkit(face), gaze)
        vertices = target.perform(shapes, motion, motion.coordinates - captured.coordinates)
        vertices = target.turner.looking(vertices, gaze)
        if head:
            turn, pivot = target.turner.head(rotation), target.turner.pivot
            vertices = (vertices - pivot) @ turn.transpose(0, 2, 1) + pivot
        vertices = vertices.astype(np.float32, copy=False)
        landmarks68 = vertices[:, target.landmarks68]
        yield motion, Frames(vertices, landmarks68, arkit, rotation, gaze, motion.coordinates)


def _motions(
    performance: Performance, target: Target, models: Models, timeline: Timeline | None
) -> Iterator[tuple[Motion, Motion]]:
    """Yield the motion of a capture, before and after a change of emotion, chunk by chunk."""
    capture, face = performance.capture, target.face
    starts = range(0, len(capture.shapes), OUTPUT_CHUNK_FRAMES)
    chunks = [slice(start, start + OUTPUT_CHUNK_FRAMES) for start in starts]
    captured = [
        Motion.from_weights(face, capture.time[chunk], capture.shapes[chunk]) for chunk in chunks
    ]
    if timeline is None:
        yield from zip(captured, captured)
        return
    transfer = PerformanceTransfer(models.emotion, face, target.lip_gap)
    yield from zip(captured, transfer.changed(captured, timeline, performance.fps))


def smooth_head_rotation(rotation: np.ndarray) -> np.ndarray:
    """Return a head's rotations (T, 3, 3) relative to their mean, without a tracker's jitter.

    Each is averaged over HEAD_SMOOTHING_FRAMES frames. The mean stands for looking straight ahead:
    a video does not show that direction, as the camera may stand high or low.
    """
    half = HEAD_SMOOTHING_FRAMES // 2
    window = np.hanning(HEAD_SMOOTHING_FRAMES + 2)[1:-1]
    window = window / window.sum()
    padded = np.pad(rotation, ((half, half), (0, 0), (0, 0)), mode="edge")
    smooth = sum(weight * padded[k : k + len(rotation)] for k, weight in enumerate(window))
    ahead, _ = nearest_rotation(rotation.mean(0))
    turns, _ = nearest_rotation(np.asarray(smooth))
    return np.asarray(turns @ ahead.T)


# ----------------------------------------------------------------------------------------- results


def _header(performance: Performance, target: Target, options: ReconstructOptions) -> Header:
    """Return the header of the animation of a performance on a target."""
    meta = _meta(performance, options) | target.meta
    header = target.header(len(performance.capture.time), performance.fps, meta)
    turned, own_turned = (
        turner if options.head else turner.with_still_head()
        for turner in (target.turner, target.own_turner)
    )
    own = header.own and replace(header.own, turned=own_turned)
    return replace(header, turned=turned, own=own)


def _meta(performance: Performance, options: ReconstructOptions) -> dict[str, Any]:
    """Return the animation's metadata."""
    capture, video = performance.capture, performance.video
    kind = "landmarks" if video is None else "film"
    meta: dict[str, Any] = {"talkemo": __version__, kind: performance.name}
    if performance.audio is not None:
        meta["audio"] = performance.audio.name
    meta[HEAD_META] = "auto" if options.head else "off"
    if options.emotion is not None:
        meta |= {"emotion": options.emotion, "intensity": options.intensity}
    meta["residual_mm"] = capture.residual.round(2).tolist()
    if video is not None:
        meta["residual_px"] = video.residual_px.round(2).tolist()
    meta["seen"] = capture.seen.astype(int).tolist()
    return meta


def _metrics(performance: Performance) -> dict[str, float]:
    """Return the metrics of the fit."""
    capture, video = performance.capture, performance.video
    metrics = {"residual_mm": round(float(capture.residual[capture.seen].mean()), 3)}
    if video is not None:
        seen = video.capture.seen
        metrics["residual_px"] = round(float(video.residual_px[seen].mean()), 3)
        metrics["faces"] = video.face_count
        if video.missing_s:
            metrics["missing_s"] = round(video.missing_s, 2)
        metrics["frames_without_face"] = int((~seen).sum())
        if performance.delay is not None:
            metrics["sound_delay_s"] = performance.delay.seconds
    return metrics


def _write_preview(path: Path, source: Path, performance: Performance, person: Person) -> None:
    """Write the video with landmarks and fitted face, as they were before any synchronisation."""
    video = performance.video
    assert video is not None
    write_preview(path, source, video, person.face.faces, person.vertices, performance.audio)
