"""Reconstructing files and corpora."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..animation import Chunk, Header, NpzWriter
from ..errors import InputError
from ..face import load_face
from ..files import read_npz, readable
from .fitting import Fitter
from .landmarks import schema

VIDEO = (".mp4", ".mpg", ".avi", ".mov", ".mkv", ".webm", ".jpg", ".jpeg", ".png")


def reconstruct_corpus(
    folder: Path, out: Path, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> dict[str, object]:
    """Fit a corpus folder and write `out`/CORPUS.npz; returns the figures of data.captures.summary."""
    from ..data import captures

    if out.suffix == ".npz" or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: captures of a corpus go into a folder")
    folder = folder.resolve()
    fitted = captures.fit_corpus(folder.name, folder.parent, None, jobs, progress)
    captures.save(out / f"{folder.name}.npz", fitted, load_face())
    return {"input": folder.name, **captures.summary(fitted)}


def reconstruct_landmarks(path: Path, out: Path, fps: float) -> dict[str, object]:
    """Fit a file of 68 iBUG landmarks (T, 68, 2) px, y down, and write an animation of the person's own face.

    An npz with several arrays is one person's several recordings; the first is animated.
    """
    if path.suffix.lower() in VIDEO:
        raise InputError(
            f"{path}: talkemo has no landmark detector yet", "give it landmarks: an npy or npz (T, 68, 2) in px"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if out.suffix.lower() != ".npz" or not out.parent.is_dir():
        raise InputError(f"{out}: the animation goes into an .npz file in a folder that exists")
    if not 1 <= fps <= 240:
        raise InputError(f"{fps:g} frames a second: choose from 1 to 240")
    if path.suffix.lower() == ".npy":
        with readable(path, "a file of landmarks"):
            recordings = [np.load(path, allow_pickle=False)]
    else:
        recordings = list(read_npz(path, "a file of landmarks").values())
    if not all(r.dtype.kind in "iuf" for r in recordings):
        raise InputError(f"{path}: landmarks are numbers")
    recordings = [r.astype(np.float32) for r in recordings]
    if not recordings or any(r.ndim != 3 or r.shape[1:] != (68, 2) or not len(r) for r in recordings):
        raise InputError(f"{path}: landmarks are (T, 68, 2) in pixels, these {[r.shape for r in recordings][:3]}")
    if not all(np.isfinite(r).all((1, 2)).any() for r in recordings):
        raise InputError(f"{path}: a recording in which no frame has a face")
    face = load_face()
    keep, operator, weights = schema(face, None)
    first = Fitter(face, operator, weights)
    identity, offset = first.fit_person(recordings)
    fitter = Fitter(face, operator, weights, offset * len(recordings) / (len(recordings) + 2))
    capture = fitter.fit(recordings[0][:, keep], np.arange(len(recordings[0])) / fps, identity)

    w_id = face.identity_weights(identity)
    neutral = face.vertices(face.expression_factor[0], w_id)
    header = Header(
        len(capture.shapes), fps, face.faces, neutral, np.ones(len(neutral), bool), {"landmarks": path.name}
    )
    with NpzWriter(out, header) as writer:
        for start in range(0, len(capture.shapes), 64):
            shapes = capture.shapes[start : start + 64]
            coefficients = np.einsum("rei,i,te->tr", face.core, w_id, face.expression_weights(shapes), optimize=True)
            vertices = face.mean + np.tensordot(coefficients.astype(np.float32), face.basis, 1)
            writer.write(Chunk(vertices, vertices[:, face.landmarks68], shapes @ face.arkit_matrix))
    return {
        "input": path.name,
        "frames": len(capture.shapes),
        "residual_mm": round(float(capture.residual[capture.seen].mean()), 3),
    }
