"""The sound as a strip of the sequencer, and the range and playback of the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MARK = "talkemo"  # custom property of strips that the add-on made: the object that speaks


def add_sound(scene: Any, path: str, frame: int, speaker: str) -> str:
    """Add a sound strip on the first free channel; an earlier one is replaced.

    `speaker`: the name of the object that speaks; each has one strip. Returns a remark for the
    user, empty if all went well.
    """
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    for strip in list(strips):
        if strip.get(MARK) == speaker:
            strips.remove(strip)
    taken = {strip.channel for strip in strips}
    channel = next(number for number in range(1, 129) if number not in taken or number == 128)
    try:
        strip = strips.new_sound(Path(path).stem, path, channel, frame)
    except RuntimeError as error:  # a Blender without sound, or a file that it cannot read
        return f"no sound strip: {str(error).strip().removeprefix('Error: ')}"
    strip[MARK] = speaker
    scene.sync_mode = "AUDIO_SYNC"  # drops frames instead of losing the lips' time
    return ""


def extend_scene(scene: Any, last_frame: int) -> None:
    """Let the scene end no earlier than a frame."""
    scene.frame_end = max(scene.frame_end, last_frame)
