"""The stages of training by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..face import load_face, save_face


def require_teacher() -> None:
    """Raise TalkemoError where the speech encoder cannot be trained for want of its teacher."""
    from .teacher import require

    require()


def train(
    stage: str,
    data: Path,
    out: Path,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a stage from the corpora under `data` into the folder `out`; returns figures and the path of the weights.

    Later stages use `out`/face.safetensors and `out`/speech.safetensors where they are there, the bundled ones otherwise;
    the talking model learns from `out`/taught.npz, which the speech stage leaves there, if it is there.
    options: of the talking model `paper`, `constant_weights`, `log_mel`, `freeze_encoder`, `hold_out`; of the emotion
    transfer `no_augmentation` and `java_sed`; `steps` of all three; see `talkemo train --help`.
    """
    options = options or {}
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
    if stage == "speech":
        from .speech import SpeechConfig, train_speech

        listening = SpeechConfig(seed=seed, **_given(steps=options.get("steps")))
        return {"weights": str(train_speech(face, data, out, listening, **shared))}
    if stage == "talking":
        from .talking import PAPER, TAUGHT, TalkingConfig, train_talking

        config = replace(
            PAPER if options.get("paper") else TalkingConfig(), seed=seed, hold_out=options.get("hold_out", 0)
        )
        config = replace(config, **_given(steps=options.get("steps")))
        if options.get("constant_weights"):
            config = replace(config, mouth=0.0, gap=0.0, closure=0.0)
        if options.get("log_mel"):
            without = tuple(share for share in config.shares if share[0] != TAUGHT)
            config = replace(config, features="log-mel", encoder_rate=0.0, shares=without)
        if options.get("freeze_encoder"):
            config = replace(config, encoder_rate=0.0)
        return {"weights": str(train_talking(face, data, out, config, **shared))}
    if stage == "emotion":
        from .emotion import EmotionConfig, train_emotion

        acting = EmotionConfig(seed=seed, **_given(iterations=options.get("steps")))
        if options.get("no_augmentation"):
            acting = replace(acting, augmentation=0.0)
        if options.get("java_sed"):
            acting = replace(acting, corpora=("ravdess", "java_sed"))
        return {"weights": str(train_emotion(face, data, out, acting, **shared))}
    raise InputError(f"unknown stage '{stage}'", "choose face, speech, talking or emotion")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
