"""A run of training: where its stages read and write, and what they start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.captures import StepProgress
from ..errors import InputError
from ..files.cache import sha256
from ..weights.files import save_weights
from ..weights.models import Models, open_set
from ..weights.registry import DEFAULT_SET, REGISTRY_NAME, write_registry
from ..weights.weight_set import WeightSet
from .processes import TrainingProcesses, training_processes

if TYPE_CHECKING:
    import torch

START_DIGEST_DIGITS = 16  # of the start weights' sha256 in checkpoints


@dataclass(frozen=True, eq=False)
class StartWeights:
    """The weights file that a stage's network starts from, and its content."""

    path: Path
    tensors: dict[str, Any]
    settings: dict[str, Any]

    def check(self, **dimensions: tuple[Any, Any]) -> None:
        """Raise InputError unless NAME=(value of these weights, value of the training) agree."""
        for name, (stored, trained) in dimensions.items():
            if stored != trained:
                raise InputError(
                    f"{self.path}: training cannot start from these weights: "
                    f"{name.replace('_', ' ')} {_short(stored)}, but {_short(trained)} in this "
                    "training",
                    "start from another set, or leave --weights out",
                )


def _short(value: Any) -> str:
    is_long = isinstance(value, list | tuple) and len(value) > 8
    return f"{len(value)} names" if is_long else str(value)


@dataclass(frozen=True)
class Run:
    """A run of training: folders, start weights, limits and callbacks."""

    data: Path  # folder of the corpora
    out: Path  # folder of weights, checkpoints, logs and captures
    weights: str | Path = DEFAULT_SET  # set of the models that `out` lacks, see `load_models`
    start: bool = False  # whether a stage's own network starts from that set's weights, too
    resume: bool = False  # whether to go on from the checkpoints in `out`
    max_minutes: float | None = None  # time limit of each training
    jobs: int = 1  # processes that fit corpora and prepare audio
    device: str = "auto"  # where networks are trained: auto, cpu or cuda
    captures_folder: Path | None = None  # of fitted corpora; one in `out` if None
    # Digest of a stage's settings and data, which its checkpoints and labels have to match, and
    # whether stale ones are made again instead of being refused.
    fingerprint: str = ""
    discard_stale: bool = False
    # What weights files say about their origin, see `Record.provenance`.
    provenance: dict[str, Any] = field(default_factory=dict)
    # Called with the name of a task, the steps done and their total; with messages for the user.
    progress: StepProgress | None = field(default=None, compare=False)
    notice: Callable[[str], None] | None = field(default=None, compare=False)

    @property
    def captures(self) -> Path:
        """The folder of fitted corpora."""
        return self.captures_folder or self.out / "captures"

    @property
    def prepared_audio(self) -> Path:
        """The folder of audio that the speech stage prepared."""
        return self.out / "speech"

    @property
    def pseudo_labels(self) -> Path:
        """The folder of the prepared audio's motion, which the lips stage predicted."""
        return self.out / "lips"

    def report(self, task: str, done: int, total: int) -> None:
        """Report the progress of a task to the caller."""
        if self.progress:
            self.progress(task, done, total)

    def notify(self, message: str) -> None:
        """Give the caller a message for the user."""
        if self.notice and self.processes.is_main:
            self.notice(message)

    @cached_property
    def start_models(self) -> Models:
        """The models of the set `weights`; stages that it lacks come from the default set."""
        sets = [open_set(self.weights)]
        if sets[0].name != DEFAULT_SET:
            sets.append(open_set(DEFAULT_SET))
        return Models(sets, self.device)

    @property
    def torch_device(self) -> torch.device:
        """Where networks are trained. Raises InputError for CUDA without a GPU."""
        return self.processes.device or self.start_models.device

    @property
    def processes(self) -> TrainingProcesses:
        """The processes of this training."""
        return training_processes(self.device)

    def on_main_process(self, work: Callable[[], object]) -> None:
        """Do work in the main process while the others wait."""
        if self.processes.is_main:
            work()
        self.processes.wait()

    def start_weights(self, stage: str) -> StartWeights | None:
        """Return the weights that a stage's network starts from; None for random ones."""
        if not self._has_start_weights(stage):
            return None
        return StartWeights(self.start_models.path(stage), *self.start_models.load(stage))

    def start_digest(self, stage: str) -> str | None:
        """Return a digest of the start weights, by which a checkpoint knows its start."""
        if not self._has_start_weights(stage):
            return None
        return sha256(self.start_models.path(stage))[:START_DIGEST_DIGITS]

    def _has_start_weights(self, stage: str) -> bool:
        """Return whether the set `weights` itself has a stage; the default set does not count."""
        return self.start and self.start_models.sets[0].path(stage) is not None

    def models(self) -> Models:
        """Read the models trained so far; other stages come from `start_models`."""
        # Without the registry, which is written after the files.
        trained = WeightSet(str(self.out), self.out)
        return Models([trained, *self.start_models.sets], self.device)

    def save(self, stage: str, tensors: dict[str, Any], settings: dict[str, Any]) -> Path:
        """Write a stage's weights with their face and provenance; return the file.

        Of several processes, the main one writes.
        """
        path = self.out / f"{stage}.safetensors"
        if not self.processes.is_main:
            return path
        if stage not in ("face", "speech", "voice"):
            face = self.models().face
            names = list(face.expression_names)
            settings = {**settings, "face": face.fingerprint, "expression_names": names}
        if self.provenance:
            settings = {**settings, "made": self.provenance}
        # A set without a registry can be used, so a crash between these lines does no harm.
        (self.out / REGISTRY_NAME).unlink(missing_ok=True)
        save_weights(path, stage, tensors, settings)
        write_registry(self.out)
        return path
