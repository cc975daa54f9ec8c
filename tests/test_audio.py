"""Audio: decoding, resampling, log-mel bands and loudness normalisation."""

import io
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from talkemo import InputError
from talkemo.audio import loudness, mel, recording


def write(path, samples, rate):
    soundfile.write(path, samples, rate)
    return recording.open_audio(path)


def convert(source, *options_and_path):
    """Convert a recording with ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", source, *options_and_path]
    subprocess.run(command, check=True)


def tone(seconds, rate, hertz=440.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000])
def test_any_sample_rate(tmp_path, rate):
    audio = write(tmp_path / "a.wav", tone(1.0, rate), rate)
    assert audio.duration == pytest.approx(1.0, abs=0.01)
    samples = audio.samples()
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() / (len(samples) / recording.SAMPLE_RATE) == pytest.approx(440, abs=3)


def test_channels_are_averaged(tmp_path):
    left = tone(0.5, 16000)
    audio = write(tmp_path / "a.flac", np.stack([left, -left, left, left], 1), 16000)
    np.testing.assert_allclose(audio.samples(), left / 2, atol=5e-3)


def test_six_channels(tmp_path):
    left = tone(0.5, 48000)
    audio = write(
        tmp_path / "a.flac", np.stack([left, 0 * left, left, 0 * left, left, 0 * left], 1), 48000
    )
    assert audio.duration == pytest.approx(0.5, abs=0.01)
    assert np.abs(audio.samples()).max() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 11025, 32000, 44100, 48000, 192000])
def test_resampling_keeps_time(tmp_path, rate):
    click = np.zeros(rate)
    click[rate // 2] = 0.9
    audio = write(tmp_path / "a.wav", click, rate)
    assert np.abs(audio.samples()).argmax() / recording.SAMPLE_RATE == pytest.approx(0.5, abs=0.001)


def test_chunks_make_the_same_bands(monkeypatch, example_speech):
    filters = mel.mel_filters()
    audio = recording.open_audio(example_speech)
    whole = np.concatenate(list(mel.mel_rows(audio, filters)))
    level = loudness.loud_level(audio, filters)
    pieces = list(audio.chunks(0.37))
    assert len(pieces) > 10
    monkeypatch.setattr(recording.Audio, "chunks", lambda self, seconds=0: iter(pieces))
    np.testing.assert_allclose(np.concatenate(list(mel.mel_rows(audio, filters))), whole, atol=1e-4)
    assert loudness.loud_level(audio, filters) == pytest.approx(level, abs=1e-4)


def bands_of(audio):
    filters = mel.mel_filters()
    return np.concatenate(list(loudness.normalised_rows(audio, filters)))


def test_bands_do_not_depend_on_level(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    loud = bands_of(write(tmp_path / "a.wav", samples, rate))
    faint = bands_of(write(tmp_path / "b.wav", samples * 0.2, rate))
    assert np.abs(loud - faint).mean() < 0.02


def test_noise_before_speech_does_not_move_the_lips(tmp_path, example_speech, models):
    """It is normalised like speech, and the talking model has learnt that it is none."""
    noise = np.random.default_rng(0).standard_normal(5 * 16000) * 0.0003
    samples = recording.open_audio(example_speech).samples()
    audio = write(tmp_path / "a.wav", np.concatenate([noise, samples]), 16000)
    opening = models.talking.motion(audio, np.arange(10 * 30) / 30).lip_opening(models.face)
    assert opening[: 4 * 30].max() < 0.5 and opening[5 * 30 :].max() > 5


def test_one_word_in_a_minute_is_loud_and_the_rest_silent(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    long = np.zeros(60 * rate)
    long[20 * rate : 21 * rate] = samples[:rate]
    bands = bands_of(write(tmp_path / "a.wav", long, rate))
    assert bands[2010:2090].max() > 0.9
    assert bands[:1980].max() < 0.05 and bands[2150:].max() < 0.05


def test_files_without_audio_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such"):
        recording.open_audio(tmp_path / "none.wav")
    with pytest.raises(InputError, match="folder"):
        recording.open_audio(tmp_path)
    for name, content in (
        ("empty.wav", b""),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("text.ogg", b"hello" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            recording.open_audio(tmp_path / name)


def test_a_wrong_ending_is_named(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(1.0, 16000), 16000)
    assert recording.open_audio(tmp_path / "a.mp3").duration == pytest.approx(1.0, abs=0.2)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"named \.wav, but contains MP"):
        recording.open_audio(tmp_path / "a.wav")


def test_a_truncated_wav_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    path.write_bytes(path.read_bytes()[:20000])
    audio = recording.open_audio(path)
    assert audio.duration == pytest.approx((20000 - 44) / 32000)
    assert audio.notes == (f"{path}: its header says 1.0 s, but 0.6 s of audio are there",)


def envelope(samples):
    """Mean of each 10 ms."""
    return samples[: len(samples) // 160 * 160].reshape(-1, 160).mean(1)


@pytest.mark.parametrize("ending", ["m4a", "mp3", "ogg", "opus", "flac", "aac"])
def test_formats_are_read_without_delay(tmp_path, example_speech, ending):
    path = tmp_path / f"a.{ending}"
    codec = ["-c:a", "libopus"] if ending in ("ogg", "opus") else []
    convert(example_speech, "-ac", "2", "-ar", "48000", *codec, path)
    audio = recording.open_audio(path)
    assert audio.duration == pytest.approx(8.43, abs=0.15)
    plain, coded = (
        np.abs(recording.open_audio(p).samples()[:130000]) for p in (example_speech, path)
    )
    size = min(len(envelope(plain)), len(envelope(coded)))
    lags = range(-8, 9)
    fit = [
        np.corrcoef(envelope(plain)[10 : size - 10], np.roll(envelope(coded), k)[10 : size - 10])[
            0, 1
        ]
        for k in lags
    ]
    assert max(fit) > 0.95
    # A bare aac stream does not contain the delay of its encoder.
    assert abs(lags[int(np.argmax(fit))]) <= (7 if ending == "aac" else 3)


def test_a_truncated_m4a_is_refused(tmp_path, example_speech):
    convert(example_speech, tmp_path / "a.m4a")
    (tmp_path / "b.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:5000])
    with pytest.raises(InputError):
        recording.open_audio(tmp_path / "b.m4a")


def test_a_constant_offset_is_removed(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    plain = bands_of(
        write(tmp_path / "a.wav", np.concatenate([np.zeros(rate), samples * 0.5]), rate)
    )
    soundfile.write(
        tmp_path / "b.wav",
        np.concatenate([np.zeros(rate), samples * 0.5]) + 0.3,
        rate,
        subtype="FLOAT",
    )
    shifted = bands_of(recording.open_audio(tmp_path / "b.wav"))
    # The offset does not click at the start.
    assert shifted[:80].max() < 0.1
    assert np.abs(plain - shifted).mean() < 0.02


def test_huge_samples_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", 1e20 * tone(1.0, 16000), 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="samples lie between"):
        recording.open_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("ending", ["m4a", "mp4", "aac", "webm", "wma", "mov"])
def test_ffmpeg_follows_no_playlist(tmp_path, example_speech, ending):
    """Playlists of several kinds, with an ending of audio, beside a file that they refer to."""
    (tmp_path / "secret.wav").write_bytes(example_speech.read_bytes())
    session = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    )
    dash = '<?xml version="1.0"?><MPD><Period><BaseURL>secret.wav</BaseURL></Period></MPD>'
    lists = [
        "#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.wav\n",
        session,
        dash,
    ]
    for text in lists:
        (tmp_path / f"a.{ending}").write_text(text)
        with pytest.raises(
            InputError, match=rf"a\.{ending}: not an audio file that can be read( \(|, its content)"
        ) as caught:
            recording.open_audio(tmp_path / f"a.{ending}")
        assert "/dev/fd" not in caught.value.message and "\n" not in caught.value.message


def test_errors_of_ffmpeg_become_one_line(tmp_path, capfd):
    for name, content in (
        ("a.m4a", b"\x01no sound at all\n" * 50),
        ("a.webm", b"\x01"),
        ("a.wma", bytes(5000)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            InputError, match=rf"{name}: not an audio file that can be read \(\w[^[]*\)$"
        ):
            recording.open_audio(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_the_mp3_decoder_does_not_write_to_stderr(tmp_path, capfd):
    soundfile.write(tmp_path / "a.mp3", tone(1.0, 16000), 16000)
    content = bytearray((tmp_path / "a.mp3").read_bytes())
    for offset in range(700, len(content), 97):
        content[offset] ^= 0xFF
    (tmp_path / "a.mp3").write_bytes(content)
    try:
        recording.open_audio(tmp_path / "a.mp3").samples()
    except InputError as error:
        assert "a.mp3" in error.message
    assert capfd.readouterr().err == ""


class Pipe:
    """Standard input with some content; may be a terminal."""

    closed = False

    def __init__(self, content, terminal=False):
        self.buffer = io.BytesIO(content)
        self.buffer.isatty = lambda: terminal


@pytest.fixture
def pipe(monkeypatch):
    """A function that puts content on standard input."""

    def put(content, **more):
        recording._copy_of_stdin.cache_clear()
        monkeypatch.setattr("sys.stdin", Pipe(content, **more))

    yield put
    recording._copy_of_stdin.cache_clear()


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "m4a", "webm", "aac"])
def test_audio_from_standard_input(tmp_path, example_speech, pipe, ending):
    path = tmp_path / f"a.{ending}"
    convert(example_speech, "-t", "2", path)
    pipe(path.read_bytes())
    audio, same = recording.open_audio("-"), recording.open_audio(path)
    assert audio.name == "stdin" and audio.path.is_file()
    np.testing.assert_array_equal(audio.samples(), same.samples())
    assert (
        recording.open_audio("-").path == audio.path
    )  # standard input is read once for all outputs


def test_standard_input_without_audio(monkeypatch, pipe):
    for content, reason in (
        (b"", "stdin: not an audio file"),
        (b"what is this?" * 50, r"stdin: not an audio file"),
        (b"RIFF", "stdin: "),
    ):
        pipe(content)
        with pytest.raises(InputError, match=reason) as caught:
            recording.open_audio("-")
        assert "/tmp" not in caught.value.message
    pipe(b"", terminal=True)
    with pytest.raises(InputError, match="stdin: no audio on standard input"):
        recording.open_audio("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="stdin: no audio on standard input"):
        recording.open_audio("-")
    monkeypatch.setattr(recording, "MAX_STDIN_BYTES", 1000)
    pipe(bytes(3000))
    with pytest.raises(InputError, match="stdin: more than"):
        recording.open_audio("-")


def test_the_copy_of_standard_input_is_removed(example_speech):
    code = (
        "from talkemo.audio.recording import open_audio; audio = open_audio('-'); "
        "assert audio.path.is_file(); print(audio.path)"
    )
    with example_speech.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() and not Path(done.stdout.strip()).exists()


def test_samples_in_memory_are_limited():
    for samples, rate, reason in (
        (np.zeros(10), 999, "999 samples per second"),
        (np.zeros(10), float("nan"), "nan samples per second"),
        (np.zeros((2, 48000)), 48000, "48000 channels"),
        (np.zeros((10, 0)), 48000, "0 channels"),
        (np.broadcast_to(np.float32(0), (1000 * 86401,)), 1000, "more than 24 hours"),
        (np.full(10, np.inf), 16000, "NaN or infinity"),
    ):
        with pytest.raises(InputError, match=reason):
            recording.audio_of_samples(samples, rate)
