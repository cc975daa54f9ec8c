"""The ffmpeg that imageio-ffmpeg carries, or another that the user names."""

from __future__ import annotations

import shutil

from ..errors import TalkemoError

# ffmpeg's readers of films and of sound; others, such as those of playlists, open further files.
VIDEO_DEMUXERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegvideo", "mpegts")
AUDIO_DEMUXERS = (*VIDEO_DEMUXERS, "aac", "asf", "wav", "flac", "ogg", "mp3")


def ffmpeg_program() -> str:
    """The path of ffmpeg. Raises TalkemoError where there is none."""
    import imageio_ffmpeg

    hint = "pip install imageio-ffmpeg, or name a program by IMAGEIO_FFMPEG_EXE"
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise TalkemoError("no ffmpeg on this machine", hint) from None
    if shutil.which(program) is None:
        raise TalkemoError(
            f"{program}: no such program; ffmpeg is needed for videos and some kinds of sound", hint
        )
    return program


def input_arguments(source: str, readers: tuple[str, ...]) -> list[str]:
    """The arguments by which ffmpeg reads a file with some of its readers, and opens nothing else."""
    return [
        "-protocol_whitelist",
        "file,pipe",
        "-format_whitelist",
        ",".join(readers),
        "-i",
        f"file:{source}",
    ]
