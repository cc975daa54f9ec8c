import numpy as np
import pytest
import soundfile

from talkemo import InputError, speech


def write(path, samples, rate):
    soundfile.write(path, samples, rate)
    return speech.open_audio(path)


def tone(seconds, rate, hertz=440.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000])
def test_any_sample_rate(tmp_path, rate):
    audio = write(tmp_path / "a.wav", tone(1.0, rate), rate)
    assert audio.duration == pytest.approx(1.0, abs=0.01)
    samples = audio.samples()
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() / (len(samples) / speech.SAMPLE_RATE) == pytest.approx(440, abs=3)


def test_channels_are_averaged(tmp_path):
    left = tone(0.5, 16000)
    audio = write(tmp_path / "a.flac", np.stack([left, -left, left, left], 1), 16000)
    np.testing.assert_allclose(audio.samples(), left / 2, atol=1e-3)


def test_chunks_make_the_same_features(tmp_path, monkeypatch, example_speech):
    filters = speech.mel_filters()
    audio = speech.open_audio(example_speech)
    whole = speech.features(audio, filters)
    pieces = list(audio.chunks(0.37))
    assert len(pieces) > 10
    monkeypatch.setattr(speech.Audio, "chunks", lambda self, seconds=0: iter(pieces))
    np.testing.assert_allclose(speech.features(audio, filters), whole, atol=1e-4)


def test_features_do_not_depend_on_level(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    filters = speech.mel_filters()
    loud = speech.features(write(tmp_path / "a.wav", samples, rate), filters)
    faint = speech.features(write(tmp_path / "b.wav", samples * 0.05, rate), filters)
    assert np.abs(loud - faint).mean() < 0.02


def test_one_word_in_a_minute_is_loud_and_the_rest_silent(tmp_path, example_speech):
    samples, rate = soundfile.read(example_speech)
    long = np.zeros(60 * rate)
    long[20 * rate : 21 * rate] = samples[:rate]
    feature = speech.features(write(tmp_path / "a.wav", long, rate), speech.mel_filters())
    assert feature[2010:2090].max() > 0.9
    assert feature[:1980].max() < 0.05 and feature[2150:].max() < 0.05


def test_windows_are_centred_and_interpolated():
    feature = np.arange(100, dtype=np.float32)[:, None]
    window = speech.windows(feature, np.array([0.5, 0.505]))
    assert window.shape == (2, 16, 1)
    assert window[0, 8, 0] == pytest.approx(50)
    assert window[1, 8, 0] == pytest.approx(50.5)
    assert window[0, 9, 0] - window[0, 8, 0] == pytest.approx(100 / 60, abs=1e-4)


def test_windows_are_silent_beyond_the_ends():
    window = speech.windows(np.ones((50, 3), np.float32), np.array([-1.0, 0.25, 5.0]))
    assert (window[[0, 2]] == 0).all()
    assert (window[1] == 1).all()


def test_refuses_what_is_no_sound(tmp_path):
    with pytest.raises(InputError, match="no such"):
        speech.open_audio(tmp_path / "none.wav")
    with pytest.raises(InputError, match="folder"):
        speech.open_audio(tmp_path)
    for name, content in (
        ("empty.wav", b""),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("text.ogg", b"hello" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            speech.open_audio(tmp_path / name)


def test_a_wrong_ending_is_named(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(1.0, 16000), 16000)
    assert speech.open_audio(tmp_path / "a.mp3").duration == pytest.approx(1.0, abs=0.2)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"named \.wav, but what it holds is MP"):
        speech.open_audio(tmp_path / "a.wav")


def test_a_cut_wav_is_refused_and_a_piped_one_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = path.read_bytes()
    path.write_bytes(content[:20000])
    with pytest.raises(InputError, match="cut off"):
        speech.open_audio(path)
    start = content.index(b"data") + 4
    path.write_bytes(content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :])
    assert speech.open_audio(path).duration == pytest.approx(1.0, abs=0.01)


def test_m4a_is_read(tmp_path, example_speech):
    import subprocess

    import imageio_ffmpeg

    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(example_speech), str(tmp_path / "a.m4a")]
    subprocess.run(ffmpeg, check=True)
    assert speech.open_audio(tmp_path / "a.m4a").duration == pytest.approx(8.43, abs=0.1)
    (tmp_path / "b.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:5000])
    with pytest.raises(InputError):
        speech.open_audio(tmp_path / "b.m4a")
