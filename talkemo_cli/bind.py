"""talkemo bind: find the face of a mesh once, for many animations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from talkemo.pipelines.options import BindingOptions, RuntimeOptions

from .console import console
from .facts import fit_fact, unit_fact
from .options import Only, command

# Fraction of the canonical lip opening below which the command reports joined lips.
JOINED_LIPS_OPENING = 0.5


@command(
    "bind",
    "talkemo bind face.obj -o face.png",
    "talkemo bind scan.ply --up z --forward -y -o scan.npz",
)
def bind(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    options: Annotated[BindingOptions, Only("up", "forward", "landmarks", "tracker", "cache")],
    runtime: Annotated[RuntimeOptions, Only("weights")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="An .npz for --binding of animate and transfer, or a .png that shows the binding; "
            "may be repeated. By default FACE.binding.npz.",
        ),
    ] = None,
) -> None:
    """Find the face of a mesh, report how well it fits, and save how the mesh moves."""
    import talkemo
    from talkemo.formats.units import AUTO_UNIT, unit_of_mesh
    from talkemo.pipelines.bind import describe

    name = "face" if str(face) == "-" else face.stem
    outputs = output or [Path(f"{name}.binding.npz")]
    binding = talkemo.bind(
        face, outputs, hint=options.hint, weights=runtime.weights, cache=options.cache
    )
    metrics = describe(binding)
    console.messages(_facts(metrics))
    console.message(unit_fact(unit_of_mesh(AUTO_UNIT, binding.scale)))
    if metrics["lips_cut"]:
        console.message(
            f"the lips are one skin and were cut apart: {metrics['lips_cut']} more vertices in "
            "videos, pages, GLB and USD; npz and meshes keep the mesh's own"
        )
    if metrics["lip_opening"] < JOINED_LIPS_OPENING:
        console.message("the lips are joined or could not be separated: the mouth will hardly open")
    console.messages(binding.mesh.notes)
    paths = [str(path) for path in outputs]
    console.result({"outputs": paths, **metrics}, paths)


def _facts(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield how well a binding fits, in words."""
    yield fit_fact(metrics["error_mm"])
    yield f"vertices that move: {metrics['moving']} of {metrics['vertices']}"
    for name, count in metrics["parts"].items():
        yield f"{name.replace('_', ' ')}: {count} vertices"
    yield f"lips open to {metrics['lip_opening']:.0%} of the face model's"
    yield f"1 mm of the face model is {metrics['mesh_units_a_mm']:.4g} units of the mesh"
