"""ARKit's 52 blend shapes: their names, and keys of an object that mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

ARKIT_NAMES = (
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft "
    "eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight "
    "eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel "
    "mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft "
    "mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight "
    "mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight "
    "mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft "
    "browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
).split()
_SIDE = re.compile(r"[ _.-]([lr])$")  # eyeBlink_L
_NUMBER = re.compile(r"^[a-z]\d+[ _.-]")  # A25_Jaw_Open
_SEPARATORS = re.compile(r"[ _.-]+")


def own_keys(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys, among an object's, that have ARKit's names, by these.

    Case, separators, a leading number and sides as L and R do not matter: jawOpen, JawOpen,
    jaw_open, A25_Jaw_Open and eyeBlink_L are found. A name without side that ARKit has with sides,
    such as eyeBlink, counts for neither.
    """
    by_plain = {name.lower(): name for name in ARKIT_NAMES}
    result: dict[str, list[str]] = {}
    for name in names:
        arkit = by_plain.get(_plain(name))
        if arkit is not None:
            result.setdefault(arkit, []).append(name)
    return result


def _plain(name: str) -> str:
    """A name in lower case, without separators, with its side written out."""
    name = _NUMBER.sub("", name.lower())
    name = _SIDE.sub(lambda side: {"l": "left", "r": "right"}[side[1]], name)
    return _SEPARATORS.sub("", name)
