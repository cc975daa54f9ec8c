"""The stages of training by name: face, speech, lips, talking, emotion."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..face import tensors_of_face
from ..models import DEVICES
from .run import Run


def train(stage: str, run: Run, *, seed: int = 0, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train a stage; returns figures and the path of the weights.

    options: `free` of all stages that read corpora: only those that may be used for any purpose; `hold_out` and `people`
    of lips; of the talking model `paper`, `constant_weights`, `log_mel`, `freeze_encoder`, `hold_out`; of the emotion
    transfer `no_augmentation` and `java_sed`; `steps` of all but the face; see `talkemo train --help`.
    """
    options = options or {}
    if not run.data.is_dir():
        raise InputError(f"{run.data}: no such folder of corpora", "name it with --data")
    if run.out.exists() and not run.out.is_dir():
        raise InputError(f"{run.out} is not a folder", "choose another -o")
    if run.device not in DEVICES:
        raise InputError(f"unknown device '{run.device}'", f"choose from {', '.join(DEVICES)}")
    _ = run.start_models  # a set that is not there is refused before anything else
    options = {**options, "large": run.torch_device.type == "cuda"}
    if stage == "face":
        return _train_face(run)
    if stage == "speech":
        from .speech import speech_config, train_speech

        return {"weights": str(train_speech(run, speech_config(seed, options)))}
    if stage == "lips":
        from .lips import lips_config, train_lips

        figures = train_lips(run, lips_config(seed, options))
        return {"weights": str(run.labels), **figures}
    if stage == "talking":
        from .talking import talking_config, train_talking

        return {"weights": str(train_talking(run, talking_config(seed, options)))}
    if stage == "emotion":
        from .emotion import emotion_config, train_emotion

        return {"weights": str(train_emotion(run, emotion_config(seed, options)))}
    raise InputError(f"unknown stage '{stage}'", "choose face, speech, lips, talking or emotion")


def _train_face(run: Run) -> dict[str, Any]:
    """The canonical face and its bilinear model, which are computed rather than trained."""
    from .face import build_face

    source, points = run.data / "ict_facekit" / "model.npz", run.data / "meshes" / "mediapipe_canonical.obj"
    for path in (source, points):
        if not path.is_file():
            raise InputError(f"{path}: no such file", "the face is made from it; fetch it")
    face, figures = build_face(source, points, lambda done, total: run.report("geodesics", done, total))
    path = run.save("face", *tensors_of_face(face))
    return {"weights": str(path), "vertices": len(face.mean), "chart_stress": face.chart_stress, **figures}
