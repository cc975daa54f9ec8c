"""talkemo makes a 3D face speak a recorded sentence with an emotion.

Arrays are numpy, lengths millimetres on the canonical face, time seconds; see the modules for shapes.
Importing this package is cheap: torch, trimesh and the renderers load inside the functions that need them.
"""

from .errors import InputError, TalkemoError

__version__ = "0.1.0"
__all__ = ["InputError", "TalkemoError", "__version__"]
