"""The record of a stage, `out`/STAGE.json: its inputs, its cost, and the quality of its result.

`talkemo train all --resume` uses it to skip stages that are up to date, and registries take the
origin of weights from it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..errors import TalkemoError
from ..files.cache import digest, folder_digest, sha256
from ..files.reading import read_json_object
from ..files.writing import atomic_write
from .run import Run

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

RECORD_DIGEST_DIGITS = 12  # of each digest in a record
MAX_RECORD_BYTES = 1 << 20
RECORD_INTERVAL_S = 30.0  # the record of a killed process lacks at most its last 30 s


class Record:
    """A stage's record in the run's folder."""

    def __init__(self, run: Run, stage: str, settings: dict[str, Any], sources: dict[str, Any]):
        """Read the record of earlier runs.

        Parameters
        ----------
        run : Run
            The run.
        stage : str
            Name of the stage.
        settings : dict
            Of the stage, JSON values.
        sources : dict
            Digests of what the stage depends on: `data` (corpora), `inputs` (results of earlier
            stages) and `fit` (version of the code that fits corpora).
        """
        self.run, self.stage = run, stage
        self.path = run.out / f"{stage}.json"
        self.settings, self.sources = json.loads(json.dumps([settings, sources]))
        described = json.dumps([self.settings, self.sources], sort_keys=True)
        self.fingerprint = digest(described)[:RECORD_DIGEST_DIGITS]
        self.before = _read_record(self.path)
        self.content: dict[str, Any] = {}

    @property
    def provenance(self) -> dict[str, Any]:
        """The origin of the weights, as stated in a weights file."""
        seed = self.settings.get("seed", 0)
        return {"commit": commit(), "seed": seed, "data": self.sources["data"]}

    def is_up_to_date(self, results: Sequence[Path]) -> bool:
        """Return whether the stage is done, from the same inputs, and its results are unchanged."""
        is_done = self._is_same_as_before() and self.before.get("state") == "done"
        return is_done and self.before.get("results") == digests(results)

    def changed(self) -> dict[str, list[str]]:
        """Return the names of `settings` and `sources` that differ from those of earlier runs."""
        differences = {}
        for kind, now in (("settings", self.settings), ("sources", self.sources)):
            then = self.before.get(kind, now)
            if then != now:
                names = {*then, *now}
                differences[kind] = sorted(n for n in names if then.get(n) != now.get(n))
        return differences

    @contextmanager
    def measuring(self, has_begun: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Write the time and memory that the block takes, regularly and when it ends or fails.

        If the run is resumed, the time of earlier runs is added. If the stage is refused (a
        TalkemoError) before it `has_begun`, the earlier record is kept.
        """
        resumes = self.run.resume and self._is_same_as_before()
        used = _ResourceUse(self.before if resumes else {})

        def write() -> None:
            self._write({"state": "begun", **used.total()})

        def write_regularly() -> None:
            while not ended.wait(RECORD_INTERVAL_S):
                with suppress(OSError):  # the last write reports an unusable folder
                    write()

        write()
        ended = threading.Event()
        writer = threading.Thread(target=write_regularly, daemon=True)
        writer.start()
        refused = False
        try:
            yield
        except TalkemoError:
            refused = not has_begun()
            raise
        finally:
            ended.set()
            writer.join()
            if refused:
                self._restore()
            else:
                write()

    def _restore(self) -> None:
        """Write the earlier record again or, if there was none, remove the present one."""
        if not self.run.processes.is_main:
            return
        if self.before:
            self._write_json(self.before)
            return
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            self.path.parent.rmdir()

    def finish(
        self, done: bool, results: Sequence[Path], result: dict[str, Any], metrics: dict[str, Any]
    ) -> None:
        """Write the final record of the stage.

        Parameters
        ----------
        done : bool
            False if the stage was ended by a time limit.
        results : sequence of Path
            Files and folders that the stage made.
        result : dict
            What `train` returned.
        metrics : dict
            Last row of the log of each training.
        """
        state = "done" if done else "begun"
        outcome = {"results": digests(results), "result": result, "metrics": metrics}
        self._write({"state": state, **outcome})

    def _is_same_as_before(self) -> bool:
        return self.before.get("origin") == self.fingerprint

    def _write(self, content: dict[str, Any]) -> None:
        if not self.run.processes.is_main:
            return
        device = self.run.torch_device
        self.content |= {
            "stage": self.stage,
            "origin": self.fingerprint,
            "settings": self.settings,
            "sources": self.sources,
            "commit": commit(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            **content,
        }
        self._write_json(self.content)

    def _write_json(self, content: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _read_record(path: Path) -> dict[str, Any]:
    """Return a record's content; nothing if the file is missing."""
    if not path.is_file():
        return {}
    hint = "remove it, and the stage is repeated"
    return read_json_object(path, "a record of a training", hint, MAX_RECORD_BYTES)


def digests(paths: Sequence[Path]) -> dict[str, str]:
    """Return digests of those files and folders that exist, by their names."""
    by_name = {}
    for path in paths:
        if path.exists():
            content = folder_digest(path) if path.is_dir() else sha256(path)
            by_name[path.name] = content[:RECORD_DIGEST_DIGITS]
    return by_name


@lru_cache(maxsize=1)
def commit() -> str:
    """Return this code's commit, with a + after changes; its version outside a repository."""
    folder = Path(__file__).parents[2]
    try:
        # An installed package may lie inside another project's repository.
        if not (folder / ".git").exists():
            return version("talkemo")
        changes = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "talkemo", "talkemo_cli"
        )
        name = _git(folder, "rev-parse", f"--short={RECORD_DIGEST_DIGITS}", "HEAD")
        return f"{name}+" if changes else name
    except (OSError, subprocess.CalledProcessError, PackageNotFoundError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class _ResourceUse:
    """Time and memory of this process from now on, added to those of an earlier record."""

    def __init__(self, before: dict[str, Any]):
        self._before = before
        self._start, self._processor_s = time.monotonic(), _processor_seconds()
        self._children_mb = _peak_children_mb()
        _reset_peak()

    def total(self) -> dict[str, float]:
        """Return minutes, processor minutes and peak memory in MB."""
        minutes = (time.monotonic() - self._start) / 60
        processor_minutes = (_processor_seconds() - self._processor_s) / 60
        # The peak of all children that ever ended counts only if it has grown.
        children_mb = _peak_children_mb()
        peaks_mb = [_peak_mb(), children_mb if children_mb > self._children_mb else 0]
        return {
            "minutes": round(minutes + self._before.get("minutes", 0.0), 2),
            "processor_minutes": round(
                processor_minutes + self._before.get("processor_minutes", 0.0), 2
            ),
            "peak_memory_mb": max(*peaks_mb, self._before.get("peak_memory_mb", 0)),
        }


def _processor_seconds() -> float:
    """Return the processor time in s of this process and its ended children."""
    if resource is None:
        return time.process_time()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _reset_peak() -> None:
    """Make Linux measure this process's peak memory from now on, if it allows that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> int:
    """Return this process's peak memory in MB, 0 if unknown.

    On Linux it is the peak since the last `_reset_peak`.
    """
    with suppress(OSError, LookupError, ValueError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    return _max_resident_mb(resource.RUSAGE_SELF) if resource else 0


def _peak_children_mb() -> int:
    """Return the peak memory in MB of this process's ended children, 0 if unknown."""
    return _max_resident_mb(resource.RUSAGE_CHILDREN) if resource else 0


def _max_resident_mb(who: int) -> int:
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes on macOS, else kB
    return int(resource.getrusage(who).ru_maxrss) // unit
