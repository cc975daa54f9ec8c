"""Reading glTF 2.0 files: meshes at rest, and meshes that morph targets animate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_bytes, reading_errors
from ..geometry.rigid import as_rotation
from .animation import FROWN_META, META_OF_EMOTION, check_coordinates, frames_per_chunk
from .gltf_colours import read_colours
from .gltf_file import MAX_GLB_BYTES, GltfFile
from .gltf_origin import GltfOrigin, OriginPart
from .gltf_scene import MAX_MORPH_WEIGHT, Surface, read_surfaces, within
from .gltf_shapes import has_targets, load_gltf_shapes, named_shapes
from .gltf_turns import head_and_gaze
from .groups import kind_of_names
from .mesh_types import (
    MAX_COORDINATE,
    MAX_MESH_TRIANGLES,
    Mesh,
    MeshAttributes,
    MeshShape,
)
from .units import METRES_PER_UNIT

MAX_GLB_SECONDS = 24 * 3600.0
MAX_GLB_FRAMES = 1_000_000  # that the keys of an animation may become
DEFAULT_GLB_FPS = 30.0  # if the keys of an animation do not come at a steady rate
KEY_RATE_RANGE = (5, 240)  # rates of keys in 1/s that are taken for a frame rate
# Fields that talkemo adds to its own files, in extras of the asset and of a primitive.
MESH_SPACE = "mesh_space"  # how the mesh's coordinates were converted to the file's
ALL_TRIANGLES = "all_triangles"  # accessor of all triangles, also those that are never drawn
# Of the user's mesh, whose lips the file cuts: accessor of its triangles, the number of its vertices,
# which come first, and accessor of those that are hidden, if any.
OWN_TRIANGLES, OWN_VERTICES, OWN_HIDDEN = "own_triangles", "own_vertices", "own_hidden"
# Metadata that are read again: text or numbers.
META_OF_SPEECH = ("audio", *META_OF_EMOTION)
MAX_SPACE_RATIO = 1e12  # of lengths in the mesh and in the file


def read_gltf(path: Path, file: IO[bytes]) -> Mesh:
    """Return the mesh of an open glb, gltf or vrm, as a viewer shows it at rest.

    All surfaces of the scene are joined, in the order of its nodes, posed by these and with the
    weights of morph targets that the file gives.

    Raises InputError if it is too large or needs what is not there, and any exception if it is
    malformed.
    """
    content = file.read()
    source = GltfFile(path, content)
    surfaces = read_surfaces(source, every_target=False)
    faces = _joined_faces([surface.faces for surface in surfaces], surfaces)
    attributes = read_colours(source, surfaces)
    named = _named_kinds(source, surfaces)
    if named is not None:
        attributes = replace(attributes or MeshAttributes(), named=named)
    vertices = np.concatenate([surface.at_rest for surface in surfaces])
    origin = _origin(source, content, surfaces)
    load_shapes = None
    if has_targets(source) and not has_only_arkit_of_talkemo(source.tree):
        load_shapes = partial(load_gltf_shapes, path, len(vertices))
    notes = tuple(source.notes)
    return Mesh(vertices, faces, attributes, path.name, notes, origin, load_shapes)


def _origin(file: GltfFile, content: bytes, surfaces: list[Surface]) -> GltfOrigin:
    """What the whole file of surfaces is written back by."""
    is_kept = _mesh_space(file.tree) is None
    parts = _parts(file, surfaces)
    return GltfOrigin(file.path, content, file.companions, parts, is_kept)


def _parts(file: GltfFile, surfaces: list[Surface]) -> tuple[OriginPart, ...]:
    """Which vertices of the joined mesh each surface has."""
    parts, first = [], 0
    for surface in surfaces:
        mesh = file.tree["nodes"][surface.node]["mesh"]
        primitives = file.item("meshes", mesh)["primitives"]
        number = next(k for k, item in enumerate(primitives) if item is surface.primitive)
        parts.append(OriginPart(surface.node, mesh, number, first, len(surface.points)))
        first += len(surface.points)
    return tuple(parts)


def _named_kinds(file: GltfFile, surfaces: list[Surface]) -> np.ndarray | None:
    """Return `MeshAttributes.named` of surfaces; None if no name tells anything."""
    kinds = []
    for surface in surfaces:
        node = file.item("nodes", surface.node)
        owners = [file.item("meshes", node["mesh"]), node]
        if "material" in surface.primitive:
            owners.insert(0, file.item("materials", surface.primitive["material"]))
        kinds.append(kind_of_names(*(owner.get("name") for owner in owners)))
    if len(kinds) < 2 or not any(kinds):
        return None  # the name of a whole mesh tells nothing of its parts
    return np.repeat(kinds, [len(surface.points) for surface in surfaces])


def has_only_arkit_of_talkemo(tree: dict[str, Any]) -> bool:
    """Return whether a file is one of talkemo's whose targets are not the character's own."""
    extras = tree.get("asset", {}).get("extras")
    is_ours = isinstance(extras, dict) and MESH_SPACE in extras
    return is_ours and extras.get("targets") not in ("own", "both")


def _joined_faces(faces: list[np.ndarray], surfaces: list[Surface]) -> np.ndarray:
    """The triangles (F, 3) int32 of surfaces, whose vertices are counted through all of them."""
    starts = np.cumsum([0, *(len(surface.points) for surface in surfaces)])
    joined = np.concatenate([part + start for part, start in zip(faces, starts)])
    return np.asarray(joined, np.int32)


class GlbAnimation:
    """A `Source` that reads the meshes of a GLB as one, with its first morph target animation.

    `rest` (V, 3) is the mesh with all weights at zero. Nodes keep their positions; skeletal
    animation and moving nodes are not read. A file that talkemo wrote is read in the unit, the axes
    and the triangles of the mesh it was made of; `meta` then names the unit.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Frame rate to sample the animation at; by default the rate of its keys.
    """

    def __init__(self, path: str | Path, fps: float | None = None):
        self.path = Path(path)
        what = "a GLB that can be read"
        hint = "export it with morph targets and their animation; talkemo animate makes one"
        content = read_bytes(self.path, what, hint, MAX_GLB_BYTES)
        with reading_errors(path, what, hint):
            self._read(content, fps)

    def _read(self, content: bytes, fps: float | None) -> None:
        """Read meshes and animation."""
        self.meta: dict[str, Any] = {}
        self.focus: np.ndarray | None = None
        self.facing: np.ndarray | None = None
        self._played: int | None = None  # number of the animation that is read
        file = GltfFile(self.path, content)
        to_mesh = self._read_mesh_space(file.tree)
        self._surfaces = read_surfaces(file, every_target=True)
        self.load_shapes = self._shape_loader(file)
        hidden = [
            _undo_export(file, surface, to_mesh, is_joined=own_animation(file.tree) is None)
            for surface in self._surfaces
        ]
        self.rest: np.ndarray | None = np.concatenate([s.points for s in self._surfaces])
        self.faces = _joined_faces([s.faces for s in self._surfaces], self._surfaces)
        # Of a mesh without colours talkemo writes painted ones, which are painted anew.
        is_painted = _mesh_space(file.tree) is not None
        self.attributes = None if is_painted else read_colours(file, self._surfaces)
        if any(rows.any() for rows in hidden):
            groups = np.where(np.concatenate(hidden), "hidden", "skin")
            self.attributes = replace(self.attributes or MeshAttributes(), groups=groups)
        if not 0 < len(self.faces) <= MAX_MESH_TRIANGLES:
            raise ValueError(f"{len(self.faces)} triangles, of 1 to {MAX_MESH_TRIANGLES}")
        self._curves = self._weight_curves(file)
        origin = _origin(file, content, self._surfaces)
        self.origin = replace(origin, animation=self._played)
        if not self._curves:
            raise ValueError("no animation of morph target weights in it")
        end = max(times[-1] for times, _ in self._curves.values())
        if end > MAX_GLB_SECONDS:
            raise ValueError(f"an animation of {end / 3600:.0f} hours")
        self.fps = fps or _key_rate(max((times for times, _ in self._curves.values()), key=len))
        self.shape: tuple[int, ...] = (round(end * self.fps) + 1, len(self.rest), 3)
        if len(self) > MAX_GLB_FRAMES:
            raise InputError(
                f"{printable(self.path)}: keys up to {end:.0f} s are {len(self)} frames at "
                f"{self.fps:g} a second",
                f"at most {MAX_GLB_FRAMES} are read: lower --fps, or move the last keys",
            )
        # Turns of the head (T, 3, 3) and the gaze (T, 2) that a file of talkemo has beside that.
        self.head, self.gaze = self._turns(file, to_mesh)

    def _shape_loader(self, file: GltfFile) -> Callable[[], tuple[MeshShape, ...]] | None:
        """What returns the character's own shapes of the file, in `Mesh.load_shapes`'s sense."""
        if not has_targets(file) or has_only_arkit_of_talkemo(file.tree):
            return None

        def load() -> tuple[MeshShape, ...]:
            counts = np.cumsum([0, *(len(surface.points) for surface in self._surfaces)])
            targets = (
                (surface.node, k, int(first), shape)
                for surface, first in zip(self._surfaces, counts)
                for k, shape in enumerate(surface.shapes)
            )
            what, hint = "blend shapes that can be read", "use --targets arkit"
            with reading_errors(self.path, what, hint):
                shapes = named_shapes(file, targets, int(counts[-1]))
            return tuple(replace(shape, at_rest=0.0) for shape in shapes)  # `rest` is without them

        return load

    def _read_mesh_space(self, tree: dict[str, Any]) -> np.ndarray:
        """Set facing and metadata from talkemo's extras; return the matrix (3, 3) into the mesh."""
        about = _extras_of_talkemo(tree)
        if about is None:
            return np.eye(3)
        space = about[MESH_SPACE]
        for name in META_OF_SPEECH:
            if isinstance(about.get(name), str | int | float):
                self.meta[name] = about[name]
        to_file = np.array(space["to_file"], np.float64)
        if to_file.shape != (3, 3) or not within(to_file, MAX_SPACE_RATIO):
            raise ValueError("its mesh space is out of range")
        scale = np.cbrt(np.linalg.det(to_file))
        if scale < 1 / MAX_SPACE_RATIO:
            raise ValueError("its mesh space is out of range")
        if space.get("facing") is not None:
            self.facing = as_rotation(space["facing"])
        if as_rotation(to_file / scale) is None:
            raise ValueError("its mesh space is no similarity")
        if space.get("unit") in METRES_PER_UNIT:
            self.meta["unit"] = space["unit"]
        if FROWN_META in space:
            self.meta[FROWN_META] = space[FROWN_META]
        return np.asarray(np.linalg.inv(to_file))

    def _weight_curves(self, file: GltfFile) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Key times (K,) in s and weights (K, targets) by node, of the first animation with any."""
        targets: dict[int, int] = {}
        for surface in self._surfaces:
            count = len(surface.shapes)
            if count and targets.setdefault(surface.node, count) != count:
                raise ValueError("parts of one mesh have different numbers of morph targets")
        own = own_animation(file.tree)
        for number, animation in enumerate(file.tree.get("animations", [])):
            curves = {}
            if own is not None and animation is not own:
                continue
            for channel in animation["channels"]:
                node = channel["target"].get("node")
                if channel["target"].get("path") == "weights" and targets.get(node):
                    sampler = animation["samplers"][channel["sampler"]]
                    curves[node] = _weight_curve(file, sampler, targets[node])
            if curves:
                self._played = number
                return curves
        return {}

    def _turns(
        self, file: GltfFile, to_mesh: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Head and gaze of a file that talkemo made, see `head_and_gaze`."""
        if _mesh_space(file.tree) is None or self.facing is None or self._played is None:
            return None, None
        upright = np.cbrt(np.linalg.det(to_mesh)) * np.linalg.inv(to_mesh)
        times = np.arange(len(self)) / self.fps
        animation = file.tree["animations"][self._played]
        return head_and_gaze(file, animation, times, upright.T @ self.facing)

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        rest = np.asarray(self.rest, np.float32)
        frames = frames_per_chunk(frames, len(rest))
        for start in range(0, len(self), frames):
            times = np.arange(start, min(start + frames, len(self))) / self.fps
            chunk = np.repeat(rest[None], len(times), axis=0)
            first = 0
            for surface in self._surfaces:
                rows = slice(first, first + len(surface.points))
                first = rows.stop
                if not len(surface.shapes):
                    continue
                weights = np.broadcast_to(surface.weights, (len(times), len(surface.shapes)))
                if surface.node in self._curves:
                    weights = _at_times(self._curves[surface.node], times)
                moved = np.tensordot(weights.astype(np.float32), surface.shapes, 1)
                chunk[:, rows] += moved
            check_coordinates(self.path, chunk)
            yield chunk


def _at_times(curve: tuple[np.ndarray, np.ndarray], times: np.ndarray) -> np.ndarray:
    """Return weights (T, K) at times (T,) from keys (N,) and values (N, K)."""
    keys, values = curve
    return np.stack([np.interp(times, keys, column) for column in values.T], axis=1)


def _mesh_space(tree: dict[str, Any]) -> dict[str, Any] | None:
    """What talkemo says of the mesh that it made a file of; None of a file of others."""
    asset = tree.get("asset")
    extras = asset.get("extras") if isinstance(asset, dict) else None
    return extras.get(MESH_SPACE) if isinstance(extras, dict) else None


def _extras_of_talkemo(tree: dict[str, Any]) -> dict[str, Any] | None:
    """What talkemo says of an animation of the file, with a mesh space; None of a file of others."""
    animation = own_animation(tree)
    if animation is not None:
        result: dict[str, Any] = animation["extras"]
        return result
    return None if _mesh_space(tree) is None else tree["asset"]["extras"]


def own_animation(tree: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first animation that talkemo added to a file of others, None without one."""
    for animation in tree.get("animations", []):
        extras = animation.get("extras")
        if isinstance(extras, dict) and isinstance(extras.get(MESH_SPACE), dict):
            result: dict[str, Any] = animation
            return result
    return None


def _undo_export(
    file: GltfFile, surface: Surface, to_mesh: np.ndarray, is_joined: bool
) -> np.ndarray:
    """Bring a surface into the space, order and triangles of the mesh that talkemo made it of.

    Returns which of its vertices (V,) are hidden; a surface of other programs stays as it is.
    `is_joined`: whether one surface is the whole mesh, whose vertices may have been split.
    """
    surface.points = surface.points @ to_mesh
    surface.shapes = (surface.shapes @ to_mesh).astype(np.float32)
    if not within(surface.points, MAX_COORDINATE) or not within(surface.shapes, MAX_COORDINATE):
        raise ValueError("positions or morph targets are out of range")
    count = len(surface.points)
    hidden = np.zeros(count, bool)
    if not is_joined:
        return hidden
    extras = surface.primitive.get("extras")
    if isinstance(extras, dict) and ALL_TRIANGLES in extras:
        every = file.accessor(extras[ALL_TRIANGLES]).astype(np.int64).reshape(-1, 3)
        if every.max(initial=0) >= count or every.min(initial=0) < 0:
            raise ValueError("triangles are out of range")
        hidden[every] = True
        hidden[surface.faces] = False
        surface.faces = every
    origin = file.attribute(surface.primitive, "_VERTEX")
    if origin is not None:  # vertices were split at seams of the texture
        first = _first_of_each(origin, count)
        surface.faces = np.asarray(origin, np.int64)[surface.faces]
        surface.points, surface.shapes = surface.points[first], surface.shapes[:, first]
        hidden = hidden[first]
    if isinstance(extras, dict) and OWN_TRIANGLES in extras:
        return _undo_cut(file, surface, extras)
    return hidden


def _undo_cut(file: GltfFile, surface: Surface, extras: dict[str, Any]) -> np.ndarray:
    """Remove what a cut between the lips added to a surface; return its hidden vertices (V,)."""
    numbers = {
        name: file.accessor(extras[name]).astype(np.int64)
        for name in (OWN_TRIANGLES, OWN_HIDDEN)
        if name in extras
    }
    count = extras[OWN_VERTICES]
    if not isinstance(count, int) or not 0 < count <= len(surface.points):
        raise ValueError("the number of the mesh's own vertices is out of range")
    if any(rows.max(initial=0) >= count or rows.min(initial=0) < 0 for rows in numbers.values()):
        raise ValueError("vertices of the mesh are out of range")
    surface.faces = numbers[OWN_TRIANGLES].reshape(-1, 3)
    surface.points, surface.shapes = surface.points[:count], surface.shapes[:, :count]
    hidden = np.zeros(count, bool)
    hidden[numbers.get(OWN_HIDDEN, np.zeros(0, int))] = True
    return hidden


def _first_of_each(origin: np.ndarray, count: int) -> np.ndarray:
    """The first row of each vertex number 0 … n in `origin` (N,); raise ValueError for gaps."""
    if origin.shape != (count,) or not np.isfinite(origin).all():
        raise ValueError("_VERTEX is not a number for each vertex")
    numbers, first = np.unique(origin, return_index=True)
    if not np.array_equal(numbers, np.arange(len(numbers))):
        raise ValueError("_VERTEX does not number the vertices")
    return first


def _weight_curve(
    file: GltfFile, sampler: dict[str, Any], targets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Key times (K,) and weights (K, targets) of a sampler."""
    times = file.accessor(sampler["input"]).astype(np.float64)
    values = file.accessor(sampler["output"]).astype(np.float32)
    interpolation = sampler.get("interpolation", "LINEAR")
    values = values.reshape(len(times), 3 if interpolation == "CUBICSPLINE" else 1, -1)
    # A spline stores tangents around each value. They are ignored: keys are as dense as frames.
    values = values[:, values.shape[1] // 2]
    if values.shape[1] != targets or not len(times):
        raise ValueError("an animation has not as many weights as morph targets")
    if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError("key times that do not ascend")
    if not within(values, MAX_MORPH_WEIGHT):
        raise ValueError("weights that are out of range")
    return _stairs(times, values) if interpolation == "STEP" else (times, values)


def _key_rate(times: np.ndarray) -> float:
    """Frame rate of key times (K,) with one key per frame, DEFAULT_GLB_FPS for others."""
    if len(times) < 2:
        return DEFAULT_GLB_FPS
    steps = np.diff(times)
    rate = 1 / float(np.median(steps))
    if np.abs(steps * rate - 1).max() < 0.05:  # steady: average out the rounding of each key
        rate = (len(times) - 1) / float(times[-1] - times[0])
    for nominal in (round(rate), round(rate) * 1000 / 1001):
        if abs(rate - nominal) < 2e-3:
            rate = nominal
    return float(rate) if KEY_RATE_RANGE[0] <= rate <= KEY_RATE_RANGE[1] else DEFAULT_GLB_FPS


def _stairs(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert the keys of STEP interpolation to keys of linear interpolation.

    Each value is repeated just before the next key, so that it is held until then.
    """
    before = times[1:] - 1e-6 * np.diff(times)
    order = np.argsort(np.concatenate([times, before]), kind="stable")
    return np.concatenate([times, before])[order], np.concatenate([values, values[:-1]])[order]
