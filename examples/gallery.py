"""Draws docs/renderers.jpg, eight emotions on several heads by both renderers, docs/heads.jpg and docs/timeline.jpg.

python examples/gallery.py [FACE...] [-o docs]

Without FACE it is the example alone. GL needs EGL or OSMesa, with or without a GPU.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image

import talkemo
from talkemo.audio.recording import open_audio
from talkemo.expression.emotions import one_hot
from talkemo.render import gl_platform
from talkemo.render.appearance import appearance_of
from talkemo.render.gl import GLRenderer
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

MOMENT, SIZE = 3.4, (180, 200)  # s, and pixels of a picture
MOMENTS = (0.35, 1.0, 2.1, 3.4, 5.2)  # s, of the sentence that every head speaks
TIMELINE = "0 2 happy\n2 4.5 surprised\n4.5 9 angry\n"

here = Path(__file__).parent
parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("faces", nargs="*", default=[here / "face.obj"])
parser.add_argument("-o", "--output", type=Path, default=here.parent / "docs")
arguments = parser.parse_args()

models = talkemo.load_models()
spoken = models.talking.motion(open_audio(here / "speech.wav"), np.array([MOMENT]))
sentence = models.talking.motion(open_audio(here / "speech.wav"), np.array(MOMENTS))
rows, heads = [], []
for face in arguments.faces:
    binding = talkemo.bind(face, models=models)
    camera = frame_view(binding.rest, binding.focus, facing=binding.placement.rotation)
    shown = [
        models.emotion.transfer(spoken, one_hot(name)).coordinates for name in talkemo.EMOTIONS
    ]
    frames = [binding.vertices(coordinates)[0] for coordinates in shown]
    appearance = appearance_of(binding)
    gl = GLRenderer(appearance, camera, SIZE, gl_platform() or "egl")
    drawing = SoftwareRenderer(appearance, camera, SIZE)
    speaking = [binding.rest, *binding.vertices(sentence.coordinates)]
    heads.append(np.hstack([drawing.draw(vertices) for vertices in speaking]))
    for renderer in (drawing, gl):
        rows.append(np.hstack([renderer.draw(vertices) for vertices in frames]))
        renderer.close()
Image.fromarray(np.vstack(rows)).save(arguments.output / "renderers.jpg", quality=88)
print(arguments.output / "renderers.jpg")
Image.fromarray(np.vstack(heads)).save(arguments.output / "heads.jpg", quality=88)
print(arguments.output / "heads.jpg")

with tempfile.TemporaryDirectory() as folder:
    moods, made, sheet = (Path(folder) / name for name in ("moods.txt", "talk.npz", "sheet.png"))
    moods.write_text(TIMELINE)
    talkemo.animate(here / "face.obj", here / "speech.wav", made, timeline=moods, models=models)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "talkemo_cli",
            "render",
            made,
            "--sheet",
            "--size",
            "240",
            "-o",
            sheet,
        ],
        check=True,
    )
    Image.fromarray(imageio.imread(sheet)[..., :3]).save(
        arguments.output / "timeline.jpg", quality=88
    )
print(arguments.output / "timeline.jpg")
