"""The cache of bindings, so that the face of a mesh is searched for only once.

A file's name is a hash of the mesh, the face, the axes that the user named and the second opinion. Files are written
atomically, so several processes may share the folder; the least recently used ones are removed when
their total size exceeds a limit.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..face.canonical import Face
from ..files.cache import cache_folder, remove_least_recent
from ..formats.groups import vertex_groups
from ..formats.mesh_types import Mesh
from .binding import Binding
from .files import load_binding, mesh_fingerprint, save_binding

BINDING_VERSION = 9  # part of the hash: raise it when binding gives other results
MAX_CACHE_BYTES = 1 << 29  # total size of all bindings
BINDING_ENDING = ".binding.npz"
CACHED_NAME = re.compile(r"[0-9a-f]{40}\.binding\.npz")  # of files that the cache may remove


class BindingCache:
    """Bindings by name in a folder, of at most `max_bytes` in total.

    A cache that cannot be read or written counts as empty.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_CACHE_BYTES):
        self.folder = (folder or cache_folder()) / "bindings"
        self.max_bytes = max_bytes

    def name(
        self,
        face: Face,
        mesh: Mesh,
        up: str | None = None,
        forward: str | None = None,
        opinion: str | None = None,
    ) -> str:
        """Return the name of a mesh's binding.

        `up` and `forward` as in `FaceHint`; `opinion` names who was asked where the face is.
        """
        place = (repr(up), repr(forward), repr(opinion))
        key = (face.fingerprint, mesh_fingerprint(mesh) + _parts_digest(mesh), *place)
        return hashlib.sha256("/".join((str(BINDING_VERSION), *key)).encode()).hexdigest()[:40]

    def get(self, name: str, face: Face, mesh: Mesh) -> Binding | None:
        """Return the binding of that name, or None if it is missing or cannot be read."""
        path = self.folder / f"{name}{BINDING_ENDING}"
        if not os.path.isfile(path):
            return None
        try:
            binding = load_binding(path, face, mesh)
        except (InputError, OSError):
            if self._is_own(path):
                with suppress(OSError):
                    path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use
        return binding

    def put(self, name: str, binding: Binding) -> None:
        """Store a binding, and remove the least recently used ones if there are too many."""
        # The disk may be full or read-only, or another file may have the folder's name.
        with suppress(InputError, OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_binding(self.folder / f"{name}{BINDING_ENDING}", binding)
            own = [path for path in self.folder.iterdir() if self._is_own(path)]
            remove_least_recent(own, self.max_bytes)

    @staticmethod
    def _is_own(path: Path) -> bool:
        """Whether a file is the cache's own: its name says so, and the cache makes no links."""
        return bool(CACHED_NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _parts_digest(mesh: Mesh) -> str:
    """A hash of what a file says its vertices belong to; empty if that is only skin."""
    if mesh.attributes is None:
        return ""
    kinds = vertex_groups(mesh.attributes, len(mesh.vertices))
    named = mesh.attributes.named
    contents = b"" if named is None else named.tobytes()
    contents += kinds.astype("<U6").tobytes() if (kinds != "skin").any() else b""
    return hashlib.sha256(contents).hexdigest() if contents else ""
