"""Whether lips meet where they have to: recall and precision of their closures, by the phones that are spoken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.phones import BILABIALS, LABIODENTALS, SILENCE_PHONE, Phone
from .metrics import TOGETHER, runs_of

AROUND = 0.03  # s around a phone in which its closure counts: alignments are that exact
LONGEST_PHONE = 0.25  # s; longer ones are mistakes of the alignment, or a pause


@dataclass(frozen=True)
class Closures:
    """Counts of phones and of closures. recall, precision: shares of them

    spoken: p, b and m; met: those of them in which the lips are together
    found: closures outside of pauses; right: those of them at a p, b or m; allowed: those at an f or v besides
    """

    spoken: int = 0
    met: int = 0
    found: int = 0
    right: int = 0
    allowed: int = 0

    @property
    def recall(self) -> float:
        """Share of the p, b and m in which the lips are together; nan where there are none."""
        return self.met / self.spoken if self.spoken else float("nan")

    @property
    def precision(self) -> float:
        """Share of the closures that are at a p, b, m, f or v; nan where there are none."""
        return (self.right + self.allowed) / self.found if self.found else float("nan")

    def __add__(self, other: Closures) -> Closures:
        return Closures(*(a + b for a, b in zip(self.counts, other.counts)))

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """All five."""
        return self.spoken, self.met, self.found, self.right, self.allowed


def closures(times: np.ndarray, opening: np.ndarray, phones: list[Phone]) -> Closures:
    """The closures of one recording.

    times: (T,) s, ascending; opening: (T,) mm from rest, see `Face.lip_opening`; phones: with gaps where they are not
    known, which count as pauses
    """
    together = opening <= TOGETHER
    usual = [phone for phone in phones if phone.end - phone.start <= LONGEST_PHONE]
    spoken = [near(times, phone) for phone in usual if phone.name in BILABIALS]
    labiodental = [near(times, phone) for phone in usual if phone.name in LABIODENTALS]
    spoken = [inside for inside in spoken if inside.any()]
    met = sum(bool(together[inside].any()) for inside in spoken)
    at_bilabial, at_labiodental = any_of(spoken, len(times)), any_of(labiodental, len(times))
    speaking = any_of([near(times, p, 0.0) for p in usual if p.name != SILENCE_PHONE], len(times))
    # A closure that reaches into a pause is the mouth at rest.
    runs = [
        run
        for run in runs_of(together)
        if speaking[run].all() and run.start > 0 and run.stop < len(times)
    ]
    right = sum(bool(at_bilabial[run].any()) for run in runs)
    allowed = sum(bool(at_labiodental[run].any() and not at_bilabial[run].any()) for run in runs)
    return Closures(len(spoken), met, len(runs), right, allowed)


def near(times: np.ndarray, phone: Phone, around: float = AROUND) -> np.ndarray:
    """(T,) bool: the frames in or around a phone."""
    return (times >= phone.start - around) & (times <= phone.end + around)


def any_of(masks: list[np.ndarray], count: int) -> np.ndarray:
    """(count,) bool: frames of any of the masks."""
    return np.any(masks, axis=0) if masks else np.zeros(count, bool)
