"""A digest of the code that a result was made by, so that changed code makes it again."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..files.cache import digest

# What decides numbers; drawing and file formats do not.
COUNTED_PACKAGES = tuple(
    f"talkemo.{room}."
    for room in (
        *("audio", "capture", "data", "evaluation", "expression", "face", "geometry"),
        *("networks", "paper", "train"),
    )
)


def code_digest(*modules: str) -> str:
    """Return a digest of modules and of all that they import from COUNTED_PACKAGES.

    Comments, docstrings and layout do not count.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _path(name)
        if path is not None:
            found[name], imported = _read(name, path)
            waiting += [other for other in imported if other.startswith(COUNTED_PACKAGES)]
    return digest(*(f"{name} {found[name]}" for name in sorted(found)))


@lru_cache
def _path(name: str) -> Path | None:
    """Return the file of a module; None for a name within a module."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the parent is a module, not a package
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


@lru_cache
def _read(name: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module's code, and what it imports."""
    source = path.read_text("utf-8")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return digest(normalised(source)), tuple(_imports(ast.parse(source), package))


def normalised(source: str) -> str:
    """Return Python code without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names of modules, or in modules, that a tree imports from `package`'s project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
