"""The ffmpeg program: the one that imageio-ffmpeg contains, or one that the user names."""

from __future__ import annotations

import shutil

from ..errors import TalkemoError

# ffmpeg's demuxers of video and of audio. Others, such as those of playlists, open further files.
VIDEO_DEMUXERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegvideo", "mpegts")
AUDIO_DEMUXERS = (*VIDEO_DEMUXERS, "aac", "asf", "wav", "flac", "ogg", "mp3")


def ffmpeg_program() -> str:
    """Return the path of ffmpeg. Raises TalkemoError if there is none."""
    import imageio_ffmpeg

    hint = "pip install imageio-ffmpeg, or name a program by IMAGEIO_FFMPEG_EXE"
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise TalkemoError("no ffmpeg on this machine", hint) from None
    if shutil.which(program) is None:
        raise TalkemoError(
            f"{program}: no such program; ffmpeg is needed for video and some kinds of audio", hint
        )
    return program


def input_arguments(source: str, demuxers: tuple[str, ...]) -> list[str]:
    """Return the arguments that let ffmpeg read one file, with these demuxers only."""
    allowed = ["-protocol_whitelist", "file,pipe", "-format_whitelist", ",".join(demuxers)]
    return [*allowed, "-i", f"file:{source}"]
