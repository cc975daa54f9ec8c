"""talkemo styles: the speaking styles that --style can name."""

from __future__ import annotations

from typing import Annotated

from talkemo.pipelines.options import RuntimeOptions

from .console import console
from .options import Only, command


@command("styles", "talkemo styles", "talkemo styles --weights free")
def styles(runtime: Annotated[RuntimeOptions, Only("weights")]) -> None:
    """List the speaking styles of a set of weights: default, and one per training speaker."""
    from talkemo.weights.models import style_names

    names = style_names(runtime.weights)
    console.message(f"{len(names)} styles of the weights {runtime.weights}, for --style")
    console.result({"weights": str(runtime.weights), "styles": names}, names)
