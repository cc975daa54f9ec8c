"""Draw the mean lips of each class of phones: people's above the talking model's.

python benchmarks/visemes.py DATA CAPTURES PHONES.json [-o out/visemes.png] [--weights SET]
    [--split dev] [--corpus ravdess grid_s1]

People's lips are the captures' means over the middles of all phones of a class, the model's those
that it predicts from the same audio. Both are contours of the canonical face: a frontal row, and a
row from the side, which shows protrusion. Nobody's face is drawn. The numbers below each class are
opening, width and protrusion in mm.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot
import numpy as np

import talkemo
from talkemo.audio.recording import open_audio
from talkemo.data.captures import FittedRecording, read_captures
from talkemo.data.phones import Phone, read_phones
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.by_phone import PHONE_CLASSES, lip_distances
from talkemo.evaluation.closures import MAX_PHONE_S
from talkemo.face.canonical import Face
from talkemo.face.lip_measures import lip_contour
from talkemo.weights.models import Models
from talkemo.weights.names import DEFAULT_SET

OUTER, INNER = slice(0, 12), slice(12, 20)  # of the 20 iBUG points of the lips
MIN_PHONES = 5  # of a class that is drawn
COLOURS = {"people": "tab:blue", "model": "tab:red"}


def middles(recording: FittedRecording, phones: list[Phone]) -> dict[str, list[float]]:
    """The middles in s of a recording's phones, by class, as far as frames are there."""
    of_class = {phone: name for name, group in PHONE_CLASSES.items() for phone in group}
    times = recording.capture.time
    result: dict[str, list[float]] = defaultdict(list)
    for phone in phones:
        middle = (phone.start + phone.end) / 2
        name = of_class.get(phone.name)
        is_short = phone.end - phone.start <= MAX_PHONE_S
        if name and is_short and times[0] <= middle <= times[-1]:
            result[name].append(middle)
    return result


def mean_lips(
    recordings: list[FittedRecording], phones: dict[str, list[Phone]], models: Models, data: Path
) -> dict[str, dict[str, np.ndarray]]:
    """Mean coordinates (S,) by class, of people and of the model."""
    face = models.face
    rows: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for recording in recordings:
        captured = recording.capture.motion(face).coordinates
        audio = open_audio(data / recording.audio)
        for name, times in middles(recording, phones[recording.name]).items():
            predicted = models.talking.motion(audio, np.sort(times)).coordinates
            frames = np.abs(recording.capture.time[:, None] - np.sort(times)).argmin(0)
            rows[name]["people"] += list(captured[frames])
            rows[name]["model"] += list(predicted)
    return {
        name: {who: np.mean(values, axis=0) for who, values in of_class.items()}
        for name, of_class in rows.items()
        if len(of_class["people"]) >= MIN_PHONES
    }


def draw(lips: dict[str, dict[str, np.ndarray]], face: Face, path: Path) -> None:
    """Draw a column a class, people above the model, from the front and from the side."""
    names = [name for name in PHONE_CLASSES if name in lips]
    figure, axes = plot.subplots(4, len(names), figsize=(1.5 * len(names), 6.4), squeeze=False)
    for column, name in enumerate(names):
        for row, who in enumerate(("people", "model")):
            contour = lip_contour(face, lips[name][who][None])[0]
            for view, across in ((0, 0), (1, 2)):
                ax = axes[2 * view + row, column]
                for part in (OUTER, INNER):
                    points = np.concatenate([contour[part], contour[part][:1]])
                    ax.plot(points[:, across], points[:, 1], color=COLOURS[who])
                ax.set_xlim((-32, 32) if across == 0 else (95, 130))
                ax.set_ylim(-58, -18)
                ax.set_aspect("equal")
                ax.axis("off")
            opening, width, protrusion = lip_distances(face, lips[name][who][None])[0]
            axes[row, column].set_title(
                f"{name if row == 0 else who}\n{opening:.1f}  {width:+.1f}  {protrusion:+.1f}",
                fontsize=8,
            )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    parser.add_argument("phones", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/visemes.png"))
    parser.add_argument("--weights", default=DEFAULT_SET)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--corpus", nargs="+", default=["ravdess", "grid_s1"])
    options = parser.parse_args()
    models, phones = talkemo.load_models(options.weights), read_phones(options.phones)
    fitted = []
    for corpus in options.corpus:
        captured = list(read_captures(options.captures / f"{corpus}.npz", models.face))
        fitted += relative_to_rest([f for f in captured if not f.rejected], models.face)
    spoken = [
        f
        for f in fitted
        if f.split == options.split and f.name in phones and f.emotion in ("neutral", "calm")
    ]
    draw(mean_lips(spoken, phones, models, options.data), models.face, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
