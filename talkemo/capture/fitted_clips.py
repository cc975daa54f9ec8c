"""Fitted clips: the npz files of a folder of videos, one for each video.

Arrays: the fields of the `Capture`; `fps`; `residual_px` (T,); `sound`, the delay of the audio
relative to the lips in s and its Pearson r, NaN if unknown; `clip`, JSON that describes the video;
`face` and `names`, fingerprint and blend shapes of the face model that was fitted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, TalkemoError
from ..face.canonical import Face
from ..files.arrays import NpzFile, read_npz
from ..files.reading import open_file, parse_json, printable, reading_errors
from ..files.writing import atomic_write
from .audio_sync import Delay
from .fitting import Capture

FITTED_CLIP = "a fitted clip"
CLIP_HINT = "make it again with talkemo reconstruct FOLDER --corpus"
FITTED_CLIP_FPS_RANGE = (0.01, 10_000.0)  # frame rates that are read


@dataclass(frozen=True, eq=False)
class FittedClip:
    """The capture of a video, and what is known about the video."""

    capture: Capture
    fps: float
    residual_px: np.ndarray  # (T,)
    delay: Delay | None  # of the audio relative to the lips
    about: dict[str, Any]  # path under its folder, speaker, emotion, sentence


def save_fitted_clip(path: Path, clip: FittedClip, face: Face) -> None:
    """Write a clip that was fitted with a face."""
    arrays = {field.name: getattr(clip.capture, field.name) for field in fields(Capture)}
    delay = clip.delay
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            **arrays,
            clip=json.dumps(clip.about),
            fps=clip.fps,
            residual_px=clip.residual_px,
            sound=[np.nan, np.nan] if delay is None else [delay.seconds, delay.r],
            face=face.fingerprint,
            names=np.array(face.expression_names),
        )


def is_fitted_clip(path: object) -> bool:
    """Whether a path is that of an npz with the arrays of a fitted clip."""
    if not isinstance(path, str | Path) or Path(path).suffix.lower() != ".npz":
        return False
    try:
        with (
            open_file(path, FITTED_CLIP, CLIP_HINT) as file,
            reading_errors(path, FITTED_CLIP, CLIP_HINT),
            NpzFile(file) as arrays,
        ):
            return {"shapes", "identity", "residual_px", "face"} <= set(arrays.names)
    except TalkemoError:
        return False


def read_fitted_clip(path: Path, face: Face) -> FittedClip:
    """Read what `save_fitted_clip` wrote.

    Raises InputError for another file, or for a clip that was fitted with another face model.
    """
    arrays = read_npz(path, FITTED_CLIP)
    with reading_errors(path, FITTED_CLIP, CLIP_HINT):
        if str(arrays["face"]) != face.fingerprint:
            raise InputError(
                f"{printable(path)}: fitted with another face model",
                f"name the --weights that it was fitted with, or {CLIP_HINT}",
            )
        capture = Capture(**{field.name: arrays[field.name] for field in fields(Capture)})
        _check_capture(capture, face)
        fps, (delay_s, correlation) = float(arrays["fps"]), arrays["sound"]
        if not FITTED_CLIP_FPS_RANGE[0] <= fps <= FITTED_CLIP_FPS_RANGE[1]:
            raise ValueError(f"{fps:g} frames per second")
        about = parse_json(str(arrays["clip"]))
        delay = Delay(float(delay_s), float(correlation)) if np.isfinite(delay_s) else None
        known = about if isinstance(about, dict) else {}
        return FittedClip(capture, fps, arrays["residual_px"], delay, known)


def _check_capture(capture: Capture, face: Face) -> None:
    """Raise ValueError unless the arrays of a capture have the shapes of one."""
    count = len(capture.time)
    shapes = {
        "shapes": (count, len(face.expression_names)),
        "rotation": (count, 3, 3),
        "seen": (count,),
        "residual": (count,),
    }
    for name, shape in shapes.items():
        array = getattr(capture, name)
        if not count or array.shape != shape or array.dtype.kind not in "fb":
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains NaN or infinity")
    if capture.identity.ndim != 1 or len(capture.identity) > len(face.identity_mean):
        raise ValueError(f"identity is {capture.identity.shape}")
    if not np.isfinite(capture.identity).all() or not capture.seen.any():
        raise ValueError("no face in it")
