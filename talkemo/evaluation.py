"""The dev suite: lips and emotions on recordings that training never sees.

The dev split is ravdess actors 20, 21, 23 and 24, every tenth grid_s1 clip, and the `dev` rows of talking and java_sed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics, speech
from .data.captures import captures
from .data.corpora import CORPORA, EMOTIONS
from .data.motion import acted_shapes, from_rest
from .face import load_face
from .geomap import geometry_map

Progress = Callable[[str, int, int], None] | None


def _weights(folder: Path | None, stage: str) -> str | None:
    path = folder / f"{stage}.safetensors" if folder else None
    return str(path) if path and path.is_file() else None


def evaluate_lips(
    data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None
) -> dict[str, Any]:
    """RE, VE and correlations of the talking model on neutral dev recordings, a row a corpus.

    The voices are unknown to it but for grid_s1, which has one speaker: there the sentences are.

    Beside the model stand a face that does not move and the mean motion of the training recordings, a constant shape.
    Figures are means over clips.
    """
    from .talking import load_talking

    face_path = _weights(weights, "face")
    face = load_face(face_path)
    model = load_talking(face, _weights(weights, "talking"))
    recordings = from_rest(list(captures(data, cache, CORPORA, face_path, jobs, progress)))
    neutral = [r for r in recordings if r.emotion in ("neutral", "calm")]
    lips = face.regions["lips"]
    average = np.concatenate([r.capture.shapes for r in neutral if r.split == "train"]).mean(0)
    average = np.tensordot(average, face.expression_basis[:, lips], 1)
    rows = []
    for corpus in CORPORA:
        clips = []
        tested = [r for r in neutral if r.corpus == corpus and r.split == "dev"]
        for number, r in enumerate(tested):
            reference = np.tensordot(r.capture.shapes, face.expression_basis, 1)
            feature = model.features(speech.open_audio(data / r.audio))
            predicted = model.displacement(feature, r.capture.time)
            opening = metrics.mouth_opening(predicted, face), metrics.mouth_opening(reference, face)
            width = metrics.mouth_width(predicted, face), metrics.mouth_width(reference, face)
            p, g = predicted[:, lips], reference[:, lips]
            still = np.zeros_like(g)
            clips.append(
                {
                    "re_mm": metrics.reconstruction_error(p, g),
                    "re_still_mm": metrics.reconstruction_error(still, g),
                    "re_mean_motion_mm": metrics.reconstruction_error(still + average, g),
                    "ve_mm": metrics.velocity_error(p, g),
                    "ve_still_mm": metrics.velocity_error(still, g),
                    "r_opening": metrics.pearson(*opening),
                    "r_width": metrics.pearson(*width),
                    "amplitude": float(opening[0].std() / max(opening[1].std(), 1e-9)),
                }
            )
            if progress:
                progress(corpus, number + 1, len(tested))
        if clips:
            means = {name: float(np.mean([clip[name] for clip in clips])) for name in clips[0]}
            rows.append({"corpus": corpus, "clips": len(clips), **means})
    return {"mask": "lips", "mask_vertices": int(lips.sum()), "corpora": rows}


def evaluate_map(data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None) -> dict[str, Any]:
    """The geometry map's stress, and its round trip on captured expressions put on random people, in mm."""
    face_path = _weights(weights, "face")
    face = load_face(face_path)
    sampling = geometry_map(face)
    shapes = np.concatenate([r.capture.shapes for r in captures(data, cache, CORPORA, face_path, jobs, progress)])
    rng = np.random.default_rng(0)
    shapes = face.expression_weights(shapes[rng.choice(len(shapes), 500)])
    people = face.identity_weights(rng.standard_normal((len(shapes), 30)))
    displacement = np.stack([face.vertices(e, p) for e, p in zip(shapes, people)]) - face.mean
    error = np.linalg.norm(sampling.decode(sampling.encode(displacement)) - displacement, axis=2)
    critical = face.regions["lips"] | face.regions["eyelids"]
    return {
        "chart_stress": face.chart_stress,
        "faces": len(shapes),
        "round_trip_mean_mm": float(error.mean()),
        "round_trip_lips_eyelids_max_mm": float(error[:, critical].max()),
    }


def evaluate_emotion(
    data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None
) -> dict[str, Any]:
    """How many generated frames of the ravdess dev actors a classifier recognises that saw only real ones of others.

    The neutral recordings of the dev actors are given each emotion; beside it stands the share of these actors' real
    frames of that emotion that the same classifier recognises, and the correlation of the mouth opening with before.
    """
    import torch

    from .emotion import UNIT, load_classifier, load_emotion

    face_path = _weights(weights, "face")
    face = load_face(face_path)
    model = load_emotion(face, _weights(weights, "emotion"))
    classifier, classes = load_classifier(_weights(weights, "classifier"))
    recordings = from_rest(list(captures(data, cache, ("ravdess",), face_path, jobs, progress)))
    dev = [r for r in recordings if r.split == "dev"]

    def recognised(displacement: np.ndarray, name: str) -> float:
        hits = 0
        for start in range(0, len(displacement), 256):
            maps = torch.from_numpy(model.sampling.encode(displacement[start : start + 256]) / UNIT)
            with torch.inference_mode():
                hits += int((classifier(maps).argmax(1) == classes.index(name)).sum())
        return hits / len(displacement)

    neutral = [acted_shapes([r])[0] for r in dev if r.emotion == "neutral"]
    rows = []
    for number, name in enumerate(classes):
        real = np.tensordot(acted_shapes([r for r in dev if r.emotion == name])[0][::3], face.expression_basis, 1)
        label = np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index(name)]
        generated, correlation = [], []
        for shapes in neutral:
            before = np.tensordot(shapes, face.expression_basis, 1)
            after = model.transfer(before, label)
            generated.append(after)
            correlation.append(metrics.pearson(metrics.mouth_opening(before, face), metrics.mouth_opening(after, face)))
        rows.append(
            {
                "emotion": name,
                "real": recognised(real, name),
                "generated": recognised(np.concatenate(generated), name),
                "r_opening": float(np.mean(correlation)),
            }
        )
        if progress:
            progress("emotions", number + 1, len(classes))
    return {
        "classifier": "perceptron on maps, real frames of the training actors",
        "classes": classes,
        "emotions": rows,
    }
