"""Which blend shapes an animation drives: ARKit's 52, the character's own, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..binding import Binding
from ..binding.own_shapes import OwnShapeFit, find_shapes
from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.reading import printable
from ..formats.animation import Header
from ..formats.mesh_types import Mesh
from ..formats.shape_map import read_shape_map
from ..formats.target_names import OWN_CURVES
from .options import ExportOptions, PathLike
from .target_checks import uses_shapes

BROW_SHAPES = [name for name in ARKIT_NAMES if name.startswith("brow")]
NAME_THEM = "name them by --map: talkemo bind MESH --map-template prints one to fill in"


def with_targets(
    header: Header, binding: Binding, export: ExportOptions, paths: Sequence[Path]
) -> tuple[Header, list[str]]:
    """Return the header with the blend shapes that are to be driven, and what was decided.

    Parameters
    ----------
    header : Header
        Of the bound mesh.
    binding : Binding
    export : ExportOptions
    paths : sequence of Path
        The outputs; shapes are read only if one of them uses them.

    Raises
    ------
    InputError
        The mesh has no shapes that can be driven, though they are asked for, or the map is wrong.
    """
    targets = "own" if export.curves == OWN_CURVES and export.targets == "auto" else export.targets
    if not uses_shapes(export, paths):
        return header, []
    own, notes = own_shapes(binding, targets, export.shape_map)
    if own is None:
        return header, notes
    kept = header.targets if targets == "both" else None
    meta = {**header.meta, "targets": "both" if targets == "both" else "own"}
    header = replace(header, own_shapes=own, targets=kept, meta=meta)
    if header.own is not None:
        arkit = header.own.targets if targets == "both" else None
        header = replace(header, own=replace(header.own, own_shapes=own, targets=arkit, meta=meta))
    return header, notes


def own_shapes(
    binding: Binding, targets: str, shape_map: PathLike | None
) -> tuple[OwnShapeFit | None, list[str]]:
    """Return what computes the weights of a mesh's own shapes, None for none, and notes.

    Parameters
    ----------
    binding : Binding
    targets : str
        One of TARGET_CHOICES.
    shape_map : path, optional
        See formats/shape_map.py.

    Raises
    ------
    InputError
        See `with_targets`.
    """
    if targets == "arkit":
        unused = "the map is not used: --targets arkit drives none of the character's own shapes"
        return None, [unused] if shape_map is not None else []
    mesh = binding.mesh
    if not mesh.shapes:
        if targets == "auto" and shape_map is None:
            return None, []
        raise no_shapes(mesh)
    own = fitted_shapes(binding, shape_map)
    if not own.names:
        if shape_map is not None:
            raise InputError(
                f"{printable(shape_map)}: no line names what a shape shows",
                "write, for example, THEIR_NAME = jawOpen",
            )
        if targets == "auto":
            return None, []
        raise InputError(
            f"{printable(mesh.name)}: none of its {len(mesh.shapes)} blend shapes is known",
            NAME_THEM,
        )
    counts = ", ".join(f"{name} {count}" for name, count in own.found.standards.items())
    expressions = ", ".join(printable(name, 60) for name in own.found.expressions)
    counts += f" ({printable(expressions)})" if expressions else ""
    if targets == "auto" and shape_map is None and not own.is_enough:
        return None, [
            f"the character's own blend shapes ({counts}) show {own.mouth_shown:.0%} of the "
            "mouth's motion: ARKit's are written; --targets own drives them anyway"
        ]
    notes = [f"the character's own blend shapes are driven: {counts}"]
    if targets != "both" and set(BROW_SHAPES) <= set(own.found.missing):
        notes.append(
            "none of them moves the brows, so most emotions hardly show: --targets both adds ARKit's"
        )
    return own, notes


def no_shapes(mesh: Mesh) -> InputError:
    """Return the error for a mesh without blend shapes."""
    return InputError(
        f"{printable(mesh.name)} has no blend shapes of its own",
        "only the ARKit shapes that talkemo makes can drive it; glb, gltf, vrm and usd can have some",
    )


def fitted_shapes(binding: Binding, shape_map: PathLike | None = None) -> OwnShapeFit:
    """Return the fit of a mesh's own shapes, computed once for many recordings.

    Raises InputError if the shapes or the map cannot be read.
    """
    if shape_map is None:
        return _fitted_by_names(binding)
    shapes = binding.mesh.shapes
    return OwnShapeFit(binding, find_shapes(shapes, read_shape_map(shape_map, shapes)))


@lru_cache(maxsize=1)
def _fitted_by_names(binding: Binding) -> OwnShapeFit:
    return OwnShapeFit(binding, find_shapes(binding.mesh.shapes))
