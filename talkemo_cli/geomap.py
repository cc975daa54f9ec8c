"""talkemo geomap: a mesh of the canonical topology to the geometry map and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console
from .options import command


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
    weights: options.Weights = "default",
) -> None:
    """Turn a mesh of the canonical topology into its geometry map, or a map into the mesh.

    Prints the round-trip error in mm and the stress of the chart.
    """
    from talkemo import load_models
    from talkemo.pipelines.map_files import convert_map

    metrics = convert_map(source, output, load_models(weights).face)
    console.result(
        {"outputs": [str(output)], **metrics},
        [str(output), *(f"{k}: {v:.4g}" for k, v in metrics.items())],
    )
