"""Draw heads with each emotion in one frame of the example sentence: a row for a head.

python examples/contact_sheet.py FACE... [--view three-quarter] [--size 512] [-o out/heads.png]
"""

import argparse
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

import talkemo
from talkemo.audio.recording import open_audio
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import one_hot
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import VIEWS, frame_view

MOMENT_S = 3.4  # lips are slightly apart

folder = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("faces", type=Path, nargs="+", metavar="FACE")
parser.add_argument("--view", choices=VIEWS, default="front")
parser.add_argument("--size", type=int, default=512, help="pixels on each side of an image")
parser.add_argument("--intensity", type=float, default=1.0)
parser.add_argument("-o", "--output", type=Path, default=Path("out/heads.png"))
options = parser.parse_args()

models = talkemo.load_models()
spoken = models.talking.motion(open_audio(folder / "speech.wav"), np.array([MOMENT_S]))
rows = []
for path in options.faces:
    binding = talkemo.bind(path, models=models)
    facing = binding.placement.rotation
    camera = frame_view(binding.mesh.vertices, binding.focus, options.view, facing)
    renderer = SoftwareRenderer(appearance_of(binding), camera, (options.size, options.size))
    images = []
    for name in talkemo.EMOTIONS:
        amounts = options.intensity * one_hot(name)[None]
        motion = with_emotion(models.emotion, spoken, amounts, models.face)
        images.append(renderer.draw(binding.vertices(motion.coordinates)[0]))
    renderer.close()
    rows.append(np.hstack(images))
options.output.parent.mkdir(parents=True, exist_ok=True)
imageio.imwrite(options.output, np.vstack(rows))
print(options.output)
