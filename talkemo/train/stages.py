"""The stages of training by name: face, capture, speech, lips, talking, emotion, voice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..compute.devices import DEVICES
from ..data import utterances
from ..data.captures import FIT_VERSION
from ..data.captures import bring_up_to_date as bring_captures_up_to_date
from ..data.corpora import CORPORA, require_corpora
from ..data.custom_corpora import CustomCorpus, find_custom_corpora
from ..data.utterances import FREE_CORPORA
from ..errors import InputError
from ..files.cache import corpus_digest
from . import emotion, emotion_config, face, lips, speech, talking, training_log, voice
from .batches import filmed_corpora
from .checkpoint import checkpoint_path, steps_done
from .options import TrainOptions
from .record import RECORD_DIGEST_DIGITS, Record, digests
from .run import Run
from .teacher import teacher_files


@dataclass(frozen=True)
class CaptureConfig:
    """Settings of the capture stage, which fits the corpora that exist."""

    corpora: tuple[str, ...] = CORPORA


@dataclass(frozen=True)
class TrainingStage:
    """A stage of training."""

    # Returns the stage's config, a dataclass, for the options, the seed and whether a GPU is used.
    configure: Callable[[TrainOptions, int, bool], Any]
    train: Callable[[Run, Any], dict[str, Any]]  # returns metrics and the path of the result
    after: tuple[str, ...]  # earlier stages whose results this one reads
    folders: Callable[[Any], tuple[str, ...]]  # corpora in the data folder that it reads
    results: Callable[[Run], list[Path]]  # files and folders that it leaves in a run
    # Raises InputError if the data that the stage needs are missing, without reading them.
    check: Callable[[Run, Any], object]
    # Returns the config with custom corpora added; most stages know which corpora they read.
    with_custom: Callable[[Any, list[CustomCorpus]], Any] = lambda config, custom: config
    # Number of steps of each training by name; empty for a stage without training.
    steps: Callable[[Any], dict[str, int]] = lambda config: {}


def train_captures(run: Run, config: CaptureConfig) -> dict[str, Any]:
    """Fit the corpora that exist; return their names and the folder of captures."""
    present = require_corpora(run.data, config.corpora)
    for corpus in present:
        bring_captures_up_to_date(
            corpus,
            run.data,
            run.captures,
            run.models(),
            run.jobs,
            run.report,
            refit_if_face_changed=True,
        )
    return {"captures": str(run.captures), "corpora": list(present)}


def _with_captured(config: CaptureConfig, custom: list[CustomCorpus]) -> CaptureConfig:
    """Return the capture stage's settings with custom corpora."""
    return replace(config, corpora=(*config.corpora, *(corpus.name for corpus in custom)))


def _with_shares(config: Any, custom: list[CustomCorpus]) -> Any:
    """Return settings of the lips or the talking stage with the shares of custom corpora."""
    return replace(config, shares=(*config.shares, *((c.name, c.share) for c in custom)))


def _with_acted(config: Any, custom: list[CustomCorpus]) -> Any:
    """Return settings of the emotion or the voice stage with custom corpora of acted emotion."""
    acted = tuple(corpus.name for corpus in custom if corpus.acted)
    return replace(config, corpora=(*config.corpora, *acted))


def _check_shares(run: Run, config: Any) -> None:
    """Raise InputError if none of the filmed corpora that a batch draws from exists."""
    if filmed := filmed_corpora(dict(config.shares)):
        require_corpora(run.data, filmed)


def _weights_files(*stages: str) -> Callable[[Run], list[Path]]:
    return lambda run: [run.out / f"{name}.safetensors" for name in stages]


TRAINING_STAGES = {
    "face": TrainingStage(
        configure=lambda options, seed, large: face.FaceConfig(seed=face.FaceConfig.seed + seed),
        train=lambda run, config: face.train_face(run, config),
        after=(),
        folders=lambda config: ("ict_facekit", "meshes"),
        results=_weights_files("face"),
        check=lambda run, config: face.source_files(run.data),
    ),
    "capture": TrainingStage(
        configure=lambda options, seed, large: CaptureConfig(
            FREE_CORPORA if options.free else CORPORA
        ),
        train=train_captures,
        after=("face",),
        folders=lambda config: config.corpora,
        check=lambda run, config: require_corpora(run.data, config.corpora),
        with_custom=_with_captured,
        results=lambda run: sorted(run.captures.glob("*.npz")),
    ),
    "speech": TrainingStage(
        configure=speech.speech_config,
        train=lambda run, config: {"weights": str(speech.train_speech(run, config))},
        after=(),
        folders=lambda config: utterances.UTTERANCE_FOLDERS,
        results=_weights_files("speech"),
        check=lambda run, config: require_corpora(run.data, utterances.UTTERANCE_FOLDERS),
        steps=lambda config: {"speech": config.steps},
    ),
    "lips": TrainingStage(
        configure=lips.lips_config,
        train=lambda run, config: {
            "weights": str(run.pseudo_labels),
            **lips.train_lips(run, config),
        },
        after=("face",),
        folders=lambda config: (*dict(config.shares), "speech"),
        check=_check_shares,
        with_custom=_with_shares,
        results=lambda run: [run.pseudo_labels],
        steps=lambda config: {f"lips-{k}": config.steps for k in range(len(config.teachers))},
    ),
    "talking": TrainingStage(
        configure=talking.talking_config,
        train=lambda run, config: {"weights": str(talking.train_talking(run, config))},
        after=("face", "speech", "lips"),
        folders=lambda config: (*dict(config.shares), "speech"),
        check=_check_shares,
        with_custom=_with_shares,
        results=_weights_files("talking"),
        steps=lambda config: {"talking": config.steps},
    ),
    "emotion": TrainingStage(
        configure=emotion_config.emotion_config,
        train=lambda run, config: {"weights": str(emotion.train_emotion(run, config))},
        after=("face",),
        folders=lambda config: config.corpora,
        check=lambda run, config: require_corpora(run.data, config.corpora),
        with_custom=_with_acted,
        results=_weights_files("emotion", "discriminator", "classifier"),
        steps=lambda config: {"emotion": config.iterations},
    ),
    "voice": TrainingStage(
        configure=voice.voice_config,
        train=voice.train_voice,
        after=("speech",),
        folders=lambda config: config.corpora,
        check=voice.check_voices,
        with_custom=_with_acted,
        results=_weights_files("voice"),
        steps=lambda config: {"voice": config.steps},
    ),
}


def train_all(
    run: Run, *, seed: int = 0, options: TrainOptions | None = None
) -> dict[str, dict[str, Any]]:
    """Train every stage, each from the results of those before it; return what `train` returns.

    A resumed run skips stages that are up to date, continues unfinished ones, and repeats those
    that were made from other data or from earlier stages that have changed.

    Raises
    ------
    InputError
        The folder holds a run that is not to be resumed, or a stage was run with other settings:
        hours of work are never discarded implicitly.
    """
    check_run(run, "all")
    if not run.resume and any((run.out / f"{name}.json").is_file() for name in TRAINING_STAGES):
        raise InputError(
            f"{run.out}: already contains a run",
            "--resume continues it; another -o starts a new one",
        )
    for name, stage in TRAINING_STAGES.items():  # before the hours that earlier stages take
        stage.check(run, _configure(run, name, options or TrainOptions(), seed))
    run.processes.wait()  # no process may write before all have looked for an earlier run
    teacher_files("tiny.en")  # report missing packages before the hours that earlier stages take
    return {
        name: train(name, run, seed=seed, options=options, bring_up_to_date=run.resume)
        for name in TRAINING_STAGES
    }


def train(
    stage: str,
    run: Run,
    *,
    seed: int = 0,
    options: TrainOptions | None = None,
    bring_up_to_date: bool = False,
) -> dict[str, Any]:
    """Train a stage, and keep a record of it (see `record.Record`).

    Parameters
    ----------
    stage : str
        One of `TRAINING_STAGES`.
    run : Run
        Where the stage reads and writes.
    seed : int
        Of all that is random.
    options : TrainOptions, optional
        Changes of the stage's settings.
    bring_up_to_date : bool
        Skip the stage if it is up to date, and repeat it if it is stale.

    Returns
    -------
    dict
        Metrics and the path of the result; `up_to_date` if the stage was skipped.

    Raises
    ------
    InputError
        A resumed run was started with other settings or, without `bring_up_to_date`, other data.
    """
    check_run(run, stage)
    chosen, processes = TRAINING_STAGES[stage], run.processes
    config = _configure(run, stage, options or TrainOptions(), seed)
    chosen.check(run, config)
    record = _open_record(run, stage, config)
    is_up_to_date = bring_up_to_date and record.is_up_to_date(chosen.results(run))
    changed = record.changed()
    processes.wait()  # until all processes have read the record, before the main one writes
    if is_up_to_date:
        return {**record.before["result"], "up_to_date": True}
    if run.resume and changed:
        _report_change(run, stage, changed, refuse="settings" in changed or not bring_up_to_date)
    run = replace(
        run,
        fingerprint=record.fingerprint,
        discard_stale=bring_up_to_date,
        provenance=record.provenance,
    )
    trainings = chosen.steps(config)
    before = _checkpoint_times(run, trainings)
    with record.measuring(lambda: bool(_checkpoint_times(run, trainings) - before)):
        # Stages without training run in the main process only.
        result = chosen.train(run, config) if trainings or processes.is_main else {}
    run.on_main_process(lambda: _finish(run, stage, record, trainings, result))
    return result


def _configure(run: Run, stage: str, options: TrainOptions, seed: int) -> Any:
    """Return a stage's settings, with the custom corpora that the options allow."""
    chosen = TRAINING_STAGES[stage]
    custom = [] if options.paper else find_custom_corpora(run.data)
    if options.free:
        custom = [corpus for corpus in custom if corpus.any_use]
    config = chosen.configure(options, seed, run.torch_device.type == "cuda")
    return chosen.with_custom(config, custom)


def _checkpoint_times(run: Run, trainings: Iterable[str]) -> set[tuple[str, int]]:
    """Return the trainings that have a checkpoint, with the time at which it was written."""
    paths = {name: checkpoint_path(run, name) for name in trainings}
    return {(name, path.stat().st_mtime_ns) for name, path in paths.items() if path.is_file()}


def _finish(
    run: Run, stage: str, record: Record, trainings: dict[str, int], result: dict[str, Any]
) -> None:
    """Write a stage's record and plot its logs."""
    done = all(steps_done(run, name) >= steps for name, steps in trainings.items())
    metrics = {name: training_log.last_row(training_log.log_path(run, name)) for name in trainings}
    record.finish(done, TRAINING_STAGES[stage].results(run), result, metrics)
    training_log.plot_logs(run, stage, list(trainings))


def _open_record(run: Run, stage: str, config: Any) -> Record:
    """Return the record of a stage, with the digests of its inputs."""
    chosen = TRAINING_STAGES[stage]
    corpora = [name for name in sorted(set(chosen.folders(config))) if (run.data / name).is_dir()]
    inputs = [path for name in chosen.after for path in TRAINING_STAGES[name].results(run)]
    sources = {
        "data": {name: corpus_digest(run.data / name)[:RECORD_DIGEST_DIGITS] for name in corpora},
        "inputs": digests(inputs),
        "fit": FIT_VERSION,
    }
    return Record(run, stage, {**asdict(config), "start": run.start_digest(stage)}, sources)


def _report_change(run: Run, stage: str, changed: dict[str, list[str]], refuse: bool) -> None:
    """Raise InputError for a stage that has changed (see `Record.changed`), or notify the user."""
    if "settings" in changed:
        difference = f"other settings ({', '.join(changed['settings'])})"
    else:
        difference = f"other data or earlier stages ({', '.join(changed['sources'])})"
    if refuse:
        raise InputError(
            f"{run.out / stage}.json: the stage {stage} was started with {difference}",
            "resume with the same settings and data, or start again in another folder or without "
            "--resume",
        )
    run.notify(f"{stage} is repeated: it was made from {difference}")


def check_run(run: Run, stage: str) -> None:
    """Raise InputError for an unknown stage, and for a run that cannot be started."""
    if stage not in (*TRAINING_STAGES, "all"):
        raise InputError(f"unknown stage '{stage}'", f"choose {', '.join(TRAINING_STAGES)} or all")
    if not run.data.is_dir():
        raise InputError(f"{run.data}: no such folder of corpora", "name it with --data")
    if run.out.exists() and not run.out.is_dir():
        raise InputError(f"{run.out} is not a folder", "choose another -o")
    if run.device not in DEVICES:
        raise InputError(f"unknown device '{run.device}'", f"choose from {', '.join(DEVICES)}")
    _ = run.start_models  # refuse a missing set first
