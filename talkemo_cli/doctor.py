"""talkemo doctor: what works on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkemo import InputError, TalkemoError
from talkemo.extras import install_command

from .console import console
from .options import command

if TYPE_CHECKING:
    from talkemo.weights.weight_set import WeightSet

# Facts that are printed as they are, and what they are called.
SENTENCES = {
    "gpu": "GPU",
    "renderer": "renderer",
    "ffmpeg": "ffmpeg, for videos and audio from m4a, aac and mp4",
    "films": "reconstruct from video",
    "usd": "USD",
}


@command("doctor")
def doctor() -> None:
    """Report what works on this machine.

    GPU, renderer, video encoder, face detector, USD, and the sizes of weights and cache.
    """
    import platform

    import torch

    from talkemo import __version__

    facts: dict[str, Any] = {
        "talkemo": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.cuda.is_available(),
        "gpu": gpu_name(),
        "threads": torch.get_num_threads(),
        "renderer": renderer_name(),
        "ffmpeg": ffmpeg_version(),
        "films": detector_state(),
        "usd": usd_version(),
        "weights": {},
        "weights_mb": {},
        "cache": cache_size(),
    }
    for name, weight_set in _bundled_sets():
        facts["weights"][name] = set_state(weight_set)
        facts["weights_mb"][name] = set_size_mb(weight_set)
    console.result(facts, list(_sentences(facts)))


def _sentences(facts: dict[str, Any]) -> Iterator[str]:
    """Yield the facts in words."""
    yield (
        f"talkemo {facts['talkemo']}, Python {facts['python']}, torch {facts['torch']}, "
        f"threads: {facts['threads']}"
    )
    for key, name in SENTENCES.items():
        yield f"{name}: {facts[key]}"
    for name, state in facts["weights"].items():
        yield f"weights {name}: {state}, {facts['weights_mb'][name]:.1f} MB"
    cache = facts["cache"]
    yield f"cache of bindings: {cache['folder']}, {cache['bindings']} of {cache['MB']:.1f} MB in all"
    yield f"cached captures of corpora: {cache['captures_MB']:.1f} MB"
    yield f"cached landmarks of videos: {cache['landmarks_MB']:.1f} MB"


def gpu_name() -> str:
    """Return the GPU that networks run on, with its memory, or that there is none."""
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use; networks run on the CPU"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"


def renderer_name() -> str:
    """Return the renderer that draws videos and images on this machine."""
    import numpy as np

    from talkemo.render import new_renderer
    from talkemo.render.appearance import plain_appearance
    from talkemo.render.view import frame_view

    triangle = plain_appearance(np.array([[0, 1, 2]]))
    renderer = new_renderer(triangle, frame_view(np.eye(3)), (64, 64))
    renderer.close()
    return renderer.name


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

    from talkemo.capture.landmarker_bundle import FETCH_COMMAND, installed_landmarker

    try:
        if importlib.util.find_spec("ai_edge_litert") is None:
            return f"no face detector: {install_command('video')}"
        path = installed_landmarker()
        return f"ready ({path})" if path else f"not downloaded yet: {FETCH_COMMAND}"
    except TalkemoError as error:
        return f"{error.message}: {error.hint}"


def usd_version() -> str:
    """Return the version of the library that reads and writes USD, or how to install it."""
    try:
        return f"usd-core {version('usd-core')}"
    except PackageNotFoundError:
        return f"missing: {install_command('usd')}"


def _bundled_sets() -> Iterator[tuple[str, WeightSet | InputError]]:
    """Yield the name of each bundled set, and the set or why it cannot be opened."""
    from talkemo.weights.models import open_set
    from talkemo.weights.weight_set import bundled_sets

    for name in bundled_sets():
        try:
            yield name, open_set(name)
        except InputError as error:
            yield name, error


def set_state(weight_set: WeightSet | InputError) -> str:
    """Return `intact`, or the problem of the first damaged file of a set of weights."""
    try:
        if isinstance(weight_set, InputError):
            raise weight_set
        for stage in weight_set.stages:
            weight_set.check(stage)
    except InputError as error:
        return f"damaged ({error.message})"
    return "intact"


def set_size_mb(weight_set: WeightSet | InputError) -> float:
    """Return the size in MB of the files of a set of weights that are there."""
    if isinstance(weight_set, InputError):
        return 0.0
    files = [weight_set.path(stage) for stage in weight_set.stages]
    return megabytes(path for path in files if path is not None)


def cache_size() -> dict[str, Any]:
    """Return the folder of cached bindings, their number, and the sizes of all caches in MB."""
    from talkemo.binding.cache import BINDING_ENDING, BindingCache
    from talkemo.data.capture_cache import CACHED_CAPTURES, captures_cache
    from talkemo.data.custom_corpora import TRACKED_ENDING, landmarks_cache

    folder = BindingCache().folder
    files = list(folder.glob(f"*{BINDING_ENDING}"))
    return {
        "folder": str(folder),
        "bindings": len(files),
        "MB": megabytes(files),
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
