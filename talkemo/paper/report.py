"""The paper's tables and figures on one page, reproduced: `talkemo evaluate --suite paper`.

Each part is a file in the report's folder, with a digest of its inputs and of the code that made it.
Parts that are up to date are not computed again, so that an interrupted run continues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.captures import StepProgress
from ..errors import InputError
from ..files.artefact import Artefact, State
from ..files.cache import corpora_digests, digest, sha256
from ..files.reading import read_json_object
from ..files.writing import atomic_write
from ..weights.models import Models
from . import PAPER_SEEDS
from .code import code_digest
from .figure6 import figure6
from .figure7 import figure7
from .figures345 import figure3, figure4, figure5
from .options import PaperOptions
from .study import Preference, draw, tally
from .table1 import TABLE1_COLUMNS, table1
from .table2 import table2

REPORT_NAME = "report.html"
MAX_REPORT_PART_BYTES = 1 << 22  # of a part's JSON
PAPER_TABLE1 = {  # the paper's own numbers, by TABLE1_COLUMNS
    "constant": (1.573, 1.226, 7.728, 1.116),
    "local": (0.116, 0.087, 0.551, 0.114),
}


@dataclass(frozen=True)
class ReportPart:
    """A table or figure of the report."""

    name: str
    fingerprint: str  # digest of its inputs and its code
    make: Callable[[Path], dict[str, Any] | None]  # writes a figure's image; returns its numbers


def paper_report(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    options: PaperOptions | None = None,
    *,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Bring a folder with the paper's tables and figures up to date, and write its page.

    A part is stale if it was computed from other weights or data, by other code, or with other
    seeds or steps.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`.
    output : Path
        The folder.
    options : PaperOptions, optional
        Seeds and steps of the tables, and the folder of a user study for figure 8.

    Returns
    -------
    dict
        `page`, the path of the page, and the numbers of each part by its name.

    Raises
    ------
    InputError
        If the output is not a folder, or a part in it is damaged.
    """
    if output.exists() and not output.is_dir():
        raise InputError(
            f"{output} is not a folder", "name a new folder with -o, or one with parts of a report"
        )
    options = options or PaperOptions()
    preferences = None
    if options.study is not None:
        preferences = tally(options.study, sorted(options.study.glob("answers_*.json")))
    seeds = options.seeds or PAPER_SEEDS
    trained = {"seeds": seeds, "steps": options.steps, "trainings": output / "trainings"}
    report = _parts(data, cache, models, trained, jobs, progress)
    with _new_folder(output):
        return _write_report(output, report, models, preferences)


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it after an exception if nothing was written to it."""
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something is in it
            folder.rmdir()
        raise


def _write_report(
    output: Path, report: list[ReportPart], models: Models, preferences: list[Preference] | None
) -> dict[str, Any]:
    """Bring the parts of a report up to date, write its page, and return its path and numbers."""
    parts = {
        table_or_figure.name: _up_to_date(output, table_or_figure) for table_or_figure in report
    }
    if preferences is not None:
        draw(preferences, output / "figure8.png")
    page = output / REPORT_NAME
    with atomic_write(page) as partial:
        partial.write_text(
            _page(parts, _describe(models), (output / "figure8.png").is_file()), "utf-8"
        )
    return {"page": str(page), **parts}


def _parts(
    data: Path,
    cache: Path,
    models: Models,
    trained: dict[str, Any],
    jobs: int,
    progress: StepProgress | None,
) -> list[ReportPart]:
    """The parts of the report; `trained` are arguments of those that train."""
    seeds, steps = trained["seeds"], trained["steps"]

    def inputs_digest(
        module: str, stages: tuple[str, ...], corpora: tuple[str, ...], *settings: int | None
    ) -> str:
        weights = [sha256(models.path(stage)) for stage in stages]
        code = code_digest(f"talkemo.paper.{module}")
        return digest(weights, corpora_digests(data, corpora), settings, code)

    common: dict[str, Any] = {"jobs": jobs, "progress": progress}
    training: dict[str, Any] = {**trained, **common}
    inputs, acted, face = (data, cache, models), ("ravdess",), models.face
    return [
        ReportPart(
            "table1",
            inputs_digest("table1", ("face", "speech"), ("ravdess", "grid_s1"), seeds, steps),
            lambda _: table1(*inputs, **training),
        ),
        ReportPart(
            "table2",
            inputs_digest("table2", ("face", "speech", "talking"), acted, seeds, steps),
            lambda _: table2(*inputs, **training),
        ),
        ReportPart(
            "figure3",
            inputs_digest("figures345", ("face",), ()),
            lambda image: figure3(face, image),
        ),
        ReportPart(
            "figure4",
            inputs_digest("figures345", ("face",), ()),
            lambda image: figure4(face, image),
        ),
        ReportPart(
            "figure5",
            inputs_digest("figures345", ("face",), ()),
            lambda image: figure5(face, image),
        ),
        ReportPart(
            "figure6",
            inputs_digest("figure6", ("face", "emotion", "discriminator"), acted),
            lambda image: figure6(*inputs, image, **common),
        ),
        ReportPart(
            "figure7",
            inputs_digest("figure7", ("face",), acted, seeds, steps),
            lambda image: figure7(*inputs, image, **training),
        ),
    ]


def _up_to_date(folder: Path, part: ReportPart) -> dict[str, Any]:
    """The numbers of a part, read from its JSON; a missing or stale part is computed first."""
    path, image = folder / f"{part.name}.json", folder / f"{part.name}.png"

    def read() -> dict[str, Any]:
        hint = "delete it, and it is made again"
        return read_json_object(path, "a part of a report", hint, MAX_REPORT_PART_BYTES)

    def stored_fingerprint(_: Path) -> str | None:
        return read().get("origin")

    has_image = image.is_file() or not part.name.startswith("figure")
    artefact = Artefact(path, part.fingerprint, stored_fingerprint)
    if not (has_image and artefact.state is State.UP_TO_DATE):
        numbers = {**(part.make(image) or {}), "origin": part.fingerprint}
        if "output" in numbers:
            numbers["output"] = image.name  # relative, so that the folder can be moved
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(numbers, indent=1), "utf-8")
    return read()


def _describe(models: Models) -> str:
    """The name of a set of weights, and the commits of its stages."""
    entries = models.sets[0].entries
    commits = [f"{stage} {entry.commit}" for stage, entry in entries.items() if entry.commit]
    return f"{models.name} ({', '.join(commits)})" if commits else models.name


def _page(parts: dict[str, dict[str, Any]], weights: str, has_study: bool) -> str:
    """The page as HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"{REPORT_NAME}.j2").render(
        **parts,
        version=__version__,
        weights=weights,
        table1_columns=list(TABLE1_COLUMNS),
        paper_table1=PAPER_TABLE1,
        has_study=has_study,
    )
