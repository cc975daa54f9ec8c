"""Plays a GLB in Blender and writes the vertices of its meshes, as `play_three.mjs` does.

blender -b --python play_blender.py -- GLB OUTPUT TIME…
"""

import json
import os
import struct
import sys
import tempfile
from array import array

import bpy


def main():
    path, output, *times = sys.argv[sys.argv.index("--") + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        still = os.path.join(folder, "still.glb")
        without_animation(path, still)
        opened(still)
        rows = {mesh.data.name: [positions(mesh)] for mesh in meshes()}
    opened(path)
    scene = bpy.context.scene
    for time in times:
        frame = float(time) * scene.render.fps / scene.render.fps_base
        scene.frame_set(int(frame), subframe=frame % 1)
        for mesh in meshes():
            rows[mesh.data.name].append(positions(mesh))
    with open(output, "wb") as file:
        for row in rows.values():
            for values in row:
                values.tofile(file)
    print(json.dumps([{"name": name, "count": len(row[0]) // 3} for name, row in rows.items()]))


def without_animation(path, copy):
    """Write a GLB without its animations: Blender shows no rest while it has actions."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack_from("<I", content, 12)
    tree = json.loads(content[20 : 20 + length])
    tree.pop("animations", None)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    with open(copy, "wb") as file:
        file.write(struct.pack("<3I", 0x46546C67, 2, 20 + len(text) + len(rest)))
        file.write(struct.pack("<2I", len(text), 0x4E4F534A) + text + rest)


def opened(path):
    """Import a GLB into an empty scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=path)


def meshes():
    """Return the objects with a mesh."""
    return [thing for thing in bpy.context.scene.objects if thing.type == "MESH"]


def positions(mesh_object):
    """Return x, y, z of an object's vertices in the scene, in glTF's axes."""
    evaluated = mesh_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    result = array("f")
    for vertex in mesh.vertices:
        x, y, z = evaluated.matrix_world @ vertex.co
        result.extend((x, z, -y))
    evaluated.to_mesh_clear()
    return result


main()
