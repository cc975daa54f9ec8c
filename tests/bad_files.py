"""Small unusable files, each with one fault; the functions return paths by the files' names."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import zipfile
from pathlib import Path

import fuzzing
import numpy as np
import soundfile

LONG_NAME = "n" * 5000


def special_files(folder: Path, ending: str) -> dict[str, Path]:
    """Paths that are not regular files, or cannot be reached."""
    folder.mkdir(exist_ok=True)
    fifo, device, loop, hanging = (
        folder / f"{name}{ending}" for name in ("fifo", "device", "loop", "hanging")
    )
    os.mkfifo(fifo)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop.name)
    hanging.symlink_to("nowhere")
    (folder / f"folder{ending}").mkdir()
    server = socket.socket(socket.AF_UNIX)
    working_folder = os.getcwd()
    os.chdir(folder)  # a socket's path may have 108 bytes
    server.bind(f"socket{ending}")
    os.chdir(working_folder)
    server.close()
    (folder / "plain").write_text("a file")
    return {
        "a pipe": fifo,
        "a device": device,
        "a link in a circle": loop,
        "a link to nothing": hanging,
        "a folder": folder / f"folder{ending}",
        "a socket": folder / f"socket{ending}",
        "not there": folder / f"none{ending}",
        "below a file": folder / "plain" / f"a{ending}",
        "too long a name": folder / f"{LONG_NAME}{ending}",
    }


def write(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Files by their names and contents."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def bad_meshes(folder: Path, example: Path) -> dict[str, Path]:
    """Unusable meshes."""
    lines = example.read_text().splitlines()
    points = [line for line in lines if line.startswith("v ")]
    faces = [line for line in lines if line.startswith("f ")]
    text = lambda *parts: "\n".join(line for part in parts for line in part).encode()
    flat = [f"{line.rsplit(' ', 1)[0]} 5" for line in points]
    glb = struct.pack("<3I", 0x46546C67, 2, 1000)
    stl = bytes(80) + struct.pack("<I", 10**9)
    claims = "ply\nformat binary_little_endian 1.0\nelement vertex 900000000\n"
    claims += "property float x\nproperty float y\n"
    paths = write(
        folder,
        {
            "empty.obj": b"",
            "text.obj": b"what is this?\n",
            "binary.obj": bytes(range(256)) * 40,
            "points.obj": text(points),
            "no_points.obj": text(faces),
            "one_triangle.obj": text(points[:3], ["f 1 2 3"]),
            "few.obj": text(points, faces[:50]),
            "nan.obj": text(["v nan 0 0"], points[1:], faces),
            "inf.obj": text(["v 0 inf 0"], points[1:], faces),
            "huge.obj": text(["v 1e400 0 0"], points[1:], faces),
            "two_numbers.obj": text(["v 1 2"], points[1:], faces),
            "words.obj": text(["v a b c"], points[1:], faces),
            "beyond.obj": text(points, faces, ["f 1 2 99999999"]),
            "before.obj": text(points, faces, ["f -1 -2 -99999999"]),
            "far_beyond.obj": text(points, faces, ["f 1 2 99999999999999999999"]),
            "word_face.obj": text(points, faces, ["f 1 2 x"]),
            "flat.obj": text(flat, faces),
            "one_place.obj": text(["v 1 1 1"] * len(points), faces),
            "empty.ply": b"",
            "cut.ply": b"ply\nformat ascii 1.0\nelement vertex 5\n",
            "claims.ply": claims.encode() + b"property float z\nend_header\n",
            "text.ply": b"hello\n" * 30,
            "empty.stl": b"",
            "claims.stl": stl,
            "text.stl": b"solid nothing\n",
            "empty.off": b"",
            "cut.off": b"OFF\n900 900 900\n0 0 0\n",
            "empty.glb": b"",
            "cut.glb": glb,
            "text.glb": b"glTF is what it says" * 9,
            "empty.gltf": b"",
            "text.gltf": b"{",
            "list.gltf": b"[]",
            "unknown.xyz": b"0 0 0\n",
            "no_ending": b"v 0 0 0\n",
        },
    )
    return paths | special_files(folder / "special", ".obj")


def bad_audio_files(folder: Path, example: Path) -> dict[str, Path]:
    """Unusable audio files."""
    folder.mkdir(exist_ok=True)
    content = example.read_bytes()
    tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    for name, samples, rate in (
        ("nothing.wav", tone[:0], 16000),
        ("nan.wav", np.where(np.arange(16000) == 5, np.nan, tone), 16000),
        ("inf.wav", np.where(np.arange(16000) == 5, np.inf, tone), 16000),
        ("huge.wav", 1e20 * tone, 16000),
        ("one_hertz.wav", tone, 1),
    ):
        soundfile.write(folder / name, samples, rate, subtype="FLOAT")
    for ending in ("mp3", "flac", "ogg"):
        soundfile.write(folder / f"good.{ending}", tone, 16000)
    playlist = f"#EXTM3U\n#EXTINF:1,\n{example.resolve()}\n".encode()
    concat = f"ffconcat version 1.0\nfile '{example.resolve()}'\n".encode()
    names = ("nothing.wav", "nan.wav", "inf.wav", "huge.wav", "one_hertz.wav")
    paths = {name: folder / name for name in names}
    paths |= write(
        folder,
        {
            "empty.wav": b"",
            "header.wav": content[:30],
            "text.wav": b"not audio\n" * 20,
            "zeros.wav": bytes(5000),
            "mp3.wav": (folder / "good.mp3").read_bytes(),
            "flac.wav": (folder / "good.flac").read_bytes(),
            "wav.mp3": content,
            "wav.flac": content,
            "empty.mp3": b"",
            "text.mp3": b"not audio\n" * 20,
            "cut.flac": (folder / "good.flac").read_bytes()[:60],
            "empty.ogg": b"",
            "cut.ogg": (folder / "good.ogg").read_bytes()[:60],
            "text.opus": b"OggS" + bytes(100),
            "empty.m4a": b"",
            "text.m4a": b"not audio\n" * 20,
            "playlist.m4a": playlist,
            "concat.mp4": concat,
            "zeros.aac": bytes(4000),
            "text.webm": b"webm?" * 50,
            "unknown.xyz": b"audio of some kind",
        },
    )
    return paths | special_files(folder / "special", ".wav")


def npz(**arrays) -> bytes:
    """The content of an npz."""
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def entry(name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The content of a zip with one entry."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr(name, content)
        return buffer.getvalue()


def array_header(shape: str, kind: str = "<f4") -> bytes:
    """The beginning of a .npy that claims a shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - len(text) % 64 + 54 % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bad_animations(folder: Path, good: dict[str, np.ndarray]) -> dict[str, Path]:
    """Unusable animations, made from the arrays of a good one."""
    change = lambda **arrays: npz(**{**good, **arrays})
    without = lambda name: npz(**{key: array for key, array in good.items() if key != name})
    vertices = good["vertices"]
    bad_frame = vertices.copy()
    bad_frame[1, 3] = np.nan
    content = npz(**good)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    deep = json.dumps({"a": 1})[:-1] + ', "b": ' + "[" * 3000 + "]" * 3000 + "}"
    paths = write(
        folder,
        {
            "empty.npz": b"",
            "text.npz": b"what is this?" * 20,
            "zip.npz": b"PK\x03\x04 junk" * 9,
            "cut.npz": content[: len(content) // 3],
            "crc.npz": bytes(flipped),
            "no_vertices.npz": without("vertices"),
            "no_faces.npz": without("faces"),
            "no_fps.npz": without("fps"),
            "flat.npz": change(vertices=vertices[0]),
            "four.npz": change(vertices=np.zeros((2, 9, 4), np.float32)),
            "no_frames.npz": change(vertices=vertices[:0]),
            "no_points.npz": change(vertices=vertices[:, :0]),
            "integers.npz": change(vertices=vertices.astype(np.int32)),
            "words.npz": change(vertices=np.array([["a"]])),
            "fortran.npz": change(vertices=np.asfortranarray(vertices)),
            "fps_zero.npz": change(fps=0.0),
            "fps_nan.npz": change(fps=np.nan),
            "fps_negative.npz": change(fps=-30.0),
            "fps_word.npz": change(fps="fast"),
            "fps_many.npz": change(fps=np.ones(3)),
            "quads.npz": change(faces=np.zeros((4, 4), np.int32)),
            "faces_beyond.npz": change(faces=good["faces"] + 10**6),
            "faces_negative.npz": change(faces=good["faces"] - 10**6),
            "rest_short.npz": change(rest=vertices[0, :5]),
            "rest_nan.npz": change(rest=np.full(vertices.shape[1:], np.nan)),
            "nan.npz": change(vertices=bad_frame, rest=vertices[0]),
            "first_nan.npz": change(vertices=np.full_like(vertices, np.nan)),
            "meta_broken.npz": change(meta="{"),
            "meta_deep.npz": change(meta=deep),
            "objects.npz": entry("vertices.npy", array_header("(1,)", "|O") + b"pickle"),
            "claims.npz": entry("faces.npy", array_header("(1000000000000, 3)", "<i4")),
            "bomb.npz": entry("faces.npy", array_header("(100000000, 3)", "<i4") + bytes(1 << 20)),
            "negative.npz": entry("faces.npy", array_header("(-5, 3)", "<i4")),
            "lzma.npz": entry(
                "faces.npy", array_header("(2, 3)", "<i4") + bytes(24), zipfile.ZIP_LZMA
            ),
            "array.npz": array_header("(2, 3)") + bytes(24),
            "empty.glb": b"",
            "text.glb": b"glTF?" * 20,
            "header.glb": struct.pack("<3I", 0x46546C67, 2, 12),
            "wrong_json.glb": struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534A) + b"{{{{",
            "unknown.xyz": b"frames",
        },
    )
    (folder / "no_meshes").mkdir()
    mixed = folder / "mixed"
    mixed.mkdir()
    (mixed / "0.obj").write_text("v 0 0 0\n")
    paths |= {"a folder without meshes": folder / "no_meshes", "a folder of broken meshes": mixed}
    special = special_files(folder / "special", ".npz")
    return paths | {name: path for name, path in special.items() if name != "a folder"}


def bad_bindings(folder: Path, good: dict[str, np.ndarray]) -> dict[str, Path]:
    """Unusable bindings, made from the arrays of one that fits."""
    change = lambda **arrays: npz(**{**good, **arrays})
    shapes = good["shapes"]
    paths = write(
        folder,
        {
            "empty.npz": b"",
            "text.npz": b"what is this?" * 20,
            "cut.npz": npz(**good)[:2000],
            "nothing.npz": npz(a=np.zeros(3)),
            "other_mesh.npz": change(mesh="0" * 32, mesh_vertices=good["mesh_vertices"] + 1),
            "other_triangles.npz": change(mesh="0" * 32, mesh_faces="0" * 32),
            "other_face.npz": change(face="0" * 16),
            "scale_zero.npz": change(scale=0.0),
            "scale_nan.npz": change(scale=np.nan),
            "scale_negative.npz": change(scale=-1.0),
            "rotation_nan.npz": change(rotation=np.full((3, 3), np.nan)),
            "rotation_zero.npz": change(rotation=np.zeros((3, 3))),
            "rotation_flat.npz": change(rotation=np.zeros(9)),
            "translation_inf.npz": change(translation=np.full(3, np.inf)),
            "shapes_nan.npz": change(shapes=np.full_like(shapes, np.nan)),
            "shapes_huge.npz": change(shapes=np.full_like(shapes, 1e30)),
            "shapes_few.npz": change(shapes=shapes[:4]),
            "moving_beyond.npz": change(moving=good["moving"] + 10**6),
            "moving_negative.npz": change(moving=good["moving"] - 10**6),
            "canonical_beyond.npz": change(canonical=good["canonical"] + 10**6),
            "landmarks_few.npz": change(landmarks68=good["landmarks68"][:5]),
            "landmarks_float.npz": change(landmarks68=good["landmarks68"] + 0.5),
            "eyes_nan.npz": change(eye_centres=np.full((2, 3), np.nan)),
            "eyes_flat.npz": change(eye_centres=np.zeros(2)),
            "eyes_square.npz": change(eye0=np.zeros((2, 2), np.int64)),
            "error_nan.npz": change(error=np.nan),
        },
    )
    return paths | special_files(folder / "special", ".npz")


def bad_videos(folder: Path) -> dict[str, Path]:
    """Unusable videos: their headers state impossible rates and durations, or lie."""
    folder.mkdir(exist_ok=True)
    contents = fuzzing.video_files(folder)
    mp4, avi, webm = bytearray(contents["mp4"]), bytearray(contents["avi"]), contents["webm"]
    durations, scale = mp4.index(b"stts") + 16, avi.index(b"strh") + 28
    mp4[durations : durations + 4] = struct.pack(">I", 0x7FFFFFFF)  # of each frame
    avi[scale : scale + 8] = struct.pack("<2I", 36000, 1)
    place = webm.index(b"\x44\x89\x88") + 3
    long = webm[:place] + struct.pack(">d", 3.6e7) + webm[place + 8 :]  # ms
    return write(
        folder,
        {
            "empty.mp4": b"",
            "text.webm": b"not a video\n" * 20,
            "cut.mp4": contents["mp4"][:300],
            "slow.mp4": bytes(mp4),
            "slow.avi": bytes(avi),
            "long.webm": long,
            "empty.jpg": b"",
            "cut.jpg": fuzzing.photograph()[:150],
            "text.png": b"not an image\n" * 20,
            "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\ngood.mp4\n",
        },
    ) | special_files(folder / "special", ".mp4")


def bad_face_models(folder: Path) -> dict[str, Path]:
    """Unusable face models, with pickles that once took minutes or gigabytes."""
    pairs = b"N" + b"2\x86" * 70
    good = pickle.dumps({"v_template": np.zeros((4, 3)), "f": np.zeros((1, 3))}, 2)
    return write(
        folder,
        {
            "empty.pkl": b"",
            "text.pkl": b"a face model?" * 9,
            "deep.pkl": b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns.",
            "hash.pkl": b"\x80\x02}" + pairs + b"Ns.",
            "text_of.pkl": b"\x80\x02c_codecs\nencode\n" + pairs + b"\x85R.",
            "many.pkl": b"\x80\x02(" + b"}" * 500_000 + b"t.",
            "claims.pkl": b"\x80\x04\x95" + b"\xff" * 7 + b"\x00N.",
            "set.pkl": b"\x80\x04\x8f.",
            "calls.pkl": b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.",
            "no_shapes.pkl": good,
            "empty.npz": b"",
            "nothing.npz": npz(a=np.zeros(3)),
            "core.npz": npz(
                shape_bm_core=np.zeros((4, 1, 2)),
                fv_indices=[[0, 1, 2]],
                id_mean=[1, 0],
                id_var=[1],
            ),
            "model.obj": b"v 0 0 0\n",
        },
    ) | {
        name: path
        for name, path in special_files(folder / "special", ".pkl").items()
        if name != "a folder"
    }


def bad_curves(folder: Path) -> dict[str, Path]:
    """Unusable curves and landmarks in texts."""
    head, row, *_ = fuzzing.curves().decode().split("\n")
    frame = json.dumps(np.ones((478, 2)).tolist())
    return write(
        folder,
        {
            "no_rows.csv": head.encode(),
            "short.csv": f"{head}\n{row[:150]}\n".encode(),
            "nan.csv": f"{head}\n{row.replace('0.25', 'nan')}\n".encode(),
            "word.csv": f"{head}\n{row.replace('0.25', 'open')}\n".encode(),
            "few_columns.csv": b"Timecode,BlendShapeCount,EyeBlinkLeft\n0:0:0:0,1,0.5\n",
            "wide.csv": b"a" + b"," * 1_500_000,
            "quote.csv": b'"' + b"1\n" * 1000,
            "nulls.json": b"[" + b"null," * 50_000 + frame.encode() + b"]",
            "long.json": b'["' + b"a" * 9_000_000 + b'"]',
            "numbers.json": b"[" + b"1," * 1000 + b"1]",
            "word.json": b'[[{"x": "left", "y": 2}]]',
        },
    )


def bad_phones(folder: Path) -> dict[str, Path]:
    """Unusable files of aligned phones."""
    texts = {
        "empty": "", "text": "phones", "list": '[["P", 0, 1]]', "two": '{"a": [["P", 0]]}',
        "negative": '{"a": [["P", -1, 1]]}', "backwards": '{"a": [["P", 2, 1]]}',
        "nan": '{"a": [["P", NaN, 1]]}', "years": '{"a": [["P", 0, 1e9]]}',
        "word": '{"a": [["P", "0", "1"]]}', "number": '{"a": [[1, 0, 1]]}',
        "name": '{"a": [["-1", 0, 1]]}', "no_name": '{"a": [["", 0, 1]]}',
        "deep": '{"a": ' + "[" * 5000, "cut": '{"a": [["P", 0, 1]',
    }  # fmt: skip
    contents = {f"{name}.json": text.encode() for name, text in texts.items()}
    return write(folder, contents) | special_files(folder / "special", ".json")


def bad_registries(folder: Path) -> dict[str, Path]:
    """Folders with unusable registries of weights."""
    entry = "[face]\nfile = 'face.safetensors'\nbytes = 1\nsha256 = '" + "0" * 64 + "'\n"
    texts = {
        "text": "weights?", "dots": "a" + ".a" * 25_000 + " = 1",
        "tables": "[a" + ".a" * 25_000 + "]", "stage": "[ears]\n", "no_file": "[face]\n",
        "outside": entry.replace("'face.", "'../face."), "size": entry.replace("= 1", "= -1"),
        "digest": entry.replace("000", "00"), "seed": f"{entry}seed = 'x'\n",
        "large": "#" * 300_000, "nested": "a = " + "[" * 5000,
    }  # fmt: skip
    paths = {}
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "registry.toml").write_text(text)
        paths[name] = folder / name
    return paths


LANDMARKS = (
    "",
    "1 2",
    "1 2 3",
    "0 1",
    "69 1",
    "-1 1",
    "1 99999999",
    "1 nan 0 0",
    "one 2",
    "1 2 3 4 5",
    "\0\0\0",
    "1 1\n2 1",
)
TIMELINES = ("", "0 1", "0 x happy", "2 1 sad", "0 1 cheeky", "0 1 happy 3", "nan 1 happy",
"-1 1 happy", "0 inf happy", "0 1 happy 0.5 9", "# nothing", "0 1 happy:2")  # fmt: skip
MASKS = ("", "a", "-1", "99999999", "1.5", "1 2 x", "\0")


def texts(folder: Path, contents: tuple[str, ...]) -> dict[str, Path]:
    """Text files by their content, a large one, and special files."""
    folder.mkdir(exist_ok=True)
    paths = {}
    for number, content in enumerate(contents):
        path = folder / f"{number}.txt"
        path.write_text(content)
        paths[repr(content)] = path
    (folder / "large.txt").write_bytes(b"0 1 happy\n" * 2_000_000)
    return paths | {"large": folder / "large.txt"} | special_files(folder / "special", ".txt")
