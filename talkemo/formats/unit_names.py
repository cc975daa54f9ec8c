"""Names of units of length; apart from `units`, which needs numpy, for the command line's start."""

AUTO_UNIT, UNKNOWN_UNIT = "auto", "unknown"
METRES_PER_UNIT = {"mm": 1e-3, "cm": 1e-2, "dm": 1e-1, "m": 1.0, "in": 0.0254}
UNIT_CHOICES = (AUTO_UNIT, *METRES_PER_UNIT)
