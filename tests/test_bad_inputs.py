"""Every command refuses unusable input with two lines and exit status 2, and writes nothing.

The first line states the problem and the file, the second what to do. All of the several hundred
cases run in this process, because a separate process takes a second to start.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
import warnings
from pathlib import Path

import bad_files
import numpy as np
import pytest
import soundfile

import talkemo
from talkemo_cli.app import main

EXAMPLES = Path(__file__).parent.parent / "examples"
MAX_CPU_S = 10.0  # processor time of a refusal
MAX_WAIT_S = 60.0  # elapsed time of a refusal, on a machine under load
MESSAGES = Path(__file__).parent / "messages.txt"
TRIED_CASES: list[str] = []  # names of the cases that ran
MESSAGES_OF_CASES: dict[str, str] = {}  # case → what it printed on stderr


class World:
    """Good files in a folder, and room for bad ones."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.face = EXAMPLES / "mask.obj"
        samples, rate = soundfile.read(EXAMPLES / "speech.wav")
        self.audio = folder / "good.wav"
        soundfile.write(self.audio, samples[:rate], rate)
        self.animation, self.binding = folder / "good.npz", folder / "good.binding.npz"
        models = talkemo.load_models()
        binding = talkemo.bind(self.face, self.binding, models=models)
        talkemo.animate(binding, self.audio, self.animation, fps=5, models=models)
        self.out = folder / "out"
        self.out.mkdir()

    def arrays(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of a good npz."""
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def small_animation(self) -> dict[str, np.ndarray]:
        """A good animation that is cheap to copy.

        Its mesh is so small that no face is searched for in it.
        """
        grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), -1).reshape(-1, 2)
        rest = np.column_stack([grid, np.sin(grid[:, 0])])
        cell = np.arange(49).reshape(7, 7)
        one = np.stack([cell[:-1, :-1], cell[:-1, 1:], cell[1:, 1:]], -1).reshape(-1, 3)
        two = np.stack([cell[:-1, :-1], cell[1:, 1:], cell[1:, :-1]], -1).reshape(-1, 3)
        vertices = np.stack([rest, rest + 0.1, rest]).astype(np.float32)
        return {
            "vertices": vertices,
            "faces": np.concatenate([one, two]).astype(np.int32),
            "fps": np.float64(25),
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def fault_of(world: World, name: str, arguments: tuple, mentions: str = "") -> str:
    """Run a command in this process, which should refuse its input.

    Returns what is wrong with the refusal; an empty string if nothing is.
    """
    TRIED_CASES.append(name)
    before = sorted(path.name for path in world.out.iterdir())
    out, err = io.StringIO(), io.StringIO()
    start, cpu = time.monotonic(), time.process_time()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always")
        try:
            status = main([str(argument) for argument in arguments])
        except BaseException as error:
            return f"{type(error).__name__} escaped: {error}"
    seconds, cpu, message = time.monotonic() - start, time.process_time() - cpu, err.getvalue()
    lines = message.splitlines()
    MESSAGES_OF_CASES[name] = message
    after = sorted(path.name for path in world.out.iterdir())
    faults = {
        f"exit status {status}": status != 2,
        f"stdout {out.getvalue()[:80]!r}": out.getvalue() != "",
        f"stderr {message[:300]!r}": len(lines) != 2
        or not lines[0].startswith("talkemo: ")
        or lines[1][:2] != "  ",
        f"does not name {mentions}: {message[:200]!r}": bool(mentions) and mentions not in message,
        f"left {set(after) - set(before)}": after != before,
        f"took {seconds:.1f} s, {cpu:.1f} of the processor": cpu > MAX_CPU_S
        or seconds > MAX_WAIT_S,
    }
    return "; ".join(fault for fault, there in faults.items() if there)


def refuse_all(
    world: World, label: str, cases: dict[str, tuple], named: dict[str, Path] | None = None
) -> None:
    """Fail with all cases that are not refused as they should be."""
    faults = {}
    for name, arguments in cases.items():
        mentions = (named[name].name[:40] if named else "") if name != "too long a name" else "nnn"
        fault = fault_of(world, f"{label}: {name}", arguments, mentions)
        if fault:
            faults[name] = fault
    assert not faults, "\n".join(f"{label}: {name}: {fault}" for name, fault in faults.items())


def test_meshes(world):
    bad = bad_files.bad_meshes(world.folder / "meshes", world.face)
    out = world.out / "a.npz"
    for label, make in {
        "animate": lambda path: ("animate", path, world.audio, "-o", out),
        "bind": lambda path: ("bind", path, "-o", out),
        "geomap": lambda path: ("geomap", path, "-o", world.out / "a.png"),
        "transfer --neutral": lambda path: (
            "transfer",
            world.animation,
            "--emotion",
            "sad",
            "--neutral",
            path,
            "-o",
            out,
        ),
        "evaluate --neutral": lambda path: (
            "evaluate",
            world.animation,
            world.animation,
            "--neutral",
            path,
        ),
    }.items():
        refuse_all(world, f"mesh, {label}", {name: make(path) for name, path in bad.items()}, bad)


def test_audio_files(world):
    bad = bad_files.bad_audio_files(world.folder / "audio", world.audio)
    video = world.out / "a.mp4"
    for label, make in {
        "animate": lambda path: ("animate", world.face, path, "-o", world.out / "a.npz"),
        "transfer --audio": lambda path: (
            "transfer",
            world.animation,
            "--emotion",
            "sad",
            "--audio",
            path,
            "-o",
            video,
        ),
        "render --audio": lambda path: ("render", world.animation, "--audio", path, "-o", video),
    }.items():
        refuse_all(world, f"sound, {label}", {name: make(path) for name, path in bad.items()}, bad)


# Faults in parts of a file that the command does not read, or reads only after the face search.
UNSEEN = {
    "render": {"nan.npz", "first_nan.npz"},
    "transfer": {"crc.npz", "nan.npz"},
    "evaluate PRED": {"meta_broken.npz", "meta_deep.npz", "crc.npz", "first_nan.npz"},
    "evaluate REF": {"meta_broken.npz", "meta_deep.npz"},
}


def test_animations(world):
    bad = bad_files.bad_animations(world.folder / "animations", world.small_animation())
    np.savez(world.folder / "small.npz", **world.small_animation())
    small = world.folder / "small.npz"
    for label, make in {
        "render": lambda path: ("render", path, "-o", world.out / "a.png"),
        "transfer": lambda path: ("transfer", path, "--emotion", "sad", "-o", world.out / "a.npz"),
        "evaluate PRED": lambda path: ("evaluate", path, small),
        "evaluate REF": lambda path: ("evaluate", small, path),
    }.items():
        cases = {name: make(path) for name, path in bad.items() if name not in UNSEEN[label]}
        refuse_all(world, f"animation, {label}", cases)


def test_bindings(world):
    npz = world.out / "a.npz"
    bad = bad_files.bad_bindings(world.folder / "bindings", world.arrays(world.binding))
    for label, make in {
        "animate": lambda path: ("animate", world.face, world.audio, "--binding", path, "-o", npz),
        "transfer": lambda path: (
            *("transfer", world.animation, "--emotion", "sad"),
            *("--binding", path, "-o", npz),
        ),
    }.items():
        refuse_all(
            world, f"binding, {label}", {name: make(path) for name, path in bad.items()}, bad
        )


def test_text_files(world):
    landmarks = bad_files.texts(world.folder / "landmarks", bad_files.LANDMARKS)
    for command in (("animate", world.face, world.audio), ("bind", world.face)):
        cases = {
            n: (*command, "--landmarks", path, "-o", world.out / "a.npz")
            for n, path in landmarks.items()
        }
        refuse_all(world, f"landmarks, {command[0]}", cases)
    timelines = bad_files.texts(world.folder / "timelines", bad_files.TIMELINES)
    for command in (("animate", world.face, world.audio), ("transfer", world.animation)):
        cases = {
            n: (*command, "--timeline", path, "-o", world.out / "a.npz")
            for n, path in timelines.items()
        }
        refuse_all(world, f"timeline, {command[0]}", cases, timelines)
    masks = bad_files.texts(world.folder / "masks", bad_files.MASKS)
    pair = ("evaluate", world.animation, world.animation)
    refuse_all(
        world, "mask, evaluate", {n: (*pair, "--mask", path) for n, path in masks.items()}, masks
    )


def test_maps_and_landmarks_of_videos(world):
    maps = bad_files.write(
        world.folder / "maps",
        {
            "empty.npz": b"",
            "text.npz": b"a map?" * 9,
            "none.npz": bad_files.npz(a=np.zeros(3)),
            "small.npz": bad_files.npz(map=np.zeros((3, 8, 8))),
            "nan.npz": bad_files.npz(map=np.full((3, 128, 128), np.nan)),
            "words.npz": bad_files.npz(map=np.array(["a"])),
        },
    ) | bad_files.special_files(world.folder / "maps_special", ".npz")
    refuse_all(
        world,
        "map, geomap",
        {n: ("geomap", path, "-o", world.out / "a.obj") for n, path in maps.items()},
        maps,
    )
    good = np.random.default_rng(0).random((4, 68, 2)) * 100 + 100
    landmarks = bad_files.write(
        world.folder / "videos",
        {
            "empty.npz": b"",
            "empty.npy": b"",
            "text.npy": b"points?" * 9,
            "words.npz": bad_files.npz(a=np.array(["a"])),
            "shape.npz": bad_files.npz(a=good[:, :60]),
            "three.npz": bad_files.npz(a=np.zeros((4, 68, 3))),
            "no_frames.npz": bad_files.npz(a=good[:0]),
            "nothing.npz": bad_files.npz(),
            "nan.npz": bad_files.npz(a=np.full_like(good, np.nan)),
            "one_place.npz": bad_files.npz(a=np.ones_like(good)),
            "claims.npz": bad_files.entry(
                "a.npy", bad_files.array_header("(1000000000000, 68, 2)")
            ),
            "video.mp4": b"a film",
            "photo.png": b"a photograph",
            "text.csv": b"\xff\xfe points",
            "short.csv": b"1,2,3\n4,5,6\n",
            "openface.csv": b"frame,x_0,y_67\n1,2,3\n",
            "link.csv": b"Timecode,BlendShapeCount\n00:00:00:00,61\n",
            "shares.npz": bad_files.npz(a=np.full((4, 478, 3), 0.5)),
            "deep.json": b"[" * 5000,
            "points.json": b'[[{"x": 1}]]',
            "kinds.json": b"[[[1, 2]], [[1, 2], [3, 4]]]",
            "unknown.xyz": b"points",
        },
    ) | bad_files.special_files(world.folder / "videos_special", ".npz")
    cases = {n: ("reconstruct", path, "-o", world.out / "a.npz") for n, path in landmarks.items()}
    refuse_all(world, "landmarks, reconstruct", cases, landmarks)


def test_videos_and_curves(world):
    reconstruct = lambda path: ("reconstruct", path, "-o", world.out / "a.npz")
    for label, bad in {
        "video": bad_files.bad_videos(world.folder / "bad_videos"),
        "curves": bad_files.bad_curves(world.folder / "curves"),
    }.items():
        cases = {name: reconstruct(path) for name, path in bad.items()}
        refuse_all(world, f"{label}, reconstruct", cases, bad)


def test_face_models(world):
    landmarks = world.folder / "landmarks.npy"
    np.save(landmarks, np.random.default_rng(0).random((4, 68, 2)) * 100 + 100)
    bad = bad_files.bad_face_models(world.folder / "models")
    cases = {
        name: ("reconstruct", landmarks, "--model", path, "-o", world.out / "a.npz")
        for name, path in bad.items()
    }
    refuse_all(world, "face model, reconstruct", cases, bad)


def test_phones(world):
    pair = ("evaluate", world.animation, world.animation)
    bad = bad_files.bad_phones(world.folder / "phones")
    cases = {name: (*pair, "--phones", path) for name, path in bad.items()}
    refuse_all(world, "phones, evaluate", cases, bad)


def test_registries(world):
    bad = bad_files.bad_registries(world.folder / "registries")
    cases = {
        name: ("bind", world.face, "--weights", path, "-o", world.out / "a.npz")
        for name, path in bad.items()
    }
    refuse_all(world, "registry, bind", cases, dict.fromkeys(bad, Path("registry.toml")))


def test_options(world):
    npz, video = world.out / "a.npz", world.out / "a.mp4"
    animate = ("animate", world.face, world.audio)
    transfer = ("transfer", world.animation)
    render = ("render", world.animation)
    cases: dict[str, tuple] = {}
    for value in (
        "furious",
        "",
        "happy:2",
        "happy:x",
        "happy:-1",
        "happy:nan",
        "happy:0.7,sad:0.7",
        ",",
        "happy;sad",
    ):
        cases[f"animate --emotion {value!r}"] = (*animate, "--emotion", value, "-o", npz)
        cases[f"transfer --emotion {value!r}"] = (*transfer, "--emotion", value, "-o", npz)
    for value in ("-0.1", "1.6", "nan", "inf", "x", "1e999"):
        cases[f"animate --intensity {value}"] = (
            *animate,
            "--emotion",
            "sad",
            "--intensity",
            value,
            "-o",
            npz,
        )
        cases[f"transfer --intensity {value}"] = (
            *transfer,
            "--emotion",
            "sad",
            "--intensity",
            value,
            "-o",
            npz,
        )
    for value in ("0", "-1", "nan", "inf", "241", "x", "1e999"):
        cases[f"animate --fps {value}"] = (*animate, "--fps", value, "-o", npz)
        cases[f"transfer --fps {value}"] = (
            *transfer,
            "--emotion",
            "sad",
            "--fps",
            value,
            "-o",
            npz,
        )
        cases[f"reconstruct --fps {value}"] = (
            "reconstruct",
            world.folder / "none.npy",
            "--fps",
            value,
            "-o",
            npz,
        )
    for value in ("0", "-5", "3", "99999", "x", "1.5"):
        cases[f"animate --size {value}"] = (*animate, "--size", value, "-o", video)
        cases[f"render --size {value}"] = (*render, "--size", value, "-o", world.out / "a.png")
    for value in ("behind", "", "FRONT"):
        cases[f"render --view {value!r}"] = (*render, "--view", value, "-o", world.out / "a.png")
    for value in ("nan", "inf", "-1", "x"):
        cases[f"render --time {value}"] = (*render, "--time", value, "-o", world.out / "a.png")
    for option in ("--up", "--forward"):
        for value in ("up", "", "w", "--", "xy"):
            cases[f"bind {option} {value!r}"] = ("bind", world.face, f"{option}={value}", "-o", npz)
    cases |= {
        "axes that agree": ("bind", world.face, "--up", "z", "--forward", "-z", "-o", npz),
        "a binding and axes": (*animate, "--binding", world.binding, "--up", "y", "-o", npz),
        "an emotion and a timeline": (
            *animate,
            "--emotion",
            "sad",
            "--timeline",
            world.folder / "t",
            "-o",
            npz,
        ),
        "no emotion": (*transfer, "-o", npz),
        "an unknown style": (*animate, "--style", "nobody", "-o", npz),
        "an unknown sequence": (*animate, "--sequence", "stl", "-o", world.out / "frames"),
        "nothing to bake": (*animate, "--bake", "-o", npz),
        "an unknown format": (*animate, "--format", "exe", "-o", world.out),
        "an unknown device": (*animate, "--device", "tpu", "-o", npz),
        "no CUDA": (*animate, "--device", "cuda", "-o", npz),
        "unknown weights": (*animate, "--weights", world.folder / "nowhere", "-o", npz),
        "weights without weights": (*animate, "--weights", world.out, "-o", npz),
        "weights at no address": (*animate, "--weights", "hf://x", "-o", npz),
        "an unknown option": (*animate, "--emotoin", "happy"),
        "an option without its value": (*animate, "--emotion"),
        "no sound": ("animate", world.face),
        "no face": ("animate",),
        "an unknown command": ("speak", world.face),
        "an unknown suite": ("evaluate", "--suite", "table9"),
        "a suite without data": ("evaluate", "--suite", "dev"),
        "one animation": ("evaluate", world.animation),
        "a suite and a pair": ("evaluate", world.animation, world.animation, "--suite", "dev"),
        "an unknown stage": ("train", "ears", "--data", world.folder, "-o", world.out / "run"),
        "no corpora": (
            "train",
            "emotion",
            "--data",
            world.folder / "none",
            "-o",
            world.out / "run",
        ),
        "no corpus": ("train", "emotion", "--data", world.folder, "-o", world.folder / "run"),
        "a negative seed": (
            "train",
            "emotion",
            "--data",
            world.folder,
            "--seed",
            "-1",
            "-o",
            world.out / "run",
        ),
        "an option of another stage": (
            "train",
            "face",
            "--data",
            world.folder,
            "--log-mel",
            "-o",
            world.out / "run",
        ),
        "jobs without a suite": ("evaluate", world.animation, world.animation, "--jobs", "7"),
        "no minutes": (
            "train",
            "emotion",
            "--data",
            world.folder,
            "--max-minutes",
            "0",
            "-o",
            world.out / "run",
        ),
        "an unknown action": ("weights", "eat"),
        "a push to nowhere": ("weights", "push", world.folder),
        "two kinds of inputs": ("reconstruct", world.animation, world.animation, "-o", npz),
        "no jobs": ("reconstruct", world.animation, "--jobs", "0", "-o", npz),
    }
    if talkemo.compute.devices.choose_device("auto").type == "cuda":
        del cases["no CUDA"]
    refuse_all(world, "option", cases)


def test_outputs(world):
    (world.out / "a_folder.npz").mkdir()
    full = world.out / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (world.out / "link").symlink_to("full")
    animate = ("animate", world.face, world.audio)
    commands = {
        "animate": animate,
        "transfer": ("transfer", world.animation, "--emotion", "sad"),
        "render": ("render", world.animation),
        "bind": ("bind", world.face),
        "geomap": ("geomap", world.face),
    }
    bad = {
        "into no folder": world.folder / "none" / "a.npz",
        "unknown ending": world.out / "a.xyz",
        "a folder of that name": world.out / "a_folder.npz",
        "below a file": world.audio / "a.npz",
        "too long a name": world.out / f"{'n' * 300}.npz",
    }
    for label, command in commands.items():
        refuse_all(
            world, f"output, {label}", {name: (*command, "-o", path) for name, path in bad.items()}
        )
    cases = {
        "twice": (*animate, "-o", world.out / "a.npz", "-o", world.out / "a.npz"),
        "one in the other": (
            *animate,
            "-o",
            world.out / "frames",
            "-o",
            world.out / "frames" / "a.npz",
        ),
        "the face itself": ("geomap", world.animation, "-o", world.animation.with_suffix(".obj")),
        "the sound itself": (
            "animate",
            world.face,
            world.audio.rename(world.audio),
            "-o",
            world.audio,
        ),
        "the animation itself": (
            "transfer",
            world.animation,
            "--emotion",
            "sad",
            "-o",
            world.animation,
        ),
        "many into a file": (
            "animate",
            world.face,
            world.audio,
            world.audio,
            "-o",
            world.out / "a.npz",
        ),
        "many of one name": ("animate", world.face, world.audio, world.audio, "-o", world.out),
    }
    refuse_all(world, "output", cases)
    assert (full / "mine.txt").read_text() == "mine"


def test_there_are_many_cases():
    """Several hundred cases ran, if all tests above did: so this test must come after them."""
    if len({name.split(",")[0].split(":")[0] for name in TRIED_CASES}) < 8:
        pytest.skip("only some of the cases ran")
    assert len(TRIED_CASES) == len(set(TRIED_CASES)) and len(TRIED_CASES) >= 400


def test_messages_are_what_a_user_reads():
    """All messages, without what differs between runs, are listed in messages.txt.

    After a change of a message, run TALKEMO_MESSAGES=write pytest tests/test_bad_inputs.py, and
    read the difference as a user would.
    """
    if len(TRIED_CASES) < 400:
        pytest.skip("only some of the cases ran")
    texts: dict[str, str] = {}
    for name, message in sorted(MESSAGES_OF_CASES.items()):
        texts.setdefault(plain(message), name)  # each text once, with the first case that gives it
    listed = "".join(f"{name[:80]}\n{text}\n" for text, name in texts.items())
    if os.environ.get("TALKEMO_MESSAGES") == "write":
        MESSAGES.write_text(listed, "utf-8")
    assert listed == MESSAGES.read_text("utf-8")


def plain(message: str) -> str:
    """Remove from a message what differs between machines or between similar cases.

    These are folders, file names, numbers, and reasons of libraries in brackets.
    """
    message = re.sub(r"(/[\w.,-]+)+/(?=[\w.-])", "", message)
    message = re.sub(r"n{20,}\S*", "LONG_NAME", message)
    message = re.sub(
        r"\b\w+\.(obj|ply|stl|off|glb|gltf|xyz|wav|mp3|flac|ogg|opus|m4a|mp4|aac|webm|npz|npy|txt)\b",
        "FILE",
        message,
    )
    first, _, rest = message.partition("\n")
    return re.sub(r"\(.*\)", "(…)", first) + "\n" + re.sub(r"\d{4,}", "N", rest)
