"""Parts that the face lacks, such as teeth, as objects of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from .curves import remove_action
from .exchange import AddedPart
from .objects import PART_MARK


def add_part(face: Any, matrix: np.ndarray, part: AddedPart, folder: Path) -> Any:
    """Add a part as a child of the face, and return the object.

    Parameters
    ----------
    face : Object
    matrix : (4, 4)
        The face's transform for which the part was made.
    part : AddedPart
    folder : Path
        For temporary files.
    """
    name = f"{face.name} {part.name}"
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(part.vertices.tolist(), [], part.faces.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(part.faces), bool))
    if part.uv is not None:
        layer = mesh.uv_layers.new()
        layer.data.foreach_set("uv", part.uv[part.faces.ravel()].astype(np.float32).ravel())
    mesh.materials.append(_material(name, part, folder))
    item = bpy.data.objects.new(name, mesh)
    item[PART_MARK] = face.name
    for collection in face.users_collection:
        collection.objects.link(item)
    item.parent = face
    item.matrix_parent_inverse = Matrix(matrix).inverted()
    return item


def _material(name: str, part: AddedPart, folder: Path) -> Any:
    """A material with a part's colour or texture."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.diffuse_color = (*part.surface[:3].tolist(), 1.0)
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = material.diffuse_color
    shader.inputs["Roughness"].default_value = float(part.surface[3])
    if part.texture:
        path = folder / f"{part.name}.png"
        path.write_bytes(part.texture)
        image = bpy.data.images.load(str(path))
        image.pack()
        node = tree.nodes.new("ShaderNodeTexImage")
        node.image = image
        tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    return material


def remove_parts(face_names: list[str]) -> None:
    """Take away the parts that an earlier run added to faces."""
    for item in list(bpy.data.objects):
        if item.get(PART_MARK) not in face_names:
            continue
        mesh = item.data
        if mesh.shape_keys is not None:
            remove_action(mesh.shape_keys)
        materials = list(mesh.materials)
        bpy.data.objects.remove(item)
        for data, collection in [
            (mesh, bpy.data.meshes),
            *((material, bpy.data.materials) for material in materials),
        ]:
            if data is not None and not data.users:
                collection.remove(data)
