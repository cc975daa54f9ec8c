"""How much of a person's own expression a captured performance keeps.

python benchmarks/own_expression.py [VIDEO...] [--tracks DATA] [--onto MESH] [--emotions] [--json]
python benchmarks/own_expression.py --at-rest DATA
python benchmarks/own_expression.py --frowns DATA --onto MESH

For each clip and shape: the mean of the tracker's scores, of the weights by the rule of the corpora
(identity and rest of the first frames: "before") and of `reconstruct`, their ratios to the tracker's
mean, and the Pearson r with its scores. Shapes whose mean score is below MIN_MEAN are left out; r is
of shapes that move. MediaPipe scores noseSneer as 0 in all frames.

--tracks DATA   clips of acted emotion of DATA/java_sed and free speech of DATA/talking, both of the
                dev split: nothing was set with them
--onto MESH     the performance on this mesh, drawn and seen by the tracker, in every SEEN_EVERY-th
                frame; "mesh" is what it sees of the mesh at rest
--emotions      emotion transfer of the performances, frame by frame ("before") and as `transfer` does
                it: r and gain of what moves faster than SLOW_S, and the means
--at-rest DATA  the table SCORES_AT_REST of talkemo/capture/resting.py, of the training splits
--frowns DATA   one clip of each of FROWNING people of the training splits: how much lower the tracked
                brows are than the fitted ones where somebody frowns ("lower", mm, than where nobody
                does), and what the tracker sees of frowns on the mesh, by FROWN_GAIN of
                talkemo/expression/frown.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from seen import portrait_renderer

from talkemo import InputError, Models, bind, load_models
from talkemo.capture.camera import project
from talkemo.capture.fitting import Capture, FitSettings, Fitter
from talkemo.capture.landmark_tracker import SCORE_NAMES, LandmarkTracker
from talkemo.capture.landmarks import LandmarkSchema
from talkemo.capture.video_capture import (
    PERSON_FRAMES,
    expected_shapes,
    fit_landmarks,
    track_landmarks,
)
from talkemo.data.corpora import read_corpus
from talkemo.expression.emotions import Timeline
from talkemo.expression.frown import FROWN, frowning_face
from talkemo.expression.performance import PerformanceTransfer
from talkemo.face.canonical import ARKIT_NAMES, BROWS, MOUTH_CORNERS, Face
from talkemo.face.motion import Motion
from talkemo.pipelines.reconstruct import Person
from talkemo.video.reader import open_video

SHAPES = {
    "brow down": "browDown",
    "inner brow": "browInnerUp",
    "outer brow": "browOuterUp",
    "squint": "eyeSquint",
    "smile": "mouthSmile",
    "frown": "mouthFrown",
    "sneer": "noseSneer",
}
MIN_MEAN, MIN_DEVIATION = 0.08, 0.02  # of a score that is compared, and of one that moves
SEEN_EVERY = 4
SLOW_S = 1.0  # standard deviation of the Gaussian that is subtracted from what moves
WANTED = 0.8  # of the tracker's mean, and of r
FROWNING = 14  # people, evenly chosen
FROWN_GAINS = (1.0, 2.0, 2.5, 3.0)
MIN_FROWN, MIN_FROWN_DEVIATION = 0.15, 0.04  # of the score of a clip in which somebody frowns
FROWN_CORPORA = ("java_sed", "talking", "talking_more", "arabic_news")
AT_REST_CORPORA = ("java_sed", "arabic_news", "grid_s1", "talking", "talking_more")
BEFORE_SETTINGS = FitSettings(smoothness=2.0, pair_weight=10.0, closed_weight=17.0)


@dataclass(frozen=True, eq=False)
class Clip:
    """A tracked clip of T frames."""

    name: str
    landmarks: np.ndarray  # (T, P, 2) px
    scores: np.ndarray  # (T, 52), NaN without a face
    fps: float
    mesh_ids: np.ndarray | None = None  # of the landmarks, None for all 478

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool, which frames have a face."""
        return np.isfinite(self.scores[:, 0])


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", nargs="*", type=Path, metavar="VIDEO")
    add("--tracks", type=Path, metavar="DATA")
    add("--onto", type=Path, metavar="MESH")
    add("--emotions", action="store_true")
    add("--at-rest", type=Path, metavar="DATA")
    add("--frowns", type=Path, metavar="DATA")
    add("--json", action="store_true")
    options = parser.parse_args()
    try:
        if options.at_rest:
            print_at_rest(options.at_rest)
            return
        models = load_models(device="cpu")
        if options.frowns:
            if options.onto is None:
                parser.error("--frowns needs --onto MESH")
            clips = frowning_clips(options.frowns)
            print_table(brow_rows(models.face, clips))
            print_table(frown_rows(models, clips, options.onto))
            return
        clips = [*tracked_videos(options.videos), *tracked_clips(options.tracks)]
        tables = {"expression": expression_rows(models.face, clips)}
        if options.onto:
            tables["onto"] = mesh_rows(models, clips, options.onto)
        if options.emotions:
            tables["emotions"] = emotion_rows(models, clips)
    except InputError as error:
        sys.exit(f"{error.message}\n{error.hint}")
    if options.json:
        print(json.dumps(tables, indent=1, default=float))
        return
    for rows in tables.values():
        print_table(rows)


# ------------------------------------------------------------------------------------------- clips


def tracked_videos(paths: list[Path]) -> Iterator[Clip]:
    """Track videos."""
    for path in paths:
        with open_video(path) as video:
            frames = LandmarkTracker().follow(video.frames)
            landmarks, scores, _ = track_landmarks(frames, video.scale, path)
        yield Clip(path.stem, np.array(landmarks), scores, video.fps)


def tracked_clips(data: Path | None) -> Iterator[Clip]:
    """Yield tracked clips of the dev split: java_sed's sentence 02 and all of talking."""
    if data is None:
        return
    for corpus in ("java_sed", "talking"):
        for clip in read_corpus(corpus, data):
            acted = corpus == "talking" or clip.name.startswith(
                tuple(f"{k:02}-02" for k in range(99))
            )
            if clip.split == "dev" and clip.scores is not None and acted:
                name = f"{clip.name} {clip.emotion}" if corpus == "java_sed" else clip.name
                yield as_clip(clip, name)


def as_clip(recording: Any, name: str) -> Clip:
    """Return a corpus's recording, which has scores, under a name."""
    fps = 1 / float(np.median(np.diff(recording.time)))
    return Clip(name, recording.landmarks, recording.scores, fps, recording.mesh_ids)


# ------------------------------------------------------------------------------------- expressions


def fitted(face: Face, clip: Clip) -> Capture:
    """Fit a clip as `reconstruct` does."""
    fit = fit_landmarks(face, clip.landmarks, clip.scores, clip.fps, mesh_ids=clip.mesh_ids)
    return fit.capture


def fitted_before(face: Face, clip: Clip) -> Capture:
    """Fit a clip with identity and rest of its first frames, as corpora are fitted."""
    ids = np.arange(clip.landmarks.shape[1]) if clip.mesh_ids is None else clip.mesh_ids
    schema = LandmarkSchema.of(face, ids)
    landmarks = clip.landmarks[:, schema.rows]
    first = [landmarks[int(clip.seen.argmax()) :][:PERSON_FRAMES]]
    identity, offset = Fitter(face, schema, None, BEFORE_SETTINGS).fit_person(first)
    fitter = Fitter(face, schema, offset / 2, BEFORE_SETTINGS)
    fitter.learn_closed_mouth(first, identity)
    expected = expected_shapes(face, clip.scores)
    time = np.arange(len(landmarks)) / clip.fps
    return fitter.fit(landmarks, time, identity, expected=expected)


def of_shape(values: np.ndarray, names: tuple[str, ...] | list[str], start: str) -> np.ndarray:
    """Return the mean (T,) of both sides of a shape in values (T, N)."""
    return values[:, [name.startswith(start) for name in names]].mean(1)


def expression_rows(face: Face, clips: list[Clip]) -> list[dict[str, Any]]:
    """Return the rows of the table of expressions."""
    rows = []
    for clip in clips:
        arkit = [fit(face, clip).shapes @ face.arkit_matrix for fit in (fitted_before, fitted)]
        for shape, start in SHAPES.items():
            score = of_shape(clip.scores, SCORE_NAMES, start)[clip.seen]
            before, after = (of_shape(a, ARKIT_NAMES, start)[clip.seen] for a in arkit)
            if score.mean() < MIN_MEAN:
                continue
            rows.append(
                {
                    "clip": clip.name,
                    "shape": shape,
                    "tracker": score.mean(),
                    "before": before.mean(),
                    "ratio before": before.mean() / score.mean(),
                    "r before": correlation(score, before),
                    "now": after.mean(),
                    "ratio": after.mean() / score.mean(),
                    "r": correlation(score, after),
                }
            )
    return rows


def correlation(score: np.ndarray, weight: np.ndarray) -> float:
    """Return Pearson r of a shape's score and weight (T,), NaN where one hardly moves."""
    if score.std() < MIN_DEVIATION or weight.std() < 1e-6:
        return float("nan")
    return float(np.corrcoef(score, weight)[0, 1])


def mesh_rows(models: Models, clips: list[Clip], mesh: Path) -> list[dict[str, Any]]:
    """Return the rows of the table of what the tracker sees of a mesh that shows the clips."""
    face, head = models.face, SeenMesh(models, mesh)
    at_rest = head.scores(np.zeros((1, len(face.span)), np.float32))
    rows = []
    for clip in clips:
        frames = np.flatnonzero(clip.seen)[::SEEN_EVERY]
        seen = [
            head.scores(fit(face, clip).shapes[frames] @ shown.weights_to_coordinates)
            for fit, shown in ((fitted_before, face), (fitted, frowning_face(face)))
        ]
        for shape, start in SHAPES.items():
            score = of_shape(clip.scores[frames], SCORE_NAMES, start)
            before, after = (of_shape(s, SCORE_NAMES, start) for s in seen)
            known = np.isfinite(before + after)
            if score.mean() < MIN_MEAN or not known.any():
                continue
            rows.append(
                {
                    "clip on mesh": clip.name,
                    "shape": shape,
                    "tracker": score.mean(),
                    "mesh": float(of_shape(at_rest, SCORE_NAMES, start)[0]),
                    "before": before[known].mean(),
                    "r before": correlation(score[known], before[known]),
                    "now": after[known].mean(),
                    "ratio": after[known].mean() / score.mean(),
                    "r": correlation(score[known], after[known]),
                }
            )
    return rows


class SeenMesh:
    """A mesh that is drawn and seen by the tracker."""

    def __init__(self, models: Models, mesh: Path):
        self.binding, self.tracker = bind(mesh, models=models), LandmarkTracker()
        self.renderer = portrait_renderer(self.binding)

    def scores(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the scores (T, 52) of coordinates (T, S), NaN where no face is found."""
        frames = self.binding.shown.vertices(coordinates)
        found = [self.tracker.track(self.renderer.draw(vertices)) for vertices in frames]
        return np.array([np.full(52, np.nan) if f is None else f.scores for f in found])


# ------------------------------------------------------------------------------------------ frowns


def frowning_clips(data: Path) -> list[Clip]:
    """Return a clip of each of FROWNING people of the training splits who frown."""
    found: dict[tuple[str, str], Clip] = {}
    for corpus in FROWN_CORPORA:
        for clip in read_corpus(corpus, data):
            if clip.split != "train" or clip.scores is None or (corpus, clip.speaker) in found:
                continue
            score = of_shape(clip.scores[np.isfinite(clip.scores[:, 0])], SCORE_NAMES, FROWN)
            if score.size and score.mean() > MIN_FROWN and score.std() > MIN_FROWN_DEVIATION:
                found[corpus, clip.speaker] = as_clip(clip, clip.name)
    return list(found.values())[:: max(1, len(found) // FROWNING)][:FROWNING]


def brow_rows(face: Face, clips: list[Clip]) -> list[dict[str, Any]]:
    """Return of each clip how much lower its brows are than the fitted ones, where one frowns."""
    rows = []
    for clip in clips:
        ids = np.arange(clip.landmarks.shape[1]) if clip.mesh_ids is None else clip.mesh_ids
        schema, capture = LandmarkSchema.of(face, ids), fitted(face, clip)
        person = Person(face, capture.identity)
        motion = schema.operator @ face.expression_basis  # (S, P, 3)
        moved = np.abs(motion[[name.startswith(FROWN) for name in face.expression_names]])
        brows = moved.sum((0, 2)) > moved.sum((0, 2)).max() / 2
        points = schema.operator[brows] @ person.neutral + np.tensordot(
            capture.shapes, motion[:, brows], 1
        )
        shown = project(points, capture.rotation, capture.scale, capture.translation)
        tracked = clip.landmarks[:, schema.rows][:, brows]
        below_px = (tracked - shown)[..., 1].mean(1)  # y points down in the image
        lower = below_px / capture.scale  # mm
        score = of_shape(clip.scores, SCORE_NAMES, FROWN)
        calm, frowning = np.nanpercentile(score, (30, 80))
        weight = of_shape(capture.shapes @ face.arkit_matrix, ARKIT_NAMES, FROWN)
        rises, falls = (
            float(np.nanmean(values[score > frowning]) - np.nanmean(values[score <= calm]))
            for values in (weight, lower)
        )
        rows.append({"clip": clip.name, "weight rises": rises, "lower": falls})
    means = {name: float(np.mean([r[name] for r in rows])) for name in ("weight rises", "lower")}
    return [*rows, {"clip": "mean", **means}]


def frown_rows(models: Models, clips: list[Clip], mesh: Path) -> list[dict[str, Any]]:
    """Return means over clips of the tracker's browDown on a mesh, by the gain of the brows."""
    face, head = models.face, SeenMesh(models, mesh)
    is_frown = np.array([name.startswith(FROWN) for name in face.expression_names])
    columns: dict[float, list[tuple[float, ...]]] = defaultdict(list)
    for clip in clips:
        frames = np.flatnonzero(clip.seen)[:: 3 * SEEN_EVERY]
        score = of_shape(clip.scores[frames], SCORE_NAMES, FROWN)
        shapes = fitted(face, clip).shapes[frames]
        for gain in FROWN_GAINS:
            scaled = shapes * np.where(is_frown, gain, 1)
            seen = of_shape(head.scores(scaled @ face.weights_to_coordinates), SCORE_NAMES, FROWN)
            known = np.isfinite(seen)
            ratio = seen[known].mean() / score[known].mean()
            columns[gain].append((ratio, correlation(score[known], seen[known])))
    return [
        {"gain": gain, "people": str(len(rows)), **dict(zip(("ratio", "r"), np.nanmean(rows, 0)))}
        for gain, rows in columns.items()
    ]


# ---------------------------------------------------------------------------------------- emotions


def emotion_rows(models: Models, clips: list[Clip]) -> list[dict[str, Any]]:
    """Return the rows of the table of emotion transfer, means over the clips."""
    face = models.face
    transfer = PerformanceTransfer(models.emotion, face)
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for clip in clips:
        motion = fitted(face, clip).motion(face)
        for emotion in ("happy", "angry", "sad", "neutral"):
            timeline = Timeline.constant(emotion)
            amounts = timeline.amounts(motion.times)
            changed = (
                models.emotion.transfer(motion, amounts, from_neutral=False),
                next(transfer.changed([motion], timeline, clip.fps)),
            )
            for name, measure in MEASURES.items():
                own, *values = (measure(face, m) for m in (motion, *changed))
                fast, *of_values = (
                    v - gaussian_filter1d(v, SLOW_S * clip.fps) for v in (own, *values)
                )
                if fast.std() > 0.05:  # mm
                    numbers = [
                        (np.corrcoef(fast, v)[0, 1], np.polyfit(fast, v, 1)[0]) for v in of_values
                    ]
                    means = [abs(v.mean()) for v in (own, *values)]
                    found[emotion, name].append([*np.ravel(numbers), *means])
    columns = ("r before", "gain before", "r", "gain", "own |mean|, mm", "|mean| before", "|mean|")
    return [
        {"emotion": emotion, "what": name, **dict(zip(columns, np.mean(values, axis=0)))}
        for (emotion, name), values in found.items()
    ]


def landmark_motion(face: Face, motion: Motion, points: Any, axis: int) -> np.ndarray:
    """Return the displacement (T, P) mm of landmarks along an axis."""
    return np.tensordot(motion.coordinates, face.span[:, face.landmarks68[points], axis], 1)


def brow_heights(face: Face, motion: Motion) -> list[np.ndarray]:
    """Return the height (T,) mm of the right and the left brow."""
    return [landmark_motion(face, motion, side, 1).mean(1) for side in BROWS]


def corner_heights(face: Face, motion: Motion) -> np.ndarray:
    """Return the height (T, 2) mm of the corners of the mouth."""
    return landmark_motion(face, motion, list(MOUTH_CORNERS), 1)


MEASURES: dict[str, Callable[[Face, Motion], np.ndarray]] = {
    "brows": lambda face, motion: np.mean(brow_heights(face, motion), axis=0),
    "right brow over left": lambda face, motion: -np.diff(brow_heights(face, motion), axis=0)[0],
    "right corner over left": lambda face, motion: -np.diff(corner_heights(face, motion))[:, 0],
    "opening": lambda face, motion: motion.lip_opening(face),
}


# ------------------------------------------------------------------------------------------ output


def print_at_rest(data: Path) -> None:
    """Print quartiles over people of their scores at rest."""
    people: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for corpus in AT_REST_CORPORA:
        for clip in read_corpus(corpus, data):
            if clip.split == "train" and clip.emotion == "neutral" and clip.scores is not None:
                seen = clip.scores[np.isfinite(clip.scores[:, 0])]
                people[corpus, clip.speaker].append(seen)
    levels = [np.percentile(np.concatenate(rows), 10, axis=0) for rows in people.values()]
    names = sorted({n.removesuffix("Left").removesuffix("Right") for n in SCORE_NAMES})
    print(f"{len(levels)} people: lower quartile, median, upper quartile, nine of ten")
    for name in names:
        values = of_shape(np.array(levels), SCORE_NAMES, name)
        print(f"{name:16}", *np.percentile(values, (25, 50, 75, 90)).round(3))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, and how many reach what is wanted."""
    if not rows:
        return
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        cells = [value if isinstance(value, str) else f"{value:.2f}" for value in row.values()]
        print("| " + " | ".join(cells) + " |")
    for name in ("ratio before", "r before", "ratio", "r"):
        values = np.array([row[name] for row in rows if np.isfinite(row.get(name, np.nan))])
        if len(values):
            print(f"{name}: {(values >= WANTED).sum()} of {len(values)} at least {WANTED}")
    print()


if __name__ == "__main__":
    main()
