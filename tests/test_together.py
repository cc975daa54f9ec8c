"""Two processes that train together have the losses of one with twice the batch, and end in its weights."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from talkemo.weights.files import load_weights

pytest.importorskip("accelerate", reason="training in several processes needs accelerate")
SCRIPT = Path(__file__).with_name("trained_together.py")
RESULTS = {
    "talking": [("talking.safetensors", "talking")],
    "speech": [("speech.safetensors", "speech")],
    "lips": [
        ("lips-0.checkpoint.safetensors", "checkpoint"),
        ("lips-1.checkpoint.safetensors", "checkpoint"),
    ],
    "emotion": [("emotion.safetensors", "emotion"), ("discriminator.safetensors", "discriminator")],
}
# As on a machine with two GPUs; processes that are told to use the CPU use that.
TWO = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
       "--mixed_precision", "no", "--dynamo_backend", "no")  # fmt: skip


def start(arguments) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.log.csv")):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        found |= {
            f"{path.name} {name}": np.array([float(row[name]) for row in rows]) for name in rows[0]
        }
    return found


@pytest.fixture(scope="module")
def trained(spoken_corpus, fitted, tmp_path_factory) -> tuple[Path, Path]:
    """The folders of one process, and of two with half its batch each."""
    out, captures = tmp_path_factory.mktemp("trained"), fitted[0] / "captures"
    start([SCRIPT, spoken_corpus, captures, out / "one", 4])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start([*TWO, "--main_process_port", port, SCRIPT, spoken_corpus, captures, out / "two", 2])
    return out / "one", out / "two"


@pytest.mark.parametrize("stage", RESULTS)
def test_two_processes_are_as_one_with_twice_the_batch(stage, trained):
    one, two = (losses(folder / stage) for folder in trained)
    assert one and set(one) == set(two)
    for name, wanted in one.items():
        np.testing.assert_allclose(two[name], wanted, rtol=3e-4, atol=1e-5, err_msg=name)
    for file, kind in RESULTS[stage]:
        wanted, found = (load_weights(folder / stage / file, kind)[0] for folder in trained)
        assert set(wanted) == set(found)
        for name, tensor in wanted.items():
            if not name.startswith("random/"):
                length, apart = (
                    np.linalg.norm(x)
                    for x in (tensor.astype(float), found[name].astype(float) - tensor)
                )
                assert apart <= 0.01 * length + 1e-3, f"{file}: {name}"


def test_two_processes_keep_one_record_of_each_stage(trained):
    for folder in trained:
        first, second = json.loads((folder / "all" / "results.txt").read_text())
        assert not any("up_to_date" in result for result in first.values())
        assert all(result["up_to_date"] for result in second.values())
        records = [json.loads((folder / "all" / f"{stage}.json").read_text()) for stage in first]
        assert [record["state"] for record in records] == ["done"]
