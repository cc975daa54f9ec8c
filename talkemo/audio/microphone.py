"""A microphone of this machine, through PortAudio."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InputError, TalkemoError
from ..extras import install_command
from .pipe import AudioStream

BLOCK_S = 0.01  # s of audio that arrive at a time
SILENT_S = 5.0  # without any audio after which the microphone counts as disconnected
NO_MICROPHONE_HINT = "connect one, or send audio: ... | talkemo live FACE - --to ..."


@contextmanager
def open_microphone(device: str | None = None) -> Iterator[AudioStream]:
    """Open a microphone; yield what it hears as a stream.

    Parameters
    ----------
    device : str, optional
        Its number, or a part of its name; by default the system's choice.

    Raises
    ------
    InputError
        There is no such microphone.
    TalkemoError
        sounddevice or PortAudio is not installed, or the microphone cannot be opened or, while it
        is read, is disconnected.
    """
    sounddevice = _sounddevice()
    number, rate = find_microphone(device)
    blocks: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

    def hear(block: np.ndarray, *_: Any) -> None:
        blocks.put(block[:, 0].copy())

    settings = {"device": number, "channels": 1, "dtype": "float32", "callback": hear}
    try:
        stream = sounddevice.InputStream(
            samplerate=rate, blocksize=int(BLOCK_S * rate), latency="low", **settings
        )
        stream.start()
    except sounddevice.PortAudioError as error:
        raise TalkemoError(
            f"the microphone cannot be opened ({_reason(error)})",
            "close other programs that use it, or name another with --microphone",
        ) from None
    with stream:
        yield AudioStream(_blocks(blocks), rate, "the microphone")


def _blocks(blocks: queue.SimpleQueue[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
        try:
            yield blocks.get(timeout=SILENT_S)
        except queue.Empty:
            raise TalkemoError("the microphone sends no audio", "is it connected?") from None


def _sounddevice() -> Any:
    """The module sounddevice. Raises TalkemoError if it or PortAudio is missing."""
    try:
        import sounddevice
    except ImportError:
        raise TalkemoError(
            "the microphone needs sounddevice, which is not installed", install_command("live")
        ) from None
    except OSError:  # it finds no PortAudio
        raise TalkemoError(
            "the microphone needs PortAudio, which is not installed", "apt install libportaudio2"
        ) from None
    return sounddevice


def find_microphone(device: str | None = None) -> tuple[int, int]:
    """Return the number of a microphone and its rate in Hz; raises as `open_microphone` does."""
    sounddevice = _sounddevice()
    inputs = [about for about in sounddevice.query_devices() if about["max_input_channels"] > 0]
    if not inputs:
        raise InputError("this machine has no microphone", NO_MICROPHONE_HINT)
    wanted = int(device) if device and device.isascii() and device.isdigit() else device
    try:
        found = sounddevice.query_devices(wanted, "input")
    except (ValueError, sounddevice.PortAudioError):
        names = "; ".join(f"{about['index']} {about['name']}" for about in inputs)
        raise InputError(
            f"no microphone '{device}'" if device else "no microphone is the system's default",
            f"name one with --microphone: {names}",
        ) from None
    return int(found["index"]), round(found["default_samplerate"])


def _reason(error: Exception) -> str:
    """What PortAudio says, in one line."""
    return " ".join(str(error.args[0] if error.args else error).split())
