"""What a face tracker, which was trained independently of this project, sees of an emotion."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..capture.landmark_tracker import SCORE_NAMES, LandmarkTracker
from ..capture.landmarker_bundle import LANDMARKER_FILE
from ..data.corpora import read_corpus
from ..data.recordings import Recording
from ..errors import TalkemoError
from ..evaluation.actors import Judge
from ..face.canonical import Face

SEEN_CORPUS = "java_sed"  # acted emotion that the trainings do not use, with a tracker's scores
SEEN_FRAME_STRIDE = 3  # every n-th frame is drawn
SEEN_IMAGE_PX = (256, 256)
# Gaze, blinks and the jaw, which the speech moves, say nothing of the emotion.
NOT_COMPARED = ("_", "eyeLook", "eyeBlink", "jaw", "mouthClose")
COMPARED_SCORES = np.array([not name.startswith(NOT_COMPARED) for name in SCORE_NAMES])


@dataclass(frozen=True, eq=False)
class SeenEmotions:
    """Draws faces, and compares a tracker's scores of them with those of actors in their videos.

    `judge` holds the mean change of the scores by each emotion over the actors of SEEN_CORPUS.
    """

    face: Face
    tracker: LandmarkTracker
    judge: Judge

    @classmethod
    def of_corpus(cls, face: Face, data: Path) -> SeenEmotions | None:
        """Read the corpus in the folder `data`; None if it or the tracker is missing."""
        bundle = data / "models" / LANDMARKER_FILE
        try:
            prototypes = actors_scores(list(read_corpus(SEEN_CORPUS, data)))
            tracker = LandmarkTracker(bundle if bundle.is_file() else None)
        except TalkemoError:
            return None
        if len(prototypes) < 2:
            return None
        return cls(face, tracker, Judge.of_prototypes(prototypes))

    def mean_scores(self, displacement: np.ndarray) -> np.ndarray | None:
        """Return the mean of the compared scores (C,) of displacements (N, V, 3) mm that are drawn.

        None if the tracker finds no face.
        """
        from ..render.appearance import canonical_appearance
        from ..render.software import SoftwareRenderer
        from ..render.view import frame_view

        mean, appearance = self.face.mean, canonical_appearance(self.face)
        with closing(SoftwareRenderer(appearance, frame_view(mean), SEEN_IMAGE_PX)) as renderer:
            images = (renderer.draw(mean + moved) for moved in displacement[::SEEN_FRAME_STRIDE])
            seen = [tracked.scores for tracked in map(self.tracker.track, images) if tracked]
        return np.mean(seen, axis=0)[COMPARED_SCORES] if seen else None

    def nearest(self, spoken: np.ndarray, shown: dict[str, np.ndarray]) -> dict[str, str]:
        """Return, by the name of each change, the actors' emotion that is nearest by cosine.

        `spoken` are the scores (C,) before, and `shown` displacements (N, V, 3) mm after a change.
        Changes whose drawings show the tracker no face, or of emotions without actors, are left out.
        """
        nearest = {}
        for name, displacement in shown.items():
            scores = self.mean_scores(displacement) if name in self.judge.prototypes else None
            if scores is not None:
                nearest[name] = self.judge.nearest(scores - spoken)
        return nearest


def actors_scores(recordings: list[Recording]) -> dict[str, np.ndarray]:
    """Return the mean change (C,) of the compared scores by each emotion, over actors.

    Recordings without scores, and actors without a neutral recording, are left out.
    """
    means: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for recording in recordings:
        scores = recording.scores
        if scores is not None and np.isfinite(scores).all(1).any():
            mean = np.nanmean(scores, axis=0)[COMPARED_SCORES]
            means[recording.speaker][recording.emotion].append(mean)
    changes: dict[str, list[np.ndarray]] = defaultdict(list)
    for by_emotion in means.values():
        if "neutral" not in by_emotion:
            continue
        neutral = np.mean(by_emotion.pop("neutral"), axis=0)
        for emotion, rows in by_emotion.items():
            changes[emotion].append(np.mean(rows, axis=0) - neutral)
    return {emotion: np.mean(rows, axis=0) for emotion, rows in changes.items()}
