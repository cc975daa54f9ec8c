"""The surfaces of a glTF scene, where its nodes and skins put them.

Section numbers refer to the glTF 2.0 specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..files.reading import printable
from ..geometry.meshes import area_vectors
from .gltf_file import GltfFile
from .mesh_types import MAX_COORDINATE, MAX_MORPH_TARGETS, check_counts

TRIANGLE_LIST, TRIANGLE_STRIP, TRIANGLE_FAN = 4, 5, 6  # modes of a primitive that are surfaces
MAX_SCENE_NODES = 10_000
MAX_SCENE_DEPTH = 200  # levels of nodes
MAX_SCENE_MESHES = 1000
MAX_MORPH_WEIGHT = 1e6
MAX_SKIN_SETS = 16  # of four joints a vertex
SKIN_ELEMENTS = 8  # memory of a skinned vertex's matrix, in coordinates of a vertex
SKIN_BLOCK = 1 << 14  # vertices whose matrices are computed at once
# Fields that talkemo adds to its own files, in extras of a node and of a primitive.
ADDED_PART = "added_part"  # the node's mesh is no part of the user's, and is not read
PART_TRIANGLES = "part_triangles"  # accessor of triangles that such a node draws instead: eyeballs


@dataclass(eq=False)
class Surface:
    """The triangles of one primitive, in the scene."""

    node: int
    primitive: dict[str, Any]
    points: np.ndarray  # (V, 3) float64, all morph targets at 0
    faces: np.ndarray  # (F, 3) int64
    shapes: np.ndarray  # morph targets that were read (K, V, 3) float32
    weights: np.ndarray  # (K,), those at rest
    placement: np.ndarray  # into the scene: (3, 4), or of each vertex (V, 3, 4)
    turned: bool  # whether the corners of its triangles are in the reverse order of the file's

    @property
    def at_rest(self) -> np.ndarray:
        """(V, 3) float64, with the weights of morph targets that the file gives."""
        if not self.weights.any():
            return self.points
        return self.points + np.tensordot(self.weights.astype(np.float64), self.shapes, 1)


def is_added_part(node: dict[str, Any]) -> bool:
    """Return whether a node is a part that talkemo added to the user's mesh, such as teeth."""
    extras = node.get("extras")
    return isinstance(extras, dict) and bool(extras.get(ADDED_PART))


def read_surfaces(file: GltfFile, every_target: bool, with_added: bool = False) -> list[Surface]:
    """Return the surfaces of a file's scene, in the order of its nodes.

    Parameters
    ----------
    file : GltfFile
    every_target : bool
        Whether to read all morph targets, instead of those that the mesh at rest has.
    with_added : bool
        Whether to read the parts that talkemo added, which are not the user's mesh.

    Raises
    ------
    ValueError
        If there is none, or something in the file is out of range.
    """
    nodes, matrices, drawn = _drawn_primitives(file, with_added)
    _check_sizes(file, [primitive for _, primitive in drawn], every_target)
    reader = _SurfaceReader(file, nodes, matrices, every_target)
    return [reader.surface(number, primitive) for number, primitive in drawn]


def placed_targets(file: GltfFile) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield the morph targets of a file's scene one by one, placed as `read_surfaces` does.

    Yields
    ------
    node, target : int
        Numbers of the node, and of the target in the node's mesh.
    first : int
        The primitive's first vertex, counted through all surfaces.
    displacement : (V, 3) float32
        Of the primitive's vertices.

    Raises
    ------
    ValueError
        If something in the file is out of range.
    """
    nodes, matrices, drawn = _drawn_primitives(file)
    _check_sizes(file, [primitive for _, primitive in drawn], every_target=False)
    reader = _SurfaceReader(file, nodes, matrices, every_target=False)
    first = 0
    for number, primitive in drawn:
        count = file.count(primitive["attributes"]["POSITION"])
        targets = primitive.get("targets", [])
        placement = reader.placement(number, primitive, count) if targets else matrices[number]
        for k, target in enumerate(targets):
            displacement = _transformed(placement, reader.displacement(target, (count, 3)))
            if not within(displacement, MAX_COORDINATE):
                raise ValueError("morph targets are out of range")
            yield number, k, first, displacement.astype(np.float32)
        first += count


def _drawn_primitives(
    file: GltfFile, with_added: bool = False
) -> tuple[list[dict[str, Any]], np.ndarray, list[tuple[int, dict[str, Any]]]]:
    """All nodes, their matrices (N, 4, 4), and each primitive that is drawn with its node's number."""
    nodes = [file.item("nodes", k) for k in range(len(file.tree.get("nodes", [])))]
    matrices = world_matrices(nodes)
    drawn = [
        (number, primitive)
        for number in _nodes_of_scene(file, nodes)
        if "mesh" in nodes[number] and (with_added or not is_added_part(nodes[number]))
        for primitive in file.item("meshes", nodes[number]["mesh"])["primitives"]
        if primitive.get("mode", TRIANGLE_LIST) in (TRIANGLE_LIST, TRIANGLE_STRIP, TRIANGLE_FAN)
        and "POSITION" in primitive["attributes"]
    ]
    if not drawn:
        raise ValueError("no mesh of triangles in it")
    return nodes, matrices, drawn


def _check_sizes(file: GltfFile, primitives: list[dict[str, Any]], every_target: bool) -> None:
    """Raise for a scene of more primitives, vertices or bytes than are read."""
    if len(primitives) > MAX_SCENE_MESHES:
        raise ValueError(
            f"a scene of {len(primitives)} meshes, more than {MAX_SCENE_MESHES}; join them"
        )
    vertices = corners = elements = 0
    for primitive in primitives:
        targets = len(primitive.get("targets", []))
        count = file.count(primitive["attributes"]["POSITION"])
        vertices += count
        corners += file.count(primitive["indices"]) if "indices" in primitive else count
        skin = SKIN_ELEMENTS if "JOINTS_0" in primitive["attributes"] else 0
        elements += count * (2 + skin + targets * every_target)
        if targets > MAX_MORPH_TARGETS:
            raise ValueError(f"{targets} morph targets, more than {MAX_MORPH_TARGETS}")
    check_counts(printable(file.path), vertices, corners // 3)
    if max(elements * 12, corners * 4) > file.max_bytes:
        raise ValueError("more vertices and morph targets than any face has")


# ------------------------------------------------------------------------------------------- nodes


def _nodes_of_scene(file: GltfFile, nodes: list[dict[str, Any]]) -> list[int]:
    """The numbers of the nodes of the scene that is shown, in ascending order."""
    children = {child for node in nodes for child in node.get("children", [])}
    roots: Iterable[Any] = (k for k in range(len(nodes)) if k not in children)
    if file.tree.get("scenes"):
        scene = file.item("scenes", file.tree.get("scene", 0))
        roots = scene.get("nodes", [])
    shown: set[int] = set()
    todo = list(roots)
    while todo:
        number = todo.pop()
        file.item("nodes", number)
        visibility = nodes[number].get("extensions", {}).get("KHR_node_visibility", {})
        if number not in shown and visibility.get("visible", True):
            shown.add(number)
            todo += nodes[number].get("children", [])
    return sorted(shown)


def world_matrices(nodes: list[dict[str, Any]]) -> np.ndarray:
    """Return the matrices (N, 4, 4) of nodes into the scene.

    Raises ValueError for too many nodes, too many levels of them, or nodes that are no tree.
    """
    if len(nodes) > MAX_SCENE_NODES:
        raise ValueError(f"{len(nodes)} nodes, more than {MAX_SCENE_NODES}")
    parents: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if not isinstance(child, int) or not 0 <= child < len(nodes) or child in parents:
                raise ValueError("nodes that are not a tree")
            parents[child] = number
    matrices = np.empty((len(nodes), 4, 4))
    depths = [-1] * len(nodes)  # -1 until the matrix is known
    for number in range(len(nodes)):
        chain = [number]
        while depths[chain[-1]] < 0 and chain[-1] in parents:
            chain.append(parents[chain[-1]])
            if len(chain) > MAX_SCENE_DEPTH:
                raise ValueError(f"nodes of more than {MAX_SCENE_DEPTH} levels, or in a circle")
        for k in reversed(chain):
            if depths[k] >= 0:
                continue
            local = _matrix(nodes[k])
            matrices[k] = matrices[parents[k]] @ local if k in parents else local
            depths[k] = depths[parents[k]] + 1 if k in parents else 0
            if depths[k] > MAX_SCENE_DEPTH:
                raise ValueError(f"nodes of more than {MAX_SCENE_DEPTH} levels")
    return matrices


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """Matrix (4, 4) of a node: its own, or translation × rotation × scale (section 3.5.3)."""
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        matrix = np.eye(4)
        if "rotation" in node:
            matrix[:3, :3] = _rotation(np.array(node["rotation"], np.float64))
        matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
        matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    if not within(matrix, MAX_COORDINATE):
        raise ValueError("a node is out of range")
    return matrix


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a quaternion x, y, z, w of any length but 0."""
    length = np.linalg.norm(quaternion)
    if quaternion.shape != (4,) or not 1e-9 < length < 1e9:
        raise ValueError("a rotation that is no quaternion")
    x, y, z, w = quaternion / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * (w * cross + cross @ cross)


# ---------------------------------------------------------------------------------------- surfaces


class _SurfaceReader:
    """Reads primitives and places them in the scene."""

    def __init__(
        self,
        file: GltfFile,
        nodes: list[dict[str, Any]],
        matrices: np.ndarray,
        every_target: bool,
    ):
        self.file, self.nodes, self.matrices = file, nodes, matrices
        self.every_target = every_target
        self.joints: dict[int, np.ndarray] = {}  # matrices (J, 3, 4) of each skin's joints

    def surface(self, number: int, primitive: dict[str, Any]) -> Surface:
        """Return a primitive of a node."""
        node = self.nodes[number]
        points = self.file.attribute(primitive, "POSITION")
        assert points is not None
        points = points.astype(np.float64)
        if points.shape[1:] != (3,) or not within(points, MAX_COORDINATE):
            raise ValueError("positions are out of range")
        faces = _triangles(self.file.indices(primitive), primitive, len(points))
        faces = np.concatenate([faces, self._part_triangles(primitive, len(points))])
        matrices = self.placement(number, primitive, len(points))
        shapes, weights = self._shapes(node, primitive, points.shape)
        points = _transformed(matrices, points) + matrices[..., 3]
        for k, shape in enumerate(shapes):
            shapes[k] = _transformed(matrices, shape)
        if not within(points, MAX_COORDINATE) or not within(shapes, MAX_COORDINATE):
            raise ValueError("positions or morph targets are out of range")
        turned = False
        if np.median(np.linalg.det(matrices[..., :3])) < 0:
            turned = _turns(faces, points, "NORMAL" in primitive["attributes"])
        faces = faces[:, ::-1] if turned else faces
        return Surface(number, primitive, points, faces, shapes, weights, matrices, turned)

    def _part_triangles(self, primitive: dict[str, Any], count: int) -> np.ndarray:
        """Triangles (F, 3) of a primitive that another node draws in a file of talkemo."""
        extras = primitive.get("extras")
        if not isinstance(extras, dict) or PART_TRIANGLES not in extras:
            return np.zeros((0, 3), np.int64)
        corners = self.file.accessor(extras[PART_TRIANGLES])
        if corners.dtype.kind != "u":
            raise ValueError("triangles of a part that are no indices")
        return _triangles(corners.reshape(-1), {}, count)

    def _shapes(
        self, node: dict[str, Any], primitive: dict[str, Any], form: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Morph targets (K, V, 3), not placed, and their weights (K,) at rest."""
        targets = primitive.get("targets", [])
        mesh = self.file.item("meshes", node["mesh"])
        given = node.get("weights") or mesh.get("weights") or [0.0] * len(targets)
        weights = np.array(given if targets else [], np.float32)
        if weights.shape != (len(targets),) or not within(weights, MAX_MORPH_WEIGHT):
            raise ValueError("weights out of range, or not as many as morph targets")
        if not self.every_target:
            used = np.flatnonzero(weights)
            targets, weights = [targets[k] for k in used], weights[used]
        shapes = np.zeros((len(targets), *form), np.float32)
        for shape, target in zip(shapes, targets):
            shape[:] = self.displacement(target, form)
        return shapes, weights

    def displacement(self, target: dict[str, Any], form: tuple[int, ...]) -> np.ndarray:
        """Return the displacements (V, 3) of a morph target, not placed."""
        if "POSITION" not in target:
            return np.zeros(form, np.float32)
        displacement = self.file.accessor(target["POSITION"])
        if displacement.shape != form:
            raise ValueError("a morph target and its mesh have different numbers of vertices")
        return displacement

    def placement(self, number: int, primitive: dict[str, Any], count: int) -> np.ndarray:
        """The matrix (3, 4) of a primitive, or those (V, 3, 4) of each vertex of a skinned one.

        Section 3.7.3.3: the node of a skinned mesh does not move it, its joints do.
        """
        node = self.nodes[number]
        if "skin" not in node or "JOINTS_0" not in primitive["attributes"]:
            return np.asarray(self.matrices[number, :3])
        joints = self._joint_matrices(node["skin"])
        numbers, shares = influences(self.file, primitive, count)
        shares[~(shares.sum(1) > 0), 0] = 1  # as viewers do for a vertex of no joint
        if (numbers[shares > 0] >= len(joints)).any():
            raise ValueError("a skin with joints that do not exist")
        numbers = np.where(shares > 0, numbers, 0)
        shares /= shares.sum(1, keepdims=True)
        matrices = np.zeros((count, 3, 4))
        for start in range(0, count, SKIN_BLOCK):
            rows = slice(start, start + SKIN_BLOCK)
            for joint, share in zip(numbers[rows].T, shares[rows].T):
                matrices[rows] += share[:, None, None] * joints[joint]
        return matrices

    def _joint_matrices(self, number: Any) -> np.ndarray:
        """The matrices (J, 3, 4) of a skin's joints, from the mesh into the scene."""
        if number not in self.joints:
            _, matrices = skin_matrices(self.file, number, self.matrices)
            self.joints[number] = matrices[:, :3]
        return self.joints[number]


def skin_matrices(
    file: GltfFile, number: Any, matrices: np.ndarray
) -> tuple[list[int], np.ndarray]:
    """Return the nodes of a skin's joints, and their matrices (J, 4, 4) from the mesh into the scene.

    `matrices` (N, 4, 4) are those of all nodes. Raises ValueError if something is out of range.
    """
    skin = file.item("skins", number)
    joints = skin["joints"]
    for joint in joints:
        file.item("nodes", joint)
    if not 0 < len(joints) <= MAX_SCENE_NODES:
        raise ValueError("a skin without joints, or with too many")
    placed = matrices[joints]
    if "inverseBindMatrices" in skin:
        inverse = file.accessor(skin["inverseBindMatrices"]).astype(np.float64)
        if inverse.ndim != 2 or inverse.shape[1] != 16 or len(inverse) < len(joints):
            raise ValueError("a skin with fewer matrices than joints")
        inverse = inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        if not within(inverse, MAX_COORDINATE):
            raise ValueError("a skin whose matrices contain NaN, infinity or huge numbers")
        placed = placed @ inverse
    return joints, placed


def influences(
    file: GltfFile, primitive: dict[str, Any], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints (V, 4S) int and the shares (V, 4S) of a skinned primitive."""
    numbers, shares = [], []
    for k in range(MAX_SKIN_SETS):
        joints = file.attribute(primitive, f"JOINTS_{k}")
        weights = file.attribute(primitive, f"WEIGHTS_{k}")
        if joints is None or weights is None:
            break
        if joints.shape != (count, 4) or weights.shape != (count, 4):
            raise ValueError("a skin and its mesh have different numbers of vertices")
        numbers.append(joints.astype(np.int64))
        shares.append(weights.astype(np.float64))
    if not numbers:
        raise ValueError("a skin without weights")
    weights = np.concatenate(shares, axis=1)
    if not within(weights, MAX_MORPH_WEIGHT):
        raise ValueError("a skin whose weights contain NaN, infinity or huge numbers")
    return np.concatenate(numbers, axis=1), np.maximum(weights, 0)


def _transformed(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors (V, 3) by a matrix (3, 4) or one for each (V, 3, 4), without its translation."""
    if matrices.ndim == 2:
        return np.asarray(vectors @ matrices[:, :3].T)
    return np.einsum("vij,vj->vi", matrices[..., :3], vectors)


def _turns(faces: np.ndarray, points: np.ndarray, has_normals: bool) -> bool:
    """Whether to turn the triangles of a surface that its placement mirrors (section 3.7.4).

    Files exist whose triangles were turned already, so that viewers show them from behind. Without
    normals, a surface counts as one of these if it would face inwards.
    """
    if has_normals or not len(faces):
        return True
    centres = points[faces].mean(1)
    outwards = np.einsum("fc,fc->", centres - centres.mean(0), area_vectors(points, faces[:, ::-1]))
    return bool(outwards >= 0)


def _triangles(indices: np.ndarray | None, primitive: dict[str, Any], count: int) -> np.ndarray:
    """The triangles (F, 3) int64 of a primitive of `count` vertices (section 3.7.2.1)."""
    corners = np.arange(count) if indices is None else indices.astype(np.int64)
    if corners.max(initial=0) >= count:
        raise ValueError("triangles are out of range")
    mode = primitive.get("mode", TRIANGLE_LIST)
    is_compressed = "KHR_draco_mesh_compression" in primitive.get("extensions", {})
    if mode == TRIANGLE_LIST or is_compressed:  # Draco makes lists of strips
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == TRIANGLE_FAN:
        first = np.repeat(corners[:1], max(len(corners) - 2, 0))
        faces = np.stack([corners[1:-1], corners[2:], first], axis=1)
    else:
        faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
        faces[1::2] = faces[1::2, [0, 2, 1]]
    # Strips are joined by triangles without area.
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def within(values: np.ndarray, limit: float) -> bool:
    """Return whether all numbers are finite and at most `limit` in absolute value."""
    return bool(np.abs(values).max(initial=0.0) <= limit)  # False for NaN
