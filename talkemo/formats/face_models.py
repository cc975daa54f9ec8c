"""Face models that users bring, for their topology: FaceScape's bilinear model, FLAME, ICT FaceKit.

Files: FaceScape's npz (Yang et al. 2020, version 1.6: `shape_bm_core` (3·V, 52, 50), `id_mean`, `id_var`, `fv_indices`),
FLAME's pkl (Li et al. 2017: `v_template`, `shapedirs`, `f`), of which nothing is executed, or the folder of ICT FaceKit
(Li et al. 2020: `generic_neutral_mesh.obj`, `identity000.obj` …). Each has its owners' licence.
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

WHAT = "a face model"
HINT = "FaceScape's bilinear .npz, FLAME's .pkl and the folder of ICT FaceKit are read"
LARGEST_PICKLE = 1 << 30  # bytes
MOST_IDENTITIES = 300  # of FLAME's directions the first ones are of identity
ICT_NEUTRAL, ICT_IDENTITY = "generic_neutral_mesh.obj", re.compile(r"identity(\d{3})\.obj")


@dataclass(frozen=True, eq=False)
class FaceModel:
    """People's faces at rest, in one topology.

    mesh: the mean one; identity: (I, V, 3) float32, what a unit of each coefficient adds, one standard deviation
    """

    mesh: Mesh
    identity: np.ndarray


def read_face_model(path: str | Path) -> FaceModel:
    """The model of a file or a folder. Raises InputError for one that is none."""
    path = Path(path)
    if path.is_dir():
        mesh, identity = _ict(path)
    elif path.suffix.lower() == ".npz":
        mesh, identity = _facescape(path)
    elif path.suffix.lower() == ".pkl":
        mesh, identity = _flame(path)
    else:
        raise InputError(f"{printable(path)}: not {WHAT}", HINT)
    check_mesh(mesh, printable(path))
    if not np.isfinite(identity).all():
        raise InputError(f"{printable(path)}: numbers in it that are none", HINT)
    return FaceModel(mesh, identity.astype(np.float32))


def _facescape(path: Path) -> tuple[Mesh, np.ndarray]:
    """The first expression is the neutral one; the rest of the core tensor is not kept."""
    with (
        open_file(path, WHAT, HINT) as file,
        reading_errors(path, WHAT, HINT),
        NpzFile(file) as arrays,
    ):
        found = arrays.read(("shape_bm_core", "fv_indices", "id_mean", "id_var"))
        core, faces = found["shape_bm_core"], np.asarray(found["fv_indices"])
        mean, spread = (
            found["id_mean"].reshape(-1),
            np.sqrt(np.maximum(found["id_var"].reshape(-1), 0)),
        )
        if (
            core.ndim != 3
            or len(core) % 3
            or core.shape[2] != len(mean)
            or len(mean) != len(spread)
        ):
            raise ValueError("its core tensor is not (3·V, expressions, identities)")
        neutral = core[:, 0].astype(np.float64)
        vertices = (neutral @ mean).reshape(-1, 3)
        identity = (neutral * spread).T.reshape(len(mean), -1, 3)
        return Mesh(vertices, _triangles(faces, len(vertices)), name=path.name), identity


def _flame(path: Path) -> tuple[Mesh, np.ndarray]:
    with open_file(path, WHAT, HINT, LARGEST_PICKLE) as file, reading_errors(path, WHAT, HINT):
        try:
            content = _load_arrays(file)
        except (
            pickle.UnpicklingError,
            EOFError,
            AttributeError,
            TypeError,
            KeyError,
            IndexError,
            RecursionError,
        ) as error:
            raise ValueError(str(error) or type(error).__name__) from None
        if not isinstance(content, dict):
            raise ValueError("it has no arrays with names")
        template, directions, faces = (
            _array(content, name) for name in ("v_template", "shapedirs", "f")
        )
        vertices = template.astype(np.float64)
        shaped = (
            directions.ndim == 3
            and directions.shape[:2] == vertices.shape
            and vertices.shape[1:] == (3,)
        )
        if not shaped or not directions.shape[2]:
            raise ValueError("its shapes are not (V, 3, N)")
        identity = directions[:, :, :MOST_IDENTITIES].transpose(2, 0, 1)
        return Mesh(vertices, _triangles(faces, len(vertices)), name=path.name), identity


def _ict(folder: Path) -> tuple[Mesh, np.ndarray]:
    for place in (folder, folder / "FaceXModel"):
        if (place / ICT_NEUTRAL).is_file():
            break
    else:
        raise InputError(f"{printable(folder)}: not {WHAT}: no {ICT_NEUTRAL} in it", HINT)
    mesh = load_mesh(place / ICT_NEUTRAL)
    paths = sorted(
        path for path in place.iterdir() if ICT_IDENTITY.fullmatch(path.name) and path.is_file()
    )
    identity = np.zeros((len(paths), *mesh.vertices.shape), np.float32)
    for number, path in enumerate(paths):
        one = load_mesh(path)
        if one.vertices.shape != mesh.vertices.shape:
            raise InputError(
                f"{printable(path)}: other vertices than {ICT_NEUTRAL} has",
                "are the files of one version?",
            )
        identity[number] = one.vertices - mesh.vertices
    if not paths:
        raise InputError(f"{printable(folder)}: no identity000.obj in it", HINT)
    return mesh, identity


def _triangles(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Triangles (F, 3) int32 from 0, of triangles or quadrilaterals that count from 0 or, as in an obj, from 1."""
    if (
        faces.ndim != 2
        or faces.shape[1] not in (3, 4)
        or not len(faces)
        or faces.dtype.kind not in "iuf"
    ):
        raise ValueError("its faces are not (F, 3)")
    faces = faces.astype(np.int64)
    if faces.max() == vertices:
        faces = faces - 1
    if faces.min() < 0 or faces.max() >= vertices or vertices > MAX_MESH_VERTICES:
        raise ValueError("its faces name vertices that are not there")
    if faces.shape[1] == 4:
        faces = np.concatenate([faces[:, :3], faces[:, [0, 2, 3]]])
    return faces.astype(np.int32)


# -------------------------------------------------------------------------------------------------------------- pickles

NUMBERS = re.compile(r"[<>|=]?[fiu][1248]")  # dtypes that are read
REBUILT = re.compile(r"numpy\.(_?core)\.(multiarray|numeric)")
STOOD_FOR = re.compile(r"(chumpy|scipy\.sparse)(\.\w+)*")


def _load_arrays(file: IO[bytes]) -> Any:
    """The content of a pickle, with arrays, dtypes and unknown objects as plain records of what the file says of them.

    Nothing of numpy's is called with what the file says, and nothing else is looked up. The classes are made anew for each
    file: a pickle can set their attributes.
    """

    class Record:
        """An object that is not made: what it would be made of, and its state."""

        def __init__(self, *arguments: Any):
            self.arguments, self.state = arguments, None

        def __setstate__(self, state: Any) -> None:
            self.state = state

    class Bytes(bytes):
        """Bytes that Python 2 wrote as text."""

        def __new__(cls, text: Any, *_: Any) -> Bytes:
            return super().__new__(cls, str(text).encode("latin1"))

    # Python's own unpickler: the one in C allots memory for any number that a file gives to an object.
    class Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("_codecs", "encode"):
                return Bytes
            known = (
                (module, name) in (("numpy", "ndarray"), ("numpy", "dtype"))
                or (REBUILT.fullmatch(module) and name in ("_reconstruct", "_frombuffer"))
                or (module in ("copy_reg", "copyreg") and name == "_reconstructor")
                or (module in ("__builtin__", "builtins") and name == "object")
                or STOOD_FOR.fullmatch(module)
            )
            if not known:
                raise pickle.UnpicklingError(f"it would call {module}.{name}"[:80])
            return Record

    return Unpickler(file, encoding="latin1").load()


def _array(content: dict[Any, Any], name: str) -> np.ndarray:
    """An array by its name, of what `_load_arrays` read; chumpy keeps its numbers as x."""
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
        if not NUMBERS.fullmatch(spec) or endian not in "<>|=":
            raise ValueError(f"its {name} is {spec[:20]}")
        dtype = np.dtype(spec).newbyteorder("=" if endian == "|" else endian)  # type: ignore[arg-type]
        content_bytes = data.encode("latin1") if isinstance(data, str) else bytes(data)
        shape = tuple(int(side) for side in shape)
        if math.prod(shape) * dtype.itemsize != len(content_bytes) or min(shape, default=0) < 0:
            raise ValueError(f"its {name} is not as large as it says")
        found = np.frombuffer(content_bytes, dtype).reshape(shape, order="F" if fortran else "C")
        return found.transpose(axes[0]) if axes and axes[0] is not None else found
    except (AttributeError, TypeError, IndexError, UnicodeEncodeError):
        raise ValueError(f"it has no array {name}") from None
