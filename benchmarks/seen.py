"""Whether a face tracker recognises the emotions on animated heads.

python benchmarks/seen.py SPEECH.wav HEAD... --tracker face_landmarker.task --prototypes model.npz
    [--actors CAPTURES.npz...] [--weights SET] [--intensity 1.0] [--fps 5] [--json]
    [--images FOLDER]

Each head (a mesh file, or ICT-FaceKit's model.npz for its neutral head) speaks with every emotion,
is drawn as a portrait and scored by MediaPipe's Face Landmarker, which was trained independently of
this project. The change of the scores by an emotion (mean over the sentence minus that of the
neutral sentence) is compared with the changes by six prototypes: ICT-FaceKit's head with the blend
shapes of EMFACS's action units (Friesen and Ekman 1983), drawn in the same way.

The emotions were trained on poses of the same action units, drawn by the same hand. So the six
prototypes show that the pose arrives on a head, not that people feel it. With --actors, captures of
a corpus of acted emotion (`talkemo reconstruct DATA/java_sed`), its actors' prototypes judge as
well: ICT-FaceKit's head with their mean change of weights from neutral. It should be a corpus that
the emotions were not trained on; the default set was trained on ravdess.

right     the nearest prototype by cosine is the emotion's own
strength  component along the own prototype; 1 is as strong as the prototype
length    of the change, relative to the prototypes' mean
errors    length in standard errors of the neutral sentence's mean, with frames taken as
          independent; the only measure of calm, which has no prototype
actors    the nearest prototype of each corpus's actors; the emotions they do not show are left out
posed     the same for the prototype's blend shapes on this head without speech: the best that head
          and tracker allow

Heads are drawn as in previews, with brows and lips, and eyes for masks, because the tracker was
trained on photographs; see --images.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import talkemo
from talkemo import InputError, Models
from talkemo.binding import Binding
from talkemo.capture.landmark_tracker import SCORE_NAMES, LandmarkTracker
from talkemo.data.captures import read_captures
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.actors import ActorChanges, Judge, Recognition
from talkemo.expression.emotions import EMOTIONS
from talkemo.render.appearance import appearance_of
from talkemo.render.images import save_image
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view
from talkemo.weights.registry import DEFAULT_SET

PORTRAIT_PIXELS = 384  # on each side of an image
PORTRAIT_SCALE = 1.1  # height that the camera shows, relative to videos
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
POSES = "poses"  # name of PROTOTYPES among the prototypes of actors
# Gaze and blinks carry no emotion; all other scores are compared.
COMPARED_SCORES = np.array(
    [not name.startswith(("_", "eyeLook", "eyeBlink")) for name in SCORE_NAMES]
)
MIN_STANDARD_ERRORS = 3.0  # from which calm counts as distinguished from neutral
MIN_SCORE_CHANGE = 0.02  # smaller ones are left out of the JSON

# ICT-FaceKit: drawn vertices (before tear fluid, occlusion and lashes), and the first of each part.
ICT_DRAWN_VERTICES = 24591
ICT_PARTS = {0: "skin", 14062: "tongue", 17039: "teeth", 21451: "eyes"}


# ------------------------------------------------------------------------------------------ heads


@dataclass(frozen=True)
class Head:
    """A bound head and its name."""

    name: str
    binding: Binding


def load_head(path: Path, models: Models, folder: Path) -> Head:
    """Bind a mesh file, or ICT-FaceKit's npz, of which an obj is written to `folder`."""
    mesh = write_ict_head(path, folder) if path.suffix == ".npz" else path
    return Head(mesh.stem, talkemo.bind(mesh, models=models, cache=False))


def write_ict_head(model: Path, folder: Path) -> Path:
    """Write ICT-FaceKit's neutral head with eyes, teeth and tongue as an obj; returns its path."""
    with np.load(model, allow_pickle=False) as file:
        vertices, quads = file["neutral"][:ICT_DRAWN_VERTICES], file["quads"]
    quads = quads[(quads < ICT_DRAWN_VERTICES).all(1)]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    starts = list(ICT_PARTS)
    part_of_quad = np.searchsorted(starts, quads[:, 0], side="right") - 1
    for number, start in enumerate(starts):
        lines.append(f"g {ICT_PARTS[start]}")
        for quad in quads[part_of_quad == number]:
            lines.append("f " + " ".join(str(k + 1) for k in quad if k >= 0))
    path = folder / "ict_facekit.obj"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def prototype_frames(head: Head, model: Path, prototypes: Iterable[dict[str, float]]) -> np.ndarray:
    """Vertices (1 + prototypes, N, 3) of ICT-FaceKit's head, neutral and with each prototype."""
    with np.load(model, allow_pickle=False) as file:
        names = list(file["expression_names"])
        shapes = file["expression"][:, :ICT_DRAWN_VERTICES].astype(np.float32)
    frames = [head.binding.rest]
    for weights in prototypes:
        amounts = [weights.get(name, weights.get(name[:-2], 0.0)) for name in names]
        frames.append(head.binding.rest + np.tensordot(np.array(amounts, np.float32), shapes, 1))
    return np.array(frames)


def posed_frames(head: Head) -> np.ndarray:
    """Vertices (7, N, 3) of a bound head, neutral and with each prototype's blend shapes."""
    face = head.binding.face
    weights = np.stack([face.weight_vector(amounts) for amounts in ({}, *PROTOTYPES.values())])
    return head.binding.vertices(weights @ face.weights_to_coordinates)


def spoken_frames(
    head: Head, options: argparse.Namespace, models: Models
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Vertices (T, N, 3) of the sentence by emotion, and the neutral lip opening (T,) mm."""
    frames, opening = {}, np.zeros(0)
    for emotion in EMOTIONS:
        result = talkemo.animate(
            head.binding,
            options.speech,
            blink="off",
            head="off",
            gaze="off",
            emotion=emotion,
            intensity=options.intensity,
            fps=options.fps,
            models=models,
        )
        assert result.vertices is not None and result.motion is not None
        frames[emotion] = result.vertices
        if emotion == "neutral":
            opening = result.motion.lip_opening(models.face)
    return frames, opening


# ----------------------------------------------------------------------------------------- images


def portrait_renderer(binding: Binding, view: str = "front") -> SoftwareRenderer:
    """Draws a bound head as previews show it, slightly smaller. view: front, left or right."""
    camera = frame_view(binding.rest, binding.focus, view, binding.placement.rotation)
    camera = replace(
        camera, half=PORTRAIT_SCALE * camera.half, distance=PORTRAIT_SCALE * camera.distance
    )
    return SoftwareRenderer(appearance_of(binding), camera, (PORTRAIT_PIXELS, PORTRAIT_PIXELS))


def contact_sheet(head: Head, frames: dict[str, np.ndarray], opening: np.ndarray) -> np.ndarray:
    """All emotions from the front and the side, in the frame of median lip opening (T,)."""
    frame = int(np.argsort(opening)[len(opening) // 2])
    rows = []
    for view in ("front", "left"):
        renderer = portrait_renderer(head.binding, view)
        rows.append(np.hstack([renderer.draw(frames[emotion][frame]) for emotion in EMOTIONS]))
    return np.vstack(rows)


# ------------------------------------------------------------------------------------ measurement


def track_frames(head: Head, frames: np.ndarray, tracker: LandmarkTracker) -> np.ndarray:
    """Scores (T, 52) of a head's vertices (T, N, 3), NaN where the tracker finds no face."""
    renderer = portrait_renderer(head.binding)
    tracked = [tracker.track(renderer.draw(vertices)) for vertices in frames]
    if not any(tracked):
        raise SystemExit(f"{head.name}: the tracker finds no face")
    missing = np.full(len(SCORE_NAMES), np.nan)
    return np.array([missing if result is None else result.scores for result in tracked])


def prototype_changes(head: Head, frames: np.ndarray, tracker: LandmarkTracker) -> np.ndarray:
    """Change (P, C) of the compared scores by each of P prototypes.

    frames : (1 + P, N, 3), neutral and with each prototype.
    """
    scores = track_frames(head, frames, tracker)[:, COMPARED_SCORES]
    if np.isnan(scores).any():
        raise SystemExit(f"{head.name}: the tracker finds no face in a prototype")
    return scores[1:] - scores[0]


def seen_actors(
    path: Path,
    ict_head: Head,
    options: argparse.Namespace,
    models: Models,
    tracker: LandmarkTracker,
) -> ActorChanges:
    """Changes (C,) of the compared scores by each emotion of each actor of a corpus's captures.

    ICT-FaceKit's head shows the actor's mean change of weights from neutral.
    """
    fitted = [row for row in read_captures(path, models.face) if not row.rejected]
    actors = ActorChanges.of_recordings(relative_to_rest(fitted, models.face))
    if len(actors.prototypes()) < 2:
        raise SystemExit(f"{path}: captures of fewer than two emotions")
    names = models.face.expression_names
    shown = [(actor, emotion) for actor, rows in actors.changes.items() for emotion in rows]
    weights = [dict(zip(names, actors.changes[actor][emotion])) for actor, emotion in shown]
    frames = prototype_frames(ict_head, options.prototypes, weights)
    seen: dict[str, dict[str, np.ndarray]] = {}
    for (actor, emotion), change in zip(shown, prototype_changes(ict_head, frames, tracker)):
        seen.setdefault(actor, {})[emotion] = change
    return ActorChanges(seen)


def recognised_actors(actors: ActorChanges) -> list[int]:
    """How many emotions of actors the other actors' prototypes recognise, and of how many."""
    judged = [
        (Judge.of_prototypes(actors.prototypes(without=actor)), emotion, change)
        for actor, rows in actors.changes.items()
        for emotion, change in rows.items()
    ]
    counts = Recognition.count(judged)
    return [sum(counts.right.values()), sum(counts.of.values())]


def compare(
    scores: dict[str, np.ndarray], prototypes: dict[str, dict[str, np.ndarray]]
) -> dict[str, dict]:
    """Metrics of each emotion of a head.

    Parameters
    ----------
    scores
        (T, 52) by emotion.
    prototypes
        Their changes (C,) by emotion, of POSES and of each corpus of actors.
    """
    poses = prototypes[POSES]
    means = {name: np.nanmean(rows[:, COMPARED_SCORES], axis=0) for name, rows in scores.items()}
    neutral = scores["neutral"][:, COMPARED_SCORES]
    neutral = neutral[~np.isnan(neutral).any(1)]
    error = np.linalg.norm(neutral.std(0, ddof=1)) / np.sqrt(len(neutral))
    mean_length = np.mean([np.linalg.norm(change) for change in poses.values()])
    result = {}
    for emotion in EMOTIONS[1:]:
        change = means[emotion] - means["neutral"]
        length = np.linalg.norm(change)
        result[emotion] = {
            "length": float(length / mean_length),
            "errors": float(length / error),
            "lost": int(np.isnan(scores[emotion]).any(1).sum()),
            "added": change_by_name(change),
            "actors": {
                corpus: classify(change, emotion, of_actors)
                for corpus, of_actors in prototypes.items()
                if corpus != POSES and emotion in of_actors
            },
            **(classify(change, emotion, poses) if emotion in poses else {}),
        }
    return result


def classify(change: np.ndarray, emotion: str, prototypes: dict[str, np.ndarray]) -> dict:
    """The prototype nearest to a change (C,), and the strength along the emotion's own."""
    length = np.linalg.norm(change) + 1e-12
    cosines = {
        name: float(change @ prototype / (length * np.linalg.norm(prototype)))
        for name, prototype in prototypes.items()
    }
    nearest = max(cosines, key=lambda name: cosines[name])
    prototype = prototypes[emotion]
    return {
        "nearest": nearest,
        "right": nearest == emotion,
        "strength": float(change @ prototype / (prototype @ prototype)),
        "cosines": cosines,
    }


def change_by_name(change: np.ndarray) -> dict[str, float]:
    """The scores of a change (C,) of at least MIN_SCORE_CHANGE, largest first."""
    names = np.array(SCORE_NAMES)[COMPARED_SCORES]
    return {
        str(names[k]): round(float(change[k]), 3)
        for k in np.argsort(-np.abs(change))
        if abs(change[k]) >= MIN_SCORE_CHANGE
    }


def measure_head(
    head: Head,
    prototypes: dict[str, dict[str, np.ndarray]],
    options: argparse.Namespace,
    models: Models,
    tracker: LandmarkTracker,
) -> dict[str, dict]:
    """Metrics of each emotion of a head, see `compare`; writes its contact sheet if asked to.

    `prototypes` are the changes (C,) by emotion of POSES and of each corpus of actors.
    """
    frames, opening = spoken_frames(head, options, models)
    if options.images:
        sheet = contact_sheet(head, frames, opening)
        save_image(options.images / f"{head.name}.png", sheet)
    scores = {emotion: track_frames(head, frames[emotion], tracker) for emotion in EMOTIONS}
    rows = compare(scores, prototypes)
    posed = prototype_changes(head, posed_frames(head), tracker)
    for emotion, change in zip(PROTOTYPES, posed):
        rows[emotion]["posed"] = classify(change, emotion, prototypes[POSES])
    return rows


# ----------------------------------------------------------------------------------------- output


def summarise(heads: dict[str, dict[str, dict]]) -> dict:
    """Numbers of right emotions over all heads, and the mean strength of each."""
    rows = {emotion: [head[emotion] for head in heads.values()] for emotion in PROTOTYPES}
    right = {emotion: sum(row["right"] for row in values) for emotion, values in rows.items()}
    return {
        "right": sum(right.values()),
        "posed_right": sum(row["posed"]["right"] for values in rows.values() for row in values),
        "of": len(rows) * len(heads),
        "right_by_emotion": right,
        "actors": actors_summary(heads),
        "strength": {
            emotion: float(np.mean([row["strength"] for row in values]))
            for emotion, values in rows.items()
        },
    }


def actors_summary(heads: dict[str, dict[str, dict]]) -> dict[str, list[int]]:
    """How many emotions the actors of each corpus recognise on all heads, and how many they show."""
    counts: dict[str, list[int]] = {}
    for rows in heads.values():
        for row in rows.values():
            for corpus, judged in row["actors"].items():
                count = counts.setdefault(corpus, [0, 0])
                count[0] += judged["right"]
                count[1] += 1
    return counts


def print_tables(heads: dict[str, dict[str, dict]], total: dict) -> None:
    """Print a line for each head and emotion, then the summary."""
    columns = f"{'cosine':>6} {'strength':>8} {'length':>6} {'errors':>6}  posed"
    print(f"{'head':20} {'emotion':10} {'nearest':10} {'':5} {columns}")
    for name, rows in heads.items():
        for emotion, row in rows.items():
            length = f"{row['length']:6.2f} {row['errors']:6.1f}"
            if "nearest" in row:
                verdict, posed = "right" if row["right"] else "wrong", row["posed"]
                text = (
                    f"{row['nearest']:10} {verdict} {row['cosines'][emotion]:6.2f}"
                    f" {row['strength']:8.2f} {length}  {posed['nearest']} {posed['strength']:.2f}"
                )
            else:
                distinct = "" if row["errors"] > MIN_STANDARD_ERRORS else "not "
                text = f"{distinct}distinct from neutral".ljust(32) + length
            for corpus, judged in row["actors"].items():
                text += f"  {corpus}: {judged['nearest']}"
            lost = f"  no face in {row['lost']} frames" if row["lost"] else ""
            print(f"{name:20.20} {emotion:10} {text}{lost}")
    print(
        f"\n{total['right']} of {total['of']} right by the poses, which the emotions were trained"
        f" on: the pose arrives, which does not show that people feel it; posed"
        f" {total['posed_right']}"
    )
    for corpus, (right, of) in total["actors"].items():
        own = "{} of {}".format(*total["actors_themselves"][corpus])
        print(f"{right} of {of} right by the actors of {corpus}; they recognise {own} of their own")
    for emotion, strength in total["strength"].items():
        right = f"{total['right_by_emotion'][emotion]} of {len(heads)} right"
        print(f"{emotion:10} {right}, mean strength {strength:.2f}")


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("speech", type=Path)
    add("heads", type=Path, nargs="+", metavar="HEAD")
    add("--tracker", type=Path, required=True, help="MediaPipe's face_landmarker.task")
    add("--prototypes", type=Path, required=True, help="ICT-FaceKit's model.npz")
    add("--actors", type=Path, nargs="+", default=[], help="captures of acted emotion")
    add("--weights", default=DEFAULT_SET, metavar="SET")
    add("--intensity", type=float, default=1.0)
    add("--fps", type=float, default=5.0, help="frames drawn per second")
    add("--json", action="store_true", help="print one JSON object")
    add("--images", type=Path, metavar="FOLDER", help="write a contact sheet of each head")
    add("--pictures", type=Path, dest="images", help=argparse.SUPPRESS)  # deprecated
    return parser.parse_args()


def main() -> None:
    """Parse the command line, measure the heads and print the metrics."""
    options = parse_options()
    models, tracker = talkemo.load_models(options.weights), LandmarkTracker(options.tracker)
    if options.images:
        options.images.mkdir(parents=True, exist_ok=True)
    heads = {}
    with tempfile.TemporaryDirectory() as folder:
        ict_head = load_head(options.prototypes, models, Path(folder))
        frames = prototype_frames(ict_head, options.prototypes, PROTOTYPES.values())
        poses = dict(zip(PROTOTYPES, prototype_changes(ict_head, frames, tracker)))
        actors = {
            path.stem: seen_actors(path, ict_head, options, models, tracker)
            for path in options.actors
        }
        prototypes = {POSES: poses, **{name: seen.prototypes() for name, seen in actors.items()}}
        for path in options.heads:
            head = ict_head
            if path != options.prototypes:
                head = load_head(path, models, Path(folder))
            heads[head.name] = measure_head(head, prototypes, options, models, tracker)
    total = summarise(heads)
    total["actors_themselves"] = {name: recognised_actors(seen) for name, seen in actors.items()}
    if options.json:
        changes = {
            name: {emotion: change_by_name(change) for emotion, change in shown.items()}
            for name, shown in prototypes.items()
        }
        result = {"summary": total, "heads": heads, "prototypes": changes.pop(POSES)}
        result["actors"] = changes
        print(json.dumps(result, indent=1))
    else:
        print_tables(heads, total)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error.message}\n{error.hint}")
