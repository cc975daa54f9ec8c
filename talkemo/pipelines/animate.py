"""The main job: a mesh, speech and an emotion give an animation, computed chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..audio.recording import Audio, load_audio
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..expression.emotions import EMOTIONS
from ..face.motion import in_parts
from ..formats.mesh_types import Mesh
from ..options import with_keywords
from ..weights.models import Models, load_models
from .bind import bind
from .option_groups import AnimateKeywords, AnimateOptions, PathLike
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    Progress,
    Result,
    check_fps,
    frame_count,
    output_paths,
    write_animation,
)
from .performance import PAGE_EMOTIONS, ActingPlan, Performer, bound_header

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
    """Make a face speak a recording with an emotion.

    Parameters
    ----------
    mesh : path, Mesh, (vertices, faces) or Binding
        A mesh file, a mesh in memory, `vertices` (N, 3) and `faces` (F, 3), or what `bind` returned.
    audio : path, (samples, rate) or Audio
        An audio file, or `samples` (N,) or (N, channels) in [-1, 1] and their rate in Hz.
    outputs : path or sequence of paths, optional
        .mp4, .html, .npz, .glb, .usda, .usdc and .csv files, and folders of meshes. Without outputs
        the result holds arrays.
    options : AnimateOptions, optional
        All options below in one object.
    models : Models, optional
        What `load_models` returned, instead of `weights` and `device`.
    progress : callable, optional
        Called with the frames done and their total.
    **keywords
        Fields of AnimateOptions, which replace those of `options`:

        - `emotion`: one of EMOTIONS, an everyday spelling, or a mix `happy:0.6,surprised:0.4`;
          `intensity` in [0, 1.5] scales it; `timeline`: a Timeline or the path of its file, instead
        - `style`: one of `models.talking.styles`; None for the default
        - `seed` of blinks, head, gaze and the drift of brows and mouth
        - `blink`: auto, off, or blinks per minute; `head`, `gaze`: auto or off
        - `fps`: frames per second, 1 to 240; videos have at most 30
        - `export`: ExportOptions; `hint`: FaceHint, where the face is; `cache`: whether bindings are
          read from and stored in the user's cache folder; `weights`, `device`: see `load_models`

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
    inputs = [mesh, audio, options.timeline, *options.hint.files]
    paths = output_paths(outputs, options.export, inputs)
    plan = ActingPlan.of(options)
    check_fps(options.fps)
    recording = load_audio(audio)
    models = models or load_models(options.weights, device=options.device)
    binding = bind(mesh, hint=options.hint, models=models, cache=options.cache)
    models.talking.style(options.style)  # an unknown style is refused before anything is written
    has_page = any(path.suffix.lower() == ".html" for path in paths)
    performer = Performer(models, binding, plan, PAGE_EMOTIONS if has_page else ())
    times = np.arange(frame_count(recording.duration, options.fps)) / options.fps
    meta = {**performer.meta, "audio": recording.name}
    if has_page and options.timeline is None:  # what the page shows at first
        amounts = plan.emotions.amounts(np.zeros(1))[0]
        meta["amounts"] = dict(zip(EMOTIONS, np.round(amounts, 3).tolist()))
    header = bound_header(binding, len(times), options.fps, meta)
    turns = plan.head_moves or plan.eyes_move
    speech = models.talking.stream(recording, in_parts(times, OUTPUT_CHUNK_FRAMES), options.style)
    return write_animation(
        paths,
        replace(header, turn=HeadTurner(binding) if turns else None),
        map(performer, speech),
        export=options.export,
        audio=recording,
        seconds=recording.duration,
        binding_error_mm=binding.error,
        progress=progress,
    )
