"""Two processes that train together have the losses and weights of one with twice the batch."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from talkemo.networks.speech_encoder import SCALE_SUFFIX
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
# The options for a machine with two GPUs; with --device cpu the processes use the CPU.
TWO = (
    *("-m", "accelerate.commands.launch", "--multi_gpu"),
    *("--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
)


def start(arguments) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder: Path) -> dict[str, np.ndarray]:
    """The columns of all logs in a folder."""
    columns = {}
    for path in sorted(folder.glob("*.log.csv")):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        for name in rows[0]:
            columns[f"{path.name} {name}"] = np.array([float(row[name]) for row in rows])
    return columns


def weights(path: Path, stage: str) -> tuple[dict[str, np.ndarray], set[str]]:
    """The numbers that a file stands for, and the names of those that are stored as int8 codes.

    The encoder's changes are codes with a power of two as the scale of each row. If a row's largest
    change is near a power of two, rounding decides which one, and whether all codes of the row are
    twice as large: codes can only be compared with their scales.
    """
    tensors = load_weights(path, stage)[0]
    coded = {name.removesuffix(SCALE_SUFFIX) for name in tensors if name.endswith(SCALE_SUFFIX)}
    numbers = {}
    for name, tensor in tensors.items():
        if name in coded:
            numbers[name] = tensor.astype(float) * tensors[name + SCALE_SUFFIX]
        elif not name.endswith(SCALE_SUFFIX) and not name.startswith("random/"):
            numbers[name] = tensor.astype(float)
    return numbers, coded


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
        (of_one, coded), (of_two, _) = (weights(folder / stage / file, kind) for folder in trained)
        assert set(of_one) == set(of_two)
        for name, tensor in of_one.items():
            length, distance = np.linalg.norm(tensor), np.linalg.norm(of_two[name] - tensor)
            smallest = 0.0 if name in coded else 1e-3
            assert distance <= 0.01 * length + smallest, f"{file}: {name}"


def test_two_processes_have_the_gradients_of_one_to_rounding(trained):
    """In later steps Adam turns the rounding of gradients near zero into differences of weights."""
    path = Path("first_step") / "talking.checkpoint.safetensors"
    (of_one, _), (of_two, _) = (weights(folder / path, "checkpoint") for folder in trained)
    gradients = {name: g for name, g in of_one.items() if name.endswith("exp_avg")}
    assert len(gradients) > 50
    for name, gradient in gradients.items():
        distance = np.linalg.norm(of_two[name] - gradient)
        assert distance <= 1e-5 * np.linalg.norm(gradient) + 1e-8, name


def test_two_processes_keep_one_record_of_each_stage(trained):
    for folder in trained:
        first, second = json.loads((folder / "all" / "results.txt").read_text())
        assert not any("up_to_date" in result for result in first.values())
        assert all(result["up_to_date"] for result in second.values())
        records = [json.loads((folder / "all" / f"{stage}.json").read_text()) for stage in first]
        assert [record["state"] for record in records] == ["done"]
