"""Accuracy of the geometry map: the stress of its chart, and a round trip of expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.captures import StepProgress, load_captures
from ..data.corpora import present_corpora
from ..face.geometry_map import geometry_map
from ..weights.models import Models

ROUND_TRIP_FACES = 500  # captured expressions, each on another random person
ROUND_TRIP_IDENTITY_MODES = 30  # identity coefficients of the random people


def evaluate_map(
    data: Path, cache: Path, models: Models, *, jobs: int = 1, progress: StepProgress | None = None
) -> dict[str, Any]:
    """The stress of the face's chart, and the errors in mm of a round trip through the map.

    The round trip is that of captured expressions on random people of the bilinear model. Missing
    captures are made in `cache`, see `load_captures`.
    """
    face = models.face
    sampling = geometry_map(face)
    captured = load_captures(data, cache, models, present_corpora(data), jobs, progress)
    weights = np.concatenate([r.capture.shapes for r in captured])
    rng = np.random.default_rng(0)
    expressions = face.expression_weights(weights[rng.choice(len(weights), ROUND_TRIP_FACES)])
    coefficients = rng.standard_normal((len(expressions), ROUND_TRIP_IDENTITY_MODES))
    people = face.identity_weights(coefficients)
    displacement = np.stack([face.vertices(e, p) for e, p in zip(expressions, people)]) - face.mean
    error = np.linalg.norm(sampling.decode(sampling.encode(displacement)) - displacement, axis=2)
    critical = face.regions["lips"] | face.regions["eyelids"]
    return {
        "chart_stress": face.chart_stress,
        "faces": len(expressions),
        "round_trip_mean_mm": float(error.mean()),
        "round_trip_lips_eyelids_max_mm": float(error[:, critical].max()),
    }
