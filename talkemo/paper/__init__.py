"""Reproduction of the tables and figures of the paper (3D-TalkEmo) with this project's models."""

PAPER_SEEDS = 3  # trainings of each variant of a table, by default
