"""What lips do in each class of phones, and how well the classes are told apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.phones import SILENCE_PHONE, Phone
from ..face.canonical import Face
from ..face.lip_measures import distance_gradients, shape_gradients
from .closures import MAX_PHONE_S

# Phones that lips show alike, by the name of their class.
PHONE_CLASSES: dict[str, tuple[str, ...]] = {
    "p b m": ("P", "B", "M"),
    "f v": ("F", "V"),
    "th": ("TH", "DH"),
    "t d n": ("T", "D", "N"),
    "s z": ("S", "Z"),
    "sh ch j": ("SH", "ZH", "CH", "JH"),
    "k g ng": ("K", "G", "NG"),
    "l": ("L",),
    "r": ("R", "ER"),
    "w": ("W",),
    "uw uh": ("UW", "UH"),
    "ow ao oy": ("OW", "AO", "OY"),
    "aa aw ay": ("AA", "AW", "AY"),
    "ae eh ah ey": ("AE", "EH", "AH", "EY"),
    "iy ih y": ("IY", "IH", "Y"),
    "silence": (SILENCE_PHONE,),
}
# Pairs of classes that people tell apart by the lips.
TOLD_APART = (
    ("p b m", "f v"),
    ("sh ch j", "iy ih y"),
    ("l", "r"),
    ("r", "uw uh"),
    ("t d n", "silence"),
    ("w", "p b m"),
)
DISTANCES = ("opening", "width", "protrusion")  # mm
SHAPES = ("mouthPucker", "mouthFunnel", "mouthPress", "mouthRollLower")  # blend-shape weights
# Columns of `PhoneLips.values`: means over a phone, and the opening's minimum.
MEASURES = ("opening", "least_opening", "width", "protrusion", *SHAPES)
MIN_OCCURRENCES = 5  # of a class, for its row


@dataclass(frozen=True, eq=False)
class PhoneLips:
    """The lips' measures at the phones of some recordings, by class."""

    values: dict[str, np.ndarray]  # (N, 8), one row per phone, as MEASURES
    spread: dict[str, float]  # mm, mean standard deviation within a recording, of each measure

    def table(self) -> dict[str, Any]:
        """Return the classes' count and mean measures, `spread`, and d′ of TOLD_APART."""
        rows = {
            name: {"count": len(of_class), **dict(zip(MEASURES, of_class.mean(0).tolist()))}
            for name, of_class in self.values.items()
            if len(of_class) >= MIN_OCCURRENCES
        }
        apart = {
            f"{a} | {b}": d_prime(self.values[a], self.values[b])
            for a, b in TOLD_APART
            if a in rows and b in rows
        }
        return {"classes": rows, "spread": self.spread, "d_prime": apart}


def lip_distances(face: Face, coordinates: np.ndarray) -> np.ndarray:
    """Return DISTANCES (T, 3) mm of coordinates (T, S), 0 at rest."""
    return coordinates @ np.stack([*distance_gradients(face).values()], 1)


def lip_measures(face: Face, coordinates: np.ndarray) -> np.ndarray:
    """Return DISTANCES in mm and the weights of SHAPES (T, 7) of coordinates (T, S), 0 at rest."""
    gradients = shape_gradients(face)
    shapes = coordinates @ np.stack([gradients[name] for name in SHAPES], 1)
    return np.concatenate([lip_distances(face, coordinates), shapes], axis=1)


def lips_by_phone(
    recordings: Iterable[tuple[np.ndarray, np.ndarray, list[Phone]]],
) -> PhoneLips:
    """Collect the lips' measures at the phones of recordings.

    Width and protrusion are relative to the recording's mean, since a person's rest is not known
    well; the opening is relative to closed lips.

    Parameters
    ----------
    recordings : iterable of (times, measures, phones)
        Times (T,) in s, what `lip_measures` returns at these times (T, 7), and the phones that are
        spoken. Phones longer than MAX_PHONE_S are errors of the alignment and are left out, but for
        silence.
    """
    of_class = {phone: name for name, phones in PHONE_CLASSES.items() for phone in phones}
    values: dict[str, list[np.ndarray]] = {name: [] for name in PHONE_CLASSES}
    spreads = []
    for times, measures, phones in recordings:
        _, width, protrusion = measures[:, : len(DISTANCES)].mean(0)
        relative = measures - [0, width, protrusion, *np.zeros(len(SHAPES))]
        spreads.append(measures[:, : len(DISTANCES)].std(0))
        for phone in phones:
            name = of_class.get(phone.name)
            too_long = phone.end - phone.start > MAX_PHONE_S and phone.name != SILENCE_PHONE
            inside = (times >= phone.start) & (times <= phone.end)
            if name is None or too_long or not inside.any():
                continue
            opening, *others = relative[inside].mean(0)
            values[name].append(np.array([opening, relative[inside, 0].min(), *others]))
    mean_spread = np.mean(spreads, axis=0) if spreads else np.full(len(DISTANCES), np.nan)
    return PhoneLips(
        {name: np.array(rows).reshape(-1, len(MEASURES)) for name, rows in values.items()},
        dict(zip(DISTANCES, map(float, mean_spread))),
    )


def d_prime(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return the sensitivity index d′ of each measure between two classes (N, 8) and (M, 8).

    It is the distance of the means in units of the pooled standard deviation.
    """
    spread = np.sqrt((a.var(0) + b.var(0)) / 2)
    values = np.abs(a.mean(0) - b.mean(0)) / np.maximum(spread, 1e-9)
    return dict(zip(MEASURES, values.tolist()))
