"""A corpus of one's own, made by the steps of docs/data.md: fitted, trained on, or refused."""

import io
import lzma
import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import RATE, ROOT

from talkemo import InputError, load_models
from talkemo.capture.landmark_tracker import SCORE_NAMES, TrackedLandmarks
from talkemo.data import custom_corpora
from talkemo.data.captures import read_captures
from talkemo.data.corpora import present_corpora, read_corpus
from talkemo.data.custom_corpora import find_custom_corpora
from talkemo.expression.emotions import EMOTIONS
from talkemo.train import stages, talking
from talkemo.train.emotion import training_frames
from talkemo.train.options import TrainOptions
from talkemo.train.run import Run
from talkemo.video.reader import Video
from talkemo_cli.app import main

PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")


def example(kind):
    """The only block of a kind on the page about data."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return block


def commands(page=PAGE):
    """The commands of step 4, as arguments."""
    block = page.split("**4. Fit and train.**")[1].split("```")[1]
    return [line.split()[1:] for line in block.splitlines() if line.startswith("talkemo")]


def landmarks_and_audio(face, seed):
    """Landmarks (T, 68, 2) px of a mouth that opens with a tone, and the tone's samples."""
    rng = np.random.default_rng(seed)
    time = np.arange(50) / 25
    level = np.clip(np.sin((8 + seed) * time), 0, 1) * (time > 0.3)
    weights = np.zeros((50, len(face.expression_names)))
    weights[:, face.expression_names.index("jawOpen")] = 0.4 * level
    points = (face.mean + face.displacement(weights))[:, face.landmarks68]
    pixels = points[..., :2] * [1.7, -1.7] + 400 + rng.normal(0, 0.2, (50, 68, 2))
    samples = np.repeat(level, RATE // 25) * np.sin(0.1 * np.arange(2 * RATE)) * 0.3
    return pixels.astype(np.float32), samples


@pytest.fixture(scope="module")
def data(face, tmp_path_factory):
    """A folder of corpora with my_corpus alone, made by the steps of the page."""
    folder = tmp_path_factory.mktemp("data") / "my_corpus"
    for name in ("audio", "landmarks"):
        (folder / name).mkdir(parents=True)
    (folder / "corpus.toml").write_text(example("toml"))
    (folder / "clips.tsv").write_text(example("tsv"))
    for number, line in enumerate(example("tsv").splitlines()[1:]):
        name = line.split("\t")[0]
        landmarks, samples = landmarks_and_audio(face, number)
        np.save(folder / "landmarks" / f"{name}.npy", landmarks)
        soundfile.write(folder / "audio" / f"{name}.wav", samples, RATE)
    return folder.parent


@pytest.fixture
def copy(data, tmp_path):
    """A copy of my_corpus's two text files, with links to the rest, that a test may change."""
    folder = tmp_path / "data" / "my_corpus"
    folder.mkdir(parents=True)
    for name in ("corpus.toml", "clips.tsv"):
        (folder / name).write_text((data / "my_corpus" / name).read_text())
    for name in ("audio", "landmarks"):
        (folder / name).symlink_to(data / "my_corpus" / name)
    return folder


def test_the_page_s_commands_train_on_the_page_s_corpus(data, face, tmp_path, monkeypatch, capsys):
    tiny = replace(talking.TalkingConfig(), batch=2, seconds=1.0)
    monkeypatch.setattr(talking, "TalkingConfig", lambda: tiny)
    given = {"DATA": str(data), "run/": str(tmp_path / "run"), "1200": "2"}
    capture, train, evaluate = (
        [given.get(word, word) for word in command] for command in commands()
    )
    assert main(capture) == 0
    assert main(train) == 0
    fitted = read_captures(tmp_path / "run" / "captures" / "my_corpus.npz", face)
    assert [f.rejected for f in fitted] == [""] * 4
    assert {f.speaker for f in fitted} == {f"my_corpus_{name}" for name in ("ann", "bob", "cem")}
    models = load_models(tmp_path / "run")
    # The neutral clips of the training split, without the held-out speaker.
    assert models.talking.styles == ["my_corpus_ann", "my_corpus_bob"]
    captures = str(tmp_path / "run" / "captures")
    assert evaluate[0] == "evaluate" and main([*evaluate, "--captures", captures]) == 0
    assert "my_corpus" in capsys.readouterr().out


def test_clips_have_what_their_rows_say(data):
    ann, happy, bob, cem = read_corpus("my_corpus", data)
    assert present_corpora(data) == ("my_corpus",)
    assert (ann.name, ann.speaker, ann.emotion, ann.split) == (
        "ann_01",
        "my_corpus_ann",
        "neutral",
        "train",
    )
    assert (happy.emotion, cem.split) == ("happy", "dev")
    assert ann.audio == data / "my_corpus" / "audio" / "ann_01.wav"
    np.testing.assert_allclose(ann.time[:3], [0, 0.04, 0.08])
    np.testing.assert_allclose(bob.time[:3], [0.04, 0.08, 0.12])  # its sound is late
    assert ann.landmarks.shape == (50, 68, 2) and ann.mesh_ids is None


def test_stages_use_a_corpus_as_its_manifest_says(data, copy):
    def config(stage, folder, **options):
        return stages._configure(Run(folder, folder / "out"), stage, TrainOptions(**options), 0)

    assert config("capture", data).corpora[-1] == "my_corpus"
    assert dict(config("talking", data).shares)["my_corpus"] == 0.3
    assert dict(config("lips", data, free=True).shares)["my_corpus"] == 0.3
    assert "my_corpus" not in dict(config("talking", data, paper=True).shares)
    assert "my_corpus" not in config("emotion", data).corpora
    (copy / "corpus.toml").write_text('licence = "mine"\nacted = true\nfps = 25\n')
    assert config("emotion", copy.parent).corpora == ("ravdess", "my_corpus")
    assert config("capture", copy.parent, free=True).corpora == ("java_sed",)
    (corpus,) = find_custom_corpora(copy.parent)
    assert (corpus.licence, corpus.any_use, corpus.share) == ("mine", False, 0.2)


def test_acted_emotions_are_learned(copy, tmp_path):
    notices = []
    run = Run(copy.parent, tmp_path / "out", device="cpu", notice=notices.append)
    frames = training_frames(run, ("ravdess", "my_corpus"))
    assert set(frames.emotion) == {EMOTIONS.index("neutral"), EMOTIONS.index("happy")}
    assert len(frames.identity) == 3 and "ravdess" in notices[0]  # without the dev speaker


def test_a_changed_manifest_does_not_make_captures_stale(copy):
    from talkemo.files.cache import corpus_digest

    before = corpus_digest.__wrapped__(copy)
    (copy / "corpus.toml").write_text('licence = "mine"\nfps = 25\nshare = 1\n')
    assert corpus_digest.__wrapped__(copy) == before
    (copy / "clips.tsv").write_text("name\tspeaker\nann_01\tann\n")
    assert corpus_digest.__wrapped__(copy) != before


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("", "it has no licence"),
        ("licence = 3", "it has no licence"),
        ("licence = ", "not a manifest of a corpus"),
        ('licence = "a"\nshares = 1', "unknown key shares"),
        ('licence = "a"\nshare = nan', "share is a number"),
        ('licence = "a"\nshare = "much"', "share is a number"),
        ('licence = "a"\nany_use = "yes"', "any_use is true or false"),
        ('licence = "a"\nfps = 0', "fps is a number"),
    ],
)
def test_an_unusable_manifest_is_refused(copy, manifest, message):
    (copy / "corpus.toml").write_text(manifest)
    with pytest.raises(InputError, match=message) as caught:
        find_custom_corpora(copy.parent)
    assert "corpus.toml" in caught.value.message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../ann_01\tann\ttrain\tneutral", "line 2: '../ann_01' cannot be a clip's name"),
        (".ann\tann\ttrain\tneutral", "cannot be a clip's name"),
        ("ann_01\t\ttrain\tneutral", "ann_01 has no speaker"),
        ("ann_01\tann\tall\tneutral", "unknown split 'all'"),
        ("ann_01\tann\ttrain\tmoody", "unknown emotion 'moody'"),
        ("dan_01\tdan\ttrain\tneutral", "dan_01 has neither landmarks/dan_01.npy nor videos"),
        ("ann_01\tann\ttrain\tneutral\tlate", "sound_delay_s is a number"),
        ("ann_01\tann\ttrain\tneutral\nann_01\tann", "line 3: a second clip called ann_01"),
        ("", "no clips in it"),
    ],
)
def test_an_unusable_row_is_refused_before_any_clip_is_read(copy, row, message, monkeypatch):
    monkeypatch.setattr(custom_corpora, "read_landmark_file", None)
    header = example("tsv").splitlines()[0]
    (copy / "clips.tsv").write_text(f"{header}\n{row}\n" if row else f"{header}\n")
    with pytest.raises(InputError, match=re.escape(message)):
        list(read_corpus("my_corpus", copy.parent))


def test_other_unusable_corpora_are_refused(copy, face):
    (copy / "clips.tsv").write_text("name speaker\nann_01 ann\n")
    with pytest.raises(InputError, match="lacks the columns name, speaker"):
        list(read_corpus("my_corpus", copy.parent))
    (copy / "clips.tsv").write_text("name\tspeaker\nann_01\tann\n")
    (copy / "corpus.toml").write_text('licence = "a"')
    with pytest.raises(InputError, match="no frame rate is known"):
        list(read_corpus("my_corpus", copy.parent))
    (copy.parent / "noise").mkdir()
    (copy.parent / "noise" / "corpus.toml").write_text('licence = "a"')
    with pytest.raises(InputError, match="cannot have this name"):
        find_custom_corpora(copy.parent)


def test_kinds_of_landmarks_are_not_mixed(copy, data):
    (copy / "landmarks").unlink()
    (copy / "landmarks").mkdir()
    for name, points in (("ann_01", 68), ("ann_02", 478)):
        landmarks = np.random.default_rng(0).uniform(100, 300, (4, points, 2))
        np.save(copy / "landmarks" / f"{name}.npy", landmarks)
    (copy / "clips.tsv").write_text("name\tspeaker\nann_01\tann\nann_02\tann\n")
    with pytest.raises(InputError, match="478 landmarks, but 68 in ann_01"):
        list(read_corpus("my_corpus", copy.parent))


def test_videos_are_tracked_once(copy, tmp_path, monkeypatch):
    """Landmarks and frame rate come from the video, and so does the audio if there is no file."""
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path / "cache"))
    points = np.random.default_rng(0).uniform(100, 300, (3, 478, 2)).astype(np.float32)
    tracked = []

    class Tracker:
        def follow(self, frames, number):
            tracked.append(number)
            scores = np.zeros(len(SCORE_NAMES), np.float32)
            yield from (TrackedLandmarks(frame, scores, face_count=1) for frame in frames)

    @contextmanager
    def open_video(path):
        yield Video(20.0, 1.0, (400, 400), 0.0, iter(points))

    monkeypatch.setattr(custom_corpora, "LandmarkTracker", Tracker)
    monkeypatch.setattr(custom_corpora, "open_video", open_video)
    (copy / "videos").mkdir()
    (copy / "videos" / "dan_01.mp4").write_bytes(b"a video")
    (copy / "clips.tsv").write_text("name\tspeaker\ndan_01\tdan\n")
    steps = []
    for _ in range(2):
        (dan,) = read_corpus("my_corpus", copy.parent, lambda *step: steps.append(step))
        np.testing.assert_allclose(dan.landmarks, points)
        np.testing.assert_allclose(dan.time, [0, 0.05, 0.1])
        assert dan.audio == copy / "videos" / "dan_01.mp4" and len(dan.mesh_ids) == 478
    assert tracked == [1] and steps == [(1, 1)] * 2
    (copy / "videos" / "dan_01.mp4").write_bytes(b"another video")
    list(read_corpus("my_corpus", copy.parent))
    assert tracked == [1, 1]


def test_a_tracked_corpus_with_a_manifest_is_a_custom_one(copy):
    """The layout of the known tracked corpora serves for others, too."""
    points = np.full((2, 3, 4), 160, np.int16)
    steps = np.diff(points, axis=-1, prepend=np.int16(0)).astype(np.int16)
    content = io.BytesIO()
    np.save(content, steps)
    (copy / "xyz.npy.xz").write_bytes(lzma.compress(content.getvalue()))
    np.savez(copy / "tracks.npz", clips=["a"], start=[0, 4], index=[1, 5], time=np.arange(4) / 25)
    (copy / "clips.tsv").write_text("name\tspeaker\na\tann\n")
    (recording,) = read_corpus("my_corpus", copy.parent)
    assert (recording.speaker, recording.split) == ("my_corpus_ann", "train")
    np.testing.assert_array_equal(recording.landmarks, np.full((4, 2, 2), 10))
