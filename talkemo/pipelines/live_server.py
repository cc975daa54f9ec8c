"""The server of `talkemo live`: a web page whose microphone drives a face, on this machine only.

The page sends its audio in pieces, and each answer holds the frames that the piece completes. No
audio is stored. The server listens on 127.0.0.1 only, under an address that contains a secret, so
that no other web page can use it.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from ..audio.pipe import AudioStream
from ..audio.recording import AudioSource
from ..audio.samples import SAMPLE_RATE_RANGE
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..errors import InputError, TalkemoError
from ..expression.emotion_names import AUTO_EMOTION
from ..expression.emotions import EMOTIONS, Timeline, check_intensity
from ..render.page import WEB, face_data, page_text
from ..weights.models import Models
from .acting import ActingPlan, FaceActor, bound_header
from .hearing import AutoEmotion, ListeningEmotion
from .options import ActingOptions
from .outputs import check_mode
from .stream import Chunk, Stream

MAX_REQUEST_BYTES = 1 << 22  # more than half a minute of audio at 32 kHz
PAGE_SCRIPTS = ("worker.js", "worklet.js")  # files that the page loads
EMOTION_EASE_S = 0.3  # time constant of the change from one emotion to the next
MAX_CONNECTIONS = 32  # open at a time; beyond it the one that has been idle longest is closed
NEW_CONNECTION_IDLE_S = 5.0  # for which a new connection may wait to request the page
PAGE_IDLE_S = 60.0  # for which the page's connections stay open between requests
MAX_LENGTH_DIGITS = 10  # of a request's Content-Length
PIECE_TIMEOUT_S = 10.0  # that a piece of audio may take
PLAIN_TEXT = "text/plain; charset=utf-8"
WARM_UP_RATE_HZ = 16000  # of the second of silence that loads the networks
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:"
)


class LiveEmotion:
    """An emotion that can be changed while a face speaks; used instead of a Timeline."""

    lookahead_s = 0.0  # the talking model waits as long as the voice needs

    def __init__(self, emotion: str, intensity: float, voice: ListeningEmotion | None = None):
        """Begin with an emotion; `voice` is what `auto` follows."""
        self.voice = voice
        self._follows = self._hears = False
        self._target = self._now = self._amounts_of(emotion, intensity)
        self._time = 0.0

    @property
    def shown(self) -> np.ndarray:
        """Which emotions occur, (8,) bool."""
        return np.full(len(EMOTIONS), self._follows) | ((self._target + self._now) > 1e-3)

    def change(self, emotion: str, intensity: float) -> None:
        """Move to another emotion from now on. Raises InputError for an unusable one."""
        self._target = self._amounts_of(emotion, intensity)

    def listen(self, audio: AudioSource) -> AudioSource:
        """Return the same audio for the talking model; `auto` follows the voice in it."""
        if self.voice is None:
            return audio
        source = self.voice.listen(audio)
        self._hears = self._follows
        if not self._hears:
            self.voice.pause()
        return source

    def _amounts_of(self, emotion: str, intensity: float) -> np.ndarray:
        """Return the amounts (8,) of an emotion, none for `auto`, and whether to follow."""
        follows = emotion.strip().lower() == AUTO_EMOTION
        if follows and self.voice is None:
            raise InputError("no emotion can be read from the voice", "choose another emotion")
        if follows and self.voice is not None:
            check_intensity(intensity)
            self.voice.intensity = intensity
        target = _amounts("neutral" if follows else emotion, intensity)
        self._follows = follows
        return target

    def restart(self) -> None:
        """Begin at time 0 again."""
        self._time = 0.0

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Return the amounts (T, 8) at the next times (T,) s, in the thread that makes frames."""
        remaining = np.exp(-np.maximum(times - self._time, 0) / EMOTION_EASE_S)[:, None]
        target, follows = self._target, self._follows  # another thread changes them
        if self.voice is not None and follows:
            if not self._hears:
                self.voice.resume(float(times[0]))
            target = self.voice.amounts(times)
        elif self.voice is not None and self._hears:
            self.voice.pause()
        self._hears = follows
        amounts = target + remaining * (self._now - target)
        self._time, self._now = float(times[-1]), amounts[-1]
        return amounts


def _voice(models: Models, acting: ActingOptions, plan: ActingPlan) -> ListeningEmotion | None:
    """Return what follows the voice; None if the weights have no voice model and none is needed."""
    emotions = plan.emotions
    if isinstance(emotions, AutoEmotion):
        return emotions.listening(models)
    try:
        return AutoEmotion(acting.intensity).listening(models)
    except InputError:
        return None


def _amounts(emotion: str, intensity: float) -> np.ndarray:
    return Timeline.constant(emotion, intensity).amounts(np.zeros(1))[0]


class MicrophoneSession:
    """One microphone: audio is pushed in, and the frames that it completes come out.

    Parameters
    ----------
    performer : FaceActor
        Makes the frames.
    rate : int
        Sampling rate of the microphone in Hz.
    fps : float
        Frames per second.
    """

    def __init__(self, performer: FaceActor, rate: int, fps: float):
        self.stream = Stream(AudioStream(self._pieces(), rate, "the microphone"), fps, performer)
        self.turner = HeadTurner(performer.binding)
        self.rate, self.audio_s = rate, 0.0
        self.frames = 0
        # What `push` and the thread exchange, under `_changed`.
        self._pushed: list[np.ndarray] = []
        self._chunks: list[Chunk] = []
        self._waiting = False  # whether the thread waits for more audio
        self._ended = False  # whether the session is over
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames that more samples (N,) complete.

        Returns
        -------
        (T * (1 + S + 18),) float32
            For each frame its time, coordinates (S,), and the rotations (3, 3) of head and eyes.

        Raises
        ------
        TalkemoError
            The frames take too long, or what the stream raised.
        """
        with self._changed:
            self._pushed.append(samples)
            self._waiting = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._waiting or self._ended, PIECE_TIMEOUT_S):
                raise TalkemoError(
                    "the frames of the audio took too long to compute", "close other programs"
                )
            if self._error:
                raise self._error
            chunks, self._chunks = self._chunks, []
        self.audio_s += len(samples) / self.rate
        self.frames += sum(map(len, chunks))
        return np.concatenate([self._rows(chunk) for chunk in chunks] or [np.zeros(0, np.float32)])

    def close(self) -> None:
        """End the session, and wait until nothing is computed any more."""
        self._end()
        self._thread.join(PIECE_TIMEOUT_S)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        """Collect the chunks of the stream; runs in its own thread."""
        try:
            for chunk in self.stream:
                with self._changed:
                    self._chunks.append(chunk)
        except Exception as error:
            self._error = error
        self._end()

    def _pieces(self) -> Iterator[np.ndarray]:
        """The audio that was pushed; waits for more, and says so by `_waiting`."""
        while True:
            with self._changed:
                if not self._pushed:
                    self._waiting = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._pushed or self._ended)
                if self._ended:
                    return
                pieces, self._pushed = self._pushed, []
            yield from pieces

    def _rows(self, chunk: Chunk) -> np.ndarray:
        """The frames of a chunk as `push` returns them."""
        identity = np.tile(np.eye(3, dtype=np.float32), (len(chunk), 1, 1))
        head = identity if chunk.head is None else self.turner.head(chunk.head)
        eyes = identity if chunk.gaze is None else self.turner.eye_rotations(chunk.gaze)
        columns = (
            chunk.times[:, None],
            chunk.coordinates,
            head.reshape(-1, 9),
            eyes.reshape(-1, 9),
        )
        return np.concatenate(columns, 1).astype("<f4").ravel()


@dataclass
class LiveMetrics:
    """Statistics that a live page reports."""

    audio_s: float = 0.0
    frames: int = 0
    latency_s: float = 0.0  # of the page, from audio to the displayed frame
    shown_frames: int = 0


class _Connections:
    """The open connections of a server; if there are too many, an idle one is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Whether each connection that waits for a request has asked for the page, the longest idle
        # first.
        self._idle: dict[socket.socket, bool] = {}
        self._busy: set[socket.socket] = set()

    def open(self, connection: socket.socket) -> None:
        """Add a connection, and close the longest idle one if there are too many.

        Those of the page are closed last.
        """
        with self._lock:
            self._idle[connection] = False
            if len(self._idle) + len(self._busy) <= MAX_CONNECTIONS:
                return
            without_page = (known for known, is_page in self._idle.items() if not is_page)
            oldest = next(without_page, connection)
            del self._idle[oldest]
        with suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # its thread then ends

    @contextmanager
    def answering(self, connection: socket.socket) -> Iterator[None]:
        """Protect a connection that asked for the page while it is answered."""
        with self._lock:
            self._idle.pop(connection, None)
            self._busy.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(connection)
                self._idle[connection] = True

    def close(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._idle.pop(connection, None)


class Live(ThreadingHTTPServer):
    """The server of one face.

    Parameters
    ----------
    models : Models
        The networks.
    binding : Binding
        The mesh.
    acting : ActingOptions, optional
        How the face acts at first; its timeline is not used.
    fps : float
        Frames per second.
    port : int
        Port to listen on; 0 for any free one.
    fill : str
        auto adds eyes, teeth and mouth to a mesh that lacks them; off does not.

    Raises
    ------
    InputError
        An emotion or a style is unknown, or the port is in use.
    """

    daemon_threads = True
    request_queue_size = 128  # connections that wait to be accepted

    def __init__(
        self,
        models: Models,
        binding: Binding,
        acting: ActingOptions | None = None,
        *,
        fps: float = 60.0,
        port: int = 0,
        fill: str = "auto",
    ):
        acting = acting or ActingOptions()
        plan = ActingPlan.of(acting)
        self.emotion = LiveEmotion(acting.emotion, acting.intensity, _voice(models, acting, plan))
        self.plan = replace(plan, emotions=self.emotion)
        can_hear = () if self.emotion.voice is None else (AUTO_EMOTION,)
        self.models, self.binding, self.fps = models, binding, fps
        self.secret, self.metrics = secrets.token_urlsafe(16), LiveMetrics()
        self.session: MicrophoneSession | None = None
        self.lock = threading.Lock()  # held while frames are computed
        self.connections = _Connections()
        header = bound_header(binding.shown, 0, fps, {}, HeadTurner(binding.shown))
        header = replace(header, fill=check_mode(fill, "fill"))
        data = {
            **face_data(header),
            "name": binding.mesh.name,
            "emotions": [*EMOTIONS, *can_hear],
            "emotion": acting.emotion,
            "intensity": acting.intensity,
        }
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
        """URL of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/"

    def warm_up(self) -> None:
        """Make frames of a second of silence, so that the first ones of a person do not wait."""
        self.begin(WARM_UP_RATE_HZ).push(np.zeros(WARM_UP_RATE_HZ, np.float32))

    def begin(self, rate: int) -> MicrophoneSession:
        """Begin a session with a microphone of this sampling rate in Hz, and end the last one.

        Raises
        ------
        InputError
            The rate is unusable.
        """
        if self.session:
            self.session.close()
        performer = FaceActor(self.models, self.binding, self.plan)
        self.emotion.restart()
        self.session = MicrophoneSession(performer, rate, self.fps)
        self.metrics = LiveMetrics()
        return self.session

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own."""
        self.connections.open(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.connections.close(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that have left; report other errors."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """End the session and the server."""
        if self.session:
            self.session.close()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of the page."""

    server: Live
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "talkemo", ""
    timeout = NEW_CONNECTION_IDLE_S

    def do_GET(self) -> None:
        name = self._requested()
        if name is None:
            return
        with self.server.connections.answering(self.connection):
            if name == "":
                self._answer(200, self.server.page, "text/html; charset=utf-8")
            elif name in PAGE_SCRIPTS:
                self._answer(200, (WEB / name).read_bytes(), "text/javascript; charset=utf-8")
            else:
                self._answer(404, b"no such page")

    def do_POST(self) -> None:
        name = self._requested()
        if name is None:
            return
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        length = self.headers.get("Content-Length", "0")
        is_number = length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS
        if not is_number or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            self._answer(413, b"too much at a time")
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the client has left
            self.close_connection = True
            return
        with self.server.connections.answering(self.connection):
            self._answer(*self._result(name, query, body))

    def _result(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, bytes, str]:
        """Run a command of the page; return the status, the answer and its type."""
        try:
            with self.server.lock:
                return 200, self._run(name, query, body), "application/octet-stream"
        except TalkemoError as error:
            return 400, f"{error.message}; {error.hint}".encode("utf-8", "replace"), PLAIN_TEXT
        except (ValueError, KeyError):
            return 400, b"not what the page sends", PLAIN_TEXT

    def _run(self, name: str, query: dict[str, str], body: bytes) -> bytes:
        """Run a command of the page and return the answer."""
        server = self.server
        if name == "start":
            rate = float(query["rate"])
            if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
                raise InputError(f"{rate:g} samples per second", "choose another microphone")
            server.begin(round(rate))
            return b""
        if name == "mood":
            server.emotion.change(query["emotion"], float(query["intensity"]))
            return b""
        if name != "sound" or server.session is None:
            raise ValueError(name)
        session = server.session
        rows = session.push(np.frombuffer(body, "<f4"))
        server.metrics = LiveMetrics(
            session.audio_s, session.frames, float(query["latency"]), int(query["shown"])
        )
        return rows.tobytes()

    def _requested(self) -> str | None:
        """The name that is requested under the secret address; other requests are refused."""
        try:
            parts = urlsplit(self.path).path.split("/", 2)
        except ValueError:  # no address at all
            parts = []
        host = self.headers.get("Host", "").rpartition(":")[0]
        secret = self.server.secret.encode()
        if (
            host in ("127.0.0.1", "localhost")
            and len(parts) == 3
            and secrets.compare_digest(parts[1].encode("utf-8", "replace"), secret)
        ):
            self.connection.settimeout(PAGE_IDLE_S)
            return parts[2]
        self.close_connection = True
        self._answer(403, b"the page has another address")
        return None

    def _answer(self, status: int, body: bytes, kind: str = PLAIN_TEXT) -> None:
        with suppress(OSError):  # the client has left
            self.send_response(status)
            for key, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Content-Security-Policy": CONTENT_SECURITY_POLICY,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            }.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log no requests."""
