"""The stages of training by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..face import load_face, save_face


def train(
    stage: str,
    data: Path,
    out: Path,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a stage from the corpora under `data` into the folder `out`; returns figures and the path of the weights.

    The talking model and the emotion transfer use `out`/face.safetensors where it is there, the bundled face otherwise.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of corpora")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder")
    if stage == "face":
        from .face import build_face

        source, points = data / "ict_facekit" / "model.npz", data / "meshes" / "mediapipe_canonical.obj"
        for path in (source, points):
            if not path.is_file():
                raise InputError(f"{path}: not there; the face is made from it")
        report = None if progress is None else (lambda done, total: progress("geodesics", done, total))
        face, figures = build_face(source, points, report)
        path = out / "face.safetensors"
        save_face(face, path)
        return {"weights": str(path), "vertices": len(face.mean), "chart_stress": face.chart_stress, **figures}
    own = out / "face.safetensors"
    face_path = str(own) if own.is_file() else None
    face = load_face(face_path)
    shared: dict[str, Any] = {
        "resume": resume,
        "max_minutes": max_minutes,
        "jobs": jobs,
        "face_path": face_path,
        "progress": progress,
    }
    if stage == "talking":
        from .talking import TalkingConfig, train_talking

        return {"weights": str(train_talking(face, data, out, TalkingConfig(seed=seed), **shared))}
    if stage == "emotion":
        from .emotion import EmotionConfig, train_emotion

        return {"weights": str(train_emotion(face, data, out, EmotionConfig(seed=seed), **shared))}
    raise InputError(f"unknown stage '{stage}'", "choose face, talking or emotion")
