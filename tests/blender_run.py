"""Runs inside Blender: installs the add-on's zip, animates meshes, and writes what came of it.

    blender -b --factory-startup --python blender_run.py -- JOBS.json

JOBS.json names `zip`, `talkemo` (the program), `out` (a folder), and `runs`. Each run has a `name`,
`meshes` (OBJs, an object each), `settings` of the panel, and maybe `matrix` (4 × 4, of the objects),
`own_keys` (names of keys that the objects have), `driven` (the one that has a driver), `armature` (whether there is one with a head bone),
`times` (how often), `frames` to be measured, and `save`. For each run, NAME.json and NAME.npz, with
each object's vertices in the world, go into the folder.
"""

import json
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

OWN_VALUE = 0.25  # of the keys that the objects have


def install(path):
    """Install and enable the zip as users do; return the add-on's module."""
    if hasattr(bpy.ops, "extensions") and bpy.app.version >= (4, 2, 0):
        bpy.ops.extensions.package_install_files(
            filepath=path, repo="user_default", enable_on_install=True
        )
    else:
        bpy.ops.preferences.addon_install(filepath=path, overwrite=True)
        bpy.ops.preferences.addon_enable(module="talkemo_blender")
    return next(name for name in list(bpy.context.preferences.addons.keys()) if "talkemo" in name)


def add_object(path, matrix, own_keys=(), driven=None):
    """Add the mesh of an OBJ as an object; Blender's importers would change its order or axes."""
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    vertices = [tuple(map(float, line[1:4])) for line in lines if line[:1] == ["v"]]
    faces = [
        [int(corner.split("/")[0]) - 1 for corner in line[1:]]
        for line in lines
        if line[:1] == ["f"]
    ]
    mesh = bpy.data.meshes.new(Path(path).stem)
    mesh.from_pydata(vertices, [], faces)
    item = bpy.data.objects.new(Path(path).stem, mesh)
    bpy.context.collection.objects.link(item)
    item.matrix_world = Matrix(matrix)
    for name in ["Basis", *own_keys] if own_keys else []:
        item.shape_key_add(name=name).value = OWN_VALUE
        if name == driven:
            item.data.shape_keys.key_blocks[name].driver_add("value")
    item.select_set(True)
    bpy.context.view_layer.objects.active = item
    return item


def add_armature(objects):
    """Let an armature with a bone of the head move the objects."""
    data = bpy.data.armatures.new("rig")
    rig = bpy.data.objects.new("rig", data)
    bpy.context.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = data.edit_bones.new("mixamorig:Head")
    bone.head, bone.tail, bone.roll = (0, 0, 0), (0, 0.2, 1), 0.3
    bpy.ops.object.mode_set(mode="OBJECT")
    for item in objects:
        item.modifiers.new("rig", "ARMATURE").object = rig
        item.vertex_groups.new(name="mixamorig:Head").add(
            list(range(len(item.data.vertices))), 1.0, "REPLACE"
        )
    rig.select_set(False)
    bpy.context.view_layer.objects.active = objects[0]
    return rig


def world_vertices(item):
    """Vertices (N, 3) of an object with its keys and modifiers."""
    evaluated = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    values = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", values)
    matrix = np.array(evaluated.matrix_world)
    return values.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def curve_counts(data):
    """Number of curves of an ID's action."""
    animation = data and data.animation_data
    action = animation and animation.action
    if not action:
        return 0
    if hasattr(action, "fcurves"):
        return len(action.fcurves)
    return len(action.layers[0].strips[0].channelbag(animation.action_slot).fcurves)


def facts(objects, scene):
    """What the test looks at, besides vertices."""
    editor = scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor and editor.sequences
    return {
        "has_sound": bpy.app.build_options.audaspace,
        "keys": [
            [block.name for block in item.data.shape_keys.key_blocks]
            if item.data.shape_keys
            else []
            for item in objects
        ],
        "values": [
            {block.name: block.value for block in item.data.shape_keys.key_blocks}
            if item.data.shape_keys
            else {}
            for item in objects
        ],
        "curves": [curve_counts(item.data.shape_keys) for item in objects],
        "modifiers": [[mod.type for mod in item.modifiers] for item in objects],
        "strips": [[s.type, s.frame_start, s.frame_final_duration] for s in strips or ()],
        "objects": sorted(item.name for item in bpy.data.objects),
        "actions": sorted(action.name for action in bpy.data.actions),
        "frame_end": scene.frame_end,
    }


def run(job, out, interface):
    """Do what a run says."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(job["fps"]), 1.0
    matrix = job.get("matrix", np.eye(4).tolist())
    objects = [
        add_object(path, matrix, job.get("own_keys", ()), job.get("driven"))
        for path in job["meshes"]
    ]
    if objects:
        bpy.context.view_layer.objects.active = objects[0]
    rig = add_armature(objects) if job.get("armature") else None
    bpy.context.view_layer.update()
    for name, value in job["settings"].items():
        setattr(scene.talkemo, name, value)
    results, errors = [], []
    for _ in range(job.get("times", 1)):
        try:
            results += sorted(bpy.ops.talkemo.animate())
        except RuntimeError as error:
            errors.append(str(error))
    arrays = {}
    for frame in job.get("frames", ()):
        scene.frame_set(frame)
        for item in [item for item in bpy.data.objects if item.type == "MESH"]:
            arrays[f"{item.name} {frame}"] = world_vertices(item)
    result = {"results": results, "errors": errors, **facts(objects, scene)}
    result["last_run"] = list(interface.last_run)
    if rig is not None:
        result["bone_curves"] = curve_counts(rig)
    np.savez(out / f"{job['name']}.npz", **arrays)
    (out / f"{job['name']}.json").write_text(json.dumps(result))
    if job.get("save"):
        bpy.ops.wm.save_as_mainfile(filepath=job["save"])


def main():
    """Install the add-on, and do all runs."""
    jobs = json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text())
    module = install(jobs["zip"])
    for job in jobs["runs"]:
        preferences = bpy.context.preferences.addons[module].preferences
        preferences.command = job.get("talkemo", jobs["talkemo"])
        run(job, Path(jobs["out"]), sys.modules[f"{module}.interface"])


main()
