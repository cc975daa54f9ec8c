"""The main job: a face, a recording and an emotion give an animation. Everything streams, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..audio.recording import Audio, load_audio
from ..binding import Binding, FaceHint
from ..binding.head_turner import HeadTurner
from ..expression.emotions import EMOTIONS, Timeline
from ..face.motion import split_times
from ..formats.mesh_types import Mesh
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .bind import bind
from .outputs import (
    FRAMES_AT_A_TIME,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    frame_count,
    output_paths,
    write_animation,
)
from .performance import MOODS, ActingSettings, Performer, bound_header


def animate(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    audio: PathLike | tuple[np.ndarray, int] | Audio,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    emotion: str = "neutral",
    intensity: float = 1.0,
    timeline: PathLike | Timeline | None = None,
    style: str | None = None,
    seed: int = 0,
    blink: str | float = "auto",
    head: str = "auto",
    gaze: str = "auto",
    fps: float = 60.0,
    export: ExportOptions | None = None,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    device: str = "auto",
    models: Models | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Make a face speak a recording with an emotion.

    mesh: a mesh file, a mesh in memory, (vertices (N, 3), faces (F, 3)), or what `bind` returned
    audio: a sound file, or (samples (N,) or (N, channels) in [-1, 1], rate in Hz)
    outputs: .mp4, .html, .npz, .glb, .usda, .usdc and .csv files, and folders of meshes; none to get arrays in the result
    emotion: one of EMOTIONS, an everyday spelling, or a mix `happy:0.6,surprised:0.4`; intensity in
        [0, 1.5] scales it
    timeline: emotions that come and go, in the place of one emotion; a file, see `Timeline.read`
    style: whose way of speaking, one of `models.talking.styles`; None for the default
    seed: of the slow drift of brows and mouth while an emotion is shown, and of blinks
    blink: auto, off, or how many blinks a minute
    head: auto or off: whether the head moves, in an .mp4; a .csv and an .npz have its rotations beside the mesh at rest
    gaze: auto or off: whether the eyes leap and stay on the camera, in an .mp4 and in ARKit's weights
    fps: frames a second; a video has at most 30, every second or third frame of the rest
    export: how outputs are written; hint: where the mesh has its face, if it is not found unaided
    weights, device: see `load_models`; or models, what that returned
    cache: whether the binding is remembered for the next time
    progress: called with the frames done and their total
    Raises InputError for anything unusable; no output is left then.
    """
    export, hint = export or ExportOptions(), hint or FaceHint()
    inputs = [source for source in (mesh, audio, timeline) if isinstance(source, str | Path)]
    paths = output_paths(outputs, export, [*inputs, *hint.files])
    manner = ActingSettings.of(emotion, intensity, timeline, style, seed, blink, head, gaze)
    check_fps(fps)
    sound = load_audio(audio)
    models = models or load_models(weights, device=device)
    binding = (
        mesh if isinstance(mesh, Binding) else bind(mesh, hint=hint, models=models, cache=cache)
    )
    models.talking.style(style)  # refused before anything is written
    paged = any(path.suffix.lower() == ".html" for path in paths)
    performer = Performer(models, binding, manner, MOODS if paged else ())
    times = np.arange(frame_count(sound.duration, fps)) / fps
    meta = {**performer.meta, "audio": sound.name}
    if paged and timeline is None:  # what the page shows at first
        meta["amounts"] = dict(
            zip(EMOTIONS, np.round(manner.course.amounts(np.zeros(1))[0], 3).tolist())
        )
    header = bound_header(binding, len(times), fps, meta)
    return write_animation(
        paths,
        replace(header, turn=HeadTurner(binding) if manner.head or manner.gaze else None),
        map(performer, models.talking.stream(sound, split_times(times, FRAMES_AT_A_TIME), style)),
        export=export,
        audio=sound,
        seconds=sound.duration,
        binding_error_mm=binding.error,
        progress=progress,
    )
