"""The stages of training by name: face, capture, speech, lips, talking, emotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..compute.devices import DEVICES
from ..data import utterances as voices
from ..data.captures import FIT_VERSION
from ..data.captures import bring_up_to_date as fit_where_needed
from ..data.corpora import CORPORA
from ..data.utterances import FREE_CORPORA
from ..errors import InputError
from ..files.cache import corpus_digest
from . import curves, emotion, face, lips, speech, talking
from .loop import last_row, log_path, steps_done
from .record import SHORT, Record, digests
from .run import Run
from .teacher import teacher_files


@dataclass(frozen=True)
class CaptureConfig:
    """Settings of the capture of corpora: those that are there are fitted."""

    corpora: tuple[str, ...] = CORPORA


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    configure: its settings, a dataclass, of a seed and the command's options
    train: does it, and returns figures
    after: the earlier stages whose results decide what it makes
    folders: of the corpora, relative to the data folder, that it reads; results: files and folders that it leaves
    steps: of each of its trainings, the number that they end at
    """

    configure: Callable[[int, dict[str, Any]], Any]
    train: Callable[[Run, Any], dict[str, Any]]
    after: tuple[str, ...]
    folders: Callable[[Any], tuple[str, ...]]
    results: Callable[[Run], list[Path]]
    steps: Callable[[Any], dict[str, int]] = lambda config: {}


def weights_of(*stages: str) -> Callable[[Run], list[Path]]:
    """The weights files that a stage leaves."""
    return lambda run: [run.out / f"{name}.safetensors" for name in stages]


def train_captures(run: Run, config: CaptureConfig) -> dict[str, Any]:
    """Fit the corpora that are there."""
    present = [corpus for corpus in config.corpora if (run.data / corpus).is_dir()]
    for corpus in present:
        fit_where_needed(
            corpus, run.data, run.captures, run.models(), run.jobs, run.report, face_too=True
        )
    return {"captures": str(run.captures), "corpora": present}


STAGES = {
    "face": Stage(
        configure=lambda seed, options: face.FaceConfig(seed=face.FaceConfig.seed + seed),
        train=lambda run, config: face.train_face(run, config),
        after=(),
        folders=lambda config: ("ict_facekit", "meshes"),
        results=weights_of("face"),
    ),
    "capture": Stage(
        configure=lambda seed, options: CaptureConfig(
            FREE_CORPORA if options.get("free") else CORPORA
        ),
        train=train_captures,
        after=("face",),
        folders=lambda config: config.corpora,
        results=lambda run: sorted(run.captures.glob("*.npz")),
    ),
    "speech": Stage(
        configure=speech.speech_config,
        train=lambda run, config: {"weights": str(speech.train_speech(run, config))},
        after=(),
        folders=lambda config: voices.UTTERANCE_FOLDERS,
        results=weights_of("speech"),
        steps=lambda config: {"speech": config.steps},
    ),
    "lips": Stage(
        configure=lips.lips_config,
        train=lambda run, config: {"weights": str(run.labels), **lips.train_lips(run, config)},
        after=("face",),
        folders=lambda config: (*dict(config.shares), "speech"),
        results=lambda run: [run.labels],
        steps=lambda config: {f"lips-{k}": config.steps for k in range(len(config.teachers))},
    ),
    "talking": Stage(
        configure=talking.talking_config,
        train=lambda run, config: {"weights": str(talking.train_talking(run, config))},
        after=("face", "speech", "lips"),
        folders=lambda config: (*dict(config.shares), "speech"),
        results=weights_of("talking"),
        steps=lambda config: {"talking": config.steps},
    ),
    "emotion": Stage(
        configure=emotion.emotion_config,
        train=lambda run, config: {"weights": str(emotion.train_emotion(run, config))},
        after=("face",),
        folders=lambda config: config.corpora,
        results=weights_of("emotion", "discriminator", "classifier"),
        steps=lambda config: {"emotion": config.iterations},
    ),
}


def train_all(
    run: Run, *, seed: int = 0, options: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Train every stage, each from the results of those before it; returns what `train` does for each.

    A run that resumes leaves out what is done, goes on with what was begun, and makes anew what was made from other data
    or from earlier stages that have changed. Raises InputError for a stage that was begun with other settings, and for a
    folder with a run that is not to be resumed: hours of work are not thrown away unasked.
    """
    check(run, "all")
    if not run.resume and any((run.out / f"{name}.json").is_file() for name in STAGES):
        raise InputError(
            f"{run.out}: there is a run in it",
            "--resume goes on with it; another -o begins a new one",
        )
    run.together.wait()  # until all processes have seen that there is none
    teacher_files(
        "tiny.en"
    )  # what is missing is said now rather than after the minutes that the first stages take
    return {
        name: train(name, run, seed=seed, options=options, bring_up_to_date=run.resume)
        for name in STAGES
    }


def train(
    stage: str,
    run: Run,
    *,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    bring_up_to_date: bool = False,
) -> dict[str, Any]:
    """Train a stage; returns figures and the path of the weights. Keeps a record of it, see `record.Record`.

    options: `free` of all stages that read corpora: only those that may be used for any purpose; `hold_out` and `people`
    of lips; of the talking model `paper`, `constant_weights`, `log_mel`, `freeze_encoder`, `hold_out`; of the emotion
    transfer `no_augmentation` and `java_sed`; `steps` of all but face and capture; see `talkemo train --help`.
    bring_up_to_date: do nothing where that is done already, and begin anew where it was made from other data or stages
    Raises InputError where a run that resumes was begun with other settings, or else from other data.
    """
    check(run, stage)
    chosen, together = STAGES[stage], run.together
    options = {**(options or {}), "large": run.torch_device.type == "cuda"}
    config = chosen.configure(seed, options)
    present = [name for name in sorted(set(chosen.folders(config))) if (run.data / name).is_dir()]
    sources = {
        "data": {name: corpus_digest(run.data / name)[:SHORT] for name in present},
        "inputs": digests([path for name in chosen.after for path in STAGES[name].results(run)]),
        "fit": FIT_VERSION,
    }
    record = Record(run, stage, {**asdict(config), "start": run.start_digest(stage)}, sources)
    done, changed = bring_up_to_date and record.is_done(chosen.results(run)), record.changed()
    together.wait()  # until all know, before the main process writes
    if done:
        return {**record.before["result"], "up_to_date": True}
    if run.resume and changed:
        _refuse_or_tell(run, stage, changed, refuse="settings" in changed or not bring_up_to_date)
    run = replace(run, origin=record.origin, redo=bring_up_to_date, made=record.made)
    trainings = chosen.steps(config)
    with record.kept():
        # What is computed rather than trained, one process does.
        result = chosen.train(run, config) if trainings or together.is_main else {}
    if together.is_main:
        complete = all(steps_done(run, name) >= steps for name, steps in trainings.items())
        metrics = {name: last_row(log_path(run, name)) for name in trainings}
        record.finish(complete, chosen.results(run), result, metrics)
        curves.draw(run, stage, list(trainings))
    together.wait()
    return result


def _refuse_or_tell(run: Run, stage: str, changed: dict[str, list[str]], refuse: bool) -> None:
    """Raise InputError, or say to the user why a stage is made anew. changed: see `Record.changed`"""
    kind = "settings" if "settings" in changed else "sources"
    what = f"other {'settings' if kind == 'settings' else 'data or earlier stages'} ({', '.join(changed[kind])})"
    if refuse:
        raise InputError(
            f"{run.out / stage}.json: the stage {stage} was begun with {what}",
            "resume with what it was begun with, or start anew in another folder or without --resume",
        )
    run.tell(f"{stage} is made anew: it was made from {what}")


def check(run: Run, stage: str) -> None:
    """Raise InputError for a stage that there is none of, and for a run that cannot be begun."""
    if stage not in (*STAGES, "all"):
        raise InputError(f"unknown stage '{stage}'", f"choose {', '.join(STAGES)} or all")
    if not run.data.is_dir():
        raise InputError(f"{run.data}: no such folder of corpora", "name it with --data")
    if run.out.exists() and not run.out.is_dir():
        raise InputError(f"{run.out} is not a folder", "choose another -o")
    if run.device not in DEVICES:
        raise InputError(f"unknown device '{run.device}'", f"choose from {', '.join(DEVICES)}")
    _ = run.start_models  # a set that is not there is refused before anything else
