"""What a viewer shows of a glTF at a frame of an animation, by the specification's formulas."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.spatial.transform import Rotation

from talkemo.formats.gltf_file import GltfFile


def opened(path):
    return GltfFile(Path(path), Path(path).read_bytes())


def local_matrix(node):
    """Matrix (4, 4) of a node's own transform."""
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    result = np.eye(4)
    turn = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    result[:3, :3] = turn * np.array(node.get("scale", [1, 1, 1]))
    result[:3, 3] = node.get("translation", [0, 0, 0])
    return result


def world_matrix(nodes, number):
    parents = {child: k for k, node in enumerate(nodes) for child in node.get("children", [])}
    result = local_matrix(nodes[number])
    while number in parents:
        number = parents[number]
        result = local_matrix(nodes[number]) @ result
    return result


def animated_nodes(file, frame, animation=0):
    """The nodes at a frame of an animation; None for the file at rest."""
    nodes = json.loads(json.dumps(file.tree["nodes"]))
    if frame is None:
        return nodes
    chosen = file.tree["animations"][animation]
    for channel in chosen["channels"]:
        sampler = chosen["samplers"][channel["sampler"]]
        count = file.accessor(sampler["input"]).size
        values = file.accessor(sampler["output"]).reshape(count, -1)
        node, path = nodes[channel["target"]["node"]], channel["target"]["path"]
        assert "matrix" not in node or path == "weights"
        node[path] = values[frame].tolist()
    return nodes


def shown(path, frame=None, animation=0):
    """The points of each primitive at a frame, by (node, primitive), with that of the node's name."""
    file = opened(path)
    nodes = animated_nodes(file, frame, animation)
    result = {}
    for number, node in enumerate(nodes):
        if "mesh" not in node:
            continue
        mesh = file.tree["meshes"][node["mesh"]]
        for k, primitive in enumerate(mesh["primitives"]):
            points = file.attribute(primitive, "POSITION").astype(float)
            targets = primitive.get("targets", [])
            weights = node.get("weights") or mesh.get("weights") or [0] * len(targets)
            for weight, target in zip(weights, targets, strict=bool(targets)):
                if "POSITION" in target:
                    points = points + weight * file.accessor(target["POSITION"])
            matrices = world_matrix(nodes, number)[None]
            if "skin" in node and "JOINTS_0" in primitive["attributes"]:
                matrices = skin_matrices(file, nodes, node["skin"], primitive)
            ends = np.einsum(
                "vij,vj->vi",
                np.broadcast_to(matrices, (len(points), 4, 4)),
                np.column_stack([points, np.ones(len(points))]),
            )
            result[number, k] = SimpleNamespace(points=ends[:, :3], name=node.get("name"))
    return result


def skin_matrices(file, nodes, number, primitive):
    skin = file.tree["skins"][number]
    inverse = file.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    joints = np.stack([world_matrix(nodes, joint) for joint in skin["joints"]]) @ inverse
    numbers = file.attribute(primitive, "JOINTS_0")
    shares = file.attribute(primitive, "WEIGHTS_0").astype(float)
    shares[~(shares.sum(1) > 0), 0] = 1
    shares /= shares.sum(1, keepdims=True)
    return np.einsum("vs,vsij->vij", shares, joints[numbers])


def joined(poses):
    """All points, in the order of nodes and primitives."""
    return np.concatenate([poses[key].points for key in sorted(poses)])
