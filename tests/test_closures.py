"""Lip closures are counted at the phones that are spoken."""

import numpy as np
import pytest

from talkemo.data.phones import Phone
from talkemo.evaluation.closures import Closures, count_closures

PHONES = [
    Phone("SIL", 0.0, 0.5),
    Phone("B", 0.5, 0.6),
    Phone("AA", 0.6, 0.8),
    Phone("F", 0.8, 0.9),
    Phone("AA", 0.9, 1.1),
    Phone("M", 1.1, 1.2),
    Phone("IY", 1.2, 1.4),
    Phone("SIL", 1.4, 2.0),
]


def opening(times, *closed):
    """(T,) mm: lips 5 mm apart that close at some times."""
    return np.where(np.any([np.abs(times - at) < 0.03 for at in closed], axis=0), 0.2, 5.0)


def test_closures_are_counted_at_their_phones():
    times = np.arange(0, 2, 0.01)
    # At the b, at the f, in the middle of a vowel, and in a pause.
    counts = count_closures(times, opening(times, 0.55, 0.85, 1.3, 1.7), PHONES)
    assert counts == Closures(
        bilabials=2, closed_bilabials=1, total_closures=3, at_bilabials=1, at_labiodentals=1
    )
    assert counts.recall == 0.5 and counts.precision == pytest.approx(2 / 3)
    total = counts + count_closures(times, opening(times, 0.55, 1.15), PHONES)
    assert (total.bilabials, total.closed_bilabials) == (4, 3)
    assert (total.total_closures, total.at_bilabials) == (5, 3)


def test_gaps_between_phones_and_overlong_phones_are_no_speech():
    times = np.arange(0, 2, 0.01)
    bilabials = [phone for phone in PHONES if phone.name in ("B", "M")]
    assert count_closures(times, opening(times, 0.75), bilabials) == Closures(bilabials=2)
    overlong = [Phone("B", 0.5, 0.9)]
    assert count_closures(times, opening(times, 0.7), overlong) == Closures()
    assert np.isnan(Closures().recall) and np.isnan(Closures().precision)
