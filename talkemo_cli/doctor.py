"""talkemo doctor: what works on this machine."""

from __future__ import annotations

from .console import console
from .options import command


@command("doctor")
def doctor() -> None:
    """Say what works on this machine: weights, renderer, video encoder, face detector, CUDA, and what is remembered in the cache."""
    import platform

    import numpy as np
    import torch

    from talkemo import __version__
    from talkemo.render import new_renderer
    from talkemo.render.appearance import plain_appearance
    from talkemo.render.view import frame_view
    from talkemo.weights.registry import bundled_sets

    renderer = new_renderer(
        plain_appearance(np.array([[0, 1, 2]])), frame_view(np.eye(3)), (64, 64)
    )
    renderer.close()
    console.result(
        {
            "talkemo": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.cuda.is_available(),
            "threads": torch.get_num_threads(),
            "renderer": renderer.name,
            "ffmpeg": version_of_ffmpeg(),
            "films": state_of_detector(),
            "weights": {name: state_of_set(name) for name in bundled_sets()},
            "cache": cache_size(),
        }
    )


def version_of_ffmpeg() -> str:
    """The version of ffmpeg, or that it is missing."""
    import imageio_ffmpeg

    from talkemo import TalkemoError
    from talkemo.video.ffmpeg import ffmpeg_program

    try:
        ffmpeg_program()
        return imageio_ffmpeg.get_ffmpeg_version()
    except (TalkemoError, OSError, RuntimeError) as error:
        return f"missing ({error}): no videos, and no sound from m4a, aac and mp4"


def state_of_detector() -> str:
    """The file of the face detector, or how to get what is missing."""
    import importlib.util

    from talkemo import TalkemoError
    from talkemo.capture.landmark_tracker import find_landmarker

    try:
        if importlib.util.find_spec("ai_edge_litert") is None:
            return "no face detector: pip install 'talkemo[video]'"
        return str(find_landmarker())
    except TalkemoError as error:
        return f"{error.message}: {error.hint}"


def state_of_set(name: str) -> str:
    """`intact`, or what is wrong with the first file of a set that differs from its registry."""
    from talkemo import InputError
    from talkemo.weights.models import open_set

    try:
        one = open_set(name)
        for stage in one.stages:
            one.check(stage)
    except InputError as error:
        return f"damaged ({error.message})"
    return "intact"


def cache_size() -> dict[str, object]:
    """The folder of remembered bindings and the MB that they take."""
    from talkemo.binding.cache import BINDING_ENDING, BindingCache

    folder = BindingCache().folder
    size = 0
    for path in folder.glob(f"*{BINDING_ENDING}"):
        try:
            size += path.stat().st_size
        except OSError:  # another process may have removed it
            continue
    return {"folder": str(folder), "MB": round(size / 1e6, 1)}
