"""Runs that are ended or killed leave no incomplete output under a final name.

TALKEMO_KILLS=20 pytest tests/test_interrupted.py: more kills than in CI.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from fuzzing import small_files
from waiting import HANG_S

from talkemo.formats.npz import NpzAnimation
from talkemo_cli.app import main

KILLS = int(os.environ.get("TALKEMO_KILLS", "3"))  # of each kind
OUTPUTS = ("a.npz", "a.mp4", "a.glb", "a.csv", "a.usdc", "frames")


def arguments(folder: Path, face: Path, speech: Path, *outputs: str) -> list[str]:
    """Arguments of a run of animate."""
    options = [word for output in outputs for word in ("-o", str(folder / output))]
    return ["animate", str(face), str(speech), "-q", "--fps", "60", "--size", "128", *options]


def start(folder: Path, face: Path, speech: Path, *outputs: str) -> subprocess.Popen:
    """A run of animate in a process of its own."""
    command = [sys.executable, "-m", "talkemo_cli", *arguments(folder, face, speech, *outputs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_partials(folder: Path, running: subprocess.Popen, count: int) -> None:
    """Wait until a run has begun to write."""
    deadline = time.monotonic() + HANG_S
    while (
        len(list(folder.iterdir())) < count
        and running.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)


def check_whole(folder: Path) -> None:
    """Check that every file with a final name can be read."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix == ".npz":
            assert np.isfinite(NpzAnimation(path).vertices()).all()
        elif path.suffix == ".mp4":
            assert len(imageio.imread(path)) > 30


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_terminated_run_leaves_nothing(tmp_path, example_face, short_speech, name):
    rng = random.Random(name)
    for _ in range(max(1, KILLS // 3)):
        running = start(tmp_path, example_face, short_speech, *OUTPUTS)
        wait_for_partials(tmp_path, running, rng.randint(1, len(OUTPUTS)))
        time.sleep(rng.uniform(0, 0.3))
        running.send_signal(getattr(signal, name))
        running.communicate(timeout=HANG_S)
        if running.returncode:  # unless it had just finished
            number = getattr(signal, name)
            assert running.returncode in (128 + number, -number)  # the same to a shell
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert not left
        check_whole(tmp_path)
        for path in tmp_path.iterdir():
            if path.is_dir():
                for frame in path.iterdir():
                    frame.unlink()
                path.rmdir()


def test_a_killed_run_leaves_nothing_under_a_final_name(tmp_path, example_face, short_speech):
    rng = random.Random(9)
    for _ in range(KILLS):
        running = start(tmp_path, example_face, short_speech, "a.npz", "a.mp4")
        wait_for_partials(tmp_path, running, rng.randint(1, 2))
        time.sleep(rng.uniform(0, 0.5))
        running.kill()
        running.communicate(timeout=HANG_S)
        check_whole(tmp_path)


def test_a_killed_batch_can_be_resumed(tmp_path, example_face, short_speech):
    recordings = []
    for number in range(4):
        recordings.append(tmp_path / f"{number}.wav")
        recordings[-1].write_bytes(short_speech.read_bytes())
    command = [
        sys.executable,
        "-m",
        "talkemo_cli",
        "animate",
        str(example_face),
        *map(str, recordings),
        "-q",
        "--fps",
        "60",
    ]

    def batch(folder: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, "--format", "npz", "--resume", "-o", str(folder)], stdout=subprocess.DEVNULL
        )

    assert batch(tmp_path / "whole").wait(HANG_S) == 0
    folder, rng = tmp_path / "killed", random.Random(4)
    for _ in range(KILLS):
        running = batch(folder)
        time.sleep(rng.uniform(0.5, 3.0))
        running.kill()
        running.wait(HANG_S)
    finished = {
        path: path.stat().st_mtime_ns
        for path in folder.glob("*.npz")
        if not path.name.startswith(".")
    }
    assert batch(folder).wait(HANG_S) == 0
    assert all(
        path.stat().st_mtime_ns == when for path, when in finished.items()
    )  # what was done is not done again
    for path in (tmp_path / "whole").iterdir():
        np.testing.assert_array_equal(
            NpzAnimation(folder / path.name).vertices(), NpzAnimation(path).vertices()
        )


def test_an_interrupted_batch_leaves_nothing_hidden(tmp_path, example_face, short_speech):
    """Ctrl-C reaches the processes when they have just begun to write."""
    recordings, folder = [tmp_path / f"{number}.wav" for number in range(6)], tmp_path / "out"
    for path in recordings:
        path.write_bytes(short_speech.read_bytes())
    folder.mkdir()
    formats = ["--format", "npz", "--format", "glb", "--jobs", "2"]
    command = [
        sys.executable,
        "-m",
        "talkemo_cli",
        "animate",
        example_face,
        *recordings,
        "-o",
        folder,
    ]
    running = subprocess.Popen(
        list(map(str, [*command, *formats])),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_partials(folder, running, 1)
    os.killpg(running.pid, signal.SIGINT)
    _, messages = running.communicate(timeout=HANG_S)
    assert running.returncode == 130 and "Traceback" not in messages
    assert not folder.exists() or not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_two_runs_with_one_output_leave_one_whole_file(tmp_path, example_face, short_speech):
    running = [start(tmp_path, example_face, short_speech, "a.npz", "a.mp4") for _ in range(2)]
    for process in running:
        assert process.wait(HANG_S) == 0
        process.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.npz"]
    check_whole(tmp_path)


def test_files_beside_an_output_are_never_touched(tmp_path, example_face, short_speech):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    beside = {
        ".a.partial.npz": "link",
        ".a.npz": "file",
        ".talkemo-1-x.npz": "link",
        "a.npz.part": "file",
    }
    for name, kind in beside.items():
        if kind == "link":
            (folder / name).symlink_to(secret)
        else:
            (folder / name).write_text("mine")
    (folder / ".frames.partial").mkdir()
    (folder / ".frames.partial" / "mine").write_text("mine")
    running = start(folder, example_face, short_speech, "a.npz", "frames")
    _, messages = running.communicate(timeout=HANG_S)
    assert running.returncode == 0, messages
    assert (
        secret.read_text() == "mine" and (folder / ".frames.partial" / "mine").read_text() == "mine"
    )
    assert all((folder / name).read_text() == "mine" for name in beside)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_full_disk_keeps_the_old_output(tmp_path, example_face, short_speech, output, capsys):
    """A small limit on the size of a file stands in for a full disk."""
    path = tmp_path / output
    if path.suffix:
        path.write_text("the old one")
    with small_files(2000):
        status = main(arguments(tmp_path, example_face, short_speech, output))
    out, messages = capsys.readouterr()
    lines = messages.strip().splitlines()
    assert status == 1 and out == "" and len(lines) == 2, messages
    assert lines[0].startswith("talkemo: ") and output in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ([output] if path.suffix else [])
    assert not path.suffix or path.read_text() == "the old one"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_long_speech_takes_no_more_memory_than_short(tmp_path, example_face, example_speech):
    """Memory hardly grows with the length; frames held in memory would take 105 MB."""
    import soundfile

    samples, rate = soundfile.read(example_speech)
    largest = []
    for seconds in (130, 200):  # both longer than what is kept in memory of a recording
        soundfile.write(tmp_path / "long.wav", np.resize(samples, seconds * rate), rate)
        command = [
            sys.executable,
            "-m",
            "talkemo_cli",
            "animate",
            str(example_face),
            str(tmp_path / "long.wav"),
            "-q",
        ]
        process = subprocess.Popen(
            [*command, "--fps", "10", "--emotion", "sad", "-o", str(tmp_path / "a.npz")]
        )
        largest.append(0.0)
        while process.poll() is None:
            largest[-1] = max(largest[-1], peak_memory(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0
    assert 100 < largest[0] < 1000 and largest[1] - largest[0] < 40  # MB


def peak_memory(pid: int) -> float:
    """Peak memory of a running process in MB; rusage of an ended child includes its parent's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
