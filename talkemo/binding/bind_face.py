"""Binding a mesh: finds its face and assigns a motion to each vertex."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..face.canonical import LEFT_EYE, RIGHT_EYE, Face
from ..files.reading import printable, read_text
from ..formats.groups import vertex_groups
from ..formats.mesh_types import Mesh, check_mesh
from ..geometry.meshes import area_vectors, vertex_normals
from .binding import Binding, LipCut
from .cache import BindingCache
from .files import load_binding
from .hint import FaceHint

if TYPE_CHECKING:
    from .body import Body, Welded
    from .lip_cut import CutMesh
    from .registration import Fit
    from .sighting import SecondOpinion

MAX_LANDMARK_FILE_BYTES = 1 << 20
MAX_LANDMARK_OFFSET = 2.0  # distance of a landmark from the mesh, in sizes of the mesh
MIN_MOTION_MM = 1e-6  # vertices whose largest motion is smaller do not move


def bind_with_hint(
    face: Face,
    mesh: Mesh,
    hint: FaceHint | None = None,
    cache: BindingCache | None = None,
    opinion: SecondOpinion | None = None,
) -> Binding:
    """Bind a mesh with the help of a hint, or get its binding from the cache.

    `opinion` is asked where the face is if the mesh's shape leaves a doubt. If it cannot look, the
    mesh of the binding has a note on it. Raises InputError for a file that cannot be used, or if no
    face is found.
    """
    hint = hint or FaceHint()
    if hint.binding is not None:
        if hint.up or hint.forward or hint.landmarks:
            raise InputError(
                "--binding cannot be combined with other hints",
                "leave --up, --forward and --landmarks out",
            )
        return _with_count(load_binding(hint.binding, face, mesh))
    landmarks = None
    if hint.landmarks is not None:
        landmarks, cache = read_landmark_hint(hint.landmarks, mesh), None
    looker = opinion.name if opinion else None
    name = cache.name(face, mesh, hint.up, hint.forward, looker) if cache else ""
    binding = cache.get(name, face, mesh) if cache else None
    if binding is not None and binding.other_faces is not None:
        return binding
    if binding is None:
        binding = bind_mesh(
            face, mesh, up=hint.up, forward=hint.forward, landmarks=landmarks, opinion=opinion
        )
    binding = _with_count(binding)
    if opinion is not None and opinion.failure:
        return _noted(binding, opinion.failure)  # with a working opinion it may be another one
    if cache:
        cache.put(name, binding)
    return binding


def _with_count(binding: Binding) -> Binding:
    """Return a binding that knows how many other faces its mesh has."""
    if binding.other_faces is not None:
        return binding
    from .other_faces import count_other_faces

    return replace(binding, other_faces=count_other_faces(binding))


def _noted(binding: Binding, failure: str) -> Binding:
    """Return a binding that was found without the second opinion, with a note on why."""
    note = f"the landmark tracker cannot be used ({failure}): the face was found by its shape alone"
    return replace(binding, mesh=replace(binding.mesh, notes=(*binding.mesh.notes, note)))


def bind_mesh(
    face: Face,
    mesh: Mesh,
    *,
    up: str | None = None,
    forward: str | None = None,
    landmarks: np.ndarray | None = None,
    opinion: SecondOpinion | None = None,
) -> Binding:
    """Bind a mesh with a face, in any unit and orientation.

    Parameters
    ----------
    face : Face
        The canonical face.
    mesh : Mesh
    up, forward : str, optional
        Axes of the mesh, see `FaceHint`.
    landmarks : (68, 3), optional
        iBUG landmarks in the mesh's space, NaN for unknown ones. They replace the search for the
        face.
    opinion : SecondOpinion, optional
        Who is asked where the face is if the mesh's shape leaves a doubt.

    Raises
    ------
    InputError
        If the mesh cannot be used or no face is found.
    """
    from threadpoolctl import threadpool_limits

    from .placement_search import axis_rotations

    check_mesh(mesh, mesh.name)
    if landmarks is not None:
        check_landmark_hint(landmarks, "landmarks")
    rotations = axis_rotations(up, forward)
    # The matrices are small: a second thread gains nothing, and slows other processes down.
    with threadpool_limits(1, "blas"):
        return _bind(face, mesh, rotations, landmarks, opinion)


def _bind(
    face: Face,
    mesh: Mesh,
    rotations: list[np.ndarray] | None,
    landmarks: np.ndarray | None,
    opinion: SecondOpinion | None,
) -> Binding:
    """Register the face, assign a motion to all parts of the mesh, and return the binding."""
    from .body import weld
    from .registration import locate, refine_fit
    from .surface import sample_surface

    welded = weld(mesh)
    vertices = mesh.vertices[welded.first]
    faces = _facing_outwards(vertices, welded.faces)
    groups = vertex_groups(mesh.attributes, len(mesh.vertices))[welded.first]
    visible = faces[~(groups[faces] == "hidden").any(1)]
    visible = visible if len(visible) else faces
    surface = sample_surface(vertices, visible)
    look = opinion.of(vertices, visible) if opinion and landmarks is None else None
    fit = locate(face, surface, rotations, landmarks, look)
    registered = refine_fit(face, fit)
    welded = replace(welded, faces=faces)
    binding, body = _bound(face, mesh, welded, fit, registered)
    skin = body.skin[welded.merged]
    cut = _cut(mesh, welded, body)
    if cut is None:
        return binding
    del body  # its blend shapes take as much memory as the binding's
    welded_cut = weld(cut.mesh, cut.apart)
    faces = _facing_outwards(cut.mesh.vertices[welded_cut.first], welded_cut.faces)
    shown, _ = _bound(face, cut.mesh, replace(welded_cut, faces=faces), fit, registered, cut)
    shown = replace(shown, landmarks68=binding.landmarks68)
    line = np.stack([cut.seam.line.x, cut.seam.line.y, cut.seam.line.z])
    return replace(binding, cut=LipCut(shown, line, skin), lip_gap=shown.lip_gap)


def _cut(mesh: Mesh, welded: Welded, body: Body) -> CutMesh | None:
    """Return a mesh cut between its lips if its skin is whole there, else None."""
    from .lip_cut import cut_lips
    from .lip_line import whole_lip_line

    line = whole_lip_line(body)
    if line is None:
        return None
    skin = body.skin[welded.merged]
    contours = body.lid_contours
    return cut_lips(mesh, welded.merged, skin, body.fit.placement, line, contours)


def _bound(
    face: Face,
    mesh: Mesh,
    welded: Welded,
    fit: Fit,
    registered: np.ndarray,
    cut: CutMesh | None = None,
) -> tuple[Binding, Body]:
    """Return the binding of a mesh to the registered face (V, 3), and the body that it moves as."""
    from .body import Body
    from .lids import lip_gap
    from .parts import place_body

    vertices = mesh.vertices[welded.first]
    groups = vertex_groups(mesh.attributes, len(mesh.vertices))[welded.first]
    named = None if mesh.attributes is None else mesh.attributes.named
    named = None if named is None else named[welded.first]
    body = Body(face, fit, registered, vertices, welded.faces, groups, named)
    parts = place_body(body, cut.seam.renumbered(welded.merged) if cut else None)

    def in_mesh(merged: np.ndarray) -> np.ndarray:
        """Return the mesh's vertices that were merged into vertices of the body."""
        chosen = np.zeros(len(welded.first), bool)
        chosen[merged] = True
        return np.flatnonzero(chosen[welded.merged])

    moving = in_mesh(_moving(body))
    if not len(moving):
        raise InputError(
            "no skin found in the mesh where its face should be",
            "give its position with --landmarks",
        )
    rows = welded.merged[moving]
    placement = fit.placement
    to_mesh = placement.rotation.T.astype(np.float32)
    targets = np.empty((len(body.targets), len(rows), 3), np.float32)
    for own, target in zip(body.targets, targets):
        np.matmul(placement.scale * own[rows], to_mesh, out=target)
    binding = Binding(
        mesh=mesh,
        face=face,
        moving=moving,
        targets=targets,
        canonical=body.canonical[rows],
        landmarks68=welded.first[_closest_to_landmarks(body)],
        placement=placement,
        error=fit.error,
        relief=fit.likeness.relief,
        parts={kind: len(in_mesh(merged)) for kind, merged in parts.vertices().items()},
        eyes=tuple((in_mesh(eye), placement.to_mesh(centre)) for eye, centre in parts.eyes),
        lip_gap=lip_gap(body),
        lid_contours=body.lid_contours if body.sheet.any() else None,
    )
    return binding, body


def _moving(body: Body) -> np.ndarray:
    """Return the vertices (M,) of a body that any blend shape moves."""
    moving = np.zeros(len(body.points), bool)
    for target in body.targets:
        for along in (np.abs(target) > MIN_MOTION_MM).T:
            moving |= along
    return np.flatnonzero(moving)


def _facing_outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Flip triangles (F, 3) if most normals point inwards, as heads and bodies are convex."""
    centres = vertices[faces].mean(1)
    middle = np.median(vertices[faces.ravel()], axis=0)
    outwards = np.einsum("fc,fc->", centres - middle, area_vectors(vertices, faces))
    return faces[:, ::-1] if outwards < 0 else faces


def _closest_to_landmarks(body: Body) -> np.ndarray:
    """Return the skin vertices (68,) of a body that are closest to the fitted iBUG landmarks.

    Normals count as well: on closed lips the closest vertex could be the other lip's. Where a sheet
    closes an eye, the landmarks of its lids lie on the edge of the sheet.
    """
    from scipy.spatial import cKDTree

    from .surface import NORMAL_WEIGHT_MM

    face, fitted, skin = body.face, body.fitted, np.flatnonzero(body.skin)
    tree = cKDTree(np.hstack([body.points[skin], NORMAL_WEIGHT_MM * body.normals[skin]]))
    normals = vertex_normals(fitted, face.faces)
    landmarks = np.hstack([fitted, NORMAL_WEIGHT_MM * normals])[face.landmarks68]
    result = skin[tree.query(landmarks)[1]]
    rim = np.intersect1d(body.faces[body.sheet], body.faces[~body.sheet])
    for lids, contour in zip((RIGHT_EYE, LEFT_EYE), body.lid_contours):
        if contour.any():
            result[lids] = rim[cKDTree(body.points[rim]).query(fitted[face.landmarks68[lids]])[1]]
    return result


def read_landmark_hint(path: str | Path, mesh: Mesh) -> np.ndarray:
    """Read the iBUG landmarks (68, 3) of a mesh, NaN for missing ones, see `FaceHint.landmarks`.

    Raises InputError for a file that is not like that, or whose landmarks lie far from the mesh.
    """
    name, hint = printable(path), "a text file with lines like: 31 0.0 1.6 0.1"
    text = read_text(path, "a file of landmarks", hint, MAX_LANDMARK_FILE_BYTES)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    margin = MAX_LANDMARK_OFFSET * (high - low).max()
    landmarks = np.full((68, 3), np.nan)
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("#")[0].replace(",", " ").split()
        if not fields:
            continue
        where = f"{name}: line {number} ('{printable(line.strip(), 40)}')"
        try:
            point, position = _parse_landmark(fields, mesh)
        except ValueError:
            raise InputError(
                f"{where} is not a landmark",
                "'point vertex' or 'point x y z', points 1 to 68, "
                f"vertices 0 to {len(mesh.vertices) - 1}",
            ) from None
        if (position < low - margin).any() or (position > high + margin).any():
            low_text, high_text = (" ".join(f"{x:.3g}" for x in corner) for corner in (low, high))
            raise InputError(
                f"{where} lies far from the mesh",
                f"the mesh lies between {low_text} and {high_text}",
            )
        landmarks[point - 1] = position
    check_landmark_hint(landmarks, name)
    return landmarks


def _parse_landmark(fields: list[str], mesh: Mesh) -> tuple[int, np.ndarray]:
    """Return the number and the position (3,) of a landmark. Raises ValueError for another line."""
    point, numbers = int(fields[0]), np.array([float(x) for x in fields[1:]])
    if not 1 <= point <= 68 or len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
        raise ValueError
    if len(numbers) == 3:
        return point, numbers
    vertex = int(fields[1])
    if not 0 <= vertex < len(mesh.vertices):
        raise ValueError
    return point, mesh.vertices[vertex]


def check_landmark_hint(landmarks: np.ndarray, name: str) -> None:
    """Raise InputError unless landmarks (68, 3), NaN for unknown ones, determine a pose.

    `name` is for the message.
    """
    known = landmarks[np.isfinite(landmarks).all(1)]
    spread = np.zeros(3)
    if len(known) >= 4:
        spread = np.linalg.svd(known - known.mean(0), compute_uv=False)
    # Points on a line could be rotated about it.
    if spread[1] <= 1e-3 * spread[0]:
        raise InputError(
            f"{name}: too few landmarks, {len(known)} of them, or all on a line",
            "name at least four that do not lie on a line, such as eyes, nose and mouth",
        )
