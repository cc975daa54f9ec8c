"""Names of units of length, in a module without numpy: the command line starts sooner."""

AUTO_UNIT, UNKNOWN_UNIT = "auto", "unknown"
METRES_PER_UNIT = {"mm": 1e-3, "cm": 1e-2, "dm": 1e-1, "m": 1.0, "in": 0.0254}
UNIT_CHOICES = (AUTO_UNIT, *METRES_PER_UNIT)
