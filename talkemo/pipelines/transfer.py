"""Emotion transfer on an existing animation, made by any tool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..audio.recording import Audio, load_audio, open_audio
from ..binding import Binding, bind_with_hint
from ..binding.cache import BindingCache
from ..binding.mesh_to_motion import MeshToMotion
from ..errors import InputError
from ..expression.emotions import Timeline
from ..face.motion import Motion
from ..formats.animation import Frames, Source, check_frames
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..options import with_keywords
from ..weights.models import Models, load_models
from .acting import bound_header, emotion_meta, timeline_of
from .options import PathLike, TransferKeywords, TransferOptions
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    Progress,
    Result,
    check_fps,
    output_paths,
    write_animation,
)
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
    **keywords: Unpack[TransferKeywords],
) -> Result:
    """Change the emotion of an npz, a GLB with morph targets, a folder of meshes or a fitted clip.

    The mesh at rest is bound to the canonical face, and each frame is converted to a motion and a
    rotation of the head. Emotion transfer changes the motion; the difference is rotated with the
    head and added to the frame. Frames without an emotion stay bit-identical.

    Parameters
    ----------
    animation : path
        An npz, a GLB, a folder of meshes, or a fitted clip of a folder of videos (clips/*.npz).
    outputs, models, progress
        As in `animate`.
    options : TransferOptions, optional
        All options in one object.
    **keywords
        Fields of TransferOptions, which replace those of `options`: those of `animate`, except how
        the face acts, and `neutral` (file of the mesh at rest; by default the animation's own, or
        its first frame), `audio` (of a video; by default the file that an npz names, if it lies
        beside the npz). `fps` is that of a folder of meshes. neutral as emotion removes emotion.

    Raises
    ------
    InputError
        Anything unusable.
    """
    options = with_keywords(options or TransferOptions(), keywords)
    inputs = [animation, options.neutral, options.audio, options.timeline, *options.hint.files]
    paths = output_paths(outputs, options.export, inputs)
    timeline = timeline_of(options)
    if options.fps is not None:
        check_fps(options.fps)
    source = open_source(
        animation,
        options.fps,
        lambda: models or load_models(options.weights, device=options.device),
    )
    mesh = _mesh_at_rest(source, options.neutral)
    has_audio = any(path.suffix.lower() in FORMATS_WITH_AUDIO for path in paths)
    audio = _audio_of(source, options.audio) if has_audio else None
    if audio is not None:
        output_paths(outputs, options.export, [audio.path])
    models = models or load_models(options.weights, device=options.device)
    cache = BindingCache() if options.cache else None
    binding = bind_with_hint(models.face, mesh, options.hint, cache)
    meta = {name: value for name, value in source.meta.items() if name not in REPLACED_META}
    meta |= {"talkemo": __version__, "source": Path(animation).name, **emotion_meta(options)}
    return write_animation(
        paths,
        bound_header(binding, len(source), source.fps, meta),
        _changed_frames(source, binding, models, timeline),
        export=options.export,
        audio=audio,
        binding_error_mm=binding.error,
        progress=progress,
    )


def _changed_frames(
    source: Source, binding: Binding, models: Models, timeline: Timeline
) -> Iterator[tuple[Motion, Frames]]:
    """An animation's frames with the emotions of a timeline, chunk by chunk."""
    mesh_to_motion = MeshToMotion(binding)
    done = 0
    for vertices in source.chunks(OUTPUT_CHUNK_FRAMES):
        check_frames(source, vertices, done)
        times = np.arange(done, done + len(vertices)) / source.fps
        before, rotation = mesh_to_motion.motion_of_mesh(vertices, times)
        amounts = timeline.amounts(times)
        after = models.emotion.transfer(before, amounts, from_neutral=False)
        changed = amounts.any(1)
        if changed.any():
            step = binding.displacement(after.coordinates[changed] - before.coordinates[changed])
            turned = np.einsum(
                "tvi,tji->tvj", step, rotation[changed].astype(np.float32), optimize=True
            )
            vertices = vertices.copy()
            vertices[np.ix_(changed, binding.moving)] += turned
        done += len(vertices)
        landmarks, arkit = vertices[:, binding.landmarks68], after.arkit(binding.face)
        yield after, Frames(vertices, landmarks, arkit, coordinates=after.coordinates)


def _mesh_at_rest(source: Source, neutral: PathLike | None) -> Mesh:
    """An animation's mesh at rest: of the file `neutral`, its own, or its first frame."""
    if not len(source):
        raise InputError(f"{source.path}: no frames in it", "check that it is the right file")
    if neutral is not None:
        rest = load_mesh(neutral).vertices
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
    return Mesh(vertices, source.faces, source.attributes, source.path.name)


def _audio_of(
    source: Source, audio: PathLike | tuple[np.ndarray, int] | Audio | None
) -> Audio | None:
    """The audio that the user gives, or of the file beside an npz that the npz names."""
    if audio is not None:
        return load_audio(audio)
    # Only the name is used: a downloaded npz must not choose which files are read.
    name = Path(str(source.meta.get("audio", ""))).name
    beside = source.path.parent / name
    return open_audio(beside) if name and beside.is_file() else None
