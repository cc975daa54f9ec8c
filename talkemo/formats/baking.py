"""Baked animations, in which each frame is a morph target or a set of points of its own."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .animation import Header
from .gltf_reader import MOST_TARGETS

LARGEST_BAKED = 1 << 31  # bytes of all frames together


def check_writable(path: Path, header: Header, bake: bool) -> None:
    """Raise InputError where there are no shapes to write, or too much to bake: frames are kept until the last."""
    if not bake:
        if header.targets is None:
            raise InputError(
                f"{path}: no ARKit shapes are known for this mesh", "write it with --bake"
            )
        return
    if (
        header.frames > MOST_TARGETS
        or header.frames * len(header.rest) * 12 + header.frames**2 * 4 > LARGEST_BAKED
    ):
        raise InputError(
            f"{path}: {header.frames} frames of {len(header.rest)} vertices are too many to bake",
            "fewer --fps, a shorter animation, or leave --bake out",
        )
