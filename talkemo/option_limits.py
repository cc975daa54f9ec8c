"""Ranges that options share with the code behind them; imports nothing, so that `--help` is quick."""

MAX_INTENSITY = 1.5  # above 1 an emotion is exaggerated, for faces that are seen from afar
ARTICULATION_RANGE = (0.3, 1.5)  # 1 is as widely as people speak
FPS_LIMITS = (1.0, 240.0)  # frames per second, lowest and highest
IMAGE_SIDE_PIXELS = (64, 4096)  # smallest and largest
FIELD_OF_VIEW_RANGE_DEG = (5.0, 150.0)  # horizontal fields of view that are accepted
SAMPLE_RATE_RANGE = (1000, 1_000_000)  # Hz, lowest and highest rate of a recording
