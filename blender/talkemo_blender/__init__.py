"""talkemo in Blender: a face speaks a recording with an emotion.

The add-on passes the selected mesh to the program `talkemo`, and writes what comes back as shape
keys, an action, a turning head and a sound strip. It uses Blender's Python, numpy and the standard
library alone.
"""

bl_info = {  # read by Blender before 4.2; later ones read blender_manifest.toml
    "name": "talkemo",
    "description": "Make a face speak a recording with an emotion",
    "author": "talkemo",
    "version": (0, 2, 0),
    "blender": (3, 3, 0),
    "location": "3D View > Sidebar > talkemo",
    "category": "Animation",
}


def register() -> None:
    """Add the panel, the operators and the settings; called by Blender."""
    from . import interface

    interface.register()


def unregister() -> None:
    """Take away what `register` added, and end what runs."""
    from . import interface

    interface.unregister()
