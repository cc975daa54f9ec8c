"""Names of earlier versions, which still work in 0.2 and warn when they are used.

Modules that have moved are imported under their old names, and renamed methods and attributes are
found on their classes.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old module → new module.
MOVED_MODULES = {
    "talkemo.emotions": "talkemo.expression.emotions",
    "talkemo.geomap": "talkemo.face.geometry_map",
    "talkemo.motion": "talkemo.face.motion",
    "talkemo.models": "talkemo.weights.models",
    "talkemo.live": "talkemo.pipelines.live_server",
    "talkemo.formats.open": "talkemo.formats.registry",
    "talkemo.pipelines.render": "talkemo.pipelines.rendering",
}


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)


class _MovedModuleFinder(MetaPathFinder, Loader):
    """Imports a moved module as an empty one that takes its names from the new module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a moved module, or None."""
        return ModuleSpec(name, self) if name in MOVED_MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Let a module find its names in the new one."""
        old, new = module.__name__, MOVED_MODULES[module.__name__]

        def find_name(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            _warn(old, new)
            return getattr(importlib.import_module(new), name)

        module.__getattr__ = find_name  # type: ignore[method-assign]


def find_moved_modules() -> None:
    """Make the old names of moved modules importable."""
    if not any(isinstance(finder, _MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModuleFinder())


class _RenamedAttribute:
    """A class attribute that stands for another one under its old name."""

    def __init__(self, old: str, new: str):
        self.old, self.new = old, new

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(f"{owner.__name__}.{self.old}", self.new)
        return getattr(owner if instance is None else instance, self.new)


def keep_old_names(owner: type, names: dict[str, str]) -> None:
    """Keep the old names (keys) of renamed methods and attributes (values) of a class."""
    for old, new in names.items():
        setattr(owner, old, _RenamedAttribute(old, new))
