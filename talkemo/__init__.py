"""talkemo makes a 3D face speak a recorded sentence with an emotion.

    import talkemo
    talkemo.animate("face.obj", "speech.wav", "happy.mp4", emotion="happy")
    result = talkemo.animate((vertices, faces), (samples, 16000), emotion="happy")  # result.vertices (T, N, 3)

animate     a mesh and a recording to an animation            transfer  the emotion of an animation that exists
bind        the face of a mesh, found once and used again     reconstruct  landmarks of a filmed person to 3D
stream      frames of a face as the sound comes
load_models a set of weights: bundled, a folder, or the Hub   Timeline, EMOTIONS  emotions over time

Arrays are numpy, lengths millimetres on the canonical face, time seconds; docstrings give shapes. Importing this package
is cheap: torch, trimesh and the renderers load inside the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import InputError, TalkemoError

if TYPE_CHECKING:
    from .binding import Binding, FaceHint
    from .expression.emotions import EMOTIONS, Timeline
    from .face.motion import Motion
    from .pipelines.animate import animate
    from .pipelines.bind import bind
    from .pipelines.outputs import ExportOptions, Result
    from .pipelines.reconstruct import reconstruct
    from .pipelines.stream import Chunk, Stream, stream
    from .pipelines.transfer import transfer
    from .weights.models import Models, load_models

__version__ = "0.2.0"
__all__ = [
    "EMOTIONS",
    "Binding",
    "Chunk",
    "ExportOptions",
    "FaceHint",
    "InputError",
    "Models",
    "Motion",
    "Result",
    "Stream",
    "TalkemoError",
    "Timeline",
    "__version__",
    "animate",
    "bind",
    "load_models",
    "reconstruct",
    "stream",
    "transfer",
]
# Where each public name is defined; loaded when it is first used.
_MODULES = {
    "EMOTIONS": "expression.emotions",
    "Timeline": "expression.emotions",
    "Binding": "binding",
    "FaceHint": "binding",
    "Models": "weights.models",
    "load_models": "weights.models",
    "Motion": "face.motion",
    "animate": "pipelines.animate",
    "bind": "pipelines.bind",
    "ExportOptions": "pipelines.outputs",
    "Result": "pipelines.outputs",
    "reconstruct": "pipelines.reconstruct",
    "Chunk": "pipelines.stream",
    "Stream": "pipelines.stream",
    "stream": "pipelines.stream",
    "transfer": "pipelines.transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
