"""The paper's tables and figures beside ours, on one page: `talkemo evaluate --suite paper`.

Each part is a file of the report's folder. A part that is there is kept, so that a run that was ended goes on, and one that
is deleted is made anew.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.captures import Report
from ..errors import InputError
from ..files.cache import corpora_digests, digest, sha256
from ..files.reading import read_json_object
from ..files.writing import atomic_write
from ..weights.models import Models
from . import SEEDS
from .training import ITERATIONS
from .figure6 import figure6
from .figure7 import figure7
from .figures345 import figure3, figure4, figure5
from .study import draw, tally
from .table1 import table1
from .table2 import table2

PAGE = "report.html"
LARGEST_PART = 1 << 22  # bytes of a part's JSON
# The paper's own figures.
TABLE1 = {"constant": (1.573, 1.226, 7.728, 1.116), "local": (0.116, 0.087, 0.551, 0.114)}

STYLE = """body { margin: 0 auto; max-width: 1000px; padding: 16px; font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; } td, th { border: 1px solid #bbb; padding: 3px 10px; text-align: right; }
td:first-child, th:first-child { text-align: left; } .paper td { font-style: italic; color: #555; } img { max-width: 100%; }"""


def paper_report(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    seeds: int = SEEDS,
    steps: int | None = None,
    study: Path | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Make what is missing of the report in a folder, and its page; returns the page and what is in the parts.

    A part that comes from other weights or data, or from another number of seeds or steps, is made anew.

    steps: of each training of tables 1 and 2 and figure 7, each one's own number if None
    study: the folder of a user study with its participants' answers_*.json in it, for figure 8
    Raises InputError where the folder is none or a part of it is not what was written there.
    """
    if output.exists() and not output.is_dir():
        raise InputError(
            f"{output} is not a folder", "name a new folder by -o, or one with parts of a report"
        )
    preferences = None if study is None else tally(study, sorted(study.glob("answers_*.json")))
    output.mkdir(exist_ok=True)
    common: dict[str, Any] = {"jobs": jobs, "progress": progress}
    trained = {**common, "steps": steps}
    face = models.face
    come_from = lambda stages, corpora, *settings: digest(
        [sha256(models.path(stage)) for stage in stages], corpora_digests(data, corpora), settings
    )
    acted, of_face = ("ravdess",), come_from(("face",), ())
    # What each part comes from, and what makes it.
    makers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "table1": (
            come_from(("face", "speech"), ("ravdess", "grid_s1"), seeds, steps),
            lambda _: table1(data, cache, models, seeds=seeds, **trained),
        ),
        "table2": (
            come_from(("face", "speech", "talking"), acted, seeds, steps),
            lambda _: table2(data, cache, models, seeds=seeds, **trained),
        ),
        "figure3": (of_face, lambda picture: figure3(face, picture)),
        "figure4": (of_face, lambda picture: figure4(face, picture)),
        "figure5": (of_face, lambda picture: figure5(face, picture)),
        "figure6": (
            come_from(("face", "emotion", "discriminator"), acted),
            lambda picture: figure6(data, cache, models, picture, **common),
        ),
        "figure7": (
            come_from(("face",), acted, steps),
            lambda picture: figure7(data, cache, models, picture, **trained),
        ),
    }
    parts = {name: _kept(output, name, *maker) for name, maker in makers.items()}
    if preferences is not None:
        draw(preferences, output / "figure8.png")
    with atomic_write(output / PAGE) as partial:
        partial.write_text(
            _page(parts, (output / "figure8.png").is_file(), _which(models)), "utf-8"
        )
    return {"page": str(output / PAGE), **parts}


def _kept(
    folder: Path, name: str, origin: str, make: Callable[[Path], dict[str, Any] | None]
) -> dict[str, Any]:
    """What NAME.json holds; made and written where there is none, or one of another origin, or no NAME.png to a figure.

    make: returns what is to be kept; a figure's writes the picture too
    """
    path, picture = folder / f"{name}.json", folder / f"{name}.png"
    read = lambda: read_json_object(
        path, "a part of a report", "delete it, and it is made anew", LARGEST_PART
    )
    pictured = picture.is_file() or not name.startswith("figure")
    if not (pictured and path.is_file() and read().get("origin") == origin):
        # A folder that is moved keeps its pictures: they are named within it.
        found = {**(make(picture) or {}), "origin": origin}
        if "output" in found:
            found["output"] = picture.name
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(found, indent=1), "utf-8")
    return read()


def _which(models: Models) -> str:
    """The name of a set of weights, and from which commits its stages are."""
    commits = {stage: entry.get("commit") for stage, entry in models.sets[0].entries.items()}
    told = ", ".join(f"{stage} {commit}" for stage, commit in commits.items() if commit)
    return f"{models.name} ({told})" if told else models.name


def _page(parts: dict[str, Any], studied: bool, weights: str) -> str:
    """The page."""
    body = [
        "<h1>3D-TalkEmo: the paper's tables and figures, and ours</h1>",
        f"<p>talkemo {__version__}, weights {html.escape(weights)}. The paper: Wang, Fan, Xia, <i>3D-TalkEmo: Learning to "
        "Synthesize 3D Emotional Talking Head</i>, 2021. Its numbers, in italics, stand beside table 1; those of table 2 and of "
        "its figures are not at hand here. Test speakers are never trained on.</p>",
        "<p>The tables and figure 7 compare ways of training: each trains networks of its own on the paper's data, from the same "
        f"start and for as long, the emotion transfer for {ITERATIONS:,} iterations if not said otherwise; the paper's had "
        "200,000. Figures 3 to 6 show the weights named above.</p>",
        *_table1(parts["table1"]),
        *_table2(parts["table2"]),
        "<h2>Figure 3: augmentation</h2>",
        _picture(
            "figure3",
            "People of the face model, at rest and with the animator's expressions that the training adds.",
        ),
        "<h2>Figure 4: the geometry map</h2>",
        _picture(
            "figure4",
            "The mean face by geodesics, multidimensional scaling and resampling, and the mask.",
        ),
        "<h2>Figure 5: the mouth's weights</h2>",
        _picture(
            "figure5",
            "How much more the vertices around the mouth count in the position loss, in local weights.",
        ),
        "<h2>Figure 6: features of recorded and generated faces</h2>",
        _picture(
            "figure6",
            f"The discriminator's last feature layer by PCA and t-SNE. Silhouette of the emotions: recorded "
            f"{parts['figure6']['silhouette_recorded']:.2f}, generated {parts['figure6']['silhouette_generated']:.2f}.",
        ),
        "<h2>Figure 7: PointNet against the geometry map</h2>",
        _picture(
            "figure7",
            f"Both after {parts['figure7']['iterations']} iterations on the same data with the same losses.",
        ),
        *_figure7(parts["figure7"]),
        "<h2>Figure 8: the user study</h2>",
        _picture("figure8", "How often each method was chosen, with 95 % intervals.")
        if studied
        else "<p>Nobody has answered yet: <code>talkemo study make</code> makes the study's page.</p>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>3D-TalkEmo, reproduced</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _table1(found: dict[str, Any]) -> list[str]:
    columns = ("T-RE", "T-VE", "V-RE", "V-VE")
    rows = [
        [f"{row['weights']}, {row['mask']}", *(_spread(row[column]) for column in columns)]
        for row in found["rows"]
    ]
    paper = [[name, *(f"{value:.3f}" for value in values)] for name, values in TABLE1.items()]
    sizes = ", ".join(f"{name} {count}" for name, count in found["masks"].items())
    return [
        "<h2>Table 1: constant and local weights</h2>",
        *_table(["weights", *columns], rows, paper),
        f"<p>RE in mm, VE in mm a frame, mean ± standard deviation over seeds, after {found['steps']} steps; T "
        f"{found['clips']['T']} training clips, V {found['clips']['V']} of actors and sentences never trained on. Vertices: "
        f"{html.escape(sizes)}. The paper gives neither unit nor mask; it speaks of landmarks around the mouth, which we read "
        "as iBUG's 20. Our decoder knows blend shapes of a face without neck and scalp, so that nearly all that moves in "
        "speech is the mouth, whatever the weights.</p>",
    ]


def _table2(found: dict[str, Any]) -> list[str]:
    columns = [name for name in found["rows"][0] if name != "training"]
    rows = [
        [row["training"], *(_spread(row[column]) for column in columns)] for row in found["rows"]
    ]
    return [
        "<h2>Table 2: with and without augmentation</h2>",
        *_table(["training", *columns], rows, []),
        f"<p>Mean ± standard deviation over seeds, after {found['iterations']} iterations. D: {found['real_frames']} real "
        f"frames of the dev actors, G: {found['generated_frames']} generated. CE: share that the discriminator classifies "
        "wrongly; <i>classifier</i>: one that saw real faces only. RE: after transfer and back, in mm over all vertices; "
        "<i>features</i>: in the discriminator's last feature layer, as the paper words it; each training has its own, so that "
        "the rows have different scales. Real frames are augmented as the row's training augments them. How the paper separates "
        "D and G it does not say; this is our reading.</p>",
    ]


def _figure7(found: dict[str, Any]) -> list[str]:
    columns = ["generator", "emotion", "recognised", "roughness_mm", "moved_mm"]
    shown = lambda value: f"{value:.2f}" if isinstance(value, float) else str(value)
    return _table(
        columns, [[shown(row[column]) for column in columns] for row in found["rows"]], []
    )


def _table(columns: list[str], rows: list[list[str]], paper: list[list[str]]) -> list[str]:
    """A table, the paper's rows below ours."""
    cells = lambda row, tag: (
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
    )
    own = "".join(cells(row, "td") for row in rows)
    theirs = "".join(cells([f"the paper, {row[0]}", *row[1:]], "td") for row in paper)
    return [
        f"<table><tr>{cells(columns, 'th')[4:-5]}</tr>{own}<tbody class='paper'>{theirs}</tbody></table>"
    ]


def _spread(value: dict[str, Any]) -> str:
    return f"{value['mean']:.3f} ± {value['spread']:.3f}"


def _picture(name: str, text: str) -> str:
    return f'<figure><img src="{name}.png" alt="{html.escape(text)}"><figcaption>{html.escape(text)}</figcaption></figure>'
