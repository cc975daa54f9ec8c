"""Many recordings in processes and on a Dask cluster: equal to one after the other."""

import shutil

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.data import captures
from talkemo.pipelines.batch import animate_many
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
