"""What is kept of each stage of a training, `out`/STAGE.json: what it was made of and with, what it took, how good it is.

By this record `talkemo train all --resume` knows what is done already, and a registry says where its weights come from.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..files.cache import digest, folder_digest, sha256
from ..files.reading import read_json_object
from ..files.writing import atomic_write
from .run import Run

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

SHORT = 12  # digits of a digest that are written
LARGEST = 1 << 20  # bytes of a record
WRITE_EVERY = 30.0  # s: a process that is killed loses no more of its time


class Record:
    """A stage's record in the run's folder.

    settings: of the stage, JSON values; sources: digests of what it is made from, by name: `data` (the corpora), `inputs`
    (the earlier stages' results) and `fit` (the version of the code that fits corpora)
    """

    def __init__(self, run: Run, stage: str, settings: dict[str, Any], sources: dict[str, Any]):
        self.run, self.stage = run, stage
        self.path = run.out / f"{stage}.json"
        self.settings, self.sources = json.loads(json.dumps([settings, sources]))
        self.origin = digest(json.dumps([self.settings, self.sources], sort_keys=True))[:SHORT]
        self.before = _read(self.path)  # as it was left
        self.content: dict[str, Any] = {}

    @property
    def made(self) -> dict[str, Any]:
        """What a weights file says of where it comes from."""
        return {
            "commit": commit(),
            "seed": self.settings.get("seed", 0),
            "data": self.sources["data"],
        }

    def is_done(self, results: Sequence[Path]) -> bool:
        """Whether the stage was done with these settings from these sources, and its results are as it left them."""
        known = self.before.get("origin") == self.origin and self.before.get("state") == "done"
        return known and self.before.get("results") == digests(results)

    def changed(self) -> dict[str, list[str]]:
        """What differs from what the stage was begun or done with: names of `settings` and of `sources`; neither if empty.

        Nothing differs where the folder has no record.
        """
        found = {}
        for kind, now in (("settings", self.settings), ("sources", self.sources)):
            then = self.before.get(kind, now)
            if then != now:
                found[kind] = sorted(
                    name for name in {*then, *now} if then.get(name) != now.get(name)
                )
        return found

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write what the block takes to the record, every WRITE_EVERY seconds and when it ends, however it does.

        Where the run goes on with what was begun, that is added to what was taken before.
        """
        goes_on = self.run.resume and self.before.get("origin") == self.origin
        before = self.before if goes_on else {}
        start, used, children = time.monotonic(), _processor_seconds(), _peak_of_children()
        _forget_peak()

        def write() -> None:
            minutes = (time.monotonic() - start) / 60 + before.get("minutes", 0.0)
            processor = (_processor_seconds() - used) / 60 + before.get("processor_minutes", 0.0)
            of_children = (
                _peak_of_children()
            )  # of all that have ended: it counts where it has grown
            memory = max(
                _peak(),
                of_children if of_children > children else 0,
                before.get("peak_memory_mb", 0),
            )
            taken = {
                "minutes": round(minutes, 2),
                "processor_minutes": round(processor, 2),
                "peak_memory_mb": memory,
            }
            self._write({"state": "begun", **taken})

        def write_often() -> None:
            while not ended.wait(WRITE_EVERY):
                with suppress(OSError):  # the last one says what is wrong with the folder
                    write()

        write()
        ended = threading.Event()
        writer = threading.Thread(target=write_often, daemon=True)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()
            write()

    def finish(
        self, done: bool, results: Sequence[Path], result: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write what the stage made. done: not where it was ended by a limit in minutes"""
        found = {"results": digests(results), "result": result, "metrics": metrics}
        self._write({"state": "done" if done else "begun", **found})

    def _write(self, content: dict[str, Any]) -> None:
        if not self.run.together.is_main:
            return
        device = self.run.torch_device
        self.content |= {
            "stage": self.stage,
            "origin": self.origin,
            "settings": self.settings,
            "sources": self.sources,
            "commit": commit(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            **content,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")


def _read(path: Path) -> dict[str, Any]:
    hint = "remove it to have the stage made anew"
    return read_json_object(path, "a record of a training", hint, LARGEST) if path.is_file() else {}


def digests(paths: Sequence[Path]) -> dict[str, str]:
    """Digests of files by their names, and of folders with all that is in them; of those that are there."""
    found = {}
    for path in paths:
        if path.exists():
            found[path.name] = (folder_digest(path) if path.is_dir() else sha256(path))[:SHORT]
    return found


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit of this code, with a + where files were changed since; its version where it is not in a repository."""
    folder = Path(__file__).parents[2]
    try:
        # An installed package may lie inside another project's repository.
        if not (folder / ".git").exists():
            return version("talkemo")
        git = lambda *words: subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "talkemo", "talkemo_cli"
        ).stdout.strip()
        return git("rev-parse", f"--short={SHORT}", "HEAD").stdout.strip() + (
            "+" if changed else ""
        )
    except (OSError, subprocess.CalledProcessError, PackageNotFoundError):
        return "unknown"


def _processor_seconds() -> float:
    """Processor time of this process and its children that have ended, in s."""
    if resource is None:
        return time.process_time()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _forget_peak() -> None:
    """Have Linux measure the peak of this process's memory from now on, where it lets that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory that this process has had, in MB: on Linux since `_forget_peak`. 0 where no system says."""
    with suppress(OSError, LookupError, ValueError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    return _megabytes(resource.RUSAGE_SELF) if resource else 0


def _peak_of_children() -> int:
    """The most memory that one of the ended children of this process has had, in MB. 0 where no system says."""
    return _megabytes(resource.RUSAGE_CHILDREN) if resource else 0


def _megabytes(who: int) -> int:
    return int(resource.getrusage(who).ru_maxrss) // (
        1 << 20 if sys.platform == "darwin" else 1 << 10
    )
