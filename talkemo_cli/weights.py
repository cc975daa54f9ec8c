"""talkemo weights: sets of weights, bundled, in a folder or on the Hugging Face Hub."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talkemo import InputError
from talkemo.files.reading import printable

from .console import console
from .options import command

if TYPE_CHECKING:
    from talkemo.weights.weight_set import WeightSet


LANDMARKER = "landmarker"  # not a set: MediaPipe's Face Landmarker, for videos


class WeightsAction(str, Enum):
    """The actions of `talkemo weights`."""

    list = "list"
    fetch = "fetch"
    verify = "verify"
    push = "push"


@command("weights")
def weights(
    action: Annotated[
        WeightsAction,
        typer.Argument(
            help="list [SET]: its files. fetch SET: download it from the Hub; fetch landmarker: "
            "download the networks that track faces in videos. verify [SET]: check "
            "its files against its registry and each other. push FOLDER SET: upload a folder that "
            "talkemo train wrote.",
        ),
    ],
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="SET|FOLDER",
            help="A bundled set, a folder, or hf://owner/repository@revision. list and verify use "
            "all bundled sets by default.",
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="SET", help="push: where to, as hf://owner/repository.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="push: create a private repository.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="push: message of the commit.")] = None,
) -> None:
    """List, download, check or publish sets of weights."""
    if second is not None and action is not WeightsAction.push:
        raise InputError(f"{action.value} takes one set", f"leave {second} out")
    if action is WeightsAction.fetch:
        fetch(first)
    elif action is WeightsAction.push:
        push(first, second, private, message)
    elif action is WeightsAction.verify:
        verify(first)
    else:
        show(first)


def _open_sets(name: str | None) -> list[WeightSet]:
    """A set, or all bundled sets."""
    from talkemo.weights.models import open_set
    from talkemo.weights.weight_set import bundled_sets

    return [open_set(each) for each in ([name] if name else bundled_sets())]


def show(name: str | None) -> None:
    """Print the files of a set, or of all bundled sets."""
    weight_sets = _open_sets(name)
    columns = ["stage", "file", "MB", "licence", "commit", "about"]
    for weight_set in weight_sets:
        rows = [
            [stage, f["file"], f["bytes"] / 1e6, f["licence"], f.get("commit", ""), f["about"]]
            for stage, f in listing(weight_set).items()
        ]
        console.table(printable(weight_set.name), columns, rows)
    data = {weight_set.name: listing(weight_set) for weight_set in weight_sets}
    console.result({"sets": data, "verified": False}, [])


def verify(name: str | None) -> None:
    """Check a set, or all bundled sets. Raises InputError for one that is damaged."""
    from talkemo.weights.models import check_set

    weight_sets = _open_sets(name)
    for weight_set in weight_sets:
        check_set(weight_set)
        checksums = (
            " and its checksum" if weight_set.entries else "; no registry to check it against"
        )
        console.message(
            f"{printable(weight_set.name)}: {len(weight_set.stages)} files, "
            f"each fits the others{checksums}"
        )
    data = {weight_set.name: listing(weight_set) for weight_set in weight_sets}
    names = [printable(weight_set.name) for weight_set in weight_sets]
    console.result({"sets": data, "verified": True}, names)


def fetch(name: str | None) -> None:
    """Download the landmark tracker, or a set from the Hub: the files of it that have changed."""
    from talkemo.capture.landmarker_bundle import fetch_landmarker, installed_landmarker
    from talkemo.weights import hub
    from talkemo.weights.registry import HUB_PREFIX

    if name == LANDMARKER:
        path = installed_landmarker() or fetch_landmarker()
        console.result({"file": str(path)}, [str(path)])
        return
    if name is None or not name.startswith(HUB_PREFIX):
        raise InputError(
            f"{name or 'fetch'}: only {LANDMARKER} and sets on the Hub are fetched",
            f"name {LANDMARKER}, or a set as hf://owner/repository",
        )
    with console.progress("fetching") as update:
        weight_set = hub.fetch(name, update)
    files = listing(weight_set)
    size = sum(file["bytes"] for file in files.values())
    console.message(f"{printable(name)}: {len(files)} files, {size / 1e6:.1f} MB")
    folder = str(weight_set.folder)
    console.result({"set": name, "folder": folder, "files": files}, [folder])


def push(folder: str | None, name: str | None, private: bool, message: str | None) -> None:
    """Upload a folder's set to the Hub."""
    from talkemo.weights import publish

    if folder is None or name is None:
        raise InputError(
            "push needs a folder and an address",
            "talkemo weights push FOLDER hf://owner/repository",
        )
    commit = publish.push(Path(folder), name, private, message)
    console.result({"set": name, "folder": folder, "commit": commit}, [commit])


def listing(weight_set: WeightSet) -> dict[str, dict[str, Any]]:
    """Return a set's files by stage; without a registry, licences and texts are empty."""
    rows: dict[str, dict[str, Any]] = {}
    for stage in weight_set.stages:
        path, entry = weight_set.path(stage), weight_set.entries.get(stage)
        assert path is not None
        if entry is None:
            size = path.stat().st_size
            rows[stage] = {"file": path.name, "bytes": size, "licence": "", "about": ""}
            continue
        row: dict[str, Any] = {"file": path.name, "bytes": entry.bytes, "sha256": entry.sha256}
        row["licence"] = printable(entry.licence or "")
        row["about"] = printable(entry.about or "")
        for key, text in (("commit", entry.commit), ("data", entry.data)):
            if text is not None:
                row[key] = printable(text)
        if entry.seed is not None:
            row["seed"] = entry.seed
        rows[stage] = row
    return rows
