"""The Blender extension: its parts without Blender, and the whole in one, if there is one.

`blender` on PATH is used, or else the module bpy. TALKEMO_BLENDER names another Blender, or a
Python that has bpy.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkemo.expression.emotion_names import EMOTIONS
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.mesh import load_mesh
from talkemo.formats.obj import read_obj
from talkemo.formats.registry import open_animation
from talkemo.option_limits import MAX_INTENSITY
from talkemo.pipelines.options import DEVICES
from talkemo_cli.app import main

ROOT = Path(__file__).parent.parent
ADDON = ROOT / "blender" / "talkemo_blender"
FPS = 10.0
# Of the objects: z up, looking along -y, in metres, and not at the origin.
MATRIX = np.array([[0.001, 0, 0, 0.1], [0, 0, -0.001, 0.2], [0, 0.001, 0, 1.6], [0, 0, 0, 1]])
BLENDER_FACING = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # z up, looking along -y
# A program in the place of talkemo: returns what talkemo itself made of the same mesh.
STUB = """#!{python}
import json, shutil, sys
from pathlib import Path
arguments = sys.argv[1:]
folder = Path({folder!r})
if "broken" in arguments[2]:
    sys.exit("animating: 1 of 2\\ntalkemo: broken.wav: no speech\\n  choose another")
if arguments[1] != "-":
    shutil.copy(arguments[1], folder / "received.obj")
with (folder / "arguments.jsonl").open("a") as file:
    file.write(json.dumps(arguments) + "\\n")
shutil.copy(folder / "a.npz", arguments[arguments.index("-o") + 1])
"""


def part(name):
    """Import a file of the add-on that needs no Blender."""
    spec = importlib.util.spec_from_file_location(f"talkemo_blender_{name}", ADDON / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """The zip, by the command that builds it."""
    path = tmp_path_factory.mktemp("zip") / "talkemo-blender.zip"
    subprocess.run([sys.executable, ROOT / "blender" / "build.py", "-o", path], check=True)
    return path


def test_the_zip_is_installable_and_always_the_same(zipped, tmp_path):
    again = tmp_path / "again.zip"
    part_of_build = importlib.util.spec_from_file_location("build", ROOT / "blender" / "build.py")
    build = importlib.util.module_from_spec(part_of_build)
    part_of_build.loader.exec_module(build)
    build.build(again)
    assert again.read_bytes() == zipped.read_bytes()
    with zipfile.ZipFile(zipped) as archive:
        names = archive.namelist()
        manifest = archive.read("talkemo_blender/blender_manifest.toml").decode()
    assert {"talkemo_blender/__init__.py", "talkemo_blender/LICENSE"} <= set(names)
    assert {Path(name).parent.name for name in names} == {"talkemo_blender"}  # one folder
    for key in ("schema_version", "id", "version", "name", "tagline", "maintainer", "type"):
        assert f"\n{key} = " in manifest
    wheel = tmp_path / "talkemo-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    build.build(again, wheel)
    with zipfile.ZipFile(again) as archive:
        assert archive.read(f"talkemo_blender/{wheel.name}") == b"a wheel"


def test_the_addon_knows_what_talkemo_knows():
    assert part("arkit").ARKIT_NAMES == ARKIT_NAMES
    settings = (ADDON / "settings.py").read_text()
    assert f"EMOTIONS = {EMOTIONS}".replace("'", '"') in settings
    assert f"MAX_INTENSITY = {MAX_INTENSITY}" in settings
    assert all(f'("{device}", ' in settings for device in DEVICES)
    for path in ADDON.glob("*.py"):
        assert "import talkemo\n" not in path.read_text(), path


def test_own_keys_are_found_in_many_spellings():
    names = "JawOpen jaw_open A25_Jaw_Open eyeBlink_L EYEBLINKRIGHT mouthSmile Basis".split()
    assert part("arkit").own_keys(names) == {
        "jawOpen": names[:3],
        "eyeBlinkLeft": ["eyeBlink_L"],
        "eyeBlinkRight": ["EYEBLINKRIGHT"],
    }


def test_quaternions_are_those_of_the_rotations_without_jumps():
    turns = Rotation.from_rotvec(np.linspace(0, 9, 50)[:, None] * [[0.36, 0.48, 0.8]])
    made = part("exchange").quaternions(turns.as_matrix())
    np.testing.assert_allclose(
        Rotation.from_quat(made[:, [1, 2, 3, 0]]).as_matrix(), turns.as_matrix(), atol=1e-12
    )
    assert np.abs(np.diff(made, axis=0)).max() < 0.2 and made[0, 0] > 0


def test_an_obj_of_several_objects_keeps_the_order(tmp_path):
    exchange = part("exchange")
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) / 3
    corners, sizes = np.array([0, 1, 2, 3]), np.array([4])
    parts = [
        exchange.Part(square, corners, sizes, ["face"]),
        exchange.Part(square + 1, corners, sizes, ["upper teeth\nv 9 9 9"], mirrored=True),
    ]
    path = tmp_path / "two.obj"
    path.write_text(exchange.obj_text(parts))
    with path.open("rb") as file:
        mesh = read_obj(path, file)
    np.testing.assert_allclose(mesh.vertices, np.concatenate([square, square + 1]), rtol=1e-8)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [7, 6, 5], [7, 5, 4]]
    assert "g upper teeth v 9 9 9\n" in path.read_text()


def test_the_program_is_found_where_it_is(tmp_path, monkeypatch):
    command = part("command")
    own, stated = tmp_path / "own", tmp_path / "stated"
    monkeypatch.setattr(command.shutil, "which", lambda name: f"/somewhere/{name}")
    assert command.find_program("", own) == "/somewhere/talkemo"
    for folder in (own, stated):
        command.program_in(folder).parent.mkdir(parents=True)
        command.program_in(folder).write_text("")
    assert command.find_program("", own) == str(command.program_in(own))
    assert command.find_program(str(stated), own) == str(command.program_in(stated))
    assert command.find_program(str(tmp_path / "none"), own) is None
    commands = command.install_commands("python3", own, "a b.whl", "--index-url 'x y'")
    assert commands[0] == ["python3", "-m", "venv", str(own)]
    assert commands[1][-3:] == ["--index-url", "x y", "a b.whl"]


def test_messages_of_talkemo_are_told_in_its_words(capsys):
    command = part("command")
    assert main(["animate", "none.obj", "none.wav"]) == 2
    said = command.failure(2, f"animating: 1 of 2\n{capsys.readouterr().err}")
    assert said[0].startswith("none.wav: ") and len(said) == 2
    assert main(["animate", "a.obj", "a.wav", "--arrayz", "shapes"]) == 2
    old = capsys.readouterr().err.replace("arrayz", "arrays")
    assert command.failure(2, old) == [command.TOO_OLD]
    messages = "animating: 128 of 300\n102 frames\nmesh fits\nout.npz\n"
    assert command.facts(messages, "out.npz") == ["102 frames", "mesh fits"]
    assert command.failure(-9, "")[0].endswith("status -9: no message")
    assert command.failure(-9, messages)[0].endswith("status -9: out.npz")


def test_a_timeline_takes_the_place_of_the_emotion():
    command = part("command")
    request = command.Request("a.obj", "a.wav", "a.npz", 24 / 1.001, timeline="t.txt", style="x")
    arguments = command.Request(**{**vars(request), "head": False, "more": "--up 'z'"}).arguments()
    assert "--emotion" not in arguments
    options = dict(zip(arguments[3::2], arguments[4::2]))
    assert options == {
        "-o": "a.npz", "--arrays": "shapes", "--fps": "23.976024", "--intensity": "1",
        "--timeline": "t.txt", "--style": "x", "--head": "off", "--fill": "off",
        "--device": "auto", "--up": "z",
    }  # fmt: skip


def waited(process, seconds=30.0):
    """A process after its end, looked at as the add-on does."""
    end = time.monotonic() + seconds
    while not process.poll() and time.monotonic() < end:
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="the programs are a shell's")
def test_what_runs_in_the_background_can_be_cancelled(tmp_path):
    process = part("process")
    log = tmp_path / "log.txt"
    shell = lambda text: ["/bin/sh", "-c", text]
    done = waited(process.Background([shell("echo one"), shell("echo two; exit 3")], {}, log))
    assert done.status == 3 and done.text() == "one\ntwo\n"
    failed = waited(process.Background([shell("exit 4"), shell("echo never")], {}, log))
    assert failed.status == 4 and failed.text() == ""
    missing = waited(process.Background([shell("true"), [str(tmp_path / "no")]], {}, log))
    assert missing.status == 1 and "No such file" in missing.text()
    endless = process.Background([shell("sleep 60 & wait"), shell("echo never")], os.environ, log)
    assert not endless.poll()
    endless.cancel()
    assert waited(endless).status not in (None, 0) and endless.text() == ""


def blender_command():
    """How to run a script in Blender; skips the test if there is none."""
    if os.name == "nt":
        pytest.skip("the program in the place of talkemo is a script for Unix")
    stated = os.environ.get("TALKEMO_BLENDER") or shutil.which("blender")
    if stated and "python" in Path(stated).name:
        return [stated]
    if stated:
        probe = "import numpy; print('numpy', numpy.__version__)"
        found = subprocess.run([stated, "-b", "--python-expr", probe], capture_output=True)
        if b"numpy" not in found.stdout.replace(b"No module named 'numpy'", b""):
            pytest.skip("Blender's Python has no numpy: apt-get install python3-numpy")
        return [stated, "-b", "--factory-startup", "--python-exit-code", "3", "--python"]
    if importlib.util.find_spec("bpy"):
        return [sys.executable]
    pytest.skip("neither blender nor bpy: apt-get install blender python3-numpy, or name one")


def world_obj(path, mesh):
    """Write a mesh as the add-on does for an object with MATRIX; return its path."""
    exchange = part("exchange")
    vertices = mesh.vertices @ MATRIX[:3, :3].T + MATRIX[:3, 3]
    sizes = np.full(len(mesh.faces), 3)
    groups = [""] * len(sizes)
    path.write_text(exchange.obj_text([exchange.Part(vertices, mesh.faces.ravel(), sizes, groups)]))
    return path


def halves(folder, mesh):
    """Write a mesh as two OBJs: its first vertices, and the others; triangles between are lost."""
    count = len(mesh.vertices) // 2
    paths = []
    for name, first, last in (("a", 0, count), ("b", count, len(mesh.vertices))):
        rows = mesh.vertices[first:last]
        faces = mesh.faces[((mesh.faces >= first) & (mesh.faces < last)).all(1)] - first + 1
        lines = [f"v {x} {y} {z}" for x, y, z in rows] + [f"f {a} {b} {c}" for a, b, c in faces]
        paths.append(folder / f"{name}.obj")
        paths[-1].write_text("\n".join(lines))
    return list(map(str, paths))


@pytest.fixture(scope="module")
def ran(zipped, example_face, short_speech, tmp_path_factory):
    """What Blender wrote about its runs, and the folder."""
    blender = blender_command()
    folder = tmp_path_factory.mktemp("blender")
    request = part("command").Request(
        mesh=str(world_obj(folder / "world.obj", load_mesh(example_face))),
        sound=str(short_speech),
        output=str(folder / "a.npz"),
        fps=FPS,
        emotion="happy",
        fill=True,
        more="--seed 1",
    )
    assert main([*request.arguments(), "-o", str(folder / "a.mdd")]) == 0
    (folder / "broken.wav").write_bytes(b"")
    stub = folder / "talkemo"
    stub.write_text(STUB.format(python=sys.executable, folder=str(folder)))
    stub.chmod(0o755)
    usual = {"fps": FPS, "matrix": MATRIX.tolist(), "meshes": [str(example_face)]}
    speech = {"sound": str(short_speech), "emotion": "happy", "more": "--seed 1"}
    frames = {"frames": [1, 5, 12]}
    two = halves(folder, load_mesh(example_face))
    own = ["JawOpen", "mouthSmile_L", "nose"]
    runs = [
        {"name": "twice", **usual, **frames, "times": 2, "settings": {**speech, "fill": True}},
        {"name": "two", **usual, **frames, "meshes": two, "settings": speech},
        {
            "name": "own",
            **usual,
            "driven": "mouthSmile_L",
            "own_keys": own,
            "armature": True,
            "frames": [11, 15],
            "settings": {**speech, "keys": "OWN", "frame": 11},
        },
        {"name": "mixed", **usual, "own_keys": ["jawOpen"], "settings": {**speech, "head": "OFF"}},
        {"name": "nothing", **usual, "meshes": [], "settings": speech},
        {"name": "silent", **usual, "settings": {}},
        {"name": "lost", **usual, "settings": speech, "talkemo": str(folder / "none")},
        {
            "name": "broken",
            **usual,
            "settings": {**speech, "sound": str(folder / "broken.wav")},
        },
    ]
    jobs = {"zip": str(zipped), "talkemo": str(stub), "out": str(folder), "runs": runs}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for name in ("RESOURCES", "SCRIPTS", "CONFIG", "EXTENSIONS"):
        environment[f"BLENDER_USER_{name}"] = str(folder / "user" / name.lower())
        (folder / "user" / name.lower()).mkdir(parents=True)
    script = [*blender, str(ROOT / "tests" / "blender_run.py"), "--", str(folder / "jobs.json")]
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = {
        run["name"]: json.loads((folder / f"{run['name']}.json").read_text()) for run in runs
    }
    return results, folder, request.arguments()


def shown(folder, name, objects):
    """Frames of a run that were measured, and the vertices (F, N, 3) of some objects, joined."""
    with np.load(folder / f"{name}.npz") as arrays:
        frames = sorted({int(key.rsplit(" ", 1)[1]) for key in arrays})
        vertices = [np.concatenate([arrays[f"{o} {frame}"] for o in objects]) for frame in frames]
        return frames, np.array(vertices)


@pytest.mark.parametrize("name, objects", [("twice", ["mask"]), ("two", ["a", "b"])])
def test_blender_shows_what_the_npz_holds(ran, name, objects):
    frames, made = shown(ran[1], name, objects)
    rows = np.array(frames) - 1
    with np.load(ran[1] / "a.npz") as shapes:
        targets = np.tensordot(shapes["arkit"][rows], shapes["arkit_targets"], 1)
        facing, pivot = shapes["facing"], shapes["head_pivot"]
        turn = facing @ shapes["head"][rows] @ facing.T
        share = shapes["head_share"][:, None]
        expected = turned(shapes["rest"] + targets, turn, pivot, share)
        assert np.abs(turn - np.eye(3)).max() > 0.005  # the head does move
    np.testing.assert_allclose(made, expected, atol=1e-6)  # metres
    source = open_animation(ran[1] / "a.mdd", mesh=ran[1] / "world.obj")
    exact = np.concatenate(list(source.chunks()))[rows]
    error = np.linalg.norm(made - exact, axis=2)
    moved = np.linalg.norm(exact - exact[:1], axis=2)
    assert error.mean() < 0.0012 and moved[1:].mean() > error.mean()


def test_blender_gets_what_the_face_lacks(ran):
    with np.load(ran[1] / "a.npz") as shapes:
        facing, pivot = shapes["facing"], shapes["head_pivot"]
        names = shapes["added_names"].tolist()
        for number, name in enumerate(names):
            frames, made = shown(ran[1], "twice", [f"mask {name}"])
            rows = np.array(frames) - 1
            targets = np.tensordot(shapes["arkit"][rows], shapes[f"added{number}_targets"], 1)
            turn = facing @ shapes["head"][rows] @ facing.T
            expected = turned(shapes[f"added{number}_rest"] + targets, turn, pivot, 1)
            np.testing.assert_allclose(made, expected, atol=1e-6)
    parts = [f"mask {name}" for name in names]
    assert ran[0]["twice"]["objects"] == sorted(["mask", "mask head", *parts])
    assert "teeth" in names and ran[0]["own"]["objects"] == ["mask", "rig"]


def turned(vertices, turn, pivot, share):
    """Vertices (F, N, 3), turned about a pivot by their share."""
    from_pivot = vertices - pivot
    return vertices + share * (from_pivot @ turn.transpose(0, 2, 1) - from_pivot)


def test_blender_gets_keys_action_head_and_sound_and_once(ran):
    results, folder, arguments = ran
    result = results["twice"]
    assert result["results"] == ["FINISHED", "FINISHED"] and not result["errors"]
    assert result["keys"] == [["Basis", *ARKIT_NAMES]]
    assert result["curves"] == [52] and result["modifiers"] == [["HOOK"]]
    assert len(result["actions"]) == len(result["objects"])  # of keys, and of the head
    if result["has_sound"]:  # some builds of bpy lack it
        assert [strip[0] for strip in result["strips"]] == ["SOUND"]
        assert result["strips"][0][1] == 1
    assert results["two"]["modifiers"] == [["HOOK"], ["HOOK"]]
    received = load_mesh(folder / "received.obj")
    np.testing.assert_allclose(
        received.vertices, load_mesh(folder / "world.obj").vertices, atol=1e-6
    )
    given = json.loads((folder / "arguments.jsonl").read_text().splitlines()[0])
    assert given[5:] == arguments[5:] and given[2] == arguments[2]


def test_blender_drives_own_keys_and_a_bone(ran):
    result = ran[0]["own"]
    assert result["results"] == ["FINISHED"]
    assert result["keys"] == [["Basis", "JawOpen", "mouthSmile_L", "nose"]]
    assert result["curves"] == [2] and result["bone_curves"] == 4
    assert result["modifiers"] == [["ARMATURE"]]
    said = result["last_run"]
    assert "drivers keep mouthSmile_L: mute them to let them move" in said
    assert any(line.startswith("no keys for eyeBlinkLeft, ") for line in said)
    frames, made = shown(
        ran[1], "own", ["mask"]
    )  # the keys are empty, so that the bone moves alone
    assert frames == [11, 15]
    with np.load(ran[1] / "a.npz") as shapes:
        turn = BLENDER_FACING @ shapes["head"][[0, 4]] @ BLENDER_FACING.T
    rest = load_mesh(ran[1] / "world.obj").vertices
    np.testing.assert_allclose(made, rest @ turn.transpose(0, 2, 1), atol=1e-5)
    assert ran[0]["mixed"]["values"][0]["jawOpen"] == 0.25  # the user's own stays as it is
    mixed = ran[0]["mixed"]["keys"][0]
    assert mixed[:2] == ["Basis", "jawOpen"] and "talkemo jawOpen" in mixed and len(mixed) == 54


@pytest.mark.parametrize(
    "name, said",
    [
        ("nothing", "Select the face"),
        ("silent", "Choose a sound file"),
        ("lost", "There is no talkemo at"),
        ("broken", "broken.wav: no speech. choose another"),
    ],
)
def test_blender_says_what_is_missing_and_changes_nothing(ran, name, said):
    result = ran[0][name]
    assert len(result["errors"]) == 1 and said in result["errors"][0]
    assert not any(result["keys"]) and not result["strips"] and not result["actions"]
