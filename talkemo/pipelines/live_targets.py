"""Where `talkemo live --to` sends its frames: VMC, Unreal's Live Link, and WebSockets.

An address is PROTOCOL://HOST:PORT/CHOICE. Without a host it is this machine, without a port the
protocol's usual one. The choice is a kind of curves, or of Live Link the subject's name.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np

from ..errors import InputError, TalkemoError
from ..extras import install_command
from ..face.viseme_curves import CURVE_NAMES
from ..files.reading import printable
from ..formats.frame_lines import json_lines, stream_header
from ..formats.live_link_packets import LiveLinkEncoder
from ..formats.target_names import OWN_CURVES
from ..formats.vmc import VmcEncoder

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = (LOOPBACK, "localhost", "::1")
DEFAULT_PORTS = {"vmc": 39539, "livelink": 11111, "ws": 8765}
DEFAULT_SUBJECT = "talkemo"
MAX_SUBJECT_CHARACTERS = 64
# Kinds of curves of each protocol, the default first. Live Link's are always ARKit's.
PROTOCOL_KINDS = {"vmc": ("vrm", "arkit", "oculus"), "ws": ("arkit", "vrm", "oculus", OWN_CURVES)}
ADDRESS_HINT = "write vmc://HOST:PORT, livelink://HOST:PORT or ws://:PORT"
MAX_CLIENTS = 16  # of a WebSocket server
CLIENT_QUEUE_FRAMES = 120  # that wait for a slow client; the oldest are dropped
CLOSING_S = 1.0  # for which clients may read what they have not yet at the end
MAX_CLIENT_MESSAGE_BYTES = 1 << 10  # of a client; it has nothing to say


@dataclass(frozen=True)
class LiveAddress:
    """An address of `--to`, checked."""

    protocol: str  # of DEFAULT_PORTS
    host: str
    port: int
    kind: str  # of PROTOCOL_KINDS
    subject: str = DEFAULT_SUBJECT  # of Live Link

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        choice = self.subject if self.protocol == "livelink" else self.kind
        return f"{self.protocol}://{host}:{self.port}/{choice}"


def read_address(text: str) -> LiveAddress:
    """Return an address as `--to` takes it.

    Raises
    ------
    InputError
        The protocol, port or choice is unknown.
    """
    protocol, host, port, choice = _parts(text)
    port = DEFAULT_PORTS[protocol] if port is None else port
    if port == 0 and protocol != "ws":
        raise InputError(f"{_shown(text)}: nothing receives at port 0", ADDRESS_HINT)
    if protocol == "livelink":
        return LiveAddress(protocol, host, port, "arkit", _subject(text, choice))
    return LiveAddress(protocol, host, port, _kind(text, protocol, choice))


def _shown(text: str) -> str:
    """An address for messages."""
    return f"--to {printable(text, 60)}"


def _parts(text: str) -> tuple[str, str, int | None, str]:
    """Protocol, host, port and choice of an address."""
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or LOOPBACK
    except ValueError:
        raise InputError(f"{_shown(text)}: not an address", ADDRESS_HINT) from None
    if parts.scheme not in DEFAULT_PORTS or not text.startswith(f"{parts.scheme}://"):
        raise InputError(f"{_shown(text)}: unknown protocol", ADDRESS_HINT)
    if parts.query or parts.fragment or parts.username is not None:
        raise InputError(f"{_shown(text)}: not an address", ADDRESS_HINT)
    return parts.scheme, host, port, unquote(parts.path).strip("/")


def _subject(text: str, choice: str) -> str:
    """The subject's name of a Live Link address."""
    if len(choice) > MAX_SUBJECT_CHARACTERS or not choice.isprintable():
        raise InputError(
            f"{_shown(text)}: not a subject's name",
            f"choose at most {MAX_SUBJECT_CHARACTERS} characters",
        )
    return choice or DEFAULT_SUBJECT


def _kind(text: str, protocol: str, choice: str) -> str:
    """The kind of curves of an address of VMC or a WebSocket."""
    kinds = PROTOCOL_KINDS[protocol]
    if choice and choice not in kinds:
        raise InputError(
            f"{_shown(text)}: unknown curves '{printable(choice, 20)}'",
            f"end it with {', '.join(f'/{kind}' for kind in kinds)}, or with the port",
        )
    return choice or kinds[0]


def read_addresses(texts: Sequence[str]) -> list[LiveAddress]:
    """Return the addresses of several `--to`; raise InputError for one that is there twice."""
    addresses = [read_address(text) for text in texts]
    if len(set(addresses)) < len(addresses):
        raise InputError("the same --to is given twice", "leave one out")
    return addresses


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame that is sent."""

    time: float  # s
    curves: dict[str, np.ndarray]  # (C,) of each kind that a target takes
    head: np.ndarray | None  # (3, 3) rotation
    gaze: np.ndarray | None  # (2,) pitch and yaw in radians


class LiveTarget(Protocol):
    """Where frames are sent.

    Attributes
    ----------
    address : LiveAddress
    unsent : int
        Frames that could not be sent up to now.
    """

    address: LiveAddress
    unsent: int

    def send(self, frame: LiveFrame) -> None:
        """Send a frame; a failure is counted, so that the stream goes on."""

    def close(self) -> None:
        """Release what the target holds."""


class _UdpTarget(ABC):
    """Base class: sends the packets that `packets` returns.

    Raises
    ------
    InputError
        The host is unknown.
    """

    def __init__(self, address: LiveAddress):
        self.address, self.unsent = address, 0
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            raise InputError(
                f"--to {address}: the host is not known", "name it by its IP address"
            ) from None
        family = found[0][0]
        self._receiver: Any = found[0][4]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)

    @abstractmethod
    def packets(self, frame: LiveFrame) -> Sequence[bytes]:
        """Return the packets of a frame."""

    def send(self, frame: LiveFrame) -> None:
        """Send a frame's packets."""
        try:
            for packet in self.packets(frame):
                self._socket.sendto(packet, self._receiver)
        except OSError:  # such as a network that is down for a while
            self.unsent += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class VmcTarget(_UdpTarget):
    """Sends frames by the VMC protocol, see formats/vmc.py."""

    def __init__(self, address: LiveAddress):
        self._encode = VmcEncoder(address.kind)
        super().__init__(address)

    def packets(self, frame: LiveFrame) -> Sequence[bytes]:
        """Return the OSC bundles of a frame."""
        return self._encode(frame.time, frame.curves[self.address.kind], frame.head, frame.gaze)


class LiveLinkTarget(_UdpTarget):
    """Sends the packets of Live Link Face, see formats/live_link_packets.py."""

    def __init__(self, address: LiveAddress, fps: float):
        self._encode = LiveLinkEncoder(address.subject, fps)
        super().__init__(address)

    def packets(self, frame: LiveFrame) -> Sequence[bytes]:
        """Return the packet of a frame."""
        return [self._encode(frame.time, frame.curves["arkit"], frame.head)]


class WebSocketTarget:
    """A server that sends each client the stream's header, then the frames from then on.

    The messages are the lines of `animate --stream --format jsonl`. Web pages of other machines
    are refused, unless they come from the host that is named.

    Raises
    ------
    InputError
        The host or port cannot be listened on.
    TalkemoError
        websockets is not installed.
    """

    def __init__(self, address: LiveAddress, header: bytes):
        try:
            from websockets.sync.server import serve
        except ImportError:
            raise TalkemoError(
                "WebSockets need websockets, which is not installed", install_command("live")
            ) from None
        self.unsent = 0
        self._header = header.decode().rstrip("\n")
        self._clients: set[queue.SimpleQueue[str | None]] = set()  # their messages
        self._changed = threading.Condition()  # guards the clients
        self._hosts = (*LOOPBACK_NAMES, address.host)
        silent = logging.Logger("talkemo.live", logging.CRITICAL + 1)  # a library prints nothing
        try:
            self._server = serve(
                self._serve_client,
                address.host,
                address.port,
                process_request=self._check_origin,
                max_size=MAX_CLIENT_MESSAGE_BYTES,
                compression=None,
                logger=silent,
            )
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"--to {address}: cannot be listened on "
                f"({getattr(error, 'strerror', None) or 'not a host'})",
                "choose another port, or a host of this machine",
            ) from None
        port = self._server.socket.getsockname()[1]
        self.address = LiveAddress("ws", address.host, port, address.kind)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def send(self, frame: LiveFrame) -> None:
        """Give a frame to every client."""
        kind = self.address.kind
        head, gaze = (None if turn is None else turn[None] for turn in (frame.head, frame.gaze))
        line = json_lines(np.array([frame.time]), {kind: frame.curves[kind][None]}, head, gaze)
        message = line.decode().rstrip("\n")
        self._give(message)

    def close(self) -> None:
        """Wait until the clients have their frames, then end their connections and the server."""
        self._give(None)
        with self._changed:
            self._changed.wait_for(lambda: not self._clients, CLOSING_S)
        self._server.shutdown()
        self._thread.join(CLOSING_S)

    def _give(self, message: str | None) -> None:
        """Give a message to every client; None ends its connection. A slow one misses frames."""
        with self._changed:
            for client in self._clients:
                if client.qsize() >= CLIENT_QUEUE_FRAMES:
                    with suppress(queue.Empty):
                        client.get_nowait()
                        self.unsent += 1
                client.put(message)

    def _serve_client(self, connection: Any) -> None:
        """Send a client its messages; runs in a thread of its own."""
        from websockets.exceptions import ConnectionClosed

        messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self._changed:
            is_accepted = len(self._clients) < MAX_CLIENTS
            if is_accepted:
                messages.put(self._header)
                self._clients.add(messages)
        try:
            while is_accepted and (message := messages.get()) is not None:
                connection.send(message)
        except (ConnectionClosed, OSError):  # the client has left
            pass
        finally:
            with self._changed:
                self._clients.discard(messages)
                self._changed.notify_all()

    def _check_origin(self, connection: Any, request: Any) -> Any:
        """Refuse a web page of another machine, which a browser names; None accepts."""
        origin = request.headers.get("Origin")
        try:
            is_known = origin is None or urlsplit(origin).hostname in self._hosts
        except ValueError:
            is_known = False
        return None if is_known else connection.respond(403, "not for pages of other machines\n")


def open_targets(
    addresses: Sequence[LiveAddress],
    fps: float,
    latency: float,
    stack: ExitStack,
    own_names: Sequence[str] = (),
) -> list[LiveTarget]:
    """Return the targets of addresses, which the stack closes.

    Parameters
    ----------
    addresses : sequence of LiveAddress
    fps : float
    latency : float
        In s, for the header of WebSockets.
    stack : ExitStack
    own_names : sequence of str
        Of the character's own shapes, see `Stream.own_names`, for addresses that take these.

    Raises
    ------
    InputError
        A host or port cannot be used.
    TalkemoError
        A library is not installed.
    """
    targets: list[LiveTarget] = []
    for address in addresses:
        target: LiveTarget
        if address.protocol == "vmc":
            target = VmcTarget(address)
        elif address.protocol == "livelink":
            target = LiveLinkTarget(address, fps)
        else:
            is_own = address.kind == OWN_CURVES
            names = list(own_names if is_own else CURVE_NAMES[address.kind])
            content = {"curves": address.kind, "names": names}
            target = WebSocketTarget(address, stream_header(fps, latency, content))
        stack.callback(target.close)
        targets.append(target)
    return targets
