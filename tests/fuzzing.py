"""Fuzzing of every reader: small valid files, and reproducible mutations of them.

Each mutated file must either be read or raise InputError: no other exception, nothing on standard
error, and no more memory and time than stated. `python tests/fuzzing.py 100000` tries that many;
`python tests/fuzzing.py glb 17` writes the mutated file of one case into the current folder and
reads it.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import logging
import os
import pickle
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
from gltf_characters import Character
from gltf_files import character, compressed, glb_of, named_character, vrm_0_character

from talkemo import InputError
from talkemo.audio.recording import open_audio
from talkemo.binding.bind_face import read_landmark_hint
from talkemo.binding.binding import Binding
from talkemo.binding.files import load_binding, save_binding
from talkemo.binding.head_turner import Turner
from talkemo.binding.own_shapes import find_shapes
from talkemo.capture.fitting import Capture
from talkemo.capture.landmark_files import LandmarkFile, check_recordings, read_landmark_file
from talkemo.data.captures import FittedRecording, read_captures, save_captures
from talkemo.data.phones import read_phones
from talkemo.data.recordings import read_table
from talkemo.evaluation.compare import _read_mask
from talkemo.expression.emotions import Timeline
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.face.geometry_map import MAP_SIZE
from talkemo.formats.animation import Frames, Header, Source
from talkemo.formats.face_models import read_face_model
from talkemo.formats.live_link import LIVE_LINK_NAMES, ROTATION_COLUMNS
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh, MeshShape
from talkemo.formats.point_cache import MddAnimation, Pc2Animation
from talkemo.formats.registry import open_animation, open_writer
from talkemo.formats.shape_map import map_template, read_shape_map
from talkemo.formats.vertex_array import VertexArray
from talkemo.geometry.rigid import Similarity
from talkemo.pipelines.map_files import _read_map
from talkemo.video.reader import open_video
from talkemo.weights.files import load_weights, save_weights
from talkemo.weights.registry import read_registry

MAX_READ_MEMORY = 1 << 30  # bytes; limit while a file of some kilobytes is read
MAX_READ_S = 5.0  # longest acceptable time for one file
READ_TIMEOUT_S = 30  # a reader is ended after this time
VIDEO_KINDS = {"mp4": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "mkv": "mpeg4"}  # and codecs
SHAPE_MAP = b'# mine\nOpen = jawOpen * 0.7 + mouthFunnel\n"a=b" = aa  # a sound\nTail =\nSmile_L = mouthSmileLeft\n'
SHAPES = [
    MeshShape(name, 3, np.zeros(0, np.int32), np.zeros((0, 3), np.float32))
    for name in ("Open", "a=b", "Tail", "Smile_L", "mouthClose")
]
# Fewer cases of slow kinds: each starts one process, or two.
CASE_SHARES = {"m4a": 0.2, **dict.fromkeys(VIDEO_KINDS, 0.2)}


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, the content of a valid one, and its reader."""

    name: str
    content: bytes
    read: Callable[[Path], Any]


# ---- good files


def small_mesh() -> Mesh:
    """A bumpy sheet of 242 triangles."""
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    vertices = np.column_stack([grid, np.sin(grid[:, 0]) + grid[:, 1] / 3])
    cell = np.arange(144).reshape(12, 12)
    upper = np.stack([cell[:-1, :-1], cell[:-1, 1:], cell[1:, 1:]], -1).reshape(-1, 3)
    lower = np.stack([cell[:-1, :-1], cell[1:, 1:], cell[1:, :-1]], -1).reshape(-1, 3)
    return Mesh(vertices, np.concatenate([upper, lower]).astype(np.int32))


MESH = small_mesh()
FACE = SimpleNamespace(
    expression_names=tuple("abcd"),
    fingerprint="0123456789abcdef",
    mean=MESH.vertices.astype(np.float32) * 9,
)


def audio_files(folder: Path) -> dict[str, bytes]:
    """A tenth of a second of audio in each format."""
    rng = np.random.default_rng(0)
    samples = 0.3 * np.sin(np.arange(1600) / 8) + 0.01 * rng.standard_normal(1600)
    contents = {}
    for ending in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"a.{ending}", samples, 16000)
        contents[ending] = (folder / f"a.{ending}").read_bytes()
    import imageio_ffmpeg

    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-y",
        "-i",
        str(folder / "a.wav"),
        str(folder / "a.m4a"),
    ]
    subprocess.run(command, check=True)
    return contents | {"m4a": (folder / "a.m4a").read_bytes()}


def video_files(folder: Path) -> dict[str, bytes]:
    """Four frames in each container."""
    import imageio_ffmpeg

    contents = {}
    for ending, codec in VIDEO_KINDS.items():
        path = folder / f"small.{ending}"
        source = "-f lavfi -i testsrc=s=32x24:r=25:d=0.16".split()
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, "-c:v", codec]
        subprocess.run([*command, "-threads", "1", str(path)], check=True)
        contents[ending] = path.read_bytes()
    return contents


def photograph() -> bytes:
    """A small JPEG with EXIF data that turns it."""
    import PIL.Image

    image = PIL.Image.new("RGB", (8, 4), (200, 150, 120))
    exif = image.getexif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "a camera", 72.0
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", exif=exif)
        return buffer.getvalue()


class Chumpy:
    """Like an array of chumpy, whose numbers are an attribute x."""

    def __init__(self, x: np.ndarray):
        self.x = x


def write_back(path: Path) -> None:
    """Read a mesh and write its whole file with an animation."""
    mesh = load_mesh(path)
    rest = mesh.vertices.astype(np.float32)
    arkit = np.ones((2, len(ARKIT_NAMES)))
    turn = Turner(np.ones((len(rest), 1)), np.zeros(3), np.eye(3), (), np.zeros((2, 3)))
    targets = np.zeros((len(ARKIT_NAMES), *rest.shape), np.float32)
    targets[:, : len(rest) // 2, 1] = 0.1 * np.ptp(rest, axis=0).max()
    focus = np.ones(len(rest), bool)
    header = Header(2, 1.0, mesh.faces, rest, focus, targets=lambda: targets, turn=turn)
    frames = Frames(rest[None].repeat(2, 0), np.zeros((2, 68, 3)), arkit, np.stack([np.eye(3)] * 2))
    output = path.with_name("written.usda" if path.suffix.startswith(".usd") else "written.glb")
    with open_writer(output, replace(header, origin=mesh.origin)) as writer:
        writer.write(frames)


def stages(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """USD as text; none where usd-core is not installed.

    Binary layers are left out: a process of its own reads each of them first, which takes long.
    """
    if importlib.util.find_spec("pxr") is None:
        return {}
    from usd_stages import character_of as stage_of

    content = stage_of(folder / "stage.usda").read_bytes()
    return {"usda": (content, load_mesh), "usd_back": (content, write_back)}


def pickles() -> dict[str, bytes]:
    """FLAME's layout for the mesh, by Python 2's protocol and by today's."""
    shapes = np.random.default_rng(3).standard_normal((*MESH.vertices.shape, 3))
    Chumpy.__module__, Chumpy.__qualname__ = "chumpy.ch", "Ch"
    sys.modules |= {"chumpy": SimpleNamespace(), "chumpy.ch": SimpleNamespace(Ch=Chumpy)}
    try:
        content = {"v_template": MESH.vertices, "shapedirs": Chumpy(shapes), "f": MESH.faces}
        return {f"pickle{k}": pickle.dumps(content, k) for k in (2, 5)}
    finally:
        del sys.modules["chumpy.ch"], sys.modules["chumpy"]


def facescape() -> bytes:
    """FaceScape's layout for the mesh."""
    core = np.zeros((MESH.vertices.size, 2, 3), np.float32)
    core[:, 0, 0] = MESH.vertices.reshape(-1)
    core[:, 0, 1:] = 0.1
    identity = {"id_mean": np.array([1.0, 0, 0]), "id_var": np.array([0.0, 1, 1])}
    return npz(shape_bm_core=core, fv_indices=MESH.faces + 1, **identity)


def curves() -> bytes:
    """Six frames in Live Link Face's layout."""
    names = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
    lines = [",".join(["Timecode", "BlendShapeCount", *names, *ROTATION_COLUMNS])]
    values = ",".join(["0.25"] * (len(ARKIT_NAMES) + len(ROTATION_COLUMNS)))
    lines += [f"10:00:0{k // 2}:0{k % 2}.000,61,{values}" for k in range(6)]
    return "\n".join([*lines, ""]).encode()


def landmark_texts(points: np.ndarray) -> dict[str, bytes]:
    """Landmarks (T, 68, 2) as OpenFace's csv, as rows of numbers, and as MediaPipe's json."""
    head = ["frame", "face_id", "timestamp", "success"]
    head += [f"{axis}_{k}" for axis in "xy" for k in range(68)]
    flat = [",".join(f"{x:.2f}" for x in frame.reshape(-1)) for frame in points]
    rows = [f"{k + 1},0,{k / 25},1,{row}" for k, row in enumerate(flat)]
    frames = [[{"x": float(x), "y": float(y)} for x, y in frame] for frame in points]
    results = {"frames": [{"faceLandmarks": [frame]} for frame in frames[:3]] + [None]}
    return {
        "openface": "\n".join([",".join(head), *rows, ""]).encode(),
        "rows": "\n".join([*flat, ""]).encode(),
        "mediapipe": json.dumps(results).encode(),
    }


def image_file() -> bytes:
    """A small PNG."""
    import PIL.Image

    with io.BytesIO() as buffer:
        PIL.Image.new("RGB", (4, 4), (200, 150, 120)).save(buffer, "PNG")
        return buffer.getvalue()


def obj(library: str = "") -> bytes:
    """The mesh with texture coordinates, polygons of four corners, groups and materials."""
    lines = ["# a mesh", *([f"mtllib {library}"] if library else []), "o Head"]
    lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in MESH.vertices]
    lines += [f"vt {x / 12:.3f} {y / 12:.3f}" for x, y, _ in MESH.vertices] + [
        "vn 0 0 1",
        "g all",
        "usemtl skin",
    ]
    lines += [f"f {a + 1}/{a + 1}/1 {b + 1}/{b + 1}/1 {c + 1}/{c + 1}/1" for a, b, c in MESH.faces]
    return "\n".join([*lines, "f 1/1 2/2 14/14 13/13", "f -1 -2 -3", ""]).encode()


def meshes() -> dict[str, bytes]:
    """The mesh in each kind of file."""
    import trimesh

    mesh = trimesh.Trimesh(MESH.vertices, MESH.faces, process=False)
    binary = mesh.export(file_type="ply")
    uv = "\n".join(
        f"{x:.3f} {y:.3f} {z:.3f} {x / 12:.3f} {y / 12:.3f}" for x, y, z in MESH.vertices
    )
    head = f"ply\nformat ascii 1.0\ncomment a mesh\nelement vertex {len(MESH.vertices)}\n"
    head += "".join(f"property float {name}\n" for name in "xyzst")
    head += f"element face {len(MESH.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    text = head + uv + "\n" + "\n".join(f"3 {a} {b} {c}" for a, b, c in MESH.faces) + "\n"
    return {
        "ply_binary": binary,
        "ply": text.encode(),
        "stl": mesh.export(file_type="stl"),
        "stl_text": mesh.export(file_type="stl_ascii").encode(),
        "off": mesh.export(file_type="off").encode(),
    }


def glb() -> bytes:
    """The mesh with a texture, two morph targets and an animation of five keys."""
    views: list[dict[str, Any]] = []
    block = b""

    def view(content: bytes) -> int:
        nonlocal block
        views.append({"buffer": 0, "byteOffset": len(block), "byteLength": len(content)})
        block += content + bytes(-len(content) % 4)
        return len(views) - 1

    accessors: list[dict[str, Any]] = []

    def accessor(array: np.ndarray, form: str, component: int = 5126, **more: Any) -> int:
        about = {
            "bufferView": view(array.tobytes()),
            "componentType": component,
            "count": len(array),
            "type": form,
        }
        accessors.append(about | more)
        return len(accessors) - 1

    points = MESH.vertices.astype("<f4")
    position = accessor(points, "VEC3", min=points.min(0).tolist(), max=points.max(0).tolist())
    indices = accessor(MESH.faces.astype("<u2").ravel(), "SCALAR", 5123)
    uv = accessor((points[:, :2] / 12).astype("<f4"), "VEC2")
    target = accessor((points * 0.1).astype("<f4"), "VEC3")
    sparse = {
        "count": 2,
        "indices": {"bufferView": view(np.array([3, 9], "<u4").tobytes()), "componentType": 5125},
    }
    sparse["values"] = {"bufferView": view(np.ones((2, 3), "<f4").tobytes())}
    accessors.append(
        {"componentType": 5126, "count": len(points), "type": "VEC3", "sparse": sparse}
    )
    times = accessor(np.arange(5, dtype="<f4") / 10, "SCALAR")
    weights = accessor(np.linspace(0, 1, 10).astype("<f4"), "SCALAR")
    primitive = {
        "attributes": {"POSITION": position, "TEXCOORD_0": uv},
        "indices": indices,
        "targets": [{"POSITION": target}, {"POSITION": len(accessors) - 3}],
        "material": 0,
    }
    sampler = {"input": times, "output": weights, "interpolation": "LINEAR"}
    image = {"bufferView": view(image_file()), "mimeType": "image/png"}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"children": [1], "translation": [1, 2, 3]},
            {"mesh": 0, "scale": [2, 2, 2], "rotation": [0, 0, 0, 1]},
        ],
        "meshes": [{"primitives": [primitive], "weights": [0.0, 0.0]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [image],
        "animations": [
            {
                "channels": [{"sampler": 0, "target": {"node": 1, "path": "weights"}}],
                "samplers": [sampler],
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(block)}],
    }
    return glb_of(json.dumps(tree).encode(), block)


def gltf() -> bytes:
    """The same as a text, its block in base 64."""
    content = glb()
    size = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + size])
    tree["buffers"][0]["uri"] = (
        "data:application/octet-stream;base64," + base64.b64encode(content[28 + size :]).decode()
    )
    return json.dumps(tree).encode()


def npz(compressed: bool = True, **arrays: Any) -> bytes:
    """The content of an npz."""
    with io.BytesIO() as buffer:
        (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
        return buffer.getvalue()


def animation() -> bytes:
    """Three frames of the mesh."""
    frames = np.stack([MESH.vertices, MESH.vertices + 0.1, MESH.vertices]).astype(np.float32)
    meta = json.dumps({"talkemo": "0", "audio": "a.wav", "facing": np.eye(3).tolist()})
    rest = {
        "rest": frames[0],
        "focus": np.ones(len(MESH.vertices), bool),
        "facing": np.eye(3),
        "meta": meta,
    }
    return npz(vertices=frames, faces=MESH.faces, fps=25.0, **rest)


def binding(folder: Path) -> bytes:
    """A binding of the mesh to a face of four expressions."""
    rng = np.random.default_rng(1)
    count = len(MESH.vertices)
    eyes = tuple((np.arange(k, k + 5), MESH.vertices[k]) for k in (10, 40))
    bound = Binding(
        MESH, FACE, np.arange(count), rng.standard_normal((4, count, 3)).astype(np.float32),
        np.arange(count),
        np.arange(68), Similarity(1 / 9, np.eye(3), np.zeros(3)), 0.5, 0.9, {"skin": count}, eyes,
    )  # fmt: skip
    save_binding(folder / "binding.npz", bound)
    return (folder / "binding.npz").read_bytes()


def captures(folder: Path) -> bytes:
    """Two fitted recordings."""
    ones = lambda *shape: np.ones(shape, np.float32)
    capture = Capture(
        ones(5, 4),
        ones(5, 3, 3),
        ones(5),
        ones(5, 2),
        ones(5),
        ones(3),
        np.arange(5.0),
        np.ones(5, bool),
        ones(5),
    )
    fitted = [
        FittedRecording("c", name, "s", "happy", "train", f"{name}.wav", capture, "")
        for name in ("one", "two")
    ]
    save_captures(folder / "captures.npz", fitted, FACE)
    return (folder / "captures.npz").read_bytes()


def weights(folder: Path) -> bytes:
    """A weights file of two tensors."""
    tensors = {"a": np.ones((3, 4), np.float32), "b": np.ones(5, np.float16)}
    save_weights(folder / "a.safetensors", "talking", tensors, {"channels": 4, "face": "0123"})
    return (folder / "a.safetensors").read_bytes()


REGISTRY = "".join(
    f'[{stage}]\nfile = "{stage}.safetensors"\nbytes = 12345\nsha256 = "{"0a" * 32}"\n'
    'licence = "MIT"\nabout = "a"\n\n'
    for stage in ("face", "speech")
).encode()


def vertex_array() -> bytes:
    """A .npy of six frames of the mesh, (T, 3·V)."""
    content = io.BytesIO()
    np.save(content, np.tile(MESH.vertices.ravel().astype(np.float32), (6, 1)))
    return content.getvalue()


def mdd() -> bytes:
    """An .mdd of six frames of the mesh."""
    times = (np.arange(6) / 30).astype(">f4").tobytes()
    vertices = np.tile(MESH.vertices.ravel().astype(">f4"), 6).tobytes()
    return struct.pack(">ii", 6, len(MESH.vertices)) + times + vertices


def pc2() -> bytes:
    """A .pc2 of six frames of the mesh."""
    header = struct.pack("<12siiffi", b"POINTCACHE2\0", 1, len(MESH.vertices), 0, 1, 6)
    return header + np.tile(MESH.vertices.ravel().astype("<f4"), 6).tobytes()


def all_kinds(folder: Path) -> list[Kind]:
    """Every kind of file that is read; `folder` is for companions and temporary files."""
    (folder / "skin.png").write_bytes(image_file())
    (folder / "with.obj").write_bytes(obj("a.mtl"))
    points = np.random.default_rng(2).random((6, 68, 2)) * 100 + 200
    npy = io.BytesIO()
    np.save(npy, points.astype(np.float32))
    library = b"newmtl skin\nKd 1 1 1\nmap_Kd skin.png\nmap_Bump -bm 1 skin.png\n"
    phones = {"a.wav": [["SIL", 0, 0.1], ["P", 0.1, 0.25], ["AA1", 0.25, 1]], "b.wav": []}
    landmark_text = b"# eyes\n37 10\n46 12\n31 5.5 5.5 1.5\n49, 100\n55 105\n9 140\n"

    def with_library(path: Path) -> None:
        load_mesh(path.with_name("with.obj"))

    def read_video_landmarks(path: Path) -> None:
        contents = read_landmark_file(path)
        if isinstance(contents, LandmarkFile):
            check_recordings(contents.recordings, path.name)

    def read_video(path: Path) -> None:
        with open_video(path) as video:
            for _ in video.frames:
                pass

    contents = {name: (content, open_audio) for name, content in audio_files(folder).items()}
    contents |= {name: (content, load_mesh) for name, content in meshes().items()}
    contents |= {name: (content, read_video) for name, content in video_files(folder).items()}
    contents |= {"jpg": (photograph(), read_video), "png": (image_file(), read_video)}
    contents |= {name: (content, read_face_model) for name, content in pickles().items()}
    contents |= {
        name: (content, read_video_landmarks) for name, content in landmark_texts(points).items()
    }
    contents |= {
        "facescape": (facescape(), read_face_model),
        "curves": (curves(), read_video_landmarks),
        "phones": (json.dumps(phones).encode(), read_phones),
        "obj": (obj(), load_mesh),
        "mtl": (library, with_library),
        "glb": (glb(), load_mesh),
        "gltf": (gltf(), load_mesh),
        "glb_animation": (glb(), read_animation),
        "vrm": (character().glb(), load_mesh),
        "glb_back": (Character().glb(), write_back),
        "glb_compressed": (compressed().glb(), load_mesh),
        "shapes_glb": (named_character().glb(), read_shapes),
        "shapes_vrm": (vrm_0_character().glb(), read_shapes),
        **stages(folder),
        "shape_map": (SHAPE_MAP, lambda path: read_shape_map(path, SHAPES)),
        "animation": (animation(), read_animation),
        "binding": (binding(folder), lambda path: load_binding(path, FACE, MESH)),
        "map": (npz(map=np.zeros((3, MAP_SIZE, MAP_SIZE), np.float32)), _read_map),
        "landmarks_npz": (npz(a=points, b=points[:3]), read_video_landmarks),
        "landmarks_npy": (npy.getvalue(), read_video_landmarks),
        "vertex_array": (vertex_array(), lambda path: read_chunks_of(VertexArray(path, 30, MESH))),
        "mdd": (mdd(), lambda path: read_chunks_of(MddAnimation(path, None, MESH))),
        "pc2": (pc2(), lambda path: read_chunks_of(Pc2Animation(path, 30, MESH))),
        "clips_table": (
            b"name\tspeaker\tsplit\nann_01\tann\ttrain\nbob_01\tbob\tdev\n",
            lambda path: read_table(path, ("name", "speaker")),
        ),
        "captures": (captures(folder), lambda path: read_captures(path, FACE)),
        "timeline": (
            b"# when\n0 1.5 happy 0.8\n1.5 2 sad\n2 4 happy:0.5,surprised:0.25 1\n",
            Timeline.read,
        ),
        "landmarks": (landmark_text, lambda path: read_landmark_hint(path, MESH)),
        "mask": (b"0 1 2, 17\n140\n", lambda path: _read_mask(path, 144)),
        "weights": (weights(folder), lambda path: load_weights(path, "talking")),
        "registry": (REGISTRY, read_registry),
    }
    return [Kind(name, content, read) for name, (content, read) in contents.items()]


ENDINGS = {
    "usd_back": "usda",
    "shapes_glb": "glb", "shapes_vrm": "vrm", "shape_map": "map", "ply_binary": "ply", "stl_text": "stl", "glb_animation": "glb", "glb_back": "glb", "glb_compressed": "glb", "animation": "npz",
    "binding": "npz", "map": "npz", "landmarks_npz": "npz", "landmarks_npy": "npy", "vertex_array": "npy", "clips_table": "tsv",
    "captures": "npz", "timeline": "txt", "landmarks": "txt", "mask": "txt",
    "weights": "safetensors", "registry": "toml", "pickle2": "pkl", "pickle5": "pkl",
    "facescape": "npz", "curves": "csv", "openface": "csv", "rows": "csv", "mediapipe": "json",
    "phones": "json",
}  # fmt: skip


def read_animation(path: Path) -> None:
    """Open an animation and read its first frames."""
    read_chunks_of(open_animation(path))


def read_shapes(path: Path) -> None:
    """Read a mesh and its blend shapes, and choose those that are driven."""
    shapes = load_mesh(path).shapes
    map_template(shapes, find_shapes(shapes).left_out)


def read_chunks_of(source: Source) -> None:
    """Read the first frames of an animation."""
    for number, _ in enumerate(source.chunks(64)):
        if number > 2:
            break


# ---- mutations

BINARY = [
    struct.pack(form, value)
    for form, values in {
        "B": (0, 1, 127, 255),
        "<H": (0, 1, 0x7FFF, 0xFFFF),
        "<I": (0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000000, 1000),
        ">I": (1, 0x7FFFFFFF, 1000),
        "<Q": (0, 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1),
        "<f": (0.0, -1.0, 1e30, float("nan"), float("inf"), 1e-40),
        "<d": (0.0, -1.0, 1e300, float("nan"), float("-inf")),
    }.items()
    for value in values
]
NUMBERS = [
    b"0", b"-1", b"1", b"2", b"65535", b"2147483648", b"-2147483649", b"99999999999",
    b"1" + b"0" * 30, b"1e400", b"1e30", b"-1e30", b"1e-40", b"nan", b"NaN", b"inf", b"-Infinity",
    b"1.5", b"", b"null", b"true", b"[]", b"{}", b'"a"', b"[" * 2000, b"9" * 5000,
]  # fmt: skip
JUNK = [
    b"\x00", b"\xff", b"\n", b"\r", b" ", b"\x0b", b"\x1b[31m", b"\xe2\x80\xa8", b"\xed\xa0\x80",
    b'"', b"'", b"\\", b"{", b"[", b"(" * 300, b"#", b",", b"/", b"../", b"\\ud800", b"\x00" * 1000,
    b"\n" * 3000,
]  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORD = re.compile(rb"[A-Za-z_]{2,}")


def mutate(content: bytes, dice: random.Random) -> bytes:
    """The content with one to four changes, sometimes inside its zip or GLB container."""
    inside = dice.random() < 0.6
    if inside and content[:2] == b"PK":
        return _inside_zip(content, dice)
    if inside and content[:4] == b"glTF":
        return _inside_glb(content, dice)
    if inside and content[:2] == b'{"':
        return _changed_tree(content, dice)
    if inside and content[8:10] == b'{"':
        size = int.from_bytes(content[:8], "little")
        head = _changed(content[8 : 8 + size], dice)
        return struct.pack("<Q", len(head)) + head + content[8 + size :]
    return _changed(content, dice)


def _inside_zip(content: bytes, dice: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    chosen = dice.choice(sorted(entries))
    what = dice.randrange(8)
    if what == 0:
        del entries[chosen]
    elif what == 1:
        entries[chosen] = entries[dice.choice(sorted(entries))]
    elif what == 2:
        entries[
            dice.choice(["vertices.npy", "a.npy", "../x.npy", "x", "facing.npy", "rest.npy"])
        ] = entries[chosen]
    elif what == 3:
        entries[chosen] = _other_array(dice)
    else:
        at = 128 if dice.random() < 0.6 else len(entries[chosen])  # mostly in the header
        entries[chosen] = _changed(entries[chosen][:at], dice) + entries[chosen][at:]
    method = dice.choice(
        [
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
            zipfile.ZIP_DEFLATED,
            zipfile.ZIP_BZIP2,
            zipfile.ZIP_LZMA,
        ]
    )
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, entry in entries.items():
                archive.writestr(name, entry)
        return buffer.getvalue()


def _other_array(dice: random.Random) -> bytes:
    """A whole .npy of some other shape and type."""
    kind = dice.choice(["<f4", ">f8", "<i4", "<u1", "?", "<U3", "S2", "<c8", "<f2", "<i8"])
    shape = tuple(dice.choice([0, 1, 2, 3, 5, 68, 144]) for _ in range(dice.randrange(4)))
    array = np.zeros(shape, kind)
    if array.dtype.kind in "fic" and array.size:
        rng = np.random.default_rng(dice.randrange(1 << 30))
        array = (
            (rng.standard_normal(shape) * 10 ** dice.randrange(6)).clip(-6e4, 6e4).astype(kind)
        )  # as float16 has it
        if dice.random() < 0.3 and array.dtype.kind == "f":
            array.reshape(-1)[0] = dice.choice([np.nan, np.inf, 1e4])
    with io.BytesIO() as buffer:
        np.save(buffer, np.asfortranarray(array) if dice.random() < 0.2 else array)
        return buffer.getvalue()


def _inside_glb(content: bytes, dice: random.Random) -> bytes:
    size = int.from_bytes(content[12:16], "little")
    text, block = content[20 : 20 + size], content[28 + size :]
    if dice.random() < 0.75:
        text = _changed_tree(text, dice) if dice.random() < 0.7 else _changed(text, dice)
    else:
        block = _changed(block, dice)
    return glb_of(text, block)


def _changed_tree(text: bytes, dice: random.Random) -> bytes:
    """A JSON text with one to three of its values replaced, copied or removed."""
    tree = json.loads(text)
    for _ in range(dice.randint(1, 3)):
        places: list[tuple[Any, Any]] = []
        todo = [tree]
        while todo:
            item = todo.pop()
            if isinstance(item, dict | list):
                for key in list(item) if isinstance(item, dict) else range(len(item)):
                    places.append((item, key))
                    todo.append(item[key])
        if not places:
            break
        item, key = dice.choice(places)
        what = dice.randrange(6)
        if what == 0:
            del item[key]
        elif what == 1:
            target, where = dice.choice(places)
            try:
                item[key] = json.loads(json.dumps(target[where]))
            except (KeyError, IndexError):  # it was removed before
                continue
        elif what == 2 and isinstance(item, list):
            item.extend([item[key]] * dice.choice([1, 3, 300]))
        else:
            item[key] = dice.choice(
                [0, 1, -1, 2, 3, 5, 7, 255, 65536, 1 << 31, 1 << 40, 1 << 70, 0.5, -0.0, 1e30,
                1e300, True, None, "", "a", [], {}, [0], [1, 2, 3], "MAT4", "VEC2"]
            )  # fmt: skip
    return json.dumps(tree).encode()


def _changed(content: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice([1, 1, 2, 4])):
        content = _one_change(content, dice)
    return content


def _one_change(content: bytes, dice: random.Random) -> bytes:
    size = len(content)
    # Mutate headers, and the directory at the end of a zip, most often.
    ends = [size, size, min(size, 64), min(size, 300)]
    at = dice.randrange(dice.choice(ends) + 1)
    if dice.random() < 0.1:
        at = max(0, size - dice.randrange(150))
    target = dice.randrange(size + 1)
    length = dice.choice([1, 2, 4, 8, 16, 100, 1000])
    what = dice.randrange(11)
    if what == 0 and at < size:
        return content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
    if what == 1:
        return content[:at]
    if what == 2:
        return content[:at] + dice.randbytes(dice.choice([1, 2, 4, 50])) + content[at:]
    if what == 3:
        return content[:at] + content[at + length :]
    if what == 4:
        return (
            content[:at]
            + content[at : at + length] * dice.choice([2, 3, 50])
            + content[at + length :]
        )
    if what == 5:
        low, high = sorted((at, target))
        return (
            content[:low]
            + content[high : high + length]
            + content[low + length : high]
            + content[low : low + length]
            + content[high + length :]
        )
    if what == 6:
        return content[:at] + dice.choice(JUNK) + content[at:]
    if what in (7, 8):
        new = dice.choice(BINARY)
        at -= at % dice.choice([1, 2, 4, 8])
        return content[:at] + new + content[at + len(new) :]
    matches = list((NUMBER if what == 9 else WORD).finditer(content, *sorted((at, target))))[:500]
    if not matches:
        return content[:at] + dice.choice(BINARY) + content[at:]
    match = dice.choice(matches)
    new = (
        dice.choice(NUMBERS)
        if what == 9
        else dice.choice([dice.choice(matches)[0], b"", b"element", b"mesh", b"nodes"])
    )
    return content[: match.start()] + new + content[match.end() :]


# ---- trying


class Stuck(BaseException):
    """Raised in a reader that does not end.

    It is not an Exception, so that no reader mistakes it for a broken file.
    """


def case(kind: Kind, number: int) -> bytes:
    """The mutated file of a case."""
    return mutate(kind.content, random.Random(f"{kind.name} {number}"))


def path_of(kind: Kind, folder: Path) -> Path:
    """Where the file of a kind lies."""
    return folder / f"a.{ENDINGS.get(kind.name, kind.name)}"


@contextmanager
def limited(memory: int = MAX_READ_MEMORY) -> Iterator[None]:
    """Limit how many bytes of memory this process and its children may use in addition to now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))

    def stuck(*_: object) -> None:
        raise Stuck

    before = signal.signal(signal.SIGALRM, stuck)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def small_files(largest: int) -> Iterator[None]:
    """Limit the size of files that this process and its children write, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Logged(logging.Handler):
    """Keeps what libraries log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def fault_of(kind: Kind, path: Path, logged: Logged) -> str:
    """Read a file; return what is wrong with how that went.

    Without a fault, return `=` if the file was read and `=refused` if it was refused properly.
    """
    logged.messages.clear()
    stderr_size = os.fstat(2).st_size
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        signal.alarm(READ_TIMEOUT_S)
        try:
            kind.read(path)
            result = ""
        except InputError as error:
            result = "refused"
            if (
                "\n" in error.message
                or not error.hint
                or (path.name not in error.message and kind.name != "mtl")
            ):
                return f"message {error.message!r}, hint {error.hint!r}"
            if "more memory" in error.message:
                return error.message
        except Stuck:
            return f"does not end within {READ_TIMEOUT_S} s"
        except Exception:
            return traceback.format_exc(limit=-4)
        finally:
            signal.alarm(0)
    seconds = time.monotonic() - start
    faults = {
        f"warning {[str(w.message) for w in warned][:1]}": bool(warned),
        f"log {logged.messages[:1]}": bool(logged.messages),
        "standard error": os.fstat(2).st_size != stderr_size,
        f"{seconds:.1f} s": seconds > MAX_READ_S,
    }
    return "; ".join(name for name, present in faults.items() if present) or f"={result}"


def try_all(
    count: int, folder: Path, first: int = 0, report: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Faults in `count` mutated files, a line per case; `report` is called with summaries."""
    kinds = all_kinds(folder)
    shares = [CASE_SHARES.get(kind.name, 1.0) for kind in kinds]
    numbers = {
        kind.name: range(first, first + round(count * share / sum(shares)))
        for kind, share in zip(kinds, shares)
    }
    # Each good file must be readable. Reading it also imports and caches what the others need.
    for kind in kinds:
        path_of(kind, folder).write_bytes(kind.content)
        kind.read(path_of(kind, folder))
    faults, outcomes, logged = [], Counter(), Logged()
    logging.getLogger().addHandler(logged)
    stderr, capture = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
    os.dup2(capture.fileno(), 2)
    try:
        with limited():
            for kind in kinds:
                path, start = path_of(kind, folder), time.monotonic()
                for number in numbers[kind.name]:
                    path.write_bytes(case(kind, number))
                    fault = fault_of(kind, path, logged)
                    outcomes[kind.name, fault if fault.startswith("=") else "fault"] += 1
                    if not fault.startswith("="):
                        faults.append(f"{kind.name} {number}: {fault}")
                path.write_bytes(kind.content)
                each = " ".join(
                    f"{outcomes[kind.name, o]} {o.strip('=') or 'read'}"
                    for o in ("=", "=refused", "fault")
                )
                report(f"{kind.name}: {each}, {time.monotonic() - start:.1f} s")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        capture.close()
        logging.getLogger().removeHandler(logged)
    return faults


def main(arguments: list[str]) -> None:
    """Try many, or write and read one."""
    with tempfile.TemporaryDirectory() as folder:
        if len(arguments) == 1 or arguments[0].isdigit():
            first = int(arguments[1]) if len(arguments) > 1 else 0
            faults = try_all(int(arguments[0]), Path(folder), first, print)
            print("\n".join(faults) or "no faults")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(f"{len(faults)} faults; {peak} MB at most")
            return
        kind = next(kind for kind in all_kinds(Path(folder)) if kind.name == arguments[0])
        if kind.name == "mtl":
            Path("with.obj").write_bytes(obj("a.mtl"))
        path = path_of(kind, Path.cwd())
        path.write_bytes(case(kind, int(arguments[1])))
        print(path)
        kind.read(path)


if __name__ == "__main__":
    main(sys.argv[1:])
