"""talkemo doctor: what works on this machine."""

from __future__ import annotations

from .console import console
from .options import command


@command("doctor")
def doctor() -> None:
    """Say what works on this machine: weights, renderer, video encoder, CUDA."""
    import platform

    import imageio_ffmpeg
    import numpy as np
    import torch

    from talkemo import __version__
    from talkemo import weights as library
    from talkemo.render import frame_view, new_renderer

    entries = library.registry()
    console.result(
        {
            "talkemo": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.cuda.is_available(),
            "threads": torch.get_num_threads(),
            "renderer": new_renderer(np.array([[0, 1, 2]]), frame_view(np.eye(3)), (64, 64)).name,
            "ffmpeg": imageio_ffmpeg.get_ffmpeg_version(),
            "weights": "intact" if all(library.intact(e) for e in entries.values()) else "damaged",
        }
    )
