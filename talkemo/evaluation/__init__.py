"""Measuring animations, and the models on recordings that training never sees.

compare.py compares two animations. On the recordings of a split, lips.py measures the talking
model, emotion.py emotion transfer, and map_error.py the geometry map.

The dev split is ravdess actors 20, 21, 23 and 24, every tenth grid_s1 clip, the `dev` rows of
talking, arabic_news and java_sed, and a take of facegood.
"""
