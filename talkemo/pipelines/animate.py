"""Animation of a mesh with speech and an emotion, computed chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.recording import Audio, load_audio
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..expression.emotions import EMOTIONS
from ..expression.heard import HeardEmotion
from ..face.motion import split_times
from ..files.reading import printable
from ..formats.mesh_types import Mesh
from ..options import with_keywords
from ..weights.models import Models, load_models
from .acting import PAGE_EMOTIONS, ActingPlan, FaceActor, bound_header, timeline_notes
from .bind import bind
from .options import AnimateKeywords, AnimateOptions, PathLike
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    Progress,
    Result,
    frame_count,
    output_paths,
    with_notes,
    write_animation,
)
from .own_targets import with_targets

if TYPE_CHECKING:
    from typing_extensions import Unpack


def animate(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    audio: PathLike | tuple[np.ndarray, int] | Audio,
    outputs: PathLike | Sequence[PathLike] | None = None,
    options: AnimateOptions | None = None,
    *,
    models: Models | None = None,
    progress: Progress | None = None,
    **keywords: Unpack[AnimateKeywords],
) -> Result:
    """Animate a face with speech and an emotion.

    Parameters
    ----------
    mesh : path, Mesh, (vertices, faces) or Binding
        A mesh file, a mesh in memory (`vertices` (N, 3), `faces` (F, 3)), or what `bind` returned.
    audio : path, (samples, rate) or Audio
        An audio file, or `samples` (N,) or (N, channels) in [-1, 1] and their rate in Hz.
    outputs : path or sequence of paths, optional
        Files of the formats in formats/registry.py (.mp4, .html, .npz, .glb, .csv, .mdd and more),
        and folders of meshes. Without outputs the result holds arrays.
    options : AnimateOptions, optional
        All options in one object.
    models : Models, optional
        What `load_models` returned, instead of `weights` and `device`.
    progress : callable, optional
        Called with the frames done and their total.
    **keywords
        Fields of AnimateOptions, which replace those of `options`: `emotion` (one of EMOTIONS, or a
        mix `happy:0.6,surprised:0.4`, or `auto`, which reads it from the voice), `voice` (with
        `auto`: another recording of the speaker), `intensity` in [0, 1.5], `timeline` (Timeline or file),
        `style` (of `models.talking.styles`), `seed`, `blink` (auto, off or a number per minute),
        `head` and `gaze` (auto or off), `liveliness` (auto, off or 0 to 1), `fps` (1 to 240; videos
        have at most 30),
        `export`, `hint`, `cache` (whether bindings are cached), `weights`, `device` (see
        `load_models`).

    Returns
    -------
    Result
        Files written or, without outputs, arrays.

    Raises
    ------
    InputError
        Anything unusable; no output is left then.
    """
    options = with_keywords(options or AnimateOptions(), keywords)
    files = (options.voice, options.timeline, options.export.shape_map)
    inputs = [mesh, audio, *files, *options.hint.files]
    paths = output_paths(outputs, options.export, inputs)
    plan = ActingPlan.of(options)
    recording = load_audio(audio)
    models = models or load_models(options.weights, device=options.device)
    odd = timeline_notes(options, plan.emotions, recording.duration, printable(recording.name))
    plan, heard = plan.hearing(recording, models)
    binding = bind(mesh, hint=options.hint, models=models, cache=options.cache)
    has_page = any(path.suffix.lower() == ".html" for path in paths)
    performer = FaceActor(models, binding, plan, PAGE_EMOTIONS if has_page else ())
    result = _write(performer, recording, paths, options, progress, heard)
    stages = ("talking", "emotion") if heard is None else ("talking", "emotion", "voice")
    return with_notes(result, [*odd, *binding.mesh.notes, *models.licence_notes(*stages)])


def _write(
    performer: FaceActor,
    recording: Audio,
    paths: list[Path],
    options: AnimateOptions,
    progress: Progress | None,
    heard: HeardEmotion | None,
) -> Result:
    """Animate a recording with a performer, and write it to the paths."""
    binding, plan, talking = performer.binding, performer.plan, performer.models.talking
    times = np.arange(frame_count(recording.duration, options.fps)) / options.fps
    meta = {**performer.meta, "audio": recording.name}
    if heard is not None:
        meta["heard"] = heard.as_json()
    if performer.page_liveliness and plan.is_constant:  # what the page shows at first
        amounts = plan.emotions.amounts(np.zeros(1))[0]
        meta["amounts"] = dict(zip(EMOTIONS, np.round(amounts, 3).tolist()))
    turn = HeadTurner(binding.shown) if plan.head_moves or plan.eyes_move else None
    listened = performer.listen(recording)
    speech = talking.stream(listened, split_times(times, OUTPUT_CHUNK_FRAMES), options.style)
    header = bound_header(binding, len(times), options.fps, meta, turn, options.export.unit)
    header, notes = with_targets(header, binding, options.export, paths)
    result = write_animation(
        paths,
        header,
        map(performer, speech),
        export=options.export,
        audio=recording,
        seconds=recording.duration,
        binding_error_mm=binding.error,
        progress=progress,
    )
    return with_notes(replace(result, heard=heard), notes)
