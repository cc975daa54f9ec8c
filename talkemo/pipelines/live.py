"""A web page whose microphone drives a face, served to this machine alone: `talkemo live`.

The page sends its sound in pieces, each of which is answered by the frames that it made known; what is sent and shown is
never kept. Only 127.0.0.1 is listened on, under an address with a secret in it, so that no other page can ask.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from ..audio.pipe import AudioStream
from ..audio.samples import SAMPLE_RATE_RANGE
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..errors import InputError, TalkemoError
from ..expression.emotions import EMOTIONS, Timeline
from ..render.page import WEB, face_data, page_text
from ..weights.models import Models
from .performance import ActingSettings, Performer, bound_header
from .stream import Chunk, Stream

LONGEST_REQUEST = 1 << 22  # bytes: more than half a minute of sound at 32 kHz
SCRIPTS = ("worker.js", "worklet.js")  # of the page, besides what is in it
EASES = 0.3  # s, time constant in which one emotion becomes another
WAIT = 10.0  # s that a piece of sound may take


class Mood:
    """An emotion that can be changed while a face speaks; in the place of a timeline."""

    def __init__(self, emotion: str, intensity: float):
        self._aim = self._now = _amounts(emotion, intensity)
        self._time = 0.0

    @property
    def shown(self) -> np.ndarray:
        """Which emotions are shown, (8,) bool."""
        return (self._aim + self._now) > 1e-3

    def change(self, emotion: str, intensity: float) -> None:
        """Show another one from now on. Raises InputError for an unknown emotion or intensity."""
        self._aim = _amounts(emotion, intensity)

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Amounts (T, 8) at the next times (T,) s."""
        share = np.exp(-np.maximum(times - self._time, 0) / EASES)[:, None]
        found = self._aim + share * (self._now - self._aim)
        self._time, self._now = float(times[-1]), found[-1]
        return found


def _amounts(emotion: str, intensity: float) -> np.ndarray:
    return Timeline.constant(emotion, intensity).amounts(np.zeros(1))[0]


class Session:
    """One microphone: sound that is pushed in, and the frames that come out. stream: makes them from the sound"""

    def __init__(self, performer: Performer, rate: int, fps: float):
        self.stream = Stream(AudioStream(self._pieces(), rate, "the microphone"), fps, performer)
        self.turn = HeadTurner(performer.binding)
        self.rate, self.sound = rate, 0.0  # s that came
        self.frames = 0
        self._given: list[np.ndarray] = []
        self._made: list[Chunk] = []
        self._asking = self._ended = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The frames that more samples (N,) make known, (T, 1 + S + 18) float32: time, coordinates, rotations.

        Raises what the stream raised.
        """
        with self._changed:
            self._given.append(samples)
            self._asking = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._asking or self._ended, WAIT):
                raise TalkemoError("the sound could not be followed", "end other programs")
            if self._error:
                raise self._error
            made, self._made = self._made, []
        self.sound += len(samples) / self.rate
        self.frames += sum(map(len, made))
        return np.concatenate([self._rows(chunk) for chunk in made] or [np.zeros(0, np.float32)])

    def close(self) -> None:
        """End it, and wait until nothing is computed any more."""
        self._end()
        self._thread.join(WAIT)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            for chunk in self.stream:
                with self._changed:
                    self._made.append(chunk)
        except Exception as error:
            self._error = error
        self._end()

    def _pieces(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                if not self._given:
                    self._asking = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._given or self._ended)
                if self._ended:
                    return
                given, self._given = self._given, []
            yield from given

    def _rows(self, chunk: Chunk) -> np.ndarray:
        turn = self.turn
        still = np.tile(np.eye(3, dtype=np.float32), (len(chunk), 1, 1))
        head = still if chunk.head is None else turn.head(chunk.head)
        eyes = still if chunk.gaze is None else turn.eye_rotations(chunk.gaze)
        parts = (chunk.times[:, None], chunk.coordinates, head.reshape(-1, 9), eyes.reshape(-1, 9))
        return np.concatenate(parts, 1).astype("<f4").ravel()


@dataclass
class Figures:
    """What a live page did: seconds of sound, frames, the page's own latency in s, and the pictures that it drew."""

    sound: float = 0.0
    frames: int = 0
    latency: float = 0.0
    shown: int = 0


class Live(ThreadingHTTPServer):
    """The server of one face. address: of the page, to be opened in a browser on this machine

    port: to listen on; 0 for any. Raises InputError for an emotion or a style that is unknown and a port in use.
    """

    daemon_threads = True

    def __init__(
        self,
        models: Models,
        binding: Binding,
        *,
        emotion: str = "neutral",
        intensity: float = 1.0,
        style: str | None = None,
        seed: int = 0,
        fps: float = 60.0,
        port: int = 0,
    ):
        self.manner = ActingSettings.of(
            emotion, intensity, None, style, seed, "auto", "auto", "auto"
        )
        self.mood = Mood(emotion, intensity)
        models.talking.style(style)
        self.models, self.binding, self.fps = models, binding, fps
        self.secret, self.figures = secrets.token_urlsafe(16), Figures()
        self.session: Session | None = None
        self.one_at_a_time = threading.Lock()
        header = bound_header(binding, 0, fps, {})
        shown = {
            "name": binding.mesh.name,
            "emotions": list(EMOTIONS),
            "emotion": emotion,
            "intensity": intensity,
        }
        data = {**face_data(replace(header, turn=HeadTurner(binding))), **shown}
        self.page = page_text("live.html", data).encode()
        self.warm_up()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be listened on ({error.strerror})", "choose another --port"
            ) from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/"

    def warm_up(self) -> None:
        """Make frames of a little silence, so that the first ones of a person do not have to wait."""
        self.begin(16000).push(np.zeros(16000, np.float32))

    def begin(self, rate: int) -> Session:
        """Begin anew, with a microphone of so many samples a second. Raises InputError for an unusable rate."""
        if self.session:
            self.session.close()
        performer = Performer(self.models, self.binding, replace(self.manner, course=self.mood))  # type: ignore[arg-type]
        self.mood._time = 0.0
        self.session = Session(performer, rate, self.fps)
        self.figures = Figures()
        return self.session

    def server_close(self) -> None:
        """End the session too."""
        if self.session:
            self.session.close()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Live
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "talkemo", ""
    timeout = 60.0

    def do_GET(self) -> None:
        name = self._asked()
        if name == "":
            self._answer(200, self.server.page, "text/html; charset=utf-8")
        elif name in SCRIPTS:
            self._answer(200, (WEB / name).read_bytes(), "text/javascript; charset=utf-8")
        elif name is not None:
            self._answer(404, b"no such page")

    def do_POST(self) -> None:
        name = self._asked()
        if name is None:
            return
        options = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        size = self.headers.get("Content-Length", "0")
        if not size.isdigit() or int(size) > LONGEST_REQUEST:
            self.close_connection = True
            self._answer(413, b"too much at a time")
            return
        body = self.rfile.read(int(size))
        try:
            with self.server.one_at_a_time:
                self._answer(200, self._do(name, options, body), "application/octet-stream")
        except TalkemoError as error:
            self._answer(400, f"{error.message}; {error.hint}".encode())
        except (ValueError, KeyError):
            self._answer(400, b"not what the page sends")

    def _do(self, name: str, options: dict[str, str], body: bytes) -> bytes:
        server = self.server
        if name == "start":
            rate = float(options["rate"])
            if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
                raise InputError(f"{rate:g} samples a second", "choose another microphone")
            server.begin(round(rate))
            return b""
        if name == "mood":
            server.mood.change(options["emotion"], float(options["intensity"]))
            return b""
        if name != "sound" or server.session is None:
            raise ValueError(name)
        found = server.session.push(np.frombuffer(body, "<f4"))
        server.figures = Figures(
            server.session.sound,
            server.session.frames,
            float(options["latency"]),
            int(options["shown"]),
        )
        return found.tobytes()

    def _asked(self) -> str | None:
        """What is asked for under the secret address; of anybody else the request is refused."""
        parts = urlsplit(self.path).path.split("/", 2)
        host = self.headers.get("Host", "").rpartition(":")[0]
        if (
            host not in ("127.0.0.1", "localhost")
            or len(parts) < 3
            or not secrets.compare_digest(
                parts[1].encode("utf-8", "replace"), self.server.secret.encode()
            )
        ):
            self.close_connection = True
            self._answer(403, b"the page has another address")
            return None
        return parts[2]

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        own = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for key, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": own,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            }.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is said of requests."""
