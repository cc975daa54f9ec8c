"""Face models of users, for their topology: FaceScape's bilinear model, FLAME, ICT FaceKit.

Three models can be read, each of which has its own licence:

- FaceScape's npz (Yang et al. 2020, version 1.6): `shape_bm_core` (3·V, 52, 50), `id_mean`,
  `id_var`, `fv_indices`
- FLAME's pkl (Li et al. 2017): `v_template`, `shapedirs`, `f`; nothing in the pickle is executed
- the folder of ICT FaceKit (Li et al. 2020): `generic_neutral_mesh.obj`, `identity000.obj` …
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.arrays import NpzFile
from ..files.limits import limit
from ..files.pickles import Record, read_records
from ..files.reading import open_file, printable, quiet_libraries, reading_errors
from .mesh import load_mesh
from .mesh_types import MAX_MESH_VERTICES, Mesh, check_mesh

FACE_MODEL = "a face model"
FACE_MODEL_HINT = "FaceScape's bilinear .npz, FLAME's .pkl and the folder of ICT FaceKit are read"
MAX_PICKLE_BYTES = limit("MAX_PICKLE_BYTES", 1 << 28)  # larger pickles are refused; FLAME has 55 MB
MAX_FLAME_IDENTITIES = 300  # the first of FLAME's directions are identity, the others expression
ICT_NEUTRAL, ICT_IDENTITY = "generic_neutral_mesh.obj", re.compile(r"identity(\d{3})\.obj")


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear model of people's neutral faces in one topology."""

    name: str  # of its file or folder
    mesh: Mesh  # the mean face, of V vertices
    identity: np.ndarray  # (I, V, 3) float32, added by each coefficient at one standard deviation


def read_face_model(path: str | Path) -> FaceModel:
    """Read a face model from a file or a folder. Raises InputError for anything else."""
    path = Path(path)
    if path.is_dir():
        mesh, identity = _read_ict(path)
    elif path.suffix.lower() in (".npz", ".pkl"):
        with reading_errors(path, FACE_MODEL, FACE_MODEL_HINT):
            read = _read_facescape if path.suffix.lower() == ".npz" else _read_flame
            vertices, faces, identity = read(path)
            mesh = Mesh(vertices, _triangles(faces, len(vertices)), name=path.name)
    else:
        raise InputError(f"{printable(path)}: not {FACE_MODEL}", FACE_MODEL_HINT)
    check_mesh(mesh, printable(path))
    with quiet_libraries():  # numbers that are too large become infinity
        identity = identity.astype(np.float32)
    if not np.isfinite(identity).all():
        raise InputError(f"{printable(path)}: it contains NaN or infinity", FACE_MODEL_HINT)
    return FaceModel(path.name, mesh, identity)


def _read_facescape(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (V, 3), faces and identity (I, V, 3); the first expression is neutral."""
    with open_file(path, FACE_MODEL, FACE_MODEL_HINT) as file, NpzFile(file) as npz:
        arrays = npz.read(("shape_bm_core", "fv_indices", "id_mean", "id_var"))
    core, mean = arrays["shape_bm_core"], arrays["id_mean"].reshape(-1)
    deviation = np.sqrt(np.maximum(arrays["id_var"].reshape(-1), 0))
    if core.ndim != 3 or len(core) % 3 or not core.shape[2] == len(mean) == len(deviation):
        raise ValueError("its core tensor is not (3·V, expressions, identities)")
    neutral = core[:, 0].astype(np.float64)
    vertices = (neutral @ mean).reshape(-1, 3)
    identity = (neutral * deviation).T.reshape(len(mean), -1, 3)
    return vertices, np.asarray(arrays["fv_indices"]), identity


def _read_flame(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (V, 3), faces and identity (I, V, 3)."""
    with open_file(path, FACE_MODEL, FACE_MODEL_HINT, MAX_PICKLE_BYTES) as file:
        content = read_records(file, _is_recorded)
    if not isinstance(content, dict):
        raise ValueError("it has no arrays with names")
    names = ("v_template", "shapedirs", "f")
    template, directions, faces = (_array(content, name) for name in names)
    vertices = template.astype(np.float64)
    matching = directions.ndim == 3 and directions.shape[:2] == vertices.shape
    if not matching or vertices.shape[1] != 3 or not directions.shape[2]:
        raise ValueError("its shapes are not (V, 3, N)")
    return vertices, faces, directions[:, :, :MAX_FLAME_IDENTITIES].transpose(2, 0, 1)


def _read_ict(folder: Path) -> tuple[Mesh, np.ndarray]:
    """Return the mean mesh and identity (I, V, 3)."""
    folders = [path for path in (folder, folder / "FaceXModel") if (path / ICT_NEUTRAL).is_file()]
    if not folders:
        message = f"{printable(folder)}: not {FACE_MODEL}: no {ICT_NEUTRAL} in it"
        raise InputError(message, FACE_MODEL_HINT)
    mesh = load_mesh(folders[0] / ICT_NEUTRAL)
    paths = sorted(
        path
        for path in folders[0].iterdir()
        if ICT_IDENTITY.fullmatch(path.name) and path.is_file()
    )
    if not paths:
        raise InputError(f"{printable(folder)}: no identity000.obj in it", FACE_MODEL_HINT)
    identity = np.zeros((len(paths), *mesh.vertices.shape), np.float32)
    for number, path in enumerate(paths):
        vertices = load_mesh(path).vertices
        if vertices.shape != mesh.vertices.shape:
            raise InputError(
                f"{printable(path)}: its vertices differ from those of {ICT_NEUTRAL}",
                "use files of the same version",
            )
        identity[number] = vertices - mesh.vertices
    return mesh, identity


def _triangles(faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """Return triangles (F, 3) int32, counted from 0.

    `faces` are triangles or quadrilaterals, counted from 0 or, as in an obj, from 1.
    """
    if faces.ndim != 2 or faces.shape[1] not in (3, 4) or not len(faces):
        raise ValueError("its faces are not (F, 3)")
    if faces.dtype.kind not in "iuf":
        raise ValueError("its faces are not numbers")
    faces = faces.astype(np.int64)
    if faces.max() == vertex_count:
        faces = faces - 1
    if faces.min() < 0 or faces.max() >= vertex_count or vertex_count > MAX_MESH_VERTICES:
        raise ValueError("its faces name vertices that are not there")
    if faces.shape[1] == 4:
        faces = np.concatenate([faces[:, :3], faces[:, [0, 2, 3]]])
    return faces.astype(np.int32)


# ----------------------------------------------------------------------------------------- pickles

NUMBER_DTYPE = re.compile(r"[<>|=]?[fiu][1248]")  # dtypes that are read
NUMPY_REBUILD_MODULE = re.compile(r"numpy\.(_?core)\.(multiarray|numeric)")
NUMPY_REBUILD_NAMES = ("_reconstruct", "_frombuffer")
RECORDED_MODULE = re.compile(r"(chumpy|scipy\.sparse)(\.\w+)*")
MAX_ARRAY_AXES = 4


def _is_recorded(module: str, name: str) -> bool:
    """Whether a face model may name this class or function; it is never looked up or called."""
    return bool(
        (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"))
        or (NUMPY_REBUILD_MODULE.fullmatch(module) and name in NUMPY_REBUILD_NAMES)
        or (module in ("copy_reg", "copyreg") and name == "_reconstructor")
        or (module in ("__builtin__", "builtins") and name in ("object", "bytearray", "bytes"))
        or RECORDED_MODULE.fullmatch(module)
    )


def _array(content: dict[Any, Any], name: str) -> np.ndarray:
    """Return what `read_records` read as an array; a chumpy array has it in its attribute x.

    Raises ValueError if it is not an array.
    """
    value = content.get(name)
    state, axes = getattr(value, "state", None), []
    if isinstance(state, dict):
        value, state = state.get("x"), getattr(state.get("x"), "state", None)
    try:
        if state is not None:  # of ndarray.__setstate__
            _, shape, kind, fortran, data = state
        else:  # of _frombuffer, protocol 5
            data, kind, shape, order, *axes = value.arguments  # type: ignore[union-attr]
            fortran = order == "F"
        dtype, buffer = _dtype(kind), _buffer(data)
        if not _are_counts(shape) or math.prod(shape) * dtype.itemsize != len(buffer):
            raise ValueError(f"its {name} is not as large as it says")
        array = np.frombuffer(buffer, dtype).reshape(shape, order="F" if fortran else "C")
        if axes and axes[0] is not None:
            return array.transpose(axes[0]) if _are_counts(axes[0]) else array
        return array
    except (AttributeError, TypeError, IndexError, UnicodeEncodeError):
        raise ValueError(f"it has no array {name}") from None


def _are_counts(values: Any) -> bool:
    """Whether a value is a tuple of a few numbers from 0."""
    if type(values) is not tuple or len(values) > MAX_ARRAY_AXES:
        return False
    return all(type(value) is int and 0 <= value < 1 << 40 for value in values)


def _dtype(kind: Any) -> np.dtype:
    """Return the data type of a record of numpy.dtype. Raises ValueError for other than numbers."""
    spec, state = kind.arguments[0], kind.state
    endian = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
    if not isinstance(spec, str) or not NUMBER_DTYPE.fullmatch(spec):
        raise ValueError("its arrays do not hold numbers")
    if not isinstance(endian, str) or endian not in ("<", ">", "|", "="):
        raise ValueError("its arrays do not hold numbers")
    return np.dtype(spec).newbyteorder(endian.replace("|", "="))  # type: ignore[arg-type]


def _buffer(data: Any) -> bytes:
    """Return the bytes of an array, which Python 2 wrote as text."""
    if isinstance(data, Record):  # _codecs.encode(text, "latin1"), or bytearray(bytes)
        data = data.arguments[0]
    if isinstance(data, Record):
        data = data.arguments[0]
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise TypeError
    return bytes(data)
