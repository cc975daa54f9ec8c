"""Draw the images of docs/gallery.md.

    python examples/gallery.py [FACE...] [-o out]

renderers.jpg has eight emotions on each head, by both renderers; heads.jpg each head at rest and
at five moments of a sentence; timeline.jpg a sentence with changing emotions. Without FACE the
example face is drawn. On a machine without EGL and OSMesa, the rows of OpenGL are left out.
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
from talkemo import Models
from talkemo.audio.recording import open_audio
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import one_hot
from talkemo.render import Renderer, gl_platform
from talkemo.render.appearance import appearance_of
from talkemo.render.gl import GLRenderer
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

EXAMPLES = Path(__file__).parent
GALLERY_IMAGE_SIZE = (180, 200)  # pixels
EMOTION_MOMENT_S = 3.4  # of the sentence, drawn with each emotion
SENTENCE_MOMENTS_S = (0.35, 1.0, 2.1, 3.4, 5.2)  # drawn of every head
TIMELINE = "0 2 happy\n2 4.5 surprised\n4.5 9 angry\n"


def main() -> None:
    """Parse the command line and draw the images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", nargs="*", metavar="FACE", default=[EXAMPLES / "face.obj"])
    parser.add_argument("-o", "--output", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    models = talkemo.load_models()
    renderers, heads = draw_heads(options.faces, models)
    save(renderers, options.output / "renderers.jpg")
    save(heads, options.output / "heads.jpg")
    save(draw_timeline(models), options.output / "timeline.jpg")


def draw_heads(faces: list[Path], models: Models) -> tuple[np.ndarray, np.ndarray]:
    """Each head with every emotion by both renderers, and each head while it speaks."""
    audio = open_audio(EXAMPLES / "speech.wav")
    moment = models.talking.motion(audio, np.array([EMOTION_MOMENT_S]))
    sentence = models.talking.motion(audio, np.array(SENTENCE_MOMENTS_S))
    emotions = [
        with_emotion(models.emotion, moment, amounts, models.face)
        for amounts in (one_hot(name)[None] for name in talkemo.EMOTIONS)
    ]
    emotion_rows, head_rows, platform = [], [], gl_platform()
    for face in faces:
        binding = talkemo.bind(face, models=models)
        camera = frame_view(binding.rest, binding.focus, facing=binding.placement.rotation)
        appearance = appearance_of(binding)
        software = SoftwareRenderer(appearance, camera, GALLERY_IMAGE_SIZE)
        drawers: list[Renderer] = [software]
        if platform is not None:
            drawers.append(GLRenderer(appearance, camera, GALLERY_IMAGE_SIZE, platform))
        speaking = [binding.rest, *binding.vertices(sentence.coordinates)]
        head_rows.append(np.hstack([software.draw(vertices) for vertices in speaking]))
        frames = [binding.vertices(motion.coordinates)[0] for motion in emotions]
        for renderer in drawers:
            emotion_rows.append(np.hstack([renderer.draw(vertices) for vertices in frames]))
            renderer.close()
    return np.vstack(emotion_rows), np.vstack(head_rows)


def draw_timeline(models: Models) -> np.ndarray:
    """A contact sheet of the example sentence with the emotions of TIMELINE."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timeline, animation, sheet = (
            folder / file for file in ("timeline.txt", "talk.npz", "sheet.png")
        )
        timeline.write_text(TIMELINE)
        talkemo.animate(
            EXAMPLES / "face.obj",
            EXAMPLES / "speech.wav",
            animation,
            timeline=timeline,
            models=models,
        )
        command = [sys.executable, "-m", "talkemo_cli", "render", str(animation), "--sheet"]
        command += ["--size", "240", "-o", str(sheet)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return imageio.imread(sheet)[..., :3]


def save(image: np.ndarray, path: Path) -> None:
    """Write an image and print its path."""
    Image.fromarray(image).save(path, quality=88)
    print(path)


if __name__ == "__main__":
    main()
