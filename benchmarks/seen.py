"""Whether a face tracker sees the emotions on animated heads.

python benchmarks/seen.py SPEECH.wav HEAD... --tracker face_landmarker.task --prototypes model.npz
    [--weights SET] [--intensity 1.0] [--fps 5] [--json] [--pictures FOLDER]

Each head (a mesh file, or the model.npz of ICT FaceKit for its neutral head) speaks with every emotion, is drawn as a
portrait and scored by MediaPipe's Face Landmarker (tracker.py), which this project did not train. What an emotion adds
to the scores, its mean over the sentence less the neutral sentence's, is set beside what six prototypes add to the
neutral face: ICT FaceKit's head with the blend shapes of EMFACS's action units (Friesen, Ekman 1983), drawn likewise.
An emotion is right if the prototype nearest by cosine is its own; its strength is its share along it, 1 being as much
as the prototype. `posed` is the same for the prototype's own blend shapes on this head, still: what the head and the
tracker let one see at best. Length is relative to the prototypes' mean, errors are standard errors of the neutral
sentence's mean, frames taken as independent; calm, which has no prototype, has only these.

Heads are drawn as in previews, with brows and lips, and eyes for masks: the tracker was trained on photographs. See --pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import talkemo
from talkemo import InputError, Models
from talkemo.binding import Binding
from talkemo.capture.landmark_tracker import SCORES, LandmarkTracker
from talkemo.expression.emotions import EMOTIONS
from talkemo.render.appearance import appearance_of
from talkemo.render.images import save_image
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view
from talkemo.weights.registry import DEFAULT_SET

SIZE = 384  # pixels on a side of a picture
ROOM = 1.1  # times the height that the camera shows for a film
PROTOTYPES = {
    "happy": {"mouthSmile": 0.8, "cheekSquint": 0.6, "mouthDimple": 0.2},
    "sad": {"browInnerUp": 0.8, "browDown": 0.3, "mouthFrown": 0.7, "mouthShrugLower": 0.3},
    "angry": {
        "browDown": 0.9,
        "eyeSquint": 0.3,
        "eyeWide": 0.3,
        "mouthPress": 0.5,
        "mouthRollLower": 0.2,
        "noseSneer": 0.2,
    },
    "fearful": {
        "browInnerUp": 0.8,
        "browOuterUp": 0.5,
        "browDown": 0.4,
        "eyeWide": 0.7,
        "mouthStretch": 0.6,
        "jawOpen": 0.15,
    },
    "disgust": {
        "noseSneer": 0.8,
        "mouthUpperUp": 0.5,
        "mouthFrown": 0.4,
        "browDown": 0.4,
        "eyeSquint": 0.3,
        "mouthShrugLower": 0.3,
    },
    "surprised": {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.6, "jawOpen": 0.3},
}
# Where the eyes look and whether they blink tells no emotion; all other scores are compared.
COMPARED = np.array([not name.startswith(("_", "eyeLook", "eyeBlink")) for name in SCORES])
TOLD = 3.0  # standard errors of the neutral mean from which calm is told from it

# ICT FaceKit: vertices that are drawn (after them come tear fluid, occlusion and lashes), and where its parts begin.
ICT_DRAWN = 24591
ICT_PARTS = {0: "skin", 14062: "tongue", 17039: "teeth", 21451: "eyes"}


# ------------------------------------------------------------------------------------------------------------- heads


def write_ict(model: Path, out: Path) -> Path:
    """Write the neutral head of ICT FaceKit's model.npz, with eyes, teeth and tongue, as an obj; returns its path."""
    with np.load(model, allow_pickle=False) as file:
        vertices, quads = file["neutral"][:ICT_DRAWN], file["quads"]
    quads = quads[(quads < ICT_DRAWN).all(1)]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    starts = list(ICT_PARTS)
    part = np.searchsorted(starts, quads[:, 0], side="right") - 1
    for number, start in enumerate(starts):
        lines.append(f"g {ICT_PARTS[start]}")
        lines += [
            "f " + " ".join(str(k + 1) for k in quad if k >= 0) for quad in quads[part == number]
        ]
    path = out / "ict_facekit.obj"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


# ---------------------------------------------------------------------------------------------------------- pictures


class Portrait:
    """Draws frames of a bound head as previews show it, a little smaller. view: front, left or right."""

    def __init__(self, binding: Binding, view: str = "front"):
        camera = frame_view(binding.rest, binding.focus, view, binding.placement.rotation)
        camera = replace(camera, half=ROOM * camera.half, distance=ROOM * camera.distance)
        self.renderer = SoftwareRenderer(appearance_of(binding), camera, (SIZE, SIZE))

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (SIZE, SIZE, 3) uint8 of vertices (N, 3)."""
        return self.renderer.draw(vertices)


# ------------------------------------------------------------------------------------------------------- the measure


@dataclass(frozen=True)
class Head:
    """A bound head and its name."""

    name: str
    binding: Binding


def load_head(path: Path, models: Models, folder: Path) -> Head:
    """A head from a mesh file, or ICT FaceKit's from its npz; folder: where its obj is written."""
    mesh = write_ict(path, folder) if path.suffix == ".npz" else path
    binding = talkemo.bind(mesh, models=models, cache=False)
    return Head(mesh.stem, binding)


def track_all(head: Head, frames: np.ndarray, tracker: LandmarkTracker) -> np.ndarray:
    """Scores (T, 52) of a head's vertices (T, N, 3), NaN where the tracker finds no face."""
    portrait = Portrait(head.binding)
    tracked = [tracker.track(portrait.draw(vertices)) for vertices in frames]
    if not any(tracked):
        raise SystemExit(f"{head.name}: the tracker finds no face")
    return np.array(
        [np.full(len(SCORES), np.nan) if one is None else one.scores for one in tracked]
    )


def added_by(head: Head, frames: np.ndarray, tracker: LandmarkTracker) -> dict[str, np.ndarray]:
    """What each prototype adds to the compared scores (C,) of a head; frames (7, N, 3): neutral and the prototypes."""
    scores = track_all(head, frames, tracker)[:, COMPARED]
    if np.isnan(scores).any():
        raise SystemExit(f"{head.name}: the tracker finds no face in a prototype")
    return dict(zip(PROTOTYPES, scores[1:] - scores[0]))


def prototypes(head: Head, model: Path) -> np.ndarray:
    """Vertices (7, N, 3) of ICT FaceKit's head, neutral and with each prototype of its model.npz."""
    with np.load(model, allow_pickle=False) as file:
        names, shapes = (
            list(file["expression_names"]),
            file["expression"][:, :ICT_DRAWN].astype(np.float32),
        )
    frames = [head.binding.rest]
    for weights in PROTOTYPES.values():
        amounts = [weights.get(name, weights.get(name[:-2], 0.0)) for name in names]
        frames.append(head.binding.rest + np.tensordot(np.array(amounts, np.float32), shapes, 1))
    return np.array(frames)


def posed(head: Head) -> np.ndarray:
    """Vertices (7, N, 3) of a bound head, neutral and with each prototype's blend shapes."""
    face = head.binding.face
    shapes = np.stack([face.shape_vector(weights) for weights in ({}, *PROTOTYPES.values())])
    return head.binding.vertices(shapes @ face.shape_coordinates)


def spoken(
    head: Head, speech: Path, options: argparse.Namespace, models: Models
) -> dict[str, np.ndarray]:
    """Vertices (T, N, 3) of the sentence with every emotion, and `opening` (T,) mm, how far the neutral lips open."""
    result = {}
    for emotion in EMOTIONS:
        made = talkemo.animate(
            head.binding,
            speech,
            blink="off",
            head="off",
            gaze="off",
            emotion=emotion,
            intensity=options.intensity,
            fps=options.fps,
            models=models,
        )
        assert made.vertices is not None and made.motion is not None
        result[emotion] = made.vertices
        if emotion == "neutral":
            result["opening"] = made.motion.lip_opening(models.face)
    return result


def compare(scores: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> dict[str, dict]:
    """What is seen of each emotion of a head; scores: (T, 52) by emotion, known: what the prototypes add."""
    means = {emotion: np.nanmean(rows[:, COMPARED], axis=0) for emotion, rows in scores.items()}
    neutral = scores["neutral"][:, COMPARED]
    neutral = neutral[~np.isnan(neutral).any(1)]
    error = np.linalg.norm(neutral.std(0, ddof=1)) / np.sqrt(len(neutral))
    usual = np.mean([np.linalg.norm(p) for p in known.values()])
    result = {}
    for emotion in EMOTIONS[1:]:
        added = means[emotion] - means["neutral"]
        length = np.linalg.norm(added)
        result[emotion] = {
            "length": float(length / usual),
            "errors": float(length / error),
            "lost": int(np.isnan(scores[emotion]).any(1).sum()),
            "added": named(added),
            **(judged(added, emotion, known) if emotion in known else {}),
        }
    return result


def judged(added: np.ndarray, emotion: str, known: dict[str, np.ndarray]) -> dict:
    """Which prototype is nearest to what an emotion adds (C,), whether it is its own, and how strong along its own."""
    length = np.linalg.norm(added) + 1e-12
    cosines = {name: float(added @ p / (length * np.linalg.norm(p))) for name, p in known.items()}
    nearest = max(cosines, key=lambda name: cosines[name])
    strength = float(added @ known[emotion] / (known[emotion] @ known[emotion]))
    return {
        "nearest": nearest,
        "right": nearest == emotion,
        "strength": strength,
        "cosines": cosines,
    }


def named(added: np.ndarray, least: float = 0.02) -> dict[str, float]:
    """The compared scores (C,) that change by `least` or more, by their names."""
    names = np.array(SCORES)[COMPARED]
    return {
        str(names[k]): round(float(added[k]), 3)
        for k in np.argsort(-np.abs(added))
        if abs(added[k]) >= least
    }


def contact_sheet(head: Head, frames: dict[str, np.ndarray]) -> np.ndarray:
    """The emotions side by side, (2·SIZE, 8·SIZE, 3), front and side, where the neutral lips open by the median."""
    opening = frames["opening"]
    frame = int(np.argsort(opening)[len(opening) // 2])
    views = [Portrait(head.binding, view) for view in ("front", "left")]
    return np.vstack(
        [np.hstack([view.draw(frames[emotion][frame]) for emotion in EMOTIONS]) for view in views]
    )


# ------------------------------------------------------------------------------------------------------------ output


def summary(heads: dict[str, dict[str, dict]]) -> dict:
    """How many emotions of all heads are right, and the mean strength of each."""
    rows = {emotion: [head[emotion] for head in heads.values()] for emotion in PROTOTYPES}
    return {
        "right": sum(row["right"] for of_emotion in rows.values() for row in of_emotion),
        "posed_right": sum(
            row["posed"]["right"] for of_emotion in rows.values() for row in of_emotion
        ),
        "of": len(rows) * len(heads),
        "right_by_emotion": {
            emotion: sum(row["right"] for row in some) for emotion, some in rows.items()
        },
        "strength": {
            emotion: float(np.mean([row["strength"] for row in some]))
            for emotion, some in rows.items()
        },
    }


def print_tables(heads: dict[str, dict[str, dict]], total: dict) -> None:
    """A line for each head and emotion, then the summary."""
    columns = f"{'cosine':>6} {'strength':>8} {'length':>6} {'errors':>6}  posed"
    print(f"{'head':20} {'emotion':10} {'nearest':10} {'':5} {columns}")
    for name, rows in heads.items():
        for emotion, row in rows.items():
            end = f"{row['length']:6.2f} {row['errors']:6.1f}"
            if "nearest" in row:
                seen = f"{row['nearest']:10} {'right' if row['right'] else 'wrong'} {row['cosines'][emotion]:6.2f}"
                best = row["posed"]
                seen += f" {row['strength']:8.2f} {end}  {best['nearest']} {best['strength']:.2f}"
            else:
                seen = f"{'' if row['errors'] > TOLD else 'not '}told from neutral".ljust(32) + end
            print(
                f"{name:20.20} {emotion:10} {seen}"
                + (f"  {row['lost']} frames lost" if row["lost"] else "")
            )
    print(f"\n{total['right']} of {total['of']} right; posed {total['posed_right']}")
    for emotion, strength in total["strength"].items():
        print(
            f"{emotion:10} {total['right_by_emotion'][emotion]} of {len(heads)} right, mean strength {strength:.2f}"
        )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("speech", type=Path)
    parser.add_argument("heads", type=Path, nargs="+", metavar="HEAD")
    parser.add_argument(
        "--tracker",
        type=Path,
        required=True,
        metavar="FILE",
        help="MediaPipe's face_landmarker.task",
    )
    parser.add_argument(
        "--prototypes", type=Path, required=True, metavar="FILE", help="ICT FaceKit's model.npz"
    )
    parser.add_argument("--weights", default=DEFAULT_SET, metavar="SET")
    parser.add_argument("--intensity", type=float, default=1.0)
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second that are drawn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write a contact sheet of each head"
    )
    return parser.parse_args()


def look_at(
    head: Head,
    known: dict[str, np.ndarray],
    options: argparse.Namespace,
    models: Models,
    tracker: LandmarkTracker,
):
    """What is seen of each emotion of a head, see `compare`; its contact sheet is written where one is wanted."""
    frames = spoken(head, options.speech, options, models)
    if options.pictures:
        save_image(options.pictures / f"{head.name}.png", contact_sheet(head, frames))
    rows = compare(
        {emotion: track_all(head, frames[emotion], tracker) for emotion in EMOTIONS}, known
    )
    for emotion, added in added_by(head, posed(head), tracker).items():
        rows[emotion]["posed"] = judged(added, emotion, known)
    return rows


def main() -> None:
    options = parse_options()
    models, tracker = talkemo.load_models(options.weights), LandmarkTracker(options.tracker)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    heads = {}
    with tempfile.TemporaryDirectory() as folder:
        model = load_head(options.prototypes, models, Path(folder))
        known = added_by(model, prototypes(model, options.prototypes), tracker)
        for path in options.heads:
            head = model if path == options.prototypes else load_head(path, models, Path(folder))
            heads[head.name] = look_at(head, known, options, models, tracker)
    total = summary(heads)
    if options.json:
        shapes = {emotion: named(added) for emotion, added in known.items()}
        print(json.dumps({"summary": total, "heads": heads, "prototypes": shapes}, indent=1))
    else:
        print_tables(heads, total)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error.message}\n{error.hint}")
