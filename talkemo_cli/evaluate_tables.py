"""Tables that talkemo evaluate prints, and the csv files that it writes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from .console import console

# Unit and mask of the metrics of a split.
SPLIT_METRIC_UNITS = {
    **dict.fromkeys(("re_mm", "re_still_mm", "re_mean_motion_mm"), ("mm", "lips")),
    **dict.fromkeys(("ve_mm", "ve_still_mm"), ("mm a frame", "lips")),
    "r_opening": ("correlation", "mouth opening"),
    "r_width": ("correlation", "mouth width"),
    "amplitude": ("ratio", "mouth opening"),
    "amplitude_width": ("ratio", "mouth width"),
    "mtm_ms": ("ms", "mouth opening"),
    "soft_dtw": ("squared standard deviations a frame", "mouth opening"),
    **dict.fromkeys(("slcc", "slcc_reference"), ("correlation", "mouth opening")),
    "closures": ("words with b, m or p", "mouth opening"),
    **dict.fromkeys(("together", "together_reference"), ("share", "mouth opening")),
    "acceleration": ("ratio", "all"),
    **dict.fromkeys(("identity_mm", "moved_mm"), ("mm", "all")),
    "back_mm": ("mm", "lips"),
    "r_back": ("correlation", "mouth opening"),
}


def print_pair(result: dict[str, Any]) -> None:
    """Print the metrics of two animations, and why there is no CE."""
    _explain_missing_ce([result])
    columns = ("name", "value", "unit", "mask", "vertices", "about")
    console.table(
        f"{result['predicted']} against {result['reference']}: "
        f"{result['frames']} frames at {result['fps']:g} fps",
        ["metric", "value", "unit", "mask", "vertices", "what"],
        _cells(result["figures"], columns),
    )


def print_folders(result: dict[str, Any], title: str) -> None:
    """Print the mean metrics of two folders of animations, and what was left out."""
    for name in result["alone"]:
        console.message(f"{name}: in one of the folders only")
    _explain_missing_ce(result["pairs"])
    columns = ("name", "mean", "spread", "unit", "mask", "vertices", "pairs")
    console.table(
        f"{title}: mean ± spread over {len(result['pairs'])} pairs of one name",
        ["metric", *columns[1:]],
        _cells(result["mean"], columns),
    )


def _explain_missing_ce(pairs: list[dict[str, Any]]) -> None:
    """Say for how many pairs there is no CE, and why."""
    reasons = Counter(pair["classification_error"]["reason"] for pair in pairs)
    for reason, count in reasons.items():
        if reason is not None:
            of_pairs = f" of {count} of {len(pairs)} pairs" if len(pairs) > 1 else ""
            console.message(f"CE{of_pairs} is left out: {reason}")


def write_pairs_csv(pairs: list[dict[str, Any]], output: Path) -> None:
    """Write a csv with a row for each pair of animations and metric."""
    columns = ("name", "value", "unit", "mask", "vertices")
    rows: list[list[Any]] = []
    for pair in pairs:
        start = [pair["predicted"], pair["reference"], pair["frames"], pair["fps"]]
        rows += [[*start, *cells] for cells in _cells(pair["figures"], columns)]
    header = ["predicted", "reference", "frames", "fps", "metric", *columns[1:]]
    _write_rows(header, rows, output)


def _cells(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[list[Any]]:
    """The values of some columns; unknown ones are empty."""
    return [["" if row[name] is None else row[name] for name in columns] for row in rows]


def _write_rows(header: list[str], rows: list[list[Any]], output: Path) -> None:
    """Write a table as a csv."""
    from talkemo.files.writing import atomic_write

    with atomic_write(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def print_map(accuracy: dict[str, Any]) -> None:
    """Print the accuracy of the geometry map."""
    console.table(
        "Geometry map: captured expressions on random people",
        ["stress", "faces", "round trip, mean mm", "on lips and eyelids, max mm"],
        [[*accuracy.values()]],
    )


def print_voice(voice: dict[str, Any]) -> None:
    """Print the metrics of the voice model: speakers never heard, then corpora never heard."""
    recalls = {
        "corpus": "corpus",
        "recordings": "recordings",
        "chance": "chance",
        "recall_level_and_pitch": "level and pitch",
        "recall": "recall",
        "recall_known_speaker": "recall, known speaker",
        "recall_four": "recall of four",
        "arousal_r": "r arousal",
    }
    errors = {
        "corpus": "corpus",
        "false_alarms": "neutral given an emotion",
        "named": "named",
        "plainly_wrong": "plainly wrong",
        "plainly_wrong_known_speaker": "the same, known speaker",
        "ece": "ECE",
    }
    titles = {
        "corpora": f"Emotion of voices on the {voice['split']} split: speakers never heard",
        "left_out": "Emotion of voices left out in training: every fifth speaker, each corpus",
    }
    for kind, title in titles.items():
        rows = [{**dict.fromkeys((*recalls, *errors)), **row} for row in voice[kind]]
        if rows:
            console.table(
                f"{title}; unweighted recall", [*recalls.values()], _cells(rows, tuple(recalls))
            )
            at = f"named from a probability of {voice['sure']:g}"
            console.table(f"{title}; {at}", [*errors.values()], _cells(rows, tuple(errors)))
    console.table(
        f"Calibration, expected error {voice['reliability']['ece']:.3f}",
        ["probability", "right", "recordings"],
        _cells(voice["reliability"]["bins"], ("probability", "right", "recordings")),
    )


def print_lips(lips: dict[str, Any], weights: str) -> None:
    """Print the metrics of a talking model's lips; `weights` ends each title."""
    titles = {
        "corpus": "corpus",
        "clips": "clips",
        "re_mm": "RE",
        "re_still_mm": "RE still",
        "re_mean_motion_mm": "RE mean",
        "ve_mm": "VE",
        "ve_still_mm": "VE still",
        "r_opening": "r opening",
        "r_width": "r width",
        "amplitude": "amplitude",
    }
    timing = {
        "corpus": "corpus",
        "amplitude_width": "amplitude of the width",
        "mtm_ms": "MTM ms",
        "soft_dtw": "soft-DTW",
        "slcc": "SLCC",
        "slcc_reference": "captured SLCC",
    }
    console.table(
        f"Lips on the {lips['split']} split ({lips['mask_vertices']} lip vertices; RE mm, VE mm a "
        f"frame at the corpus's own fps){weights}",
        [*titles.values()],
        _cells(lips["corpora"], tuple(titles)),
    )
    console.table(
        "Spread of the mouth's width; mean temporal misalignment, soft-DTW and speech-lip "
        f"intensity correlation of its opening{weights}",
        [*timing.values()],
        _cells(lips["corpora"], tuple(timing)),
    )
    for row in lips["corpora"]:
        if "closures" in row:
            console.table(
                f"Lips closed on b, m, p of {row['corpus']}: under {lips['together_mm']} mm "
                f"within a frame{weights}",
                ["cases", "predicted", "captured"],
                [[row["closures"], row["together"], row["together_reference"]]],
            )
        if "phones" in row:
            columns = ("lips", "spoken", "recall", "closures", "precision")
            counts = [{"lips": lips_of, **counts} for lips_of, counts in row["phones"].items()]
            console.table(
                f"Closures of {row['corpus']} by aligned phones: recall of p, b, m; precision, "
                f"with f and v{weights}",
                ["lips", "p, b, m", *columns[2:]],
                _cells(counts, columns),
            )
        for lips_of, table in row.get("by_phone", {}).items():
            print_lips_by_phone(table, f"{lips_of} lips of {row['corpus']}{weights}")


def print_lips_by_phone(table: dict[str, Any], title: str) -> None:
    """Print the lips' measures by class of phones, and how well classes are told apart."""
    from talkemo.evaluation.by_phone import MEASURES

    headings = [name.removeprefix("mouth").replace("_", " ") for name in MEASURES]
    rows = [{"phones": name, **row} for name, row in table["classes"].items()]
    console.table(
        "By phone, mm from rest (width and protrusion from the clip's mean) and blend-shape "
        f"weights: {title}",
        ["phones", "count", *headings],
        _cells(rows, ("phones", "count", *MEASURES)),
    )
    apart = [{"pair": name, **row} for name, row in table["d_prime"].items()]
    if apart:
        console.table(
            f"d′ between classes of phones: {title}",
            ["pair", *headings],
            _cells(apart, ("pair", *MEASURES)),
        )


def print_emotions(result: dict[str, Any]) -> None:
    """Print how well emotions are recognised, and what emotion transfer changes."""
    recordings = (
        f"given to {result['recordings']} neutral recordings of the {result['corpus']} "
        f"{result['split']} actors"
    )
    recognition = {
        "emotion": "emotion",
        "real_four": "real, 4",
        "generated_four": "generated, 4",
        "real_eight": "real, 8",
        "generated_eight": "generated, 8",
        "real_discriminator": "real, D",
        "generated_discriminator": "generated, D",
    }
    changes = {
        "emotion": "emotion",
        "r_opening": "mouth opening r",
        "acceleration": "acceleration",
        "identity_mm": "identity mm",
        "moved_mm": "moved mm",
        "back_mm": "back, lips mm",
        "r_back": "back, opening r",
    }
    tables = {
        f"Emotions {recordings}; accuracy (1 − classification error) of classifiers of four and of "
        "eight classes, trained on real frames of ravdess's training actors, and of the "
        "discriminator, D": recognition,
        f"What the emotions {recordings} change": changes,
    }
    for title, columns in tables.items():
        console.table(title, [*columns.values()], _cells(result["emotions"], tuple(columns)))
    _print_prototypes(result["prototypes"], recordings)


def _print_prototypes(rows: list[dict[str, Any]], recordings: str) -> None:
    """Print how many emotions are recognised by each kind of prototype."""

    def cell(count: dict[str, Any] | None) -> str:
        return "" if count is None else f"{count['right']} of {count['of']}"

    console.table(
        f"Emotions {recordings}; nearest prototype by angle is the own. The transfer was trained "
        "on the poses, so these only show that the pose arrives, not that people feel it; "
        "actors: each actor's emotions by the other actors' prototypes",
        ["prototypes", "generated", "actors"],
        [[row["prototypes"], cell(row["generated"]), cell(row["actors"])] for row in rows],
    )


def write_split_csv(
    lips: dict[str, dict[str, Any]], emotions: list[dict[str, Any]], output: Path
) -> None:
    """Write a csv with a row for each corpus and metric of a split.

    Parameters
    ----------
    lips : dict of str to dict
        Results of `evaluate_lips` by the name of the set of weights, the evaluated set first.
    emotions : list of dict
        Results of `evaluate_emotion` of that set.
    output : Path
        The csv. Its `count` is that of the clips, closures, recordings or frames of a value.
    """
    names = "weights split corpus model emotion metric value unit mask count"
    rows = [row for weights, result in lips.items() for row in _lips_rows(weights, result)]
    weights = next(iter(lips))
    rows += [row for result in emotions for row in _emotion_rows(weights, result)]
    _write_rows(names.split(), rows, output)


def _lips_rows(weights: str, result: dict[str, Any]) -> list[list[Any]]:
    """Rows of the talking model's metrics, by corpus."""
    rows: list[list[Any]] = []
    for row in result["corpora"]:
        start = [weights, result["split"], row["corpus"], "talking", "neutral"]
        for metric, value in row.items():
            if metric in SPLIT_METRIC_UNITS:
                unit_and_mask = SPLIT_METRIC_UNITS[metric]
                rows.append([*start, metric, value, *unit_and_mask, row["clips"]])
        for lips_of, counts in row.get("phones", {}).items():
            for metric, of in (("recall", "spoken"), ("precision", "closures")):
                name = f"{lips_of} {metric}"
                rows.append([*start, name, counts[metric], "share", "lips", counts[of]])
    return rows


def _emotion_rows(weights: str, result: dict[str, Any]) -> list[list[Any]]:
    """Rows of accuracy and CE by judge, and of the changes by emotion transfer, by emotion."""
    rows: list[list[Any]] = []
    for number, row in enumerate(result["emotions"]):
        start = [weights, result["split"], result["corpus"], "emotion", row["emotion"]]
        for judge, matrix in result["confusion"].items():
            for kind in ("real", "generated"):
                accuracy, frames = row[f"{kind}_{judge}"], sum(matrix[kind][number])
                shares = ("", "") if accuracy is None else (accuracy, 1 - accuracy)
                for name, share in zip((f"{kind}_{judge}", f"CE {kind}_{judge}"), shares):
                    rows.append([*start, name, share, "share", "all", frames])
        for metric, value in row.items():
            if metric in SPLIT_METRIC_UNITS:
                unit_and_mask = SPLIT_METRIC_UNITS[metric]
                rows.append([*start, metric, value, *unit_and_mask, result["recordings"]])
        for judge in result["prototypes"]:
            right, of = judge["generated"]["by_emotion"].get(row["emotion"], (0, 0))
            if of:
                metric = f"nearest prototype of {judge['prototypes']}"
                rows.append([*start, metric, right / of, "share", "all", of])
    return rows


def print_table1(result: dict[str, Any]) -> None:
    """Print table 1 of the paper, reproduced."""
    columns = ("T-RE", "T-VE", "V-RE", "V-VE")
    rows, clips = result["rows"], result["clips"]
    console.table(
        f"Table 1: RE in mm, VE in mm a frame, {_statistics(rows[0][columns[0]])} after "
        f"{result['steps']} steps, {result['epochs']:.1f} epochs; T {clips['T']} training clips, V "
        f"{clips['V']} of actors and sentences never trained on; still: V-RE relative to a still face",
        ["decoder", "weights", "mask", "vertices", *columns, "still"],
        [
            [
                *(row["decoder"], row["weights"], row["mask"], result["masks"][row["mask"]]),
                *_spreads(row, columns),
                row["V-RE still"],
            ]
            for row in rows
        ],
    )


def print_table2(result: dict[str, Any]) -> None:
    """Print table 2 of the paper, reproduced."""
    rows = result["rows"]
    columns = tuple(name for name in rows[0] if name not in ("training", "iterations"))
    console.table(
        f"Table 2: CE share of frames, RE mm over all {result['mask_vertices']} vertices, "
        f"{_statistics(rows[0][columns[0]])} after {result['iterations']} iterations; D "
        f"{result['real_frames']} real frames of the dev actors, G {result['generated_frames']} "
        "generated",
        ["training", *columns],
        [[row["training"], *_spreads(row, columns)] for row in rows],
    )
    columns = TABLE2_CURVE_COLUMNS
    console.table(
        "Table 2 during the trainings",
        ["training", "iterations", *columns],
        [
            [row["training"], row["iterations"], *_spreads(row, columns)]
            for row in result.get("curve", ())
        ],
    )


def _statistics(value: dict[str, Any]) -> str:
    """A sentence that says what the numbers of a table are."""
    return f"mean ± spread of {len(value['seeds'])} seeds"


def _spreads(row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    """Mean and standard deviation of some columns, nothing for those without a value."""
    return [
        "" if row[name] is None else f"{row[name]['mean']:.3f} ± {row[name]['spread']:.3f}"
        for name in columns
    ]


def print_figure6(result: dict[str, Any]) -> None:
    """Print the separation of emotions in figure 6 of the paper, reproduced."""
    console.table(
        f"Figure 6: silhouette of the emotions in the {result['layer']}",
        ["recorded faces", "generated faces"],
        [[result["silhouette_recorded"], result["silhouette_generated"]]],
    )


def print_figure7(result: dict[str, Any]) -> None:
    """Print the metrics of the generators in figure 7 of the paper, reproduced."""
    columns = ("recognised", "seen", "roughness_mm", "moved_mm", "identity_mm")
    console.table(
        f"Figure 7: {result['frames']} frames of the dev actors after {result['iterations']} "
        "iterations, mean ± spread over seeds",
        ["generator", "emotion", *columns],
        [[row["generator"], row["emotion"], *_spreads(row, columns)] for row in result["rows"]],
    )


TABLE2_CURVE_COLUMNS = ("D-CE", "D-RE", "G-CE", "G-CE classifier", "G-RE")
PRINTED_SUITES = {
    "table1": print_table1,
    "table2": print_table2,
    "figure6": print_figure6,
    "figure7": print_figure7,
}
