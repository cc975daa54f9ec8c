"""How long tests wait for another process: long enough for any machine, so that none asserts a time."""

HANG_S = 900.0  # s after which a process counts as one that hangs
