"""The options of animate, stream, transfer, reconstruct, render and batches, in groups.

`talkemo --help` imports this module, so nothing here may load numpy, torch or a renderer.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..binding.hint import FaceHint
from ..compute.devices import DEVICES
from ..errors import InputError
from ..expression.emotion_names import AUTO_EMOTION, EMOTIONS
from ..formats.registry import ARRAY_KINDS, CURVE_KINDS, SEQUENCE_MESH_TYPES
from ..formats.target_names import TARGET_CHOICES
from ..formats.unit_names import AUTO_UNIT, UNIT_CHOICES
from ..option_limits import (
    ARTICULATION_RANGE,
    FIELD_OF_VIEW_RANGE_DEG,
    FPS_LIMITS,
    IMAGE_SIDE_PIXELS,
    MAX_INTENSITY,
    SAMPLE_RATE_RANGE,
)
from ..options import CheckedOptions, option
from ..weights.names import DEFAULT_SET

if TYPE_CHECKING:
    import numpy as np

    from ..audio.recording import Audio
    from ..expression.emotions import Timeline

PathLike = str | Path
AUTO_OR_OFF = "auto|off"
STREAM_FORMATS = ("jsonl", "vertices")
RESTING_HINT = (
    "write the seconds from the start alone, such as --rest 0.4, or name a picture or video of the "
    "person at rest"
)
FRAMINGS = ("face", "body")  # what the camera of `render` frames


def set_names(given: Mapping[str, Any]) -> list[str]:
    """Return the names of the bundled sets of weights, for the shell."""
    from ..weights.weight_set import bundled_sets

    return bundled_sets()


def styles_of_set(given: Mapping[str, Any]) -> list[str]:
    """Return the speaking styles of the set that `--weights` names, for the shell."""
    from ..weights.models import style_names

    return style_names(given.get("weights") or DEFAULT_SET)


def view_names(given: Mapping[str, Any]) -> list[str]:
    """Return the views of `render`, for the shell."""
    from ..render.view import VIEWS

    return list(VIEWS)


AUTO_OR_OFF_SETTINGS: dict[str, Any] = {"metavar": AUTO_OR_OFF, "values": AUTO_OR_OFF.split("|")}
FPS_SETTINGS: dict[str, Any] = {"limits": FPS_LIMITS, "quantity": "{:g} frames per second"}
SIZE_SETTINGS: dict[str, Any] = {
    "limits": IMAGE_SIDE_PIXELS,
    "quantity": "an image of {:.0f} pixels",
    "limits_hint": "choose a size from {} to {}".format(*IMAGE_SIDE_PIXELS),
}
INTENSITY_SETTINGS: dict[str, Any] = {
    "limits": (0.0, MAX_INTENSITY),
    "quantity": f"intensity {{:g}} is not between 0 and {MAX_INTENSITY:g}",
    "limits_hint": "0 changes nothing, 1 is full strength",
}

TARGETS_HELP = (
    "Blend shapes that a .glb, USD or --stream drives: own (those of the character's file), arkit "
    "(52, made for it), both, or auto: own if they show the mouth well enough, else arkit."
)
TARGETS_SETTINGS: dict[str, Any] = {
    "metavar": "|".join(TARGET_CHOICES),
    "values": TARGET_CHOICES,
}
MAP_HELP = (
    "A text file that says what the character's own blend shapes show, a line `THEIRS = OURS` for "
    "each; `talkemo bind FACE --map-template` prints one to fill in."
)
MAP_SETTINGS: dict[str, Any] = {"names": ("--map",), "metavar": "FILE", "kind": Path}


@dataclass(frozen=True, kw_only=True)
class EmotionOptions(CheckedOptions):
    """Which emotion a face shows, and how strongly."""

    emotion: str = option(
        "neutral",
        f"{', '.join(EMOTIONS)}, or a mix such as happy:0.6,surprised:0.4; {AUTO_EMOTION} reads it "
        "from the voice.",
        values=(*EMOTIONS, AUTO_EMOTION),
    )
    voice: PathLike | tuple[np.ndarray, int] | Audio | None = option(
        None,
        f"With --emotion {AUTO_EMOTION}: another recording of the speaker, in any mood, best of ten "
        "seconds or more, with which the voice is compared.",
        kind=Path,
    )
    intensity: float = option(
        1.0,
        "Strength of the emotion: 0 is none, 1 full, 1.5 the most. It scales a timeline, too.",
        **INTENSITY_SETTINGS,
    )
    timeline: PathLike | Timeline | None = option(
        None,
        "A text file instead of --emotion: a line `start end emotion intensity` per span, times in "
        "seconds; or a json or csv that `talkemo emotion` wrote.",
        kind=Path,
    )


@dataclass(frozen=True, kw_only=True)
class ActingOptions(EmotionOptions):
    """How a face acts while it speaks."""

    style: str = option(
        "default",
        "Speaking style: default, or a training speaker's, such as grid_s1_s1; `talkemo styles` "
        "lists them.",
        values=styles_of_set,
    )
    articulation: float = option(
        1.0,
        "How widely the mouth moves: 1 as people do, from 0.3 (mumbling) to 1.5. Closed lips stay "
        "closed.",
        limits=ARTICULATION_RANGE,
        quantity="an articulation of {:g}",
        limits_hint="choose from {:g} to {:g}; 1 is as people speak".format(*ARTICULATION_RANGE),
    )
    seed: int = option(
        0, "Seed of blinks, head, gaze, brows and mouth, besides the recording.", minimum=0
    )
    blink: str | float = option(
        "auto",
        "Blinks: auto (as often as speakers blink), off, or a number per minute.",
        metavar="auto|off|RATE",
        values=AUTO_OR_OFF.split("|"),
    )
    head: str = option(
        "auto",
        "Whether the head moves, in videos, pages, GLB and USD; csv and npz store its rotations.",
        **AUTO_OR_OFF_SETTINGS,
    )
    gaze: str = option(
        "auto",
        "Whether the eyes make saccades and look at the camera.",
        **AUTO_OR_OFF_SETTINGS,
    )
    liveliness: str | float = option(
        "auto",
        "How much brows, lids and the corners of the mouth move by themselves and with the voice, and "
        "how large its gestures are: auto (fully), off, or a number from 0 to 1.",
        metavar="auto|off|AMOUNT",
        values=AUTO_OR_OFF.split("|"),
    )


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """Which weights are used, and where networks run."""

    weights: PathLike = option(
        DEFAULT_SET,
        "A bundled set of weights, a folder that talkemo train wrote, or hf://owner/repo@revision.",
        panel="Shared",
        kind=str,
        values=set_names,
    )
    device: str = option(
        "auto",
        "Where networks run; auto selects a CUDA GPU if there is one.",
        choices=DEVICES,
        panel="Shared",
    )


@dataclass(frozen=True, kw_only=True)
class BindingOptions:
    """How the face of a mesh is found."""

    hint: FaceHint = field(default_factory=FaceHint)
    cache: bool = option(
        True, "Search for the face again, and do not cache the result.", panel="Face"
    )


@dataclass(frozen=True)
class ExportOptions(CheckedOptions):
    """How animations are written."""

    size: int | tuple[int, int] = option(
        512,
        "Size of a video: pixels on a side, or width and height.",
        metavar="PIXELS|WIDTHxHEIGHT",
        **SIZE_SETTINGS,
    )
    bake: bool = option(
        False,
        "Store each frame of a .glb or USD exactly, instead of weights of ARKit's 52 blend shapes.",
    )
    sequence: str = option(
        "obj", "Format of the meshes in a folder: obj or ply.", values=SEQUENCE_MESH_TYPES
    )
    unit: str = option(
        AUTO_UNIT,
        "Unit of the mesh, for .glb, which is in metres, and USD, which names it; auto guesses it "
        "from the size of the face and reports it.",
        choices=UNIT_CHOICES,
    )
    fill: str = option(
        "auto",
        "Eyes, teeth, tongue and inside of the mouth of a mesh that lacks them, in videos, pages, "
        "GLB and USD: auto adds them, off leaves the mesh as it is.",
        **AUTO_OR_OFF_SETTINGS,
    )
    curves: str = option(
        "arkit",
        "What a .csv or .json holds: arkit (52 weights), oculus (15 visemes), vrm (expressions) or "
        "own (the character's own blend shapes).",
        values=CURVE_KINDS,
    )
    arrays: str = option(
        "vertices",
        "What an .npz holds: vertices (every frame's), or shapes (the displacements of ARKit's 52 "
        "blend shapes instead, to be moved by the weights).",
        values=ARRAY_KINDS,
    )
    targets: str = option("auto", TARGETS_HELP, **TARGETS_SETTINGS)
    shape_map: PathLike | None = option(None, MAP_HELP, **MAP_SETTINGS)


@dataclass(frozen=True, kw_only=True)
class AnimateOptions(ActingOptions, BindingOptions, RuntimeOptions):
    """All options of `talkemo.animate`."""

    fps: float = option(60.0, "Frames per second; videos have at most 30.", **FPS_SETTINGS)
    export: ExportOptions = field(default_factory=ExportOptions)


@dataclass(frozen=True, kw_only=True)
class StreamOptions(ActingOptions, BindingOptions, RuntimeOptions):
    """All options of `talkemo.stream`."""

    fps: float = option(60.0, "Frames per second.", **FPS_SETTINGS)
    targets: str = option("auto", TARGETS_HELP, **TARGETS_SETTINGS)
    shape_map: PathLike | None = option(None, MAP_HELP, **MAP_SETTINGS)
    raw: int | None = option(
        None,
        "With --stream: standard input is 16-bit mono samples without a header, at this rate in Hz.",
        metavar="RATE",
        limits=SAMPLE_RATE_RANGE,
        quantity="{:g} samples per second",
    )


@dataclass(frozen=True, kw_only=True)
class TransferOptions(EmotionOptions, BindingOptions, RuntimeOptions):
    """All options of `talkemo.transfer`."""

    neutral: PathLike | None = option(
        None, "The mesh at rest. By default the animation's own, or its first frame."
    )
    audio: PathLike | tuple[np.ndarray, int] | Audio | None = option(
        None,
        "Audio of a video. By default the file beside an npz or GLB of talkemo that it names.",
        kind=Path,
    )
    mesh: PathLike | None = option(
        None, "The mesh whose vertices a .npy, .mdd or .pc2 has. By default that of --neutral."
    )
    onto: PathLike | None = option(
        None,
        "Another mesh or character that performs the animation, as animate would write it: of a "
        "glTF, VRM or USD the whole file. Its emotion stays if none is named.",
    )
    fps: float | None = option(
        None,
        "Frames per second of a .npy or .pc2, or of a folder of meshes (by default 30).",
        **FPS_SETTINGS,
    )
    export: ExportOptions = field(default_factory=ExportOptions)


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(CheckedOptions):
    """Options of `talkemo.reconstruct`, without those of target, outputs and run time."""

    fps: float | None = option(
        None, "Frames per second of landmarks; by default the file's own, or 30.", **FPS_SETTINGS
    )
    picture: tuple[int, int] | None = option(
        None,
        "Image size in pixels, for landmarks that are fractions of its width and height.",
        names=("--image-size",),
        aliases=("--picture",),
        metavar="WIDTHxHEIGHT",
    )
    model: PathLike | None = option(
        None,
        "A face model whose topology the person's face gets: FaceScape's npz, FLAME's pkl, or the "
        "folder of ICT FaceKit.",
    )
    head: bool = option(False, "Rotate the mesh with the person's head.")
    emotion: str | None = option(
        None, "Change the performance to this emotion, or mix.", values=EMOTIONS
    )
    intensity: float = option(
        1.0,
        "Strength of the emotion, 0 (unchanged) to 1 (full) up to 1.5.",
        **INTENSITY_SETTINGS,
    )
    neutral: PathLike | None = option(
        None, "Write the animated face at rest to this obj or ply file."
    )
    preview: PathLike | None = option(
        None,
        "Write the video with the landmarks and the fitted face drawn over it, to an mp4; of an "
        "image, to a png.",
    )
    sync: str = option(
        "off",
        "auto shifts the lip motion in time to match a video's audio, if it is early or late. The "
        "delay is reported.",
        **AUTO_OR_OFF_SETTINGS,
    )
    rest: PathLike | float | None = option(
        None,
        "When the person is at rest, in seconds, or a picture or video of the person at rest. By "
        "default the quietest frames of the whole input are compared with the faces of many people.",
        kind=str,
        metavar="SECONDS|FILE",
    )
    number: int = option(
        1,
        "The face to track if a video shows several, counted from 1 for the largest.",
        names=("--face",),
        limits=(1, None),
        quantity="face number {:g}",
        limits_hint="the largest face is number 1",
    )
    field_of_view: float | None = option(
        None,
        "Horizontal field of view of the video's camera, for a face close to it: about 65 for a "
        "webcam.",
        names=("--fov",),
        metavar="DEGREES",
        limits=FIELD_OF_VIEW_RANGE_DEG,
        quantity="a field of view of {:g} degrees",
        limits_hint="choose from {:g} to {:g}; webcams and phones have about 65".format(
            *FIELD_OF_VIEW_RANGE_DEG
        ),
    )
    audio: PathLike | tuple[np.ndarray, int] | Audio | None = option(
        None,
        "Audio for landmarks, curves and fitted clips, which have none of their own.",
        kind=Path,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.resting  # raises InputError for a time that is none

    @property
    def resting(self) -> float | Path | None:
        """When the person is at rest, in s, or a file that shows it; see `rest`."""
        if self.rest is None or isinstance(self.rest, Path):
            return self.rest
        try:
            seconds = float(self.rest)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return _resting_file(str(self.rest))
        if not 0 <= seconds < math.inf:
            raise InputError(
                f"--rest {seconds:g} is not a time in the input",
                RESTING_HINT,
            )
        return seconds


def _resting_file(text: str) -> Path:
    """Return the file that shows the person at rest. Raises InputError for what looks like a time."""
    is_time = re.fullmatch(r"[-+]?\d*[.,:]?\d[\d.,:]*\s*[a-zµ]{0,7}", text.strip(), re.IGNORECASE)
    if not text.strip() or (is_time and not os.path.lexists(text)):
        raise InputError(f"--rest '{text}': neither a number of seconds nor a file", RESTING_HINT)
    return Path(text)


@dataclass(frozen=True, kw_only=True)
class RenderOptions(CheckedOptions):
    """Options of `talkemo.pipelines.rendering.render`."""

    audio: PathLike | None = option(
        None,
        "Audio of the video. By default the file beside an npz or GLB of talkemo that it names.",
    )
    size: int | tuple[int, int] = option(
        512,
        "Pixels on a side, or width and height.",
        metavar="PIXELS|WIDTHxHEIGHT",
        **SIZE_SETTINGS,
    )
    view: str = option(
        "front",
        "front, three-quarter, side, left, right (by 35°), left-profile or right-profile.",
        values=view_names,
    )
    frame: str | None = option(
        None,
        "What fills the image: the face, or the body, which is the whole mesh. By default the face "
        "if the animation says where it is, as an npz of talkemo does.",
        metavar="face|body",
        values=FRAMINGS,
    )
    time: float | None = option(
        None,
        "Time of a .png in seconds. By default the middle.",
        limits=(0.0, None),
        quantity="no frame at {:g} s",
        limits_hint="name a time of 0 or more, in seconds",
    )
    fps: float | None = option(
        None,
        "Frames per second of a .npy or .pc2, or of a folder of meshes (by default 30).",
        **FPS_SETTINGS,
    )
    mesh: PathLike | None = option(
        None,
        "The mesh that the animation was made of. A .npy, .mdd or .pc2 needs it; others get its texture and hidden "
        "groups from it.",
    )
    fill: bool = option(True, "Do not add eyes, teeth or brows to a mesh that lacks them.")
    compare: Sequence[PathLike] = option(
        (),
        "Another animation, shown beside the first or, with --heatmap, the reference; may be repeated.",
    )
    caption: str | None = option(None, "A line of text below the image.")
    turntable: bool = option(False, "Move the camera once around the face.")
    wireframe: bool = option(False, "Draw the edges of the triangles.")
    heatmap: bool = option(
        False,
        "Colour the mesh by its distance from the mesh at rest, or from the animation of "
        "--compare.",
    )
    sheet: bool = option(False, "Show eight frames in one .png.")


@dataclass(frozen=True, kw_only=True)
class BatchOptions(CheckedOptions):
    """How a batch of inputs is processed."""

    resume: bool = option(False, "Skip recordings whose outputs exist.", panel="Many recordings")
    jobs: int = option(1, "Number of processes.", minimum=1, panel="Many recordings")
    scheduler: str | None = option(
        None,
        "Scheduler of a Dask cluster that does the work; its machines must see the files under the "
        "same paths.",
        metavar="tcp://HOST:PORT",
        panel="Many recordings",
    )


@dataclass(frozen=True, kw_only=True)
class HearOptions(RuntimeOptions):
    """All options of `talkemo.hear_emotion`."""

    voice: PathLike | tuple[np.ndarray, int] | Audio | None = option(
        None,
        "Another recording of the speaker, in any mood, best of ten seconds or more, with which the "
        "voice is compared.",
        kind=Path,
    )


# The same fields as keywords of the public functions, for type checkers.
class EmotionKeywords(TypedDict, total=False):
    """Fields of EmotionOptions."""

    emotion: str
    voice: PathLike | tuple[np.ndarray, int] | Audio | None
    intensity: float
    timeline: PathLike | Timeline | None


class ActingKeywords(EmotionKeywords, total=False):
    """Fields of ActingOptions."""

    style: str | None
    articulation: float
    seed: int
    blink: str | float
    head: str
    gaze: str
    liveliness: str | float


class RuntimeKeywords(TypedDict, total=False):
    """Fields of BindingOptions and RuntimeOptions."""

    hint: FaceHint | None
    cache: bool
    weights: PathLike
    device: str


class AnimateKeywords(ActingKeywords, RuntimeKeywords, total=False):
    """Fields of AnimateOptions."""

    fps: float
    export: ExportOptions | None


class StreamKeywords(ActingKeywords, RuntimeKeywords, total=False):
    """Fields of StreamOptions."""

    fps: float
    targets: str
    shape_map: PathLike | None
    raw: int | None


class HearKeywords(TypedDict, total=False):
    """Fields of HearOptions."""

    voice: PathLike | tuple[np.ndarray, int] | Audio | None
    weights: PathLike
    device: str


class TransferKeywords(EmotionKeywords, RuntimeKeywords, total=False):
    """Fields of TransferOptions."""

    neutral: PathLike | None
    audio: PathLike | tuple[np.ndarray, int] | Audio | None
    fps: float | None
    mesh: PathLike | None
    onto: PathLike | None
    export: ExportOptions | None
