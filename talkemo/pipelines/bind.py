"""Binding: the face of a mesh is found once, and used for many animations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..binding import Binding, FaceHint, bind_with_hint, save_binding
from ..binding.cache import BindingCache
from ..binding.canonical_binding import NO_MESH, bind_canonical
from ..files.writing import all_or_none, check_output
from ..formats.mesh import as_mesh
from ..formats.mesh_types import Mesh
from ..formats.units import AUTO_UNIT, unit_of_mesh
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .options import PathLike
from .outputs import as_paths
from .second_opinion import opinion_for


def bind(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    cache: bool = True,
) -> Binding:
    """Find the face of a mesh and how each vertex moves; `animate` takes the result as its mesh.

    Parameters
    ----------
    mesh : path, Mesh, (vertices, faces) or Binding
        A mesh file or a mesh in memory, `vertices` (N, 3) in any unit and `faces` (F, 3). A Binding
        is returned as it is. "-" is the canonical face of the weights.
    outputs : path or sequence of paths, optional
        .npz files for `FaceHint.binding`, .png files that show the binding.
    hint : FaceHint, optional
        Where the face is, if it is not found without help.
    weights, models
        The set of weights whose face model is used, or what `load_models` returned.
    cache : bool
        Whether bindings are read from and stored in the user's cache folder.

    Raises
    ------
    InputError
        No face is found, or a file cannot be used.
    """
    hint = hint or FaceHint()
    paths = as_paths(outputs)
    inputs = [source for source in (mesh, *hint.files) if isinstance(source, str | Path)]
    for path in paths:
        check_output(path, (".npz", ".png"), *inputs)
    if isinstance(mesh, Binding):
        binding = mesh
    elif isinstance(mesh, str | Path) and str(mesh) == NO_MESH:
        binding = bind_canonical((models or load_models(weights)).face)
    else:
        loaded = as_mesh(mesh)
        face = (models or load_models(weights)).face
        binding = bind_with_hint(
            face, loaded, hint, BindingCache() if cache else None, opinion_for(hint)
        )
    with all_or_none(paths):
        for path in paths:
            if path.suffix.lower() == ".npz":
                save_binding(path, binding)
            else:
                from ..render.images import binding_image, save_image

                save_image(path, binding_image(binding))
    return binding


def describe(binding: Binding) -> dict[str, Any]:
    """Return how well a binding fits.

    Returns
    -------
    dict
        `error_mm`: median distance between face model and mesh; `relief`: correlation of the mesh's
        relief with a face's, up to 1; `lip_opening`: how far the lips open relative to the width of
        the mouth, as a fraction of the canonical face's; `parts`: number of vertices per recognised
        part; `lips_cut`: vertices that a cut between lips of one skin adds to drawn outputs, 0
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
