"""talkemo weights: sets of weights, bundled, in a folder or on the Hugging Face Hub."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talkemo import InputError

from .console import console
from .options import command

if TYPE_CHECKING:
    from talkemo.weights.registry import WeightSet


class Action(str, Enum):
    """What to do with weights."""

    list = "list"
    fetch = "fetch"
    verify = "verify"
    push = "push"


@command("weights")
def weights(
    action: Annotated[
        Action,
        typer.Argument(
            help="list [SET]: its files. fetch SET: download it from the Hub. verify [SET]: check its files against its "
            "registry and each other. push FOLDER SET: upload a folder that talkemo train wrote.",
        ),
    ],
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="SET|FOLDER",
            help="A bundled set, a folder, or hf://owner/repository@revision. For list and verify all bundled sets "
            "where it is left out.",
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="SET", help="push: where to, as hf://owner/repository.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="push: create a private repository.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="push: what the commit says.")] = None,
) -> None:
    """List, download, check or publish sets of weights."""
    if second is not None and action is not Action.push:
        raise InputError(f"{action.value} takes one set", f"leave {second} out")
    if action is Action.fetch:
        fetch(first)
    elif action is Action.push:
        push(first, second, private, message)
    else:
        show(first, verify=action is Action.verify)


def show(name: str | None, verify: bool) -> None:
    """List a set, or all bundled sets; or check them."""
    from talkemo.weights.models import check_set, open_set
    from talkemo.weights.registry import bundled_sets

    sets = [open_set(each) for each in ([name] if name else bundled_sets())]
    for one in sets:
        if verify:
            check_set(one)
            what = "each fits the others" + (
                " and its checksum" if one.entries else "; no registry to check it against"
            )
            console.message(f"{printable(one.name)}: {len(one.stages)} files, {what}")
        else:
            rows = [
                [stage, f["file"], f["bytes"] / 1e6, f["licence"], f.get("commit", ""), f["about"]]
                for stage, f in listing(one).items()
            ]
            console.table(
                printable(one.name), ["stage", "file", "MB", "licence", "commit", "about"], rows
            )
    data = {"sets": {one.name: listing(one) for one in sets}, "verified": verify}
    console.result(data, [printable(one.name) for one in sets] if verify else [])


def fetch(name: str | None) -> None:
    """Download a set from the Hub, or what has changed of it."""
    from talkemo.weights import hub
    from talkemo.weights.registry import HUB_PREFIX

    if name is None or not name.startswith(HUB_PREFIX):
        raise InputError(
            f"{name or 'fetch'}: only sets on the Hub are fetched",
            "name one as hf://owner/repository",
        )
    with console.progress("fetching") as update:
        one = hub.fetch(name, update)
    files = listing(one)
    console.message(
        f"{printable(name)}: {len(files)} files, {sum(f['bytes'] for f in files.values()) / 1e6:.1f} MB"
    )
    console.result({"set": name, "folder": str(one.folder), "files": files}, [str(one.folder)])


def push(folder: str | None, name: str | None, private: bool, message: str | None) -> None:
    """Upload a folder's set to the Hub."""
    from talkemo.weights import hub

    if folder is None or name is None:
        raise InputError(
            "push needs a folder and where to", "talkemo weights push FOLDER hf://owner/repository"
        )
    commit = hub.push(Path(folder), name, private, message)
    console.result({"set": name, "folder": folder, "commit": commit}, [commit])


def listing(one: WeightSet) -> dict[str, dict[str, Any]]:
    """A set's files by stage, with bytes, licence and what they are; licences are empty where no registry gives any."""
    rows: dict[str, dict[str, Any]] = {}
    for stage in one.stages:
        path, entry = one.path(stage), one.entries.get(stage)
        assert path is not None
        if entry is None:
            size = path.stat().st_size
            rows[stage] = {"file": path.name, "bytes": size, "licence": "", "about": ""}
            continue
        texts = {"commit": entry.commit, "data": entry.data}
        rows[stage] = {
            "file": path.name,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "licence": printable(entry.licence or ""),
            "about": printable(entry.about or ""),
            **{key: printable(text) for key, text in texts.items() if text is not None},
            **({} if entry.seed is None else {"seed": entry.seed}),
        }
    return rows


def printable(text: str) -> str:
    """A text of somebody else's without what could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
