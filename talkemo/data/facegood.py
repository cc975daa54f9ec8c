"""The FACEGOOD recordings: Mandarin speech with curves of an animator's rig, read as blend shapes.

There are no landmarks and nothing is fitted: every control of the rig corresponds to one or several
ARKit shapes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..capture.fitting import Capture
from ..errors import InputError
from ..face.canonical import Face
from ..files.arrays import read_npz
from .captures import FittedRecording
from .corpora import INCOMPLETE_HINT

CORPUS = "facegood"
DEV_TAKES = ("3_15",)  # takes of the dev split; the speaker is the same in all
# Control of the rig → ARKit shape, for controls with a side {s}.
SIDED_RIG_CONTROLS = {
    "mouth_lipCornerPull_{s}": "mouthSmile",
    "mouth_lipStretch_{s}": "mouthStretch",
    "mouth_lowerLipDepress_{s}": "mouthLowerDown",
    "mouth_press_{s}": "mouthPress",
    "mouth_upperLipRaise_{s}": "mouthUpperUp",
    "nose_wrinkle_{s}": "noseSneer",
}
# Control of the rig → weights of ARKit shapes.
RIG_CONTROLS = {
    "mouth_stretch_c": {"jawOpen": 1.0},
    "mouth_chinRaise_d": {"mouthShrugLower": 1.0},
    "mouth_chinRaise_u": {"mouthShrugUpper": 1.0},
    "mouth_pucker_l": {"mouthPucker": 0.5},
    "mouth_pucker_r": {"mouthPucker": 0.5},
    "mouth_suck_dl": {"mouthRollLower": 0.5},
    "mouth_suck_dr": {"mouthRollLower": 0.5},
    "mouth_suck_ul": {"mouthRollUpper": 0.5},
    "mouth_suck_ur": {"mouthRollUpper": 0.5},
    # ARKit has no shape for a rounded open mouth.
    "mouth_oh_c": {"jawOpen": 0.4, "mouthFunnel": 0.6},
    "mouth_oo_c": {"jawOpen": 0.2, "mouthPucker": 0.7},
    **{f"mouth_funnel_{corner}": {"mouthFunnel": 0.25} for corner in ("dl", "dr", "ul", "ur")},
    **{
        control.format(s=side.lower()): {f"{shape}_{side}": 1.0}
        for control, shape in SIDED_RIG_CONTROLS.items()
        for side in "LR"
    },
}


def read_facegood(data: Path, face: Face) -> list[FittedRecording]:
    """Return the takes under `data`/facegood as fitted recordings of one speaker.

    Raises InputError if there are none.
    """
    path = data / CORPUS / "curves.npz"
    if not path.is_file():
        raise InputError(f"{path}: no such file", "download the corpus, or remove its folder")
    arrays = read_npz(path, "the curves of FACEGOOD")
    try:
        names, fps = [str(name) for name in arrays.pop("names")], float(arrays.pop("fps"))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: has no names and fps of its curves", INCOMPLETE_HINT) from None
    if not 0 < fps < np.inf or not arrays:
        raise InputError(
            f"{path}: {len(arrays)} takes at {fps:g} frames per second", INCOMPLETE_HINT
        )
    matrix = np.zeros((len(names), len(face.expression_names)), np.float32)
    for row, name in enumerate(names):
        for shape, weight in RIG_CONTROLS.get(name, {}).items():
            matrix[row, face.expression_names.index(shape)] = weight
    takes = []
    for take, curves in sorted(arrays.items()):
        if curves.ndim != 2 or curves.shape[1] != len(names) or curves.dtype.kind != "f":
            raise InputError(
                f"{path}: curves of {take} are {curves.shape}, not (T, {len(names)})",
                INCOMPLETE_HINT,
            )
        shapes = np.clip(curves.astype(np.float32) @ matrix, 0, 1)
        takes.append(
            FittedRecording(
                corpus=CORPUS,
                name=take,
                speaker=CORPUS,
                emotion="neutral",
                split="dev" if take in DEV_TAKES else "train",
                audio=f"{CORPUS}/audio/{take}.ogg",
                capture=Capture.from_weights(shapes, np.arange(len(shapes)) / fps, 1),
                rejected="",
            )
        )
    return takes
