"""The main job: a face, a recording and an emotion give an animation. Everything streams, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..audio import Audio, load_audio
from ..binding import Binding, FaceHint
from ..blinking import Blinking, blink_rate
from ..emotions import EMOTIONS, Timeline, one_hot
from ..formats.animation import Frames, Header
from ..formats.mesh import Mesh
from ..heads import Gaze, HeadMotion, Turner, gaze_weights
from ..liveliness import Liveliness
from ..models import Models, load_models
from ..motion import Motion
from ..weights import DEFAULT
from .bind import bind
from .outputs import (
    FRAMES_AT_A_TIME,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    check_mode,
    output_paths,
    write_animation,
)


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
    weights: PathLike = DEFAULT,
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
    course = make_timeline(emotion, intensity, timeline)
    check_fps(fps)
    rate, moves, looks = blink_rate(blink), check_mode(head, "head motion"), check_mode(gaze, "gaze")
    sound = load_audio(audio)
    models = models or load_models(weights, device=device)
    binding = mesh if isinstance(mesh, Binding) else bind(mesh, hint=hint, models=models, cache=cache)
    talking = models.talking
    talking.style(style)  # refused before anything is written
    emotions = models.emotion if course.shown[1:].any() else None
    times = np.arange(max(1, int(np.ceil(sound.duration * fps - 1e-6)))) / fps
    meta: dict[str, Any] = {
        "talkemo": __version__,
        "mesh": binding.mesh.name,
        "audio": sound.name,
        **emotion_meta(emotion, intensity, timeline),
        "style": style or "default",
        "seed": seed,
        "blinks_a_minute": rate,
        "head": head,
        "gaze": gaze,
        "weights": {"set": models.name, "talking": talking.settings.get("steps")},
    }
    if emotions:
        meta["weights"]["emotion"] = emotions.settings.get("iterations")

    life, blinking = Liveliness(models.face, seed), Blinking(models.face, rate, seed)

    turning, looking = HeadMotion(seed), Gaze(seed)
    # A page has every emotion, for its viewer to mix; at first it shows the one that is asked for.
    lives = {}
    if any(path.suffix.lower() == ".html" for path in paths):
        lives = {name: Liveliness(models.face, seed) for name in EMOTIONS if name != "neutral"}
        if timeline is None:
            meta["amounts"] = dict(zip(EMOTIONS, np.round(course.amounts(np.zeros(1))[0], 3).tolist()))

    def parts() -> Iterator[tuple[Motion, Frames]]:
        for motion in talking.stream(sound, times, style, FRAMES_AT_A_TIME):
            plain = motion
            if emotions:
                amounts = life.amounts(motion, course.amounts(motion.times))
                motion = life.drift(emotions.transfer(motion, amounts), amounts)
            motion, shown = blinking.add(motion), motion
            frames = bound_frames(binding, motion, binding.vertices(motion.coordinates))
            if moves:
                frames = replace(frames, head=turning.rotations(motion.times))
            if looks:
                eyes = looking.angles(motion.times, frames.head)
                frames = replace(frames, gaze=eyes, arkit=gaze_weights(frames.arkit, eyes))
            if lives:
                own = plain if timeline is None else shown
                blinks = motion.coordinates - shown.coordinates
                moods = {
                    name: models.emotion.transfer(plain, alive.amounts(plain, one_hot(name)[None])).coordinates
                    - plain.coordinates
                    for name, alive in lives.items()
                }
                frames = replace(frames, coordinates=own.coordinates + blinks, moods=moods)
            yield motion, frames

    return write_animation(
        paths,
        replace(bound_header(binding, len(times), fps, meta), turn=Turner(binding) if moves or looks else None),
        parts(),
        export=export,
        audio=sound,
        seconds=sound.duration,
        binding_error_mm=binding.error,
        progress=progress,
    )


def make_timeline(emotion: str, intensity: float, timeline: PathLike | Timeline | None) -> Timeline:
    """A timeline, or one emotion throughout, scaled by an intensity."""
    if timeline is None:
        return Timeline.constant(emotion, intensity)
    return (timeline if isinstance(timeline, Timeline) else Timeline.read(timeline)).scaled(intensity)


def emotion_meta(emotion: str, intensity: float, timeline: PathLike | Timeline | None) -> dict[str, Any]:
    """What an animation's metadata says of its emotion."""
    if timeline is None:
        return {"emotion": emotion, "intensity": intensity}
    return {"timeline": Path(timeline).name if isinstance(timeline, str | Path) else "timeline", "intensity": intensity}


def bound_header(binding: Binding, frames: int, fps: float, meta: dict[str, Any]) -> Header:
    """The header of an animation of a bound mesh."""
    from ..render.look import look_of

    mesh = binding.mesh
    return Header(
        frames=frames,
        fps=fps,
        faces=mesh.faces,
        rest=binding.rest,
        focus=binding.focus,
        facing=binding.placement.rotation.round(6),
        meta=meta,
        targets=binding.arkit_targets,
        appearance=mesh.appearance,
        look=lambda: look_of(binding),
        basis=binding.basis,
    )


def bound_frames(binding: Binding, motion: Motion, vertices: np.ndarray) -> Frames:
    """Frames of a bound mesh whose vertices (T, N, 3) show a motion."""
    landmarks, arkit = vertices[:, binding.landmarks68], motion.arkit(binding.face)
    return Frames(vertices, landmarks, arkit, coordinates=motion.coordinates)
