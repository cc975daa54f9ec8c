"""The tasks of a batch: a recording that a face speaks, and a video that is reconstructed.

They are sent to processes, each of which loads models and bindings once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ..binding import Binding, FaceHint
from ..binding.canonical_binding import NO_MESH
from ..weights.models import Models, load_models
from ..weights.registry import HUB_PREFIX
from ..weights.weight_set import bundled_sets
from .animate import animate
from .bind import bind
from .options import (
    AnimateOptions,
    BindingOptions,
    ExportOptions,
    PathLike,
    ReconstructOptions,
    RuntimeOptions,
)
from .outputs import Progress, Result


@dataclass(frozen=True)
class AnimationTask:
    """A recording that a face speaks."""

    kind: ClassVar[str] = "audio"
    face: str
    source: Path
    outputs: list[Path]
    options: AnimateOptions
    where: str = ""

    def run(self, progress: Progress | None = None) -> Result:
        """Animate the face; models and binding are those of the process."""
        options = self.options
        models = models_of_process(str(options.weights), options.device)
        binding = binding_of_process(
            self.face, options.hint, options.cache, str(options.weights), options.device
        )
        return animate(
            binding, self.source, self.outputs, options, models=models, progress=progress
        )

    def absolute(self) -> AnimationTask:
        """Return the task with absolute paths."""
        options = self.options
        timeline = options.timeline
        options = replace(
            options,
            timeline=_absolute(timeline) if isinstance(timeline, str | Path) else timeline,
            voice=_absolute_or_none(options.voice),
            hint=_absolute_hint(options.hint),
            weights=_absolute_weights(options.weights),
            export=_absolute_export(options.export),
        )
        face = self.face if self.face == NO_MESH else str(_absolute(self.face))
        outputs = [_absolute(path) for path in self.outputs]
        return replace(
            self, face=face, source=_absolute(self.source), outputs=outputs, options=options
        )


@dataclass(frozen=True)
class ReconstructionTask:
    """A video, or another source of a performance, that becomes an animation."""

    kind: ClassVar[str] = "input"
    source: Path
    outputs: list[Path]
    onto: str | None
    options: ReconstructOptions
    export: ExportOptions = field(default_factory=ExportOptions)
    target: BindingOptions = field(default_factory=BindingOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    video: Path | None = None  # of a fitted clip: its audio, if it has any, goes to the outputs
    where: str = ""

    def run(self, progress: Progress | None = None) -> Result:
        """Reconstruct the performance; models and binding are those of the process."""
        from ..capture.audio_sync import video_audio
        from .reconstruct import reconstruct

        options = self.options
        if self.video is not None:
            options = replace(options, audio=video_audio(self.video))
        weights, device = str(self.runtime.weights), self.runtime.device
        onto = None
        if self.onto is not None:
            onto = binding_of_process(
                self.onto, self.target.hint, self.target.cache, weights, device
            )
        return reconstruct(
            self.source,
            self.outputs,
            onto=onto,
            options=options,
            export=self.export,
            models=models_of_process(weights, device),
            cache=self.target.cache,
            progress=progress,
        )

    def absolute(self) -> ReconstructionTask:
        """Return the task with absolute paths."""
        rest = self.options.resting
        options = replace(
            self.options,
            rest=_absolute(rest) if isinstance(rest, Path) else rest,
            model=_absolute_or_none(self.options.model),
            audio=_absolute_or_none(self.options.audio),
        )
        onto = self.onto
        if onto is not None and onto != NO_MESH:
            onto = str(_absolute(onto))
        return replace(
            self,
            source=_absolute(self.source),
            outputs=[_absolute(path) for path in self.outputs],
            onto=onto,
            options=options,
            video=_absolute_or_none(self.video),
            export=_absolute_export(self.export),
            target=replace(self.target, hint=_absolute_hint(self.target.hint)),
            runtime=replace(self.runtime, weights=_absolute_weights(self.runtime.weights)),
        )


def _absolute(path: PathLike) -> Path:
    return Path(os.path.abspath(path))


def _absolute_or_none(path: Any) -> Any:
    return _absolute(path) if isinstance(path, str | Path) else path


def _absolute_hint(hint: FaceHint) -> FaceHint:
    return replace(
        hint,
        binding=_absolute_or_none(hint.binding),
        landmarks=_absolute_or_none(hint.landmarks),
    )


def _absolute_export(export: ExportOptions) -> ExportOptions:
    return replace(export, shape_map=_absolute_or_none(export.shape_map))


def _absolute_weights(weights: PathLike) -> PathLike:
    """Return the absolute path of a folder of weights; names of sets stay as they are."""
    if str(weights).startswith(HUB_PREFIX) or weights in bundled_sets():
        return weights
    return _absolute(weights)


@lru_cache(maxsize=1)
def models_of_process(weights: str, device: str) -> Models:
    """Return models, loaded once per process."""
    return load_models(weights, device=device)


@lru_cache(maxsize=1)
def binding_of_process(
    face: str, hint: FaceHint, cache: bool, weights: str, device: str
) -> Binding:
    """Return the binding of a mesh, found once per process."""
    return bind(face, hint=hint, models=models_of_process(weights, device), cache=cache)


def forget_models_and_bindings() -> None:
    """Load models and binding again when they are next used: their files may have changed."""
    models_of_process.cache_clear()
    binding_of_process.cache_clear()
