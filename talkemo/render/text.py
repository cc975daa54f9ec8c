"""Lines of text in images, in a font of this machine that has their characters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

# Files that Pillow looks for in the folders of the system's fonts, for what its own font lacks.
FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "PingFang.ttc",
)
MISSING = "\U0010ffff"  # a character that no font has
LINE_FRACTION, MIN_FONT_PX, LEAST_FONT_PX = 22, 12, 8  # of an image's height; and the limits
MAX_TEXT_WIDTH = 0.94  # of the image


def draw_text(image: np.ndarray, text: str, at_top: bool) -> None:
    """Write a centred line into an image (H, W, 3) uint8."""
    from PIL import Image, ImageDraw

    text = " ".join(text.split())
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    size = max(MIN_FONT_PX, height // LINE_FRACTION)
    font = _font_for(text, size)
    while size > LEAST_FONT_PX and pen.textlength(text, font=font) > MAX_TEXT_WIDTH * width:
        size -= 1
        font = _font_for(text, size)
    position = (width / 2, size if at_top else height - size)
    style = {"fill": (236, 236, 236), "stroke_width": 2, "stroke_fill": (24, 26, 30)}
    pen.text(position, text, font=font, anchor="mm", **style)  # type: ignore[arg-type]
    image[:] = np.array(canvas)


def is_drawable(text: str) -> bool:
    """Return whether a font of this machine has all characters of a text."""
    return _lacking(_font_for(text, MIN_FONT_PX), text) == 0


@lru_cache(maxsize=64)
def _font_for(text: str, size: int) -> Any:
    """Return the font that has the most characters of a text."""
    from PIL import ImageFont

    best = ImageFont.load_default(size)
    if text.isascii():
        return best
    for name in FONT_FILES:
        if not _lacking(best, text):
            break
        try:
            font = ImageFont.truetype(name, size)
        except OSError:  # it is not installed
            continue
        best = min(best, font, key=lambda one: _lacking(one, text))
    return best


def _lacking(font: Any, text: str) -> int:
    """Return how many different characters of a text a font lacks."""
    blank = _shape(font, MISSING)
    return sum(not c.isspace() and _shape(font, c) == blank for c in set(text))


def _shape(font: Any, character: str) -> tuple[Any, bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
