"""Comparison of two animations of one mesh by the metrics of the paper and of the field.

Lengths are in millimetres of the canonical face if the mesh has a face, else in the mesh's unit.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.phones import Phone
from ..errors import InputError
from ..face.canonical import INNER_LIPS, LIPS, MOUTH_CORNERS, Face
from ..files.reading import open_file, printable, read_text
from ..formats.animation import Source, check_frames
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.registry import needs_mesh, open_animation
from ..formats.sequence import MeshSequence
from ..options import with_keywords
from ..pipelines.outputs import check_fps
from .closures import count_closures
from .metrics import MOUTH_LANDMARKS, PAPER_MASK, REGION_MASKS, Comparison, Metric
from .options import PairOptions
from .timing import soft_dtw, temporal_misalignment

if TYPE_CHECKING:
    from ..binding import Binding
    from ..networks.judges import Discriminator
    from .classification_error import ClassificationError

# Of the animations of a folder. Of files with the same name, the last of these is used.
ANIMATION_ENDINGS = (".glb", ".mdd", ".npy", ".npz", ".pc2")
MAX_MASK_BYTES = 1 << 24  # of a file of vertex numbers
MASK_FILE = "a mask file", "name a text file of vertex numbers, counted from 0", MAX_MASK_BYTES
COMPARED_FRAMES_AT_A_TIME = 64  # bounds the memory
MAX_LENGTH_DIFFERENCE = 0.02  # of the reference's frames, between animations of one recording


@dataclass(frozen=True, eq=False)
class ComparedPair:
    """A comparison of two animations.

    `result`, which `compare` returns, has the keys `figures` (a list of `Metric`s as dicts),
    `classification_error` (CE's `value` and `emotion`, or None and the `reason`), `frames`, `fps`
    and `mm_a_mesh_unit`. The other fields are for plots.
    """

    result: dict[str, Any]
    comparison: Comparison
    # At rest. If it has a face, it is moved to the canonical face's pose, which looks along +z.
    mesh: Mesh


def compare(predicted: str | Path, reference: str | Path, **settings: Any) -> dict[str, Any]:
    """The metrics of two animations: the `result` of `compare_pair`, with its parameters."""
    return compare_pair(predicted, reference, **settings).result


def compare_pair(
    predicted: str | Path,
    reference: str | Path,
    *,
    face: Face,
    phones: dict[str, list[Phone]] | None = None,
    discriminator: Discriminator | None = None,
    options: PairOptions | None = None,
    **keywords: Any,
) -> ComparedPair:
    """Compute all metrics of two animations of one mesh.

    Raises InputError if they differ in vertices or fps, or by more than 2 % in length.

    Parameters
    ----------
    predicted, reference : path
        Each an npz, a GLB, a .npy of vertices or a folder of meshes.
    face : Face
        The canonical face. It is aligned with the mesh, so that lengths are in its mm. If the mesh
        has no face, lengths are in its own unit and only RE and VE are given.
    phones : dict of str to list of Phone, optional
        Phones by recording, see `read_phones`. Those of the name of either file are used for recall
        and precision of closures.
    discriminator : Discriminator, optional
        Judge of emotions; without it there is no CE.
    options : PairOptions, optional
        The mesh at rest, the mesh and frame rate of files that lack them, a further mask, and the
        emotion that `predicted` should show.
    **keywords
        Fields of PairOptions, which replace those of `options`.
    """
    options = with_keywords(options or PairOptions(), keywords)
    p, g = _open_pair(predicted, reference, options)
    mesh, mask = Mesh(_rest_vertices(g, options.neutral), g.faces), options.mask
    file_masks = {} if mask is None else {Path(mask).name: _read_mask(Path(mask), g.shape[1])}
    binding = _find_face(mesh, face)
    comparison = _new_comparison(mesh, binding, file_masks)
    classification, reason = _new_classification(p, options.emotion, binding, discriminator)
    _add_frames(comparison, classification, p, g)
    metrics = comparison.metrics() + _timing_metrics(comparison, g.fps)
    if classification is not None:
        metrics.insert(2, classification.metric())  # the paper's RE, VE and CE come first
    spoken = _phones_of(phones or {}, reference, predicted)
    if spoken is not None:
        metrics += _metrics_at_phones(comparison, g.fps, spoken)
    result = {
        "predicted": str(predicted),
        "reference": str(reference),
        "frames": comparison.frames,
        "fps": g.fps,
        "mm_a_mesh_unit": None if binding is None else comparison.scale,
        "figures": [asdict(metric) for metric in metrics],
        "classification_error": _classification_result(classification, reason),
    }
    if binding is not None:
        mesh = replace(mesh, vertices=binding.placement.to_canonical(mesh.vertices))
    return ComparedPair(result, comparison, mesh)


def is_folder_of_animations(path: str | Path) -> bool:
    """Whether a path is a folder with npz, GLB or npy files, and not the meshes of one animation."""
    return os.path.isdir(path) and any(
        file.suffix.lower() in ANIMATION_ENDINGS for file in Path(path).iterdir()
    )


def compare_folders(
    predicted: str | Path,
    reference: str | Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compare the npz, GLB or npy files that have the same name in two folders.

    Parameters
    ----------
    predicted, reference : path
        The folders.
    progress : callable, optional
        Called with the pairs done and their total.
    **settings
        Keywords of `compare`.

    Returns
    -------
    dict
        `pairs`: the results of `compare`; `mean`: each metric's mean and standard deviation
        (`spread`) over the pairs that have it; `alone`: names in only one of the folders.

    Raises
    ------
    InputError
        If the folders have no name in common.
    """
    predicted_files, reference_files = _by_name(Path(predicted)), _by_name(Path(reference))
    common = sorted(predicted_files.keys() & reference_files.keys())
    if not common:
        raise InputError(
            f"{predicted} and {reference} have no animations with the same name",
            "files are matched by name",
        )
    pairs = []
    for number, name in enumerate(common):
        pairs.append(compare(predicted_files[name], reference_files[name], **settings))
        if progress:
            progress(number + 1, len(common))
    alone = sorted(predicted_files.keys() ^ reference_files.keys())
    return {"pairs": pairs, "mean": _mean_metrics(pairs), "alone": alone}


def _mean_metrics(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation of each metric; `vertices` is None where the meshes differ."""
    by_metric: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for pair in pairs:
        for metric in pair["figures"]:
            by_metric[metric["name"], metric["unit"], metric["mask"]].append(metric)
    rows = []
    for (name, unit, mask), metrics in by_metric.items():
        values = [metric["value"] for metric in metrics]
        sizes = {metric["vertices"] for metric in metrics}
        rows.append(
            {
                "name": name,
                "unit": unit,
                "mask": mask,
                "vertices": sizes.pop() if len(sizes) == 1 else None,
                "mean": float(np.mean(values)),
                "spread": float(np.std(values)),
                "pairs": len(values),
            }
        )
    return rows


def _by_name(folder: Path) -> dict[str, Path]:
    """The animations of a folder by their names without the ending."""
    files = sorted(folder.iterdir(), key=lambda file: file.suffix.lower())
    return {file.stem: file for file in files if file.suffix.lower() in ANIMATION_ENDINGS}


def _open_all(paths: tuple[str | Path, str | Path], options: PairOptions) -> list[Source]:
    """Open two animations; what a file lacks comes from the options, or from the other one."""
    fps, surface = options.fps, options.mesh or options.neutral
    without_triangles = [path for path in paths if needs_mesh(path)]
    if options.mesh is not None and not without_triangles:
        raise InputError(f"{printable(paths[0])} has triangles of its own", "leave --mesh out")
    opened = {path: open_animation(path, fps) for path in paths if path not in without_triangles}
    partner = next(iter(opened.values()), None)
    for path in without_triangles:
        if partner is None:
            opened[path] = open_animation(path, fps, surface)
        else:
            mesh = _mesh_of(partner) if surface is None else surface
            opened[path] = open_animation(path, partner.fps if fps is None else fps, mesh)
    sources = [opened[path] for path in paths]
    for source, other in zip(sources, reversed(sources)):
        if fps is None and isinstance(source, MeshSequence):  # it has no frame rate
            source.fps = other.fps
    return sources


def _mesh_of(source: Source) -> Mesh:
    """The mesh at rest of an animation."""
    return Mesh(_rest_vertices(source, None), source.faces, name=str(source.path))


def _open_pair(
    predicted: str | Path, reference: str | Path, options: PairOptions
) -> tuple[Source, Source]:
    """Open two animations. Raises InputError unless they agree in vertices, fps and length."""
    if options.fps is not None:
        check_fps(options.fps)
    p, g = _open_all((predicted, reference), options)
    if p.shape[1] != g.shape[1]:
        raise InputError(
            f"{p.path} has {p.shape[1]} vertices, {g.path} {g.shape[1]}",
            "compare animations of the same mesh",
        )
    if abs(p.fps - g.fps) > 1e-3 * g.fps:
        raise InputError(
            f"{p.path} has {p.fps:g} frames per second, {g.path} {g.fps:g}",
            "make both with the same --fps",
        )
    frames = min(len(p), len(g))
    if frames < 2:
        raise InputError(
            f"{p.path} and {g.path} have {frames} frames in common",
            "compare animations of two frames or more",
        )
    if abs(len(p) - len(g)) > max(2, MAX_LENGTH_DIFFERENCE * len(g)):
        raise InputError(
            f"{p.path} has {len(p)} frames, {g.path} {len(g)}",
            "compare animations of the same recording",
        )
    return p, g


def _rest_vertices(reference: Source, neutral: str | Path | None) -> np.ndarray:
    """The mesh at rest (N, 3) float64: of a mesh file, the reference's own, or its first frame."""
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


def _find_face(mesh: Mesh, face: Face) -> Binding | None:
    """The binding of a mesh, or None if it has no face."""
    from ..binding import bind_with_hint
    from ..binding.cache import BindingCache
    from ..pipelines.second_opinion import installed_opinion

    try:
        return bind_with_hint(face, mesh, cache=BindingCache(), opinion=installed_opinion())
    except InputError:
        return None


def _new_comparison(
    mesh: Mesh, binding: Binding | None, file_masks: dict[str, np.ndarray]
) -> Comparison:
    """An empty comparison of motions of a mesh, with the regions of its face if it has one."""
    masks = {"all": np.arange(len(mesh.vertices))}
    if binding is None:
        return Comparison(mesh.vertices, {**masks, **file_masks}, unit="mesh units")
    masks |= {
        "lips": binding.region("lips"),
        PAPER_MASK: binding.landmarks68[LIPS],
        "upper_face": binding.region("upper_face"),
        "face": np.union1d(binding.region("upper_face"), binding.region("lower_face")),
        **file_masks,
    }
    return Comparison(
        mesh.vertices,
        {name: vertices for name, vertices in masks.items() if len(vertices)},
        mouth=binding.landmarks68[[*INNER_LIPS, *MOUTH_CORNERS]],
        scale=1 / binding.scale,
        up=binding.placement.rotation[:, 1],
    )


def _new_classification(
    predicted: Source,
    emotion: str | None,
    binding: Binding | None,
    discriminator: Discriminator | None,
) -> tuple[ClassificationError | None, str | None]:
    """Return an accumulator of the CE without frames yet, or the reason why there is no CE."""
    if discriminator is None:
        return None, "no discriminator was given"
    if binding is None:
        return None, "no face was found in the mesh"
    from .classification_error import ClassificationError, emotion_class

    try:
        label = emotion_class(predicted.meta, emotion)
    except InputError as error:
        return None, f"{error.message}: {error.hint}"
    return ClassificationError(binding, discriminator, label), None


def _classification_result(
    classification: ClassificationError | None, reason: str | None
) -> dict[str, Any]:
    """CE and its emotion, or None and the reason why there is no CE."""
    if classification is None:
        return {"value": None, "emotion": None, "reason": reason}
    value, emotion = classification.metric().value, classification.emotion
    return {"value": value, "emotion": emotion, "reason": None}


def _add_frames(
    comparison: Comparison,
    classification: ClassificationError | None,
    p: Source,
    g: Source,
) -> None:
    """Add the frames that two animations share. Raises InputError for NaN or infinity in them."""
    done, frames = 0, min(len(p), len(g))
    predicted_chunks = p.chunks(COMPARED_FRAMES_AT_A_TIME)
    reference_chunks = g.chunks(COMPARED_FRAMES_AT_A_TIME)
    for predicted, reference in zip(predicted_chunks, reference_chunks):
        count = min(len(predicted), len(reference), frames - done)
        check_frames(p, predicted[:count], done)
        check_frames(g, reference[:count], done)
        comparison.add(predicted[:count], reference[:count])
        if classification is not None:
            classification.add(predicted[:count])
        done += count


def _phones_of(phones: dict[str, list[Phone]], *files: str | Path) -> list[Phone] | None:
    """The phones of the first of several files that has any, by its name without the ending."""
    return next((phones[Path(file).stem] for file in files if Path(file).stem in phones), None)


def _timing_metrics(comparison: Comparison, fps: float) -> list[Metric]:
    """Temporal misalignment and soft-DTW of the mouth's opening, as far as both mouths move."""
    if comparison.mouth is None:
        return []
    opening, _, true_opening, _ = comparison.mouth_lengths.T
    misalignment = temporal_misalignment(opening, true_opening, fps)
    distance = soft_dtw(opening, true_opening, fps)
    mask, metrics = "mouth opening", []
    if misalignment is not None:
        about = "mean time between peaks and valleys that correspond"
        value = 1000 * misalignment
        metrics.append(Metric("MTM", value, "ms", mask, MOUTH_LANDMARKS, about))
    if distance is not None:
        about = "standardised, a frame; 0 for equal motion"
        metrics.append(Metric("soft-DTW", distance, "", mask, MOUTH_LANDMARKS, about))
    return metrics


def _metrics_at_phones(comparison: Comparison, fps: float, phones: list[Phone]) -> list[Metric]:
    """Recall and precision of both animations' closures at the spoken phones."""
    if comparison.mouth is None or comparison.up is None:
        return []
    times, metrics = np.arange(comparison.frames) / fps, []
    gaps = np.concatenate(comparison.gaps) - comparison.gap_at_rest
    for source, opening in zip(("predicted", "reference"), gaps.T):
        counts = count_closures(times, opening, phones)
        recall = f"of {counts.bilabials} p, b and m, where the lips meet"
        precision = f"of {counts.total_closures} closures, at p, b, m, f or v"
        for name, value, about in (
            ("recall", counts.recall, recall),
            ("precision", counts.precision, precision),
        ):
            if np.isfinite(value):
                name = f"{source} {name} at phones"
                metrics.append(Metric(name, value, "", "mouth opening", MOUTH_LANDMARKS, about))
    return metrics


def _check_mask_name(path: Path) -> None:
    """Raise InputError if a mask's file is missing, or has the name of another mask."""
    with open_file(path, *MASK_FILE):
        pass
    if path.name in ("all", PAPER_MASK, *REGION_MASKS):
        raise InputError(f"{printable(path)}: another mask has this name", "rename the file")


def _read_mask(path: Path, vertices: int) -> np.ndarray:
    """Vertex numbers of a text file, counted from 0, separated by spaces, commas or lines."""
    _check_mask_name(path)
    hint = f"whole numbers from 0 to {vertices - 1}, one per line"
    words = read_text(path, *MASK_FILE).replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
        raise InputError(f"{printable(path)}: not a list of vertex numbers", hint)
    numbers = np.unique(np.fromiter(map(int, words), np.int64, len(words)))
    if not len(numbers) or numbers[-1] >= vertices:
        raise InputError(
            f"{printable(path)}: vertex numbers must lie between 0 and {vertices - 1}", hint
        )
    return numbers
