"""Bindings that are remembered, in the user's cache folder, so that the second sentence on a face starts at once.

A file's name is made of the fingerprints of mesh and face and of what the user said of the face's axes. Files appear
whole under their names, so that several processes may share the folder; the least recently used ones go when all
together grow beyond a size.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..face.canonical import Face
from ..formats.mesh_types import Mesh
from .binding import Binding
from .files import load_binding, mesh_fingerprint, save_binding

VERSION = 1  # of what binding does; another one is another name
LARGEST_CACHE = 1 << 29  # bytes of all bindings together
BINDING_ENDING = ".binding.npz"


def cache_folder() -> Path:
    """`TALKEMO_CACHE`, or talkemo's folder among the user's caches."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("TALKEMO_CACHE") or user_cache_dir("talkemo", appauthor=False))


class BindingCache:
    """Bindings by name in a folder. A cache that cannot be read or written is as good as an empty one."""

    def __init__(self, folder: Path | None = None, largest: int = LARGEST_CACHE):
        self.folder = (folder or cache_folder()) / "bindings"
        self.largest = largest

    def name(
        self, face: Face, mesh: Mesh, up: str | None = None, forward: str | None = None
    ) -> str:
        """The name of a mesh's binding."""
        parts = (str(VERSION), face.fingerprint, mesh_fingerprint(mesh), repr(up), repr(forward))
        return hashlib.sha256("/".join(parts).encode()).hexdigest()[:40]

    def get(self, name: str, face: Face, mesh: Mesh) -> Binding | None:
        """The binding of that name; None where there is none that can be used."""
        path = self.folder / f"{name}{BINDING_ENDING}"
        if not os.path.isfile(path):
            return None
        try:
            binding = load_binding(path, face, mesh)
        except (InputError, OSError):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use
        return binding

    def put(self, name: str, binding: Binding) -> None:
        """Remember a binding, and forget the least recently used ones beyond the size."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_binding(self.folder / f"{name}{BINDING_ENDING}", binding, compressed=False)
            self._forget()
        except (InputError, OSError):
            return  # a full or read-only disk, or something else in the way

    def _forget(self) -> None:
        """Remove the least recently used files until all together are small enough."""
        files = []
        for path in self.folder.glob(f"*{BINDING_ENDING}"):
            with suppress(OSError):  # another process may have removed it
                about = path.stat()
                files.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:
            if total <= self.largest:
                break
            with suppress(OSError):
                path.unlink()
            total -= size
