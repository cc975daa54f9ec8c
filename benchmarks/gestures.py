"""What faces of people do where a voice begins, asks, stresses, laughs and sighs, beside talkemo's.

python benchmarks/gestures.py DATA [CAPTURES] [--split dev ...] [--corpora talking ...]
                              [--laughs FOLDER] [-o docs/gestures.png] [--json]

Two kinds of tables are printed. The first has averages over the events of audio/prosody.py in filmed people,
in talkemo's face for the same recordings, and in the same with `--liveliness off`; n is the number of
events that have enough motion around them. A number is a mean within a window minus a mean before
(MEASURES), ± its standard error; the control is the same of people at random times.

lips open    before a phrase that follows a pause: opening of the inner lips, mm, and jawOpen
brows        at the end of a question: height of the brow landmarks, mm, and browInnerUp
             at a stress: the same
nod          at a stress: pitch of the head, degrees
smile        at a laugh: mouthSmile, eyeSquint
sigh         opening of the inner lips, mm

Below it is how well lips follow: Pearson r of their opening with people's, mean over clips.

The second counts events a minute in speech without laughter: filmed, acted neutral (ravdess), read
and spoken (speech/, some recordings of each set). --laughs is a folder of recordings of laughter:
the share of them in which it is found. -o draws the averages, a row for each split.

Sizes and delays in talkemo/expression were chosen with `--split train`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from upper_face import BROWS, MESH, RATE_HZ, Clip, acted_clip, correlation, filmed_clips

from talkemo import AnimateOptions, bind, load_models
from talkemo.audio.prosody import PAUSE_EVENT_ROWS, ROW_S, Prosody, Voice
from talkemo.audio.recording import open_audio
from talkemo.face.canonical import LIP_PAIRS

MIN_CLIP_S = 2.0
BEFORE_S, AFTER_S = 0.8, 0.9  # of an event that must be known
CONTROLS = 5  # random times for each event
FIRST_S = 0.7  # after the beginning of a clip, for a phrase: before it is a pause
COLUMNS = {
    "people": None,
    "talkemo": AnimateOptions(),
    "liveliness off": AnimateOptions(liveliness="off"),
}
COLOURS = {"people": "#1f4e9c", "talkemo": "#c0392b", "liveliness off": "#999999"}
NEUTRAL = "01-01-"  # how names of neutral recordings in ravdess begin
RECORDINGS_OF_SET = 60
MIN_DRAWN = 5  # events of an average that is drawn
AUDIO_ENDINGS = {".ogg", ".flac", ".wav", ".mp3"}
COUNTED = ("phrase", "stress", "question", "laugh", "sigh")

Window = tuple[float, float]  # s after an event


@dataclass(frozen=True)
class Measure:
    """A series around events, and the windows whose means are compared."""

    event: str
    name: str
    unit: str
    shown: Window
    before: tuple[Window, ...]
    shift: float = 0.0  # s from the event to where its time is 0


END_S = -PAUSE_EVENT_ROWS * ROW_S  # from a question's event to the last sound
MEASURES = (
    Measure("phrase", "lips open", "mm", (-0.25, -0.08), ((-0.7, -0.45),)),
    Measure("phrase", "jawOpen", "", (-0.25, -0.08), ((-0.7, -0.45),)),
    Measure("question", "brows", "mm", (-0.2, 0.5), ((-0.7, -0.5),), END_S),
    Measure("question", "browInnerUp", "", (-0.2, 0.5), ((-0.7, -0.5),), END_S),
    Measure("stress", "brows", "mm", (0.0, 0.2), ((-0.5, -0.3), (0.5, 0.7))),
    Measure("stress", "nod", "°", (-0.05, 0.1), ((-0.35, -0.25), (0.25, 0.35))),
    Measure("laugh", "mouthSmile", "", (0.0, 0.8), ((-0.8, -0.6),)),
    Measure("laugh", "eyeSquint", "", (0.0, 0.8), ((-0.8, -0.6),)),
    Measure("sigh", "lips open", "mm", (-0.2, 0.4), ((-0.8, -0.6),)),
)
DRAWN = (MEASURES[0], MEASURES[2], MEASURES[4], MEASURES[5])
DRAWN_TITLES = ("before a phrase", "a question ends", "a stress", "a stress")


def main() -> None:
    """Parse the command line, measure, print the tables and draw the averages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path, nargs="?")
    parser.add_argument("--split", nargs="+", default=["dev"], choices=("train", "dev"))
    parser.add_argument("--corpora", nargs="+", default=["talking"])
    parser.add_argument("--weights", default="default")
    parser.add_argument("--laughs", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips = {split: clips_of_columns(options, split) for split in options.split}
    result = {split: measured(of_split) for split, of_split in clips.items()}
    rates = dict(event_rates(options.data))
    if options.laughs:
        rates["laughter"] = found_laughs(options.laughs)
    if options.output:
        draw(clips, options.output)
    if options.json:
        print(json.dumps({**result, "a minute": rates}, indent=1))
        return
    for split, of_split in result.items():
        print(f"{of_split['clips']} clips of {', '.join(options.corpora)}, {split} split\n")
        print_table(of_split["averages"])
        print("\nlips, r:", of_split["lips"], "\n")
    print_table([{"speech": name, **row} for name, row in rates.items()])


def measured(clips: dict[str, list[Clip]]) -> dict[str, Any]:
    """What is printed about clips."""
    people = clips["people"]
    lips = {name: round(lips_follow(people, clips[name]), 4) for name in COLUMNS}
    averages = [row_of(measure, clips) for measure in MEASURES]
    return {"clips": len(people), "averages": averages, "lips": lips}


def clips_of_columns(options: argparse.Namespace, split: str) -> dict[str, list[Clip]]:
    """People's clips of a split, and what talkemo makes of their recordings, by COLUMNS."""
    models = load_models(options.weights, device="cpu")
    binding = bind(MESH, models=models)
    clips: dict[str, list[Clip]] = {name: [] for name in COLUMNS}
    for corpus in options.corpora:
        filmed = filmed_clips(options.data, options.captures, models, split, corpus, MIN_CLIP_S)
        for person, recording in filmed:
            clips["people"].append(person)
            for name, acting in COLUMNS.items():
                if acting is not None:
                    path = options.data / recording.audio
                    clips[name].append(acted_clip(models, binding, acting, path, person))
    return clips


def row_of(measure: Measure, clips: dict[str, list[Clip]]) -> dict[str, str]:
    """A row of the first table."""
    control = changes(measure, clips["people"], np.random.default_rng(0))
    row = {"event": measure.event, "measure": f"{measure.name}, {measure.unit}".rstrip(", ")}
    row["n"] = str(len(changes(measure, clips["people"])))
    row |= {name: with_error(changes(measure, of_column)) for name, of_column in clips.items()}
    return row | {"control": with_error(control)}


def changes(
    measure: Measure, clips: list[Clip], random: np.random.Generator | None = None
) -> np.ndarray:
    """Mean of each event's shown window minus that of the windows before."""
    around, lags = averaged(measure, clips, random)
    shown = around[:, within(lags, measure.shown)].mean(1)
    return shown - np.mean([around[:, within(lags, w)].mean(1) for w in measure.before], 0)


def within(lags: np.ndarray, window: Window) -> np.ndarray:
    """Which of the lags lie in a window; the nearest to its middle if none does."""
    inside = (lags >= window[0] - 1e-6) & (lags <= window[1] + 1e-6)
    return inside if inside.any() else np.abs(lags - np.mean(window)).argmin()[None]


def averaged(
    measure: Measure, clips: list[Clip], random: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A series around each event (n, lags) relative to its clip's median, and the lags in s."""
    lags = np.arange(round(-BEFORE_S * RATE_HZ), round(AFTER_S * RATE_HZ) + 1)
    rows = []
    for clip in clips:
        series = series_of(clip, measure.name)
        series = series - np.median(series)
        times = np.array(event_times(clip, measure.event)) - clip.start + measure.shift
        if random is not None:
            times = random.uniform(0, len(series) / RATE_HZ, CONTROLS * len(times))
        for time in times:
            at = time * RATE_HZ + lags
            if at[0] >= 0 and at[-1] <= len(series) - 1:
                rows.append(np.interp(at, np.arange(len(series)), series))
    return np.array(rows).reshape(-1, len(lags)), lags / RATE_HZ


def event_times(clip: Clip, kind: str) -> list[float]:
    """Times of a kind of events; of phrases, those before which there is a pause to be seen."""
    earliest = clip.start + (FIRST_S if kind == "phrase" else 0)
    return [e.time for e in clip.voice.events if e.kind == kind and e.time > earliest]


def series_of(clip: Clip, name: str) -> np.ndarray:
    """The series (T,) of a measure."""
    if name == "lips open":
        upper, lower = np.transpose(LIP_PAIRS)
        return (clip.landmarks[:, upper, 1] - clip.landmarks[:, lower, 1]).mean(1)
    if name == "brows":
        return clip.landmarks[:, BROWS, 1].mean(1)
    if name == "nod":
        return clip.head[:, 0]
    sides = [curve for key, curve in clip.curves.items() if key.startswith(name)]
    return np.mean(sides, 0)


def lips_follow(people: list[Clip], shown: list[Clip]) -> float:
    """Pearson r of the lips' opening in two lists of clips, mean over the clips."""
    pairs = zip(people, shown, strict=True)
    r = [correlation(*(series_of(clip, "lips open") for clip in pair)) for pair in pairs]
    return float(np.nanmean(r))


def with_error(values: np.ndarray) -> str:
    """Mean ± standard error, or a dash."""
    if len(values) < 2:
        return "–"
    return f"{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def event_rates(data: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Events a minute in speech, by what is spoken."""
    with (data / "talking" / "clips.tsv").open(encoding="utf-8") as file:
        columns = file.readline().rstrip("\n").split("\t")
        rows = [dict(zip(columns, line.rstrip("\n").split("\t"))) for line in file]
    for split in ("train", "dev"):
        names = [r["name"] for r in rows if (r["split"] == "dev") == (split == "dev")]
        paths = (data / "talking" / "audio" / f"{name}.ogg" for name in names)
        yield f"talking, {split}", rates_of(paths)
    yield "ravdess, neutral", rates_of(sorted((data / "ravdess").glob(f"audio/*/{NEUTRAL}*")))
    for folder in sorted(f for f in (data / "speech").iterdir() if f.is_dir()):
        recordings = sorted(audio_files(folder))
        chosen = np.linspace(0, len(recordings) - 1, RECORDINGS_OF_SET).astype(int)
        yield folder.name, rates_of(recordings[k] for k in np.unique(chosen))


def audio_files(folder: Path) -> Iterator[Path]:
    """The audio files below a folder."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS)


def voice_of(path: Path) -> tuple[Voice, float]:
    """What a recording's voice does, and its duration in s."""
    audio = open_audio(path)
    return Prosody(audio).until(np.arange(0, audio.duration, 1 / RATE_HZ)), audio.duration


def rates_of(paths: Iterable[Path]) -> dict[str, str]:
    """Minutes of some recordings, and the events a minute."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    for path in paths:
        voice, duration = voice_of(path)
        counts.update(event.kind for event in voice.events)
        seconds += duration
    minutes = seconds / 60
    rates = {kind: f"{counts[kind] / minutes:.2f}" for kind in COUNTED}
    return {"minutes": f"{minutes:.1f}", **rates}


def found_laughs(folder: Path) -> dict[str, str]:
    """In how many recordings of laughter it is found."""
    paths = sorted(audio_files(folder))
    found = [any(e.kind == "laugh" for e in voice_of(path)[0].events) for path in paths]
    return {"laugh": f"in {sum(found)} of {len(found)}"}


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows as a table in Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(row.get(key, "") for key in rows[0]) + " |")


def draw(clips: dict[str, dict[str, list[Clip]]], output: Path) -> None:
    """Draw people's averages, with their standard error, beside talkemo's; a row a split."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    size = (13, 2.8 * len(clips))
    figure, axes = plot.subplots(len(clips), len(DRAWN), figsize=size, squeeze=False)
    for row, (split, of_split) in zip(axes, clips.items()):
        for axis, measure, title in zip(row, DRAWN, DRAWN_TITLES):
            draw_average(axis, measure, of_split)
            axis.set_title(f"{title}, {split}, {axis.get_title()}", fontsize=10)
        row[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(output, dpi=80)


def draw_average(axis: Any, measure: Measure, clips: dict[str, list[Clip]]) -> None:
    """Draw the averages of a measure; the title is the number of events."""
    count = 0
    for name, of_column in clips.items():
        around, lags = averaged(measure, of_column)
        count = len(around)
        if count < MIN_DRAWN:
            continue
        around = around - around[:, within(lags, measure.before[0])].mean(1, keepdims=True)
        mean, error = around.mean(0), around.std(0) / count**0.5
        axis.plot(lags, mean, color=COLOURS[name], label=name)
        if name == "people":
            axis.fill_between(lags, mean - error, mean + error, color=COLOURS[name], alpha=0.2)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(title=f"n = {count}", xlabel="s", xlim=(-BEFORE_S, AFTER_S))
    axis.set_ylabel(f"{measure.name}, {measure.unit}")


if __name__ == "__main__":
    main()
