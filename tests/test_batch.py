"""Many recordings in processes and on a Dask cluster: equal to one after the other."""

import errno
import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.binding import FaceHint
from talkemo.compute import workers
from talkemo.data import captures
from talkemo.pipelines.batch import animate_many, run_tasks
from talkemo.pipelines.batch_tasks import AnimationTask, ReconstructionTask
from talkemo.pipelines.options import (
    AnimateOptions,
    BindingOptions,
    ExportOptions,
    ReconstructOptions,
    RuntimeOptions,
)
from talkemo_cli.app import main


@pytest.fixture
def recordings(tmp_path, short_speech, silence):
    for name, source in (("one", short_speech), ("two", silence), ("three", short_speech)):
        shutil.copy(source, tmp_path / f"{name}.wav")
    (tmp_path / "bad.wav").write_text("not audio")
    return [tmp_path / f"{name}.wav" for name in ("one", "bad", "two", "three")]


def npz(path):
    with np.load(path) as arrays:
        return arrays["vertices"]


def test_processes_give_the_results_of_one(recordings, tmp_path, example_face, capsys, models):
    command = [
        "animate",
        str(example_face),
        *map(str, recordings),
        "--fps",
        "10",
        "--emotion",
        "sad",
    ]
    command += ["--format", "npz", "-o", str(tmp_path / "out"), "--jobs", "2"]
    assert main(command) == 1
    output = capsys.readouterr()
    assert (
        "bad.wav" in output.err
        and "1 of 4 recordings failed" in output.err
        and len(output.out.splitlines()) == 3
    )
    wanted = talkemo.animate(example_face, recordings[0], emotion="sad", fps=10, models=models)
    np.testing.assert_allclose(npz(tmp_path / "out" / "one_sad.npz"), wanted.vertices, atol=1e-5)
    np.testing.assert_array_equal(
        npz(tmp_path / "out" / "one_sad.npz"), npz(tmp_path / "out" / "three_sad.npz")
    )
    assert main([*command[:3], "--jobs", "2", "-o", str(tmp_path / "a.npz")]) == 2
    assert (
        main([*command[:3], "--scheduler", "tcp://127.0.0.1:1", "-o", str(tmp_path / "a.npz")]) == 2
    )


def test_a_cluster_fits_a_corpus_with_equal_results(corpus, fitted, face, models):
    distributed = pytest.importorskip("distributed", reason="pip install 'talkemo[cluster]'")
    with distributed.LocalCluster(
        n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        found = captures.fit_corpus("ravdess", corpus, models, scheduler=cluster.scheduler_address)
    assert [one.name for one in found] == [one.name for one in fitted[1]]
    for one, other in zip(found, fitted[1]):
        np.testing.assert_array_equal(one.capture.shapes, other.capture.shapes)


def test_a_cluster_animates_with_equal_results(recordings, tmp_path, example_face, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="pip install 'talkemo[cluster]'")
    batch = [(audio, [tmp_path / f"{audio.stem}.npz"]) for audio in recordings]
    with distributed.LocalCluster(
        n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        done = {
            one.audio.stem: one
            for one in animate_many(
                example_face, batch, fps=10, scheduler=cluster.scheduler_address
            )
        }
    assert done["bad"].result is None and "bad.wav" in done["bad"].error and done["bad"].hint
    assert done["one"].result.frames == len(npz(tmp_path / "one.npz"))
    with pytest.raises(InputError, match="no cluster answers"):
        [*animate_many(example_face, batch, scheduler="tcp://127.0.0.1:1")]


@dataclass(frozen=True)
class Killer:
    """A task that ends its process as the system does when memory runs out, or writes a file."""

    kind: ClassVar[str] = "input"
    source: Path
    outputs: list[Path]
    kills: bool
    where: str = ""

    def run(self, progress=None):
        if self.kills:
            os.kill(os.getpid(), 9)
        self.outputs[0].write_text("done")
        return self.outputs[0].name


def test_a_killed_process_does_not_end_the_batch(tmp_path):
    tasks = [Killer(Path(f"{k}.wav"), [tmp_path / str(k)], k in (1, 3)) for k in range(5)]
    outcomes = list(run_tasks(tasks, processes=2))
    assert [one.result for one in outcomes] == ["0", None, "2", None, "4"]
    assert outcomes[1].error.startswith("1.wav: a worker process was killed")


def test_a_failing_machine_is_reported_in_two_lines(
    tmp_path, recordings, example_face, capsys, monkeypatch
):
    animate = talkemo.pipelines.batch_tasks.animate

    def full(binding, audio, outputs, *arguments, **keywords):
        if audio.stem == "two":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(outputs[0]))
        if audio.stem == "three":
            raise MemoryError
        return animate(binding, audio, outputs, *arguments, **keywords)

    monkeypatch.setattr("talkemo.pipelines.batch_tasks.animate", full)
    names = [*map(str, recordings), str(tmp_path / "none.wav")]
    out = tmp_path / "out"
    command = ["animate", str(example_face), *names, "--format", "csv", "--fps", "10", "-q"]
    assert main([*command, "-o", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and all(line.startswith("  ") for line in lines[1::2])
    assert lines[2].startswith(
        f"talkemo: {recordings[2]}: {out / 'two_neutral.csv'}: no space left"
    )
    assert lines[4] == f"talkemo: {recordings[3]}: out of memory" and "none.wav" in lines[6]
    assert (
        lines[8].startswith("talkemo: 4 of 5 recordings failed")
        and lines[9] == "  the others are done"
    )
    assert main([*command, "-o", str(out), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [Path(one["audio"]).stem for one in result["failed"]] == ["bad", "two", "three", "none"]
    assert all(one["hint"] for one in result["failed"]) and result["recordings"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_an_odd_file_name_does_not_end_the_batch(tmp_path, silence, capfd):
    in_bytes = (b"\xff\xe9.wav", "caf\u00e9 \u2603\n.wav".encode(), b"-x.wav", b"plain.wav")
    names = [os.fsdecode(name) for name in in_bytes]
    for name in names:
        shutil.copy(silence, tmp_path / name)
    out = tmp_path / "out"
    formats = [word for name in ("csv", "npz", "html") for word in ("--format", name)]
    paths = [str(tmp_path / name) for name in names]
    assert main(["animate", "-", *paths, *formats, "--fps", "10", "-o", str(out)]) == 0
    made = sorted(path.name for path in out.iterdir())
    assert len(made) == 12 and f"{names[0][:-4]}_neutral.csv" in made
    assert "4 of 4 recordings done" in capfd.readouterr().err


def test_tasks_for_a_cluster_have_absolute_paths(tmp_path, silence, models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(silence, "a.wav")
    Path("moods.txt").write_text("0 1 sad\n")
    options = AnimateOptions(
        timeline="moods.txt",
        fps=10,
        hint=FaceHint(landmarks="l.txt"),
        weights="run",
        export=ExportOptions(shape_map="a.map"),
    )
    sent = AnimationTask("face.obj", Path("a.wav"), [Path("a.csv")], options).absolute()
    assert (sent.face, sent.source) == (str(tmp_path / "face.obj"), tmp_path / "a.wav")
    assert sent.outputs == [tmp_path / "a.csv"] and sent.options.weights == tmp_path / "run"
    assert sent.options.timeline == tmp_path / "moods.txt"
    assert sent.options.hint.landmarks == tmp_path / "l.txt"
    assert sent.options.export.shape_map == tmp_path / "a.map"
    for weights in ("default", "hf://someone/set@main"):
        same = AnimationTask("-", Path("a.wav"), [], AnimateOptions(weights=weights)).absolute()
        assert (same.face, same.options.weights) == ("-", weights)
    task = ReconstructionTask(
        Path("v.mp4"),
        [Path("v.npz")],
        "face.obj",
        ReconstructOptions(model="m.npz", audio="a.wav"),
        export=ExportOptions(shape_map="a.map"),
        target=BindingOptions(hint=FaceHint(binding="b.npz")),
        runtime=RuntimeOptions(weights="run"),
        video=Path("w.mp4"),
    ).absolute()
    for path in (
        task.source,
        task.outputs[0],
        task.onto,
        task.options.model,
        task.options.audio,
        task.export.shape_map,
        task.target.hint.binding,
        task.runtime.weights,
        task.video,
    ):
        assert Path(path).is_absolute()

    def elsewhere(function, tasks, jobs, scheduler, on_failure=None):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        return map(function, tasks)

    monkeypatch.setattr(workers, "map_tasks", elsewhere)
    relative = [AnimationTask("-", Path("a.wav"), [Path("a.csv")], AnimateOptions(fps=10))]
    (outcome,) = run_tasks(relative, scheduler="tcp://host:1")
    assert outcome.result.outputs == [tmp_path / "a.csv"] and (tmp_path / "a.csv").is_file()


def test_a_failed_task_of_a_cluster_is_reported(monkeypatch, tmp_path):
    distributed = pytest.importorskip("distributed", reason="pip install 'talkemo[cluster]'")
    (tmp_path / "b").mkdir()
    with distributed.LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        map_to_cluster = partial(workers.map_tasks, jobs=1, scheduler=cluster.scheduler_address)
        paths = [tmp_path / name for name in "abc"]
        results = [*map_to_cluster(os.mkdir, paths, on_failure=lambda task, error: (task, error))]
    ((task, error),) = [result for result in results if result is not None]
    assert task == tmp_path / "b" and "FileExistsError" in error.message and len(results) == 3


def test_standard_input_stays_in_this_process(example_face, tmp_path, capsys):
    command = ["animate", str(example_face), "-", "a.wav", "-o", str(tmp_path / "out")]
    assert main([*command, "--jobs", "2"]) == 2
    assert "cannot be sent to other processes" in capsys.readouterr().err
