"""Results in words: one fact per line, with its unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from talkemo.formats.registry import BAKED_ENDINGS
from talkemo.formats.unit_names import UNKNOWN_UNIT

if TYPE_CHECKING:
    from talkemo import Result
    from talkemo.formats.units import LengthUnit

GOOD_FIT_MM = 3.0  # heads of different people and topologies lie below it
IN_MESH_UNITS = "_mesh_units"  # ending of metrics
# Sentences for metrics; `{}` stands for the value.
METRIC_SENTENCES = {
    "arkit_residual_mesh_units": "ARKit's 52 blend shapes reproduce the frames within {:.2g} mesh "
    "units (mean)",
    "arkit_residual_mm": "ARKit's 52 blend shapes reproduce the frames within {:.2g} mm (mean)",
    "own_residual_mesh_units": "the character's own blend shapes reproduce the frames within {:.2g} "
    "mesh units (mean)",
    "own_residual_mm": "the character's own blend shapes reproduce the frames within {:.2g} mm "
    "(mean)",
    "residual_mm": "landmarks fit the face model within {:.2f} mm (mean)",
    "residual_p95_mm": "95 % of the frames fit within {:.2f} mm",
    "residual_px": "landmarks fit the image within {:.2f} px (mean)",
    "faces": "faces in the video: {:.0f}",
    "frames_without_face": "frames without a face: {:.0f}",
    "missing_s": "no frames for the last {:.2f} s of the video; is it complete?",
    "sound_delay_s": "the audio comes {:+.3f} s after the lips",
    "chart_stress": "stress of the map's chart: {:.3g}",
    "round_trip_mean_mm": "the mesh is restored from its map within {:.3f} mm (mean)",
    "round_trip_max_mm": "largest error of the restored mesh: {:.3f} mm",
    "round_trip_lips_eyelids_max_mm": "largest error on lips and eyelids: {:.3f} mm",
}
# Endings of other metrics' names, and the units that they stand for.
UNITS = {"mm": "mm", "px": "px", "s": "s", "minutes": "min", "mb": "MB"}


def animation_facts(result: Result) -> Iterator[str]:
    """Yield the facts of an animation, in words."""
    yield frames_fact(result.frames, result.fps)
    if result.binding_error_mm:
        yield fit_fact(result.binding_error_mm)
    for path in result.outputs:
        if not path.suffix:
            yield f"{path}: a folder with a mesh per frame; an ending, such as .mp4, writes a file"
    if any(path.suffix.lower() in BAKED_ENDINGS for path in result.outputs):  # GLB and USD
        yield unit_fact(result.unit)
    yield from metric_facts(_with_mm(result))
    if result.heard is not None:
        from talkemo.pipelines.hearing import heard_fact

        yield heard_fact(result.heard.as_json())
    yield from result.notes


def _with_mm(result: Result) -> dict[str, Any]:
    """Return the metrics, with those in mesh units in mm where the mesh's unit is known."""
    in_mm = residuals_in_mm(result)
    if not in_mm:
        return result.metrics
    others = {n: value for n, value in result.metrics.items() if not n.endswith(IN_MESH_UNITS)}
    return {**in_mm, **others}


def residuals_in_mm(result: Result) -> dict[str, float]:
    """Return the metrics that are in mesh units in mm; {} if the mesh's unit is not known."""
    if result.unit.name == UNKNOWN_UNIT:
        return {}
    return {
        f"{name.removesuffix(IN_MESH_UNITS)}_mm": 1000 * result.unit.metres * value
        for name, value in result.metrics.items()
        if name.endswith(IN_MESH_UNITS)
    }


def unit_fact(unit: LengthUnit) -> str:
    """Return the unit of a mesh, in words."""
    return f"unit of the mesh: {unit}"


def frames_fact(frames: int, fps: float) -> str:
    """Return number, rate and duration of frames, in words."""
    count = "1 frame" if frames == 1 else f"{frames} frames"
    return f"{count} at {fps:g} fps, {frames / fps:.2f} s"


def fit_fact(error_mm: float) -> str:
    """Return how well a mesh fits the face model, in words."""
    verdict = (
        "good" if error_mm <= GOOD_FIT_MM else "rough: look at it with `talkemo bind -o face.png`"
    )
    return f"mesh fits the face model within {error_mm:.1f} mm (median), {verdict}"


def metric_facts(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a fact for each metric that has a value."""
    for name, value in metrics.items():
        if value is None or value == {}:
            continue
        sentence = METRIC_SENTENCES.get(name)
        yield sentence.format(value) if sentence else named_fact(name, value)


def named_fact(name: str, value: Any) -> str:
    """Return a name and its value in words; the unit is the last part of the name, if it is one."""
    words, _, ending = name.rpartition("_")
    unit = f" {UNITS[ending]}" if words and ending in UNITS else ""
    text = (words if unit else name).replace("_", " ")
    return f"{text}: {plain(value)}{unit}"


def plain(value: Any) -> str:
    """Return a value as text: floats with four digits, dictionaries as `name value` pairs."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)
