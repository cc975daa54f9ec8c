"""What animations of a mesh are made of, and how they are read and written, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from ..files.writing import Partial
from .mesh_types import LARGEST_COORDINATE

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..render.appearance import Appearance
    from .mesh_types import MeshAttributes

BYTES_AT_A_TIME = (
    1 << 28
)  # of vertices that are read together, which bounds the memory for large meshes
MAX_VIDEO_FPS = (
    30.0  # of films and pages at most: more costs time and shows nothing that a face does
)


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames: vertices (T, N, 3) of the mesh, landmarks68 (T, 68, 3), arkit (T, 52) in [0, 1].

    head: (T, 3, 3), the head's rotation with x to the right of the picture, y up and z ahead; None where it is not known
    gaze: (T, 2), where the eyes look, pitch and yaw in radians relative to the head; None for ahead
    coordinates: (T, S) of the motion, only of animations that have a `Header.basis`; where there are moods, without emotion
    moods: what each emotion in full adds to the coordinates, (T, S)
    """

    vertices: np.ndarray
    landmarks68: np.ndarray
    arkit: np.ndarray
    head: np.ndarray | None = None
    gaze: np.ndarray | None = None
    coordinates: np.ndarray | None = None
    moods: dict[str, np.ndarray] = field(default_factory=dict)


class Turn(Protocol):
    """Turns the vertices of a mesh as its head turns, for pictures; see `heads.Turner`.

    share: (N, 1), how much of the head's rotation about `pivot` (3,) each vertex goes along with
    eyes: vertices of each of the mesh's own eyeballs, and its centre
    sockets: (2, 3), where the right and the left eye are, whether it has any or not
    """

    share: np.ndarray
    pivot: np.ndarray
    eyes: list[tuple[np.ndarray, np.ndarray]]
    sockets: np.ndarray

    def head(self, rotation: np.ndarray) -> np.ndarray:
        """A head's rotations (T, 3, 3), see `Frames.head`, in the mesh's axes."""
        ...

    def eye_rotations(self, gaze: np.ndarray) -> np.ndarray:
        """The rotations (T, 3, 3) of eyes in the mesh's axes, by their gaze (T, 2)."""
        ...

    def __call__(
        self, vertices: np.ndarray, rotation: np.ndarray, gaze: np.ndarray | None = None
    ) -> np.ndarray:
        """Vertices (N, 3) of a frame, turned by a rotation (3, 3) and a gaze (2,)."""
        ...


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of an animation before its first frame.

    faces: (F, 3) triangles; rest: (N, 3), the mesh at rest; focus: (N,) bool, vertices of the face, for the camera
    facing: (3, 3), the rotation of the face in the mesh from looking along +z with y up; None for none
    meta: JSON values: versions, weights, emotion, audio file, seed
    targets: makes (52, N, 3), what ARKit's shapes at weight 1 move each vertex by, when a writer asks for it
    appearance: what the mesh's file has beside its surface
    basis: makes (S, N, 3), what a unit of each coordinate of a motion moves each vertex by; None where that is not known
    turn: turns the vertices of a frame (N, 3) by `Frames.head` (3, 3) and its own eyes by `Frames.gaze` (2,), for
        pictures; None where they are turned already
    look: makes how a picture shows the mesh, when a writer asks for it; None for a plain surface
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
    appearance: Callable[[], Appearance] | None = None
    basis: Callable[[], np.ndarray] | None = None
    turn: Turn | None = None


def video_frame_step(fps: float) -> int:
    """How many frames there are to each that is shown: films and pages have at most MAX_VIDEO_FPS pictures a second."""
    return max(1, int(np.ceil(fps / MAX_VIDEO_FPS - 1e-6)))


class Source(Protocol):
    """An animation that can be read, see `open.open_animation`.

    shape: (T, N, 3); rest: (N, 3) or None where the file does not say; focus, facing, meta, appearance: as of `Header`
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
        """Consecutive vertices (≤ frames, N, 3) float32."""
        ...


class Writer(Protocol):
    """Writes an animation, see `open.open_writer`. As a context manager it leaves the whole file, or after an exception none.

    metrics: what is worth reporting of the result, known when it is finished
    """

    metrics: dict[str, float]

    def write(self, frames: Frames) -> None:
        """Append frames."""
        ...

    def complete(self) -> None:
        """Do all but give the file its final name, so that several writers can appear together or not at all."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@contextmanager
def machine_failures(path: Path) -> Iterator[None]:
    """Name the output in a failure of the machine in the block, such as a full disk, which does not name it itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class FileWriter:
    """What writers share: a partial file that takes its final name when it is whole.

    A subclass appends frames to `self.partial.path` in `write`, completes it in `finish` and lets go of it in `close`.
    """

    def __init__(self, path: Path, folder: bool = False):
        self.path = path
        self.metrics: dict[str, float] = {}
        self.completed = False
        self.partial = Partial(path, folder)

    def finish(self) -> None:
        """Complete the partial file."""

    def close(self) -> None:
        """Let go of the partial file, finished or not."""

    def complete(self) -> None:
        """Finish and close the partial file, once; what is left is to give it its final name."""
        if self.completed:
            return
        self.completed = True
        with machine_failures(self.path):
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
                self.partial.finish()
            elif not self.completed:
                with suppress(Exception):  # the first error is the one to report
                    self.close()
        finally:
            self.partial.discard()


def frames_at_a_time(wanted: int, vertices: int) -> int:
    """How many frames of a mesh of so many vertices are read together, at most as many as wanted."""
    return max(1, min(wanted, BYTES_AT_A_TIME // (12 * max(vertices, 1))))


def check_coordinates(path: Path, vertices: np.ndarray) -> None:
    """Raise InputError for vertices so far out that nothing can be computed of them; NaN is left to who uses them."""
    # By the ends of the range: an array of absolute values would take as much memory again.
    if (
        vertices.size
        and max(np.fmax.reduce(vertices, None), -np.fmin.reduce(vertices, None))
        > LARGEST_COORDINATE
    ):
        raise InputError(
            f"{printable(path)}: coordinates beyond {LARGEST_COORDINATE:.0e}", "export it again"
        )


def check_frames(source: Source, vertices: np.ndarray, first: int) -> None:
    """Raise InputError for NaN or infinity in consecutive frames (T, N, 3) of a source, of which `first` is the first."""
    if not np.isfinite(vertices).all():
        last = first + len(vertices) - 1
        raise InputError(
            f"{source.path}: vertices contain NaN or infinity, in frames {first} to {last}",
            "export it again",
        )


def facing_of(meta: dict[str, Any]) -> np.ndarray | None:
    """The rotation (3, 3) of the face in an animation's mesh, if its metadata holds a valid one."""
    try:
        rotation = np.array(meta.get("facing"), np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        return None
    return rotation
