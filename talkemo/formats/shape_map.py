"""Files that say what a character's own blend shapes show: a line for each.

    # THEIR SHAPE = OURS [* FACTOR] [+ OURS [* FACTOR] ...]
    Mouth_Corner_Up = mouthSmile
    Open_Wide       = jawOpen * 1.3 + mouthLowerDown * 0.5
    Kiss.L          = mouthPucker * 0.5
    Belly           =

Ours are ARKit's 52; without Left or Right a name stands for both sides. Oculus's visemes (PP, aa,
...) and VRM's emotions (happy, ...) may be named as well. FACTOR says how much of ours theirs shows
at weight 1. A shape with nothing behind `=` is not driven; shapes without a line are known by their
names. A name with =, # or quotes in it is written as a JSON string.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..face.shape_names import ShapeMeaning, both_sides, meaning_of
from ..face.viseme_curves import OCULUS_RECIPES, VRM_EMOTION_RECIPES
from ..files.reading import printable, read_text
from .mesh_types import MeshShape

MAX_MAP_BYTES = 1 << 20
MAX_FACTOR = 10.0
MAX_NAME_COLUMN = 40  # characters to which names are padded in a template
MAX_NEAREST = 3  # names that are offered for an unknown one
MAP_HINT = "write a line `THEIR SHAPE = OUR SHAPE`, see talkemo bind MESH --map-template"
RECIPES = {**OCULUS_RECIPES, **VRM_EMOTION_RECIPES}
OUR_NAMES = (
    *ARKIT_NAMES,
    *dict.fromkeys(
        name.removesuffix("Left").removesuffix("Right")
        for name in ARKIT_NAMES
        if name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
    ),
    *RECIPES,
)


def read_shape_map(path: str | Path, shapes: Sequence[MeshShape]) -> dict[str, ShapeMeaning | None]:
    """Return what a map says about a mesh's shapes, by name; None for one that is not driven.

    Raises
    ------
    InputError
        The file cannot be read, or a line is not understood or names a shape that does not exist.
    """
    text = read_text(path, "a map of blend shapes", MAP_HINT, MAX_MAP_BYTES)
    names = [shape.name for shape in shapes]
    result: dict[str, ShapeMeaning | None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{printable(path)}, line {number}"
        theirs, ours = _split(line, where)
        if theirs is None:
            continue
        if theirs not in names:
            raise InputError(
                f"{where}: the mesh has no shape '{printable(theirs, 60)}'",
                _nearest(theirs, names),
            )
        if theirs in result:
            raise InputError(f"{where}: '{printable(theirs, 60)}' is there twice", "keep one")
        result[theirs] = _meaning(ours, where) if ours else None
    return result


def map_template(shapes: Sequence[MeshShape], left_out: Collection[str] = ()) -> str:
    """Return a map of a mesh's shapes to fill in, with what is known by their names.

    The lines of shapes that are `left_out`, though their names are known, are comments.
    """
    head = [
        "# Blend shapes of the mesh, and what they show: THEIRS = OURS [* FACTOR] [+ OURS ...]",
        "# A shape with nothing behind = is not driven. Ours, without Left or Right for both sides:",
        *_wrapped(", ".join(ARKIT_NAMES)),
        "# Or sounds and emotions:",
        *_wrapped(", ".join(RECIPES)),
    ]
    quoted = [_quoted(shape.name) for shape in shapes]
    width = min(max((len(name) for name in quoted), default=0), MAX_NAME_COLUMN)
    lines = []
    for name, shape in zip(quoted, shapes):
        meaning = meaning_of(shape.name)
        recipe = "" if meaning is None else _recipe_text(meaning.recipe)
        parts = [f"{printable(part)} * {weight:.4g}" for part, weight in shape.mix]
        mix = f"  # of {' + '.join(parts)}" if parts else ""
        mark = "# " if recipe and shape.name in left_out else ""
        lines.append(f"{mark}{name:{width}} = {recipe}{mix}".rstrip())
    return "\n".join([*head, "", *lines, ""])


def _wrapped(text: str) -> Iterator[str]:
    """Yield lines of a comment."""
    import textwrap

    yield from textwrap.wrap(text, 96, initial_indent="#   ", subsequent_indent="#   ")


def _recipe_text(recipe: dict[str, float]) -> str:
    """A recipe as a map writes it, both sides as one where they are alike."""
    parts = {}
    for name, weight in recipe.items():
        base = name.removesuffix("Left").removesuffix("Right")
        both = (f"{base}Left", f"{base}Right")
        is_pair = base in OUR_NAMES and all(recipe.get(side) == weight for side in both)
        parts[base if is_pair else name] = weight
    return " + ".join(
        name if weight == 1 else f"{name} * {weight:.4g}" for name, weight in parts.items()
    )


def _quoted(name: str) -> str:
    """A name, as a JSON string if it could be misread."""
    is_plain = name.isprintable() and name == name.strip() and not set(name) & set('=#"')
    return name if is_plain else json.dumps(name, ensure_ascii=not name.isprintable())


def _split(line: str, where: str) -> tuple[str | None, str]:
    """The two sides of a line, without comments; None for an empty one."""
    line = line.strip()
    if line.startswith('"'):
        try:
            theirs, end = json.JSONDecoder().raw_decode(line)
        except ValueError:
            raise InputError(f"{where}: a name whose quotes do not end", MAP_HINT) from None
        rest = line[end:].strip()
    else:
        line = line.partition("#")[0].strip()
        if not line:
            return None, ""
        theirs, equals, rest = line.partition("=")
        theirs, rest = theirs.strip(), f"{equals}{rest}"
    if not rest.startswith("=") or not theirs:
        raise InputError(f"{where}: not a line `THEIR SHAPE = OUR SHAPE`", MAP_HINT)
    return str(theirs), rest[1:].partition("#")[0].strip()


def _meaning(text: str, where: str) -> ShapeMeaning:
    """What the right side of a line says."""
    recipe: dict[str, float] = {}
    kind = "single"
    for part in text.split("+"):
        name, star, factor_text = (piece.strip() for piece in part.partition("*"))
        if name not in OUR_NAMES:
            raise InputError(
                f"{where}: talkemo has no shape '{printable(name, 60)}'",
                _nearest(name, OUR_NAMES),
            )
        factor = _factor(factor_text, where) if star else 1.0
        if name in RECIPES:
            kind = "viseme"
        for shape, weight in both_sides(RECIPES.get(name, {name: 1.0})).items():
            recipe[shape] = recipe.get(shape, 0.0) + factor * weight
    if all(shape.startswith("eyeLook") for shape in recipe):
        kind = "gaze"
    return ShapeMeaning("map", kind, recipe)


def _factor(text: str, where: str) -> float:
    """A factor; raise InputError unless it is a number above 0 and up to MAX_FACTOR."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MAX_FACTOR:
        raise InputError(
            f"{where}: '{printable(text, 20)}' is not a factor",
            f"write a number above 0, up to {MAX_FACTOR:g}",
        )
    return value


def _nearest(name: str, names: Sequence[str]) -> str:
    """A hint with the names that are nearest to one that does not exist."""
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower()[:100], list(lower), MAX_NEAREST, 0.4)
    if not near:
        return "talkemo bind MESH --map-template lists the names"
    return f"did you mean {' or '.join(printable(lower[key], 60) for key in near)}?"
