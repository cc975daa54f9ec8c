"""Recall and precision of lip closures, by the phones that are spoken."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from ..data.phones import BILABIALS, LABIODENTALS, SILENCE_PHONE, Phone
from .metrics import CLOSURE_GAP_MM, runs_of

PHONE_MARGIN_S = 0.03  # before and after a phone in which a closure counts: the aligner's precision
MAX_PHONE_S = 0.25  # longer phones are errors of the alignment, or pauses, and are ignored


@dataclass(frozen=True)
class Closures:
    """Counts of the phones that need closed lips, and of the closures outside of pauses."""

    bilabials: int = 0  # p, b and m
    closed_bilabials: int = 0  # of these, with closed lips
    total_closures: int = 0
    at_bilabials: int = 0  # closures at a p, b or m
    at_labiodentals: int = 0  # other closures, at an f or v

    @property
    def recall(self) -> float:
        """Share of the p, b and m with closed lips; NaN without such phones."""
        return self.closed_bilabials / self.bilabials if self.bilabials else float("nan")

    @property
    def precision(self) -> float:
        """Share of the closures that lie at a p, b, m, f or v; NaN without closures."""
        at_phones = self.at_bilabials + self.at_labiodentals
        return at_phones / self.total_closures if self.total_closures else float("nan")

    def __add__(self, counts: Closures) -> Closures:
        return Closures(*(a + b for a, b in zip(astuple(self), astuple(counts))))


def count_closures(times: np.ndarray, opening: np.ndarray, phones: list[Phone]) -> Closures:
    """Count the closures of one recording at its phones.

    Parameters
    ----------
    times : (T,)
        Times in s, ascending.
    opening : (T,)
        Vertical opening of the lips from rest in mm, see `Face.lip_opening`.
    phones : list of Phone
        The phones that are spoken. Gaps between them count as pauses.
    """
    closed = opening <= CLOSURE_GAP_MM
    phones = [phone for phone in phones if phone.end - phone.start <= MAX_PHONE_S]
    bilabials = [_near(times, phone) for phone in phones if phone.name in BILABIALS]
    bilabials = [frames for frames in bilabials if frames.any()]
    labiodentals = [_near(times, phone) for phone in phones if phone.name in LABIODENTALS]
    spoken = [_near(times, phone, 0.0) for phone in phones if phone.name != SILENCE_PHONE]
    at_bilabial, at_labiodental = _any_of(bilabials, times), _any_of(labiodentals, times)
    runs = _spoken_runs(closed, _any_of(spoken, times))
    labiodental_runs = [run for run in runs if not at_bilabial[run].any()]
    return Closures(
        bilabials=len(bilabials),
        closed_bilabials=sum(bool(closed[frames].any()) for frames in bilabials),
        total_closures=len(runs),
        at_bilabials=len(runs) - len(labiodental_runs),
        at_labiodentals=sum(bool(at_labiodental[run].any()) for run in labiodental_runs),
    )


def _spoken_runs(closed: np.ndarray, spoken: np.ndarray) -> list[slice]:
    """The closures in speech; one that reaches into a pause is the mouth at rest."""
    return [
        run
        for run in runs_of(closed)
        if spoken[run].all() and run.start > 0 and run.stop < len(closed)
    ]


def _near(times: np.ndarray, phone: Phone, margin: float = PHONE_MARGIN_S) -> np.ndarray:
    """(T,) bool: the frames within a margin in s of a phone."""
    return (times >= phone.start - margin) & (times <= phone.end + margin)


def _any_of(masks: list[np.ndarray], times: np.ndarray) -> np.ndarray:
    """(T,) bool: frames in any of the masks."""
    return np.any(masks, axis=0) if masks else np.zeros(len(times), bool)
