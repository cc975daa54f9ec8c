"""Make examples/mask.obj and examples/speech.wav again.

    python examples/make_examples.py [FOLDER]      (by default out)

The mask is sampled from talkemo's bilinear model. The speech is synthesised by espeak-ng, which
must be installed (Debian: apt install espeak-ng).
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

import talkemo
from talkemo.formats.obj import save_obj

SENTENCE = (
    "Hello! My name is Emma. A big brown map of Bombay is on the table, "
    "and I am very happy to show you what I found."
)

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
folder.mkdir(parents=True, exist_ok=True)
face = talkemo.load_models().face
identity = face.identity_weights(np.random.default_rng(11).standard_normal(30) * 0.6)
neutral = face.expression_factor[0]
save_obj(folder / "mask.obj", face.vertices(neutral, identity), face.faces)
subprocess.run(
    ["espeak-ng", "-v", "en-us+f3", "-s", "140", "-w", str(folder / "speech.wav"), SENTENCE],
    check=True,
)
