"""What the user sets: in the panel for a scene, in the preferences for the add-on."""

# mypy: disable-error-code="valid-type"
# Blender reads properties from annotations that are calls.

import sys
from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
MAX_INTENSITY = 1.5
# Enumerations: identifier, name, description.
KEYS = (
    ("AUTO", "Automatic", "Drive the object's own keys if it has most of ARKit's, else make keys"),
    ("MAKE", "Make shape keys", "Write ARKit's 52 blend shapes as shape keys of the objects"),
    ("OWN", "Drive my own keys", "Animate the keys that have ARKit's names, and change no mesh"),
)
HEAD = (
    ("AUTO", "Automatic", "Rotate the head's bone if there is an armature with one, else an empty"),
    ("BONE", "Bone", "Rotate the bone of the head in the character's armature"),
    ("EMPTY", "Empty", "Rotate an empty at the neck that turns the mesh by a hook modifier"),
    ("OFF", "Still", "The head does not move"),
)
DEVICES = (
    ("auto", "Automatic", "A CUDA GPU if there is one, else the processor"),
    ("cpu", "Processor", "The processor"),
    ("cuda", "CUDA GPU", "An NVIDIA GPU"),
)


class TALKEMO_PG_settings(bpy.types.PropertyGroup):
    """The settings of a scene."""

    sound: StringProperty(
        name="Sound", subtype="FILE_PATH", description="Speech: wav, flac, ogg, opus, mp3 or m4a"
    )
    emotion: EnumProperty(
        name="Emotion", items=[(name, name.capitalize(), "") for name in EMOTIONS]
    )
    intensity: FloatProperty(
        name="Strength",
        default=1.0,
        min=0.0,
        max=MAX_INTENSITY,
        subtype="FACTOR",
        description="Of the emotion, or of all in the timeline: 0 is none, 1 full",
    )
    timeline: StringProperty(
        name="Timeline",
        subtype="FILE_PATH",
        description="Instead of one emotion: a text file with a line 'start end emotion intensity' "
        "for each span, in seconds",
    )
    style: StringProperty(
        name="Style",
        description="Speaking style: empty for the default, or a name that 'talkemo styles' lists",
    )
    device: EnumProperty(name="Device", items=DEVICES, description="Where networks run")
    keys: EnumProperty(name="Keys", items=KEYS)
    head: EnumProperty(name="Head", items=HEAD)
    frame: IntProperty(name="First Frame", default=1, description="Where the sound begins")
    add_sound: BoolProperty(
        name="Sound Strip",
        default=True,
        description="Add the sound to the sequencer, and play the scene in time with it",
    )
    fill: BoolProperty(
        name="Missing Parts",
        description="Add eyes, teeth, tongue and the inside of the mouth, as objects, if the "
        "selected objects lack them",
    )
    more: StringProperty(
        name="Options",
        description="Further options of 'talkemo animate', such as --seed 2 --up z --forward -y",
    )


class TALKEMO_AP_preferences(bpy.types.AddonPreferences):
    """The settings of the add-on."""

    bl_idname = __package__

    command: StringProperty(
        name="talkemo",
        subtype="FILE_PATH",
        description="The program talkemo, or the virtual environment with it; if empty, the one "
        "that the button below installs, or that is found on PATH",
    )
    source: StringProperty(
        name="Install From",
        subtype="FILE_PATH",
        description="A folder with talkemo's source, or a wheel",
    )
    pip_options: StringProperty(
        name="Options of pip", description="For example --index-url for a build of PyTorch"
    )

    def draw(self, context: Any) -> None:
        """Draw the preferences; called by Blender."""
        from .interface import draw_preferences

        draw_preferences(self, context)


def preferences(context: Any) -> Any:
    """Return the add-on's preferences."""
    return context.preferences.addons[__package__].preferences


def own_folder() -> Path:
    """Return the folder for the add-on's own installation of talkemo; it survives updates."""
    if hasattr(bpy.utils, "extension_path_user") and __package__.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(__package__, path="environment"))
    return Path(bpy.utils.user_resource("DATAFILES", path="talkemo")) / "environment"


def install_source(context: Any) -> str:
    """Return what talkemo is installed from: as set, or the wheel in the add-on; or nothing."""
    stated = bpy.path.abspath(preferences(context).source)
    wheels = sorted(Path(__file__).parent.glob("talkemo-*.whl"))
    return stated or (str(wheels[-1]) if wheels else "")


def python_program() -> str:
    """Return the Python that makes virtual environments: Blender's own."""
    if "python" in Path(sys.executable).stem.lower():
        return sys.executable
    folder = Path(sys.prefix) / ("" if sys.platform == "win32" else "bin")
    found = sorted(folder.glob("python.exe" if sys.platform == "win32" else "python3*"))
    return str(found[0]) if found else "python3"


CLASSES = (TALKEMO_PG_settings, TALKEMO_AP_preferences)


def register() -> None:
    """Register the settings."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.talkemo = PointerProperty(type=TALKEMO_PG_settings)


def unregister() -> None:
    """Take the settings away."""
    del bpy.types.Scene.talkemo
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
