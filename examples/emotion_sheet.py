"""Draw a face at five moments of the example sentence, one column per emotion.

python examples/emotion_sheet.py [FACE] [OUT.png]      (by default out/emotions.png)
"""

import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

import talkemo
from talkemo.audio.recording import open_audio
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import one_hot
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

MOMENTS_S = (0.35, 1.0, 2.1, 3.4, 5.2)
SHEET_IMAGE_SIZE = (180, 196)  # pixels

folder = Path(__file__).parent
source = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "face.obj"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("out/emotions.png")

models = talkemo.load_models()
neutral = models.talking.motion(open_audio(folder / "speech.wav"), np.array(MOMENTS_S))
binding = talkemo.bind(source, models=models)
camera = frame_view(binding.mesh.vertices, binding.focus, facing=binding.placement.rotation)
renderer = SoftwareRenderer(appearance_of(binding), camera, SHEET_IMAGE_SIZE)
columns = []
for name in talkemo.EMOTIONS:
    amounts = one_hot(name)[None]
    motion = with_emotion(models.emotion, neutral, amounts, models.face)
    frames = binding.vertices(motion.coordinates)
    columns.append(np.vstack([renderer.draw(vertices) for vertices in frames]))
target.parent.mkdir(parents=True, exist_ok=True)
imageio.imwrite(target, np.hstack(columns))
print(target)
