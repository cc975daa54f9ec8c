"""Emotion transfer on an existing animation, made by any tool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..audio.recording import Audio
from ..binding import Binding, bind_with_hint
from ..binding.cache import BindingCache
from ..binding.cut_frames import CutFrames, uncut
from ..binding.head_turner import HeadTurner
from ..binding.mesh_to_motion import MeshToMotion
from ..errors import InputError
from ..expression.emotions import Timeline
from ..expression.frown import frowning_face, frowning_header
from ..expression.head_motion import lids_of_gaze, weights_with_gaze
from ..expression.heard import HeardEmotion
from ..expression.performance import PerformanceTransfer
from ..face.motion import Motion
from ..formats.animation import (
    FROWN_META,
    META_OF_EMOTION,
    Frames,
    Header,
    Source,
    check_frames,
)
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.units import AUTO_UNIT, METRES_PER_UNIT
from ..options import with_keywords
from ..weights.models import Models, load_models
from .acting import ONE_SKIN, bound_header, emotion_meta, emotions_of, timeline_notes
from .bind import bind
from .hearing import AutoEmotion
from .named_audio import Notice, audio_of, missing_audio
from .options import ExportOptions, PathLike, TransferKeywords, TransferOptions
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    Progress,
    Result,
    output_paths,
    with_notes,
    write_animation,
)
from .own_targets import with_targets
from .second_opinion import opinion_for
from .shown_frames import Pose, canonical_rotation
from .sources import open_source

if TYPE_CHECKING:
    from typing_extensions import Unpack

FORMATS_WITH_AUDIO = (".mp4", ".html")
# Metadata of the original that does not hold for the changed animation.
REPLACED_META = (*META_OF_EMOTION, "facing")
META_OF_MESH = ("mesh", "unit", "targets", ONE_SKIN)  # not that of another mesh


def transfer(
    animation: PathLike,
    outputs: PathLike | Sequence[PathLike] | None = None,
    options: TransferOptions | None = None,
    *,
    models: Models | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
    **keywords: Unpack[TransferKeywords],
) -> Result:
    """Change the emotion of an animation: npz, GLB, .npy, a folder of meshes or a fitted clip.

    The mesh at rest is bound to the canonical face, and each frame is converted to a motion and a
    rotation of the head. Emotion transfer changes the motion; the difference is rotated with the
    head and added to the frame. Frames without an emotion stay bit-identical. With `onto`, another
    mesh shows the motion and the rotation instead.

    Parameters
    ----------
    animation : path
        An npz, a GLB, a .npy of vertices, a folder of meshes, or a fitted clip of a folder of
        videos (clips/*.npz).
    outputs, models, progress
        As in `animate`.
    options : TransferOptions, optional
        All options in one object.
    notice : callable, optional
        Called with a message if a video or page has no audio.
    **keywords
        Fields of TransferOptions, which replace those of `options`: those of `animate`, except how
        the face acts, and `neutral`, `audio`, `fps`, `mesh` and `onto`. neutral as emotion removes
        emotion; `timeline=Timeline.unchanged()` leaves it.

    Raises
    ------
    InputError
        Anything unusable.
    """
    options = with_keywords(options or TransferOptions(), keywords)
    paths = output_paths(outputs, options.export, _inputs(animation, options))
    emotions = emotions_of(options)
    open_models = lambda: models or load_models(options.weights, device=options.device)
    source = open_source(animation, options.fps, open_models, options.mesh, options.neutral)
    mesh = _mesh_at_rest(source, options.neutral)
    has_audio = any(path.suffix.lower() in FORMATS_WITH_AUDIO for path in paths)
    is_heard = isinstance(emotions, AutoEmotion)
    audio = _audio(source, options, paths) if has_audio or is_heard else None
    models = open_models()
    heard = None
    if isinstance(emotions, AutoEmotion):
        heard = _heard(emotions, audio, source, models)
        emotions = heard.timeline.scaled(options.intensity)
    cache = BindingCache() if options.cache else None
    binding = bind_with_hint(models.face, mesh, options.hint, cache, opinion_for(options.hint))
    if has_audio and audio is None and notice is not None:
        notice(missing_audio(source))
    stage = _Stage(source, binding, _target(options, models))
    header = stage.header(_meta(source, Path(animation), options), options.export)
    header, notes = with_targets(header, stage.shown, options.export, paths)
    if FROWN_META in header.meta:
        header = frowning_header(header)
    result = write_animation(
        paths,
        header,
        stage.frames(models, emotions),
        export=options.export,
        audio=audio if has_audio else None,
        binding_error_mm=stage.shown.error,
        progress=progress,
    )
    stages = ("emotion",) if heard is None else ("emotion", "voice")
    odd = timeline_notes(options, emotions, len(source) / source.fps, "the animation")
    return with_notes(replace(result, heard=heard), [*odd, *notes, *models.licence_notes(*stages)])


def _heard(
    emotions: AutoEmotion, audio: Audio | None, source: Source, models: Models
) -> HeardEmotion:
    """The emotion of an animation's voice. Raises InputError if there is no audio."""
    if audio is None:
        raise InputError(
            f"{missing_audio(source).partition(';')[0]}, and the emotion is to be read from it",
            "name one with --audio",
        )
    return emotions.of_recording(audio, audio.duration, models)


def _inputs(animation: PathLike, options: TransferOptions) -> list[object]:
    """What is read; no output may overwrite those that are paths."""
    meshes = (options.neutral, options.mesh, options.onto, options.export.shape_map)
    return [animation, *meshes, options.audio, options.voice, options.timeline, *options.hint.files]


def _audio(source: Source, options: TransferOptions, outputs: list[Path]) -> Audio | None:
    """The audio of an animation, None if there is none; no output may overwrite it."""
    audio = audio_of(source, options.audio)
    if audio is not None:
        output_paths(outputs, options.export, [audio.path])
    return audio


def _meta(source: Source, animation: Path, options: TransferOptions) -> dict[str, Any]:
    """The metadata of the changed animation: the original's, and the emotions."""
    replaced = REPLACED_META + (() if options.onto is None else META_OF_MESH)
    kept = {name: value for name, value in source.meta.items() if name not in replaced}
    emotion = emotion_meta(options)
    if isinstance(options.timeline, Timeline) and not options.timeline.changes:
        emotion = {name: source.meta[name] for name in META_OF_EMOTION if name in source.meta}
    return {**kept, "talkemo": __version__, "source": animation.name, **emotion}


def _unit_of(source: Source, export: ExportOptions) -> str:
    """The unit that the user names, or else the animation, or auto."""
    named = source.meta.get("unit")
    if export.unit == AUTO_UNIT and isinstance(named, str) and named in METRES_PER_UNIT:
        return named
    return export.unit


def _target(options: TransferOptions, models: Models) -> Binding | None:
    """The mesh that performs the animation instead of its own, if one is named."""
    if options.onto is None:
        return None
    return bind(options.onto, models=models, cache=options.cache)


class _Stage:
    """An animation, and the mesh that performs it.

    Parameters
    ----------
    source : Source
    binding : Binding
        Of the animation's own mesh.
    target : Binding, optional
        Of another mesh that performs it.
    """

    def __init__(self, source: Source, binding: Binding, target: Binding | None):
        self.source, self.binding, self.target = source, binding, target
        self.shown = binding if target is None else target
        # A performance of somebody who was filmed may frown deeper than a browDown of 1.
        frowns = FROWN_META in source.meta
        self.face = frowning_face(binding.face) if frowns else binding.face
        self.pose = Pose(source, binding)
        self.moved = uncut(binding)
        self.cut_frames = None if binding.cut is None else CutFrames(binding)

    def header(self, meta: dict[str, Any], export: ExportOptions) -> Header:
        """Return the header of the animation of the mesh that performs it."""
        unit = _unit_of(self.source, export) if self.target is None else export.unit
        if self.target is None:
            turn = self.pose.turner(self.binding)
        else:
            meta = {**meta, "mesh": self.target.mesh.name}
            turn = HeadTurner(self.target.shown)
        return bound_header(
            self.shown, len(self.source), self.source.fps, meta, turn=turn, unit=unit
        )

    def frames(self, models: Models, timeline: Timeline) -> Iterator[tuple[Motion, Frames]]:
        """Yield the frames with the emotions of a timeline, chunk by chunk."""
        done = 0
        performed = PerformanceTransfer(models.emotion, self.face, self.shown.lip_gap)
        frames, ahead = tee(_frames_with_motion(self.source, self.moved))
        motions = (motion for _, motion, _ in ahead)
        for (vertices, before, rotation), after in zip(
            frames, performed.changed(motions, timeline, self.source.fps)
        ):
            rows = slice(done, done + len(vertices))
            head = None if self.pose.head is None else self.pose.head[rows]
            gaze = None if self.pose.gaze is None else self.pose.gaze[rows]
            done = rows.stop
            if self.target is not None:
                head = canonical_rotation(self.binding, rotation) if head is None else head
                vertices = self.target.shown.vertices(after.coordinates)
            else:
                is_changed = np.asarray(timeline.amounts(before.times).any(1))
                vertices = self._changed(vertices, before, after, rotation, is_changed)
                if self.cut_frames is not None:
                    vertices = self.cut_frames.complete(vertices, after.coordinates)
            landmarks = vertices[:, self.shown.landmarks68]
            if gaze is None:
                arkit = after.arkit(self.face)
            else:  # whose weights move the lids
                lids = lids_of_gaze(self.face, gaze)
                ahead_only = Motion(after.times, after.coordinates - lids)
                arkit = weights_with_gaze(ahead_only.arkit(self.face), gaze)
            shown = Frames(vertices, landmarks, arkit, head, gaze, after.coordinates)
            yield after, shown

    def _changed(
        self,
        vertices: np.ndarray,
        before: Motion,
        after: Motion,
        rotation: np.ndarray,
        changed: np.ndarray,
    ) -> np.ndarray:
        """Vertices (T, N, 3) of the animation's own mesh, some of whose frames (T,) change."""
        if not changed.any():
            return vertices
        step = self.moved.displacement(after.coordinates[changed])
        step -= self.moved.displacement(before.coordinates[changed])
        turned = np.einsum(
            "tvi,tji->tvj", step, rotation[changed].astype(np.float32), optimize=True
        )
        vertices = vertices.copy()
        vertices[np.ix_(changed, self.moved.moving)] += turned
        return vertices


def _frames_with_motion(
    source: Source, binding: Binding
) -> Iterator[tuple[np.ndarray, Motion, np.ndarray]]:
    """Yield an animation's vertices (T, N, 3), their motion and the head's rotation, in chunks."""
    mesh_to_motion, done = MeshToMotion(binding), 0
    for vertices in source.chunks(OUTPUT_CHUNK_FRAMES):
        check_frames(source, vertices, done)
        times = np.arange(done, done + len(vertices)) / source.fps
        yield (vertices, *mesh_to_motion.motion_of_mesh(vertices, times))
        done += len(vertices)


def _mesh_at_rest(source: Source, neutral: PathLike | None) -> Mesh:
    """An animation's mesh at rest: of the file `neutral`, its own, or its first frame."""
    if not len(source):
        raise InputError(f"{source.path}: no frames in it", "check that it is the right file")
    load_shapes, origin = getattr(source, "load_shapes", None), getattr(source, "origin", None)
    attributes = source.attributes
    if neutral is not None:
        mesh = load_mesh(neutral)
        rest, load_shapes, origin = mesh.vertices, mesh.load_shapes, None
        if np.array_equal(mesh.faces, source.faces):  # the animation is one of this file's mesh
            origin, attributes = mesh.origin, attributes or mesh.attributes
        if len(rest) != source.shape[1]:
            raise InputError(
                f"{neutral} has {len(rest)} vertices, {source.path} {source.shape[1]}",
                "name the same mesh at rest",
            )
    else:
        rest = source.rest if source.rest is not None else next(source.chunks(1))[0]
        if not np.isfinite(rest).all():
            raise InputError(
                f"{source.path}: vertices contain NaN or infinity, in its first frame",
                "name a --neutral mesh",
            )
    vertices = np.asarray(rest, np.float64)
    return Mesh(
        vertices,
        source.faces,
        attributes,
        source.path.name,
        origin=origin,
        load_shapes=load_shapes,
    )
