"""The ffmpeg that imageio-ffmpeg carries, or another that the user names."""

from __future__ import annotations

import shutil

from .errors import TalkemoError


def ffmpeg_program() -> str:
    """The path of ffmpeg. Raises TalkemoError where there is none."""
    import imageio_ffmpeg

    hint = "pip install imageio-ffmpeg, or name a program by IMAGEIO_FFMPEG_EXE"
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise TalkemoError("no ffmpeg on this machine", hint) from None
    if shutil.which(program) is None:
        raise TalkemoError(f"{program}: no such program; ffmpeg is needed for videos and some kinds of sound", hint)
    return program
