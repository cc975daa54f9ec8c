"""The command line of talkemo: where it is, its arguments, and what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "talkemo"
OWN_FACE = "-"  # in the place of a mesh: talkemo's own face, if only weights are wanted
PROGRESS_SECONDS = "1"  # between lines of progress
_PROGRESS = re.compile(r"animating: \d")
TOO_OLD = "this talkemo is too old for the add-on: install its current version"


@dataclass(frozen=True)
class Request:
    """What is to be animated, and how.

    Attributes
    ----------
    mesh : str
        Path of an OBJ, or OWN_FACE.
    sound, output : str
        Paths.
    fps : float
        Frames per second of the scene.
    emotion, intensity : str, float
        Used without a timeline.
    timeline : str
        Path of a text file; empty for none.
    style, device : str
    head : bool
        Whether the head moves.
    fill : bool
        Whether parts that the face lacks are added.
    more : str
        Further options as on a command line.
    """

    mesh: str
    sound: str
    output: str
    fps: float
    emotion: str = "neutral"
    intensity: float = 1.0
    timeline: str = ""
    style: str = ""
    device: str = "auto"
    head: bool = True
    fill: bool = False
    more: str = ""

    def arguments(self) -> list[str]:
        """Return the arguments for talkemo; raise ValueError for a quote without an end."""
        arguments = ["animate", self.mesh, self.sound, "-o", self.output, "--arrays", "shapes"]
        arguments += ["--fps", repr(round(self.fps, 6)), "--intensity", f"{self.intensity:g}"]
        if self.timeline:
            arguments += ["--timeline", self.timeline]
        else:
            arguments += ["--emotion", self.emotion]
        if self.style:
            arguments += ["--style", self.style]
        if not self.head:
            arguments += ["--head", "off"]
        if not self.fill:
            arguments += ["--fill", "off"]
        return [*arguments, "--device", self.device, *shlex.split(self.more)]


def program_in(folder: Path) -> Path:
    """Return where talkemo is in a virtual environment."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / program_name(PROGRAM)


def python_in(folder: Path) -> Path:
    """Return where Python is in a virtual environment."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / program_name("python")


def program_name(name: str) -> str:
    """Return a program's file name on this system."""
    return f"{name}.exe" if os.name == "nt" else name


def find_program(stated: str, own_folder: Path) -> str | None:
    """Return the talkemo to run; None if there is none.

    Parameters
    ----------
    stated : str
        The path from the preferences, of the program or the folder that contains it; empty for
        none. If it is stated, no other is used.
    own_folder : Path
        The add-on's own virtual environment. PATH comes after it.
    """
    if stated:
        path = Path(stated).expanduser()
        candidates = [path, path / program_name(PROGRAM), program_in(path)]
        return next((str(found) for found in candidates if found.is_file()), None)
    own = program_in(own_folder)
    return str(own) if own.is_file() else shutil.which(PROGRAM)


def environment() -> dict[str, str]:
    """Return the environment that talkemo runs in: this one, without a Python of Blender's."""
    result = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return {**result, "PYTHONUTF8": "1", "TALKEMO_PROGRESS_S": PROGRESS_SECONDS}


def install_commands(
    python: str, folder: Path, source: str, options: str = ""
) -> list[Sequence[str]]:
    """Return the commands that install talkemo into a virtual environment.

    Parameters
    ----------
    python : str
        The Python that makes the environment.
    folder : Path
        Of the environment; one that is there is brought up to date.
    source : str
        A checkout of talkemo, a wheel, or what else pip takes.
    options : str
        Further options of pip, as on a command line.

    Raises
    ------
    ValueError
        The options contain a quote without an end.
    """
    pip = [str(python_in(folder)), "-m", "pip", "--disable-pip-version-check"]
    return [
        [python, "-m", "venv", str(folder)],
        [*pip, "install", "--upgrade", *shlex.split(options), source],
    ]


def failure(status: int, messages: str) -> list[str]:
    """Return in lines why a run failed: what talkemo said, or its status and last message.

    `messages` is what it printed on stderr.
    """
    lines = [line.rstrip() for line in messages.splitlines() if line.strip()]
    starts = [k for k, line in enumerate(lines) if line.startswith(f"{PROGRAM}: ")]
    if not starts:
        return [f"talkemo ended with status {status}: {lines[-1] if lines else 'no message'}"]
    said = [line.strip() for line in lines[starts[-1] :]][:2]
    said[0] = said[0].removeprefix(f"{PROGRAM}: ")
    return [TOO_OLD] if "such option: --arrays" in said[0] else said


def facts(messages: str, output: str) -> list[str]:
    """Return the lines of messages that say something about a run's result.

    `output`: the path that talkemo prints when it is done.
    """
    lines = [line.strip() for line in messages.splitlines()]
    return [line for line in lines if line and line != output and not _PROGRESS.match(line)]


def last_line(messages: str) -> str:
    """Return the last line of messages that is not empty."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    return lines[-1] if lines else ""
