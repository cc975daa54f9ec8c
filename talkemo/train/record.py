"""What is kept of each stage of a training, `out`/STAGE.json: what it was made of and with, what it took, how good it is.

By this record `talkemo train all --resume` knows what is done already, and a registry says where its weights come from.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..data.kept import digest, folder_digest
from ..errors import InputError
from ..files import atomic_write, readable
from ..weights import sha256
from .run import Run

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

SHORT = 12  # digits of a digest that are written


class Record:
    """A stage's record in the run's folder.

    settings: all that decides what the stage makes, JSON values: its configuration, `data` (digests of the corpora) and
    `inputs` (digests of the earlier stages' results)
    """

    def __init__(self, run: Run, stage: str, settings: dict[str, Any]):
        self.run, self.stage = run, stage
        self.path = run.out / f"{stage}.json"
        self.settings = json.loads(json.dumps(settings))
        self.origin = digest(json.dumps(self.settings, sort_keys=True))[:SHORT]
        found = _read(self.path)
        self.before = found if found.get("origin") == self.origin else {}
        # Whether the folder has this stage, done or begun, of other data, settings or earlier stages.
        self.is_of_others = bool(found) and not self.before

    @property
    def made(self) -> dict[str, Any]:
        """What a weights file says of where it comes from."""
        return {"commit": commit(), "seed": self.settings.get("seed", 0), "data": self.settings["data"]}

    def is_done(self, results: Sequence[Path]) -> bool:
        """Whether the stage was done with these settings, and its results are as it left them."""
        return self.before.get("state") == "done" and self.before["results"] == digests(results)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write what the block takes to the record when it ends, however it does, besides what was taken before."""
        start, used = time.monotonic(), _processor_seconds()
        self._write({"state": "begun"})
        try:
            yield
        finally:
            minutes = (time.monotonic() - start) / 60 + self.before.get("minutes", 0.0)
            processor = (_processor_seconds() - used) / 60 + self.before.get("processor_minutes", 0.0)
            memory = max(_peak_memory(), self.before.get("peak_memory_mb", 0))
            self.before |= {
                "minutes": round(minutes, 2), "processor_minutes": round(processor, 2), "peak_memory_mb": memory
            }  # fmt: skip
            self._write({"state": "begun"})

    def finish(self, done: bool, results: Sequence[Path], result: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write what the stage made. done: not where it was ended by a limit in minutes"""
        found = {"results": digests(results), "result": result, "metrics": metrics}
        self._write({"state": "done" if done else "begun", **found})

    def _write(self, content: dict[str, Any]) -> None:
        if not self.run.together.is_main:
            return
        device = self.run.torch_device
        self.before |= {
            "stage": self.stage,
            "origin": self.origin,
            "settings": self.settings,
            "commit": commit(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            **content,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.before, indent=1) + "\n", "utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with readable(path, "a record of a training", "remove it to have the stage made anew"):
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise InputError(f"{path}: not a record of a training", "remove it to have the stage made anew")
        return found


def digests(paths: Sequence[Path]) -> dict[str, str]:
    """Digests of files by their names, and of folders with all that is in them; of those that are there."""
    found = {}
    for path in paths:
        if path.is_dir():
            folder_digest.cache_clear()  # its files change while a process trains
            found[path.name] = folder_digest(path)[:SHORT]
        elif path.is_file():
            found[path.name] = sha256(path)[:SHORT]
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
        changed = git("status", "--porcelain", "--untracked-files=no", "talkemo", "talkemo_cli").stdout.strip()
        return git("rev-parse", f"--short={SHORT}", "HEAD").stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError, PackageNotFoundError):
        return "unknown"


def _processor_seconds() -> float:
    """Processor time of this process and its children that have ended, in s."""
    if resource is None:
        return time.process_time()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_memory() -> int:
    """The most memory that this process, or one of its children, has had, in MB; 0 where no system says."""
    if resource is None:
        return 0
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
