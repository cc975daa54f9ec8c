"""The kinds of a mesh's vertices, by the groups of its file: skin, teeth, hidden helpers.

MakeHuman's meshes contain helper geometry, such as a skirt, in groups that are never drawn. Its teeth
and tongue are coarse stand-ins, so they are hidden, too.
"""

from __future__ import annotations

import numpy as np

from .mesh_types import MeshAttributes

GROUP_KINDS = ("skin", "teeth", "tongue", "eyes", "hidden", "lashes")
HIDDEN_GROUPS = ("joint", "helper")  # OBJ groups of MakeHuman's helper geometry
KINDS_BY_WORD = {  # in the name of an OBJ's group; the first that it contains counts
    "lash": "lashes",
    "teeth": "teeth",
    "tongue": "tongue",
    "gums": "tongue",
    "eyes": "eyes",
    "helper-l-eye": "eyes",
    "helper-r-eye": "eyes",
}
SHOWN_HELPERS = ("eyes", "lashes")  # kinds of helpers that are drawn


def vertex_groups(attributes: MeshAttributes | None, count: int) -> np.ndarray:
    """Return the kind (N,) str of each vertex, one of GROUP_KINDS.

    The attributes name it; without them the groups of the OBJ do.
    """
    if attributes is not None and attributes.groups is not None:
        return attributes.groups.copy()
    groups = np.full(count, "skin", dtype="<U6")
    kind = "skin"
    vertices_so_far = 0  # negative indices of a line count from here
    for text in attributes.text if attributes is not None else ():
        if not isinstance(text, str):
            vertices_so_far += text
            continue
        for line in text.splitlines():
            if line.startswith("g "):
                kind = group_kind(line[2:].strip().lower())
            elif kind != "skin" and line.startswith("f "):
                numbers = np.array([int(corner.split("/")[0]) for corner in line.split()[1:]])
                indices = np.where(numbers > 0, numbers - 1, vertices_so_far + numbers)
                groups[indices[(indices >= 0) & (indices < count)]] = kind
    return groups


def visible_triangles(
    faces: np.ndarray, attributes: MeshAttributes | None, count: int
) -> np.ndarray:
    """Return which triangles (F,) bool of a mesh of `count` vertices belong to no hidden group."""
    return ~(vertex_groups(attributes, count)[faces] == "hidden").any(1)


def group_kind(group: str) -> str:
    """Return the kind of the vertices of a group by its name in lower case."""
    for word, kind in KINDS_BY_WORD.items():
        if word in group:
            is_helper = group.startswith(HIDDEN_GROUPS) and kind not in SHOWN_HELPERS
            return "hidden" if is_helper else kind
    return "hidden" if group.startswith(HIDDEN_GROUPS) else "skin"
