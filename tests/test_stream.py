"""Streaming: frames are equal to those of `animate` and in time; bad audio is refused."""

import io
import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import soundfile
from waiting import HANG_S

import talkemo
from talkemo import InputError
from talkemo.audio.pipe import AudioStream, open_pipe
from talkemo.audio.recording import SAMPLE_RATE, audio_of_samples, open_audio


@pytest.fixture(scope="module")
def bound(example_face, models):
    return talkemo.bind(example_face, models=models)


def pieces(samples, size):
    """Yield samples in pieces, as a microphone does."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def joined(stream, name):
    return np.concatenate([getattr(chunk, name) for chunk in stream])


@pytest.mark.parametrize(("rate", "size", "fps"), [(16000, 320, 60), (44100, 5000, 25)])
def test_a_stream_equals_animate(bound, models, short_speech, rate, size, fps):
    samples = open_audio(short_speech).samples()
    audio = np.interp(
        np.arange(0, len(samples), SAMPLE_RATE / rate), np.arange(len(samples)), samples
    )
    options = {"emotion": "happy", "seed": 3, "blink": 60, "fps": fps, "models": models}
    expected = talkemo.animate(bound, (audio, rate), **options)
    chunks = list(talkemo.stream(bound, (pieces(audio, size), rate), **options))
    assert all(len(chunk) <= 2 for chunk in chunks)
    np.testing.assert_allclose(joined(chunks, "vertices"), expected.vertices, atol=1e-3)  # mm
    np.testing.assert_allclose(joined(chunks, "landmarks68"), expected.landmarks68, atol=1e-3)
    np.testing.assert_allclose(joined(chunks, "arkit"), expected.arkit, atol=1e-4)
    np.testing.assert_allclose(joined(chunks, "times"), np.arange(expected.frames) / fps)
    assert chunks[0].head.shape[1:] == (3, 3) and chunks[0].gaze.shape[1:] == (2,)


def test_frames_come_within_the_latency(bound, models, short_speech):
    samples, sent = open_audio(short_speech).samples(), [0.0]

    def microphone():
        for piece in pieces(samples, 160):
            sent[0] += len(piece) / SAMPLE_RATE
            yield piece

    stream = talkemo.stream(bound, (microphone(), SAMPLE_RATE), models=models)
    late = [sent[0] - chunk.times[0] for chunk in stream]
    assert max(late) <= stream.latency + 0.011 < 0.56
    assert np.median(late) > 0.4  # the look-ahead


def test_a_file_is_streamed(bound, models, short_speech):
    stream = talkemo.stream(bound, short_speech, models=models, head="off", gaze="off")
    expected = talkemo.animate(bound, short_speech, models=models, gaze="off")
    chunks = list(stream)
    np.testing.assert_allclose(joined(chunks, "arkit"), expected.arkit, atol=1e-4)
    assert chunks[0].head is None and chunks[0].gaze is None


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_a_wav_from_a_pipe_equals_the_file(tmp_path, short_speech, subtype):
    samples = np.column_stack([open_audio(short_speech).samples()] * 2)
    soundfile.write(tmp_path / "a.wav", samples, 22050, subtype)
    with (tmp_path / "a.wav").open("rb") as file:
        stream = open_pipe(file)
        samples = np.concatenate(list(stream.chunks()))
    expected = open_audio(tmp_path / "a.wav")
    assert stream.ended and stream.seconds == pytest.approx(expected.duration, abs=1e-4)
    np.testing.assert_allclose(samples, expected.samples(), atol=1e-4)


def test_raw_samples_from_a_pipe():
    values = (20000 * np.sin(np.arange(4000) / 9)).astype("<i2")
    stream = open_pipe(io.BytesIO(values.tobytes() + b"x"), 16000)
    samples = np.concatenate(list(stream.chunks()))
    assert len(samples) == 4000 and samples.max() == pytest.approx(20000 / 32767, abs=0.05)


def test_pieces_may_be_empty_and_are_of_the_same_channels():
    quiet, none = np.zeros((1600, 2), np.float32), np.zeros(0, np.float32)
    pieces = [none, quiet, none, quiet]
    assert sum(map(len, AudioStream(iter(pieces), 16000).chunks())) == 3200
    with pytest.raises(InputError, match="2 channels, and then 1"):
        list(AudioStream(iter([quiet, quiet[:, 0]]), 16000).chunks())


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.uint16])
def test_integers_are_the_same_audio_as_floats(kind):
    wave = 0.5 * np.sin(np.arange(3200) / 9)
    one = 2.0 ** (8 * np.dtype(kind).itemsize - 1)
    integers = (wave * one + (one if np.dtype(kind).kind == "u" else 0)).astype(kind)
    expected = audio_of_samples(wave, 16000).samples()
    found = audio_of_samples(integers, 16000).samples()
    streamed = np.concatenate(list(AudioStream(iter([integers]), 16000).chunks()))
    np.testing.assert_allclose(found, expected, atol=2 / one + 1e-6)
    np.testing.assert_allclose(streamed, found, atol=1e-6)


def test_unusable_audio_is_refused(bound, models):
    for content in (b"", b"hello, this is no wav", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16)):
        with pytest.raises(InputError, match="stdin"):
            open_pipe(io.BytesIO(content))
    for wrong in (
        np.full(99, np.nan),
        np.zeros((2, 3, 4)),
        np.full(9, 1e9),
        np.zeros((5, 200)),
        np.array(["a"]),
    ):
        with pytest.raises(InputError, match="samples"):
            list(AudioStream(iter([wrong]), 16000).chunks())
    with pytest.raises(InputError, match="samples per second"):
        talkemo.stream(bound, (iter([]), 3), models=models)
    with pytest.raises(InputError, match="frames per second"):
        talkemo.stream(bound, (iter([]), 16000), fps=0, models=models)


def test_empty_audio_gives_a_face_at_rest(bound, models):
    chunks = list(talkemo.stream(bound, (iter([]), 16000), models=models))
    assert sum(map(len, chunks)) == 1 and np.abs(chunks[0].coordinates).max() == 0


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "talkemo_cli", "animate", *map(str, arguments)],
        capture_output=True,
        check=False,
        **options,
    )


def test_the_command_writes_json_lines_and_vertices(
    tmp_path, example_face, short_speech, bound, models
):
    expected = talkemo.animate(bound, short_speech, emotion="sad", models=models, fps=30)
    audio = short_speech.read_bytes()
    options = ("--stream", "--emotion", "sad", "--fps", 30)
    done = command(example_face, "-", *options, input=audio)
    assert done.returncode == 0 and b"after their audio" in done.stderr
    first, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(first["names"]) == 52 and first["fps"] == 30 and 0.5 < first["latency"] < 0.7
    np.testing.assert_allclose([line["arkit"] for line in lines], expected.arkit, atol=1e-4)
    assert len(lines[0]["head"]) == 3 and len(lines[0]["gaze"]) == 2
    done = command(
        example_face, "-", *options, "-o", tmp_path / "a.vertices", "--json", input=audio
    )
    about = json.loads(done.stdout)
    head, body = (tmp_path / "a.vertices").read_bytes().split(b"\n", 1)
    count = json.loads(head)["vertices"]
    frames = np.frombuffer(body, np.dtype([("time", "<f8"), ("vertices", "<f4", (count, 3))]))
    assert about["frames"] == len(frames) == len(lines)
    np.testing.assert_allclose(frames["vertices"], expected.vertices, atol=1e-3)
    np.testing.assert_allclose(frames["time"], np.arange(len(frames)) / 30)


def test_the_command_refuses_in_two_lines(tmp_path, example_face, short_speech):
    for arguments, says in (
        ((short_speech, "--raw", 16000), "--raw belongs to --stream"),
        ((short_speech, "--stream", "--raw", 16000), "--raw is for audio from stdin"),
        ((short_speech, "--stream", "-o", tmp_path / "a.mp4"), "cannot write this kind of file"),
        ((short_speech, "--stream", "--format", "npz"), "unknown format 'npz'"),
        ((short_speech, short_speech, "--stream"), "a stream takes one recording"),
        ((short_speech, "--stream", "--json"), "--json and a stream"),
        (("-", "--stream"), "no audio arrives"),
    ):
        done = command(example_face, *arguments, stdin=subprocess.DEVNULL)
        assert (
            done.returncode == 2 and says in done.stderr.decode() and done.stderr.count(b"\n") == 2
        ), done.stderr
    assert not (tmp_path / "a.mp4").exists()


def test_frames_come_before_the_audio_has_ended(example_face, short_speech):
    arguments = [
        sys.executable,
        "-m",
        "talkemo_cli",
        "animate",
        str(example_face),
        "-",
        "--stream",
        "--raw",
        "16000",
    ]
    with wave.open(str(short_speech)) as file:
        samples = file.readframes(file.getnframes())
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        process.stdin.write(samples[: 2 * 16000])  # a second
        process.stdin.flush()
        lines = [json.loads(process.stdout.readline()) for _ in range(20)]
        assert lines[-1]["time"] == pytest.approx(18 / 60, abs=1e-4) and process.poll() is None
        process.stdout.close()  # the reader ends
        for _ in range(50):
            try:
                process.stdin.write(samples[:4000])
                process.stdin.flush()
            except BrokenPipeError:
                break
        try:
            process.stdin.close()
        except BrokenPipeError:
            os.stat(".")
        assert process.wait(HANG_S) == 0
