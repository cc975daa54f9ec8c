"""The canonical face, its motion and its geometry map."""

from .canonical import ARKIT_NAMES, Face

__all__ = ["ARKIT_NAMES", "Face"]
