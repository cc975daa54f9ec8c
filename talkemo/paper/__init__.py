"""The tables and figures of the paper (3D-TalkEmo), made anew with this project's models, and its PointNet generator."""

SEEDS = 3  # how often a table trains each variant, unless another number is asked for
