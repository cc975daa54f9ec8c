"""The emotion of an animation that exists, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..audio.recording import Audio, load_audio, open_audio
from ..binding import Binding, FaceHint, bind_with_hint
from ..binding.cache import BindingCache
from ..binding.mesh_to_motion import MeshToMotion
from ..errors import InputError
from ..expression.emotions import Timeline
from ..face.motion import Motion
from ..formats.animation import Frames, Source, check_frames
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.registry import open_animation
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .outputs import (
    FRAMES_AT_A_TIME,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    output_paths,
    write_animation,
)
from .performance import bound_frames, bound_header, emotion_meta, make_timeline


def transfer(
    animation: PathLike,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    emotion: str = "neutral",
    intensity: float = 1.0,
    timeline: PathLike | Timeline | None = None,
    neutral: PathLike | None = None,
    audio: PathLike | tuple[np.ndarray, int] | Audio | None = None,
    fps: float | None = None,
    export: ExportOptions | None = None,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    device: str = "auto",
    models: Models | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Change the emotion of an animation that exists, an npz, a GLB with morph targets or a folder of meshes.

    The mesh at rest is bound to the canonical face; what its frames do is read as a motion and the head's rotation,
    emotion transfer changes the motion, and the difference is added to the frames as they are, turned with the head.

    emotion, intensity, timeline: as of `animate`, except that neutral removes what emotion there is
    neutral: a mesh file, the mesh at rest; the animation's own, or else its first frame, if None
    audio: sound for a video; if None the file that an npz names, where it lies beside it
    fps: of a folder of meshes, 30 if None
    outputs, export, hint, weights, device, models, cache, progress: as of `animate`
    Frames in which no emotion is asked for stay as they are, to the bit. Raises InputError for anything unusable.
    """
    export, hint = export or ExportOptions(), hint or FaceHint()
    files = [source for source in (audio, timeline) if isinstance(source, str | Path)]
    inputs = [animation, neutral, *files, *hint.files]
    paths = output_paths(outputs, export, inputs)
    course = make_timeline(emotion, intensity, timeline)
    if fps is not None:
        check_fps(fps)
    source = open_animation(animation, fps)
    if not len(source):
        raise InputError(f"{animation}: no frames in it", "is it the right file?")
    mesh = Mesh(_rest_vertices(source, neutral), source.faces, source.attributes, source.path.name)
    sound = (
        _sound_of(source, audio)
        if any(path.suffix.lower() in (".mp4", ".html") for path in paths)
        else None
    )
    if sound is not None:
        output_paths(outputs, export, [sound.path])
    models = models or load_models(weights, device=device)
    binding = bind_with_hint(models.face, mesh, hint, BindingCache() if cache else None)
    meta: dict[str, Any] = {
        **{
            key: value
            for key, value in source.meta.items()
            if key not in ("emotion", "intensity", "timeline", "facing")
        },
        "talkemo": __version__,
        "source": Path(animation).name,
        **emotion_meta(emotion, intensity, timeline),
    }
    return write_animation(
        paths,
        bound_header(binding, len(source), source.fps, meta),
        _changed_frames(source, binding, models, course),
        export=export,
        audio=sound,
        binding_error_mm=binding.error,
        progress=progress,
    )


def _changed_frames(
    source: Source, binding: Binding, models: Models, timeline: Timeline
) -> Iterator[tuple[Motion, Frames]]:
    """An animation's frames with the emotions of a timeline, part by part."""
    tracker, emotions = MeshToMotion(binding), models.emotion
    done = 0
    for vertices in source.chunks(FRAMES_AT_A_TIME):
        check_frames(source, vertices, done)
        times = np.arange(done, done + len(vertices)) / source.fps
        before, rotation = tracker.motion_of_mesh(vertices, times)
        amounts = timeline.amounts(times)
        after = emotions.transfer(before, amounts, from_neutral=False)
        changed = amounts.any(1)
        if changed.any():
            step = binding.displacement(after.coordinates[changed] - before.coordinates[changed])
            turned = np.einsum(
                "tvi,tji->tvj", step, rotation[changed].astype(np.float32), optimize=True
            )
            vertices = vertices.copy()
            vertices[np.ix_(changed, binding.moving)] += turned
        done += len(vertices)
        yield after, bound_frames(binding, after, vertices)


def _rest_vertices(source: Source, neutral: PathLike | None) -> np.ndarray:
    """The vertices (N, 3) of an animation's mesh at rest."""
    if neutral is not None:
        rest = load_mesh(neutral).vertices
        if len(rest) != source.shape[1]:
            raise InputError(
                f"{neutral} has {len(rest)} vertices, {source.path} {source.shape[1]}",
                "name the same mesh at rest",
            )
        return rest
    rest = source.rest if source.rest is not None else next(source.chunks(1))[0]
    if not np.isfinite(rest).all():
        raise InputError(
            f"{source.path}: vertices contain NaN or infinity, in its first frame",
            "name a --neutral mesh",
        )
    return np.asarray(rest, np.float64)


def _sound_of(
    source: Source, audio: PathLike | tuple[np.ndarray, int] | Audio | None
) -> Audio | None:
    """The sound of an animation: what the user names, or the file beside it that an npz names."""
    if audio is not None:
        return load_audio(audio)
    # Only the name is used: a file from elsewhere must not choose what is read.
    name = Path(str(source.meta.get("audio", ""))).name
    beside = source.path.parent / name
    return open_audio(beside) if name and beside.is_file() else None
