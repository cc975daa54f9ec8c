"""talkemo doctor: what works on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from talkemo import InputError, TalkemoError

from .console import console
from .options import command


@command("doctor")
def doctor() -> None:
    """Report what works on this machine.

    Weights, renderer, video encoder, face detector, CUDA, and the size of the cache.
    """
    import platform

    import numpy as np
    import torch

    from talkemo import __version__
    from talkemo.render import new_renderer
    from talkemo.render.appearance import plain_appearance
    from talkemo.render.view import frame_view
    from talkemo.weights.weight_set import bundled_sets

    triangle = plain_appearance(np.array([[0, 1, 2]]))
    renderer = new_renderer(triangle, frame_view(np.eye(3)), (64, 64))
    renderer.close()
    console.result(
        {
            "talkemo": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.cuda.is_available(),
            "threads": torch.get_num_threads(),
            "renderer": renderer.name,
            "ffmpeg": ffmpeg_version(),
            "films": detector_state(),
            "weights": {name: set_state(name) for name in bundled_sets()},
            "cache": cache_size(),
        }
    )


def ffmpeg_version() -> str:
    """Return the version of ffmpeg, or that it is missing."""
    import imageio_ffmpeg

    from talkemo.video.ffmpeg import ffmpeg_program

    try:
        ffmpeg_program()
        return imageio_ffmpeg.get_ffmpeg_version()
    except (TalkemoError, OSError, RuntimeError) as error:
        return f"missing ({error}): no videos, and no audio from m4a, aac and mp4"


def detector_state() -> str:
    """Return the file of the face detector, or how to install it."""
    import importlib.util

    from talkemo.capture.landmark_tracker import find_landmarker

    try:
        if importlib.util.find_spec("ai_edge_litert") is None:
            return "no face detector: pip install 'talkemo[video]'"
        return str(find_landmarker())
    except TalkemoError as error:
        return f"{error.message}: {error.hint}"


def set_state(name: str) -> str:
    """Return `intact`, or the problem of the first damaged file of a set of weights."""
    from talkemo.weights.models import open_set

    try:
        weight_set = open_set(name)
        for stage in weight_set.stages:
            weight_set.check(stage)
    except InputError as error:
        return f"damaged ({error.message})"
    return "intact"


def cache_size() -> dict[str, object]:
    """Return the folder of cached bindings, and the sizes of all caches in MB."""
    from talkemo.binding.cache import BINDING_ENDING, BindingCache
    from talkemo.data.capture_cache import CACHED_CAPTURES, captures_cache
    from talkemo.data.custom_corpora import TRACKED_ENDING, landmarks_cache

    folder = BindingCache().folder
    return {
        "folder": str(folder),
        "MB": megabytes(folder.glob(f"*{BINDING_ENDING}")),
        "captures_MB": megabytes(captures_cache().glob(CACHED_CAPTURES)),
        "landmarks_MB": megabytes(landmarks_cache().glob(f"*{TRACKED_ENDING}")),
    }


def megabytes(paths: Iterable[Path]) -> float:
    """Return the total size of files in MB."""
    size = 0
    for path in paths:
        with suppress(OSError):  # another process may have removed it
            size += path.stat().st_size
    return round(size / 1e6, 1)
