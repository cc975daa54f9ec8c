"""Binding: lets any mesh follow the motion of the canonical face.

registration.py fits the canonical face to the mesh, from the poses that placement_search.py finds. Skin
that coincides with the fitted face takes its motion, scaled to the mesh: a wide mouth opens wide
(skin.py). Inside the mouth and behind the rim of the face, the motion is interpolated harmonically
over the mesh's edges, between that skin and the still vertices (body.py). Other parts (pieces.py)
are recognised by shape and position (parts.py): eyeballs stay (eyeballs.py), upper teeth stay, lower
teeth and tongue follow the jaw (mouth_parts.py, mouth.py), a mouth's inside the lips (mouth_lining.py),
lashes, brows and a beard the skin; hair, glasses and clothes do not move. features.py says where lids,
brows and lips are. bind_face.py runs these steps; the result is a `Binding` (binding.py), which
files.py saves and cache.py caches. mesh_to_motion.py is the inverse.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .hint import FaceHint

if TYPE_CHECKING:
    from .bind_face import bind_mesh, bind_with_hint
    from .binding import Binding
    from .files import load_binding, save_binding

__all__ = ["Binding", "FaceHint", "bind_mesh", "bind_with_hint", "load_binding", "save_binding"]
# Where the other names are defined; a module is loaded when one of its names is first used, because
# options need `FaceHint` alone.
_MODULE_OF_NAME = {
    "Binding": "binding",
    "bind_mesh": "bind_face",
    "bind_with_hint": "bind_face",
    "load_binding": "files",
    "save_binding": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
    globals()[name] = value
    return value
