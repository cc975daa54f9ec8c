"""Binding: the face of a mesh is found once, and used for many animations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..binding import Binding, FaceHint, bind_with_hint, save_binding
from ..binding.cache import BindingCache
from ..binding.canonical_binding import NO_MESH, bind_canonical
from ..binding.other_faces import other_faces_note
from ..binding.own_shapes import OwnShapeFit, find_shapes
from ..files.writing import all_or_none, check_output
from ..formats.mesh import as_mesh
from ..formats.mesh_types import Mesh
from ..formats.units import AUTO_UNIT, unit_of_mesh
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .options import PathLike
from .outputs import as_paths
from .own_targets import fitted_shapes, no_shapes
from .second_opinion import opinion_for


def bind(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    cache: bool = True,
    shape_map: PathLike | None = None,
) -> Binding:
    """Find the face of a mesh and how each vertex moves; `animate` takes the result as its mesh.

    Parameters
    ----------
    mesh : path, Mesh, (vertices, faces) or Binding
        A mesh file or a mesh in memory, `vertices` (N, 3) in any unit and `faces` (F, 3). A Binding
        is returned as it is. "-" is the canonical face of the weights.
    outputs : path or sequence of paths, optional
        .npz files for `FaceHint.binding`, .png files that show the binding and each of the mesh's
        own blend shapes.
    hint : FaceHint, optional
        Where the face is, if it is not found without help.
    weights, models
        The set of weights whose face model is used, or what `load_models` returned.
    cache : bool
        Whether bindings are read from and stored in the user's cache folder.
    shape_map : path, optional
        What the mesh's own blend shapes show, for the .png; see formats/shape_map.py.

    Raises
    ------
    InputError
        No face is found, or a file cannot be used.
    """
    hint = hint or FaceHint()
    paths = as_paths(outputs)
    inputs = [source for source in (mesh, shape_map, *hint.files) if isinstance(source, str | Path)]
    for path in paths:
        check_output(path, (".npz", ".png"), *inputs)
    if isinstance(mesh, Binding):
        binding = mesh
    elif isinstance(mesh, str | Path) and str(mesh) == NO_MESH:
        binding = bind_canonical((models or load_models(weights)).face)
    else:
        loaded = as_mesh(mesh)
        face = (models or load_models(weights)).face
        binding = _noting_other_faces(
            bind_with_hint(face, loaded, hint, BindingCache() if cache else None, opinion_for(hint))
        )
    own = None
    if shape_map is not None or any(path.suffix.lower() == ".png" for path in paths):
        own = shapes_of(binding, shape_map)
    with all_or_none(paths):
        for path in paths:
            if path.suffix.lower() == ".npz":
                save_binding(path, binding)
            else:
                from ..render.images import binding_image, save_image

                save_image(path, binding_image(binding, own=own))
    return binding


def _noting_other_faces(binding: Binding) -> Binding:
    """Return a binding whose mesh has a note if it has another face, which does not move."""
    note = other_faces_note(binding.other_faces or 0)
    if note is None:
        return binding
    return replace(binding, mesh=replace(binding.mesh, notes=(*binding.mesh.notes, note)))


def shapes_of(binding: Binding, shape_map: PathLike | None = None) -> OwnShapeFit | None:
    """Return what drives a mesh's own blend shapes; None if none of them is known.

    Raises InputError if they cannot be read, or if a map is given that does not fit them.
    """
    if not binding.mesh.shapes and shape_map is None:
        return None
    own = fitted_shapes(binding, shape_map)
    return own if own.names else None


def describe_shapes(binding: Binding, shape_map: PathLike | None = None) -> dict[str, Any]:
    """Return what a mesh's own blend shapes are; {} for a mesh without any.

    Returns
    -------
    dict
        `shapes`: `found`, their number; `driven`, the names of those that are driven; `expressions`,
        the names of those that are expressions of a VRM, mixes of its morph targets; `standards`,
        how many of these have names of each standard; `left_out`, why each other one is not driven;
        `missing`, which of ARKit's shapes none of them shows; `mouth_shown`, the share of the
        squared motion of the mouth that they show in poses of speech; `mouth_residual_mm`, the mean
        distance of its vertices from where they should be; `enough`, whether they are used without
        being asked for.
    """
    shapes = binding.mesh.shapes
    if not shapes:
        return {}
    own = fitted_shapes(binding, shape_map)
    about: dict[str, Any] = {
        "found": len(shapes),
        "driven": [driven.shape.name for driven in own.found.driven],
        "expressions": [shape.name for shape in shapes if shape.mix],
        "standards": own.found.standards,
        "left_out": own.found.left_out,
        "missing": own.found.missing,
        "enough": own.is_enough,
    }
    if own.names:
        about["mouth_shown"] = round(own.mouth_shown, 3)
        about["mouth_residual_mm"] = round(own.mouth_residual_mm, 2)
    return {"shapes": about}


def shape_map_template(mesh: PathLike | Mesh) -> str:
    """Return a map of a mesh's own blend shapes to fill in, see formats/shape_map.py.

    Raises InputError if the mesh has none, or cannot be read.
    """
    from ..formats.shape_map import map_template

    loaded = as_mesh(mesh)
    if not loaded.shapes:
        raise no_shapes(loaded)
    return map_template(loaded.shapes, find_shapes(loaded.shapes).left_out)


def describe(binding: Binding) -> dict[str, Any]:
    """Return how well a binding fits.

    Returns
    -------
    dict
        `error_mm`: median distance between face model and mesh; `relief`: correlation of the mesh's
        relief with a face's, up to 1; `lip_opening`: how far the lips open relative to the width of
        the mouth, as a fraction of the canonical face's; `parts`: number of vertices per recognised
        part; `lips_cut`: vertices that cuts of lips and lids of one skin add to drawn outputs, 0
        without a cut; and counts, scale, axes, and the guessed unit with the width of the face in it.
    """
    unit = unit_of_mesh(AUTO_UNIT, binding.scale)
    return {
        "vertices": len(binding.mesh.vertices),
        "moving": len(binding.moving),
        "error_mm": binding.error,
        "relief": binding.relief,
        "lip_opening": binding.shown.lip_opening_ratio(),
        "mesh_units_a_mm": binding.scale,
        "unit": unit.name,
        "face_width_mm": round(unit.face_width_mm, 1),
        "up": binding.placement.rotation[:, 1].round(3).tolist(),
        "forward": binding.placement.rotation[:, 2].round(3).tolist(),
        "parts": binding.parts,
        "lips_cut": len(binding.shown.mesh.vertices) - len(binding.mesh.vertices),
    }
