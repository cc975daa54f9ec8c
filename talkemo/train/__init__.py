"""Training: one module per stage, and the loop, checkpoints and records that they share."""
