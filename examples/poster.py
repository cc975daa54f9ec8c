"""Draw the moving image at the top of README and documentation: eight emotions, in a loop.

    python examples/poster.py [FACE] [-o docs/poster.webp]

FACE is examples/face.obj by default. The image shows what `talkemo animate` writes as videos.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

import talkemo
from talkemo import Binding, ExportOptions, Models
from talkemo.files.writing import atomic_write
from talkemo.video.reader import open_video

EXAMPLES = Path(__file__).parent
SENTENCE_END_S = 2.35  # of "Hello! My name is Emma.", in examples/speech.wav
POSTER_FPS = 10.0
TILE_SIZE = (184, 208)  # pixels
COLUMNS = 4
CAPTION_PIXELS, CAPTION_COLOUR = 15, (232, 232, 230)
BLENDED_FRAMES = 3  # at the end, which fade to the first frame, so that the loop has no jump
MAX_POSTER_BYTES = 600_000
QUALITIES = range(88, 20, -8)  # of the webp; the first with which it is small enough is taken


def main() -> None:
    """Parse the command line and draw the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("face", nargs="?", type=Path, metavar="FACE", default=EXAMPLES / "face.obj")
    parser.add_argument("-o", "--output", type=Path, default=EXAMPLES.parent / "docs/poster.webp")
    options = parser.parse_args()
    models = talkemo.load_models()
    binding = talkemo.bind(options.face, models=models)
    tiles = [looped(speaking(binding, name, models)) for name in talkemo.EMOTIONS]
    save_poster(options.output, poster_frames(tiles, talkemo.EMOTIONS))
    print(options.output)


def speaking(binding: Binding, emotion: str, models: Models) -> np.ndarray:
    """Return the frames (T, H, W, 3) of a video in which a face says the first sentence."""
    samples, rate = soundfile.read(EXAMPLES / "speech.wav", dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "talk.mp4"
        talkemo.animate(
            binding,
            (samples[: round(SENTENCE_END_S * rate)], rate),
            video,
            emotion=emotion,
            fps=POSTER_FPS,
            export=ExportOptions(size=TILE_SIZE),
            models=models,
        )
        with open_video(video) as opened:
            return np.stack(list(opened.frames))


def looped(frames: np.ndarray) -> np.ndarray:
    """Return frames (T, H, W, 3) whose last ones fade to the first."""
    share = np.arange(1, BLENDED_FRAMES + 1)[:, None, None, None] / (BLENDED_FRAMES + 1)
    last = (1 - share) * frames[-BLENDED_FRAMES:] + share * frames[0]
    return np.concatenate([frames[:-BLENDED_FRAMES], last.round().astype(np.uint8)])


def poster_frames(tiles: Sequence[np.ndarray], captions: Sequence[str]) -> list[Image.Image]:
    """Return the frames of the image: the tiles (T, H, W, 3) in rows, each with its caption."""
    width, height = TILE_SIZE
    font = ImageFont.load_default(CAPTION_PIXELS)
    frames = []
    for k in range(min(map(len, tiles))):
        rows = [
            np.hstack([tile[k] for tile in tiles[first : first + COLUMNS]])
            for first in range(0, len(tiles), COLUMNS)
        ]
        frame = Image.fromarray(np.vstack(rows))
        draw = ImageDraw.Draw(frame)
        for number, caption in enumerate(captions):
            place = (number % COLUMNS + 0.5) * width, (number // COLUMNS + 1) * height - 6
            draw.text(
                place,
                caption,
                CAPTION_COLOUR,
                font,
                anchor="ms",
                stroke_width=2,
                stroke_fill=(38, 40, 44),
            )
        frames.append(frame)
    return frames


def save_poster(path: Path, frames: list[Image.Image]) -> None:
    """Write the frames as a webp that loops, in the best quality of QUALITIES that is small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in QUALITIES:
        with atomic_write(path) as partial:
            frames[0].save(
                partial,
                "WEBP",
                save_all=True,
                append_images=frames[1:],
                duration=round(1000 / POSTER_FPS),
                loop=0,
                quality=quality,
                method=6,
            )
        if path.stat().st_size <= MAX_POSTER_BYTES:
            return


if __name__ == "__main__":
    main()
