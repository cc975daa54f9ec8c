"""Putting a set of weights on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .hub import MAIN, README, client, parse_address
from .models import check_set, open_set
from .registry import REGISTRY_NAME, write_registry


def push(folder: str | Path, text: str, private: bool = False, message: str | None = None) -> str:
    """Upload a folder's set of weights in one commit, and return the commit's URL. The repository is created if need be.

    Registry, the files that it lists, and README.md if there is one; a folder without a registry gets one. Every file is
    checked first: against the registry, and whether it can be used with the others or those of the default set.
    Raises InputError for a set or an address that cannot be used; TalkemoError where the Hub cannot be reached or fails.
    """
    repository, revision = parse_address(text)
    if revision is not None:
        raise InputError(
            f"{text}: weights are pushed to the branch {MAIN}", f"leave @{revision} out"
        )
    folder = Path(folder)
    own = open_set(folder)
    check_set(own)
    if not own.entries:
        write_registry(folder)
        own = open_set(folder)
    names = [REGISTRY_NAME, *(entry["file"] for entry in own.entries.values())]
    names += [README] if (folder / README).is_file() else []
    for name in names:
        own.check_inside(folder / name)
    with client(text) as hub:
        return hub.upload(
            repository, [folder / name for name in names], private, message or "Weights of talkemo"
        )
