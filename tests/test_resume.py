"""Trainings and reconstructions that are killed at random moments resume with the same result.

TALKEMO_KILLS is how often each of them is killed, by default once.
"""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_up import MadeUpTeacher, made_up_whisper
from waiting import HANG_S

from talkemo import InputError, TalkemoError, load_models
from talkemo.compute import workers
from talkemo.train import checkpoint, record, stages, training_log
from talkemo.train import emotion as emotion_stage
from talkemo.train import face as face_stage
from talkemo.train import lips as lips_stage
from talkemo.train import loop as loops
from talkemo.train import speech as speech_stage
from talkemo.train import talking as talking_stage
from talkemo.train import voice as voice_stage
from talkemo.train.run import Run
from talkemo.weights.files import load_weights
from talkemo.weights.registry import read_registry

KILLS = int(os.environ.get("TALKEMO_KILLS", "1"))
SHORT_INTERVAL_S = 0.02  # checkpoints are written every few steps

# A server with all heavy imports forks the processes that are killed, so they start at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "talkemo.train.stages",
        "talkemo.pipelines.reconstruct",
        "talkemo.render.images",
        "librosa.filters",
        "torch._dynamo",
    ]
)

TALKING = talking_stage.TalkingConfig(
    future=None,  # its encoder has one layer
    batch=4,
    seconds=0.5,
    steps=11,
    hold_out=2,
    shares=(("ravdess", 0.8), ("noise", 0.2)),
)
SPEECH = speech_stage.SpeechConfig(steps=7, batch=4)
LIPS = lips_stage.LipsConfig(
    teachers=("tiny.en", "base"),
    steps=5,
    batch=4,
    seconds=0.5,
    shares=(("ravdess", 1.0),),
    hold_out=2,
    close=False,
)
EMOTION = emotion_stage.EmotionConfig(
    iterations=11, batch=4, channels=16, blocks=1, classifier_steps=8
)
VOICE = voice_stage.VoiceConfig(corpora=("ravdess",), copies=1, steps=2, batch=4, warm_up=1)


# ------------------------------------------------------------------- what the killed processes do


def with_short_intervals(run: Run) -> Run:
    """A run that resumes, with checkpoints, logs and weights every few steps."""
    checkpoint.FIRST_CHECKPOINT_S = checkpoint.CHECKPOINT_INTERVAL_S = SHORT_INTERVAL_S
    checkpoint.MAX_CHECKPOINT_SHARE = 0.5
    talking_stage.NOISE_CLIPS = 3
    emotion_stage.SAMPLE_SHEET_ROWS = 1
    intervals = loops.Intervals(progress=3, log=3, weights=5)
    speech_stage.SPEECH_INTERVALS = emotion_stage.EMOTION_INTERVALS = intervals
    talking_stage.TALKING_INTERVALS = replace(intervals, log_last_step=True)
    talking_stage.HELD_OUT_LOG_STEPS = 3
    lips_stage.LIPS_INTERVALS = loops.Intervals(progress=3, log=3)
    return replace(run, resume=True)


def train_talking(run: Run) -> None:
    talking_stage.train_talking(with_short_intervals(run), TALKING)


def train_speech_and_lips(run: Run) -> None:
    with_made_up_teachers()
    speech_stage.train_speech(with_short_intervals(run), SPEECH)
    lips_stage.train_lips(with_short_intervals(run), LIPS)


def with_made_up_teachers() -> None:
    speech_stage.load_teacher, lips_stage.load_teacher = made_up_whisper, MadeUpTeacher
    speech_stage.ATTENTION_FUTURE_FEATURES = (8,)
    speech_stage.teacher_files = lips_stage.teacher_files = lambda name: []
    workers.get_context = lambda _: multiprocessing.get_context("fork")


def default_face(run: Run, config: face_stage.FaceConfig) -> dict:
    """Save the bundled face instead of computing one, which takes a minute."""
    return {"weights": str(run.save("face", *load_models(device="cpu").load("face")))}


def train_everything(
    run: Run, killed_after: str | None = None, killed_in: str | None = None
) -> None:
    """Train small networks in all stages; die at the end of a stage or in a training."""
    with_made_up_teachers()
    stages.teacher_files, face_stage.train_face = (lambda name: []), default_face
    face_stage.source_files = lambda data: None  # not in the synthetic data
    small = {"speech": SPEECH, "lips": LIPS, "talking": TALKING, "emotion": EMOTION, "voice": VOICE}
    for name, config in small.items():
        stages.TRAINING_STAGES[name] = replace(
            stages.TRAINING_STAGES[name], configure=lambda *_, own=config: own
        )

    def die_where_logs_are_plotted(run: Run, stage: str, trainings: list[str]) -> None:
        if stage == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    training_log.plot_logs = die_where_logs_are_plotted
    end_step = loops.Loop.end_step

    def end_step_and_die(loop: loops.Loop) -> None:
        end_step(loop)
        if loop.name == killed_in and loop.step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    loops.Loop.end_step = end_step_and_die
    stages.train_all(with_short_intervals(run))


def train_emotion(run: Run) -> None:
    emotion_stage.train_emotion(with_short_intervals(run), EMOTION)


def reconstruct(run: Run) -> None:
    from talkemo.data.captures import reconstruct_corpus

    reconstruct_corpus(run.data / "ravdess", run.out, load_models(device="cpu"), jobs=2)


# ---------------------------------------------------------------------------------------- killing


def survives(task, run, seconds: float | None) -> bool:
    """Run a task in a process; return whether it ended before it was killed after some seconds."""
    process = CONTEXT.Process(target=task, args=(run,))
    process.start()
    process.join(seconds)
    children = children_of(process.pid)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    limit = time.monotonic() + HANG_S
    while left := [pid for pid in children if is_running(pid)]:
        assert time.monotonic() < limit, f"{left} still wait for work"
        time.sleep(0.05)
    return process.exitcode == 0


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill_often(task, run: Run, done_in, check) -> None:
    """Kill processes at random moments, up to four in a training, and check the result.

    done_in(folder) returns numbers by name that may only grow; check(whole, killed) compares the
    folder of an uninterrupted run with that of the killed one.
    """
    rng = np.random.default_rng(11)
    start = time.monotonic()
    assert survives(task, replace(run, out=run.out / "whole"), None)
    whole = time.monotonic() - start
    kills = trainings = resumed = 0
    while kills < KILLS:
        killed, before = replace(run, out=run.out / f"killed-{trainings}"), {}
        trainings += 1
        for _ in range(min(int(rng.integers(1, 5)), KILLS - kills)):
            start = time.monotonic()
            if survives(task, killed, rng.uniform(0.0, 0.9) * whole):
                whole = min(whole, time.monotonic() - start) if not before else whole
                break
            kills += 1
            now = done_in(killed.out)
            assert all(now[name] >= number for name, number in before.items() if name in now)
            before = now
            resumed += bool(now)
        assert survives(task, killed, None)
        check(run.out / "whole", killed.out)
    print(
        f"{task.__name__}: {kills} kills of {trainings} trainings of {whole:.1f} s, "
        f"{resumed} could be resumed"
    )


def steps(out: Path) -> dict[str, int]:
    """The steps of a folder's checkpoints."""
    checkpoints = out.glob("*.checkpoint.safetensors")
    return {path.name: load_weights(path, "checkpoint")[1]["step"] for path in checkpoints}


def same_weights(stages):
    """Return a check that two folders have the same weights, to the bit, and the same logs."""

    def check(whole: Path, killed: Path) -> None:
        for stage in stages:
            expected, expected_settings = load_weights(whole / f"{stage}.safetensors", stage)
            tensors, settings = load_weights(killed / f"{stage}.safetensors", stage)
            assert settings == expected_settings
            assert set(tensors) == set(expected)
            for name, tensor in expected.items():
                assert tensor.tobytes() == tensors[name].tobytes(), f"{stage}: {name}"
        names = lambda folder: {
            path.name for path in folder.iterdir() if not path.name.startswith(".")
        }
        assert names(whole) == names(killed)
        for log in whole.glob("*.log.csv"):
            assert (killed / log.name).read_bytes() == log.read_bytes()

    return check


def assert_same_arrays(first: Path, second: Path) -> None:
    with np.load(first) as a, np.load(second) as b:
        assert a.files == b.files
        for name in a.files:
            assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(scope="module", autouse=True)
def server():
    """Start the server before the first process is timed."""
    assert survives(time.sleep, 0.0, None)


@pytest.fixture(scope="module")
def people(corpus, tmp_path_factory) -> Path:
    """A corpus of six actors with six recordings each."""
    data = tmp_path_factory.mktemp("people")
    (data / "ravdess" / "landmarks").mkdir(parents=True)
    with np.load(corpus / "ravdess" / "landmarks" / "Actor_01.npz") as trials:
        for actor in (1, 2, 3, 4, 20, 21):
            moved = {
                f"{key[:-2]}{actor:02d}": landmarks + np.int16(actor)
                for key, landmarks in list(trials.items())[:6]
            }
            np.savez(data / "ravdess" / "landmarks" / f"Actor_{actor:02d}.npz", **moved)
    return data


@pytest.fixture(scope="module")
def everything(spoken_corpus, tmp_path_factory) -> Run:
    """A run of all stages without interruption."""
    data, out = tmp_path_factory.mktemp("everything"), tmp_path_factory.mktemp("whole")
    shutil.copytree(spoken_corpus, data, symlinks=True, dirs_exist_ok=True)
    run = Run(data, out, device="cpu")
    assert survives(train_everything, run, None)
    return run


@pytest.fixture
def run(corpus, fitted, tmp_path) -> Run:
    return Run(corpus, tmp_path, device="cpu", captures_folder=fitted[0] / "captures")


# ----------------------------------------------------------------------------- killed and resumed


def test_the_talking_model(run):
    kill_often(train_talking, run, steps, same_weights(["talking"]))


def test_the_emotion_transfer_and_its_classifiers(run):
    kill_often(train_emotion, run, steps, same_weights(["emotion", "discriminator", "classifier"]))


def test_the_speech_encoder_and_the_teachers_of_motion(run, spoken_corpus):
    def check(whole, killed):
        same_weights(["speech"])(whole, killed)
        for folder in ("speech", "lips"):
            written = {
                path.name for path in (whole / folder).iterdir() if not path.name.startswith(".")
            }
            assert len(written) > 2
            for name in written:
                assert (whole / folder / name).read_bytes() == (
                    killed / folder / name
                ).read_bytes(), name

    kill_often(train_speech_and_lips, replace(run, data=spoken_corpus), steps, check)


def test_captures_of_a_corpus(people, tmp_path):
    def times(out):
        """Return the finished people, and check that no file is written twice."""
        paths = list((out / "ravdess.partial").glob("*.npz"))
        for path in paths:
            time_ns = path.stat().st_mtime_ns
            assert written.setdefault(path, time_ns) == time_ns
        return {path.name: 1 for path in paths if not path.name.startswith(".")}

    def check(whole, killed):
        assert_same_arrays(whole / "ravdess.npz", killed / "ravdess.npz")
        assert [path.name for path in killed.iterdir() if not path.name.startswith(".")] == [
            "ravdess.npz"
        ]

    written: dict[Path, int] = {}
    kill_often(reconstruct, Run(people, tmp_path), times, check)


def test_all_stages_when_killed_at_the_end_of_each(everything, tmp_path):
    whole, killed = everything.out, tmp_path / "killed"
    resumed = replace(everything, out=killed)
    for stage in stages.TRAINING_STAGES:
        assert not survives(partial(train_everything, killed_after=stage), resumed, None)
    assert survives(train_everything, resumed, None)
    files = ["face", "speech", "talking", "emotion", "discriminator", "classifier", "voice"]
    same_weights(files)(whole, killed)
    assert_same_arrays(whole / "captures" / "ravdess.npz", killed / "captures" / "ravdess.npz")
    for stage in stages.TRAINING_STAGES:
        records = [json.loads((folder / f"{stage}.json").read_text()) for folder in (whole, killed)]
        assert all(record["state"] == "done" and record["minutes"] >= 0 for record in records)
        for name in ("settings", "sources", "results", "metrics", "commit"):
            assert records[0][name] == records[1][name]
    registry = read_registry(killed / "registry.toml")
    assert registry["talking"].data.startswith("ravdess ") and registry["talking"].seed == 0


def test_stale_stages_are_made_anew(everything, tmp_path):
    data = tmp_path / "data"
    run = replace(everything, data=data, out=tmp_path / "out")
    shutil.copytree(everything.data, data, symlinks=True)
    shutil.copytree(everything.out, run.out)
    written = {
        stage: (run.out / f"{stage}.json").stat().st_mtime_ns for stage in stages.TRAINING_STAGES
    }
    changed = lambda: {
        s for s, then in written.items() if (run.out / f"{s}.json").stat().st_mtime_ns != then
    }
    assert survives(train_everything, run, None) and changed() == set()
    (run.out / "classifier.safetensors").unlink()
    soundfile.write(data / "speech" / "a.flac", 0.1 * np.sin(np.arange(30000) / 70), 16000)
    # A stale stage that is killed while it is made anew reuses nothing of its old result.
    assert not survives(partial(train_everything, killed_in="lips-0"), run, None)
    assert survives(train_everything, run, None)
    assert changed() == {"speech", "lips", "talking", "emotion", "voice"}
    fresh = replace(run, out=tmp_path / "fresh")
    assert survives(train_everything, fresh, None)
    same_weights(["speech", "talking", "emotion"])(fresh.out, run.out)
    for path in (fresh.out / "lips").iterdir():
        assert path.read_bytes() == (run.out / "lips" / path.name).read_bytes()


def test_a_run_is_not_overwritten_without_resume(everything):
    before = {path: path.stat().st_mtime_ns for path in everything.out.rglob("*")}
    with pytest.raises(InputError, match="already contains a run"):
        stages.train_all(everything)
    assert {path: path.stat().st_mtime_ns for path in everything.out.rglob("*")} == before


def test_other_settings_do_not_overwrite_a_run(run, monkeypatch):
    def configured(config):
        monkeypatch.setitem(
            stages.TRAINING_STAGES,
            "talking",
            replace(stages.TRAINING_STAGES["talking"], configure=lambda *_: config),
        )

    monkeypatch.setattr(talking_stage, "NOISE_CLIPS", 3)
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    configured(TALKING)
    stages.train("talking", run)
    files = {path: path.read_bytes() for path in run.out.glob("talking*")}
    assert {path.name for path in files} >= {
        "talking.json",
        "talking.checkpoint.safetensors",
        "talking.log.csv",
        "talking.png",
    }
    with (run.out / "talking.log.csv").open() as file:
        rows = list(csv.DictReader(file))
    board = event_accumulator.EventAccumulator(str(run.out / "tensorboard" / "talking")).Reload()
    for name in set(rows[0]) - {"step"}:
        scalars = [(event.step, event.value) for event in board.Scalars(name)]
        assert scalars == [
            (int(row["step"]), pytest.approx(float(row[name]), rel=1e-4)) for row in rows
        ]
    configured(replace(TALKING, mouth=1.0))
    for all_stages in (False, True):
        with pytest.raises(InputError, match=r"started with other settings \(mouth\)"):
            stages.train("talking", replace(run, resume=True), bring_up_to_date=all_stages)
    assert {path: path.read_bytes() for path in files} == files


def wait_for_minutes(path: Path, minutes: float) -> str:
    """Wait until a record counts that many minutes, and return its text."""
    limit = time.monotonic() + HANG_S
    while True:
        text = path.read_text() if path.exists() else ""
        if text and json.loads(text)["minutes"] >= minutes:
            return text
        assert time.monotonic() < limit, text
        time.sleep(0.02)


def test_a_record_has_the_time_of_a_process_that_was_killed(run, monkeypatch):
    monkeypatch.setattr(record, "RECORD_INTERVAL_S", 0.02)
    run, path = replace(run, resume=True), run.out / "talking.json"
    with record.Record(run, "talking", {}, {"data": {}}).measuring():
        left = wait_for_minutes(path, 0.01)  # what a kill at this moment leaves
    assert json.loads(left)["minutes"] >= 0.01 and json.loads(left)["peak_memory_mb"] > 10
    path.write_text(left)
    with record.Record(run, "talking", {}, {"data": {}}).measuring():
        assert json.loads(path.read_text())["minutes"] >= 0.01
        wait_for_minutes(path, 0.02)
    assert json.loads(path.read_text())["minutes"] >= 0.02


# ---------------------------------------------------------------------------------------- workers


def end_itself(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> None:
    raise InputError(f"{number}: refused", "take another")


def begin(folder: Path, name: str) -> None:
    """A task that removes its partial output when it is ended, the second one slowly."""
    (folder / name).touch()
    try:
        time.sleep(HANG_S)
    finally:
        if name == "second":
            time.sleep(0.5)
        (folder / name).unlink()


def never(folder: Path) -> None:
    (folder / "begun").touch()


def begin_or_never(task: tuple[Path, str]) -> None:
    begin(*task) if task[1] else never(task[0])


def test_a_worker_that_is_killed_is_not_waited_for():
    with pytest.raises(TalkemoError, match="killed by the system"):
        list(workers.map_tasks(end_itself, [1, 2], 1))


def test_an_error_in_a_worker_reaches_the_user():
    with pytest.raises(InputError, match="1: refused"):
        list(workers.map_tasks(refuse, [1], 1))


@pytest.mark.parametrize("ended", ["interrupted", "killed"])
def test_workers_end_with_their_caller_and_leave_nothing(tmp_path, ended):
    """Tasks that run remove their partial outputs, and the next ones do not begin."""
    tasks = [(tmp_path, "first"), (tmp_path, "second"), *[(tmp_path, "")] * 3]
    caller = multiprocessing.get_context("spawn").Process(target=run_tasks, args=(tasks,))
    caller.start()
    deadline = time.monotonic() + HANG_S
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == "killed":
        caller.kill()
    else:
        os.kill(caller.pid, signal.SIGINT)
    caller.join(HANG_S)
    assert caller.exitcode not in (0, None)
    deadline = time.monotonic() + HANG_S
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(tmp_path.iterdir())


def run_tasks(tasks: list[tuple[Path, str]]) -> None:
    list(workers.map_tasks(begin_or_never, tasks, 2))
