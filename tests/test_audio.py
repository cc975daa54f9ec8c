import numpy as np
import pytest
import soundfile

from talkemo import InputError
from talkemo import audio as sound


def write(path, samples, rate):
    soundfile.write(path, samples, rate)
    return sound.open_audio(path)


def tone(seconds, rate, hertz=440.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000])
def test_any_sample_rate(tmp_path, rate):
    audio = write(tmp_path / "a.wav", tone(1.0, rate), rate)
    assert audio.duration == pytest.approx(1.0, abs=0.01)
    samples = audio.samples()
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() / (len(samples) / sound.SAMPLE_RATE) == pytest.approx(440, abs=3)


def test_channels_are_averaged(tmp_path):
    left = tone(0.5, 16000)
    audio = write(tmp_path / "a.flac", np.stack([left, -left, left, left], 1), 16000)
    np.testing.assert_allclose(audio.samples(), left / 2, atol=5e-3)


def test_channels_of_a_cinema(tmp_path):
    left = tone(0.5, 48000)
    audio = write(tmp_path / "a.flac", np.stack([left, 0 * left, left, 0 * left, left, 0 * left], 1), 48000)
    assert audio.duration == pytest.approx(0.5, abs=0.01)
    assert np.abs(audio.samples()).max() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 11025, 32000, 44100, 48000, 192000])
def test_resampling_keeps_time(tmp_path, rate):
    click = np.zeros(rate)
    click[rate // 2] = 0.9
    audio = write(tmp_path / "a.wav", click, rate)
    assert np.abs(audio.samples()).argmax() / sound.SAMPLE_RATE == pytest.approx(0.5, abs=0.001)


def test_chunks_make_the_same_bands(monkeypatch, example_speech):
    filters = sound.mel_filters()
    audio = sound.open_audio(example_speech)
    whole = np.concatenate(list(sound.mel_rows(audio, filters)))
    level = sound.loud_level(audio, filters)
    pieces = list(audio.chunks(0.37))
    assert len(pieces) > 10
    monkeypatch.setattr(sound.Audio, "chunks", lambda self, seconds=0: iter(pieces))
    np.testing.assert_allclose(np.concatenate(list(sound.mel_rows(audio, filters))), whole, atol=1e-4)
    assert sound.loud_level(audio, filters) == pytest.approx(level, abs=1e-4)


def bands_of(audio):
    filters = sound.mel_filters()
    return sound.normalise(np.concatenate(list(sound.mel_rows(audio, filters))), sound.loud_level(audio, filters))


def test_bands_do_not_depend_on_level(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    loud = bands_of(write(tmp_path / "a.wav", samples, rate))
    faint = bands_of(write(tmp_path / "b.wav", samples * 0.05, rate))
    assert np.abs(loud - faint).mean() < 0.02


def test_one_word_in_a_minute_is_loud_and_the_rest_silent(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    long = np.zeros(60 * rate)
    long[20 * rate : 21 * rate] = samples[:rate]
    bands = bands_of(write(tmp_path / "a.wav", long, rate))
    assert bands[2010:2090].max() > 0.9
    assert bands[:1980].max() < 0.05 and bands[2150:].max() < 0.05


def test_refuses_what_is_no_sound(tmp_path):
    with pytest.raises(InputError, match="no such"):
        sound.open_audio(tmp_path / "none.wav")
    with pytest.raises(InputError, match="folder"):
        sound.open_audio(tmp_path)
    for name, content in (
        ("empty.wav", b""),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("text.ogg", b"hello" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            sound.open_audio(tmp_path / name)


def test_a_wrong_ending_is_named(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(1.0, 16000), 16000)
    assert sound.open_audio(tmp_path / "a.mp3").duration == pytest.approx(1.0, abs=0.2)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"named \.wav, but what it holds is MP"):
        sound.open_audio(tmp_path / "a.wav")


def test_a_cut_wav_is_refused_and_a_piped_one_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = path.read_bytes()
    path.write_bytes(content[:20000])
    with pytest.raises(InputError, match="cut off"):
        sound.open_audio(path)
    start = content.index(b"data") + 4
    path.write_bytes(content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :])
    assert sound.open_audio(path).duration == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("ending", ["m4a", "mp3", "ogg", "opus", "flac", "aac"])
def test_every_kind_of_file_is_read_and_in_time(tmp_path, example_speech, ending):
    import subprocess

    import imageio_ffmpeg

    path = tmp_path / f"a.{ending}"
    codec = ["-c:a", "libopus"] if ending in ("ogg", "opus") else []
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(example_speech), "-ac", "2", "-ar", "48000"]
    subprocess.run([*ffmpeg, *codec, str(path)], check=True)
    audio = sound.open_audio(path)
    assert audio.duration == pytest.approx(8.43, abs=0.15)
    plain, coded = (np.abs(sound.open_audio(p).samples()[:130000]) for p in (example_speech, path))
    envelope = lambda x: x[: len(x) // 160 * 160].reshape(-1, 160).mean(1)
    size = min(len(envelope(plain)), len(envelope(coded)))
    lags = range(-8, 9)
    fit = [
        np.corrcoef(envelope(plain)[10 : size - 10], np.roll(envelope(coded), k)[10 : size - 10])[0, 1] for k in lags
    ]
    assert max(fit) > 0.95
    # aac as a bare stream does not say how long its encoder's start-up is, and nothing can tell.
    assert abs(lags[int(np.argmax(fit))]) <= (7 if ending == "aac" else 3)


def test_a_cut_m4a_is_refused(tmp_path, example_speech):
    import subprocess

    import imageio_ffmpeg

    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(example_speech), str(tmp_path / "a.m4a")]
    subprocess.run(ffmpeg, check=True)
    (tmp_path / "b.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:5000])
    with pytest.raises(InputError):
        sound.open_audio(tmp_path / "b.m4a")


def test_an_offset_is_taken_off(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    plain = bands_of(write(tmp_path / "a.wav", np.concatenate([np.zeros(rate), samples * 0.5]), rate))
    soundfile.write(tmp_path / "b.wav", np.concatenate([np.zeros(rate), samples * 0.5]) + 0.3, rate, subtype="FLOAT")
    shifted = bands_of(sound.open_audio(tmp_path / "b.wav"))
    # No click at the beginning, where a step from nothing to the offset would be.
    assert shifted[:80].max() < 0.1
    assert np.abs(plain - shifted).mean() < 0.02


def test_numbers_that_are_no_sound_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", 1e20 * tone(1.0, 16000), 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="sound lies between"):
        sound.open_audio(tmp_path / "a.wav")
