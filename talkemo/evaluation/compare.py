"""Two animations of one mesh compared: the field's metrics, in millimetres of the canonical face where one is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.phones import Phone
from ..errors import InputError
from ..face.canonical import INNER_LIPS, MOUTH_CORNERS, Face
from ..files.reading import open_file, printable, read_text
from ..formats.animation import Source, check_frames
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.registry import open_animation
from ..formats.sequence import MeshSequence
from .closures import count_closures
from .metrics import REGION_MASKS, Comparison, Metric

ANIMATIONS = (".glb", ".npz")  # endings of the animations of a folder
MAX_MASK_BYTES = 1 << 24  # bytes of a file of vertex numbers
MASK, MASK_HINT = "a mask file", "name a text file of vertex numbers, counted from 0"
FRAMES_AT_A_TIME = 64  # frames compared at a time, which bounds the memory
LENGTH_TOLERANCE = (
    0.02  # of the reference's frames, by which two animations of one recording may differ in length
)


def compare(
    predicted: str | Path,
    reference: str | Path,
    *,
    neutral: str | Path | None = None,
    mask: str | Path | None = None,
    phones: dict[str, list[Phone]] | None = None,
    face: Face,
) -> dict[str, Any]:
    """All metrics of two animations (npz, GLB or folders of meshes) of one mesh, under the key `figures`, see `Metric`.

    neutral: the mesh at rest, for FDD and to find the face in; the reference's own or its first frame if None
    mask: a text file of vertex numbers, whose RE and VE are given too under the file's name
    phones: of recordings by name, see `read_phones`; where one has the name of either file, the closures of both animations are
        measured against what is spoken
    face: the canonical face, which is laid over the mesh by a similarity. Lengths are in its mm, so that metrics of
        meshes in any unit can be compared; where no face is found, they are in the mesh's own unit and only RE and VE
        are given
    Raises InputError where the two are not of one mesh and one fps, or nearly of one length.
    """
    return measure(predicted, reference, neutral=neutral, mask=mask, phones=phones, face=face)[0]


def measure(
    predicted: str | Path,
    reference: str | Path,
    *,
    neutral: str | Path | None = None,
    mask: str | Path | None = None,
    phones: dict[str, list[Phone]] | None = None,
    face: Face,
) -> tuple[dict[str, Any], Comparison, Mesh]:
    """What `compare` returns, with the comparison that it is of and the mesh at rest, for plots.

    A mesh with a face is laid on the canonical one, so that its face looks along z.
    """
    if mask is not None:
        _check_mask_name(Path(mask))
    p, g = open_animation(predicted), open_animation(reference)
    # A folder of meshes has no fps of its own: it gets that of what it is compared with.
    for one, other in ((p, g), (g, p)):
        if isinstance(one, MeshSequence):
            one.fps = other.fps
    _check_pair(p, g)
    own_mask = {} if mask is None else {Path(mask).name: _read_mask(Path(mask), g.shape[1])}
    rest = _rest_vertices(g, neutral)
    comparison, shown_mesh = _new_comparison(Mesh(rest, g.faces), own_mask, face)
    frames = min(len(p), len(g))
    _add_frames(comparison, p, g, frames)
    metrics = comparison.metrics()
    spoken = (
        None
        if phones is None
        else phones.get(Path(reference).stem, phones.get(Path(predicted).stem))
    )
    if spoken is not None:
        metrics += _metrics_at_phones(comparison, g.fps, spoken)
    result = {
        "predicted": str(predicted),
        "reference": str(reference),
        "frames": frames,
        "fps": g.fps,
        "mm_a_mesh_unit": comparison.scale if comparison.unit == "mm" else None,
        "figures": [asdict(metric) for metric in metrics],
    }
    return result, comparison, shown_mesh


def is_folder_of_animations(path: str | Path) -> bool:
    """Whether a path is a folder with npz or GLB files in it, and not one of the meshes of one animation."""
    return os.path.isdir(path) and any(
        file.suffix.lower() in ANIMATIONS for file in Path(path).iterdir()
    )


def compare_folders(
    predicted: str | Path,
    reference: str | Path,
    *,
    neutral: str | Path | None = None,
    mask: str | Path | None = None,
    phones: dict[str, list[Phone]] | None = None,
    face: Face,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """`compare` of each two npz or GLB files of one name in two folders.

    Under `pairs` is what it returns for each, under `mean` each metric's mean and standard deviation over the pairs that
    have it, under `alone` the names that only one of the folders has. Raises InputError where none are common.
    """
    own, others = _by_name(Path(predicted)), _by_name(Path(reference))
    common = sorted(own.keys() & others.keys())
    if not common:
        raise InputError(
            f"{predicted} and {reference} have no animations of one name",
            "they are matched by their names",
        )
    pairs = []
    for number, name in enumerate(common):
        pairs.append(
            compare(own[name], others[name], neutral=neutral, mask=mask, phones=phones, face=face)
        )
        if progress:
            progress(number + 1, len(common))
    found: dict[tuple[str, str, str], list[float]] = {}
    for pair in pairs:
        for figure in pair["figures"]:
            found.setdefault((figure["name"], figure["unit"], figure["mask"]), []).append(
                figure["value"]
            )
    mean = [
        {
            "name": n,
            "unit": u,
            "mask": m,
            "mean": float(np.mean(v)),
            "spread": float(np.std(v)),
            "pairs": len(v),
        }
        for (n, u, m), v in found.items()
    ]
    return {"pairs": pairs, "mean": mean, "alone": sorted(own.keys() ^ others.keys())}


def _by_name(folder: Path) -> dict[str, Path]:
    """The animations of a folder by their names without the ending; an npz goes before a GLB."""
    files = sorted(
        (f for f in folder.iterdir() if f.suffix.lower() in ANIMATIONS),
        key=lambda f: f.suffix.lower(),
    )
    return {file.stem: file for file in files}


def _check_pair(p: Source, g: Source) -> None:
    """Raise InputError unless two animations have the same vertices and fps, and nearly the same length."""
    if p.shape[1] != g.shape[1]:
        raise InputError(
            f"{p.path} has {p.shape[1]} vertices, {g.path} {g.shape[1]}",
            "compare one mesh's animations",
        )
    if abs(p.fps - g.fps) > 1e-3 * g.fps:
        raise InputError(
            f"{p.path} has {p.fps:g} frames a second, {g.path} {g.fps:g}",
            "make both with one --fps",
        )
    frames = min(len(p), len(g))
    if frames < 2:
        raise InputError(
            f"{p.path} and {g.path} have {frames} frames in common",
            "compare animations of two frames or more",
        )
    if abs(len(p) - len(g)) > max(2, LENGTH_TOLERANCE * len(g)):
        raise InputError(
            f"{p.path} has {len(p)} frames, {g.path} {len(g)}",
            "compare animations of one recording",
        )


def _rest_vertices(reference: Source, neutral: str | Path | None) -> np.ndarray:
    """The vertices (N, 3) float64 of the mesh at rest: a mesh file's, the reference's own, or its first frame."""
    if neutral is not None:
        rest = load_mesh(neutral).vertices
        if len(rest) != reference.shape[1]:
            raise InputError(
                f"{neutral} has {len(rest)} vertices, the animations {reference.shape[1]}",
                "name the same mesh at rest",
            )
    else:
        rest = next(reference.chunks(1))[0] if reference.rest is None else reference.rest
    if not np.isfinite(rest).all():
        raise InputError(
            f"{neutral or reference.path}: vertices contain NaN or infinity, in the mesh at rest",
            "name another mesh at rest with --neutral" if neutral is None else "export it again",
        )
    return np.asarray(rest, np.float64)


def _new_comparison(
    mesh: Mesh, own_mask: dict[str, np.ndarray], face: Face
) -> tuple[Comparison, Mesh]:
    """An empty comparison of motions of a mesh, with the regions of its face where one is found, and what `measure` shows."""
    from ..binding import bind_hinted
    from ..binding.cache import BindingCache

    rest, masks = mesh.vertices, {"all": np.arange(len(mesh.vertices))}
    try:
        binding = bind_hinted(face, mesh, cache=BindingCache())
    except InputError:  # a mesh without a face can be compared too, by fewer metrics
        return Comparison(rest, {**masks, **own_mask}, unit="mesh units"), mesh
    masks["lips"], masks["upper_face"] = binding.region("lips"), binding.region("upper_face")
    masks["face"] = np.union1d(masks["upper_face"], binding.region("lower_face"))
    masks = {name: numbers for name, numbers in {**masks, **own_mask}.items() if len(numbers)}
    mouth = binding.landmarks68[[*INNER_LIPS, *MOUTH_CORNERS]]
    comparison = Comparison(
        rest, masks, mouth, 1 / binding.scale, up=binding.placement.rotation[:, 1]
    )
    return comparison, replace(mesh, vertices=binding.placement.to_canonical(rest))


def _add_frames(comparison: Comparison, p: Source, g: Source, frames: int) -> None:
    """Add the first frames of two animations, part by part. Raises InputError for NaN or infinity in them."""
    done = 0
    for a, b in zip(p.chunks(FRAMES_AT_A_TIME), g.chunks(FRAMES_AT_A_TIME)):
        count = min(len(a), len(b), frames - done)
        check_frames(p, a[:count], done)
        check_frames(g, b[:count], done)
        comparison.add(a[:count], b[:count])
        done += count


def _metrics_at_phones(comparison: Comparison, fps: float, phones: list[Phone]) -> list[Metric]:
    """Recall and precision of either animation's closures by the phones that are spoken, see `count_closures`."""
    if comparison.mouth is None or comparison.up is None:
        return []
    times, metrics = np.arange(comparison.frames) / fps, []
    for whose, gap in zip(("predicted", "reference"), np.concatenate(comparison.gaps).T):
        found = count_closures(times, gap - comparison.gap_at_rest, phones)
        for name, value, of in (
            ("recall", found.recall, f"of {found.spoken} p, b and m, where the lips meet"),
            ("precision", found.precision, f"of {found.found} closures, at p, b, m, f or v"),
        ):
            if np.isfinite(value):
                metrics.append(
                    Metric(f"{whose} {name} at phones", value, "", "mouth opening", 2, of)
                )
    return metrics


def _check_mask_name(path: Path) -> None:
    """Raise InputError unless a mask's file is there, and no region's namesake."""
    with open_file(path, MASK, MASK_HINT, MAX_MASK_BYTES):
        pass
    if path.name in ("all", *REGION_MASKS):
        raise InputError(
            f"{printable(path)}: a mask of that name is there already", "name the file otherwise"
        )


def _read_mask(path: Path, vertices: int) -> np.ndarray:
    """Vertex numbers of a text file, counted from 0, separated by spaces, commas or lines."""
    hint = f"whole numbers from 0 to {vertices - 1}, one a line"
    words = read_text(path, MASK, MASK_HINT, MAX_MASK_BYTES).replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
        raise InputError(f"{printable(path)}: not a list of vertex numbers", hint)
    numbers = np.unique(np.fromiter(map(int, words), np.int64, len(words)))
    if not len(numbers) or numbers[-1] >= vertices:
        raise InputError(
            f"{printable(path)}: vertex numbers must lie between 0 and {vertices - 1}", hint
        )
    return numbers
