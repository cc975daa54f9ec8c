"""The paper's user study (3D-TalkEmo, section 4.5): pairs of videos, questions and counts.

`make_study` writes a folder with a page that a browser opens without a server. A key that
participants are not given says which video shows which method. `tally` counts their answer files.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ..errors import InputError
from ..evaluation.drawing import new_plot, save_plot
from ..expression.emotions import EMOTIONS
from ..files.reading import printable, read_json_object
from ..files.writing import PartialOutput, check_folder
from ..render.page import page_text
from ..video.reader import stated_length

STUDY_VIDEO_ENDINGS = (".mp4", ".webm")
STUDY_PAGE, STUDY_KEY, STUDY_MEDIA = "index.html", "key.json", "media"
QUERIES = 15  # pairs per participant, as in the paper
MAX_LENGTH_DIFFERENCE_S = 0.1  # of two videos that are compared
INTRODUCTION = (
    "You will see pairs of videos of a face that speaks the same sentence.",
    "Play both to their end, with sound, as often as you like. Then answer the questions below them.",
    "There are no right answers: what counts is what you see and hear. It takes about ten minutes.",
    "At the end a file is saved. Please send it to the person who invited you.",
)
QUESTIONS = {
    "realism": "Which face looks more like a real person's?",
    "content": "Whose mouth goes better with what is said?",
    "emotion": "Which shows the emotion better?",
}
CHOICES = ("left", "right", "none")
MAX_METHODS, MAX_QUERIES = 20, 200
ANSWERS_HINT = "it is the .json file that the study's page saved"
MAX_ANSWERS_BYTES = 1 << 20  # of a participant's file, and of a key
BAR_COLOURS = ("#4477aa", "#cccccc", "#cc6677")  # first method, no difference, second method


@dataclass(frozen=True)
class Preference:
    """Answers to one question about two methods."""

    first: str
    second: str
    question: str
    chose_first: int
    chose_second: int
    none: int
    share: float | None  # of the first method, among those who saw a difference; None without any
    low: float | None  # of the 95 % interval of that share (Wilson 1927, "Probable inference")
    high: float | None


def make_study(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    queries: int = QUERIES,
    seed: int = 0,
    notice: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write a study that compares methods, and return the content of key.json.

    Parameters
    ----------
    folders : sequence of paths
        One folder of videos per method; videos of the same name show the same sentence. If the
        name ends in an emotion, as in hello_happy, the page says which emotion is meant.
    output : path
        A new folder for index.html, media/ (both for participants) and key.json.
    queries : int
        Pairs that each participant sees, drawn by the page in random order. The study has each pair
        of methods equally often and at least once; videos and sides are random.
    seed : int
        Seed of the random choices.
    notice : callable, optional
        Called with a message if there are too few pairs of videos for the queries, or two methods
        that cannot be compared.

    Raises
    ------
    InputError
        For fewer than two folders, folders without videos in common, or an existing output.
    """
    methods = _checked_methods(folders)
    if not 1 <= queries <= MAX_QUERIES:
        raise InputError(f"{queries} queries", f"choose from 1 to {MAX_QUERIES}")
    videos = {name: videos_of(folder) for name, folder in methods.items()}
    common = _comparable(videos)
    rng = np.random.default_rng(seed)
    pairs = _drawn_pairs(common, queries, rng)
    output = Path(output)
    if output.exists():
        raise InputError(f"{output} exists already", "choose a new folder")
    check_folder(output)
    partial = PartialOutput(output, folder=True)
    (partial.path / STUDY_MEDIA).mkdir()
    study = secrets.token_hex(8)
    key_queries, page_queries = _make_queries(pairs, videos, partial.path, rng)
    key = {"study": study, "methods": list(methods), "queries": key_queries}
    questions = [{"name": name, "text": text} for name, text in QUESTIONS.items()]
    data = {
        "study": study,
        "introduction": INTRODUCTION,
        "questions": questions,
        "shown": queries,
        "queries": page_queries,
    }
    (partial.path / STUDY_PAGE).write_text(page_text("study.html", data), "utf-8")
    (partial.path / STUDY_KEY).write_text(json.dumps(key, indent=1), "utf-8")
    partial.finish()
    if notice is not None:
        for message in _shortages(videos, common, queries):
            notice(message)
    return key


def _checked_methods(folders: Sequence[str | Path]) -> dict[str, Path]:
    """Return the folders by name. Raises InputError unless they are two or more different names."""
    methods = {Path(folder).name: Path(folder) for folder in folders}
    if len(methods) < len(folders) or not 2 <= len(methods) <= MAX_METHODS:
        raise InputError(
            "a study compares two folders or more, of different names",
            "name one folder of videos per method",
        )
    return methods


def _make_queries(
    pairs: list[tuple[str, str, list[str]]],
    videos: dict[str, dict[str, Path]],
    folder: Path,
    rng: np.random.Generator,
) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Draw the video and the sides of each pair of methods, and copy the videos into a folder.

    Returns the queries of the key by number, and those of the page.
    """
    key_queries, page_queries = {}, []
    for number, (a, b, names) in enumerate(pairs):
        name = names[int(rng.integers(len(names)))]
        left, right = (a, b) if rng.random() < 0.5 else (b, a)
        sides = {
            side: _copy_anonymously(videos[method][name], folder)
            for side, method in (("left", left), ("right", right))
        }
        key_queries[str(number)] = {"left": left, "right": right, "film": name}
        emotion = name.rpartition("_")[2]
        about = {"about": emotion} if emotion in EMOTIONS else {}
        page_queries.append({"id": str(number), **about, **sides})
    return key_queries, page_queries


Common = dict[tuple[str, str], list[str]]  # by two methods, the names of videos that are compared


def _comparable(videos: dict[str, dict[str, Path]]) -> Common:
    """Return the videos of the same name and length that each two methods have."""
    lengths = {
        path: stated_length(path) for of_method in videos.values() for path in of_method.values()
    }

    def are_alike(a: Path, b: Path) -> bool:
        first, second = lengths[a], lengths[b]
        if first is None or second is None:  # the browser may play what ffmpeg does not
            return True
        return abs(first - second) <= MAX_LENGTH_DIFFERENCE_S

    return {
        (a, b): [
            name
            for name in sorted(videos[a].keys() & videos[b].keys())
            if are_alike(videos[a][name], videos[b][name])
        ]
        for a, b in itertools.combinations(videos, 2)
    }


def _shortages(videos: dict[str, dict[str, Path]], common: Common, queries: int) -> Iterator[str]:
    """Yield what a study lacks: videos of the same name and length, and enough pairs of them."""
    for (a, b), names in common.items():
        different = len(videos[a].keys() & videos[b].keys()) - len(names)
        if different:
            yield (
                f"{a} and {b}: {different} videos of the same name differ in length by more than "
                f"{MAX_LENGTH_DIFFERENCE_S:g} s, so they are not compared"
            )
        elif not names:
            yield f"{a} and {b} have no videos of the same name, so they are never compared"
    pairs = sum(map(len, common.values()))
    if pairs < queries:
        yield (
            f"{pairs} different pairs of videos for {queries} queries: participants see some more "
            "than once; add videos, or lower --queries"
        )


def _drawn_pairs(
    common: Common, queries: int, rng: np.random.Generator
) -> list[tuple[str, str, list[str]]]:
    """Return pairs of methods and the names that they are compared by, every pair equally often."""
    pairs = [(a, b, names) for (a, b), names in common.items() if names]
    if not pairs:
        raise InputError(
            "no two folders have videos with the same name and length",
            "render the same sentences with each method",
        )
    rounds = -(-queries // len(pairs))
    return [pairs[k] for _ in range(rounds) for k in rng.permutation(len(pairs))]


def _copy_anonymously(source: Path, folder: Path) -> str:
    """Copy a video under a random name and return its path within the folder."""
    name = f"{STUDY_MEDIA}/{secrets.token_hex(8)}{source.suffix.lower()}"
    shutil.copyfile(source, folder / name)
    return name


def videos_of(folder: Path) -> dict[str, Path]:
    """Return the videos of a folder by their names without ending.

    Raises
    ------
    InputError
        If there are none.
    """
    if not folder.is_dir():
        raise InputError(
            f"{printable(folder)}: no such folder", "name one folder of videos per method"
        )
    videos = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in STUDY_VIDEO_ENDINGS and path.is_file()
    }
    if not videos:
        raise InputError(
            f"{printable(folder)}: no videos in it",
            f"videos end in {' or '.join(STUDY_VIDEO_ENDINGS)}",
        )
    return videos


def tally(study: str | Path, answers: Sequence[str | Path]) -> list[Preference]:
    """Count the answers to a study, per pair of methods and question.

    Parameters
    ----------
    study : path
        The folder that `make_study` wrote.
    answers : sequence of paths
        The files that participants sent.

    Raises
    ------
    InputError
        For files that do not belong to this study, or that are given twice.
    """
    path = Path(study) / STUDY_KEY
    hint = "name the folder that talkemo study make wrote"
    key = read_json_object(path, "a study's key", hint, MAX_ANSWERS_BYTES)
    queries = key.get("queries")
    if not isinstance(queries, dict) or not all(isinstance(q, dict) for q in queries.values()):
        raise InputError(f"{printable(path)}: not a study's key", hint)
    if not answers:
        raise InputError("no answers to count", "name the files that participants have sent")
    counts: dict[tuple[str, str, str], list[int]] = {}
    participants: set[str] = set()
    for path in map(Path, answers):
        content = read_json_object(path, "a participant's answers", ANSWERS_HINT, MAX_ANSWERS_BYTES)
        participant, answer_list = content.get("participant"), content.get("answers")
        belongs = content.get("study") == key.get("study")
        if not belongs or not isinstance(answer_list, list) or not isinstance(participant, str):
            raise InputError(
                f"{printable(path)}: not answers to this study",
                "name answers_….json files of its page",
            )
        if participant in participants:
            raise InputError(
                f"{printable(path)}: this participant's answers are given twice", "leave one out"
            )
        participants.add(participant)
        open_queries = dict(queries)
        for answer in answer_list:
            _count(path, answer, open_queries, counts)
    return [_preference(*names, *counts[names]) for names in sorted(counts)]


def _count(
    path: Path, answer: Any, queries: dict[str, Any], counts: dict[tuple[str, str, str], list[int]]
) -> None:
    """Add one answer to the counts (first, second, none), and remove its query."""
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
        if choice == "none":
            column = 2
        else:
            column = 0 if str(query.get(choice)) == first else 1
        counts.setdefault((first, second, question), [0, 0, 0])[column] += 1


def _preference(first: str, second: str, question: str, a: int, b: int, none: int) -> Preference:
    if not a + b:
        return Preference(first, second, question, a, b, none, None, None, None)
    low, high = wilson(a, a + b)
    return Preference(first, second, question, a, b, none, a / (a + b), low, high)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share `count / total` (Wilson 1927)."""
    interval = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def draw(preferences: Sequence[Preference], output: str | Path) -> None:
    """Draw the paper's figure 8: bars per method, with the interval of decided answers."""
    pairs = sorted({(p.first, p.second) for p in preferences})
    by_pair = {(p.question, p.first, p.second): p for p in preferences}
    figure = new_plot((3.6 * len(QUESTIONS), 0.7 * len(pairs) + 1.4))
    for number, question in enumerate(QUESTIONS):
        axis = figure.add_subplot(1, len(QUESTIONS), number + 1)
        for row, pair in enumerate(pairs):
            preference = by_pair.get((question, *pair))
            if preference is not None:
                _draw_bar(axis, row, preference)
        labels = [printable(f"{a} | {b}") for a, b in pairs]
        axis.set(title=question, xlim=(0, 1), yticks=range(len(pairs)), yticklabels=labels)
    save_plot(figure, Path(output))


def _draw_bar(axis: Any, row: int, preference: Preference) -> None:
    """Draw one pair of methods: first, no difference, second."""
    counts = (preference.chose_first, preference.none, preference.chose_second)
    total = max(1, sum(counts))
    start = 0.0
    for count, colour in zip(counts, BAR_COLOURS):
        axis.barh(row, count / total, left=start, color=colour)
        start += count / total
    share, low, high = preference.share, preference.low, preference.high
    if share is not None and low is not None and high is not None:
        decided = (preference.chose_first + preference.chose_second) / total
        error = [[decided * (share - low)], [decided * (high - share)]]
        axis.errorbar(counts[0] / total, row, xerr=error, color="black", capsize=3)


def as_rows(preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Return preferences as plain values."""
    return [asdict(preference) for preference in preferences]
