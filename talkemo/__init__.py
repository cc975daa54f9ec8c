"""talkemo animates a 3D face mesh with speech and emotion.

    import talkemo
    talkemo.animate("face.obj", "speech.wav", "happy.mp4", emotion="happy")
    result = talkemo.animate((vertices, faces), (samples, 16000), emotion="happy")
    result.vertices  # (T, N, 3)

- animate: a mesh and speech to an animation
- stream: frames while the audio is still arriving
- transfer: change the emotion of an existing animation
- reconstruct: a video or landmarks of a person to 3D
- hear_emotion: what a voice expresses, over time
- bind: find the face of a mesh once, for many animations
- load_models: a bundled set of weights, a folder, or a set on the Hub
- Timeline, EMOTIONS: emotions over time

Arrays are numpy; lengths are millimetres on the canonical face, times seconds. Importing this
package is cheap: torch, trimesh and the renderers load inside the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .deprecated import find_moved_modules
from .errors import InputError, TalkemoError

if TYPE_CHECKING:
    from .binding import Binding, FaceHint
    from .expression.emotions import EMOTIONS, Timeline
    from .face.motion import Motion
    from .pipelines.animate import animate
    from .pipelines.bind import bind
    from .pipelines.hearing import hear_emotion
    from .pipelines.options import (
        ActingOptions,
        AnimateOptions,
        ExportOptions,
        ReconstructOptions,
        StreamOptions,
        TransferOptions,
    )
    from .pipelines.outputs import Result
    from .pipelines.reconstruct import reconstruct
    from .pipelines.stream import Chunk, Stream, stream
    from .pipelines.transfer import transfer
    from .weights.models import Models, load_models

__version__ = "0.2.0"
# Where each public name is defined; the module is loaded when the name is first used.
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
    "hear_emotion": "pipelines.hearing",
    "ActingOptions": "pipelines.options",
    "AnimateOptions": "pipelines.options",
    "ExportOptions": "pipelines.options",
    "ReconstructOptions": "pipelines.options",
    "StreamOptions": "pipelines.options",
    "TransferOptions": "pipelines.options",
    "Result": "pipelines.outputs",
    "reconstruct": "pipelines.reconstruct",
    "Chunk": "pipelines.stream",
    "Stream": "pipelines.stream",
    "stream": "pipelines.stream",
    "transfer": "pipelines.transfer",
}
__all__ = [
    "EMOTIONS",
    "ActingOptions",
    "AnimateOptions",
    "Binding",
    "Chunk",
    "ExportOptions",
    "FaceHint",
    "InputError",
    "Models",
    "Motion",
    "ReconstructOptions",
    "Result",
    "Stream",
    "StreamOptions",
    "TalkemoError",
    "Timeline",
    "TransferOptions",
    "__version__",
    "animate",
    "bind",
    "hear_emotion",
    "load_models",
    "reconstruct",
    "stream",
    "transfer",
]

find_moved_modules()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
