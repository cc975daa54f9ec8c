"""Every command that README and docs print: it runs as printed, or a reason says why not."""

import glob
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from talkemo_cli.app import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "weights/README.md")]
# Commands that the test does not run, and why. The first pattern that is found counts.
NOT_RUN = {
    r"first_run\.sh|run\.sh|lint\.sh|activate|pip|\bvenv\b|pre-commit|mkdocs|-m build": "installs or "
    "starts tools; .ci/run starts the tests' own script in a clean checkout",
    r"\bDATA\b|\bCAPTURES\b|\bRUN\b|\bmy_set\b": "needs the corpora, or what was trained on them",
    r"arecord|rtmp": "needs a microphone or a stream",
    r"talkemo live": "a server that runs until it is stopped; tests/test_live.py starts it",
    r"YOUR_|\bAVATAR\b|\bFOLDER\b|\bOUT/|\bMESH\b|\bHEAD\b|\bVIDEO\b": "names a file of the reader's own",
    r"benchmarks/|accelerate|torchrun|dask|--scheduler|openssl": "takes minutes, or several machines",
    r"examples/(quickstart|gallery|poster)\.py": "takes half a minute; tests/test_examples.py runs one",
}


def printed_commands(page: Path) -> list[str]:
    """The lines of a page's blocks of shell code, without comments, continuations joined."""
    blocks = re.findall(
        r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text("utf-8"), re.S | re.M
    )
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [
        line
        for line in commands
        if re.match(
            r"(talkemo|python|sh|printf|uv|pip|arecord|ffmpeg|accelerate|torchrun|\.|\.venv/\S+) ",
            line,
        )
    ]


def reason_not_to_run(command: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, short_speech, example_face):
    """A folder like a checkout after examples/first_run.sh, with a small face and short speech."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copyfile(short_speech, folder / "examples" / "speech.wav")
    shutil.copyfile(example_face, folder / "examples" / "face.obj")  # half of the vertices
    (folder / "out").mkdir()
    first = next(
        line
        for line in (ROOT / "examples" / "first_run.sh").read_text().splitlines()
        if "talkemo animate examples/" in line
    )
    run(first.removeprefix(".venv/bin/"), folder)
    return folder


def run(command: str, folder: Path) -> None:
    """Run a command in a folder: talkemo's in this process, others by the shell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = shlex.split(command)
        if words[0] == "talkemo" and "|" not in words:
            words = [match for word in words[1:] for match in sorted(glob.glob(word)) or [word]]
            assert main(words) == 0, command
            return
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        patch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_run_as_printed(page, checkout):
    for command in printed_commands(page):
        if reason_not_to_run(command):
            continue
        if "reconstruct" in command and importlib.util.find_spec("ai_edge_litert") is None:
            continue  # the extra video is not installed
        run(command, checkout)


def test_each_reason_not_to_run_a_command_is_needed():
    commands = [command for page in PAGES for command in printed_commands(page)]
    assert len(commands) > 40
    reasons = {reason_not_to_run(command) for command in commands}
    assert reasons - {None} == set(NOT_RUN.values())
