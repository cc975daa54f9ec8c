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
from ..binding.mesh_to_motion import MeshToMotion
from ..errors import InputError
from ..expression.emotions import Timeline
from ..expression.heard import HeardEmotion
from ..expression.performance import PerformanceTransfer
from ..face.motion import Motion
from ..formats.animation import Frames, Source, check_frames
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.units import AUTO_UNIT, METRES_PER_UNIT
from ..options import with_keywords
from ..weights.models import Models, load_models
from .acting import bound_header, emotion_meta, emotions_of
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
from .sources import open_source

if TYPE_CHECKING:
    from typing_extensions import Unpack

FORMATS_WITH_AUDIO = (".mp4", ".html")
# Metadata of the original that does not hold for the changed animation.
REPLACED_META = ("emotion", "intensity", "timeline", "facing")


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
    head and added to the frame. Frames without an emotion stay bit-identical.

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
        the face acts, and `neutral`, `audio`, `fps` and `mesh`. neutral as emotion removes emotion.

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
    unit, meta = _unit_of(source, options.export), _meta(source, Path(animation), options)
    header = bound_header(replace(binding, cut=None), len(source), source.fps, meta, unit=unit)
    header, notes = with_targets(header, binding, options.export, paths)
    result = write_animation(
        paths,
        header,
        _changed_frames(source, binding, models, emotions),
        export=options.export,
        audio=audio if has_audio else None,
        binding_error_mm=binding.error,
        progress=progress,
    )
    stages = ("emotion",) if heard is None else ("emotion", "voice")
    return with_notes(replace(result, heard=heard), [*notes, *models.licence_notes(*stages)])


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
    meshes = (options.neutral, options.mesh, options.export.shape_map)
    return [animation, *meshes, options.audio, options.voice, options.timeline, *options.hint.files]


def _audio(source: Source, options: TransferOptions, outputs: list[Path]) -> Audio | None:
    """The audio of an animation, None if there is none; no output may overwrite it."""
    audio = audio_of(source, options.audio)
    if audio is not None:
        output_paths(outputs, options.export, [audio.path])
    return audio


def _meta(source: Source, animation: Path, options: TransferOptions) -> dict[str, Any]:
    """The metadata of the changed animation: the original's, and the emotions."""
    kept = {name: value for name, value in source.meta.items() if name not in REPLACED_META}
    return {**kept, "talkemo": __version__, "source": animation.name, **emotion_meta(options)}


def _unit_of(source: Source, export: ExportOptions) -> str:
    """The unit that the user names, or else the animation, or auto."""
    named = source.meta.get("unit")
    if export.unit == AUTO_UNIT and isinstance(named, str) and named in METRES_PER_UNIT:
        return named
    return export.unit


def _changed_frames(
    source: Source, binding: Binding, models: Models, timeline: Timeline
) -> Iterator[tuple[Motion, Frames]]:
    """An animation's frames with the emotions of a timeline, chunk by chunk."""
    performed = PerformanceTransfer(models.emotion, binding.face, binding.lip_gap)
    frames, ahead = tee(_frames_with_motion(source, binding))
    motions = (motion for _, motion, _ in ahead)
    for (vertices, before, rotation), after in zip(
        frames, performed.changed(motions, timeline, source.fps)
    ):
        changed = timeline.amounts(before.times).any(1)
        if changed.any():
            step = binding.displacement(after.coordinates[changed])
            step -= binding.displacement(before.coordinates[changed])
            turned = np.einsum(
                "tvi,tji->tvj", step, rotation[changed].astype(np.float32), optimize=True
            )
            vertices = vertices.copy()
            vertices[np.ix_(changed, binding.moving)] += turned
        landmarks, arkit = vertices[:, binding.landmarks68], after.arkit(binding.face)
        yield after, Frames(vertices, landmarks, arkit, coordinates=after.coordinates)


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
    load_shapes = getattr(source, "load_shapes", None)
    if neutral is not None:
        mesh = load_mesh(neutral)
        rest, load_shapes = mesh.vertices, mesh.load_shapes
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
        vertices, source.faces, source.attributes, source.path.name, load_shapes=load_shapes
    )
