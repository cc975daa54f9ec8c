"""Names of the choices between ARKit's blend shapes and the character's own, without numpy."""

TARGET_CHOICES = ("auto", "own", "arkit", "both")
OWN_CURVES = "own"  # the kind of curves of the character's own blend shapes
