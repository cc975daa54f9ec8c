"""The scale of a heat map: a bar of its colours, with the distances that they stand for."""

from __future__ import annotations

import numpy as np

BAR_HEIGHT, BAR_WIDTH, MARGIN = 0.4, 0.03, 0.03  # fractions of the image's height
TEXT_HEIGHT, MIN_TEXT_PX = 0.036, 9  # fraction of the image's height; pixels
TEXT_COLOUR, OUTLINE_COLOUR = (236, 236, 236), (24, 26, 30)  # RGB


def draw_scale(image: np.ndarray, colours: np.ndarray, label: str) -> None:
    """Draw a scale at the right of an image (H, W, 3) uint8, in place.

    Parameters
    ----------
    image : (H, W, 3) uint8
    colours : (K, 3) uint8
        From no distance to the largest.
    label : str
        What the last colour stands for.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    bar_height, bar_width = round(BAR_HEIGHT * height), max(4, round(BAR_WIDTH * height))
    top, left = (height - bar_height) // 2, width - bar_width - round(MARGIN * height)
    rows = np.linspace(len(colours) - 1, 0, bar_height).round().astype(int)
    image[top : top + bar_height, left : left + bar_width] = colours[rows][:, None]
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(MIN_TEXT_PX, round(TEXT_HEIGHT * height)))
    style = {"fill": TEXT_COLOUR, "stroke_width": 2, "stroke_fill": OUTLINE_COLOUR, "font": font}
    pen.rectangle(
        [left - 1, top - 1, left + bar_width, top + bar_height], outline=OUTLINE_COLOUR, width=1
    )
    end = left + bar_width
    pen.text((end, top - 4), label, anchor="rd", **style)  # type: ignore[arg-type]
    pen.text((end, top + bar_height + 4), "0", anchor="ra", **style)  # type: ignore[arg-type]
    image[:] = np.array(canvas)
