"""The boundary between files and everything else: what is opened, how much is read, and what writing leaves behind."""

import io
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fuzzing
import numpy as np
import pytest

from talkemo import InputError, TalkemoError, files
from talkemo.audio import open_audio
from talkemo.binding.bind import bind_mesh, read_landmarks
from talkemo.binding.cache import BindingCache
from talkemo.binding.files import load_binding, save_binding
from talkemo.capture.fitting import Fitter
from talkemo.capture.landmarks import check_spread, schema
from talkemo.emotions import Timeline
from talkemo.evaluation.compare import _check_mask_name, _read_mask
from talkemo.files import Partial, atomic_write, open_file, read_npy, read_npz
from talkemo.formats.animation import Frames, Header
from talkemo.formats.gltf_reader import GlbAnimation
from talkemo.formats.mesh import Mesh, load_mesh
from talkemo.formats.npz import NpzAnimation, NpzWriter
from talkemo.formats.open import open_animation
from talkemo.formats.sequence import MeshSequence
from talkemo.pipelines.geomap import _read_map

MESH, FACE = fuzzing.MESH, fuzzing.FACE
PROMPT = 3  # s after which a reader that waits is ended
READERS = {
    "sound": (".wav", open_audio),
    "coded sound": (".m4a", open_audio),
    "mesh": (".obj", load_mesh),
    "ply": (".ply", load_mesh),
    "glb mesh": (".glb", load_mesh),
    "gltf": (".gltf", load_mesh),
    "animation": (".npz", NpzAnimation),
    "any animation": (".npz", open_animation),
    "glb": (".glb", GlbAnimation),
    "npz": (".npz", lambda path: read_npz(path, "an npz")),
    "npy": (".npy", lambda path: read_npy(path, "an npy", "is it right?")),
    "binding": (".npz", lambda path: load_binding(path, FACE, MESH)),
    "map": (".npz", _read_map),
    "timeline": (".txt", Timeline.read),
    "landmarks": (".txt", lambda path: read_landmarks(path, MESH)),
    "mask": (".txt", lambda path: _read_mask(path, 144)),
    "mask's name": (".txt", _check_mask_name),
}


@contextmanager
def promptly():
    """Fail where the block waits for something."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PROMPT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------------------------------------------ what is opened


@pytest.fixture
def special(tmp_path, monkeypatch):
    """A function that gives paths of an ending that are no regular files, or cannot be reached, by what they are."""

    def make(ending):
        folder = tmp_path / ending[1:]
        folder.mkdir()
        monkeypatch.chdir(folder)  # a socket's path may have 108 bytes
        os.mkfifo(f"fifo{ending}")
        os.symlink(f"fifo{ending}", f"link_to_fifo{ending}")
        os.symlink("/dev/zero", f"device{ending}")
        os.symlink(f"loop{ending}", f"loop{ending}")
        os.symlink("nowhere", f"hanging{ending}")
        Path("plain").write_text("a file")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"socket{ending}")
        names = ("fifo", "link_to_fifo", "device", "loop", "hanging", "socket", "none", "plain/below", "n" * 3000, "\0")
        return {name: folder / f"{name}{ending}" for name in names}

    return make


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(special, reader):
    ending, read = READERS[reader]
    for name, path in special(ending).items():
        with promptly(), pytest.raises(InputError) as caught:
            read(path)
        message = caught.value.message
        assert caught.value.hint and "\n" not in message and len(message) < 500, message
        assert path.name[:40] in message or name in ("n" * 3000, "\0"), message
    folder = path.parent / "folder"
    folder.mkdir()
    if reader != "any animation":
        with pytest.raises(InputError, match="folder is a folder"):
            read(folder)


def test_why_a_file_cannot_be_opened_is_said(special):
    paths = special(".txt")
    says = lambda name: pytest.raises(InputError, match=name)
    for name, reason in {
        "fifo": "a pipe or device, not a timeline",
        "device": "a pipe or device",
        "loop": "symbolic links",
        "none": "no such timeline",
        "plain/below": "Not a directory",
        "n" * 3000: "name too long",
    }.items():
        with says(reason):
            Timeline.read(paths[name])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 1 happy")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        Timeline.read(path)


def test_links_to_regular_files_are_followed(tmp_path):
    (tmp_path / "a.txt").write_text("0 1 happy")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert len(Timeline.read(tmp_path / "b.txt").spans) == 1


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "plain").write_text("")
    about, stat = os.stat(tmp_path / "plain"), os.stat
    # As if it had been a regular file when it was looked at.
    monkeypatch.setattr(files.os, "stat", lambda path, **more: about if str(path).endswith("a.txt") else stat(path, **more))
    with promptly(), pytest.raises(InputError, match="a pipe or device"):
        open_file(tmp_path / "a.txt", "a timeline", "a hint")


def test_sizes_are_limited(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0 1 happy\n" * 300_000)
    for read in (Timeline.read, lambda path: read_landmarks(path, MESH)):
        with pytest.raises(InputError, match=r"too large for a .*, 3000000 bytes") as caught:
            read(tmp_path / "a.txt")
        assert "at most 1 MiB" in caught.value.hint


def test_what_a_mesh_names_must_be_a_regular_file_beside_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.mtl")
    os.symlink("loop.mtl", tmp_path / "loop.mtl")
    os.symlink("/dev/zero", tmp_path / "zero.mtl")
    (tmp_path / "outside.obj").write_text("secret")
    for name in ("pipe.mtl", "loop.mtl", "zero.mtl", "none.mtl", "../outside.mtl", "/etc/passwd", "\0", "n" * 5000, ""):
        (tmp_path / "a.obj").write_bytes(fuzzing.obj(name))
        with promptly():
            mesh = load_mesh(tmp_path / "a.obj")
        assert len(mesh.vertices) == 144 and not mesh.appearance.companions
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd pipe.mtl\nmap_Kd loop.mtl\nmap_Kd skin.png\n")
    (tmp_path / "skin.png").write_bytes(fuzzing.picture())
    (tmp_path / "a.obj").write_bytes(fuzzing.obj("a.mtl"))
    with promptly():
        appearance = load_mesh(tmp_path / "a.obj").appearance
    assert sorted(appearance.companions) == ["a.mtl", "skin.png"] and appearance.texture == fuzzing.picture()
    tree = json.loads(fuzzing.gltf())
    os.mkfifo(tmp_path / "block.bin")
    for uri in ("block.bin", "loop.mtl", "zero.mtl", "../block.bin", "/etc/passwd", "http://localhost/a"):
        tree["buffers"][0]["uri"] = uri
        (tmp_path / "a.gltf").write_text(json.dumps(tree))
        with promptly(), pytest.raises(InputError, match="which is not beside it"):
            load_mesh(tmp_path / "a.gltf")
    (tmp_path / "block.bin").unlink()
    content = fuzzing.glb()
    (tmp_path / "block.bin").write_bytes(content[28 + int.from_bytes(content[12:16], "little") :])
    tree["buffers"][0]["uri"] = "block.bin"
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    mesh = load_mesh(tmp_path / "a.gltf")
    assert mesh.appearance.texture.startswith(b"\x89PNG")
    (tmp_path / "a.glb").write_bytes(content)
    np.testing.assert_array_equal(load_mesh(tmp_path / "a.glb").vertices, mesh.vertices)


def test_frames_that_are_pipes(tmp_path):
    (tmp_path / "0.obj").write_bytes(fuzzing.obj())
    os.mkfifo(tmp_path / "1.obj")
    source = MeshSequence(tmp_path)
    with promptly(), pytest.raises(InputError, match=r"1\.obj: a pipe"):
        list(source.chunks())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), RecursionError(), OverflowError("a\nb"), NotImplementedError("x"), tokenize.TokenError("x", (1, 2)),
        SyntaxError("x"), struct.error("x"), zlib.error("x"), zipfile.BadZipFile("x"), KeyError("x"), AssertionError(),
        EOFError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), OSError(5, "Input/output error"),
    ],
)  # fmt: skip
def test_whatever_reading_raises_is_one_line(error):
    with pytest.raises(InputError) as caught, files.readable("a.npz", "an animation", "a hint"):
        raise error
    assert caught.value.message.startswith("a.npz: not an animation (") and "\n" not in caught.value.message
    assert caught.value.hint == "a hint" and caught.value.__cause__ is None


def test_what_talkemo_reports_itself_stays(recwarn):
    for error in (InputError("a", "b"), TalkemoError("no ffmpeg", "install it"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, files.readable("a.npz", "an animation", "a hint"):
            np.array([1e300]).astype(np.float32)
            raise error
        assert caught.value is error
    assert not recwarn.list


def test_json():
    assert files.parse_json('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    for text in ("NaN", "[Infinity]", "-Infinity", "1e999", "[" * 100 + "]" * 100, '{"a":' * 99 + "1" + "}" * 99, "{"):
        with pytest.raises(ValueError):
            files.parse_json(text)


def test_what_libraries_write_to_standard_error_is_kept(capfd):
    with files.quiet_stderr():
        os.write(2, b"a library")
    with files.quiet_stderr(needed=False):
        os.write(2, b"somebody")
    assert capfd.readouterr().err == "somebody"


def test_texts_of_files_are_shown_plainly():
    assert files.shown("a\x1b[31m\nb\u2028c\ud800") == "a�[31m�b�c�"
    assert files.shown("x" * 500) == "x" * 199 + "…"


# --------------------------------------------------------------------------------------------------------------- bombs


def npy(shape, kind="<f4", content=b"", version=1, length=None):
    """A .npy that claims a shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + text + content


def deflated(start, zeros):
    """A stream that inflates to `start` and as many MiB of zeros: the same compressed block again and again."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = press.compress(start) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(bytes(1 << 20)) + press.flush(zlib.Z_FULL_FLUSH)
    return head + block * zeros + press.flush(zlib.Z_FINISH), len(start) + (zeros << 20)


def zip_of(entries):
    """A zip of entries name → (method, content, size that it claims to have)."""
    content, directory = b"", b""
    for name, (method, data, size) in entries.items():
        fields = struct.pack("<5H3I2H", 20, 0, method, 0, 0, 0, len(data), size, len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<3H2I", 0, 0, 0, 0, len(content))
        directory += name.encode()
        content += b"PK\x03\x04" + fields + name.encode() + data
    end = struct.pack("<4H2IH", 0, 0, len(entries), len(entries), len(directory), len(content), 0)
    return content + directory + b"PK\x05\x06" + end


def bomb(shape, kind="<f4", mebibytes=3000):
    """An entry of a zip whose array really inflates to so many MiB."""
    stream, size = deflated(npy(shape, kind), mebibytes)
    return 8, stream, size


@contextmanager
def little_memory():
    """Fail where the block takes much memory, or refuses a file for the memory that it took."""
    with fuzzing.limited(400 << 20), pytest.raises(InputError) as caught:
        yield
    assert "more memory" not in caught.value.message, caught.value.message


def arrays_of_bombs():
    """Contents of npz files with arrays of gigabytes, by what they do."""
    vertices, faces = np.zeros((3, 9, 3), np.float32), np.zeros((4, 3), np.int32)
    good = {}
    for name, array in {"vertices": vertices, "faces": faces, "fps": np.array(30.0)}.items():
        with io.BytesIO() as buffer:
            np.save(buffer, array)
            good[f"{name}.npy"] = (0, buffer.getvalue(), len(buffer.getvalue()))
    length = 1 << 31
    spaces = deflated(b"\x93NUMPY\x02\x00" + struct.pack("<I", length), 2048)
    many = {f"a{k}.npy": bomb("(40000000,)", "<f4", 153) for k in range(60)}
    return {
        "faces": zip_of({**good, "faces.npy": bomb("(250000000, 3)", "<i4")}),
        "all faces that may be": zip_of({**good, "faces.npy": bomb("(19999999, 3)", "<i4", 230)}),
        "rest": zip_of({**good, "rest.npy": bomb("(250000000, 3)")}),
        "meta": zip_of({**good, "meta.npy": bomb("()", "<U700000000")}),
        "many vertices": zip_of({**good, "vertices.npy": bomb("(2, 100000000, 3)")}),
        "claims": zip_of({**good, "faces.npy": (0, npy("(1000000000000, 3)", "<i4"), 90)}),
        "claims to inflate": zip_of({**good, "faces.npy": (8, b"\x03\x00", 0xFFFFFF00)}),
        "overflows": zip_of({**good, "faces.npy": (0, npy("(4611686018427387904, 4)", "<i4"), 90)}),
        "a long header": zip_of({**good, "faces.npy": (8, *spaces)}),
        "many arrays": zip_of({**good, **many}),
        "many entries": zip_of({**good, **{f"{k:060d}.npy": (0, b"", 0) for k in range(20_000)}}),
    }


BOMBS = arrays_of_bombs()


@pytest.mark.parametrize("name", sorted(set(BOMBS) - {"many arrays", "all faces that may be"}))
def test_an_animation_does_not_inflate(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(BOMBS[name])
    assert len(BOMBS[name]) < 12 << 20
    with promptly(), little_memory():
        NpzAnimation(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["faces", "claims", "claims to inflate", "a long header", "many arrays", "many entries"])
def test_an_npz_does_not_inflate(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(BOMBS[name])
    for read in (
        lambda path: read_npz(path, "an npz"),
        lambda path: load_binding(path, FACE, MESH),
        lambda path: read_npz(path, "a map", "faces"),
    ):
        if name == "many arrays" and read(tmp_path / "a.npz") is None:
            continue
        with promptly(), little_memory():
            read(tmp_path / "a.npz")
