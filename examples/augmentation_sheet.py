"""Draws docs/augmentation.png: what the augmentation of emotions adds, on three people of the face model.

python examples/augmentation_sheet.py [OUT.png]
"""

import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

import talkemo
from talkemo.data.augmentation import EXPRESSIONS, augment
from talkemo.render.look import canonical_look
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view
from talkemo.train.emotion import EmotionConfig

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "augmentation.png"
face = talkemo.load_models().face
calm = face.expression_weights(np.zeros(len(face.expression_names)))
weight = EmotionConfig().augmentation
rows = []
for person in np.random.default_rng(4).standard_normal((3, 30)):
    neutral = face.vertices(calm, face.identity_weights(person))
    renderer = SoftwareRenderer(canonical_look(face, neutral), frame_view(face.mean), (180, 196))
    columns = [neutral]
    for emotion in EXPRESSIONS:
        moved = augment(face, np.zeros((1, *neutral.shape), np.float32), emotion, neutral[face.landmarks68], weight)
        columns.append(neutral + moved[0])
    rows.append(np.hstack([renderer.draw(vertices) for vertices in columns]))
target.parent.mkdir(exist_ok=True)
imageio.imwrite(target, np.vstack(rows))
print(target)
