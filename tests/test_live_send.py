"""Frames sent live to other programs, received as their protocols are described."""

import importlib.util
import json
import socket
import struct
import sys
import threading
import types
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from waiting import HANG_S

import talkemo
from talkemo import InputError, TalkemoError
from talkemo.audio import microphone
from talkemo.audio.pipe import AudioStream
from talkemo.audio.recording import open_audio
from talkemo.binding.canonical_binding import bind_canonical
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.face.viseme_curves import CURVE_NAMES
from talkemo.formats.live_link import head_angles
from talkemo.formats.live_link_packets import LiveLinkEncoder
from talkemo.formats.mesh_types import MeshShape
from talkemo.formats.vmc import MAX_BUNDLE_BYTES, sent_names
from talkemo.pipelines.live_send import FramePacer, as_spoken, send_live
from talkemo.pipelines.live_targets import open_targets, read_address, read_addresses
from talkemo_cli.app import main

FPS = 30
SETTINGS = {"emotion": "happy", "seed": 4, "fps": FPS}


@pytest.fixture(scope="module")
def bound(face):
    return bind_canonical(face)


@pytest.fixture(scope="module")
def lines(bound, models, short_speech):
    """The frames of the jsonl stream: what every receiver should get."""
    stream = talkemo.stream(bound, short_speech, models=models, **SETTINGS)
    return [
        {
            "time": time,
            "arkit": arkit,
            "head": head,
            "gaze": gaze,
            "speech": speech,
            "emotion": mood,
        }
        for chunk in stream
        for time, arkit, head, gaze, speech, mood in zip(
            chunk.times, chunk.arkit, chunk.head, chunk.gaze, chunk.speech, chunk.emotion
        )
    ]


@contextmanager
def listening():
    """Yield the port of a UDP socket of this machine, and what ends it and returns its packets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(HANG_S)
        packets, ended = [], threading.Event()

        def collect():
            while (packet := server.recv(1 << 16)) != b"end":
                packets.append(packet)
            ended.set()

        threading.Thread(target=collect, daemon=True).start()

        def received():
            server.sendto(b"end", server.getsockname())
            assert ended.wait(HANG_S)
            return packets

        yield server.getsockname()[1], received


@pytest.fixture
def receiver():
    with listening() as made:
        yield made


def with_own_jaw(bound):
    """The example with ARKit's shapes as its own, called otherwise."""
    targets = bound.arkit_targets()
    rows = np.arange(len(bound.rest), dtype=np.int32)
    shapes = tuple(
        MeshShape(f"Blend_{name}", len(rows), rows, target)
        for name, target in zip(ARKIT_NAMES, targets)
    )
    return replace(bound, mesh=replace(bound.mesh, load_shapes=lambda: shapes))


@pytest.fixture(scope="module")
def sent(bound, models, short_speech):
    """One stream, sent to all protocols at once: what each address received, and the report."""
    udp = {"livelink/Ann": "livelink"}
    if importlib.util.find_spec("pythonosc"):
        udp |= {"vmc/vrm": "vmc", "vmc/arkit": "vmc"}
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(listening()) for name in udp}
        addresses = [
            f"{udp[name]}://127.0.0.1:{port}/{name.rpartition('/')[2]}"
            for name, (port, _) in receivers.items()
        ]
        if importlib.util.find_spec("websockets"):
            addresses += ["ws://:0", "ws://:0/vrm", "ws://:0/own"]
        stream = talkemo.stream(with_own_jaw(bound), short_speech, models=models, **SETTINGS)
        targets = open_targets(read_addresses(addresses), FPS, 0.6, stack, stream.own_names)
        clients = {
            f"ws/{target.address.kind}": collecting(connected(target, stack))
            for target in targets
            if target.address.protocol == "ws"
        }
        report = send_live(stream, targets, paced=False)
        for target in targets:
            target.close()
        found = {name: received() for name, (_, received) in receivers.items()}
        for name, (messages, thread) in clients.items():
            thread.join(HANG_S)
            found[name] = messages
        return found, report


def connected(target, stack):
    """A client of a WebSocket server."""
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{target.address.port}"
    return stack.enter_context(connect(address, open_timeout=HANG_S))


def collecting(client):
    """A list that a thread fills with the messages of a client, and the thread."""
    messages = []
    thread = threading.Thread(target=lambda: messages.extend(client), daemon=True)
    thread.start()
    return messages, thread


def read_live_link(packet):
    """Device, subject, time in s, weights (52,) and angles (9,) of a packet of Live Link Face."""
    assert packet[0] == 6
    texts, place = [], 1
    for _ in range(2):
        (length,) = struct.unpack_from(">i", packet, place)
        texts.append(packet[place + 4 : place + 4 + length].decode())
        place += 4 + length
    frame, part, numerator, denominator, count = struct.unpack_from(">ifiiB", packet, place)
    values = struct.unpack(">61f", packet[place + 17 :])
    assert count == 61 and 0 <= part < 1
    return *texts, (frame + part) * denominator / numerator, values[:52], values[52:]


def test_unreal_gets_the_frames_in_order(sent, lines):
    found, report = sent
    packets = [read_live_link(packet) for packet in found["livelink/Ann"]]
    devices, subjects, times, weights, angles = zip(*packets)
    assert report.frames == len(lines) == len(packets)
    assert set(subjects) == {"Ann"} and len(set(devices)) == 1 and len(devices[0]) == 36
    np.testing.assert_allclose(times, [line["time"] for line in lines], atol=1e-5)
    np.testing.assert_allclose(weights, [line["arkit"] for line in lines], atol=1e-5)
    expected = head_angles(np.array([line["head"] for line in lines]))
    np.testing.assert_allclose(np.array(angles)[:, :3], expected, atol=1e-5)
    assert not np.array(angles)[:, 3:].any()


@pytest.mark.parametrize(("fps", "rate"), [(29.97, (30000, 1001)), (60, (60, 1)), (12.5, (25, 2))])
def test_frame_rates_are_fractions(fps, rate):
    encoder = LiveLinkEncoder("a", fps)
    assert (encoder.rate.numerator, encoder.rate.denominator) == rate
    _, _, time, _, _ = read_live_link(encoder(7.3, np.zeros(52), None))
    assert time == pytest.approx(7.3, abs=1e-4)


def padded(place):
    return place + 4 - place % 4


def read_osc(packet):
    """Messages (address, values) of an OSC bundle, by the specification of OSC 1.0."""
    assert packet[:8] == b"#bundle\0" and len(packet) % 4 == 0
    place, messages = 16, []
    while place < len(packet):
        (size,) = struct.unpack_from(">i", packet, place)
        messages.append(read_message(packet[place + 4 : place + 4 + size]))
        place += 4 + size
    return messages


def read_message(content):
    end = content.index(b"\0")
    address, place = content[:end].decode(), padded(end)
    end = content.index(b"\0", place)
    kinds, place, values = content[place + 1 : end].decode(), padded(end), []
    for kind in kinds:
        if kind == "s":
            end = content.index(b"\0", place)
            values.append(content[place:end].decode())
            place = padded(end)
        else:
            values.append(struct.unpack_from({"f": ">f", "i": ">i"}[kind], content, place)[0])
            place += 4
    assert place == len(content)
    return address, kinds, values


def read_vmc(packets):
    """Frames of VMC packets: time, expressions by name, rotations (4,) by bone."""
    frames, frame = [], None
    for packet in packets:
        assert len(packet) <= MAX_BUNDLE_BYTES
        for address, kinds, values in read_osc(packet):
            if address == "/VMC/Ext/OK":
                frame = {"blends": {}, "bones": {}}
                assert (kinds, values) == ("i", [1])
            elif address == "/VMC/Ext/T":
                frame["time"] = values[0]
            elif address == "/VMC/Ext/Blend/Val":
                assert kinds == "sf" and values[0] not in frame["blends"]
                frame["blends"][values[0]] = values[1]
            elif address == "/VMC/Ext/Bone/Pos":
                assert kinds == "sfffffff" and values[1:4] == [0, 0, 0]
                frame["bones"][values[0]] = values[4:]
            else:
                assert (address, kinds) == ("/VMC/Ext/Blend/Apply", "")
                frames.append(frame)
    return frames


@pytest.mark.parametrize("kind", ["vrm", "arkit"])
def test_vmc_gets_expressions_and_bones(sent, lines, kind):
    pytest.importorskip("pythonosc", reason="pip install 'talkemo[live]'")
    frames = read_vmc(sent[0][f"vmc/{kind}"])
    np.testing.assert_allclose(
        [f["time"] for f in frames], [line["time"] for line in lines], atol=1e-6
    )
    assert set(frames[0]["blends"]) == {name for name, _ in sent_names(kind)}
    if kind == "arkit":
        names = [name[0].upper() + name[1:] for name in ARKIT_NAMES]
        found = [[f["blends"][name] for name in names] for f in frames]
        np.testing.assert_allclose(found, [line["arkit"] for line in lines], atol=1e-5)
    else:
        blends = [f["blends"] for f in frames]
        assert all(b["A"] == b["aa"] and b["Joy"] == b["happy"] for b in blends)
        assert max(b["aa"] for b in blends) > 0.2 and max(b["happy"] for b in blends) > 0.4
    heads = Rotation.from_quat([f["bones"]["Head"] for f in frames]).apply([0, 0, 1])
    ahead = np.array([line["head"] for line in lines])[:, :, 2]
    np.testing.assert_allclose(heads, ahead * [-1, 1, 1], atol=1e-5)  # Unity's x is reversed
    eyes = Rotation.from_quat([f["bones"]["LeftEye"] for f in frames]).apply([0, 0, 1])
    gaze = np.array([line["gaze"] for line in lines])
    np.testing.assert_allclose(eyes[:, 0], -np.sin(gaze[:, 1]) * np.cos(gaze[:, 0]), atol=1e-3)
    np.testing.assert_allclose(eyes[:, 1], -np.sin(gaze[:, 0]), atol=1e-3)


def test_web_sockets_get_the_lines_of_the_stream(sent, lines):
    pytest.importorskip("websockets", reason="pip install 'talkemo[live]'")
    (head, *found), (vrm_head, *vrm) = (
        [json.loads(message) for message in sent[0][name]] for name in ("ws/arkit", "ws/vrm")
    )
    assert head["names"] == list(ARKIT_NAMES) and head["fps"] == FPS
    assert vrm_head["names"] == list(CURVE_NAMES["vrm"]) and vrm_head["curves"] == "vrm"
    assert len(found) == len(vrm) == len(lines)
    np.testing.assert_allclose([f["time"] for f in found], [f["time"] for f in lines], atol=1e-5)
    np.testing.assert_allclose([f["arkit"] for f in found], [f["arkit"] for f in lines], atol=1e-5)
    np.testing.assert_allclose([f["gaze"] for f in found], [f["gaze"] for f in lines], atol=1e-5)
    assert all(len(f["vrm"]) == len(CURVE_NAMES["vrm"]) and "arkit" not in f for f in vrm)
    own_head, *own = [json.loads(message) for message in sent[0]["ws/own"]]
    assert own_head["names"] == [f"Blend_{name}" for name in ARKIT_NAMES if name != "tongueOut"]
    assert len(own) == len(lines) and all(len(f["own"]) == 51 for f in own)


def test_pages_of_other_machines_are_refused():
    pytest.importorskip("websockets", reason="pip install 'talkemo[live]'")
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with ExitStack() as stack:
        (target,) = open_targets([read_address("ws://:0")], FPS, 0.6, stack)
        address = f"ws://127.0.0.1:{target.address.port}"
        assert "names" in json.loads(connected(target, stack).recv(HANG_S))
        for origin in ("https://evil.example", "null", "http://[::1"):
            with pytest.raises(InvalidStatus):
                connect(address, origin=origin, open_timeout=HANG_S)
        with connect(address, origin="http://localhost:3000", open_timeout=HANG_S) as client:
            assert "names" in json.loads(client.recv(HANG_S))
        with pytest.raises(InputError, match="cannot be listened on"):
            open_targets([target.address], FPS, 0.6, stack)


def test_frames_leave_at_an_even_pace():
    """Frames are computed in pairs, with jitter, and are due one after the other."""
    pacer, rng = FramePacer(), np.random.default_rng(0)
    times = np.arange(600) / 60
    ready = np.repeat(times[1::2], 2) + 0.55 + np.repeat(rng.random(300) * 0.01, 2)
    ready[200:206] += 0.2  # the computer is busy for a moment
    ready = np.maximum.accumulate(ready)
    due = np.array([pacer.due(*pair) for pair in zip(times, ready)])
    assert (np.diff(due) >= 0).all() and (due >= ready).all()
    steps = np.diff(due[100:190])
    assert np.abs(steps - 1 / 60).max() < 0.003 < np.abs(np.diff(ready[100:190]) - 1 / 60).max()
    assert (due - times)[400:].max() < 0.60  # what was late is made up for


def test_a_backlog_is_worked_off():
    """Audio that waited in a pipe while the program started is caught up with."""
    pacer, times = FramePacer(), np.arange(900) / 60
    ready = np.maximum(times + 0.6, 4 + times / 3)  # computed at three times the speed at first
    due = np.array([pacer.due(*pair) for pair in zip(times, ready)])
    assert (due - times)[-1] < 0.61 and (np.diff(due) > 0).all()


def test_a_recording_is_played_as_if_it_were_spoken(short_speech, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    audio = open_audio(short_speech)
    stream = as_spoken(audio)
    samples = np.concatenate(list(stream.chunks()))
    np.testing.assert_allclose(samples, audio.samples(), atol=1e-6)
    assert now[0] == pytest.approx(100 + audio.duration, abs=0.01)
    already = AudioStream([], 16000)
    assert as_spoken(already) is already


def test_addresses():
    assert str(read_address("vmc://")) == "vmc://127.0.0.1:39539/vrm"
    assert str(read_address("vmc://10.0.0.7/arkit")) == "vmc://10.0.0.7:39539/arkit"
    assert str(read_address("livelink://[::1]:9/A%20b")) == "livelink://[::1]:9/A b"
    assert str(read_address("livelink://")) == "livelink://127.0.0.1:11111/talkemo"
    assert str(read_address("ws://:9000")) == "ws://127.0.0.1:9000/arkit"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.0.7:39539", "unknown protocol"),
        ("http://a:1", "unknown protocol"),
        ("vmc:10.0.0.7", "unknown protocol"),
        ("vmc://a:99999", "not an address"),
        ("vmc://a:x", "not an address"),
        ("vmc://[::1", "not an address"),
        ("vmc://a:1?x=2", "not an address"),
        ("vmc://a:0", "nothing receives at port 0"),
        ("vmc://a:1/happy", "unknown curves 'happy'"),
        ("livelink://a:1/%00", "not a subject's name"),
    ],
)
def test_unusable_addresses_are_refused(address, message, example_face, capsys):
    with pytest.raises(InputError, match=message):
        read_address(address)
    assert main(["live", str(example_face), "-", "--to", address]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2 and message in printed[0]


def test_unusable_combinations_are_refused(example_face, capsys):
    for options, message in (
        (["-"], "AUDIO is for sending"),
        (["--microphone", "2"], "--microphone is for sending"),
        (["--raw", "16000"], "--raw is for sending"),
        (["--to", "vmc://", "--port", "8000"], "--to and an option of the page"),
        (["a.wav", "--to", "vmc://", "--raw", "16000"], "--raw is for audio from stdin"),
        (["-", "--to", "vmc://", "--microphone", "1"], "audio and a --microphone"),
        (["-", "--to", "vmc://", "--to", "vmc://127.0.0.1"], "the same --to is given twice"),
    ):
        assert main(["live", str(example_face), *options]) == 2
        assert message in capsys.readouterr().err
    with ExitStack() as stack, pytest.raises(InputError, match="the host is not known"):
        open_targets(read_addresses(["livelink://no..host:1"]), FPS, 0.6, stack)


@pytest.mark.parametrize("library", ["pythonosc", "websockets"])
def test_a_missing_library_is_named_with_its_command(monkeypatch, library):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    address = read_address({"pythonosc": "vmc://", "websockets": "ws://:0"}[library])
    with ExitStack() as stack, pytest.raises(TalkemoError, match="is not installed") as caught:
        open_targets([address], FPS, 0.6, stack)
    assert caught.value.hint.startswith("pip install") and "[live]" in caught.value.hint


class FakeInput:
    """An input stream of sounddevice that hears three blocks at once."""

    def __init__(self, samplerate, blocksize, callback, **settings):
        self.settings = {"rate": samplerate, **settings}
        self.callback, self.size = callback, blocksize

    def start(self):
        for number in range(3):
            self.callback(np.full((self.size, 1), number / 10, np.float32), self.size, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def fake_sounddevice(devices, default=0):
    class PortAudioError(Exception):
        pass

    def query_devices(device=None, kind=None):
        if kind is None:
            return devices
        number = default if device is None else device
        if not isinstance(number, int) or number >= len(devices):
            raise ValueError("No input device matching")
        return devices[number]

    module = types.ModuleType("sounddevice")
    vars(module).update(
        query_devices=query_devices, PortAudioError=PortAudioError, InputStream=FakeInput
    )
    return module


MICROPHONE = {
    "name": "USB", "index": 0, "max_input_channels": 1, "default_samplerate": 16000.0
}  # fmt: skip


def test_a_microphone_is_heard_until_it_is_disconnected(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice([MICROPHONE]))
    monkeypatch.setattr(microphone, "SILENT_S", 0.01)
    with microphone.open_microphone() as stream:
        heard = stream.chunks()
        blocks = [next(heard) for _ in range(3)]
        with pytest.raises(TalkemoError, match="the microphone sends no audio"):
            next(heard)
    assert stream.rate == 16000 and stream.seconds == pytest.approx(0.03)
    assert max(block.max() for block in blocks) == pytest.approx(0.2, abs=0.05)


def test_a_missing_microphone_is_said_in_one_line(monkeypatch, example_face, capsys):
    speaker = {**MICROPHONE, "max_input_channels": 0}
    for module, options, status, message in (
        (None, [], 1, "the microphone needs sounddevice, which is not installed"),
        (fake_sounddevice([]), [], 2, "this machine has no microphone"),
        (fake_sounddevice([speaker]), [], 2, "this machine has no microphone"),
        (fake_sounddevice([MICROPHONE]), ["--microphone", "7"], 2, "no microphone '7'"),
        (fake_sounddevice([MICROPHONE], 3), [], 2, "no microphone is the system's default"),
    ):
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        assert main(["live", str(example_face), "--to", "livelink://", *options]) == status
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == 2 and message in printed[0]


def test_the_command_sends_a_recording(short_speech, receiver, capsys):
    port, received = receiver
    address = f"livelink://127.0.0.1:{port}"
    options = ["--fps", "10", "--blink", "off", "--head", "off", "--to", address]
    assert main(["live", "-", str(short_speech), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == f"{address}/talkemo"
    assert "15 frames of 2 s of audio" in printed.err
    packets = [read_live_link(packet) for packet in received()]
    np.testing.assert_allclose([packet[2] for packet in packets], np.arange(15) / 10, atol=1e-5)


def test_a_microphone_drives_programs_until_it_is_interrupted(
    short_speech, receiver, monkeypatch, capsys
):
    def spoken(_):
        samples = open_audio(short_speech).samples()
        for start in range(0, len(samples), 160):
            yield samples[start : start + 160]
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice([MICROPHONE]))
    monkeypatch.setattr(microphone, "_blocks", spoken)
    port, received = receiver
    address = f"livelink://127.0.0.1:{port}"
    assert main(["live", "-", "--fps", "20", "--to", address, "--microphone", "0"]) == 130
    times = [read_live_link(packet)[2] for packet in received()]
    assert 14 <= len(times) <= 22  # those that do not need what would have come
    np.testing.assert_allclose(times, np.arange(len(times)) / 20, atol=1e-5)
    assert f"{len(times)} frames of 1 s of audio, 0." in capsys.readouterr().err
