"""Any mesh ↔ the canonical face.

registration.py lays the canonical face over the mesh. Skin that it lies on takes its motion from there, in the
proportions of the mesh: a wide mouth opens wide (skin.py). Between that skin and what is still, inside the mouth and
behind the rim of the face, motion is harmonic over the mesh's own edges (body.py). Other parts are recognised by where
they are: eyeballs and upper teeth stay, lower teeth and tongue follow the jaw, lashes and brows the skin, hair and
clothes do not move (parts.py, mouth.py). The result is a `Binding`, which files.py saves and cache.py remembers.
"""

from .bind import FaceHint, bind_with_hint, bind_mesh
from .binding import Binding
from .files import load_binding, save_binding

__all__ = ["Binding", "FaceHint", "bind_hinted", "bind_mesh", "load_binding", "save_binding"]
