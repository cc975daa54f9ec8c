"""Checks of the choice between ARKit's blend shapes and the character's own, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files.reading import printable
from ..formats.registry import BAKED_ENDINGS, CURVE_ENDINGS
from ..formats.target_names import OWN_CURVES, TARGET_CHOICES
from .options import ExportOptions


def check_targets(export: ExportOptions, paths: Sequence[Path]) -> None:
    """Raise InputError for a choice of targets that is unknown, or that no output can follow."""
    check_choice(export.targets)
    if export.curves == OWN_CURVES and export.targets == "arkit":
        raise InputError("--curves own and --targets arkit", "leave one out")
    if export.targets not in ("own", "both") and export.shape_map is None:
        return
    if not uses_shapes(export, paths):
        option = "--map" if export.targets not in ("own", "both") else f"--targets {export.targets}"
        raise InputError(
            f"no output for {option}",
            f"it is for outputs that end in {', '.join(BAKED_ENDINGS)} and are not baked, and for "
            f"--curves {OWN_CURVES}",
        )


def check_choice(targets: str) -> None:
    """Raise InputError for an unknown value of `--targets`."""
    if targets not in TARGET_CHOICES:
        raise InputError(
            f"unknown targets '{printable(targets, 40)}'", f"choose {', '.join(TARGET_CHOICES)}"
        )


def uses_shapes(export: ExportOptions, paths: Sequence[Path]) -> bool:
    """Return whether any output contains blend shapes of the mesh or their curves."""
    endings = {path.suffix.lower() for path in paths}
    has_targets = bool(endings & set(BAKED_ENDINGS)) and not export.bake
    return has_targets or (export.curves == OWN_CURVES and bool(endings & set(CURVE_ENDINGS)))
