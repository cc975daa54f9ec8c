"""Face models of users, for their topology: FaceScape's bilinear model, FLAME, ICT FaceKit.

Three models can be read, each of which has its own licence:

- FaceScape's npz (Yang et al. 2020, version 1.6): `shape_bm_core` (3·V, 52, 50), `id_mean`,
  `id_var`, `fv_indices`
- FLAME's pkl (Li et al. 2017): `v_template`, `shapedirs`, `f`; nothing in the pickle is executed
- the folder of ICT FaceKit (Li et al. 2020): `generic_neutral_mesh.obj`, `identity000.obj` …
"""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..files.arrays import NpzFile
from ..files.reading import open_file, printable, reading_errors
from .mesh import load_mesh
from .mesh_types import MAX_MESH_VERTICES, Mesh, check_mesh

FACE_MODEL = "a face model"
FACE_MODEL_HINT = "FaceScape's bilinear .npz, FLAME's .pkl and the folder of ICT FaceKit are read"
MAX_PICKLE_BYTES = 1 << 30  # larger pickles are refused
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
    if not np.isfinite(identity).all():
        raise InputError(f"{printable(path)}: it contains NaN or infinity", FACE_MODEL_HINT)
    return FaceModel(path.name, mesh, identity.astype(np.float32))


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
        content = _load_records(file)
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


def _load_records(file: IO[bytes]) -> Any:
    """Return the content of a pickle, its arrays, dtypes and unknown objects as plain records.

    A record holds what the file says of an object; nothing is looked up or called with it. The
    classes are made for each file, because a pickle can set their attributes.
    """

    class Record:
        """What an object would be made of, and its state."""

        def __init__(self, *arguments: Any):
            self.arguments, self.state = arguments, None

        def __setstate__(self, state: Any) -> None:
            self.state = state

    class Bytes(bytes):
        """Bytes that Python 2 wrote as text."""

        def __new__(cls, text: Any, *_: Any) -> Bytes:
            return super().__new__(cls, str(text).encode("latin1"))

    # Python's own unpickler: the one in C allocates memory for any number that a file claims.
    class Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("_codecs", "encode"):
                return Bytes
            recorded = (
                (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"))
                or (NUMPY_REBUILD_MODULE.fullmatch(module) and name in NUMPY_REBUILD_NAMES)
                or (module in ("copy_reg", "copyreg") and name == "_reconstructor")
                or (module in ("__builtin__", "builtins") and name == "object")
                or RECORDED_MODULE.fullmatch(module)
            )
            if not recorded:
                raise pickle.UnpicklingError(f"it would call {module}.{name}"[:80])
            return Record

    return Unpickler(file, encoding="latin1").load()


def _array(content: dict[Any, Any], name: str) -> np.ndarray:
    """Return an array of what `_load_records` read; chumpy has its numbers in an attribute x."""
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
        spec, endian = str(kind.arguments[0]), str(kind.state[1]) if kind.state else "|"
        if not NUMBER_DTYPE.fullmatch(spec) or endian not in "<>|=":
            raise ValueError(f"its {name} is {spec[:20]}")
        dtype = np.dtype(spec).newbyteorder(endian.replace("|", "="))  # type: ignore[arg-type]
        buffer = data.encode("latin1") if isinstance(data, str) else bytes(data)
        shape = tuple(int(side) for side in shape)
        if math.prod(shape) * dtype.itemsize != len(buffer) or min(shape, default=0) < 0:
            raise ValueError(f"its {name} is not as large as it says")
        array = np.frombuffer(buffer, dtype).reshape(shape, order="F" if fortran else "C")
        return array.transpose(axes[0]) if axes and axes[0] is not None else array
    except (AttributeError, TypeError, IndexError, UnicodeEncodeError):
        raise ValueError(f"it has no array {name}") from None
