"""Systems other than Linux: what only POSIX offers must have a fallback."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Takes away what Windows lacks, imports every module, and animates. `os.name` and what libraries
# need on Linux stay.
WITHOUT_POSIX = """
import os, signal, sys
import imageio_ffmpeg, librosa, numpy, scipy.optimize, soundfile, torch, trimesh
for name in ("geteuid", "getgid", "getegid", "fork", "sched_getaffinity", "fchmod",
             "fchown", "chown", "mkfifo", "setsid", "killpg", "getpgid", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
for name in ("SIGHUP", "SIGPIPE", "SIGUSR1", "SIGALRM", "SIGKILL", "alarm", "setitimer"):
    delattr(signal, name)
for name in ("fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None

import importlib, pkgutil
import talkemo, talkemo_cli
for package in (talkemo, talkemo_cli):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

from talkemo_cli.app import main
sys.argv = ["talkemo", "animate", *sys.argv[1:]]
sys.exit(main())
"""


def test_nothing_depends_on_what_only_posix_offers(tmp_path, example_face, short_speech):
    out = [tmp_path / name for name in ("talk.npz", "talk.mp4", "talk.glb")]
    outputs = [word for path in out for word in ("-o", str(path))]
    command = [sys.executable, "-c", WITHOUT_POSIX, str(example_face), str(short_speech)]
    done = subprocess.run([*command, *outputs], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert all(path.is_file() for path in out)
