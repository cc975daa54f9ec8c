"""Animations of a mesh independent of a file format: their parts, and the interfaces to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from ..files.writing import PartialOutput
from .mesh_types import MAX_COORDINATE, MAX_MORPH_TARGETS
from .units import METRE, LengthUnit, upright_rotation

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..face.bite import Bite
    from ..face.canonical import Face
    from .appearance import AddedMeshes, Appearance
    from .gltf_origin import GltfOrigin
    from .mesh_types import Mesh, MeshAttributes
    from .usd_origin import UsdOrigin

MAX_CHUNK_BYTES = 1 << 28  # vertices that are read at once; bounds the memory for large meshes
MAX_VIDEO_FPS = 30.0  # of videos and pages; higher rates cost time without visible benefit
# Metadata of performances of filmed people: the gain of their frowns, see expression/frown.py.
FROWN_META = "frown"
META_OF_EMOTION = ("emotion", "intensity", "timeline")
MAX_BAKED_BYTES = 1 << 31  # all frames of a baked animation, which stay in memory until the last


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames of an animation.

    Attributes
    ----------
    vertices : (T, N, 3)
    landmarks68 : (T, 68, 3)
        The iBUG points on the mesh.
    arkit : (T, 52)
        ARKit weights in [0, 1].
    head : (T, 3, 3), optional
        Rotations of the head, x to the right of the image, y up, z towards the viewer.
    gaze : (T, 2), optional
        Pitch and yaw of the eyes in radians, relative to the head; None for ahead.
    coordinates : (T, S), optional
        Of the motion, if the header has a `basis`; without the emotion if there are `moods`.
    moods : dict of str to (T, S)
        What each emotion at intensity 1 adds to the coordinates.
    speech, emotion : (T, S), optional
        Coordinates of the speech alone, and what the emotion adds to them; None if unknown.
    """

    vertices: np.ndarray
    landmarks68: np.ndarray
    arkit: np.ndarray
    head: np.ndarray | None = None
    gaze: np.ndarray | None = None
    coordinates: np.ndarray | None = None
    moods: dict[str, np.ndarray] = field(default_factory=dict)
    speech: np.ndarray | None = None
    emotion: np.ndarray | None = None

    def of_own_mesh(self, header: Header) -> Frames:
        """Return the frames with the vertices of a header's own mesh only, see `Header.own`."""
        if header.own is None:
            return self
        return replace(self, vertices=self.vertices[:, : len(header.own.rest)])

    def gaze_of(self, frame: int) -> np.ndarray | None:
        """Return pitch and yaw (2,) of the eyes in a frame; None for ahead."""
        return None if self.gaze is None else self.gaze[frame]

    def turned(self, frame: int, turn: MeshTurner | None) -> np.ndarray:
        """Return a frame's vertices (N, 3), rotated with head and eyes; see `Header.turn`."""
        if turn is None:
            return self.vertices[frame]
        head = np.eye(3) if self.head is None else self.head[frame]
        return turn(self.vertices[frame], head, self.gaze_of(frame))


class MeshTurner(Protocol):
    """Rotates a mesh with its head and eyes; see `binding.head_turner.HeadTurner`.

    Attributes
    ----------
    share : (N, 1)
        Fraction of the head's rotation about `pivot` (3,) that each vertex follows.
    eyes : list of ((E,), (3,))
        Vertices and centre of each eyeball that the mesh has.
    sockets : (2, 3)
        Centres of the right and the left eye, whether the mesh has eyeballs or not.
    turns_head : bool
        Whether the head rotates, and not only the eyes.
    """

    share: np.ndarray
    pivot: np.ndarray
    eyes: list[tuple[np.ndarray, np.ndarray]]
    sockets: np.ndarray
    turns_head: bool

    def head(self, rotation: np.ndarray) -> np.ndarray:
        """Return rotations (T, 3, 3) of the head (see `Frames.head`) in the mesh's axes."""
        ...

    def eye_rotations(self, gaze: np.ndarray) -> np.ndarray:
        """Return rotations (T, 3, 3) of the eyes in the mesh's axes, from their gaze (T, 2)."""
        ...

    def __call__(
        self, vertices: np.ndarray, rotation: np.ndarray, gaze: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a frame's vertices (N, 3), rotated by the head's (3, 3) and the gaze (2,)."""
        ...


class OwnShapes(Protocol):
    """A character's own blend shapes, driven; see `binding.own_shapes`.

    Attributes
    ----------
    names : tuple of str
        Of the shapes that are driven, as the file spells them.
    at_rest : (K,)
        Their weights in the mesh at rest.
    recipes : (K, 52)
        ARKit's shapes that each shows at weight 1.
    """

    names: tuple[str, ...]
    at_rest: np.ndarray
    recipes: np.ndarray

    def weights(self, frames: Frames) -> np.ndarray:
        """Return the shapes' weights (T, len(names)) that show frames best."""
        ...

    def targets(self) -> np.ndarray:
        """Return the displacements (K, N, 3) of the mesh's own vertices at weight 1."""
        ...


@dataclass(frozen=True, eq=False)
class Header:
    """Properties of an animation that are known before its first frame.

    Attributes
    ----------
    frames : int
    fps : float
    faces : (F, 3)
        Triangles.
    rest : (N, 3)
        The mesh at rest.
    focus : (N,) bool
        Vertices of the face, for the camera.
    facing : (3, 3), optional
        Rotation of the mesh's face from the canonical one, which looks along +z with y up.
    meta : dict
        JSON values: versions, weights, emotion, audio file, seed.
    targets : callable, optional
        Returns the displacements (52, N, 3) of ARKit's blend shapes at weight 1.
    attributes : MeshAttributes, optional
        What the mesh's file contains beside its surface.
    appearance : callable, optional
        Returns how the mesh is drawn, given `fill`; None for a plain surface.
    added : callable, optional
        Returns the eyes, teeth, tongue and mouth that the mesh lacks, for files of meshes.
    fill : bool
        Whether what the mesh lacks is added, in images and in files of meshes.
    basis : callable, optional
        Returns the displacements (S, N, 3) of the motion's coordinates at 1.
    bite : callable, optional
        Returns what the frames' vertices are beside that: the mesh's own lower teeth stay below the
        closed bite.
    turn : MeshTurner, optional
        Rotates the vertices of frames that are drawn; None if they are rotated already.
    turned : MeshTurner, optional
        How all vertices of the frames are rotated with head and eyes already, if they are.
    unit : LengthUnit
        Of the vertices; without one they count as metres.
    origin : GltfOrigin or UsdOrigin, optional
        The file that the mesh was read from, of which the whole is written again.
    canonical : Face, optional
        The canonical face whose blend shapes `Frames.arkit` weighs.
    own_shapes : OwnShapes, optional
        The mesh's own blend shapes, if they are to be driven.
    own : Header, optional
        The same of the user's own mesh, if vertices were added to it: a cut between its lips. They
        come after its own, and formats that promise the mesh's own vertices leave them out.
    """

    frames: int
    fps: float
    faces: np.ndarray
    rest: np.ndarray
    focus: np.ndarray
    facing: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    targets: Callable[[], np.ndarray] | None = None
    attributes: MeshAttributes | None = None
    appearance: Callable[[bool], Appearance] | None = None
    added: Callable[[], AddedMeshes] | None = None
    fill: bool = True
    basis: Callable[[], np.ndarray] | None = None
    bite: Callable[[], Bite] | None = None
    turn: MeshTurner | None = None
    turned: MeshTurner | None = None
    unit: LengthUnit = METRE
    origin: GltfOrigin | UsdOrigin | None = None
    canonical: Face | None = None
    own: Header | None = None
    own_shapes: OwnShapes | None = None

    def added_meshes(self) -> AddedMeshes | None:
        """Return what is added to the mesh in a file of meshes; None if nothing."""
        added = self.added() if self.fill and self.added is not None else None
        return added if added is not None and added.meshes else None

    def turner_of_nodes(self, bake: bool) -> MeshTurner | None:
        """Return what rotates the nodes of a file: blend shapes do not contain the rotation.

        `bake`: whether the file stores the frames instead of blend shapes.
        """
        return self.turned if self.turned is not None and not bake else self.turn

    @property
    def upright(self) -> np.ndarray:
        """(3, 3), see `units.upright_rotation`."""
        return upright_rotation(self.facing)


class Source(Protocol):
    """An animation that can be read; `registry.open_animation` opens one.

    Attributes
    ----------
    path : Path
    faces : (F, 3) int32
    fps : float
    shape : tuple
        (T, N, 3), of all vertices.
    rest : (N, 3), optional
        The mesh at rest, if the file contains it.
    focus, facing, meta, attributes
        See `Header`.
    """

    path: Path
    faces: np.ndarray
    fps: float
    shape: tuple[int, ...]
    rest: np.ndarray | None
    focus: np.ndarray | None
    facing: np.ndarray | None
    meta: dict[str, Any]
    attributes: MeshAttributes | None

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, N, 3) float32."""
        ...


class VertexSource:
    """Base class of a `Source` with vertices only, and the triangles of a mesh."""

    def __init__(self, path: Path, frames: int, fps: float, mesh: Mesh):
        self.path, self.fps, self.faces = path, fps, mesh.faces
        self.shape: tuple[int, ...] = (frames, len(mesh.vertices), 3)
        self.meta: dict[str, Any] = {}
        self.focus: np.ndarray | None = None
        self.facing: np.ndarray | None = None
        self.rest: np.ndarray | None = None
        self.attributes: MeshAttributes | None = mesh.attributes

    def __len__(self) -> int:
        return self.shape[0]


class Writer(Protocol):
    """Writes an animation; `registry.open_writer` opens one.

    As a context manager it leaves the complete file, or none after an exception.

    Attributes
    ----------
    metrics : dict of str to float
        Measurements of the result, available once it is complete.
    """

    metrics: dict[str, float]

    def write(self, frames: Frames) -> None:
        """Append frames."""
        ...

    def complete(self) -> None:
        """Finish the file except for its name, so that several outputs can appear together."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Add the output's name to an OSError in the block that names no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class FileWriter:
    """Base class of writers: a partial file that takes its final name once it is complete.

    A subclass appends frames to `self.partial.path` in `write`, completes the file in `finish` and
    releases it in `close`. Other files that belong to it get their names with it, see `companion`.
    """

    def __init__(self, path: Path, folder: bool = False):
        self.path = path
        self.metrics: dict[str, float] = {}
        self.completed = False
        self.partial = PartialOutput(path, folder)
        self._companions: list[PartialOutput] = []

    def companion(self, path: Path) -> PartialOutput:
        """Return a new file that takes its final name just before this one does."""
        partial = PartialOutput(path, together_with=self.path)
        self._companions.append(partial)
        return partial

    def finish(self) -> None:
        """Complete the partial file."""

    def close(self) -> None:
        """Release the partial file, finished or not."""

    def complete(self) -> None:
        """Finish and close the partial file, once; it then only lacks its final name."""
        if self.completed:
            return
        self.completed = True
        with output_errors(self.path):
            try:
                self.finish()
            except BaseException:
                with suppress(Exception):
                    self.close()
                raise
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.complete()
                for companion in self._companions:
                    with output_errors(companion.final):
                        companion.finish()
                self.partial.finish()
            elif not self.completed:
                with suppress(Exception):  # the first error is the one to report
                    self.close()
        finally:
            for partial in (*self._companions, self.partial):
                partial.discard()


def video_frame_step(fps: float) -> int:
    """Return n such that every n-th frame makes a video of at most MAX_VIDEO_FPS."""
    return max(1, int(np.ceil(fps / MAX_VIDEO_FPS - 1e-6)))


def frames_per_chunk(requested: int, vertices: int) -> int:
    """Return how many of the requested frames of a mesh are read at once: those that fit."""
    return max(1, min(requested, MAX_CHUNK_BYTES // (12 * max(vertices, 1))))


def check_blend_shapes(path: Path, header: Header, bake: bool) -> None:
    """Raise InputError if a writer of blend shapes lacks targets, or has too many frames to bake.

    Parameters
    ----------
    path : Path
        The output, for the message.
    header : Header
    bake : bool
        Whether each frame becomes its own target, instead of a mix of ARKit's 52.
    """
    if not bake:
        if header.targets is None and header.own_shapes is None:
            raise InputError(
                f"{path}: no ARKit shapes are known for this mesh", "write it with --bake"
            )
        return
    vertex_bytes = header.frames * len(header.rest) * 12
    weight_bytes = header.frames**2 * 4
    if header.frames > MAX_MORPH_TARGETS or vertex_bytes + weight_bytes > MAX_BAKED_BYTES:
        raise InputError(
            f"{path}: {header.frames} frames of {len(header.rest)} vertices are too many to bake",
            "use a lower --fps, a shorter animation, or leave --bake out",
        )


def check_coordinates(path: Path, vertices: np.ndarray) -> None:
    """Raise InputError for coordinates beyond MAX_COORDINATE; NaN is not checked."""
    if not vertices.size:
        return
    # The range instead of absolute values, which would take as much memory again.
    if max(np.fmax.reduce(vertices, None), -np.fmin.reduce(vertices, None)) > MAX_COORDINATE:
        raise InputError(
            f"{printable(path)}: coordinates beyond {MAX_COORDINATE:.0e}", "export it again"
        )


def check_frames(source: Source, vertices: np.ndarray, first: int) -> None:
    """Raise InputError for NaN or infinity in frames (T, N, 3) of a source, from number `first`."""
    if not np.isfinite(vertices).all():
        last = first + len(vertices) - 1
        raise InputError(
            f"{source.path}: vertices contain NaN or infinity, in frames {first} to {last}",
            "export it again",
        )
