"""The kinds of a mesh's vertices, by the groups of its file: skin, teeth, hidden helpers.

MakeHuman's meshes contain helper geometry, such as a skirt, in groups that are never drawn. Its teeth
and tongue are coarse stand-ins, so they are hidden, too.
"""

from __future__ import annotations

import re

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
# Words in the names of a glTF's materials, meshes and nodes, and the kinds of parts that they name.
WORDS_OF_KINDS = {
    "teeth": ("teeth", "tooth", "dentures", "gums", "gum"),
    "tongue": ("tongue",),
    "eyes": ("eye", "eyes", "eyeball", "eyeballs", "iris", "cornea", "sclera", "pupil", "eyewhite"),
    "lashes": ("lash", "lashes", "eyelash", "eyelashes"),
    "brows": ("brow", "brows", "eyebrow", "eyebrows"),
}
# Words of names that mean something around such a part.
AROUND_WORDS = {
    *("lid", "lids", "eyelid", "eyelids", "socket", "occlusion", "shadow", "tear", "tearline"),
    *("glasses", "lens", "patch", "mask", "line", "liner"),
}
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
MAX_NAME_CHARACTERS = 256  # of a part, that are looked at
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
        if kind == "skin" and "g " not in text:
            continue
        for line in text.splitlines():
            if line.startswith("g "):
                kind = group_kind(line[2:].strip().lower())
            elif kind != "skin" and line.startswith("f "):
                numbers = np.array([int(corner.split("/")[0]) for corner in line.split()[1:]])
                indices = np.where(numbers > 0, numbers - 1, vertices_so_far + numbers)
                groups[indices[(indices >= 0) & (indices < count)]] = kind
    return groups


def kind_of_names(*names: object) -> str:
    """Return which kind of part the first telling one of some names means; empty if none does.

    The kinds are those of WORDS_OF_KINDS. A name that means several of them tells nothing; one with a
    word of AROUND_WORDS says that it is no part, and the names after it do not count.
    """
    for name in names:
        text = name[:MAX_NAME_CHARACTERS] if isinstance(name, str) else ""
        words = {word.lower() for word in _WORD.findall(text)}
        if words & AROUND_WORDS:
            return ""
        kinds = [kind for kind, of_kind in WORDS_OF_KINDS.items() if words & set(of_kind)]
        specific = [kind for kind in kinds if kind != "eyes"] or kinds  # Eye_Lash, Eye Brow
        if len(specific) == 1:
            return specific[0]
    return ""


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
