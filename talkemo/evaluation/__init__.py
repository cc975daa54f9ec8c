"""How good it is: two animations compared (compare.py), and the models on recordings that training never sees.

The dev split is ravdess actors 20, 21, 23 and 24, every tenth grid_s1 clip, and the `dev` rows of talking and java_sed.
lips.py measures the talking model on it, emotion.py emotion transfer, geomap.py the geometry map.
"""
