"""Fixed runs of every command on short inputs, to show that a change of the code changes no result.

    python benchmarks/fixed_runs.py run OUT --data DATA [--only NAME...]
    python benchmarks/fixed_runs.py compare OUT_A OUT_B [--only NAME...]

`run` makes the runs with the talkemo that Python finds, each through the command line, on the CPU
and on one thread, in a checkout: the examples are read from the folder `examples` of the folder
that it is started in. DATA is the folder of the corpora. A run's files lie in OUT/NAME, with what
each of its commands printed; runs that are there are left out, so that a call that was ended goes
on. `--only` takes names of runs or their beginnings, and what those need is made, too. Make the
runs once before a change and once after it, on the same machine and with the same packages.

`compare` prints a row for each file: `same bytes`; `equal`, where only what is not compared (see
below) differs; or the largest difference of a number in each of its parts, such as the arrays of
an npz. Everything but numbers has to be equal: text, and names, shapes and types of arrays; where
it is not, the difference is `inf`. Rows that begin with DIFFERS are of differences larger than
1e-6 and of files that are missing on either side; if there is one, the exit status is 1. Pictures
and films whose bytes differ are compared by their pixels.

What is covered
---------------
animate (three meshes, three emotions, every format, and the options that change a motion),
transfer, render, reconstruct (landmarks, curves, a film, a photograph, folders), streams, bind,
geomap, evaluate, study tally, weights, every stage of training for a few steps on a little of
every corpus, variants of the talking model, and the paper's tables and figures in little.

What is not covered
-------------------
- `doctor`, which is about the machine, and `live`, which needs a browser.
- `study make`, which draws names of films by chance; `--paper` of it trains for long.
- The logs of lips, speech and emotion: they have no row in so few steps. Their losses are in the
  checkpoints, which are compared.
- Training on a GPU, in several processes, or with `--max-minutes`; training that is killed and
  resumed in the middle (tests/test_resume.py does that).

What is not compared
--------------------
- Files of TensorBoard, whose names and contents have the time; STAGE.log.csv says the same.
- Messages on stderr, which are words for people, and the markup of pages; their data is compared.
- Times, memory, commits and versions, absolute paths, and digests of files that name a commit, see
  IGNORED and MASKS. All runs are made as outside a repository, so that weights of two commits are
  the same bytes where nothing else has changed.

When the same code makes the runs twice on one machine, all files are the same bytes but the
records of training, STAGE.json, which have the time. The runs take nine minutes of one core, two
thirds of it for what is about training; OUT has 0.9 GB.
"""

from __future__ import annotations

import argparse
import csv
import filecmp
import functools
import importlib.util
import io
import json
import lzma
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import soundfile
from safetensors import safe_open

TOLERANCE = 1e-6  # of numbers in files whose bytes differ
MOST_PARTS = 5  # of a file that a row names
INPUTS, CACHE, DONE = "inputs", "cache", "done.json"  # in OUT, in OUT, and in the folder of a run

# ------------------------------------------------------------------------------------------ inputs

SPEECH, MORE_SPEECH = (0.0, 1.7), (1.7, 2.6)  # s of the example that are spoken, from … to
LANDMARK_FRAMES = 40
FILMS = ("bbaf3s.mpg", "lgbf8n.mpg")  # of DATA/video/grid
ACTORS = (1, 2, 20)  # of RAVDESS; the last one is of the dev split
# Clips of the tracked corpora. The first one of grid_s1, and p004, 05 and actor04, are of the dev
# split.
CLIPS = {
    "grid_s1": ("bbaf2n", "bbaf3s", "bbaf4p", "bbaf5a", "bbal6n"),
    "talking": ("vlog_001", "vlog_002", "vlog_004"),
    "arabic_news": ("spk01_000", "spk01_001", "spk02_000", "spk02_001", "spk05_000", "spk05_001"),
    "java_sed": (*(f"01-01-0{emotion}_01" for emotion in range(1, 7)), "04-01-01_01"),
}
TAKES = ("2_01", "3_15")  # of facegood; the second one is of the dev split
UTTERANCES, LONGEST = 2, 6.0  # of each set of speech, and s of one of them
TIMELINE = "0.0 0.7 happy 0.8\n0.7 1.3 happy:0.3,surprised:0.7\n1.5 1.7 angry\n"
PHONES = {
    "anim": [["SIL", 0.0, 0.2], ["P", 0.2, 0.3], ["AA", 0.3, 0.6], ["M", 0.6, 0.7], ["F", 0.9, 1.0]]
}
KEY = {
    "study": "0123456789abcdef",
    "methods": ["ours", "theirs"],
    "queries": {
        "0": {"left": "ours", "right": "theirs", "film": "hello_happy"},
        "1": {"left": "theirs", "right": "ours", "film": "hello_sad"},
    },
}
ANSWERS = (("left", "right", "none"), ("left", "left", "right"))  # of each participant's pairs


def make_inputs(folder: Path, data: Path) -> None:
    """Write what the runs read, and nothing if it is there.

    Parameters
    ----------
    folder : Path
        The folder of the inputs.
    data : Path
        The folder of the corpora.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    mask = Path("examples/mask.obj")  # earlier versions name it face.obj
    shutil.copyfile(mask if mask.exists() else mask.with_name("face.obj"), partial / "face.obj")
    for mesh in ("makehuman_base", "mediapipe_canonical"):
        shutil.copyfile(data / "meshes" / f"{mesh}.obj", partial / f"{mesh}.obj")
    samples, rate = soundfile.read("examples/speech.wav", dtype="int16")
    for name, (start, end) in (("short", SPEECH), ("more", MORE_SPEECH)):
        part = samples[int(start * rate) : int(end * rate)]
        soundfile.write(partial / f"{name}.wav", part, rate, subtype="PCM_16")
        (partial / f"{name}.raw").write_bytes(part.tobytes())
    (partial / "timeline.txt").write_text(TIMELINE, "utf-8")
    (partial / "phones.json").write_text(json.dumps(PHONES), "utf-8")
    (partial / "mask.txt").write_text("\n".join(str(vertex) for vertex in range(100)), "utf-8")
    make_films(partial, data)
    make_study(partial / "study")
    make_corpora(partial / "data", data)
    partial.rename(folder)


def make_films(folder: Path, data: Path) -> None:
    """Write films, a photograph and landmarks of people.

    Parameters
    ----------
    folder : Path
        Where they are written.
    data : Path
        The folder of the corpora.
    """
    (folder / "films").mkdir()
    for name in FILMS:
        shutil.copyfile(data / "video" / "grid" / name, folder / "films" / name)
    first = next(iter(imageio.imiter(folder / "films" / FILMS[0], plugin="FFMPEG")))
    imageio.imwrite(folder / "photo.png", first)
    with np.load(data / "ravdess" / "landmarks" / "Actor_01.npz") as trials:
        trial = trials[sorted(trials.files)[0]]
    np.savez(folder / "landmarks.npz", landmarks=trial[:LANDMARK_FRAMES])


def make_study(folder: Path) -> None:
    """Write the key of a study of two pairs, and the answers of two participants.

    Parameters
    ----------
    folder : Path
        The folder of the study.
    """
    folder.mkdir()
    (folder / "key.json").write_text(json.dumps(KEY), "utf-8")
    questions = ("realism", "content", "emotion")
    for number, choices in enumerate(ANSWERS):
        answers = [{"query": query, **dict(zip(questions, choices))} for query in ("0", "1")]
        told = {"study": KEY["study"], "participant": f"p{number}", "answers": answers}
        (folder / f"answers_{number}.json").write_text(json.dumps(told), "utf-8")


def make_corpora(folder: Path, data: Path) -> None:
    """Write a little of every corpus that is trained on.

    Parameters
    ----------
    folder : Path
        The folder of the little corpora.
    data : Path
        The folder of the whole ones.
    """
    for actor in ACTORS:
        copy_actor(data / "ravdess", folder / "ravdess", actor)
    for corpus, clips in CLIPS.items():
        copy_clips(data / corpus, folder / corpus, clips)
    copy_takes(data / "facegood", folder / "facegood")
    copy_utterances(data / "speech", folder / "speech")
    for name in ("ict_facekit/model.npz", "meshes/mediapipe_canonical.obj"):
        copy(data, folder, name)


def copy(source: Path, target: Path, name: str) -> None:
    """Copy a file from one folder to another.

    Parameters
    ----------
    source, target : Path
        The folders.
    name : str
        The file's path within both.
    """
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, target / name)


def copy_actor(source: Path, target: Path, actor: int) -> None:
    """Copy a recording of each emotion, and a second neutral one, of an actor of RAVDESS.

    Parameters
    ----------
    source, target : Path
        The folders of the corpus.
    actor : int
        The actor's number.
    """
    name = f"Actor_{actor:02d}"
    with np.load(source / "landmarks" / f"{name}.npz") as trials:
        of_emotion: dict[str, list[str]] = {}
        for key in sorted(trials.files):
            of_emotion.setdefault(key.split("-")[1], []).append(key)
        keys = [of_emotion["01"][-1], *(keys[0] for keys in of_emotion.values())]
        chosen = {key: trials[key] for key in sorted(keys)}
    (target / "landmarks").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target / "landmarks" / f"{name}.npz", **chosen)
    for key in chosen:
        copy(source, target, f"audio/{name}/{key}.flac")


@functools.lru_cache
def points_of(folder: Path) -> np.ndarray:
    """The points of a tracked corpus.

    Parameters
    ----------
    folder : Path
        The corpus.

    Returns
    -------
    ndarray, shape (P, 3, T), int16
        In sixteenths of a pixel.
    """
    with lzma.open(folder / "xyz.npy.xz") as file:
        differences = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return np.cumsum(differences, axis=-1, dtype=np.int16)


def copy_clips(source: Path, target: Path, clips: tuple[str, ...]) -> None:
    """Copy clips of a tracked corpus.

    Parameters
    ----------
    source, target : Path
        The folders of the corpus.
    clips : tuple of str
        Their names.
    """
    target.mkdir(parents=True)
    with np.load(source / "tracks.npz", allow_pickle=False) as tracks:
        names, start = [str(name) for name in tracks["clips"]], tracks["start"]
        numbers = [names.index(clip) for clip in clips]
        frames = [np.arange(start[number], start[number + 1]) for number in numbers]
        every = np.concatenate(frames)
        ends = np.cumsum([0, *map(len, frames)])
        own = {"clips": np.array(clips), "start": ends, "index": tracks["index"]}
        np.savez(target / "tracks.npz", **own, time=tracks["time"][every])
    points = points_of(source)[..., every]
    table = io.BytesIO()
    np.save(table, np.diff(points, axis=-1, prepend=np.int16(0)))
    (target / "xyz.npy.xz").write_bytes(lzma.compress(table.getvalue()))
    if (source / "clips.tsv").is_file():
        copy(source, target, "clips.tsv")
    for clip in clips:
        copy(source, target, f"audio/{clip}.ogg")
        if (source / "align").is_dir():
            copy(source, target, f"align/{clip}.align")


def copy_takes(source: Path, target: Path) -> None:
    """Copy takes of facegood.

    Parameters
    ----------
    source, target : Path
        The folders of the corpus.
    """
    for take in TAKES:
        copy(source, target, f"audio/{take}.ogg")
    with np.load(source / "curves.npz", allow_pickle=False) as curves:
        np.savez(target / "curves.npz", **{key: curves[key] for key in ("names", "fps", *TAKES)})


def copy_utterances(source: Path, target: Path) -> None:
    """Copy the first short utterances of each set of speech.

    Parameters
    ----------
    source, target : Path
        The folders with transcripts.tsv.
    """
    count: dict[str, int] = {}
    with (source / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        lines = ["\t".join(rows.fieldnames or [])]
        for row in rows:
            if float(row["seconds"]) <= LONGEST and count.get(row["set"], 0) < UTTERANCES:
                count[row["set"]] = count.get(row["set"], 0) + 1
                copy(source, target, row["file"])
                lines.append("\t".join(row.values()))
    (target / "transcripts.tsv").write_text("\n".join(lines) + "\n", "utf-8")


# -------------------------------------------------------------------------------------------- runs

EVERY_FORMAT = "-o anim.npz -o anim.glb -o anim.usda -o anim.csv -o anim.html -o anim.mp4"


@dataclass(frozen=True)
class Run:
    """A run: commands in a folder of their own.

    Attributes
    ----------
    name : str
        Of the run, and of its folder in OUT.
    commands : tuple of str
        Command lines without the program's name. The run's folder is the current one.
    needs : tuple of str
        Names of runs whose files are read, which need none themselves.
    stdin : str
        A file that the commands get by their standard input; none if empty.
    """

    name: str
    commands: tuple[str, ...]
    needs: tuple[str, ...] = ()
    stdin: str = ""


def all_runs() -> list[Run]:
    """All runs, those that others need before them.

    Returns
    -------
    list of Run
    """
    return [
        *runs_of_animate(),
        *runs_of_streams(),
        *runs_of_animations(),
        *runs_of_reconstruct(),
        *runs_of_tools(),
        *runs_of_training(),
    ]


def runs_of_animate() -> list[Run]:
    """The runs of animate that write files.

    Returns
    -------
    list of Run
    """
    emotions = {"neutral": "neutral", "happy": "happy", "mix": "angry:0.6,surprised:0.4"}
    meshes = {"face": "face", "makehuman": "makehuman_base", "mediapipe": "mediapipe_canonical"}
    runs = []
    for short, mesh in meshes.items():
        for kind, emotion in emotions.items():
            name = f"animate-{short}-{kind}"
            outputs = EVERY_FORMAT if name == "animate-face-happy" else "-o anim.npz"
            of_mesh = f"animate ../inputs/{mesh}.obj ../inputs/short.wav --seed 3 --fps 30"
            runs.append(Run(name, (f"{of_mesh} --emotion {emotion} {outputs}",)))
    face = "../inputs/face.obj"
    of_face = f"animate {face} ../inputs/short.wav --seed 3 --fps 30"
    many = f"animate {face} ../inputs/short.wav ../inputs/more.wav --fps 20 --emotion calm --json"
    hints = "--no-cache --up y --forward z --emotion disgust --intensity 1.3 --size 256x320"
    still = "--blink 20 --head off --gaze off"
    return [
        *runs,
        Run("animate-baked", (f"{of_face} --emotion happy --bake -o anim.glb -o anim.usda",)),
        Run("animate-obj", (f"{of_face} --fps 10 --emotion happy -o frames",)),
        Run("animate-ply", (f"{of_face} --fps 10 --emotion happy --sequence ply -o frames",)),
        Run("animate-timeline", (f"{of_face} --timeline ../inputs/timeline.txt -o anim.npz",)),
        Run("animate-style", (f"{of_face} --style grid_s1_s1 -o anim.npz --json",)),
        Run("animate-blink", (f"{of_face} {still} -o anim.npz -o anim.csv",)),
        Run("animate-free", (f"{of_face} --weights free --emotion fearful -o anim.npz",)),
        Run("animate-hints", (f"{of_face} {hints}",)),  # into the film that it writes by default
        Run("animate-many", (f"{many} -o many --format npz --format csv",)),
        Run("animate-jobs", (f"{many} -o many --format npz --jobs 2",)),
    ]


def runs_of_streams() -> list[Run]:
    """The runs of animate --stream.

    Returns
    -------
    list of Run
    """
    stream = "--stream --emotion sad --seed 3"
    of_file = f"animate ../inputs/face.obj ../inputs/short.wav {stream}"
    of_stdin = f"animate ../inputs/face.obj - {stream}"
    raw = "--raw 22050 --head off --gaze off"  # to standard output
    return [
        Run("stream-jsonl", (f"{of_file} -o stream.jsonl",)),
        Run("stream-vertices", (f"{of_file} --format vertices -o stream.vertices",)),
        Run("stream-stdin", (f"{of_stdin} -o stream.jsonl",), stdin="../inputs/short.wav"),
        Run("stream-raw", (f"{of_stdin} {raw}",), stdin="../inputs/short.raw"),
    ]


def runs_of_animations() -> list[Run]:
    """The runs that change, draw and compare animations.

    Returns
    -------
    list of Run
    """
    happy, neutral = "../animate-face-happy/anim", "../animate-face-neutral/anim"
    draw, draw_glb = f"render {happy}.npz --size 256", f"render {happy}.glb --size 256"
    pictures = (
        f"{draw} --sheet -o sheet.png",
        f"{draw} --heatmap -o heatmap.png",
        f"{draw} --compare {neutral}.npz -o compare.png",
        f"{draw} --compare {neutral}.npz --heatmap -o compare_heatmap.png",
        f"{draw} --wireframe --no-fill -o wireframe.png",
        f"{draw_glb} --view side --time 0.5 --caption happy -o side.png",
        f"render {happy}.npz --size 160 --turntable -o turn.gif",
        f"render {happy}.npz --size 160x200 --audio ../inputs/short.wav -o film.mp4",
    )
    compare = f"evaluate {happy}.npz {neutral}.npz"
    of_happy = ("animate-face-happy",)
    both = ("animate-face-happy", "animate-face-neutral")
    return [
        Run("transfer-npz", (f"transfer {happy}.npz --emotion sad -o anim.npz",), of_happy),
        Run("transfer-glb", (f"transfer {happy}.glb --emotion sad -o anim.npz",), of_happy),
        Run(
            "transfer-obj",
            (
                "transfer ../animate-obj/frames --fps 10 --neutral ../inputs/face.obj "
                "--emotion sad --intensity 0.7 -o anim.npz",
            ),
            ("animate-obj",),
        ),
        Run(
            "transfer-timeline",
            (f"transfer {happy}.npz --timeline ../inputs/timeline.txt -o anim.npz -o anim.glb",),
            of_happy,
        ),
        Run("transfer-neutral", (f"transfer {happy}.npz --emotion neutral",), of_happy),
        Run("render", pictures, both),
        Run(
            "evaluate-pair",
            (
                f"{compare} -o metrics.csv",
                f"{compare} --phones ../inputs/phones.json --mask ../inputs/mask.txt --json",
                f"{compare} --neutral ../inputs/face.obj -o metrics.png",
                "evaluate ../animate-many/many ../animate-jobs/many -o folders.csv",
            ),
            (*both, "animate-many", "animate-jobs"),
        ),
    ]


def runs_of_reconstruct() -> list[Run]:
    """The runs of reconstruct.

    Returns
    -------
    list of Run
    """
    film = f"reconstruct ../inputs/films/{FILMS[0]}"
    onto = "--onto ../inputs/face.obj"
    return [
        Run(
            "reconstruct-landmarks",
            (
                "reconstruct ../inputs/landmarks.npz --fps 29.97 --neutral person.ply "
                "-o anim.npz --json",
            ),
        ),
        Run("reconstruct-film", (f"{film} --preview preview.mp4 -o anim.npz",)),
        Run("reconstruct-onto", (f"{film} {onto} -o anim.npz -o anim.csv",)),
        Run(
            "reconstruct-sad",
            (f"{film} {onto} --emotion sad --head --sync auto --fov 65 -o anim.npz",),
        ),
        Run("reconstruct-photo", ("reconstruct ../inputs/photo.png -o anim.npz",)),
        Run(
            "reconstruct-curves",
            (f"reconstruct ../animate-face-happy/anim.csv {onto} -o anim.npz",),
            ("animate-face-happy",),
        ),
        Run(
            "reconstruct-films",
            ("reconstruct ../inputs/films --corpus folder --sync auto -o films --json",),
        ),
        Run(
            "reconstruct-corpora",
            ("reconstruct ../inputs/data/ravdess ../inputs/data/grid_s1 -o captures --json",),
        ),
    ]


def runs_of_tools() -> list[Run]:
    """The runs of bind, geomap, study and weights.

    Returns
    -------
    list of Run
    """
    answers = " ".join(f"../inputs/study/answers_{k}.json" for k in range(len(ANSWERS)))
    return [
        Run(
            "bind",
            tuple(
                f"bind ../inputs/{mesh}.obj --no-cache -o {mesh}.npz -o {mesh}.png --json"
                for mesh in ("face", "makehuman_base")
            ),
        ),
        Run(
            "animate-bound",
            (
                "animate ../inputs/makehuman_base.obj ../inputs/more.wav --fps 30 "
                "--binding ../bind/makehuman_base.npz -o anim.npz",
            ),
            ("bind",),
        ),
        Run(
            "geomap",
            (
                "geomap ../inputs/face.obj -o map.npz --json",
                "geomap ../inputs/face.obj -o map.png",
                "geomap map.npz -o back.obj",
            ),
        ),
        Run("study-tally", (f"study tally ../inputs/study {answers} -o preferences.png --json",)),
        Run("weights", ("weights list --json", "weights list", "weights verify --json")),
    ]


def runs_of_training() -> list[Run]:
    """The runs that train, and those that measure what was trained.

    Returns
    -------
    list of Run
    """
    train = "train {} --data ../inputs/data --seed 0 --jobs 1 -o {}"
    steps = {"speech": 4, "lips": 4, "talking": 4, "emotion": 6}
    of_set = [f"{train.format(stage, 'set')} --steps {count}" for stage, count in steps.items()]
    again = f"{train.format('talking', 'set')} --steps {steps['talking']} --resume --json"
    variants = {
        "paper": "--paper --constant-weights",
        "log-mel": "--log-mel --hold-out 2",
        "start": "--weights default --freeze-encoder",
        "free": "--free",
    }
    of_variants = [
        f"{train.format('talking', name)} --steps 2 {options}" for name, options in variants.items()
    ]
    dev = "evaluate --data ../inputs/data --jobs 1 --captures ../train/set/captures"
    trained = "--weights ../train/set"
    return [
        Run("train-face", (train.format("face", "set"),)),
        Run("train", (train.format("capture", "set"), *of_set, again)),
        Run("train-variants", tuple(of_variants)),
        Run(
            "trained",
            (
                "weights verify ../train/set",
                f"animate ../inputs/face.obj ../inputs/more.wav {trained} --emotion sad "
                "--fps 30 -o anim.npz",
            ),
            ("train",),
        ),
        Run(
            "evaluate-dev",
            (
                f"{dev} --split dev {trained} --against default --json",
                f"{dev} --split dev -o metrics.csv",
                f"{dev} --split train -o confusion.png",
            ),
            ("train",),
        ),
        Run("paper", (f"{dev} --suite paper --seeds 1 --steps 3 -o paper --json",), ("train",)),
    ]


def chosen_runs(only: list[str]) -> list[Run]:
    """The runs of some names, with those that they need.

    Parameters
    ----------
    only : list of str
        Names of runs, or their beginnings; all runs if empty.

    Returns
    -------
    list of Run
    """
    runs = {run.name: run for run in all_runs()}
    unknown = [name for name in only if not any(run.startswith(name) for run in runs)]
    if unknown:
        sys.exit(f"no run is called {', '.join(unknown)}; there are {', '.join(runs)}")
    wanted = {name for name in runs if not only or name.startswith(tuple(only))}
    needed = {need for name in wanted for need in runs[name].needs}
    return [run for name, run in runs.items() if name in wanted | needed]


def environment(out: Path) -> dict[str, str]:
    """What the commands find in their environment.

    Parameters
    ----------
    out : Path
        The folder of the runs.

    Returns
    -------
    dict of str
        One thread, no GPU, a cache of its own, and the talkemo that this script finds.
    """
    found = importlib.util.find_spec("talkemo")
    if found is None or found.origin is None:
        sys.exit("Python does not find talkemo: install it, or name its folder in PYTHONPATH")
    print(f"runs of {found.origin}", flush=True)
    paths = (str(Path(found.origin).parents[1]), os.environ.get("PYTHONPATH", ""))
    threads = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return {
        **os.environ,
        **{f"{library}_NUM_THREADS": "1" for library in threads},
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TALKEMO_CACHE": str(out / CACHE),
        # Weights name the commit that made them: as outside a repository, that is always the same.
        "GIT_DIR": str(out / "no_repository"),
    }


def make_runs(out: Path, data: Path, only: list[str]) -> int:
    """Make the runs that are not there yet.

    Parameters
    ----------
    out : Path
        The folder of the runs.
    data : Path
        The folder of the corpora.
    only : list of str
        See `chosen_runs`.

    Returns
    -------
    int
        How many runs failed.
    """
    runs, settings = chosen_runs(only), environment(out)
    make_inputs(out / INPUTS, data)
    failed = 0
    for run in runs:
        folder = out / run.name
        if (folder / DONE).is_file():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        start = time.monotonic()
        error = make_run(run, folder, settings)
        seconds = round(time.monotonic() - start, 1)
        if error:
            failed += 1
            print(f"{run.name}: FAILED, {error}", flush=True)
        else:
            (folder / DONE).write_text(json.dumps({"seconds": seconds}), "utf-8")
            print(f"{run.name}: {seconds} s", flush=True)
    return failed


def make_run(run: Run, folder: Path, settings: dict[str, str]) -> str:
    """Do the commands of a run, and keep what they print in NUMBER.out.txt and NUMBER.err.txt.

    Parameters
    ----------
    run : Run
        The run.
    folder : Path
        Its folder.
    settings : dict of str
        Of the commands' environment.

    Returns
    -------
    str
        Which command failed, and why; empty where none did.
    """
    for number, command in enumerate(run.commands, 1):
        arguments = [sys.executable, "-m", "talkemo_cli", *shlex.split(command)]
        given = (folder / run.stdin).read_bytes() if run.stdin else b""
        done = subprocess.run(
            arguments, cwd=folder, env=settings, input=given, capture_output=True, check=False
        )
        (folder / f"{number}.out.txt").write_bytes(done.stdout)
        (folder / f"{number}.err.txt").write_bytes(done.stderr)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            return f"exit status {done.returncode} of talkemo {command}\n{said}"
    return ""


# ----------------------------------------------------------------------------------------- reading

# Keys of JSON objects and of lines of a registry that tell of the time, the machine or the commit;
# the last five are digests and sizes of files, or of settings, that a commit is part of.
IGNORED = (
    *("minutes", "processor_minutes", "peak_memory_mb", "commit", "torch", "talkemo", "generator"),
    *("origin", "results", "inputs", "sha256", "bytes"),
)
# What is left out of texts before they are compared.
MASKS = (
    re.compile(rf"(?m)^({'|'.join(IGNORED)}) = .*$"),  # lines of a registry
    re.compile(r'"talkemo": ?"[^"]*"'),  # of a stream's first line
    re.compile(r"talkemo \d+\.\d+[\w.+]*"),
    re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*"),  # absolute paths
    re.compile(r"\A[0-9a-f]{12}\n?\Z"),  # a digest in a file of its own, of settings and a commit
)
NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}  # of GLB
PICTURES, MOVING = (".png", ".jpg"), (".mp4", ".gif")
PAGE_DATA = re.compile(rb'<script id="data" type="application/json">(.*?)</script>', re.DOTALL)


def read_parts(path: Path) -> dict[str, Any]:
    """What a file holds, as far as it is to be compared.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Arrays, texts and JSON values by their names.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if ending == ".npy":
        return {"array": np.load(path, allow_pickle=False)}
    if ending == ".safetensors":
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {**tensors, "metadata": file.metadata() or {}}
    if ending in PICTURES:
        return {"pixels": imageio.imread(path)}
    if ending in MOVING:
        return {"pixels": np.stack(list(imageio.imiter(path)))}
    content = path.read_bytes()
    if ending == ".glb":
        return parts_of_glb(content)
    if ending == ".ply":
        return parts_of_ply(content)
    if ending == ".vertices":
        return parts_of_stream(content)
    if ending == ".json":
        return {"json": json.loads(content)}
    if ending == ".html" and (data := PAGE_DATA.search(content)):
        return {"json": json.loads(data[1])}
    try:
        return {"text": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"bytes": np.frombuffer(content, np.uint8)}


def parts_of_glb(content: bytes) -> dict[str, Any]:
    """The JSON and the buffer views of a GLB.

    Parameters
    ----------
    content : bytes
        Of the file.

    Returns
    -------
    dict
        Buffer views as numbers where an accessor says of which type, else as bytes.
    """
    (length,) = struct.unpack_from("<I", content, 12)
    about, binary = json.loads(content[20 : 20 + length]), content[28 + length :]
    kinds: dict[int, str] = {}
    for accessor in about.get("accessors", []):
        sparse = accessor.get("sparse", {})
        for part in (accessor, {**accessor, **sparse.get("values", {})}, sparse.get("indices", {})):
            if "bufferView" in part:
                kinds[part["bufferView"]] = COMPONENTS[part["componentType"]]
    parts: dict[str, Any] = {"json": about}
    for number, view in enumerate(about.get("bufferViews", [])):
        start = view.get("byteOffset", 0)
        own = binary[start : start + view["byteLength"]]
        parts[f"view {number}"] = np.frombuffer(own, kinds.get(number, "u1"))
    return parts


def parts_of_ply(content: bytes) -> dict[str, Any]:
    """The header, the vertices and the rest of a binary PLY as talkemo writes it.

    Parameters
    ----------
    content : bytes
        Of the file.

    Returns
    -------
    dict
    """
    end = b"end_header\n"
    header, _, body = content.partition(end)
    found = re.search(rb"element vertex (\d+)", header)
    size = 12 * int(found[1]) if found else 0
    rest = np.frombuffer(body[size:], np.uint8)
    vertices = np.frombuffer(body[:size], "<f4")
    return {"header": header.decode("ascii"), "vertices": vertices, "faces": rest}


def parts_of_stream(content: bytes) -> dict[str, Any]:
    """The first line, the times and the vertices of a stream of vertices.

    Parameters
    ----------
    content : bytes
        Of the file.

    Returns
    -------
    dict
    """
    line, _, body = content.partition(b"\n")
    about = json.loads(line)
    frames = np.frombuffer(body, [("time", "<f8"), ("vertices", "<f4", (about["vertices"], 3))])
    return {"json": about, "time": frames["time"], "vertices": frames["vertices"]}


# --------------------------------------------------------------------------------------- comparing


def difference(a: Any, b: Any) -> float:
    """The largest difference of a number in two values.

    Parameters
    ----------
    a, b : array, JSON value or str
        The values. Texts that are JSON objects are compared as such, without what is IGNORED.

    Returns
    -------
    float
        Infinity where anything else than a number differs.
    """
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return difference_of_arrays(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        names = [name for name in a if name not in IGNORED]
        if names != [name for name in b if name not in IGNORED]:
            return np.inf
        return max((difference(a[name], b[name]) for name in names), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(difference, a, b), default=0.0)
    if isinstance(a, str) and isinstance(b, str):
        return difference_of_texts(a, b)
    if isinstance(a, int | float) and isinstance(b, int | float) and type(a) is type(b):
        return difference_of_arrays(np.array(float(a)), np.array(float(b)))
    return 0.0 if a is None and b is None else np.inf


def difference_of_arrays(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays.

    Parameters
    ----------
    a, b : ndarray
        The arrays, of numbers or texts. NaN is equal to NaN.

    Returns
    -------
    float
        Infinity where their shapes or types differ.
    """
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return np.inf
    if a.dtype.kind == "U":
        return max(map(difference_of_texts, a.ravel().tolist(), b.ravel().tolist()), default=0.0)
    if a.dtype != b.dtype:
        return np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    apart = np.abs(a[differs] - b[differs])
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def difference_of_texts(a: str, b: str) -> float:
    """The largest difference of a number in two texts that are equal otherwise.

    Parameters
    ----------
    a, b : str
        The texts; JSON objects are compared as such.

    Returns
    -------
    float
        Infinity where anything else than a number differs, without what is masked.
    """
    if a == b:
        return 0.0
    if a.startswith("{") and b.startswith("{"):
        try:
            return difference(json.loads(a), json.loads(b))
        except json.JSONDecodeError:
            pass  # a text that begins like one, or several lines of JSON
    for mask in MASKS:
        a, b = mask.sub("…", a), mask.sub("…", b)
    parts_a, parts_b = NUMBER.split(a), NUMBER.split(b)
    if parts_a[::2] != parts_b[::2]:
        return np.inf
    apart = (abs(float(x) - float(y)) for x, y in zip(parts_a[1::2], parts_b[1::2]) if x != y)
    return max(apart, default=0.0)


def compare_files(a: Path, b: Path) -> tuple[float, str]:
    """How much two files differ.

    Parameters
    ----------
    a, b : Path
        The files.

    Returns
    -------
    difference : float
        The largest difference of a number; infinity where anything else differs.
    about : str
        `same bytes`, `equal`, or what differs by how much, the largest differences first.
    """
    for path, side in ((a, "A"), (b, "B")):
        if not path.is_file():
            return np.inf, f"not in {side}"
    if filecmp.cmp(a, b, shallow=False):
        return 0.0, "same bytes"
    first, second = read_parts(a), read_parts(b)
    found: dict[str, float] = {}
    for name in (*first, *(name for name in second if name not in first)):
        both = name in first and name in second
        found[name] = difference(first[name], second[name]) if both else np.inf
    differing = sorted((name for name in found if found[name]), key=lambda name: -found[name])
    parts = [f"{name} {found[name]:.3g}" for name in differing[:MOST_PARTS]]
    if len(differing) > MOST_PARTS:
        parts.append(f"and {len(differing) - MOST_PARTS} more")
    return max(found.values(), default=0.0), ", ".join(parts) or "equal"


def files_of(out: Path) -> Iterator[str]:
    """The files of a folder of runs that are to be compared.

    Parameters
    ----------
    out : Path
        The folder of the runs.

    Yields
    ------
    str
        A file's path within the folder.
    """
    for path in out.rglob("*"):
        is_made = path.name != DONE and not path.name.startswith("events.out.tfevents.")
        is_made = is_made and not path.name.endswith(".err.txt")
        if path.is_file() and is_made:
            yield path.relative_to(out).as_posix()


def compare(a: Path, b: Path, only: list[str]) -> int:
    """Print a row for each file of two folders of runs.

    Parameters
    ----------
    a, b : Path
        The folders.
    only : list of str
        Names of runs, or their beginnings; everything if empty.

    Returns
    -------
    int
        How many files differ by more than TOLERANCE or are missing.
    """
    names = sorted({*files_of(a), *files_of(b)})
    names = [name for name in names if not only or name.startswith(tuple(only))]
    width = max(map(len, names), default=0)
    wrong = []
    for name in names:
        apart, about = compare_files(a / name, b / name)
        if apart > TOLERANCE:
            wrong.append(name)
        print(f"{'DIFFERS' if apart > TOLERANCE else '':<8}{name:<{width}}  {about}")
    print(f"{len(names)} files, {len(wrong)} of them differ", *wrong, sep="\n  ")
    return len(wrong)


def main() -> None:
    """Parse the command line, and make the runs or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make the runs that are not there yet")
    run.add_argument("out", type=Path)
    run.add_argument("--data", type=Path, required=True, help="the folder of the corpora")
    both = commands.add_parser("compare", help="compare two folders of runs")
    both.add_argument("a", type=Path)
    both.add_argument("b", type=Path)
    for one in (run, both):
        one.add_argument("--only", nargs="+", default=[], metavar="NAME", help="or its beginning")
    given = parser.parse_args()
    if given.command == "run":
        sys.exit(1 if make_runs(given.out.resolve(), given.data.resolve(), given.only) else 0)
    for folder in (given.a, given.b):
        if not folder.is_dir():
            sys.exit(f"{folder}: no such folder")
    sys.exit(1 if compare(given.a, given.b, given.only) else 0)


if __name__ == "__main__":
    main()
