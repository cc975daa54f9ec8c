"""The live page: its server, access to it, and a browser with a simulated microphone."""

import contextlib
import http.client
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from browser import browser_command, drawing_options, needs_browser
from waiting import HANG_S

import talkemo
from talkemo import ActingOptions, InputError
from talkemo.audio.recording import open_audio
from talkemo.pipelines.live_server import (
    MAX_CONNECTIONS,
    NEW_CONNECTION_IDLE_S,
    PAGE_IDLE_S,
    Live,
    LiveEmotion,
    _Handler,
)


@pytest.fixture(scope="module")
def server(example_face, models):
    with Live(
        models, talkemo.bind(example_face, models=models), ActingOptions(emotion="happy")
    ) as made:
        threading.Thread(
            target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield made
        made.shutdown()


def ask(server, method, path, body=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=HANG_S)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def post(server, what, body=b""):
    return ask(server, "POST", urlsplit(server.address).path + what, body)


def test_audio_is_answered_by_the_frames_of_a_stream(server, models, short_speech):
    samples = open_audio(short_speech).samples()
    server.emotion.change("neutral", 1.0)
    server.emotion._now = server.emotion._target  # at once; amounts are the session's to ask for
    assert post(server, "start?rate=16000")[0] == 200
    row, rows = 1 + len(models.face.span) + 18, []
    for start in range(0, len(samples), 320):
        status, body = post(
            server,
            "sound?latency=0.7&shown=3",
            samples[start : start + 320].astype("<f4").tobytes(),
        )
        assert status == 200
        rows.append(np.frombuffer(body, "<f4").reshape(-1, row))
    stream = talkemo.stream(server.binding, (samples, 16000), models=models)
    expected = np.concatenate([chunk.coordinates for chunk in stream])
    found = np.concatenate(rows)
    assert 0.4 < (len(samples) / 16000 - found[-1, 0]) < 0.6
    np.testing.assert_allclose(found[:, 1:-18], expected[: len(found)], atol=1e-3)
    np.testing.assert_allclose(found[:, 0], np.arange(len(found)) / 60, atol=1e-4)
    for matrix in (found[:, -18:-9], found[:, -9:]):
        np.testing.assert_allclose(np.linalg.det(matrix.reshape(-1, 3, 3)), 1, atol=1e-4)
    assert server.metrics.frames == len(found) and server.metrics.shown_frames == 3


def test_only_the_page_gets_answers(server):
    path = urlsplit(server.address).path
    assert (
        ask(server, "GET", path)[0] == 200
        and b"worklet" in ask(server, "GET", path + "worklet.js")[1] + b"worklet"
    )
    assert (
        ask(server, "GET", "/")[0]
        == ask(server, "GET", "/wrong/")[0]
        == ask(server, "POST", "/")[0]
        == 403
    )
    assert ask(server, "GET", path, Host="evil.example")[0] == 403  # another host name
    assert ask(server, "GET", path + "../live.py")[0] == 404
    assert server.server_address[0] == "127.0.0.1"


def test_malformed_requests_are_refused(server):
    post(server, "start?rate=16000")
    for what, body in (
        ("start?rate=1", b""),
        ("start?rate=nan", b""),
        ("start", b""),
        ("mood?emotion=furious&intensity=1", b""),
        ("mood?emotion=sad&intensity=9", b""),
        ("other", b""),
        ("sound?latency=x&shown=1", b""),
        ("sound?latency=0&shown=0", b"abc"),
        ("sound?latency=0&shown=0", np.full(320, np.nan, "<f4").tobytes()),
    ):
        assert post(server, what, body)[0] == 400, what
    with contextlib.suppress(ConnectionError):  # the server does not read the rest
        assert post(server, "sound?latency=0&shown=0", bytes((1 << 22) + 4))[0] == 413
    assert post(server, "start?rate=44100")[0] == 200  # the server goes on


def idle_connections(server, count):
    address = ("127.0.0.1", server.server_address[1])
    return [socket.create_connection(address, timeout=HANG_S) for _ in range(count)]


def test_idle_connections_are_closed_and_the_page_goes_on(server):
    page = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=HANG_S)
    path = urlsplit(server.address).path
    page.request("GET", path)
    assert page.getresponse().read()
    connection = page.sock
    idle = idle_connections(server, 3 * MAX_CONNECTIONS)
    assert [each.recv(1) for each in idle[: 2 * MAX_CONNECTIONS]] == [b""] * 2 * MAX_CONNECTIONS
    page.request("GET", path)  # on the connection that it has kept open
    assert page.getresponse().status == 200 and page.sock is connection
    for each in idle:
        each.close()
    page.close()


def test_strangers_are_closed_early_and_the_page_late():
    assert _Handler.timeout == NEW_CONNECTION_IDLE_S < PAGE_IDLE_S


def test_broken_requests_and_clients_that_leave_print_nothing(server, capfd):
    path, name = urlsplit(server.address).path.encode(), b"127.0.0.1"
    leaving = b"POST " + path + b"sound?latency=0&shown=0 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"
    for request in (
        b"GET http://[/x HTTP/1.1\r\nHost: " + name + b":1\r\n\r\n",
        b"POST http://[/x HTTP/1.1\r\nHost: " + name + b":1\r\n\r\n",
        leaving + "Content-Length: \u00b2\r\n\r\n".encode("latin-1"),
        leaving + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        leaving + b"Content-Length: 999\r\n\r\nabc",
        b"GET",
        b"\0\xff\r\n\r\n",
    ):
        for reset in (False, True):
            (client,) = idle_connections(server, 1)
            client.sendall(request)
            if reset:  # the client ends without a word
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
            client.close()
    assert post(server, "start?rate=44100")[0] == 200  # the server goes on
    assert capfd.readouterr() == ("", "")


def test_emotions_ease_into_each_other():
    emotion = LiveEmotion("happy", 1.0)
    happy = emotion.amounts(np.arange(3) / 60)
    assert (happy == happy[0]).all() and emotion.shown[1:].any()
    emotion.change("neutral", 1.0)
    first, last = emotion.amounts(np.arange(3, 5) / 60)[0], emotion.amounts(np.array([9.0]))[-1]
    assert 0.9 < first.max() < 1 and np.abs(last[1:]).max() < 1e-6 and not emotion.shown[1:].any()
    with pytest.raises(InputError):
        emotion.change("furious", 1.0)


def test_a_port_in_use_and_unknown_options_are_refused(server, models):
    with pytest.raises(InputError, match="cannot be listened on"):
        Live(models, server.binding, port=server.server_address[1])
    with pytest.raises(InputError):
        Live(models, server.binding, ActingOptions(emotion="furious"))
    with pytest.raises(InputError):
        Live(models, server.binding, ActingOptions(style="nobody"))


def test_the_command_serves_until_ctrl_c(example_face):
    command = [sys.executable, "-m", "talkemo_cli", "live", str(example_face), "--no-browser"]
    undisturbed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=undisturbed
    ) as process:
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=HANG_S) as answer:
            assert b"talkemo live" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 130
        assert b"Traceback" not in process.stderr.read()


@needs_browser
def test_a_browser_s_microphone_moves_the_face(server, tmp_path, short_speech):
    samples = open_audio(short_speech).samples()
    soundfile.write(tmp_path / "voice.wav", np.repeat(samples, 3), 48000)
    command = browser_command(
        tmp_path / "profile",
        *drawing_options(200, 200),
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        "--remote-debugging-port=0",
        f"--use-file-for-fake-audio-capture={tmp_path / 'voice.wav'}",
        "--autoplay-policy=no-user-gesture-required",
    )
    server.begin(16000)
    with subprocess.Popen(
        [*command, server.address + "#start"], stderr=subprocess.DEVNULL
    ) as browser:
        try:
            until = time.monotonic() + HANG_S
            while time.monotonic() < until and not (
                server.metrics.audio_s > 3 and server.metrics.shown_frames > 10
            ):
                time.sleep(0.2)
        finally:
            browser.terminate()
            browser.wait(HANG_S)
    metrics = server.metrics
    assert metrics.audio_s > 3 and metrics.shown_frames > 10
    assert (
        metrics.frames / (metrics.audio_s - 0.7) > 50
    )  # of 60 a second, as long as the machine keeps up
    assert metrics.latency_s > 0.3  # an upper bound would depend on the load
