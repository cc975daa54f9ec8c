"""Odd streams: wavs of any header, closed descriptors, ignored signals, names that are no text."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numba
import numpy as np
import pytest
import soundfile

import talkemo
from talkemo import InputError
from talkemo.audio.pipe import open_pipe
from talkemo.audio.recording import Audio, open_audio
from talkemo.compute import compilation, signals
from talkemo.pipelines import options
from talkemo.pipelines.outputs import Result
from talkemo.train.options import TrainOptions
from talkemo_cli import standard_streams
from talkemo_cli.app import main
from talkemo_cli.console import console

RATE = 16000
TONE = (0.3 * np.sin(np.arange(RATE // 2) / 9)).astype(np.float32)
SUBTYPES = "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610".split()
SIZES = (0, 100, 2_000_000_000, 0x7FFFFFFF, 0xFFFFFFFF)


def wav(bits=16, size=None, code=1, channels=1, data=bytes(RATE), behind=b"") -> bytes:
    """A wav whose header claims `size` bytes of samples; by default the right number."""
    block = channels * bits // 8
    layout = struct.pack("<IHHIIHH", 16, code, channels, RATE, RATE * block, block, bits)
    size = len(data) if size is None else size
    return b"RIFF\0\0\0\0WAVEfmt " + layout + b"data" + struct.pack("<I", size) + data + behind


def with_size(content: bytes, size: int) -> bytes:
    """A wav with another number of bytes in the header."""
    order = ">" if content.startswith(b"RIFX") else "<"
    start = content.index(b"data") + 4
    return content[:start] + struct.pack(f"{order}I", size) + content[start + 4 :]


def samples_of(audio) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *audio.chunks()])


# ------------------------------------------------------------------------------------------- wavs


@pytest.mark.parametrize("endian", ["FILE", "BIG"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_the_data_counts_and_not_the_header(tmp_path, subtype, endian):
    path = tmp_path / "a.wav"
    channels = 1 if subtype == "GSM610" else 2
    soundfile.write(path, np.column_stack([TONE] * channels), RATE, subtype, endian, format="WAV")
    content = path.read_bytes()
    expected = samples_of(open_audio(path))
    for size in (None, *SIZES):
        changed = content if size is None else with_size(content, size)
        path.write_bytes(changed)
        for audio in (open_audio(path), open_pipe(io.BytesIO(changed), title="stdin")):
            found = samples_of(audio)
            # Coded samples end with a block, of which libsndfile may leave out the padding.
            assert abs(len(found) - len(expected)) <= (600 if "ADPCM" in subtype else 0), size
            shared = min(len(found), len(expected))
            np.testing.assert_allclose(found[:shared], expected[:shared], atol=2e-3)
            is_odd = size in (100, 2_000_000_000) or (size == 0 and isinstance(audio, Audio))
            assert len(audio.notes) == is_odd, (size, audio.notes)


def test_a_note_says_what_the_header_says(tmp_path):
    path = tmp_path / "speech.wav"
    path.write_bytes(wav(size=0, data=bytes(16 * RATE)))
    assert open_audio(path).notes == (f"{path}: its header says 0 s, but 8.0 s of audio are there",)
    stream = open_pipe(io.BytesIO(wav(size=2_000_000_000, data=bytes(16 * RATE))))
    assert not stream.notes
    samples_of(stream)
    assert stream.notes == ["stdin: its header says 62500.0 s, but 8.0 s of audio are there"]


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST\4\0\0\0abcd",
        b"LIST\xff\xff\0\0cut",
        b"id3 \2\0\0\0ab",
        b"TAG" + bytes(125),
        bytes(99),
    ],
)
def test_what_follows_the_samples_is_no_audio(tmp_path, behind):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(behind=behind))
    audio, stream = open_audio(path), open_pipe(io.BytesIO(wav(behind=behind)))
    assert audio.duration == 0.5 and not audio.notes
    assert len(samples_of(stream)) / RATE == pytest.approx(0.5, abs=0.004) and not stream.notes


def test_a_repaired_copy_is_removed_with_its_recording(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(size=0))
    audio = open_audio(tmp_path / "a.wav")
    copy = audio.path
    assert audio.name == "a.wav" and copy != tmp_path / "a.wav" and copy.is_file()
    del audio
    assert not copy.exists()


def test_a_video_has_the_audio_that_its_header_hides(tmp_path, bound, models, short_speech):
    (tmp_path / "a.wav").write_bytes(with_size(short_speech.read_bytes(), 0))
    result = talkemo.animate(bound, tmp_path / "a.wav", tmp_path / "a.mp4", models=models, fps=10)
    assert result.seconds == pytest.approx(1.5) and len(result.notes) == 1
    expected, found = open_audio(short_speech), open_audio(tmp_path / "a.mp4")
    assert found.duration == pytest.approx(1.5, abs=0.1)
    assert found.peak == pytest.approx(expected.peak, rel=0.2)


def test_unusable_wavs_are_refused_from_a_pipe_as_from_a_file(tmp_path):
    path = tmp_path / "a.wav"
    for content in (
        *(wav(bits) for bits in (40, 48, 64, 128)),
        wav(128, code=3),
        wav(channels=0),
        wav(channels=999),
        wav(code=0x1234),
        wav(data=b""),
        wav()[:30],
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000,
        b"RIFF\0\0\0\0WAVE" + b"junk\xff\xff\xff\xff" + bytes(99),
        wav(32, code=3, data=np.full(9, np.nan, "<f4").tobytes()),
        b"\x1aE\xdf\xa3" + bytes(200),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.wav"):
            samples_of(open_audio(path))
        with pytest.raises(InputError, match="stdin") as caught:
            samples_of(open_pipe(io.BytesIO(content)))
        assert "/tmp" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3"])
def test_a_stream_may_be_any_audio_file(tmp_path, ending):
    soundfile.write(tmp_path / f"a.{ending}", TONE, RATE)
    with (tmp_path / f"a.{ending}").open("rb") as file:
        audio = open_pipe(file)
    np.testing.assert_array_equal(
        samples_of(audio), samples_of(open_audio(tmp_path / f"a.{ending}"))
    )


def test_any_header_is_read_or_refused(tmp_path):
    """Headers with random bytes, from a pipe and from a file."""
    chance = random.Random(7)
    path, good = tmp_path / "a.wav", [wav(), wav(24, channels=2), wav(32, code=3), wav(8, code=7)]
    for _ in range(400):
        content = bytearray(chance.choice(good)[: chance.choice([60, 2000])])
        for _ in range(chance.choice([1, 1, 2, 5])):
            content[chance.randrange(48)] = chance.choice([0, 1, 2, 16, 127, 128, 255])
        path.write_bytes(content)
        for opened, source in ((open_pipe, io.BytesIO(bytes(content))), (open_audio, path)):
            try:
                assert np.isfinite(samples_of(opened(source))).all()
            except InputError as error:
                assert "\n" not in error.message and error.hint


# ---------------------------------------------------------------------------- streams to a file


class Input:
    """Standard input with some content."""

    closed = False

    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


def test_a_stream_to_a_file_appears_when_it_is_complete(
    tmp_path, example_face, short_speech, monkeypatch, capfd
):
    output, target = tmp_path / "a.jsonl", tmp_path / "target.jsonl"
    target.write_text("old")
    output.symlink_to(target)
    arguments = ["animate", str(example_face), "-", "--stream", "-o", str(output), "--fps", "10"]
    content = with_size(short_speech.read_bytes(), 2_000_000_000)
    for bad in (b"", wav(data=b""), wav(32, code=3, data=np.full(RATE, np.nan, "<f4").tobytes())):
        monkeypatch.setattr("sys.stdin", Input(bad))
        assert main(arguments) == 2
        assert output.is_symlink() and target.read_text() == "old"
        assert capfd.readouterr().err.splitlines()[-2].startswith("talkemo: stdin: ")
    monkeypatch.setattr("sys.stdin", Input(content))
    assert main([*arguments, "--json"]) == 0
    about = json.loads(capfd.readouterr().out)
    assert about["notes"] == ["stdin: its header says 45351.5 s, but 1.5 s of audio are there"]
    assert not output.is_symlink() and target.read_text() == "old"  # the link is replaced
    assert len(output.read_text().splitlines()) == 1 + about["frames"] == 16
    assert sorted(tmp_path.iterdir()) == [output, target]


def test_standard_input_that_cannot_be_read_is_refused(tmp_path, example_face, monkeypatch, capfd):
    with (tmp_path / "a.wav").open("w") as file:
        monkeypatch.setattr(
            "sys.stdin", io.TextIOWrapper(io.FileIO(file.fileno(), "r", closefd=False))
        )
        for options_ in (["--stream"], ["-o", str(tmp_path / "a.npz")]):
            assert main(["animate", str(example_face), "-", *options_]) == 2
            assert "stdin: cannot be read" in capfd.readouterr().err


# ------------------------------------------------------------------------ descriptors and signals


def test_standard_descriptors_are_always_open(tmp_path):
    code = (
        "import os, pathlib, sys, talkemo_cli\n"
        "from talkemo_cli.standard_streams import CLOSED_STREAMS\n"
        "open_ = [os.path.samestat(os.fstat(k), os.stat(os.devnull)) for k in range(3)]\n"
        "print('lost', file=sys.stderr); print('lost'); sys.stdin.read()\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{open_} {len(CLOSED_STREAMS)}')\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *run], check=True)
    assert (tmp_path / "a.txt").read_text() == "[True, True, True] 3"


def test_a_stream_to_a_closed_stdout_is_refused(example_face, short_speech, monkeypatch, capfd):
    monkeypatch.setattr(standard_streams, "CLOSED_STREAMS", {"stdout"})
    monkeypatch.setattr("talkemo_cli.animate_stream.CLOSED_STREAMS", {"stdout"})
    assert main(["animate", str(example_face), str(short_speech), "--stream"]) == 2
    assert "stdout, which is closed" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_ignored_signal_stays_ignored(name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    others = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signals.end_on_signals("SIGINT", "SIGTERM", "SIGHUP")
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)  # without effect
        signal.signal(number, signal.SIG_DFL)
        signals.end_on_signals("SIGINT", "SIGTERM", "SIGHUP")
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), number)
            signal.pause()
        assert caught.value.code == 128 + number
    finally:
        for other, handler in others.items():
            signal.signal(other, handler)
        signal.signal(number, before)


def test_a_signal_during_an_import_is_raised_again_later(monkeypatch):
    """An exception in the import of an extension module would abort the process."""
    later = []

    def timer(seconds, function, arguments):
        later.append((function, arguments))
        return mock.Mock()

    monkeypatch.setattr("talkemo.compute.signals.threading.Timer", timer)
    code = mock.Mock(co_filename="<frozen importlib._bootstrap>")
    inside = mock.Mock(f_code=mock.Mock(co_filename="torch.py"), f_back=mock.Mock(f_code=code))
    signals._end(False, signal.SIGINT, inside)
    assert later == [(signal.raise_signal, (signal.SIGINT,))]
    with pytest.raises(KeyboardInterrupt):
        signals._end(False, signal.SIGINT, None)
    with pytest.raises(SystemExit):
        signals._end(False, signal.SIGTERM, None)


# ------------------------------------------------------------------------------------------ names


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch, name: str, encoding: str, kind=io.TextIOWrapper) -> tuple[bytes, bytes]:
    """What is printed on stdout and stderr of a result, a message, a table and an error."""
    out, err = kind(io.BytesIO(), encoding), kind(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    standard_streams.print_any_text()
    console.configure()
    result = Result([Path(name)], 1, 60.0, 1.0, 0.5, notes=[f"{name}: odd"])
    console.animation(result)
    console.table(name, ["a"], [[name]])
    console.error(f"{name}: wrong", "a hint: −1 → 2…")
    with console.progress(name) as update:
        update(1, 2, name)
    for stream in (out, err):
        stream.flush()
    return out.buffer.getvalue(), err.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_any_name_can_be_printed(monkeypatch, encoding):
    name = os.fsdecode(b"a\xff\xe9.npz")
    out, err = printed(monkeypatch, name, encoding)
    assert out.splitlines()[0] == os.fsencode(name)  # a path on stdout is the file's name
    assert b"talkemo: a\\xff\\xe9.npz: wrong" in err
    out, _ = printed(monkeypatch, "жé→🙂.npz", encoding)
    assert out.splitlines()[0].endswith(b".npz")
    name = "\ud800.npz"  # of an argument on Windows
    assert printed(monkeypatch, name, encoding)[0]


def test_a_terminal_gets_no_control_characters(monkeypatch):
    name = "a\x1b[31m\x07\x9b2J\r[red]\u202e\udc9b\x7f.npz"
    for output in printed(monkeypatch, name, "utf-8", Terminal):
        text = output.decode("utf-8")
        ours = [line for line in text.splitlines() if "npz" in line]
        assert ours and all("a\\x1b[31m\\x07\\x9b2J\\r[red]\\u202e\\x9b\\x7f" in x for x in ours)
    _, err = printed(monkeypatch, "a\nb\x1b.npz", "utf-8")  # stderr is for people, wherever it goes
    assert b"\x1b" not in err and err.count(b"\n") == 5
    assert b"talkemo: a\\nb\\x1b.npz: wrong\n" in err


def test_a_recording_with_a_name_that_is_no_text(tmp_path, bound, models, short_speech):
    audio = tmp_path / os.fsdecode(b"a\xff\x1b$x_{$.wav")
    audio.write_bytes(short_speech.read_bytes())
    outputs = [audio.with_suffix(f".{ending}") for ending in "npz mp4 html glb csv usda".split()]
    talkemo.animate(bound, audio, outputs, models=models, fps=5)
    assert all(path.stat().st_size for path in outputs)


def test_the_help_is_printed_in_a_posix_locale():
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | posix
    for arguments in (["animate", "--help"], ["animate", os.fsdecode(b"\xff.obj"), "a.wav"]):
        done = subprocess.run(
            [sys.executable, "-m", "talkemo_cli", *arguments],
            capture_output=True,
            env=environment,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        if "--help" in arguments:
            assert done.returncode == 0 and b"--emotion" in done.stdout
        else:
            assert done.returncode == 2 and done.stderr.count(b"\n") == 2, done.stderr


# --------------------------------------------------------------------------- places to write to


def test_compiled_code_is_stored_where_nobody_has_a_home(monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compilation.os, "access", lambda folder, mode: False)
    monkeypatch.setattr(compilation.platformdirs, "user_cache_dir", lambda *_, **__: "/dev/null/a")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(compilation, "_temporary_folders", made := [])
    compilation.store_compiled_code()
    compilation.store_compiled_code()
    assert numba.config.CACHE_DIR == os.environ["NUMBA_CACHE_DIR"] == made[0].name
    assert Path(made[0].name).stat().st_mode & 0o777 == 0o700 and len(made) == 1


# ---------------------------------------------------------------------------------------- options


GROUPS = (
    options.AnimateOptions,
    options.StreamOptions,
    options.TransferOptions,
    options.ReconstructOptions,
    options.RenderOptions,
    options.ExportOptions,
    options.BatchOptions,
    TrainOptions,
)


@pytest.mark.parametrize("group", GROUPS)
def test_options_refuse_what_is_no_number_or_out_of_range(group):
    for field in dataclasses.fields(group):
        if not {"int", "float"} & set(re.findall(r"\w+", str(field.type))):
            continue
        if "tuple" in str(field.type) or "Mapping" in str(field.type):
            continue
        for value in (float("nan"), float("inf"), -float("inf")):
            with pytest.raises(InputError):
                group(**{field.name: value})
        settings = field.metadata
        lowest, highest = settings.get("limits", (settings.get("minimum"), settings.get("maximum")))
        for bound_, step in ((lowest, -1), (highest, 1)):
            if bound_ is not None:
                group(**{field.name: bound_})
                with pytest.raises(InputError):
                    group(**{field.name: bound_ + step})


def test_every_number_that_a_person_gives_is_checked(example_face, short_speech, tmp_path, capsys):
    animate = ["animate", str(example_face), str(short_speech), "-o", str(tmp_path / "a.npz")]
    transfer = ["transfer", str(tmp_path / "none.npz"), "-o", str(tmp_path / "b.npz")]
    reconstruct = ["reconstruct", str(tmp_path / "none.csv"), "-o", str(tmp_path / "c.npz")]
    render = ["render", str(tmp_path / "none.npz"), "-o", str(tmp_path / "d.png")]
    for command, name in (
        *((animate, name) for name in ("--fps", "--intensity", "--blink")),
        *((transfer, name) for name in ("--fps", "--intensity")),
        *((reconstruct, name) for name in ("--fps", "--intensity", "--fov")),
        *((render, name) for name in ("--fps", "--time")),
    ):
        for value in ("nan", "inf", "-inf", "-1"):
            assert main([*command, name, value]) == 2
            err = capsys.readouterr().err
            assert err.count("\n") == 2 and "none" not in err, (command, name, value, err)
    for command in (animate, render, transfer):
        assert main([*command, "--size", "1"]) == 2
        assert "an image of 1 pixels" in capsys.readouterr().err
    assert main([*render, "--turntable"]) == 2
    assert "a turntable is a video" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    for wrong in ({"intensity": float("nan")}, {"fps": 0}, {"fps": float("inf")}):
        with pytest.raises(InputError):
            talkemo.transfer(tmp_path / "none.npz", tmp_path / "a.npz", **wrong)
        with pytest.raises(InputError):
            talkemo.reconstruct(tmp_path / "none.csv", tmp_path / "a.npz", **wrong)
