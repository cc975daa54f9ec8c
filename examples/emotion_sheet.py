"""Draws docs/emotions.png: the example face at five moments of the example sentence, a row an emotion.

python examples/emotion_sheet.py [FACE] [OUT.png]
"""

import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from talkemo import speech
from talkemo.binding import bind
from talkemo.emotion import load_emotion, parse_emotion
from talkemo.face import load_face
from talkemo.mesh import load_mesh
from talkemo.render import frame_view
from talkemo.render.software import SoftwareRenderer
from talkemo.talking import load_talking

EMOTIONS = ("neutral", "happy", "angry", "surprised", "sad")
MOMENTS = (0.35, 1.0, 2.1, 3.4, 5.2)  # s

here = Path(__file__).parent
source = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "face.obj"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else here.parent / "docs" / "emotions.png"
face = load_face()
talking, emotion = load_talking(face), load_emotion(face)
audio = speech.open_audio(here / "speech.wav")
neutral = talking.displacement(audio, np.array(MOMENTS))
mesh = load_mesh(source)
binding = bind(face, mesh)
camera = frame_view(mesh.vertices, binding.focus, facing=binding.placement.rotation)
renderer = SoftwareRenderer(mesh.faces, camera, (200, 216))
rows = []
for name in EMOTIONS:
    displacement = neutral if name == "neutral" else emotion.transfer(neutral, parse_emotion(name))
    rows.append(np.hstack([renderer.draw(vertices) for vertices in binding.apply(displacement)]))
target.parent.mkdir(exist_ok=True)
imageio.imwrite(target, np.vstack(rows))
print(target)
