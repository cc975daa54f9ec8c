"""talkemo bind: find the face of a mesh once, for many animations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from talkemo.pipelines.options import BindingOptions, ExportOptions, RuntimeOptions

from .console import console
from .facts import fit_fact, unit_fact
from .options import Only, command

# Fraction of the canonical lip opening below which the command reports joined lips.
JOINED_LIPS_OPENING = 0.5
MAX_LISTED_NAMES = 12  # of blend shapes in a line
MAX_LISTED_EXPRESSIONS = 24  # of a VRM, which has 18 presets


@command(
    "bind",
    "talkemo bind face.obj -o face.png",
    "talkemo bind scan.ply --up z --forward -y -o scan.npz",
    "talkemo bind avatar.glb --map-template > avatar.map",
)
def bind(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    options: Annotated[BindingOptions, Only("up", "forward", "landmarks", "tracker", "cache")],
    runtime: Annotated[RuntimeOptions, Only("weights")],
    export: Annotated[ExportOptions, Only("shape_map")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="An .npz for --binding of animate and transfer, or a .png that shows the binding "
            "and each of the mesh's own blend shapes; may be repeated. By default "
            "FACE.binding.npz.",
        ),
    ] = None,
    map_template: Annotated[
        bool,
        typer.Option(
            "--map-template",
            help="Print a file for --map to fill in, with all blend shapes of FACE; nothing else is "
            "done.",
        ),
    ] = False,
) -> None:
    """Find the face of a mesh, report how well it fits, and save how the mesh moves."""
    import talkemo
    from talkemo.formats.units import AUTO_UNIT, unit_of_mesh
    from talkemo.pipelines.bind import describe, describe_shapes

    if map_template:
        _print_template(face, [output, export.shape_map])
        return
    name = "face" if str(face) == "-" else face.stem
    outputs = output or [Path(f"{name}.binding.npz")]
    binding = talkemo.bind(
        face,
        outputs,
        hint=options.hint,
        weights=runtime.weights,
        cache=options.cache,
        shape_map=export.shape_map,
    )
    metrics = describe(binding)
    shapes = describe_shapes(binding, export.shape_map)
    console.messages(_facts(metrics))
    console.message(unit_fact(unit_of_mesh(AUTO_UNIT, binding.scale)))
    if metrics["lips_cut"]:
        console.message(
            f"the lips are one skin and were cut apart: {metrics['lips_cut']} more vertices in "
            "videos, pages, GLB and USD; npz and meshes keep the mesh's own"
        )
    if metrics["lip_opening"] < JOINED_LIPS_OPENING:
        console.message("the lips are joined or could not be separated: the mouth will hardly open")
    console.messages(_shape_facts(**shapes))
    console.messages(binding.mesh.notes)
    paths = [str(path) for path in outputs]
    console.result({"outputs": paths, **metrics, **shapes}, paths)


def _facts(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield how well a binding fits, in words."""
    yield fit_fact(metrics["error_mm"])
    yield f"vertices that move: {metrics['moving']} of {metrics['vertices']}"
    for name, count in metrics["parts"].items():
        yield f"{name.replace('_', ' ')}: {count} vertices"
    yield f"lips open to {metrics['lip_opening']:.0%} of the face model's"
    yield f"1 mm of the face model is {metrics['mesh_units_a_mm']:.4g} units of the mesh"


def _shape_facts(shapes: dict[str, Any] | None = None) -> Iterator[str]:
    """Yield what the mesh's own blend shapes are, in words."""
    if shapes is None:
        return
    standards = ", ".join(f"{name} {count}" for name, count in shapes["standards"].items())
    yield f"own blend shapes: {shapes['found']}, known by their names: {standards or 'none'}"
    expressions = shapes.get("expressions", [])
    if expressions:
        yield f"expressions of the VRM: {_some(expressions, MAX_LISTED_EXPRESSIONS)}"
    if shapes["driven"]:
        yield f"driven: {_some(shapes['driven'])}"
    reasons: dict[str, list[str]] = {}
    for name, reason in shapes["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        if set(expressions) & set(shapes["driven"]) and not set(names) & set(expressions):
            yield f"not driven, {reason}: {len(names)} morph targets beside the expressions"
        else:
            yield f"not driven, {reason}: {_some(names)}"
    if not shapes["driven"]:
        yield "name them by --map: --map-template prints one to fill in"
        return
    if shapes["missing"]:
        yield f"ARKit shapes without a counterpart: {_some(shapes['missing'])}"
    used = "used" if shapes["enough"] else "used with --targets own only"
    yield (
        f"they show {shapes['mouth_shown']:.0%} of the mouth's motion in speech, within "
        f"{shapes['mouth_residual_mm']:.2g} mm (mean): {used}"
    )


def _some(names: list[str], most: int = MAX_LISTED_NAMES) -> str:
    """The first of some names, and how many more there are."""
    from talkemo.files.reading import printable

    shown = ", ".join(printable(name, 60) for name in names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def _print_template(face: Path, others: list[object]) -> None:
    """Print a map to fill in, and nothing else."""
    from talkemo import InputError
    from talkemo.pipelines.bind import shape_map_template

    if any(others):
        raise InputError("--map-template only prints a map", "leave --output and --map out")
    text = shape_map_template(face)
    console.result({"map": text}, text.splitlines())
