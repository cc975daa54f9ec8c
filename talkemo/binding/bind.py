"""Binding a mesh: finding its face, and giving each vertex its motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..files.reading import printable, read_text
from ..formats.mesh_types import Mesh, check_mesh
from ..geometry.meshes import vertex_normals
from ..options import option
from .binding import Binding
from .cache import BindingCache
from .files import load_binding

LARGEST_LANDMARKS = 1 << 20  # bytes of a file of landmarks
FARTHEST_LANDMARK = 2.0  # times the mesh's size that a landmark may lie outside of it
STILL = 1e-6  # mm, largest motion of a vertex that counts as none


@dataclass(frozen=True)
class FaceHint:
    """Where a mesh has its face, for those that are not found unaided.

    binding: a file that `talkemo bind` wrote for this mesh, instead of all others
    up, forward: the mesh's axes that point up and where the face looks, such as z and -y
    landmarks: a text file with a line a point: the iBUG number from 1 to 68, then a vertex counted from 0, or x y z
    """

    binding: str | Path | None = option(
        None, "What talkemo bind wrote for this mesh.", panel="Face"
    )
    up: str | None = option(
        None, "The mesh's axis that points up: x, y, z, -x, -y or -z.", panel="Face"
    )
    forward: str | None = option(None, "The mesh's axis along which the face looks.", panel="Face")
    landmarks: str | Path | None = option(
        None,
        "A text file with one landmark per line: its iBUG number (1-68), then a vertex counted from "
        "0, or x y z.",
        panel="Face",
    )

    @property
    def files(self) -> list[str | Path]:
        """The files that the hint names."""
        return [path for path in (self.binding, self.landmarks) if path is not None]


def bind_hinted(
    face: Face, mesh: Mesh, hint: FaceHint | None = None, cache: BindingCache | None = None
) -> Binding:
    """Bind a mesh as a hint says, from the cache where it has been bound before.

    Raises InputError for a file that is wrong, or where no face is found.
    """
    hint = hint or FaceHint()
    if hint.binding is not None:
        if hint.up or hint.forward or hint.landmarks:
            raise InputError(
                "a --binding says where the face is", "leave --up, --forward and --landmarks out"
            )
        return load_binding(hint.binding, face, mesh)
    if hint.landmarks is not None:
        return bind_mesh(
            face,
            mesh,
            up=hint.up,
            forward=hint.forward,
            landmarks=read_landmarks(hint.landmarks, mesh),
        )
    name = None if cache is None else cache.name(face, mesh, hint.up, hint.forward)
    if (
        cache is not None
        and name is not None
        and (known := cache.get(name, face, mesh)) is not None
    ):
        return known
    binding = bind_mesh(face, mesh, up=hint.up, forward=hint.forward)
    if cache is not None and name is not None:
        cache.put(name, binding)
    return binding


def bind_mesh(
    face: Face,
    mesh: Mesh,
    *,
    up: str | None = None,
    forward: str | None = None,
    landmarks: np.ndarray | None = None,
) -> Binding:
    """Bind a mesh with a face, in any unit and orientation. Raises InputError where no face is found.

    up, forward: axes of the mesh, see `FaceHint`; landmarks: (68, 3) places of the iBUG points in the mesh, NaN for
        those that are unknown; then nothing is searched
    """
    from threadpoolctl import threadpool_limits

    from .registration import turns_towards

    check_mesh(mesh, mesh.name)
    if landmarks is not None:
        check_landmarks(landmarks, "landmarks")
    turns = turns_towards(up, forward)
    # Its matrices are small: a second thread gains nothing, and beside other processes it costs tenfold.
    with threadpool_limits(1, "blas"):
        return _bind(face, mesh, turns, landmarks)


def _bind(
    face: Face, mesh: Mesh, turns: list[np.ndarray] | None, landmarks: np.ndarray | None
) -> Binding:
    """Bind a mesh, see `bind_mesh`. turns: rotations to try, see `registration.locate`."""
    from .body import Body, weld
    from .mouth import Mouth
    from .parts import place_parts
    from .registration import locate, refine, surface_of
    from .skin import place_skin

    welded = weld(mesh)
    vertices = mesh.vertices[welded.first]
    faces = _facing_outwards(vertices, welded.faces)
    fit = locate(face, surface_of(vertices, faces), turns, landmarks)
    fitted = refine(face, fit)
    body = Body(face, fit, fitted, vertices, faces)
    mouth = Mouth(face, fitted)
    place_skin(body, mouth)
    parts = place_parts(body, mouth)

    moving = np.flatnonzero(np.abs(body.shapes).max((0, 2)) > STILL)
    if not len(moving):
        raise InputError(
            "no skin found in the mesh where its face should be", "say where it is by --landmarks"
        )
    of_mesh = np.flatnonzero(np.isin(welded.merged, moving))
    rows = welded.merged[of_mesh]
    placement = fit.placement
    shapes = placement.scale * body.shapes[:, rows] @ placement.rotation.T.astype(np.float32)
    in_mesh = lambda merged: np.flatnonzero(np.isin(welded.merged, merged))
    return Binding(
        mesh=mesh,
        face=face,
        moving=of_mesh,
        shapes=shapes.astype(np.float32),
        canonical=body.canonical[rows],
        landmarks68=welded.first[_nearest_landmarks(body)],
        placement=placement,
        error=fit.error,
        relief=fit.relief,
        parts={name: len(in_mesh(found)) for name, found in parts.vertices().items()},
        eyes=tuple((in_mesh(found), placement.to_mesh(centre)) for found, centre in parts.eyes),
    )


def _facing_outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) turned so that most normals point away from the middle: a face bulges, and so does its body."""
    corners = vertices[faces]
    outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = np.median(vertices[faces.ravel()], axis=0)
    return faces[:, ::-1] if np.einsum("fc,fc->", corners.mean(1) - middle, outwards) < 0 else faces


def _nearest_landmarks(body) -> np.ndarray:
    """(68,) skin vertices of a body nearest to the fitted iBUG points.

    By place and normal: on closed lips the nearest vertex by place alone could be the other lip's.
    """
    from scipy.spatial import cKDTree

    from .registration import NORMAL_WEIGHT

    face, fitted = body.face, body.fitted
    tree = cKDTree(np.hstack([body.points, NORMAL_WEIGHT * body.normals])[body.skin])
    own = np.hstack([fitted, NORMAL_WEIGHT * vertex_normals(fitted, face.faces)])[face.landmarks68]
    return np.flatnonzero(body.skin)[tree.query(own)[1]]


def read_landmarks(path: str | Path, mesh: Mesh) -> np.ndarray:
    """(68, 3) places of the iBUG points of a mesh from a text file, NaN for those not in it; see `FaceHint`."""
    text = read_text(
        path,
        "a file of landmarks",
        "a text file with lines like: 31 0.0 1.6 0.1",
        LARGEST_LANDMARKS,
    )
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    reach = FARTHEST_LANDMARK * (high - low).max()
    places = np.full((68, 3), np.nan)
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("#")[0].replace(",", " ").split()
        if not fields:
            continue
        try:
            point, numbers = int(fields[0]), [float(x) for x in fields[1:]]
            if not 1 <= point <= 68 or len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
                raise ValueError
            if len(numbers) == 1:
                if not 0 <= int(fields[1]) < len(mesh.vertices):
                    raise ValueError
                numbers = mesh.vertices[int(fields[1])].tolist()
        except ValueError:
            raise InputError(
                f"{printable(path)}: line {number} ('{printable(line.strip(), 40)}') is not a landmark",
                f"'point vertex' or 'point x y z', points 1 to 68, vertices 0 to {len(mesh.vertices) - 1}",
            ) from None
        if (numbers < low - reach).any() or (numbers > high + reach).any():
            raise InputError(
                f"{printable(path)}: line {number} ('{printable(line.strip(), 40)}') lies far from the mesh",
                f"the mesh lies between {_numbers(low)} and {_numbers(high)}",
            )
        places[point - 1] = numbers
    check_landmarks(places, printable(path))
    return places


def check_landmarks(places: np.ndarray, name: str) -> None:
    """Raise InputError unless places (68, 3), NaN for unknown ones, say where a face is. name: in messages."""
    known = places[np.isfinite(places).all(1)]
    spread = (
        np.zeros(3) if len(known) < 4 else np.linalg.svd(known - known.mean(0), compute_uv=False)
    )
    # Points on a line could be turned about it.
    if spread[1] <= 1e-3 * spread[0]:
        raise InputError(
            f"{name}: too few landmarks, {len(known)} of them, or all on a line",
            "name at least four that do not lie on a line, such as eyes, nose and mouth",
        )


def _numbers(place: np.ndarray) -> str:
    return " ".join(f"{x:.3g}" for x in place)
