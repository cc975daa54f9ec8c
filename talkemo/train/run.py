"""What all stages of training share."""

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
from ..weights.registry import DEFAULT_SET, REGISTRY_NAME, WeightSet, write_registry
from .together import Together, together

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class StartWeights:
    """The weights that a stage's network starts from. path: their file."""

    path: Path
    tensors: dict[str, Any]
    settings: dict[str, Any]

    def check(self, **dimensions: tuple[Any, Any]) -> None:
        """Raise InputError unless the dimensions agree: name=(what these weights have, what is trained)."""
        for name, (found, wanted) in dimensions.items():
            if found != wanted:
                raise InputError(
                    f"{self.path}: training cannot start from these weights: {name.replace('_', ' ')} "
                    f"{_short(found)}, but {_short(wanted)} in this training",
                    "start from another set, or leave --weights out",
                )


def _short(value: Any) -> str:
    return (
        f"{len(value)} names" if isinstance(value, list | tuple) and len(value) > 8 else str(value)
    )


@dataclass(frozen=True)
class Run:
    """One training: where it reads and writes, and what it starts from.

    data: the folder of the corpora; out: the folder for weights, checkpoints, logs and captures
    weights: the set that earlier stages come from where `out` does not have them, see `load_models`
    start: whether the stage's own network starts at that set's weights, where it has them, instead of at random ones
    resume: whether to go on from the checkpoint in `out`; max_minutes: limit of a stage's training
    jobs: processes that fit corpora; device: where networks are trained: auto, cpu or cuda
    captures_folder: where fitted corpora are, or are put; a folder in `out` if None
    origin: a digest of the settings and data of the stage, which its checkpoints and labels must have; nothing if empty
    redo: whether what has another origin is discarded, where `resume` alone refuses it
    made: what weights files say of where they come from, see `record.Record`
    progress: called with what is being done, the steps done and their total; notice: called with what a user should know
    """

    data: Path
    out: Path
    weights: str | Path = DEFAULT_SET
    start: bool = False
    resume: bool = False
    max_minutes: float | None = None
    jobs: int = 1
    device: str = "auto"
    captures_folder: Path | None = None
    origin: str = ""
    redo: bool = False
    made: dict[str, Any] = field(default_factory=dict)
    progress: StepProgress | None = field(default=None, compare=False)
    notice: Callable[[str], None] | None = field(default=None, compare=False)

    @property
    def captures(self) -> Path:
        """The folder of fitted corpora: captures_folder, or one in `out`."""
        return self.captures_folder or self.out / "captures"

    @property
    def prepared(self) -> Path:
        """The folder of sound that the speech stage prepared."""
        return self.out / "speech"

    @property
    def labels(self) -> Path:
        """The folder of that sound's motion, as the lips stage's teachers predict it."""
        return self.out / "lips"

    def report(self, what: str, done: int, total: int) -> None:
        """Tell the caller how far a step is."""
        if self.progress:
            self.progress(what, done, total)

    def tell(self, text: str) -> None:
        """Tell the caller something that a user should know."""
        if self.notice and self.together.is_main:
            self.notice(text)

    @cached_property
    def start_models(self) -> Models:
        """The models that the run starts from: those of `weights`, over the default set's."""
        sets = [open_set(self.weights)]
        return Models(
            sets if sets[0].name == DEFAULT_SET else [*sets, open_set(DEFAULT_SET)], self.device
        )

    @property
    def torch_device(self) -> torch.device:
        """Where networks are trained. Raises InputError where CUDA is asked for and there is none."""
        return self.together.device or self.start_models.device

    @property
    def together(self) -> Together:
        """The processes that train together, of which this is one."""
        return together(self.device)

    def alone(self, work: Callable[[], object]) -> None:
        """Have the main process do what one process is enough for, while the others wait."""
        if self.together.is_main:
            work()
        self.together.wait()

    def start_weights(self, stage: str) -> StartWeights | None:
        """The weights that a stage's network starts from, None where it starts from random ones.

        Only the set of `weights` itself counts, not the default set beneath it. Raises InputError for a damaged file.
        """
        if not self.start or self.start_models.sets[0].path(stage) is None:
            return None
        return StartWeights(self.start_models.path(stage), *self.start_models.load(stage))

    def start_digest(self, stage: str) -> str | None:
        """Identifies those weights in a checkpoint: a training is resumed with the start that it was begun with."""
        if not self.start or self.start_models.sets[0].path(stage) is None:
            return None
        return sha256(self.start_models.path(stage))[:16]

    def models(self) -> Models:
        """The models of the stages trained so far, over those that the run starts from. Read anew at each call."""
        own = WeightSet(
            str(self.out), self.out
        )  # without its registry, which is written after the files
        return Models([own, *self.start_models.sets], self.device)

    def save(self, stage: str, tensors: dict[str, Any], settings: dict[str, Any]) -> Path:
        """Write a stage's weights, with what they were made for, into the run's folder; returns the file.

        Of several processes the main one writes.
        """
        path = self.out / f"{stage}.safetensors"
        if not self.together.is_main:
            return path
        if stage not in ("face", "speech"):
            face = self.models().face
            settings = {
                **settings,
                "face": face.fingerprint,
                "expression_names": list(face.expression_names),
            }
        if self.made:
            settings = {**settings, "made": self.made}
        # Without its registry a folder is used as it is: a crash between these lines leaves a set that can be used.
        (self.out / REGISTRY_NAME).unlink(missing_ok=True)
        save_weights(path, stage, tensors, settings)
        write_registry(self.out)
        return path
