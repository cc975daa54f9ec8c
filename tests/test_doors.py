"""Files are opened, and programs started, by few functions: the list of all other calls.

A file of unknown origin is opened by `files.reading` or `files.arrays`, which check its kind and
size and turn errors into refusals; an output is written to a path of `files.writing`; ffmpeg is
started by `video.ffmpeg`. A call that goes another way must be listed here, with a reason.
"""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHODS = ("open", "read_text", "read_bytes", "write_text", "write_bytes", "tofile", "chmod")
FUNCTIONS = ("open", "safe_open", "save_file", "load_file")
# Functions of modules that open files or start programs; None for all functions of the module.
MODULES: dict[str, tuple[str, ...] | None] = {
    "np": ("load", "save", "savez", "savez_compressed", "loadtxt", "genfromtxt", "fromfile",
           "memmap"),
    "numpy": ("load", "save", "savez", "savez_compressed"),
    "json": ("load", "loads"),
    "os": ("open", "popen", "system", "execv", "spawnv", "chmod"),
    "subprocess": None,
    "tomllib": None,
    "pickle": None,
    "soundfile": None,
    "zipfile": ("ZipFile",),
    "trimesh": ("load", "load_mesh"),
    "torch": ("load", "save"),
    "imageio": ("imread", "imwrite", "imopen"),
    "yaml": None,
    "shutil": ("copy", "copyfile", "copytree", "move"),
}  # fmt: skip

PARTIAL = "writes to the temporary path of files.writing"
OWN = "reads what talkemo itself wrote"
CHECKED = "reads what is open or in memory already, after its size is checked"
CORPUS = "reads a corpus that the user prepared for training"
DOOR = "is one of the functions that check what is opened"

# File → the calls that it may make, and why.
ALLOWED = {
    "talkemo/audio/decoding.py": ("soundfile.SoundFile", CHECKED),
    "talkemo/audio/wav.py": ("soundfile.read", CHECKED),
    "talkemo/binding/files.py": (".open", PARTIAL),
    "talkemo/capture/fitted_clips.py": (".open np.savez_compressed", PARTIAL),
    "talkemo/capture/landmarker_bundle.py": (
        ".open .write_bytes subprocess.run zipfile.ZipFile",
        f"{PARTIAL}; starts pip; sizes and a sha256 are checked",
    ),
    "talkemo/capture/landmark_tracker.py": ("zipfile.ZipFile", "its sha256 is checked"),
    "talkemo/capture/video_capture.py": ("np.memmap", OWN),
    "talkemo/data/audio_augmentation.py": ("soundfile.SoundFile soundfile.read", OWN),
    "talkemo/data/captures.py": ("np.savez_compressed", PARTIAL),
    "talkemo/data/corpora.py": (".open np.load", CORPUS),
    "talkemo/data/custom_corpora.py": ("tomllib.loads", CHECKED),
    "talkemo/data/phones.py": (".write_text", PARTIAL),
    "talkemo/data/video_folders.py": (
        ".open .read_text .write_text", f"{PARTIAL}; {OWN}"
    ),
    "talkemo/evaluation/lips.py": (".read_text", CORPUS),
    "talkemo/extras.py": (".read_text json.loads", "reads what pip wrote about the installation"),
    "talkemo/files/arrays.py": (".open", DOOR),
    "talkemo/files/artefact.py": (".read_text .write_text", f"{PARTIAL}; {OWN}"),
    "talkemo/files/cache.py": (".open np.savez", f"{PARTIAL}; takes a digest of any file"),
    "talkemo/files/pickles.py": ("pickle.UnpicklingError", DOOR),
    "talkemo/files/reading.py": ("json.loads open os.open", DOOR),
    "talkemo/files/writing.py": ("os.open .chmod", DOOR),
    "talkemo/formats/curves.py": (".open", PARTIAL),
    "talkemo/formats/gltf_arrays.py": (".read_bytes .write_bytes .write_text", f"{PARTIAL}; {OWN}"),
    "talkemo/formats/gltf_builder.py": (".open", PARTIAL),
    "talkemo/formats/gltf_character.py": (".open", "opens what was read before"),
    "talkemo/formats/live_link.py": (".open", PARTIAL),
    "talkemo/formats/materials.py": (".open", CHECKED),
    "talkemo/formats/mesh.py": (".write_bytes", PARTIAL),
    "talkemo/formats/npz.py": (".open zipfile.ZipFile", PARTIAL),
    "talkemo/formats/obj.py": (".write_text", PARTIAL),
    "talkemo/formats/point_cache.py": (".open", PARTIAL),
    "talkemo/formats/sequence.py": (".open .write_text", PARTIAL),
    "talkemo/formats/trimesh_reader.py": ("trimesh.load", CHECKED),
    "talkemo/formats/usd_character.py": (".read_bytes .write_bytes", f"{PARTIAL}; {OWN}"),
    "talkemo/formats/usd_layers.py": (
        "subprocess.run", "starts Python, which reads a binary layer before talkemo does"
    ),
    "talkemo/formats/usd_reader.py": ("zipfile.ZipFile", CHECKED),
    "talkemo/formats/usd_stage.py": (".write_bytes", PARTIAL),
    "talkemo/formats/vmd.py": (".open", PARTIAL),
    "talkemo/paper/code.py": (".read_text", "reads talkemo's own code"),
    "talkemo/paper/report.py": (".write_text", PARTIAL),
    "talkemo/paper/study.py": (".write_text shutil.copyfile", PARTIAL),
    "talkemo/paper/table2.py": ("shutil.copyfile", f"{PARTIAL}; {OWN}"),
    "talkemo/pipelines/hearing.py": (".open .write_text", PARTIAL),
    "talkemo/pipelines/live_server.py": (".open .read_bytes", "reads talkemo's own pages"),
    "talkemo/pipelines/map_files.py": ("imageio.imwrite np.savez_compressed", PARTIAL),
    "talkemo/render/images.py": ("imageio.imwrite", PARTIAL),
    "talkemo/render/page.py": (".read_bytes .write_text", f"{PARTIAL}; {OWN}"),
    "talkemo/render/textures.py": (".open", CHECKED),
    "talkemo/render/video_writer.py": ("soundfile.write", "writes into a temporary folder"),
    "talkemo/train/anatomy.py": ("np.load", CORPUS),
    "talkemo/train/batches.py": (".read_text json.loads np.load", OWN),
    "talkemo/train/checkpoint.py": ("json.loads safe_open", OWN),
    "talkemo/train/face.py": (".read_text np.load", CORPUS),
    "talkemo/train/lips.py": ("np.save", PARTIAL),
    "talkemo/train/loop.py": ("json.loads", OWN),
    "talkemo/train/prepared_audio.py": (
        ".read_text .write_text json.loads np.load np.save", f"{PARTIAL}; {OWN}"
    ),
    "talkemo/train/record.py": (
        ".read_text .write_text json.loads subprocess.run", f"{PARTIAL}; asks git and /proc"
    ),
    "talkemo/train/teacher.py": (".read_bytes", "its sha256 is checked"),
    "talkemo/train/voice_windows.py": (".open np.savez", PARTIAL),
    "talkemo/train/training_log.py": (".open .read_bytes .write_bytes", f"{PARTIAL}; {OWN}"),
    "talkemo/video/ffmpeg.py": ("subprocess.Popen", DOOR),
    "talkemo/video/reader.py": (".open", CHECKED),
    "talkemo/weights/files.py": (".open safe_open save_file", f"{CHECKED}; {PARTIAL}"),
    "talkemo/weights/registry.py": (
        ".write_text json.loads safe_open tomllib.loads", f"{CHECKED}; {PARTIAL}"
    ),
    "talkemo_cli/animate_stream.py": (".open", f"{PARTIAL}; a FIFO"),
    "talkemo_cli/console.py": ("os.open", "opens /dev/null"),
    "talkemo_cli/standard_streams.py": ("open os.open", "opens /dev/null"),
    "talkemo_cli/evaluate_tables.py": (".open", PARTIAL),
}  # fmt: skip


def called(node: ast.Call) -> str | None:
    """The name of a call that opens a file or starts a program, None for others."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id if function.id in FUNCTIONS else None
    if not isinstance(function, ast.Attribute):
        return None
    module = function.value.id if isinstance(function.value, ast.Name) else ""
    if module in MODULES:
        names = MODULES[module]
        return f"{module}.{function.attr}" if names is None or function.attr in names else None
    return f".{function.attr}" if function.attr in METHODS else None


def calls_of(text: str) -> set[str]:
    """The names of all such calls in a Python file."""
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {name for name in map(called, nodes) if name}


def all_calls() -> dict[str, set[str]]:
    """The names of such calls by file."""
    result = {}
    for package in ("talkemo", "talkemo_cli"):
        for path in sorted((ROOT / package).rglob("*.py")):
            names = calls_of(path.read_text("utf-8"))
            if names:
                result[path.relative_to(ROOT).as_posix()] = names
    return result


def test_files_are_opened_by_few_functions():
    unlisted = {
        file: sorted(names - set(ALLOWED.get(file, ("", ""))[0].split()))
        for file, names in all_calls().items()
    }
    unlisted = {file: names for file, names in unlisted.items() if names}
    assert not unlisted, "use files.reading, files.writing or video.ffmpeg, or list it above"


def test_the_list_is_up_to_date():
    calls = all_calls()
    assert [file for file in ALLOWED if file not in calls] == []
    assert all(reason.strip() for _, reason in ALLOWED.values())


@pytest.mark.parametrize(
    "text",
    ["open(a)", "Path(a).read_text()", "subprocess.run(a)", "np.load(a)", "json.loads(a)",
     "tomllib.load(a)", "PIL.Image.open(a)", "Image.open(a)", "os.chmod(a, 0)"],
)  # fmt: skip
def test_a_call_is_found(text):
    assert calls_of(text)


def test_security_md_names_the_limits():
    """Each limit is a constant of the module that is named; those with a star can be raised."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    rows = [
        row.split("|")[3] for row in text.splitlines() if row.startswith("| ") and "MAX_" in row
    ]
    assert len(rows) > 20
    for row in rows:
        module = ""
        for entry in row.split(","):
            path, _, star = entry.strip().partition(" ")
            named, _, constant = path.rpartition(".")
            module = named or module
            source = (ROOT / "talkemo" / f"{module.replace('.', '/')}.py").read_text("utf-8")
            raised = f'{constant} = limit("{constant}",' in source
            assert hasattr(importlib.import_module(f"talkemo.{module}"), constant), path
            assert raised == (star == "*"), path


if __name__ == "__main__":
    for name, found in all_calls().items():
        print(f'    "{name}": ("{" ".join(sorted(found))}", ""),')
