"""Makes examples/face.obj and examples/speech.wav again.

The face is sampled from talkemo's own bilinear model; the speech is spoken by espeak-ng, a free synthesiser, which has
to be installed (Debian: apt install espeak-ng).

    python examples/make_examples.py
"""

import subprocess
from pathlib import Path

import numpy as np

import talkemo
from talkemo.formats.obj import save_obj

SENTENCE = "Hello! My name is Emma. A big brown map of Bombay is on the table, and I am very happy to show you what I found."

here = Path(__file__).parent
face = talkemo.load_models().face
identity = face.identity_weights(np.random.default_rng(11).standard_normal(30) * 0.6)
save_obj(here / "face.obj", face.vertices(face.expression_factor[0], identity), face.faces)
subprocess.run(
    ["espeak-ng", "-v", "en-us+f3", "-s", "140", "-w", str(here / "speech.wav"), SENTENCE],
    check=True,
)
