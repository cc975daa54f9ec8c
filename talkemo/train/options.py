"""The options of training, for the command line and for Python."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ..errors import InputError
from ..options import CheckedOptions, option

Config = TypeVar("Config", bound=Any)  # a dataclass of a stage's settings


@dataclass(frozen=True)
class TrainOptions(CheckedOptions):
    """Options that change the settings of stages; each lists the `stages` that it applies to."""

    paper: bool = option(
        False,
        "talking: the paper's variant: trained on neutral ravdess and grid, with the paper's Adam "
        "settings and learning rate.",
        stages=("talking",),
    )
    constant_weights: bool = option(
        False, "talking: weight all vertices equally, as in VOCA.", stages=("talking",)
    )
    log_mel: bool = option(
        False,
        "talking: log-mel bands instead of the speech encoder's features.",
        stages=("talking",),
    )
    freeze_encoder: bool = option(
        False, "talking: keep the speech encoder fixed.", stages=("talking",)
    )
    lookahead: str | None = option(
        None,
        "talking: seconds of audio after it that a frame depends on: 0.25, 0.35, 0.45 (default) or "
        "0.55.",
        values=("0.25", "0.35", "0.45", "0.55"),
        stages=("talking",),
    )
    no_augmentation: bool = option(
        False,
        "emotion: train on the actors' faces alone, without the animator's expressions.",
        stages=("emotion",),
    )
    free: bool = option(
        False,
        "capture, lips, talking, emotion, voice: only corpora that may be used for any purpose.",
        stages=("capture", "lips", "talking", "emotion", "voice"),
    )
    people: float | None = option(
        None,
        "lips: fraction of the speakers to train on, to measure the effect of their number.",
        minimum=0.05,
        maximum=1,
        stages=("lips",),
    )
    java_sed: bool = option(
        False, "emotion: java_sed's actors besides ravdess's.", stages=("emotion",)
    )
    steps: int | None = option(
        None,
        "speech, lips, talking, emotion, voice: steps to train for.",
        minimum=1,
        stages=("speech", "lips", "talking", "emotion", "voice"),
    )
    hold_out: int | None = option(
        None,
        "lips, talking: hold out every n-th training speaker for the metrics in the log; "
        "0 for none.",
        minimum=0,
        stages=("lips", "talking"),
    )

    def changed(self, config: Config, *names: str) -> Config:
        """Return a stage's settings with those of the named options that are set."""
        values = {name: getattr(self, name) for name in names}
        return replace(config, **{name: v for name, v in values.items() if v is not None})

    def check(self, stage: str) -> None:
        """Raise InputError for an option that is set and does not belong to a stage."""
        for field in fields(self):
            stages = field.metadata["stages"]
            if getattr(self, field.name) != field.default and stage not in (*stages, "all"):
                name = f"--{field.name.replace('_', '-')}"
                raise InputError(
                    f"{name} belongs to {' and '.join(stages)}, not to {stage}",
                    f"leave {name} out",
                )
