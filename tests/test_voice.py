"""The emotion of a voice: numbers of windows, readings, timelines, training and metrics."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import RATE

import talkemo
from talkemo import InputError, Timeline
from talkemo.audio.mel import mel_filters
from talkemo.audio.pipe import AudioStream
from talkemo.audio.recording import audio_of_samples, load_audio
from talkemo.audio.voice_rows import FRAME_WIDTH, WINDOW_NUMBERS, VoiceRows, window_numbers
from talkemo.data.voice_channels import Channel
from talkemo.data.voices import VOICE_FOLDERS, VoiceClip, read_voices
from talkemo.evaluation import voice as voice_evaluation
from talkemo.evaluation.voice import VoiceAnswers, evaluate_voice, voice_metrics
from talkemo.expression.emotions import EMOTIONS, NEUTRAL_INDEX
from talkemo.expression.heard import FollowedVoice, HeardEmotion, VoiceReadings, shown_amounts
from talkemo.networks.voice import (
    VOICE_WINDOW_FEATURES,
    VoiceListener,
    VoiceModel,
    VoiceNetwork,
    own_mean_share,
    voice_tensors,
)
from talkemo.pipelines.hearing import (
    AutoEmotion,
    ListeningEmotion,
    heard_fact,
    write_timeline,
)
from talkemo.pipelines.live_server import LiveEmotion
from talkemo.train import voice as voice_stage
from talkemo.train.run import Run
from talkemo.train.voice import VoiceConfig, left_out_speakers
from talkemo.weights.files import load_weights
from talkemo.weights.registry import write_registry
from talkemo.weights.weight_set import bundled_folder
from talkemo_cli.app import main

SURE = 0.5


@pytest.fixture(scope="module")
def voice(models) -> VoiceModel:
    """An untrained voice model with the bundled encoder."""
    torch.manual_seed(0)
    encoder = models.encoder.lowest(2)
    network = VoiceNetwork(2 * encoder.width + WINDOW_NUMBERS)
    return VoiceModel(network, encoder, {"sure": 0.13})


def readings(emotion: str, probability: float, arousal: float, seconds: float) -> VoiceReadings:
    """Readings every 0.2 s that hear one emotion; the others share what remains."""
    times = np.arange(0, seconds, 0.2)
    rest = (1 - probability) / (len(EMOTIONS) - 1)
    probabilities = np.full((len(times), len(EMOTIONS)), rest)
    probabilities[:, EMOTIONS.index(emotion)] = probability
    spoken = np.ones(len(times), bool)
    return VoiceReadings(times, probabilities, np.full(len(times), arousal), spoken, SURE)


def joined(*parts: VoiceReadings) -> VoiceReadings:
    columns = [
        np.concatenate([getattr(p, name) for p in parts]) for name in ("probabilities", "arousal")
    ]
    count = len(columns[0])
    return VoiceReadings(0.2 * np.arange(count), *columns, np.ones(count, bool), SURE)


# ------------------------------------------------------------------------------------------- numbers


def test_rows_do_not_depend_on_how_audio_arrives():
    samples = (0.3 * np.sin(np.arange(RATE) / 9)).astype(np.float32)
    at_once = VoiceRows(mel_filters()).add(samples)
    rows = VoiceRows(mel_filters())
    pieces = np.concatenate([rows.add(piece) for piece in np.array_split(samples, 37)])
    assert at_once.shape == pieces.shape and at_once.shape[1] == FRAME_WIDTH
    np.testing.assert_allclose(at_once, pieces, atol=1e-5)


def test_numbers_tell_level_and_pitch():
    time = np.arange(RATE) / RATE
    tone = lambda hertz, size: VoiceRows(mel_filters()).add(
        (size * np.sign(np.sin(2 * np.pi * hertz * time))).astype(np.float32)
    )
    low, high, faint = (window_numbers(tone(*v)) for v in ((110, 0.3), (220, 0.3), (110, 0.03)))
    assert low.shape == (WINDOW_NUMBERS,)
    assert high[6] - low[6] == pytest.approx(12, abs=0.3)  # semitones
    assert low[0] - faint[0] == pytest.approx(2, abs=0.05)  # log10 power
    np.testing.assert_allclose(low[16:], faint[16:], atol=0.3)  # the spectrum's shape is the same
    assert np.isfinite(window_numbers(np.full((20, FRAME_WIDTH), -10, np.float32))).all()


def test_codes_do_not_depend_on_how_audio_arrives(voice, short_speech):
    audio = load_audio(short_speech)
    samples = audio.samples()
    whole = list(VoiceListener(voice, audio).codes())
    pieces = AudioStream(iter(np.array_split(samples, 23)), RATE)
    listener = VoiceListener(voice, pieces)
    first = next(iter(listener.chunks()))  # the talking model may read first
    streamed = list(listener.codes())
    whole, streamed = whole[:8], streamed[:8]  # 1.5 s
    assert [code is None for code in whole] == [code is None for code in streamed]
    for one, other in zip(whole, streamed):
        if one is not None:
            np.testing.assert_allclose(one, other, atol=2e-3)
    passed = np.concatenate([first, *listener.chunks()])
    np.testing.assert_allclose(passed, samples, atol=0.01)  # a stream is filtered in pieces


def test_what_comes_later_changes_nothing(voice, short_speech):
    samples = load_audio(short_speech).samples()
    cut = samples.copy()
    cut[int((0.8 + voice.lookahead_s) * RATE) :] = 0
    times = np.arange(0, 0.8, 0.04)
    amounts = []
    for heard in (samples, cut):
        emotion = ListeningEmotion(voice, 1.0)
        emotion.listen(AudioStream(iter([heard]), RATE))
        amounts.append(emotion.amounts(times))
    np.testing.assert_array_equal(*amounts)
    assert voice.lookahead_s < 0.5
    assert amounts[0].shape == (20, 8) and (amounts[0] >= 0).all()


def test_silence_is_neutral(voice, silence):
    heard = HeardEmotion.of(voice.read(load_audio(silence)), 1.0)
    assert [span.emotion for span in heard.spans] == ["neutral"]
    assert heard.timeline.amounts(np.arange(0, 1, 0.1))[:, 1:].max() == 0


def test_the_own_mean_is_taken_off_long_recordings_only():
    shares = [own_mean_share(seconds) for seconds in (0, 5, 20, 60, 3600)]
    assert shares[0] == shares[1] == 0 and shares == sorted(shares) and shares[-1] <= 0.7


# ------------------------------------------------------------------------------------------ readings


def test_an_emotion_is_shown_where_it_is_sure():
    sure = HeardEmotion.of(readings("angry", 0.8, 0.95, 3.0), 3.0)
    assert {span.emotion for span in sure.spans} == {"angry"}
    amounts = sure.timeline.amounts(np.array([1.5]))[0]
    assert amounts[EMOTIONS.index("angry")] > 0.7
    weak = HeardEmotion.of(readings("angry", 0.8, 0.5, 3.0), 3.0)
    assert weak.timeline.amounts(np.array([1.5]))[0].max() < amounts.max() - 0.2


def test_what_is_unsure_is_faint_and_nothing_without_arousal():
    for arousal, low, high in ((0.9, 0.1, 0.25), (0.3, 0.0, 0.01)):
        unsure = HeardEmotion.of(readings("angry", 0.3, arousal, 3.0), 3.0)
        assert {span.emotion for span in unsure.spans} == {"neutral"}
        assert low <= unsure.timeline.amounts(np.array([1.5]))[0, 1:].sum() <= high
    neutral = HeardEmotion.of(readings("neutral", 0.9, 0.3, 3.0), 3.0)
    assert neutral.timeline.amounts(np.array([1.5]))[0, 1:].max() == 0


def test_the_emotion_follows_the_voice_and_never_jumps():
    parts = [readings(name, 0.9, 0.8, 4.0) for name in ("neutral", "happy", "angry")]
    heard = HeardEmotion.of(joined(*parts), 12.0)
    assert list(dict.fromkeys(span.emotion for span in heard.spans)) == [
        "neutral",
        "happy",
        "angry",
    ]
    amounts = heard.timeline.amounts(np.arange(0, 12, 1 / 60))
    assert np.abs(np.diff(amounts, axis=0)).max() < 0.09
    ends = [span.end for span in heard.spans]
    assert ends[-1] == 12.0 and ends == sorted(ends)
    assert [span.start for span in heard.spans][1:] == ends[:-1]


def test_a_face_that_listens_follows_and_rests():
    following = FollowedVoice(SURE)
    angry = np.eye(8)[EMOTIONS.index("angry")]
    for _ in range(15):
        following.hear(angry, 0.95, 0.2)
    assert following.heard[0] == "angry" and following.target[EMOTIONS.index("angry")] > 0.7
    for _ in range(20):
        following.rest(0.2)
    assert following.target[NEUTRAL_INDEX] > 0.95


@pytest.mark.parametrize(
    ("voice_share", "seconds", "certainty"),
    [(0, 3.0, 0), (0.1, 3.0, 0), (0.9, 0.6, 0), (0.9, 1.2, 0.1), (0.9, 1.6, 0.65), (0.5, 2.0, 1)],
)
def test_what_is_too_short_to_tell_fades_to_neutral(voice_share, seconds, certainty):
    read = readings("disgust", 0.9, 0.8, seconds)
    read = replace(read, voiced_s=np.full(len(read.times), 0.2 * voice_share))
    heard = HeardEmotion.of(read, seconds)
    content = heard.as_json()
    assert content["certainty"] == pytest.approx(certainty, abs=0.05)
    amounts = heard.timeline.amounts(np.array([seconds / 2]))[0]
    if certainty == 1:
        whole = HeardEmotion.of(readings("disgust", 0.9, 0.8, seconds), seconds)
        np.testing.assert_array_equal(heard.readings.probabilities, whole.readings.probabilities)
        assert amounts[EMOTIONS.index("disgust")] > 0.7
    elif certainty < 0.5:
        assert content["likeliest"] == "neutral" and content["probability"] < 0.4
        assert amounts[NEUTRAL_INDEX] > 0.9 and content["spans"][0]["emotion"] == "neutral"
    assert content["arousal"] == pytest.approx(0.8)  # of the voice, whatever it says


def test_a_voice_is_not_noise_nor_silence(models, example_speech):
    rng = np.random.default_rng(0)
    noise = np.convolve(rng.standard_normal(2 * RATE), np.ones(30) / 30, "same").astype(np.float32)
    speech = load_audio(example_speech).samples()[: 2 * RATE]
    for samples, certainty in ((0.3 * noise, 0), (0 * noise, 0), (speech, 1)):
        audio = audio_of_samples(samples, RATE)
        content = talkemo.hear_emotion(audio, models=models).as_json()
        assert content["certainty"] == certainty
        assert (content["voiced_s"] > 1) == bool(certainty)
        assert certainty or (content["likeliest"] == "neutral" and content["probability"] < 0.4)
        assert ("too short to tell" in heard_fact(content)) != bool(certainty)
    short = audio_of_samples(speech[RATE // 2 : RATE * 13 // 10], RATE)
    content = talkemo.hear_emotion(short, models=models).as_json()
    assert content["likeliest"] == "neutral" and content["voiced_s"] > 0.3
    assert [span["emotion"] for span in content["spans"]] == ["neutral"]
    assert "too short to tell" in heard_fact(content)


def test_a_stream_needs_some_voice(models, example_speech):
    speech = load_audio(example_speech).samples()
    amounts = []
    for length in (0.6, 3.0):
        heard = np.zeros(4 * RATE, np.float32)
        heard[: int(length * RATE)] = speech[RATE // 2 :][: int(length * RATE)]
        emotion = ListeningEmotion(models.voice, 1.0)
        emotion.listen(AudioStream(iter([heard]), RATE))
        amounts.append(emotion.amounts(np.arange(0, 3, 0.1))[:, 1:].sum(1).max())
    assert amounts[0] < 0.1 < amounts[1]


def test_amounts_of_readings_are_bounded():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(8, 0.3), 500)
    amounts = shown_amounts(probabilities, rng.random(500), SURE)
    assert (amounts >= 0).all() and amounts.sum(1).max() <= 1.1 + 1e-9


@pytest.mark.parametrize("ending", ["json", "csv", "txt"])
def test_a_timeline_is_read_back(tmp_path, ending):
    parts = [
        readings(*v, 3.0) for v in (("happy", 0.9, 0.9), ("sad", 0.4, 0.8), ("calm", 0.8, 0.1))
    ]
    heard = HeardEmotion.of(joined(*parts), 9.0)
    path = tmp_path / f"timeline.{ending}"
    write_timeline(heard, audio_of_samples(np.zeros(RATE), RATE), path)
    times = np.arange(0, 9, 0.1)
    read = Timeline.read(path).amounts(times)
    np.testing.assert_allclose(read, heard.timeline.amounts(times), atol=0.03)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[]"),
        ("b.json", '{"spans": [{"start": 0, "end": 1}]}'),
        ("c.json", '{"spans": [{"start": 0, "end": 1, "emotion": "merry"}]}'),
        ("d.json", "no json"),
        ("e.csv", "start,end\n0,1\n"),
        ("f.csv", "start,end,emotion\n0,x,happy\n"),
    ],
)
def test_a_broken_timeline_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        Timeline.read(tmp_path / name)


# ----------------------------------------------------------------------------------------- pipelines


def test_animate_reads_the_emotion(bound, models, short_speech, tmp_path):
    result = talkemo.animate(
        bound, short_speech, tmp_path / "a.npz", emotion="auto", models=models, fps=10
    )
    content = result.heard.as_json()
    meta = json.loads(str(np.load(tmp_path / "a.npz")["meta"]))
    assert meta["emotion"] == "auto" and meta["heard"] == content
    assert set(content) >= {"likeliest", "probability", "arousal", "spans", "sure"}
    timeline = result.heard.timeline
    plain = talkemo.animate(bound, short_speech, timeline=timeline, models=models, fps=10)
    again = talkemo.animate(bound, short_speech, emotion="auto", models=models, fps=10)
    np.testing.assert_array_equal(plain.arkit, again.arkit)


def test_a_stream_reads_the_emotion(bound, models, short_speech):
    stream = talkemo.stream(bound, short_speech, emotion="Auto", models=models, fps=10)
    assert stream.latency < 0.65
    assert sum(map(len, stream)) == 15
    assert set(stream.heard) == {
        *("likeliest", "probability", "arousal", "probabilities", "certainty")
    }


def test_other_recordings_of_the_speaker_are_used(models, short_speech, silence):
    alone = talkemo.hear_emotion(short_speech, models=models)
    known = talkemo.hear_emotion(short_speech, voice=short_speech, models=models)
    assert np.abs(alone.readings.probabilities - known.readings.probabilities).max() > 0.01
    with pytest.raises(InputError, match="no speech"):
        talkemo.hear_emotion(short_speech, voice=silence, models=models)


def test_transfer_reads_the_emotion_from_the_sound(bound, models, short_speech, tmp_path):
    plain = tmp_path / "plain.npz"
    talkemo.animate(bound, short_speech, plain, models=models, fps=5)
    with pytest.raises(InputError, match=r"no audio.*the emotion"):
        talkemo.transfer(plain, emotion="auto", models=models)
    result = talkemo.transfer(plain, emotion="auto", audio=short_speech, models=models)
    assert result.heard is not None and len(result.arkit) == result.frames


def test_what_cannot_be_heard_is_refused(bound, example_speech, tmp_path):
    free = tmp_path / "free_set"
    free.mkdir()
    shutil.copy(bundled_folder() / "free" / "emotion.safetensors", free)
    write_registry(free)
    with pytest.raises(InputError, match="free_set has no weights of the stage voice"):
        talkemo.animate(bound, example_speech, emotion="auto", weights=free)
    with pytest.raises(InputError, match="without the emotion auto"):
        talkemo.animate(bound, example_speech, emotion="happy", voice=example_speech)
    with pytest.raises(InputError, match="intensity 2"):
        talkemo.animate(bound, example_speech, emotion="auto", intensity=2)


def test_a_live_face_can_follow_the_voice(voice, short_speech):
    emotion = LiveEmotion("happy", 1.0, ListeningEmotion(voice, 1.0))
    emotion.listen(load_audio(short_speech))
    happy = EMOTIONS.index("happy")
    assert emotion.amounts(np.array([0.0, 0.1]))[-1, happy] == 1
    emotion.change("auto", 0.5)
    assert emotion.shown.all() and emotion.voice.intensity == 0.5
    amounts = emotion.amounts(np.arange(0.1, 1.4, 0.02))
    assert np.abs(np.diff(amounts, axis=0)).max() < 0.15 and amounts[-1, happy] < 0.8
    with pytest.raises(InputError, match="no emotion can be read"):
        LiveEmotion("auto", 1.0)


def test_a_live_face_hears_the_voice_only_if_it_follows_it(voice, short_speech, monkeypatch):
    windows = []
    judge = voice.judge
    monkeypatch.setattr(voice, "judge", lambda *v: windows.append(1) or judge(*v))
    encoded = []
    emotion = LiveEmotion("happy", 1.0, ListeningEmotion(voice, 1.0))
    samples = load_audio(short_speech).samples()
    pieces = np.array_split(np.concatenate([samples, samples, samples]), 45)  # 0.1 s each
    passed = emotion.listen(AudioStream(iter(pieces), RATE)).chunks()
    real = voice.encoder.stream
    monkeypatch.setattr(voice.encoder, "stream", lambda *v: encoded.append(1) or real(*v))
    heard, shown = [], []
    for k in range(40):
        if k in (15, 30):
            emotion.change("auto" if k == 15 else "sad", 1.0)
        heard.append(next(passed))
        shown.append(emotion.amounts(k / 10 + np.array([0.0, 0.05])))
        assert k >= 15 or not windows
    count = len(windows)
    assert count >= 3 and len(encoded) == 1
    shown = np.concatenate(shown)
    assert shown[29, EMOTIONS.index("happy")] == 1 and np.isfinite(shown).all()
    assert shown[-1, EMOTIONS.index("sad")] > 0.9
    assert np.abs(np.diff(shown, axis=0)).max() < 0.4
    heard += list(passed)  # nothing is lost when it begins and ends to listen
    assert len(np.concatenate(heard)) == 3 * len(samples) and len(windows) == count


def test_the_command_prints_and_writes_a_timeline(short_speech, tmp_path, capsys):
    outputs = [tmp_path / "t.json", tmp_path / "t.png"]
    arguments = [str(short_speech), *(f"-o{path}" for path in outputs)]
    assert main(["emotion", *arguments, "--json", "-q"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["spans"] and content["outputs"] == [str(path) for path in outputs]
    assert Timeline.read(outputs[0]).spans and outputs[1].stat().st_size > 1000
    assert main(["emotion", str(short_speech)]) == 0
    assert "arousal" in capsys.readouterr().out
    assert main(["emotion", str(short_speech), "-o", str(tmp_path / "t.mp4")]) == 2


# ------------------------------------------------------------------------------------------ training


def test_voices_are_read_from_tables(tmp_path):
    folder = tmp_path / "emotional_speech"
    (folder / "crema_d").mkdir(parents=True)
    (folder / "nemo").mkdir()
    rows = ["file\tcorpus\tspeaker\temotion\tintensity\tsplit"]
    for name, corpus, intensity in (
        ("crema_d/a.ogg", "crema_d", "high"),
        ("nemo/b.ogg", "nemo", ""),
    ):
        (folder / name).write_bytes(b"")
        rows.append(f"{name}\t{corpus}\t{corpus}_1\tanger\t{intensity}\ttrain")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    clips = read_voices(tmp_path, VOICE_FOLDERS)
    assert [(c.corpus, c.speaker, c.emotion, c.intensity) for c in clips] == [
        ("crema_d", "crema_d_1", "angry", "strong"),
        ("nemo", "nemo_1", "angry", ""),
    ]
    assert [c.corpus for c in read_voices(tmp_path, VOICE_FOLDERS, free=True)] == ["crema_d"]
    (folder / "clips.tsv").write_text("\n".join(rows).replace("anger", "merry") + "\n")
    with pytest.raises(InputError, match="unknown emotion"):
        read_voices(tmp_path, VOICE_FOLDERS)
    with pytest.raises(InputError, match="no recordings of acted emotion"):
        read_voices(tmp_path, ())


def test_a_speaker_keeps_a_channel():
    tone = np.sin(np.arange(RATE) / 7).astype(np.float32)
    for copy in range(1, 6):
        channel = Channel("ann", copy, 0)
        loud, faint = channel(0.1 * tone), channel(0.01 * tone)
        same = Channel("ann", copy, 0)
        np.testing.assert_array_equal(loud, same(0.1 * tone))
        assert np.abs(loud).max() <= 1 and np.isfinite(loud).all()
        assert loud.std() > faint.std()  # louder speech stays louder


def test_the_stage_trains_resumes_and_is_measured(corpus, models, tmp_path):
    run = Run(corpus, tmp_path / "run", device="cpu")
    config = VoiceConfig(corpora=("ravdess",), copies=2, steps=2, batch=8, warm_up=1)
    voice_stage.train_voice(run, config)
    windows = tmp_path / "run" / "voice" / "copy1.npz"
    made = windows.stat().st_mtime_ns
    result = voice_stage.train_voice(replace(run, resume=True), config)
    assert windows.stat().st_mtime_ns == made  # windows are made once
    tensors, settings = load_weights(result["weights"], "voice")
    assert settings["encoder"] == models.encoder.fingerprint
    assert sum(tensor.nbytes for tensor in tensors.values()) < 300_000
    measured = evaluate_voice(corpus, run.models())
    assert [row["corpus"] for row in measured["corpora"]] == ["all", "ravdess"]
    assert measured["corpora"][0]["chance"] == 0.125
    assert np.array(measured["confusion"]["counts"]).sum() == measured["corpora"][0]["recordings"]


def test_each_corpus_is_left_out_and_speakers_are_held_out():
    clips = [
        VoiceClip(corpus, str(k), f"{corpus}_{k}", "happy", "", "train", None)
        for corpus in ("one", "two")
        for k in range(5)
    ]
    left_out = left_out_speakers(clips, VoiceConfig())
    assert left_out["held-out"] == {"one_2", "two_2"}
    assert left_out["one"] == {f"one_{k}" for k in range(5)}
    assert not left_out_speakers(clips[:1], VoiceConfig())


def test_metrics_of_answers():
    emotion = np.array([EMOTIONS.index(name) for name in ("neutral", "neutral", "happy", "angry")])
    logits = np.full((4, 8), -5.0)
    heard = [EMOTIONS.index(name) for name in ("neutral", "angry", "happy", "disgust")]
    logits[np.arange(4), heard] = 5
    true = np.array([0.3, 0.3, 0.7, 0.9])
    answers = VoiceAnswers(logits, logits, true, emotion, true, np.array(["c"] * 4))
    metrics = voice_metrics(answers, SURE)
    # Angry is chosen among the emotions of the corpus, of which disgust is none.
    assert metrics["recall"] == pytest.approx((0.5 + 1 + 0) / 3, abs=0.4)
    assert metrics["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert metrics["false_alarms"] == 0.5
    assert metrics["plainly_wrong"] == 0.25  # disgust is a neighbour of anger
    assert metrics["arousal_r"] == pytest.approx(1)
    calibration = voice_evaluation.reliability(answers.probabilities, answers)
    assert calibration["ece"] == pytest.approx(0.5, abs=0.01)


def test_weights_of_another_encoder_are_refused(models, voice, tmp_path):
    from talkemo.weights.files import save_weights

    save_weights(
        tmp_path / "voice.safetensors", "voice", voice_tensors(voice.network), {"encoder": "x"}
    )
    with pytest.raises(InputError, match="made for another encoder"):
        _ = talkemo.load_models(tmp_path, device="cpu").voice


def test_an_emotion_that_is_not_heard_yet_shows_nothing():
    auto = AutoEmotion(1.0)
    assert auto.shown.all() and not auto.amounts(np.zeros(3)).any()
    assert VOICE_WINDOW_FEATURES == 100


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", '{"spans": [{"start": 0, "end": 1}]}', "a span has no emotion"),
        ("a.json", "[1, 2]", "no list `spans` of objects"),
        ("a.csv", "a,b\n1,2\n", "a span has no start"),
        ("a.csv", "start,end,emotion\n0,1,hapy\n", r"line 2.*unknown emotion"),
        ("a.txt", "0 1 auto:0.5", "auto stands alone"),
    ],
)
def test_wrong_timelines_are_told_in_words(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=reason) as refused:
        Timeline.read(path)
    assert "'start'" not in refused.value.message
