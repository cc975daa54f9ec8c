"""Reading files of unknown origin, and writing files atomically."""

import errno
import io
import json
import os
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
from contextlib import contextmanager, suppress
from pathlib import Path

import fuzzing
import numpy as np
import pytest

from talkemo import InputError, TalkemoError
from talkemo.audio.recording import open_audio
from talkemo.binding.bind_face import bind_mesh, read_landmark_hint
from talkemo.binding.cache import BindingCache
from talkemo.binding.files import load_binding, save_binding
from talkemo.capture.fitting import Fitter
from talkemo.capture.landmarks import LandmarkSchema, check_spread
from talkemo.evaluation.compare import _check_mask_name, _read_mask
from talkemo.expression.emotions import Timeline
from talkemo.files import reading, writing
from talkemo.files.arrays import read_npy, read_npz
from talkemo.files.reading import open_file
from talkemo.files.writing import PartialOutput, all_or_none, atomic_write
from talkemo.formats import obj
from talkemo.formats.animation import Frames, Header
from talkemo.formats.gltf_reader import GlbAnimation
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.formats.npz import NpzAnimation, NpzWriter
from talkemo.formats.registry import open_animation
from talkemo.formats.sequence import MeshSequence
from talkemo.pipelines.map_files import _read_map
from talkemo.video.reader import check_video
from talkemo.weights.registry import read_registry

MESH, FACE = fuzzing.MESH, fuzzing.FACE
READ_TIMEOUT_S = 15  # a reader that still waits is ended after this time
READERS = {
    "audio": (".wav", open_audio),
    "compressed audio": (".m4a", open_audio),
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
    "landmarks": (".txt", lambda path: read_landmark_hint(path, MESH)),
    "mask": (".txt", lambda path: _read_mask(path, 144)),
    "mask's name": (".txt", _check_mask_name),
}


@contextmanager
def promptly():
    """Fail if the block waits for something."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(READ_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- what is opened


@pytest.fixture
def special_files(tmp_path, monkeypatch):
    """A function that makes paths that are not regular files, or cannot be reached."""

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
        names = (
            "fifo",
            "link_to_fifo",
            "device",
            "loop",
            "hanging",
            "socket",
            "none",
            "plain/below",
            "n" * 3000,
            "\0",
        )
        return {name: folder / f"{name}{ending}" for name in names}

    return make


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(special_files, reader):
    ending, read = READERS[reader]
    for name, path in special_files(ending).items():
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


def test_the_error_says_why_a_file_cannot_be_opened(special_files):
    paths = special_files(".txt")
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
    monkeypatch.setattr(
        reading.os,
        "stat",
        lambda path, **more: about if str(path).endswith("a.txt") else stat(path, **more),
    )
    with promptly(), pytest.raises(InputError, match="a pipe or device"):
        open_file(tmp_path / "a.txt", "a timeline", "a hint")


def test_sizes_are_limited(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0 1 happy\n" * 300_000)
    for read in (Timeline.read, lambda path: read_landmark_hint(path, MESH)):
        with pytest.raises(InputError, match=r"too large for a .*, 3000000 bytes") as caught:
            read(tmp_path / "a.txt")
        assert "at most 1 MiB" in caught.value.hint


def test_files_that_a_mesh_names_must_be_regular_and_in_its_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe.mtl")
    os.symlink("loop.mtl", tmp_path / "loop.mtl")
    os.symlink("/dev/zero", tmp_path / "zero.mtl")
    (tmp_path / "outside.obj").write_text("secret")
    for name in (
        "pipe.mtl",
        "loop.mtl",
        "zero.mtl",
        "none.mtl",
        "../outside.mtl",
        "/etc/passwd",
        "\0",
        "n" * 5000,
        "",
    ):
        (tmp_path / "a.obj").write_bytes(fuzzing.obj(name))
        with promptly():
            mesh = load_mesh(tmp_path / "a.obj")
        assert len(mesh.vertices) == 144 and not mesh.attributes.companions
    (tmp_path / "a.mtl").write_text(
        "newmtl skin\nmap_Kd pipe.mtl\nmap_Kd loop.mtl\nmap_Kd skin.png\n"
    )
    (tmp_path / "skin.png").write_bytes(fuzzing.image_file())
    (tmp_path / "a.obj").write_bytes(fuzzing.obj("a.mtl"))
    with promptly():
        attributes = load_mesh(tmp_path / "a.obj").attributes
    assert (
        sorted(attributes.companions) == ["a.mtl", "skin.png"]
        and attributes.texture == fuzzing.image_file()
    )
    tree = json.loads(fuzzing.gltf())
    os.mkfifo(tmp_path / "block.bin")
    for uri in (
        "block.bin",
        "loop.mtl",
        "zero.mtl",
        "../block.bin",
        "/etc/passwd",
        "http://localhost/a",
    ):
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
    assert mesh.attributes.texture.startswith(b"\x89PNG")
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
        MemoryError(), RecursionError(), OverflowError("a\nb"), NotImplementedError("x"),
        tokenize.TokenError("x", (1, 2)),
        SyntaxError("x"), struct.error("x"), zlib.error("x"), zipfile.BadZipFile("x"),
        KeyError("x"), AssertionError(),
        EOFError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), OSError(5, "Input/output error"),
    ],
)  # fmt: skip
def test_any_exception_while_reading_becomes_one_line(error):
    with (
        pytest.raises(InputError) as caught,
        reading.reading_errors("a.npz", "an animation", "a hint"),
    ):
        raise error
    assert (
        caught.value.message.startswith("a.npz: not an animation (")
        and "\n" not in caught.value.message
    )
    assert caught.value.hint == "a hint" and caught.value.__cause__ is None


def test_errors_of_talkemo_pass_through(recwarn):
    for error in (
        InputError("a", "b"),
        TalkemoError("no ffmpeg", "install it"),
        KeyboardInterrupt(),
    ):
        with (
            pytest.raises(type(error)) as caught,
            reading.reading_errors("a.npz", "an animation", "a hint"),
        ):
            np.array([1e300]).astype(np.float32)
            raise error
        assert caught.value is error
    assert not recwarn.list


def test_json():
    assert reading.parse_json('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    for text in (
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "[" * 100 + "]" * 100,
        '{"a":' * 99 + "1" + "}" * 99,
        "{",
    ):
        with pytest.raises(ValueError):
            reading.parse_json(text)


def test_output_of_libraries_to_standard_error_is_suppressed(capfd):
    with reading.quiet_stderr():
        os.write(2, b"a library")
    with reading.quiet_stderr(needed=False):
        os.write(2, b"somebody")
    assert capfd.readouterr().err == "somebody"


def test_texts_in_messages_are_printable():
    assert reading.printable("a\x1b[31m\nb\u2028c\ud800") == "a�[31m�b�c�"
    assert reading.printable("x" * 500) == "x" * 199 + "…"


# ---- bombs


def npy(shape, kind="<f4", content=b"", version=1, length=None):
    """A .npy that claims a shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text) if length is None else length
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", size)
        + text
        + content
    )


def deflated(start, zeros):
    """A stream that inflates to `start` and `zeros` MiB of zeros, by repeating one block."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = press.compress(start) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(bytes(1 << 20)) + press.flush(zlib.Z_FULL_FLUSH)
    return head + block * zeros + press.flush(zlib.Z_FINISH), len(start) + (zeros << 20)


def zip_of(entries):
    """A zip of entries name → (method, content, size that it claims to have)."""
    content, directory = b"", b""
    for name, (method, data, size) in entries.items():
        check = 0 if method else zlib.crc32(data)  # readers fail before they check it
        fields = struct.pack("<5H3I2H", 20, 0, method, 0, 0, check, len(data), size, len(name), 0)
        directory += (
            b"PK\x01\x02"
            + struct.pack("<H", 20)
            + fields
            + struct.pack("<3H2I", 0, 0, 0, 0, len(content))
        )
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
    """Fail if the block takes much memory, or refuses a file because of the memory it took."""
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
    small_arrays = {f"a{k}.npy": bomb("(40000000,)", "<f4", 153) for k in range(60)}
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
        "many arrays": zip_of({**good, **small_arrays}),
        "many entries": zip_of({**good, **{f"{k:060d}.npy": (0, b"", 0) for k in range(20_000)}}),
    }


BOMBS = arrays_of_bombs()


@pytest.mark.parametrize("name", sorted(set(BOMBS) - {"many arrays"}))
def test_an_animation_does_not_fill_the_memory(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(BOMBS[name])
    assert len(BOMBS[name]) < 12 << 20
    with promptly(), little_memory():
        NpzAnimation(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "name", ["faces", "claims", "claims to inflate", "a long header", "many arrays", "many entries"]
)
@pytest.mark.parametrize(
    "read", [lambda path: read_npz(path, "an npz"), lambda path: load_binding(path, FACE, MESH)]
)
def test_an_npz_does_not_fill_the_memory(tmp_path, name, read):
    (tmp_path / "a.npz").write_bytes(BOMBS[name])
    with promptly(), little_memory():
        read(tmp_path / "a.npz")


def test_only_the_requested_arrays_count_towards_the_limit(tmp_path):
    (tmp_path / "a.npz").write_bytes(BOMBS["many arrays"])
    assert set(read_npz(tmp_path / "a.npz", "an npz", "faces", "fps")) == {"faces", "fps"}
    with little_memory():
        read_npz(tmp_path / "a.npz", "an npz", "faces", "fps", max_bytes=40)


def test_compressed_frames_are_read_in_chunks(tmp_path):
    """Gigabytes of frames of a large mesh: each chunk has as many as fit."""
    faces, fps = npy("(1, 3)", "<i4", bytes(12)), npy("()", "<f8", struct.pack("<d", 30))
    entries = {"faces.npy": (0, faces, len(faces)), "fps.npy": (0, fps, len(fps))}
    entries["vertices.npy"] = bomb("(200, 1000000, 3)", mebibytes=2300)
    (tmp_path / "a.npz").write_bytes(zip_of(entries))
    source = open_animation(tmp_path / "a.npz")
    assert source.shape == (200, 1_000_000, 3)
    with fuzzing.limited(1 << 30):
        first = next(source.chunks(64))
    assert 1 <= len(first) < 30


def test_an_npy_does_not_claim_more_than_it_holds(tmp_path):
    for content in (
        npy("(1000000000000, 68, 2)"),
        npy("(3,)"),
        npy("(2,)", "|O", bytes(16)),
        npy("(-2,)"),
        b"",
        b"\x93NUMPY",
    ):
        (tmp_path / "a.npy").write_bytes(content)
        with little_memory():
            read_npy(tmp_path / "a.npy", "landmarks", "a hint")
    for array in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array([True]),
        np.zeros(0),
    ):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", "landmarks", "a hint"), array)


def test_arrays_of_every_kind_are_read_as_numpy_reads_them(tmp_path):
    arrays = {
        "half": np.arange(4, dtype="<f2"), "big": np.arange(4, dtype=">f8"), "text": np.array(["ä",
        "bcd"]), "one": np.array("x"),
        "bool": np.array([[True], [False]]), "bytes": np.array([b"ab"]),
        "order": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        "complex": np.ones(3, np.complex64), "empty": np.zeros((0, 3)), "small": np.arange(5,
        dtype=np.int8),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        arrays_read = read_npz(tmp_path / "a.npz", "an npz")
        assert list(arrays_read) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(arrays_read[name], array)
            assert arrays_read[name].dtype == array.dtype.newbyteorder("=")


def test_bytes_other_than_0_and_1_are_true(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy("(3,)", "|b1", bytes([0, 1, 2])))
    assert read_npy(tmp_path / "a.npy", "a mask", "a hint").tolist() == [False, True, True]


def test_the_length_of_an_array_header_is_limited(tmp_path):
    spaces = b" " * 20_000
    for content in (
        npy("(3,)", length=1 << 31, version=2),
        npy("(3,)" + spaces.decode()),
        b"\x93NUMPY",
    ):
        (tmp_path / "a.npy").write_bytes(content)
        with little_memory():
            read_npy(tmp_path / "a.npy", "a mask", "a hint")


def png(width, height):
    """A PNG that is larger than its file."""
    png_chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    head = png_chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + png_chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + png_chunk(b"IEND", b"")
    )


def changed_glb(change, image=None):
    """The small GLB with its JSON tree changed, and another image."""
    content = fuzzing.glb()
    size = int.from_bytes(content[12:16], "little")
    tree, block = json.loads(content[20 : 20 + size]), content[28 + size :]
    if image is not None:
        tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(block), "byteLength": len(image)}
        )
        tree["images"][0]["bufferView"] = len(tree["bufferViews"]) - 1
        block += image
        tree["buffers"][0]["byteLength"] = len(block)
    change(tree)
    return fuzzing.glb_of(json.dumps(tree).encode(), block)


def of_accessor(**values):
    return lambda tree: (
        tree["accessors"].append({"componentType": 5126, "count": 1, "type": "VEC3", **values})
        or tree["meshes"][0]["primitives"][0]["attributes"].update(
            POSITION=len(tree["accessors"]) - 1
        )
    )


def many_nodes(count):
    return lambda tree: tree.update(
        nodes=[{"mesh": 0}] * count, scenes=[{"nodes": list(range(count))}]
    )


def of_draco(tree):
    """A mesh that claims a billion points and triangles."""
    tree["buffers"][0]["uri"] = "data:,DRACO%02%02%01%00%00%00" + "%FF%FF%FF%FF%03" * 2 + "a" * 80
    tree["bufferViews"] = [{"buffer": 0, "byteLength": 91}]
    about = {"bufferView": 0, "attributes": {"POSITION": 0}}
    primitive = tree["meshes"][0]["primitives"][0]
    primitive["extensions"] = {"KHR_draco_mesh_compression": about}


def chain_of_nodes(tree):
    nodes = [{"mesh": 0, "children": [k + 1]} for k in range(5000)]
    tree.update(nodes=[*nodes, {"mesh": 0}], scenes=[{"nodes": [0]}])


GLBS = {
    "an accessor without data": changed_glb(of_accessor(count=1 << 30)),
    "an accessor of a negative count": changed_glb(of_accessor(count=-5)),
    "an accessor of a large count": changed_glb(of_accessor(count=1 << 62)),
    "many nodes": changed_glb(many_nodes(100_000)),
    "many meshes": changed_glb(many_nodes(9000)),
    "nodes in a chain": changed_glb(chain_of_nodes),
    "nodes in a circle": changed_glb(lambda tree: tree["nodes"][1].update(children=[0])),
    "deep JSON": fuzzing.glb_of(b'{"asset":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "a number that is none": fuzzing.glb_of(b'{"asset": NaN}', b""),
    "a list": fuzzing.glb_of(b"[]", b""),
    "draco": changed_glb(of_draco),
}


@pytest.mark.parametrize("name", GLBS)
def test_a_glb_does_not_fill_the_memory(tmp_path, name):
    (tmp_path / "a.glb").write_bytes(GLBS[name])
    with promptly(), little_memory():
        load_mesh(tmp_path / "a.glb")
    with promptly(), little_memory():
        GlbAnimation(tmp_path / "a.glb")


@pytest.mark.parametrize("size", [(60_000, 60_000), (9000, 9000), (1, 1 << 30)])
def test_the_size_of_an_image_is_checked_before_decoding(tmp_path, size):
    (tmp_path / "a.glb").write_bytes(changed_glb(lambda tree: None, png(*size)))
    with promptly(), little_memory():
        load_mesh(tmp_path / "a.glb")
    tree = json.loads(fuzzing.gltf())
    tree["images"][0] = {"uri": "skin.png"}
    (tmp_path / "skin.png").write_bytes(png(*size))
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    with promptly(), little_memory():
        load_mesh(tmp_path / "a.gltf")
    text = fuzzing.meshes()["ply"].replace(b"comment a mesh", b"comment TextureFile skin.png")
    (tmp_path / "a.ply").write_bytes(text)
    with promptly(), fuzzing.limited(400 << 20):
        try:
            assert (
                len(load_mesh(tmp_path / "a.ply").attributes.texture) < 1000
            )  # two pixels in its place
        except InputError as error:
            assert "more memory" not in error.message


def test_only_colour_textures_are_decoded(tmp_path):
    def change(tree):
        tree["materials"][0] = {"normalTexture": {"index": 0}}

    (tmp_path / "a.glb").write_bytes(changed_glb(change, png(60_000, 60_000)))
    assert load_mesh(tmp_path / "a.glb").attributes.texture is None


def test_frames_of_a_glb_are_limited(tmp_path):
    content = fuzzing.glb()
    end = (np.arange(5, dtype="<f4") / 10).tobytes()
    (tmp_path / "a.glb").write_bytes(
        content.replace(end, struct.pack("<5f", 0, 1 / 30, 2 / 30, 3 / 30, 86000))
    )
    with pytest.raises(InputError, match="keys up to 86000 s are 2580001 frames") as caught:
        open_animation(tmp_path / "a.glb")
    assert "--fps" in caught.value.hint
    assert len(open_animation(tmp_path / "a.glb", 1.0)) == 86001
    (tmp_path / "a.glb").write_bytes(
        content.replace(end, struct.pack("<5f", 0, 1 / 30, 2 / 30, 3 / 30, 87000))
    )
    with pytest.raises(InputError, match="an animation of 24 hours"):
        open_animation(tmp_path / "a.glb", 1.0)


TEXTS = {
    "empty lines.ply": b"ply\nformat ascii 1.0\nelement vertex 100\nproperty float x\nend_header\n"
    + b"\n" * (4 << 20),
    "other lines.ply": b"ply\nformat ascii 1.0\nelement vertex 100\nproperty float x\nend_header\n"
    + b"\x0b" * (4 << 20),
    "claims.ply": b"ply\nformat ascii 1.0\nelement vertex 9000000\nproperty float x\nend_header\n"
    + b"\n" * (4 << 20),
    "more.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 900000000\n"
    b"property float x\nend_header\n",
    "hidden.ply": b"ply\nformat binary_little_endian 1.0\nthe_element vertex 900000000\n"
    b"property float x\nend_header\n",
    "endless.ply": b"ply\nformat ascii 1.0\n" + b"comment\n" * 100_000,
    "solids.stl": b"solid a\nvertex 0 0 0\nvertex 0 1 0\nvertex 0 0 1\nendsolid a\n" * 30_000,
    "claims.stl": bytes(80) + struct.pack("<I", 1 << 31) + bytes(500),
    "claims.off": b"OFF\n2000000000 2000000000 0\n" + b"0 0 0\n" * 1000,
    "one line.obj": b"f" + b" 1" * (20 << 20),
    "long numbers.obj": b"v 0 0 " + b"1" * 1_000_000 + b"\n" + b"v 0 0 0\n" * 100_000,
    "one wide row.obj": b"vt" + b" 0" * 400_000 + b"\n" + b"vt 0 0\n" * 20_000,
    "many corners.obj": fuzzing.obj() + b"f 1 2 99999999999999999999\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_meshes_do_not_fill_the_memory(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name])
    with promptly(), little_memory():
        load_mesh(tmp_path / name)


def test_a_wav_that_claims_hours_is_refused_by_its_header(tmp_path):
    def wav(rate, channels, data, bits=8):
        form = struct.pack(
            "<IHHIIHH",
            16,
            1,
            channels,
            rate,
            rate * channels * bits // 8,
            channels * bits // 8,
            bits,
        )
        body = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data)) + data
        return b"RIFF" + struct.pack("<I", len(body)) + body

    zeros = bytes(400_000)
    for content, reason in {
        wav(1, 1, zeros): "1 samples per second",
        wav(999, 1, zeros): "999 samples per second",
        wav(4_000_000, 1, zeros): "4000000 samples per second",
        wav(16000, 65, zeros): "65 channels",
        wav(1000, 1, bytes(90_000_000)): "more than 24 hours",
    }.items():
        (tmp_path / "a.wav").write_bytes(content)
        with promptly(), fuzzing.limited(200 << 20), pytest.raises(InputError, match=reason):
            open_audio(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1_000_000)
    with promptly(), pytest.raises(InputError, match="too many parts"):
        open_audio(tmp_path / "a.wav")


# ---- bindings, landmarks


@pytest.fixture
def good_binding(tmp_path):
    return dict(np.load(io.BytesIO(fuzzing.binding(tmp_path))))


def turned(matrix):
    return {"rotation": np.array(matrix, float)}


@pytest.mark.parametrize(
    "change",
    [
        turned(np.diag([1.0, 1, -1])), turned(np.full((3, 3), np.nan)), turned(2 * np.eye(3)),
        turned(np.zeros(9)),
        {"scale": np.nan}, {"scale": 0.0}, {"scale": -1.0}, {"scale": 1e20}, {"scale": 1e-20},
        {"scale": np.ones(2)}, {"scale": "x"},
        {"translation": np.full(3, np.inf)}, {"translation": np.full(3, 1e9)},
        {"translation": np.zeros(2)},
        {"error": np.nan}, {"error": -1.0}, {"error": 1e30}, {"relief": 7.0}, {"relief": np.nan},
        {"shapes": np.full((4, 144, 3), 1e30, np.float32)}, {"shapes": np.full((4, 144, 3), np.nan,
        np.float32)},
        {"shapes": np.zeros((4, 144, 3))}, {"shapes": np.zeros((3, 144, 3), np.float32)},
        {"shapes": np.zeros((4, 144), np.float32)},
        {"moving": np.arange(144)[::-1].copy()}, {"moving": np.zeros(144, int)},
        {"moving": np.arange(144) - 1}, {"moving": np.arange(144.0)},
        {"canonical": np.full(144, -1)}, {"canonical": np.full(144, 144)},
        {"canonical": np.full(144, -2)},
        {"moving": np.zeros(0, int), "canonical": np.zeros(0, int), "shapes": np.zeros((4, 0, 3),
        np.float32)},
        {"landmarks68": np.arange(67)}, {"landmarks68": np.arange(68) + 100},
        {"landmarks68": np.arange(68.0)},
        {"eye_centres": np.zeros(2)}, {"eye_centres": np.zeros((2, 2))},
        {"eye_centres": np.full((2, 3), np.nan)},
        {"eye_centres": np.full((2, 3), 1e9)}, {"eye_centres": np.zeros((5, 3))},
        {"eye0": np.zeros((2, 2), int)}, {"eye1": np.array([144])},
        {"part_counts": np.array([-1])}, {"part_counts": np.array([1, 2])},
        {"part_counts": np.array([145])}, {"part_names": np.array([1.0])},
        {"part_names": np.array(["\x1b"])}, {"part_names": np.array(["a" * 100])},
        {"part_names": np.array([b"a"])},
        {"eye0": None}, {"mesh": None}, {"face": None}, {"mesh": np.array(["a", "b"])},
    ],
)  # fmt: skip
def test_bindings_that_do_not_fit(tmp_path, good_binding, change, recwarn):
    arrays = {
        name: array for name, array in {**good_binding, **change}.items() if array is not None
    }
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=r"a\.npz"):
        load_binding(tmp_path / "a.npz", FACE, MESH)
    assert not recwarn.list


def test_a_binding_is_read_as_it_was_written(tmp_path, good_binding):
    np.savez(tmp_path / "a.npz", **good_binding)
    bound = load_binding(tmp_path / "a.npz", FACE, MESH)
    save_binding(tmp_path / "b.npz", bound)
    assert {n: a.tolist() for n, a in np.load(tmp_path / "b.npz").items()} == {
        n: a.tolist() for n, a in good_binding.items()
    }
    with pytest.raises(InputError, match="another mesh"):
        load_binding(tmp_path / "b.npz", FACE, Mesh(MESH.vertices + 1, MESH.faces))


def test_foreign_files_in_the_cache_are_ignored(tmp_path, good_binding):
    np.savez(tmp_path / "a.npz", **good_binding)
    bound = load_binding(tmp_path / "a.npz", FACE, MESH)
    cache = BindingCache(tmp_path)
    name = cache.name(FACE, MESH)
    cache.folder.mkdir()
    path = cache.folder / f"{name}.binding.npz"
    os.mkfifo(path)
    with promptly():
        assert cache.get(name, FACE, MESH) is None
    path.unlink()
    path.mkdir()
    cache.put(name, bound)
    assert cache.get(name, FACE, MESH) is None
    path.rmdir()
    cache.put(name, bound)
    assert cache.get(name, FACE, MESH) is not None


def test_landmarks_of_a_video_that_are_not_a_face(face, recwarn):
    points = np.random.default_rng(0).random((6, 68, 2)) * 100
    bad = {
        "one place": np.ones_like(points),
        "a line": np.repeat(np.arange(68.0), 2).reshape(1, 68, 2).repeat(6, 0),
        "far out": points * 1e30,
    }
    schema = LandmarkSchema.of(face, None)
    for name, recording in bad.items():
        recording = recording.astype(np.float32)
        with pytest.raises(InputError, match=r"a\.npy: .*landmarks"):
            check_spread([points, recording], "a.npy")
        if name != "a line":
            with pytest.raises(InputError, match="no face fits"):
                fitter = Fitter(face, schema)
                identity, _ = fitter.fit_person([recording])
                fitter.fit(recording, np.arange(6) / 30, identity)
    points[2] = np.nan
    check_spread([points], "a.npy")
    assert not recwarn.list


def test_landmarks_on_a_mesh_that_are_not_a_face(tmp_path):
    path = tmp_path / "a.txt"
    for text, reason in {
        "1 0\n2 1\n3 2": "too few landmarks, 3 of them",
        "\n".join(f"{k} 5 5 1" for k in range(1, 60)): "all on a line",
        "\n".join(f"{k} {k / 10} 0 0" for k in range(1, 60)): "all on a line",
        "1 1e300 0 0": "far from the mesh",
        "1 0 0 -99": "far from the mesh",
        "1 2\x1b[31m": "is not a landmark",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=reason) as caught:
            read_landmark_hint(path, MESH)
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["flat", "a point", "huge", "tiny", "lines", "no faces", "beyond"])
def test_a_mesh_without_a_surface_is_not_bound(face, recwarn, name):
    vertices, faces = MESH.vertices, MESH.faces
    bad = {
        "flat": Mesh(vertices * [1, 1, 0], faces),
        "a point": Mesh(np.ones_like(vertices), faces),
        "huge": Mesh(vertices * 1e200, faces),
        "tiny": Mesh(vertices * 1e-200, faces),
        "lines": Mesh(vertices, faces[:, [0, 1, 1]]),
        "no faces": Mesh(vertices, faces[:0]),
        "beyond": Mesh(vertices, faces + 1),
    }
    with pytest.raises(InputError, match="the mesh"):
        bind_mesh(face, bad[name])
    assert not recwarn.list


# ---- writing


def test_partial_output_never_reuses_a_file(tmp_path, monkeypatch):
    """A link and a user's file have the first names that are tried."""
    (tmp_path / "secret").write_text("mine")
    prefix = f".talkemo-{os.getpid()}-{writing._host()}"
    (tmp_path / f"{prefix}aaaaaaaa.npz").symlink_to("secret")
    (tmp_path / f"{prefix}bbbbbbbb.npz").write_text("mine")
    (tmp_path / f"{prefix}aaaaaaaa").mkdir()
    for folder in (False, True):
        monkeypatch.setattr(
            tempfile, "_get_candidate_names", lambda: iter(["aaaaaaaa", "bbbbbbbb", "cccccccc"])
        )
        partial = PartialOutput(tmp_path / ("a" if folder else "a.npz"), folder)
        assert partial.path.is_dir() == folder and not partial.path.is_symlink()
        partial.discard()
    assert (
        (tmp_path / "secret").read_text()
        == (tmp_path / f"{prefix}bbbbbbbb.npz").read_text()
        == "mine"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["secret", f"{prefix}aaaaaaaa.npz", f"{prefix}bbbbbbbb.npz", f"{prefix}aaaaaaaa"]
    )


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "a.txt").symlink_to("secret")
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert (tmp_path / "secret").read_text() == "mine" and (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["n" * 251 + ".npz", "n" * 255, os.fsdecode("ä".encode() * 125) + ".npz", "a." + "n" * 253],
)
def test_long_names(tmp_path, name):
    with atomic_write(tmp_path / name) as partial:
        partial.write_text("all")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_output_of_ended_processes_is_removed(tmp_path):
    dead, alive, host = dead_process(), os.getppid(), writing._host()
    other_host = "0" * 6 if host != "0" * 6 else "1" * 6
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    stale = [
        f".talkemo-{dead}-{host}abcdefgh.npz",
        f".talkemo-{dead}-{host}abcdefgh",
        f".talkemo-{dead}-{host}folder_1",
    ]
    left_alone = [
        f".talkemo-{alive}-{host}abcdefgh.npz",  # its process is still running
        f".talkemo-{dead}-{other_host}abcdefgh.npz",
        f".talkemo-{dead}-{host}abcdefg.npz",  # other names
        f".talkemo-{dead}-{host}abcdefghi.npz",
        f".talkemo-{dead}-abcdefgh.npz",
        f"talkemo-{dead}-{host}abcdefgh.npz",
        f".talkemo-{dead}-{host}abcdefgh.npz.txt",
        f".talkemo-0-{host}abcdefgh.npz",
    ]
    for name in [*stale, *left_alone]:
        if name.endswith("folder_1"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "000000.obj").write_text("v 0 0 0")
            (tmp_path / name / "link").symlink_to(tmp_path / "folder")
        else:
            (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    fresh, link = f".talkemo-{dead}-{host}fresh_01.npz", f".talkemo-{dead}-{host}link_001"
    (tmp_path / fresh).write_text("half")
    (tmp_path / link).symlink_to("folder")
    os.utime(tmp_path / link, (0, 0), follow_symlinks=False)
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("all")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*left_alone, fresh, link, "mine", "folder", "a.txt"]
    )
    assert (tmp_path / "folder" / "mine").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_output_of_other_users_is_left_alone(tmp_path):
    path = tmp_path / f".talkemo-{dead_process()}-{writing._host()}abcdefgh.npz"
    path.write_text("half")
    os.utime(path, (0, 0))
    os.chown(path, 12345, 12345)
    with atomic_write(tmp_path / "a.txt"):
        pass
    assert path.exists()


def test_two_processes_write_one_output(tmp_path):
    """Whoever reads meanwhile sees the whole file of one of them."""
    code = """
import sys
from talkemo.files.writing import atomic_write
for _ in range(40):
    with atomic_write(sys.argv[1]) as partial, partial.open("wb") as file:
        for _ in range(20):
            file.write(sys.argv[2].encode() * 50_000)
            file.flush()
"""
    path = tmp_path / "a.bin"
    path.write_bytes(b"c" * 1_000_000)
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert len(content) == 1_000_000 and content in (content[:1] * 1_000_000,)
        time.sleep(0.002)
    assert [writer.returncode for writer in writers] == [0, 0] and [
        p.name for p in tmp_path.iterdir()
    ] == ["a.bin"]


def test_a_full_disk_leaves_the_old_output(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("the old one")
    rest = np.zeros((4000, 3), np.float32)
    header = Header(
        frames=100, fps=30.0, faces=np.zeros((1, 3), np.int32), rest=rest, focus=np.ones(4000, bool)
    )
    frames = Frames(
        np.zeros((10, 4000, 3), np.float32),
        np.zeros((10, 68, 3), np.float32),
        np.zeros((10, 52), np.float32),
    )
    with (
        fuzzing.small_files(1 << 20),
        pytest.raises(OSError) as caught,
        NpzWriter(path, header) as writer,
    ):
        for _ in range(10):
            writer.write(frames)
    assert caught.value.errno == 27 and path.read_text() == "the old one"
    with fuzzing.small_files(1 << 20), pytest.raises(OSError), atomic_write(path) as partial:
        partial.write_bytes(bytes(2 << 20))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"] and path.read_text() == "the old one"


def test_inputs_are_not_overwritten(tmp_path):
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    for source in (tmp_path / "loop.npz", "a\0b", "n" * 5000, tmp_path / "a.npz" / "b"):
        writing.check_output(tmp_path / "b.npz", (".npz",), source)
    (tmp_path / "a.npz").write_text("")
    (tmp_path / "link.npz").symlink_to("a.npz")
    for source in ("a.npz", "link.npz"):
        with pytest.raises(InputError, match="would be overwritten"):
            writing.check_output(tmp_path / "a.npz", (".npz",), tmp_path / source)
    with pytest.raises(InputError, match="no such folder"):
        writing.check_output(tmp_path / ("n" * 5000) / "a.npz", (".npz",))


def test_outputs_of_one_run_appear_together_or_not_at_all(tmp_path):
    first, second, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    first.write_text("old")
    with pytest.raises(OSError, match="full") as caught, all_or_none([first, second]):
        with atomic_write(first) as partial:
            partial.write_text("new")
        with atomic_write(other) as partial:  # not an output of the run
            partial.write_text("other")
        assert first.read_text() == "old" and other.read_text() == "other"
        with atomic_write(second) as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "full")
    assert caught.value.filename == str(second)
    assert first.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["a.txt", "c.txt"]
    with all_or_none([first, second, tmp_path / "folder"]):
        with all_or_none([second]), atomic_write(second) as partial:  # part of the outer one
            partial.write_text("new")
        assert not second.exists()
        folder = PartialOutput(tmp_path / "folder", folder=True)
        folder.finish()
        folder.discard()
    assert second.read_text() == "new" and (tmp_path / "folder").is_dir()
    assert first.read_text() == "old"
    # A folder that was filled meanwhile is found out before the first output gets its name.
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(OSError), all_or_none([first, tmp_path / "folder"]):
        with atomic_write(first) as partial:
            partial.write_text("newer")
        PartialOutput(tmp_path / "folder", folder=True).finish()
    assert first.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt", "c.txt", "folder"]


# ---- permissions, byte-order marks, counts


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_modes_are_not_set_through_a_name(tmp_path):
    """Another user of the folder puts a link to somebody's file in the place of the output."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    with (
        pytest.raises(TalkemoError, match=r"a\.npz: replaced by a link") as caught,
        atomic_write(tmp_path / "a.npz") as partial,
    ):
        partial.unlink()
        partial.symlink_to("secret")
    assert caught.value.hint and secret.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_outputs_have_the_usual_modes(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a.npz") as partial:
            partial.write_text("a")
        folder = PartialOutput(tmp_path / "frames", folder=True)
        folder.finish()
    finally:
        os.umask(before)
    assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "frames").stat().st_mode & 0o777 == 0o777 & ~mask


MARK = b"\xef\xbb\xbf"


def test_meshes_with_a_byte_order_mark(tmp_path):
    contents = {**fuzzing.meshes(), "obj": fuzzing.obj(), "gltf": fuzzing.gltf()}
    for name in ("obj", "ply", "off", "stl_text", "gltf"):
        path = tmp_path / f"a.{fuzzing.ENDINGS.get(name, name)}"
        path.write_bytes(contents[name])
        plain = load_mesh(path)
        path.write_bytes(MARK + contents[name])
        marked = load_mesh(path)
        np.testing.assert_array_equal(marked.vertices, plain.vertices)
        np.testing.assert_array_equal(marked.faces, plain.faces)


def test_an_obj_that_begins_with_a_vertex_after_a_mark(tmp_path):
    """The first vertex was lost, and all triangles were shifted by one."""
    lines = [line for line in fuzzing.obj().split(b"\n") if line[:2] in (b"v ", b"f ")]
    (tmp_path / "a.obj").write_bytes(MARK + b"\n".join(lines))
    mesh = load_mesh(tmp_path / "a.obj")
    np.testing.assert_allclose(mesh.vertices, MESH.vertices, atol=1e-4)


def test_texts_with_a_byte_order_mark(tmp_path):
    (tmp_path / "t.txt").write_bytes(MARK + b"0 1 happy\n")
    assert len(Timeline.read(tmp_path / "t.txt").spans) == 1
    (tmp_path / "m.txt").write_bytes(MARK + b"0 1 2")
    assert _read_mask(tmp_path / "m.txt", 144).sum() == 3
    (tmp_path / "l.txt").write_bytes(MARK + b"37 10\n46 12\n31 50\n9 140\n")
    assert np.isfinite(read_landmark_hint(tmp_path / "l.txt", MESH)).sum() == 12
    (tmp_path / "r.toml").write_bytes(MARK + fuzzing.REGISTRY)
    assert set(read_registry(tmp_path / "r.toml")) == {"face", "speech"}
    (tmp_path / "with.obj").write_bytes(fuzzing.obj("a.mtl"))
    (tmp_path / "skin.png").write_bytes(fuzzing.image_file())
    (tmp_path / "a.mtl").write_bytes(MARK + b"map_Kd skin.png\n")
    assert load_mesh(tmp_path / "with.obj").attributes.texture == fuzzing.image_file()
    assert reading.parse_json("\ufeff[1]") == reading.parse_json(MARK + b"[1]") == [1]


def test_the_values_of_a_json_text_are_counted(monkeypatch):
    monkeypatch.setattr(reading, "MAX_JSON_VALUES", 10)
    assert reading.parse_json("[1,2,3,4,5,6,7,8,9]") == list(range(1, 10))
    for text in ("[" + "1," * 20 + "1]", b"[" + b"{}," * 20 + b"1]"):
        with pytest.raises(ValueError, match="more than 10 values"):
            reading.parse_json(text)
    monkeypatch.setattr(reading, "MAX_JSON_TEXT_BYTES", 20)
    with pytest.raises(ValueError, match="more than 20 bytes"):
        reading.parse_json('"' + "a" * 50 + '"')


@pytest.mark.parametrize(
    "text",
    ["a" + ".a" * 25_000 + "=1\n", "[a" + ".a" * 25_000 + "]\n", "a={b" + ".a" * 25_000 + "=1}"],
)
def test_a_registry_of_dotted_keys_is_refused_first(tmp_path, text):
    (tmp_path / "registry.toml").write_text(text)
    with pytest.raises(InputError, match="a line with more than 256 dots"):
        read_registry(tmp_path / "registry.toml")


def test_lines_of_an_obj_that_alternate_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(obj, "MAX_OBJ_RUNS", 50)
    (tmp_path / "a.obj").write_bytes(fuzzing.obj())
    load_mesh(tmp_path / "a.obj")
    (tmp_path / "a.obj").write_bytes(fuzzing.obj() + b"g\nv 0 0 0\n" * 60)
    with pytest.raises(InputError, match="alternate more than 50 times"):
        load_mesh(tmp_path / "a.obj")


def test_images_are_read_without_warnings(tmp_path, recwarn):
    """EXIF data that is cut off; Pillow warns about it."""
    content = fuzzing.photograph()
    place = content.index(b"Exif") + 6
    for change in range(40):
        broken = bytearray(content)
        broken[place + change] ^= 0xFF
        (tmp_path / "a.jpg").write_bytes(broken)
        with suppress(InputError):
            check_video(tmp_path / "a.jpg")
    assert not recwarn.list
