"""Registries of weights: what a set holds.

A set's `registry.toml` lists the size and sha256 of each file, its licence and where it comes from.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files.cache import sha256
from ..files.reading import read_text, reading_errors
from ..files.writing import atomic_write
from .files import MAX_WEIGHTS_BYTES, WEIGHT_STAGES
from .names import DEFAULT_SET as DEFAULT_SET
from .names import HUB_PREFIX as HUB_PREFIX

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REGISTRY_NAME = "registry.toml"
MAX_REGISTRY_BYTES = 1 << 18
MAX_REGISTRY_DOTS = 256  # of a line
WEIGHTS_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")  # without a folder
# Licences of weights that may be used for any purpose. A run reports weights under other licences
# if they come from another set than the user named.
ANY_USE_LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "CC BY 4.0", "CC0 1.0", "ODbL 1.0")
# Corpora that may be used for any purpose. Weights that were trained on these alone are MIT.
ANY_USE_CORPORA = ("java_sed", "facegood", "speech")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Licence and description of each stage's weights, unless a registry or ANY_USE_CORPORA say
# otherwise.
LICENCES = {
    "face": ("MIT", "canonical face, bilinear model, geometry map"),
    "anatomy": ("MIT", "teeth, tongue and mouth socket of the canonical face"),
    "speech": ("MIT", "audio to speech features"),
    "talking": (
        "research and non-commercial use",
        "speech features to the motion of the canonical face",
    ),
    "emotion": ("CC BY-NC-SA 4.0", "emotion transfer on geometry maps"),
    "discriminator": (
        "CC BY-NC-SA 4.0",
        "what emotion transfer was trained against, for evaluation",
    ),
    "classifier": ("CC BY-NC-SA 4.0", "judge of generated emotions, for evaluation"),
    "voice": ("research and non-commercial use", "speech features to the emotion of a voice"),
}


@dataclass(frozen=True)
class RegistryEntry:
    """A weights file as its registry lists it. The fields are the keys of the TOML table."""

    file: str  # name in the registry's folder
    bytes: int
    sha256: str
    licence: str | None = None
    about: str | None = None
    # Commit, seed and data of the training, if known.
    commit: str | None = None
    seed: int | None = None
    data: str | None = None

    @classmethod
    def parse(cls, stage: str, table: Any) -> RegistryEntry:
        """Return the checked entry of a stage's TOML table. Raises ValueError."""
        if stage not in WEIGHT_STAGES or not isinstance(table, dict):
            raise ValueError(f"there is no stage called {stage!r}")
        name, size, digest = table.get("file"), table.get("bytes"), table.get("sha256")
        if not isinstance(name, str) or not WEIGHTS_FILE_NAME.fullmatch(name):
            raise ValueError(
                f"the file of {stage}, {name!r}, "
                "is not the name of a safetensors file in its folder"
            )
        if type(size) is not int or not 0 < size <= MAX_WEIGHTS_BYTES:
            raise ValueError(f"{name} has no size, or one beyond {MAX_WEIGHTS_BYTES >> 30} GiB")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise ValueError(f"{name} has no sha256")
        seed = table.get("seed")
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"the seed of {name} is not a number")
        texts = {key: table.get(key) for key in ("licence", "about", "commit", "data")}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError(f"the licence or the description of {name} is not a text")
        return cls(name, size, digest, seed=seed, **texts)

    def to_toml(self, stage: str) -> str:
        """Return the entry as a TOML table."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return "".join(
            [f"\n[{stage}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in values.items())]
        )


def read_registry(path: Path) -> dict[str, RegistryEntry]:
    """Return the entries of a registry by stage.

    Raises InputError if it cannot be read, or lists a file that is too large or outside its folder.
    """
    what, hint = "a registry of weights", "fetch or train the set again"
    with reading_errors(path, what, hint):
        text = read_text(path, what, hint, MAX_REGISTRY_BYTES, errors="strict")
        # tomllib's memory grows with the square of the number of keys in each other.
        if any(line.count(".") > MAX_REGISTRY_DOTS for line in text.splitlines()):
            raise ValueError(f"a line with more than {MAX_REGISTRY_DOTS} dots")
        tables = tomllib.loads(text)
        return {stage: RegistryEntry.parse(stage, table) for stage, table in tables.items()}


def write_registry(folder: Path) -> Path:
    """Write folder/registry.toml for the weights files in a folder, and return its path.

    An existing registry's licences and descriptions are kept. Commit, seed and data come from the
    file's header; if they are missing there, those of an unchanged file are kept.
    """
    path = folder / REGISTRY_NAME
    existing = read_registry(path) if path.is_file() else {}
    text = (
        "# Size and sha256 of each weights file; "
        "written by talkemo, checked whenever one is loaded.\n"
    )
    for stage in WEIGHT_STAGES:
        file = folder / f"{stage}.safetensors"
        if not file.is_file():
            continue
        size, digest = file.stat().st_size, sha256(file)
        licence, about = LICENCES[stage]
        origin = _origin_in_header(file)
        corpora = {part.split()[0] for part in str(origin.get("data") or "").split(",") if part}
        if corpora and corpora <= set(ANY_USE_CORPORA):
            licence = "MIT"
        licence = str(origin.pop("licence", licence))
        previous = existing.get(stage)
        if previous is not None:
            licence = licence if previous.licence is None else previous.licence
            about = about if previous.about is None else previous.about
            if previous.sha256 == digest:
                known = {key: getattr(previous, key) for key in ("commit", "seed", "data")}
                origin = known | origin
        text += RegistryEntry(file.name, size, digest, licence, about, **origin).to_toml(stage)
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")
    return path


def _origin_in_header(file: Path) -> dict[str, Any]:
    """Return commit, seed and data from the header of a weights file; empty if they are missing.

    The licence is among them if the training stated one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            origin = json.loads((opened.metadata() or {})["talkemo"])["made"]
        data = ", ".join(f"{name} {digest}" for name, digest in origin["data"].items())
        licence = {"licence": origin["licence"]} if "licence" in origin else {}
        return {
            "commit": str(origin["commit"]),
            "seed": int(origin["seed"]),
            "data": data,
            **licence,
        }
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return {}
