"""What the tests share: the bundled face, the examples, sounds made on the spot. No network, no GPU, no corpora."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from talkemo.face import Face, load_face

ROOT = Path(__file__).parent.parent
RATE = 16000


@pytest.fixture(scope="session")
def face() -> Face:
    return load_face()


@pytest.fixture(scope="session")
def example_face() -> Path:
    return ROOT / "examples" / "face.obj"


@pytest.fixture(scope="session")
def example_speech() -> Path:
    return ROOT / "examples" / "speech.wav"


@pytest.fixture(scope="session")
def short_speech(tmp_path_factory, example_speech) -> Path:
    """The first second and a half of the example."""
    samples, rate = soundfile.read(example_speech)
    path = tmp_path_factory.mktemp("sound") / "short.wav"
    soundfile.write(path, samples[: rate * 3 // 2], rate)
    return path


@pytest.fixture(scope="session")
def silence(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "silence.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    return path


def random_shapes(face: Face, rng: np.random.Generator, count: int) -> np.ndarray:
    """Sparse blend-shape weights (count, S), as a face has them."""
    return rng.random((count, len(face.expression_names))) * (rng.random((count, len(face.expression_names))) < 0.15)
