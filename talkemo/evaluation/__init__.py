"""How good it is: two animations compared (compare.py), and the models on recordings that training never sees.

The dev split is ravdess actors 20, 21, 23 and 24, every tenth grid_s1 clip, the `dev` rows of talking, arabic_news
and java_sed, and a take of facegood.
lips.py measures the talking model on it, emotion.py emotion transfer, geomap.py the geometry map.
"""
