"""`talkemo live --to`: the frames of a stream, sent to other programs at an even pace."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..audio.pipe import AudioStream
from ..audio.recording import SAMPLE_RATE, Audio
from ..binding import Binding
from ..face.canonical import Face
from ..face.viseme_curves import CurveFit
from ..formats.target_names import OWN_CURVES
from ..weights.models import Models
from .live_targets import LiveFrame, LiveTarget
from .options import StreamOptions
from .stream import Chunk, Stream, stream

PACE_WINDOW_FRAMES = 120  # whose delays decide when the next frame is due
PACE_QUANTILE = 0.95  # of these delays; later frames are sent at once
MAX_PACING_S = 0.1  # that a frame waits at most
MAX_WAITING_FRAMES = 240  # for the thread that sends
RECORDING_PIECE_S = 0.02  # of a recording that is played as if it were spoken now
WARM_UP_S = 1.0  # of silence that loads the networks


class FramePacer:
    """Says when frames are due, so that they leave evenly though they are computed in chunks.

    A frame is due when the latest of most recent frames would have been ready, relative to their
    times. The pace so follows the audio's own clock, however fast the computer is.
    """

    def __init__(self) -> None:
        self._delays: deque[float] = deque(maxlen=PACE_WINDOW_FRAMES)

    def due(self, frame_time: float, ready: float) -> float:
        """Return when a frame is due, on the clock of `ready`, at which it was computed (s)."""
        self._delays.append(ready - frame_time)
        usual = sorted(self._delays)[int(PACE_QUANTILE * (len(self._delays) - 1))]
        due = frame_time + usual
        return min(max(due, ready), ready + MAX_PACING_S)


@dataclass
class LiveReport:
    """What was sent."""

    frames: int = 0
    seconds: float = 0.0  # of audio
    delay: float = 0.0  # s of frames behind the audio on average, without the microphone's own

    def add(self, chunk: Chunk, source: Stream) -> None:
        """Count the frames of a chunk of a stream."""
        self.seconds = float(chunk.times[-1]) + 1 / source.fps
        heard = source.audio.seconds if isinstance(source.audio, AudioStream) else self.seconds
        total = self.delay * self.frames + (heard - self.seconds) * len(chunk)
        self.frames += len(chunk)
        self.delay = total / self.frames


class _Sender:
    """Sends frames in a thread of its own, each when it is due.

    `paced`: whether it waits for that.
    """

    def __init__(self, targets: Sequence[LiveTarget], paced: bool):
        self.targets, self.paced = targets, paced
        self.error: Exception | None = None
        self._pacer = FramePacer()
        self._frames: queue.Queue[tuple[LiveFrame, float] | None] = queue.Queue(MAX_WAITING_FRAMES)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, frame: LiveFrame) -> None:
        """Send a frame when it is due. Raises what a target has raised."""
        if self.error:
            raise self.error
        self._frames.put((frame, time.perf_counter()))

    def close(self) -> None:
        """Wait until all frames are sent."""
        self._frames.put(None)
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        while (item := self._frames.get()) is not None:
            frame, ready = item
            if self.error:
                continue
            if self.paced:
                wait = self._pacer.due(frame.time, ready) - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
            try:
                for target in self.targets:
                    target.send(frame)
            except Exception as error:
                self.error = error


def send_live(
    source: Stream,
    targets: Sequence[LiveTarget],
    *,
    paced: bool = True,
    report: LiveReport | None = None,
) -> LiveReport:
    """Send the frames of a stream to all targets, until the audio ends.

    Parameters
    ----------
    source : Stream
        What `stream` returned. A recording should be given `as_spoken`.
    targets : sequence of LiveTarget
        What `open_targets` returned.
    paced : bool
        Whether frames leave at an even pace, up to MAX_PACING_S later, instead of in the chunks in
        which they are computed.
    report : LiveReport, optional
        It is filled while frames are sent, and returned.

    Raises
    ------
    TalkemoError
        What the audio, the face or a target raises.
    """
    report = LiveReport() if report is None else report
    sender = _Sender(targets, paced)
    fits = _fits(source.performer.models.face, {target.address.kind for target in targets})
    try:
        for chunk in source:
            for frame in live_frames(chunk, fits):
                sender.put(frame)
            report.add(chunk, source)
    finally:
        sender.close()
    return report


def live_frames(chunk: Chunk, fits: Sequence[CurveFit]) -> Iterator[LiveFrame]:
    """Yield the frames of a chunk, with ARKit's weights and the curves of the fits."""
    curves = {fit.kind: fit(chunk.arkit, chunk.speech, chunk.emotion) for fit in fits}
    curves["arkit"] = chunk.arkit
    if chunk.own is not None:
        curves[OWN_CURVES] = chunk.own
    for k, frame_time in enumerate(chunk.times):
        yield LiveFrame(
            float(frame_time),
            {kind: values[k] for kind, values in curves.items()},
            None if chunk.head is None else chunk.head[k],
            None if chunk.gaze is None else chunk.gaze[k],
        )


class SpokenAudio(AudioStream):
    """A recording that arrives as if it were spoken now."""

    def __init__(self, audio: Audio):
        super().__init__((), SAMPLE_RATE, audio.name)
        self.audio, self.notes = audio, list(audio.notes)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the recording's chunks, each when it would have been spoken."""
        started = time.perf_counter()
        for block in self.audio.chunks(RECORDING_PIECE_S):
            self.seconds += len(block) / SAMPLE_RATE
            time.sleep(max(0.0, started + self.seconds - time.perf_counter()))
            yield block
        self.ended = True


def as_spoken(audio: Audio | AudioStream) -> AudioStream:
    """Return audio that arrives as if it were spoken now; a stream does so already."""
    return audio if isinstance(audio, AudioStream) else SpokenAudio(audio)


def warm_up(binding: Binding, options: StreamOptions, models: Models, kinds: set[str]) -> None:
    """Make the frames of a second of silence, so that the first ones of a person do not wait.

    Parameters
    ----------
    binding : Binding
    options : StreamOptions
    models : Models
    kinds : set of str
        Kinds of curves that will be sent.
    """
    silence = np.zeros(int(WARM_UP_S * SAMPLE_RATE), np.float32)
    fits = _fits(models.face, kinds)
    for chunk in stream(binding, (silence, SAMPLE_RATE), options, models=models):
        for _ in live_frames(chunk, fits):
            pass


def _fits(face: Face, kinds: set[str]) -> list[CurveFit]:
    """What computes curves of the kinds, without those that chunks have."""
    return [CurveFit(face, kind) for kind in sorted(kinds - {"arkit", OWN_CURVES})]
