"""A user study as the paper has it (3D-TalkEmo, section 4.5): pairs of films, three questions, and how often which is chosen.

`make_study` writes a folder with a page that anybody opens in a browser, without a server; which film is whose lies in a file
beside it that a participant is not given. `tally` counts what participants' files say.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluation.drawing import new_figure, save_figure
from ..expression.emotions import EMOTIONS
from ..files.reading import printable, read_json_object
from ..files.writing import PartialOutput, check_folder
from ..render.page import page_text

FILMS = (".mp4", ".webm")
PAGE, KEY, MEDIA = "index.html", "key.json", "media"
QUERIES = 15  # as the paper
QUESTIONS = {
    "realism": "Which face looks more like a real person's?",
    "content": "Whose mouth goes better with what is said?",
    "emotion": "Which shows the emotion better?",
}
CHOICES = ("left", "right", "none")
MOST_METHODS, MOST_QUERIES = 20, 200
SAVED = "it is the .json file that the study's page saved"
LARGEST_ANSWERS = 1 << 20  # bytes of a participant's file, and of a key
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Preference:
    """How often the first of two methods was chosen: counts of a question, and a 95 % interval (Wilson) of its share.

    share: of those who saw a difference; None where nobody did
    """

    first: str
    second: str
    question: str
    chose_first: int
    chose_second: int
    none: int
    share: float | None
    low: float | None
    high: float | None


def make_study(
    folders: Sequence[str | Path], output: str | Path, *, queries: int = QUERIES, seed: int = 0
) -> dict[str, Any]:
    """Write a study of films of several methods: a folder each, films of one name showing the same.

    output: a new folder, for index.html, media/ and key.json, of which participants are given the first two
    queries: how many pairs a participant sees, drawn from those of the study by the page, in an order of their own. The
        study has each two methods equally often and at least once, films and sides by chance. Where a film's name ends in
        an emotion, as in hello_happy, the page says which is meant
    Returns what key.json holds. Raises InputError for fewer than two folders, and for folders without films in common.
    """
    methods = {Path(folder).name: Path(folder) for folder in folders}
    if len(methods) < len(folders) or not 2 <= len(methods) <= MOST_METHODS:
        raise InputError(
            "a study compares two folders or more, of different names",
            "name a folder of films a method",
        )
    if not 1 <= queries <= MOST_QUERIES:
        raise InputError(f"{queries} queries", f"choose from 1 to {MOST_QUERIES}")
    films = {name: films_of(folder) for name, folder in methods.items()}
    pairs = [
        (a, b, sorted(films[a].keys() & films[b].keys()))
        for a, b in itertools.combinations(methods, 2)
        if films[a].keys() & films[b].keys()
    ]
    if not pairs:
        raise InputError(
            "no two folders have films of one name", "render the same sentences with each method"
        )
    rng = np.random.default_rng(seed)
    chosen = [
        pairs[k] for _ in range(-(-queries // len(pairs))) for k in rng.permutation(len(pairs))
    ]
    study = secrets.token_hex(8)
    key: dict[str, Any] = {"study": study, "methods": list(methods), "queries": {}}
    shown_queries = []
    output = Path(output)
    if output.exists():
        raise InputError(f"{output} is there already", "choose a new folder")
    check_folder(output)
    partial = PartialOutput(output, folder=True)
    (partial.path / MEDIA).mkdir()
    for number, (a, b, names) in enumerate(chosen):
        film = names[int(rng.integers(len(names)))]
        left, right = (a, b) if rng.random() < 0.5 else (b, a)
        sides = {}
        for side, method in (("left", left), ("right", right)):
            source = films[method][film]
            sides[side] = (
                f"{MEDIA}/{secrets.token_hex(8)}{source.suffix.lower()}"  # its name says nothing
            )
            shutil.copyfile(source, partial.path / sides[side])
        key["queries"][str(number)] = {"left": left, "right": right, "film": film}
        emotion = film.rpartition("_")[2]
        about = {"about": emotion} if emotion in EMOTIONS else {}
        shown_queries.append({"id": str(number), **about, **sides})
    questions = [{"name": name, "text": text} for name, text in QUESTIONS.items()]
    data = {"study": study, "questions": questions, "shown": queries, "queries": shown_queries}
    (partial.path / PAGE).write_text(page_text("study.html", data), "utf-8")
    (partial.path / KEY).write_text(json.dumps(key, indent=1), "utf-8")
    partial.finish()
    return key


def films_of(folder: Path) -> dict[str, Path]:
    """The films of a folder by their names without the ending. Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{printable(folder)}: no such folder", "name a folder of films a method")
    found = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in FILMS and path.is_file()
    }
    if not found:
        raise InputError(
            f"{printable(folder)}: no films in it", f"films end in {' or '.join(FILMS)}"
        )
    return found


def tally(study: str | Path, answers: Sequence[str | Path]) -> list[Preference]:
    """How often which method was chosen, for each pair of methods and each question; of participants' files of a study.

    Raises InputError for files that are not of this study, or that are given twice.
    """
    key = read_json_object(Path(study) / KEY, "a study's key", SAVED, LARGEST_ANSWERS)
    queries = key.get("queries")
    if not isinstance(queries, dict) or not all(
        isinstance(value, dict) for value in queries.values()
    ):
        raise InputError(
            f"{printable(Path(study) / KEY)}: not a study's key",
            "name the folder that talkemo study make wrote",
        )
    counts: dict[tuple[str, str, str], list[int]] = {}
    seen: set[str] = set()
    if not answers:
        raise InputError("nobody's answers", "name the files that participants have sent")
    for path in map(Path, answers):
        told = read_json_object(path, "a participant's answers", SAVED, LARGEST_ANSWERS)
        who, given = told.get("participant"), told.get("answers")
        if (
            told.get("study") != key.get("study")
            or not isinstance(given, list)
            or not isinstance(who, str)
        ):
            raise InputError(
                f"{printable(path)}: not answers to this study",
                "name answers_….json files of its page",
            )
        if who in seen:
            raise InputError(
                f"{printable(path)}: this participant's answers are given twice", "leave one out"
            )
        seen.add(who)
        left = dict(queries)
        for answer in given:
            _count(path, answer, left, counts)
    return [_preference(*names, *counts[names]) for names in sorted(counts)]


def _count(
    path: Path, answer: Any, queries: dict[str, Any], counts: dict[tuple[str, str, str], list[int]]
) -> None:
    """Add one answer, chosen first, second or none, under its methods and questions; its query is taken out."""
    number = answer.get("query") if isinstance(answer, dict) else None
    query = queries.pop(number, None) if isinstance(number, str) else None
    if query is None or any(answer.get(question) not in CHOICES for question in QUESTIONS):
        raise InputError(
            f"{printable(path)}: an answer that the page does not give",
            "ask the participant for the file again",
        )
    first, second = sorted((str(query.get("left")), str(query.get("right"))))
    for question in QUESTIONS:
        choice = answer[question]
        place = 2 if choice == "none" else 0 if str(query.get(choice)) == first else 1
        counts.setdefault((first, second, question), [0, 0, 0])[place] += 1


def _preference(first: str, second: str, question: str, a: int, b: int, none: int) -> Preference:
    if not a + b:
        return Preference(first, second, question, a, b, none, None, None, None)
    low, high = wilson(a, a + b)
    return Preference(first, second, question, a, b, none, a / (a + b), low, high)


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, of `count` in `total` (Wilson 1927, "Probable inference")."""
    z, share = NORMAL_95, count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = (
        z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    )
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def draw(preferences: Sequence[Preference], output: str | Path) -> None:
    """Bars as the paper's figure 8: how often each method was chosen, with the interval of those who saw a difference."""
    pairs = sorted({(p.first, p.second) for p in preferences})
    figure = new_figure((3.6 * len(QUESTIONS), 0.7 * len(pairs) + 1.4))
    for number, question in enumerate(QUESTIONS):
        axis = figure.add_subplot(1, len(QUESTIONS), number + 1)
        own = {(p.first, p.second): p for p in preferences if p.question == question}
        for row, pair in enumerate(pairs):
            found = own.get(pair)
            if found is None:
                continue
            total = max(1, found.chose_first + found.chose_second + found.none)
            parts = (found.chose_first / total, found.none / total, found.chose_second / total)
            start = 0.0
            for part, colour in zip(parts, ("#4477aa", "#cccccc", "#cc6677")):
                axis.barh(row, part, left=start, color=colour)
                start += part
            if found.share is not None:
                saw = (found.chose_first + found.chose_second) / total
                error = [[saw * (found.share - found.low)], [saw * (found.high - found.share)]]  # type: ignore[operator]
                axis.errorbar(parts[0], row, xerr=error, color="black", capsize=3)
        axis.set(
            title=question,
            xlim=(0, 1),
            yticks=range(len(pairs)),
            yticklabels=[f"{a} | {b}" for a, b in pairs],
        )
    save_figure(figure, Path(output))


def as_rows(preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Preferences as plain values."""
    return [asdict(preference) for preference in preferences]
