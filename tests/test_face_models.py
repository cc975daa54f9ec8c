"""Face models of users: FaceScape, FLAME, ICT FaceKit, and people's faces in their topology."""

import collections
import os
import pickle
import sys
import tracemalloc
import types

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.capture.fitting import FITTED_IDENTITY_MODES
from talkemo.formats.face_models import read_face_model
from talkemo.formats.mesh import load_mesh
from talkemo.formats.obj import save_obj
from talkemo.pipelines.reconstruct import Person, bound_person

PEOPLE = 6


@pytest.fixture(scope="module")
def people(face):
    """Return what each of some identity coefficients adds to the mean face, (I, V, 3) mm."""
    return np.stack(
        [
            Person(face, row).neutral - face.mean
            for row in 2 * np.eye(FITTED_IDENTITY_MODES)[:PEOPLE]
        ]
    )


class Ch:
    """Like an array of chumpy: its numbers are an attribute x."""

    def __init__(self, x):
        self.x = x


Ch.__module__ = "chumpy.ch"


def write_flame(path, mean, identity, faces, protocol=2):
    """Write a pkl like FLAME's, in metres, with expression shapes after those of identity."""
    shapes = np.concatenate(
        [identity, np.zeros((300 - len(identity), *mean.shape)), np.ones((5, *mean.shape))]
    )
    module = types.ModuleType("chumpy.ch")
    module.Ch = Ch
    sys.modules |= {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module}
    try:
        content = {
            "v_template": mean / 1000,
            "shapedirs": Ch(shapes.transpose(1, 2, 0).astype(np.float32) / 1000),
            "f": faces.astype(np.uint32),
            "bs_style": "lbs",
        }
        path.write_bytes(pickle.dumps(content, protocol))
    finally:
        del sys.modules["chumpy.ch"], sys.modules["chumpy"]
    return path


def write_facescape(path, mean, identity, faces):
    """Write an npz like FaceScape's: the first column is the mean face, the others differences."""
    core = np.zeros((mean.size, 2, 1 + len(identity)), np.float32)
    core[:, 0] = np.concatenate([mean[None], identity]).reshape(1 + len(identity), -1).T
    core[:, 1] = core[:, 0] + 3  # an expression
    mean_person, variance = np.eye(1 + len(identity))[0], np.r_[0, np.full(len(identity), 4.0)]
    np.savez(
        path, shape_bm_core=core / 2, fv_indices=faces + 1, id_mean=2 * mean_person, id_var=variance
    )
    return path


def write_ict(folder, mean, identity, faces):
    folder.mkdir()
    save_obj(folder / "generic_neutral_mesh.obj", mean, faces)
    for number, row in enumerate(identity):
        save_obj(folder / f"identity{number:03d}.obj", mean + row, faces)
    return folder


@pytest.mark.parametrize(
    ("write", "name", "unit"),
    [
        (write_flame, "flame.pkl", 1e-3),
        (write_facescape, "scape.npz", 1.0),
        (write_ict, "ict", 1.0),
    ],
)
def test_published_files_are_read(write, name, unit, face, people, tmp_path):
    model = read_face_model(write(tmp_path / name, face.mean, people, face.faces))
    np.testing.assert_allclose(model.mesh.vertices, unit * face.mean, atol=unit * 0.01)
    used = model.identity[model.identity.any((1, 2))]
    np.testing.assert_allclose(used, unit * people, atol=unit * 0.02)
    assert (model.mesh.faces == face.faces).all()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_every_protocol(protocol, face, people, tmp_path):
    model = read_face_model(
        write_flame(tmp_path / "m.pkl", face.mean, people, face.faces, protocol)
    )
    np.testing.assert_allclose(1000 * model.mesh.vertices, face.mean, atol=1e-3)
    with pytest.raises(InputError, match="V, 3, N"):
        read_face_model(
            write_flame(tmp_path / "m.pkl", face.mean[:, :2], people[..., :2], face.faces, protocol)
        )


def test_a_person_in_a_models_topology(face, models, people, tmp_path):
    model = read_face_model(write_flame(tmp_path / "m.pkl", face.mean, people, face.faces))
    coefficients = np.zeros(FITTED_IDENTITY_MODES)
    coefficients[:PEOPLE] = [2, -1, 0, 1, 0, -2]
    person = Person(face, coefficients)
    binding, fitted = bound_person(model, person, models, cache=False)
    np.testing.assert_allclose(fitted[:PEOPLE], coefficients[:PEOPLE] / 2, atol=0.15)
    error = np.linalg.norm(1000 * binding.rest - person.neutral, axis=1)
    assert error.mean() < 0.3 < np.linalg.norm(person.neutral - face.mean, axis=1).mean() / 3


def test_landmarks_to_a_models_topology(face, people, tmp_path):
    model = write_ict(tmp_path / "ict", face.mean, people, face.faces)
    landmarks = np.repeat(
        (face.landmark_operator() @ face.mean)[None, :, :2] * [2, -2] + 400, 5, axis=0
    )
    np.save(tmp_path / "l.npy", landmarks)
    result = talkemo.reconstruct(
        tmp_path / "l.npy", tmp_path / "a.npz", model=model, neutral=tmp_path / "n.obj"
    )
    assert result.frames == 5 and len(load_mesh(tmp_path / "n.obj").vertices) == len(face.mean)
    with pytest.raises(InputError, match="a face model and a mesh"):
        talkemo.reconstruct(
            tmp_path / "l.npy", tmp_path / "a.npz", model=model, onto=tmp_path / "n.obj"
        )


class Calls:
    """Unpickling this would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_read_without_executing_anything(tmp_path):
    folder = tmp_path / "made"
    for content in (
        {"v_template": Calls(str(folder))},
        Calls(str(folder)),
        collections.Counter("ab"),
    ):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="it would call"):
            read_face_model(tmp_path / "m.pkl")
    assert not folder.exists()
    # A claimed size, and objects in place of arrays.
    huge = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftU\x01dtR."
    bomb = b"\x80\x02]r\xff\xff\xff\x7f."  # memo number 2**31 - 1
    restated = pickle.dumps({"v_template": np.zeros((2, 3))}, 2).replace(b"f8", b"O8")
    for wrong in (
        huge,
        bomb,
        restated,
        b"",
        b"no pickle",
        pickle.dumps({"v_template": 3}),
        pickle.dumps([1]),
    ):
        (tmp_path / "m.pkl").write_bytes(wrong)
        with pytest.raises(InputError, match=r"m\.pkl"):
            read_face_model(tmp_path / "m.pkl")


def test_files_that_are_not_face_models_are_refused(face, people, tmp_path):
    with pytest.raises(InputError, match="no generic_neutral_mesh"):
        read_face_model(tmp_path)
    with pytest.raises(InputError, match="not a face model"):
        read_face_model(tmp_path / "a.obj")
    np.savez(
        tmp_path / "a.npz",
        shape_bm_core=np.zeros((4, 1, 2)),
        fv_indices=[[0, 1, 2]],
        id_mean=[1, 0],
        id_var=[1],
    )
    with pytest.raises(InputError, match="core tensor"):
        read_face_model(tmp_path / "a.npz")
    folder = write_ict(tmp_path / "ict", face.mean, people[:1], face.faces)
    save_obj(
        folder / "identity001.obj",
        face.mean[:-1],
        face.faces[(face.faces < len(face.mean) - 1).all(1)],
    )
    with pytest.raises(InputError, match="vertices differ"):
        read_face_model(folder)
    (folder / "identity000.obj").unlink()
    (folder / "identity001.obj").unlink()
    with pytest.raises(InputError, match="identity000"):
        read_face_model(folder)
    with pytest.raises(InputError, match="faces name vertices"):
        read_face_model(write_flame(tmp_path / "f.pkl", face.mean, people, face.faces + 5))


def _pairs(levels):
    """Opcodes that put a tuple of itself twice on the stack, so many times."""
    return b"N" + b"2\x86" * levels


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.", "nested too deeply"),  # a crash in C
        (b"\x80\x02}" + _pairs(70) + b"Ns.", "neither texts nor numbers"),  # hashed for ever
        (b"\x80\x02(" + b"}" * 500_000 + b"t.", "more than 100000 steps"),
        (b"\x80\x02c_codecs\nencode\n" + _pairs(60) + b"\x85R.", "no arrays with names"),
        (b"\x80\x02cnumpy\ndtype\n" + _pairs(60) + b"\x85R.", "no arrays with names"),
        (b"\x80\x04\x8f.", "it has sets"),
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x00N.", "claims more than it holds"),
        (b"\x80\x05\x96" + b"\xff" * 6 + b"\x00\x00N.", "claims more than it holds"),
        (b"\x80\x02]}b.", "a state without an object"),
        (b"\x80\x02}]Ns.", "neither texts nor numbers"),
        (b"\x80\x02\x86.", "its stack is empty"),
    ],
)
def test_pickles_that_take_forever_are_refused(content, reason, tmp_path):
    (tmp_path / "m.pkl").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_face_model(tmp_path / "m.pkl")


def test_texts_of_a_pickle_are_not_copied(tmp_path):
    """A text of 100 kB is encoded a thousand times: 100 MB, if it were done."""
    text = b"X" + (100_000).to_bytes(4, "little") + b"a" * 100_000
    content = b"\x80\x02c_codecs\nencode\nq\x00" + text + b"\x85q\x01(" + b"h\x00h\x01R" * 1000
    (tmp_path / "m.pkl").write_bytes(content + b"t.")
    tracemalloc.start()
    with pytest.raises(InputError, match="no arrays with names"):
        read_face_model(tmp_path / "m.pkl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


def test_arrays_that_are_not_arrays(tmp_path):
    good = {"v_template": np.zeros((2, 3)), "shapedirs": np.zeros((2, 3, 1)), "f": np.zeros((1, 3))}
    for name, value in {
        "v_template": np.zeros((2, 3), complex),
        "f": np.array(["a"]),
        "shapedirs": [1, 2],
    }.items():
        (tmp_path / "m.pkl").write_bytes(pickle.dumps({**good, name: value}, 2))
        with pytest.raises(InputError, match=r"m\.pkl: not a face model"):
            read_face_model(tmp_path / "m.pkl")


def test_numbers_that_are_too_large_give_no_warning(recwarn, face, people, tmp_path):
    path = write_flame(tmp_path / "m.pkl", face.mean, people, face.faces)
    write_facescape(tmp_path / "m.npz", face.mean * 1e30, people[:1] * 1e30, face.faces)
    arrays = dict(np.load(tmp_path / "m.npz"))
    arrays["shape_bm_core"] = arrays["shape_bm_core"].astype(float) * 1e20
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=r"m\.npz"):
        read_face_model(tmp_path / "m.npz")
    assert read_face_model(path).mesh is not None and not recwarn.list
