"""talkemo geomap: a mesh of the canonical topology to its geometry map and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo.pipelines.options import RuntimeOptions

from .console import console
from .facts import metric_facts
from .options import Only, command


@command(
    "geomap",
    "talkemo geomap canonical.obj -o map.png",
    "talkemo geomap map.npz -o face.obj",
)
def geomap(
    source: Annotated[
        Path,
        typer.Argument(metavar="MESH_OR_MAP", help="A mesh of the canonical face, or a map (npz)."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A map: .npz or .png. A mesh: .obj.")
    ],
    runtime: Annotated[RuntimeOptions, Only("weights")],
) -> None:
    """Turn a mesh of the canonical topology into its geometry map, or a map into its mesh.

    Prints the chart's stress and, for a mesh, the error of a round trip in mm.
    """
    from talkemo import load_models
    from talkemo.pipelines.map_files import convert_map

    metrics = convert_map(source, output, load_models(runtime.weights).face)
    console.messages(metric_facts(metrics))
    console.result({"outputs": [str(output)], **metrics}, [str(output)])
