"""Binding: the face of a mesh is found once, to be used again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..binding import Binding, FaceHint, bind_with_hint, save_binding
from ..binding.cache import BindingCache
from ..files.writing import check_output
from ..formats.mesh import as_mesh
from ..formats.mesh_types import Mesh
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .outputs import PathLike


def bind(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray],
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    cache: bool = True,
) -> Binding:
    """Find the face of a mesh and how each vertex is to move; `animate` takes the result in the mesh's place.

    mesh: a mesh file, a mesh in memory, or (vertices (N, 3), faces (F, 3))
    outputs: .npz files for `FaceHint.binding`, .png files to look at
    hint: where the face is, if it is not found unaided; weights, models: see `load_models`
    cache: whether a mesh that was bound before is remembered, and this one for the next time
    Raises InputError where no face is found, or for a file that cannot be used.
    """
    hint = hint or FaceHint()
    named = [outputs] if isinstance(outputs, str | Path) else list(outputs or ())
    paths = [Path(output) for output in named]
    inputs = [*([mesh] if isinstance(mesh, str | Path) else []), *hint.files]
    for path in paths:
        check_output(path, (".npz", ".png"), *inputs)
    loaded = as_mesh(mesh)
    face = (models or load_models(weights)).face
    binding = bind_with_hint(face, loaded, hint, BindingCache() if cache else None)
    for path in paths:
        if path.suffix.lower() == ".npz":
            save_binding(path, binding)
        else:
            from ..render.images import binding_image, save_image

            save_image(path, binding_image(binding))
    return binding


def describe(binding: Binding) -> dict[str, Any]:
    """How good a binding is.

    error_mm: median distance of the bilinear model's face from the mesh; relief: how much the mesh's relief is like a
    face's, up to 1; lip_opening: how far the lips open beside the canonical face's, relative to the width of the mouth;
    parts: number of vertices by what they were recognised as
    """
    return {
        "vertices": len(binding.mesh.vertices),
        "moving": len(binding.moving),
        "error_mm": binding.error,
        "relief": binding.relief,
        "lip_opening": binding.lip_opening_ratio(),
        "mesh_units_a_mm": binding.scale,
        "up": binding.placement.rotation[:, 1].round(3).tolist(),
        "forward": binding.placement.rotation[:, 2].round(3).tolist(),
        "parts": binding.parts,
    }
