"""Shared fixtures: the bundled face, the examples, and a synthetic corpus. No network, no GPU."""

import atexit
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

# Read when numpy and torch load. Tests compute little; threads would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile

# Set before talkemo is imported: tests never touch the user's cache.
os.environ["TALKEMO_CACHE"] = tempfile.mkdtemp(prefix="talkemo-tests-")
atexit.register(shutil.rmtree, os.environ["TALKEMO_CACHE"], ignore_errors=True)

from talkemo import Models, load_models  # noqa: E402
from talkemo.binding import Binding, bind_mesh  # noqa: E402
from talkemo.data import captures  # noqa: E402
from talkemo.face.canonical import Face  # noqa: E402
from talkemo.formats.mesh import load_mesh  # noqa: E402

ROOT = Path(__file__).parent.parent
RATE = 16000


@pytest.fixture(scope="session")
def face() -> Face:
    return load_models().face


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


@pytest.fixture(scope="session")
def example_face() -> Path:
    """A bare mask: no eyes, teeth or neck. The example of README, face.obj, is a whole head."""
    return ROOT / "examples" / "mask.obj"


@pytest.fixture(scope="session")
def bound(face, example_face) -> Binding:
    return bind_mesh(face, load_mesh(example_face))


@pytest.fixture(scope="session")
def example_speech() -> Path:
    return ROOT / "examples" / "speech.wav"


@pytest.fixture(scope="session")
def short_speech(tmp_path_factory, example_speech) -> Path:
    """The first 1.5 s of the example speech."""
    samples, rate = soundfile.read(example_speech)
    path = tmp_path_factory.mktemp("audio") / "short.wav"
    soundfile.write(path, samples[: rate * 3 // 2], rate)
    return path


def pytest_collection_modifyitems(items) -> None:
    """Run the slowest files first, so that parallel workers finish at about the same time."""
    longest = ("test_resume", "test_together", "test_bad_inputs", "test_train")
    items.sort(
        key=lambda item: (
            longest.index(item.path.stem) if item.path.stem in longest else len(longest)
        )
    )


@pytest.fixture(scope="session")
def silence(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "silence.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    return path


@pytest.fixture(scope="session")
def corpus(face, tmp_path_factory) -> Path:
    """A synthetic ravdess of two actors: mouths open with a tone, and happy recordings smile."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (data / "ravdess" / "landmarks").mkdir(parents=True)
    for actor in (1, 20):
        (data / "ravdess" / "audio" / f"Actor_{actor:02d}").mkdir(parents=True)
        trials = {}
        for emotion in range(1, 9):
            time = np.arange(40) * 1001 / 30000
            level = np.clip(np.sin(9 * time), 0, 1) * (time > 0.3)
            weights = np.zeros((40, len(face.expression_names)))
            weights[:, face.expression_names.index("jawOpen")] = 0.4 * level
            if emotion == 3:
                for side in "LR":
                    weights[5:, face.expression_names.index(f"mouthSmile_{side}")] = 0.7
            points = (face.mean + face.displacement(weights))[:, face.landmarks68]
            key = f"01-{emotion:02d}-01-01-01-{actor:02d}"
            pixels = points[..., :2] * [1.7, -1.7] + 400 + rng.normal(0, 0.3, (40, 68, 2))
            trials[key] = pixels.round().astype(np.int16)
            if emotion == 8:
                trials[key][20] += 90  # the landmark tracker fails
            samples = np.repeat(level, 534)[: 40 * 534] * np.sin(0.1 * np.arange(40 * 534)) * 0.3
            soundfile.write(
                data / "ravdess" / "audio" / f"Actor_{actor:02d}" / f"{key}.flac", samples, RATE
            )
        np.savez(data / "ravdess" / "landmarks" / f"Actor_{actor:02d}.npz", **trials)
    return data


@pytest.fixture(scope="session")
def fitted(corpus, face, tmp_path_factory) -> tuple[Path, list[captures.FittedRecording]]:
    """A read-only folder with captures/ of the corpus, and the fitted recordings."""
    out = tmp_path_factory.mktemp("run")
    models = load_models(device="cpu")
    result = captures.fit_corpus("ravdess", corpus, models)
    # The surprised one is rejected; another makes all eight emotions available for training.
    sad = next(f for f in result if f.emotion == "sad" and f.split == "train")
    surprised = replace(sad, emotion="surprised", name="spare")
    origin = captures.captures_fingerprint("ravdess", corpus)
    captures.save_captures(out / "captures" / "ravdess.npz", [*result, surprised], face, origin)
    return out, result


@pytest.fixture(scope="session")
def spoken_corpus(corpus, tmp_path_factory) -> Path:
    """The corpus and transcribed utterances."""
    data = tmp_path_factory.mktemp("spoken")
    (data / "ravdess").symlink_to(corpus / "ravdess")
    (data / "speech").mkdir()
    lines = ["file\tset\tspeaker\tseconds\ttext\tlicence"]
    for name in "abc":
        soundfile.write(
            data / "speech" / f"{name}.flac", 0.1 * np.sin(np.arange(24000) / (9 + ord(name))), RATE
        )
        lines.append(f"{name}.flac\tmade\tup\t1.5\tHello there, {name}!\tnone")
    (data / "speech" / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    return data


def random_weights(face: Face, rng: np.random.Generator, count: int) -> np.ndarray:
    """Sparse blend-shape weights (count, S), as of real faces."""
    return rng.random((count, len(face.expression_names))) * (
        rng.random((count, len(face.expression_names))) < 0.15
    )
