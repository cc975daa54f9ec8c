"""Draws docs/emotions.png: the example face at five moments of the example sentence, a column an emotion.

python examples/emotion_sheet.py [FACE] [OUT.png]
"""

import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

import talkemo
from talkemo.audio.recording import open_audio
from talkemo.expression.emotions import one_hot
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

MOMENTS = (0.35, 1.0, 2.1, 3.4, 5.2)  # s

here = Path(__file__).parent
source = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "face.obj"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else here.parent / "docs" / "emotions.png"
models = talkemo.load_models()
neutral = models.talking.motion(open_audio(here / "speech.wav"), np.array(MOMENTS))
binding = talkemo.bind(source, models=models)
mesh = binding.mesh
camera = frame_view(mesh.vertices, binding.focus, facing=binding.placement.rotation)
renderer = SoftwareRenderer(appearance_of(binding), camera, (180, 196))
columns = []
for name in talkemo.EMOTIONS:
    motion = models.emotion.transfer(neutral, one_hot(name))
    columns.append(
        np.vstack([renderer.draw(vertices) for vertices in binding.vertices(motion.coordinates)])
    )
target.parent.mkdir(exist_ok=True)
imageio.imwrite(target, np.hstack(columns))
print(target)
