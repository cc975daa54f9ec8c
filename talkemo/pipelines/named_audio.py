"""The audio of an animation: the file that the user names, or the one that the animation names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..audio.recording import Audio, load_audio, open_audio
from ..files.reading import printable
from ..formats.animation import Source
from .options import PathLike

MAX_NAME_BYTES = 255  # of a file; asking for a longer one is an error
Notice = Callable[[str], None]  # called with a message for the user


def audio_of(
    source: Source, audio: PathLike | tuple[np.ndarray, int] | Audio | None
) -> Audio | None:
    """Return the user's audio, or that of the file beside an animation which it names.

    Parameters
    ----------
    source : Source
        The animation. The key `audio` of its metadata is the file's name.
    audio : path, (samples, rate), Audio or None
        What the user gives, see `talkemo.animate`.

    Raises
    ------
    InputError
        The audio cannot be used.
    """
    if audio is not None:
        return load_audio(audio)
    name = _named_file(source)
    beside = source.path.parent / name
    return open_audio(beside) if name and beside.is_file() else None


def missing_audio(source: Source) -> str:
    """Return a message for the user: why there is no audio, and what to do."""
    animation, name = printable(source.path), _named_file(source)
    reason = f"{animation} names no audio file"
    if name:
        reason = f"{printable(name)}, which {animation} names, does not lie beside it"
    return f"no audio: {reason}; name one with --audio"


def _named_file(source: Source) -> str:
    """The name of the audio file in an animation's metadata, empty if there is none."""
    # Without folders: a downloaded animation must not choose which files are read.
    name = Path(str(source.meta.get("audio", ""))).name
    return name if len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES else ""
