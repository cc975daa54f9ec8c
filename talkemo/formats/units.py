"""The unit of a mesh's coordinates, and the metres and axes that other programs expect.

A mesh file does not name its unit. The size of its face does: the canonical face is of human size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry.rigid import nearest_cube_rotation
from .unit_names import AUTO_UNIT, METRES_PER_UNIT, UNIT_CHOICES, UNKNOWN_UNIT

GUESSED_UNITS = ("mm", "cm", "dm", "m")  # MakeHuman's unit is dm; inches must be named
MAX_SIZE_RATIO = 5.0  # of a face's and a human's size; beyond it no unit is guessed
UNUSUAL_SIZE_RATIO = 2.0  # a guessed unit is doubtful beyond it
HUMAN_FACE_WIDTH_MM = 149.9  # of the canonical face


@dataclass(frozen=True)
class LengthUnit:
    """The unit of a mesh's coordinates."""

    name: str = "m"  # one of METRES_PER_UNIT, or UNKNOWN_UNIT
    metres: float = 1.0  # per unit
    guessed: bool = False
    face_width_mm: float = HUMAN_FACE_WIDTH_MM  # of the mesh's face, in this unit

    def __str__(self) -> str:
        """Return the unit with the size of the face, for messages."""
        if self.name == UNKNOWN_UNIT:
            return "unknown (the face is made as wide as a human's; name the unit with --unit)"
        width = f"the face is {self.face_width_mm:.3g} mm wide"
        if not self.guessed:
            return f"{self.name} ({width})"
        ratio = self.face_width_mm / HUMAN_FACE_WIDTH_MM
        if max(ratio, 1 / ratio) > UNUSUAL_SIZE_RATIO:
            return f"{self.name} (a guess: {width}; name the unit with --unit if it is another)"
        return f"{self.name} (guessed: {width})"


METRE = LengthUnit()


def check_unit(name: str) -> None:
    """Raise InputError for an unknown unit."""
    if name not in UNIT_CHOICES:
        raise InputError(f"unknown unit '{name}'", f"choose from {', '.join(UNIT_CHOICES)}")


def unit_of_mesh(name: str, units_per_mm: float) -> LengthUnit:
    """Return the unit of a mesh, by its name or by the size of the face.

    Parameters
    ----------
    name : str
        One of UNIT_CHOICES. `auto` guesses the unit in which the face is closest to a human's size.
        If the face would be more than MAX_SIZE_RATIO times too large or too small in each of them,
        the unit is unknown, and its length is chosen so that the face has a human's size.
    units_per_mm : float
        Length of a canonical millimetre in the mesh, `Binding.scale`.

    Raises
    ------
    InputError
        The unit is unknown.
    """
    check_unit(name)

    def size_ratio(metres: float) -> float:
        return 1000 * metres * units_per_mm

    if name != AUTO_UNIT:
        metres = METRES_PER_UNIT[name]
        return LengthUnit(name, metres, False, HUMAN_FACE_WIDTH_MM * size_ratio(metres))
    guess = min(GUESSED_UNITS, key=lambda unit: abs(np.log(size_ratio(METRES_PER_UNIT[unit]))))
    metres = METRES_PER_UNIT[guess]
    ratio = size_ratio(metres)
    if max(ratio, 1 / ratio) > MAX_SIZE_RATIO:
        return LengthUnit(UNKNOWN_UNIT, 1e-3 / units_per_mm, True)
    return LengthUnit(guess, metres, True, HUMAN_FACE_WIDTH_MM * ratio)


def upright_rotation(facing: np.ndarray | None) -> np.ndarray:
    """Return the rotation R (3, 3) that makes a mesh stand with y up and face +z: points @ R.

    It maps axes to axes, so a tilted head stays tilted.

    Parameters
    ----------
    facing : (3, 3), optional
        See `Header.facing`; None for a mesh that stands like that already.
    """
    return np.eye(3) if facing is None else nearest_cube_rotation(facing)
