"""How good it is: two animations compared, and the suites that measure the models on what training never sees.

The dev split is ravdess actors 20, 21, 23 and 24, every tenth grid_s1 clip, and the `dev` rows of talking and java_sed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics, speech
from .animation import MeshSequence, open_animation
from .data.captures import captures
from .data.corpora import CORPORA
from .data.motion import from_rest
from .errors import InputError
from .face import load_face
from .geomap import geometry_map
from .mesh import Mesh, load_mesh

LARGEST_MASK = 1 << 24  # bytes of a file of vertex numbers
PART = 64  # frames compared at a time

BILABIALS = ("bin", "blue", "by", "place", "please", "b", "m", "p")  # of GRID's words
ALIGN_RATE = 25000  # units of GRID's alignments a second
TOGETHER = 2.5  # mm between the middles of the lips under which they are together; the canonical face at rest has 0.8

Progress = Callable[[str, int, int], None] | None


def compare(
    predicted: str | Path, reference: str | Path, neutral: str | Path | None = None, mask: str | Path | None = None
) -> dict[str, Any]:
    """All figures of two animations (npz, GLB or folders of meshes) of one mesh, as metrics.Comparison gives them.

    neutral: the mesh at rest, for FDD and to find the face in; the reference's own or its first frame if None
    mask: a text file of vertex numbers, whose RE and VE are given too under the file's name
    Lengths are in mm of the canonical face, which the mesh is laid over by a similarity, so that figures of meshes in
    any unit can be compared; where no face is found, they are in the mesh's own unit and only RE and VE are given.
    Raises InputError where the two are not of one mesh and one fps, or nearly of one length.
    """
    from .binding import bind

    p, g = open_animation(predicted), open_animation(reference)
    # A folder of meshes does not say how fast it goes: as fast as what it is compared with.
    for one, other in ((p, g), (g, p)):
        if isinstance(one, MeshSequence):
            one.fps = other.fps
    if p.shape[1] != g.shape[1]:
        raise InputError(
            f"{predicted} has {p.shape[1]} vertices, {reference} {g.shape[1]}", "compare one mesh's animations"
        )
    if abs(p.fps - g.fps) > 1e-3 * g.fps:
        raise InputError(
            f"{predicted} has {p.fps:g} frames a second, {reference} {g.fps:g}", "make both with one --fps"
        )
    frames = min(len(p), len(g))
    if frames < 2:
        raise InputError(f"{predicted} and {reference} have {frames} frames in common; it takes two to compare motion")
    if abs(len(p) - len(g)) > max(2, 0.02 * len(g)):
        raise InputError(
            f"{predicted} has {len(p)} frames, {reference} {len(g)}", "compare animations of one recording"
        )
    if neutral is None:
        rest = next(g.chunks(1))[0] if g.rest is None else g.rest
    else:
        rest = load_mesh(neutral).vertices
        if len(rest) != g.shape[1]:
            raise InputError(f"{neutral} has {len(rest)} vertices, the animations {g.shape[1]}")
    if not np.isfinite(rest).all():
        raise InputError(f"{neutral or reference}: vertices that are no numbers")
    face = load_face()
    masks = {"all": np.arange(len(rest))}
    mouth, scale, unit = None, 1.0, "mesh units"
    try:
        binding = bind(face, Mesh(np.asarray(rest, np.float64), g.faces))
    except InputError:
        binding = None
    if binding is not None:
        for name in ("lips", "upper_face"):
            masks[name] = binding.region(name)
        masks["face"] = np.union1d(binding.region("upper_face"), binding.region("lower_face"))
        mouth, scale, unit = binding.landmarks68[[62, 66, 48, 54]], 1 / binding.scale, "mm"
    if mask is not None:
        if Path(mask).name in ("all", "lips", "face", "upper_face"):
            raise InputError(f"{mask}: a mask of that name is there already", "name the file otherwise")
        masks[Path(mask).name] = _read_mask(Path(mask), len(rest))
    masks = {name: numbers for name, numbers in masks.items() if len(numbers)}
    comparison = metrics.Comparison(np.asarray(rest, np.float64), masks, mouth, scale, unit)
    done = 0
    for a, b in zip(p.chunks(PART), g.chunks(PART)):
        count = min(len(a), len(b), frames - done)
        for part, path in ((a[:count], predicted), (b[:count], reference)):
            if not np.isfinite(part).all():
                raise InputError(f"{path}: vertices that are no numbers, in frames {done} to {done + count - 1}")
        comparison.add(a[:count], b[:count])
        done += count
    return {
        "predicted": str(predicted),
        "reference": str(reference),
        "frames": frames,
        "fps": g.fps,
        "mm_a_mesh_unit": scale if unit == "mm" else None,
        "figures": [asdict(figure) for figure in comparison.figures()],
    }


def _read_mask(path: Path, vertices: int) -> np.ndarray:
    """Vertex numbers from a text file, counted from 0, separated by spaces, commas or lines."""
    if not path.is_file():
        raise InputError(f"{path}: no such mask file")
    if path.stat().st_size > LARGEST_MASK:
        raise InputError(f"{path}: too large for a list of vertex numbers")
    try:
        numbers = np.unique([int(word) for word in path.read_text("utf-8").replace(",", " ").split()])
    except ValueError:
        raise InputError(f"{path}: not a list of vertex numbers", "whole numbers from 0, one a line") from None
    if not len(numbers) or numbers[0] < 0 or numbers[-1] >= vertices:
        raise InputError(f"{path}: vertex numbers must lie between 0 and {vertices - 1}")
    return numbers


def weights_of(folder: Path | None, stage: str) -> str | None:
    """A stage's file in a folder of weights; None, the bundled one, where the folder has none of that stage."""
    if folder and not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no weights in it", "a folder that `talkemo train` wrote to")
    path = folder / f"{stage}.safetensors" if folder else None
    return str(path) if path and path.is_file() else None


def closures(align: Path, time: np.ndarray, opening: np.ndarray) -> list[int]:
    """Frames in which the lips of a GRID recording meet for the b, m or p of a word, by its alignment.

    opening: (T,) of the reference at time (T,) s, which tells the frame: the one with the lips closest around the
    beginning of the word, or around its end for the letter m, which is spoken em.
    """
    frames = []
    for line in align.read_text("utf-8").splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2] in BILABIALS:
            start, end = int(fields[0]) / ALIGN_RATE, int(fields[1]) / ALIGN_RATE
            begin, stop = (end - 0.16, end + 0.08) if fields[2] == "m" else (start - 0.08, start + 0.12)
            inside = np.flatnonzero((time >= begin) & (time <= stop))
            if len(inside):
                frames.append(int(inside[opening[inside].argmin()]))
    return frames


def evaluate_lips(
    data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None
) -> dict[str, Any]:
    """RE, VE and correlations of the talking model on neutral dev recordings, a row a corpus.

    The voices are unknown to it but for grid_s1, which has one speaker: there the sentences are.

    Beside the model stand a face that does not move and the mean motion of the training recordings, a constant shape.
    Figures are means over clips.
    """
    from .talking import load_talking

    face_path = weights_of(weights, "face")
    face = load_face(face_path)
    model = load_talking(face, weights_of(weights, "talking"), weights_of(weights, "speech"))
    recordings = from_rest(list(captures(data, cache, CORPORA, face_path, jobs, progress)), face)
    neutral = [r for r in recordings if r.emotion in ("neutral", "calm")]
    lips = face.regions["lips"]
    average = np.concatenate([r.capture.shapes for r in neutral if r.split == "train"]).mean(0)
    average = np.tensordot(average, face.expression_basis[:, lips], 1)
    rows = []
    for corpus in CORPORA:
        clips = []
        closed: list[tuple[bool, bool]] = []
        tested = [r for r in neutral if r.corpus == corpus and r.split == "dev"]
        for number, r in enumerate(tested):
            reference = np.tensordot(r.capture.shapes, face.expression_basis, 1)
            predicted = model.displacement(speech.open_audio(data / r.audio), r.capture.time)
            opening = metrics.mouth_opening(predicted, face), metrics.mouth_opening(reference, face)
            width = metrics.mouth_width(predicted, face), metrics.mouth_width(reference, face)
            p, g = predicted[:, lips], reference[:, lips]
            align = data / corpus / "align" / f"{r.name}.align"
            if align.is_file():
                for frame in closures(align, r.capture.time, opening[1]):
                    near = slice(max(0, frame - 1), frame + 2)
                    closed.append((opening[0][near].min() <= TOGETHER, opening[1][near].min() <= TOGETHER))
            still = np.zeros_like(g)
            clips.append(
                {
                    "re_mm": metrics.reconstruction_error(p, g),
                    "re_still_mm": metrics.reconstruction_error(still, g),
                    "re_mean_motion_mm": metrics.reconstruction_error(still + average, g),
                    "ve_mm": metrics.velocity_error(p, g),
                    "ve_still_mm": metrics.velocity_error(still, g),
                    "r_opening": metrics.pearson(*opening),
                    "r_width": metrics.pearson(*width),
                    "amplitude": float(opening[0].std() / max(opening[1].std(), 1e-9)),
                }
            )
            if progress:
                progress(corpus, number + 1, len(tested))
        if clips:
            means = {name: float(np.mean([clip[name] for clip in clips])) for name in clips[0]}
            row: dict[str, Any] = {"corpus": corpus, "clips": len(clips), **means}
            if closed:
                row["closures"] = len(closed)
                row["together"], row["together_reference"] = np.mean(closed, axis=0).tolist()
            rows.append(row)
    return {"mask": "lips", "mask_vertices": int(lips.sum()), "together_mm": TOGETHER, "corpora": rows}


def evaluate_map(data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None) -> dict[str, Any]:
    """The geometry map's stress, and its round trip on captured expressions put on random people, in mm."""
    face_path = weights_of(weights, "face")
    face = load_face(face_path)
    sampling = geometry_map(face)
    shapes = np.concatenate([r.capture.shapes for r in captures(data, cache, CORPORA, face_path, jobs, progress)])
    rng = np.random.default_rng(0)
    shapes = face.expression_weights(shapes[rng.choice(len(shapes), 500)])
    people = face.identity_weights(rng.standard_normal((len(shapes), 30)))
    displacement = np.stack([face.vertices(e, p) for e, p in zip(shapes, people)]) - face.mean
    error = np.linalg.norm(sampling.decode(sampling.encode(displacement)) - displacement, axis=2)
    critical = face.regions["lips"] | face.regions["eyelids"]
    return {
        "chart_stress": face.chart_stress,
        "faces": len(shapes),
        "round_trip_mean_mm": float(error.mean()),
        "round_trip_lips_eyelids_max_mm": float(error[:, critical].max()),
    }


def table1(
    data: Path,
    cache: Path,
    jobs: int = 1,
    seeds: int = 3,
    steps: int | None = None,
    progress: Progress = None,
    corpora: tuple[str, ...] = ("ravdess", "grid_s1"),
) -> dict[str, Any]:
    """Table 1 of the paper: RE and VE of the talking model trained with constant and with local weights.

    Both are the paper's own variant, neutral samples of ravdess and grid, trained from the same start for the same
    steps, once for each seed. T is measured on training clips, V on the dev split; means over frames.
    """
    from tempfile import TemporaryDirectory

    from .talking import TalkingModel, load_talking
    from .train.talking import PAPER, fit, gather, neutral_recordings

    face = load_face()
    paper = replace(PAPER, shares=tuple((name, 1 / len(corpora)) for name in corpora), steps=steps or PAPER.steps)
    material = gather(face, data, cache, paper, jobs=jobs, progress=progress)
    lips = face.regions["lips"]
    recordings = neutral_recordings(face, data, cache, paper, None, jobs, None)
    measured = {
        "T": [r for r in recordings if r.split == "train"][::8],
        "V": [r for r in recordings if r.split == "dev"],
    }

    def errors(model: TalkingModel) -> dict[str, float]:
        found = {}
        for split, chosen in measured.items():
            re, ve, frames, steps = np.zeros(2), np.zeros(2), 0, 0
            for r in chosen:
                g = np.tensordot(r.capture.shapes, face.expression_basis, 1)
                p = model.displacement(speech.open_audio(data / r.audio), r.capture.time)
                for row, (a, b) in enumerate(((p[:, lips], g[:, lips]), (p, g))):
                    re[row] += metrics.reconstruction_error(a, b) * len(g)
                    ve[row] += metrics.velocity_error(a, b) * (len(g) - 1)
                frames, steps = frames + len(g), steps + len(g) - 1
            for row, mask in enumerate(("lips", "all")):
                found[f"{split}-RE {mask}"] = float(re[row] / frames)
                found[f"{split}-VE {mask}"] = float(ve[row] / steps)
        return found

    rows = []
    with TemporaryDirectory() as folder:
        for name, mouth in (("constant", 0.0), ("local", PAPER.mouth)):
            runs = []
            for seed in range(seeds):
                config = replace(paper, mouth=mouth, seed=seed)
                label = f"{name} weights, seed {seed}"
                report = (
                    None if progress is None else (lambda _, done, total, label=label: progress(label, done, total))
                )
                path = fit(material, Path(folder), config, progress=report)
                load_talking.cache_clear()
                runs.append(errors(load_talking(face, path)))
            for mask in ("lips", "all"):
                row: dict[str, Any] = {"weights": name, "mask": mask}
                for column in ("T-RE", "T-VE", "V-RE", "V-VE"):
                    values = [run[f"{column} {mask}"] for run in runs]
                    row[column] = {"mean": float(np.mean(values)), "spread": float(np.std(values)), "seeds": values}
                rows.append(row)
    sizes = {"lips": int(lips.sum()), "all": len(lips)}
    clips = {split: len(chosen) for split, chosen in measured.items()}
    return {"masks": sizes, "clips": clips, "steps": paper.steps, "rows": rows}
