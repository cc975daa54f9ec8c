"""What a character's own blend shapes mean, by their names: a recipe of ARKit's shapes for each.

Names are compared by their words, whatever case, underscores and prefixes they have: jawOpen,
Jaw_Open, A25_Jaw_Open, CTRL_expressions_jawOpen and blendShape1.jaw_open are the same. The tables
hold the names of ARKit, MetaHuman, Character Creator, Unified Expressions, Oculus, Microsoft, VRM,
VRoid and MMD. A recipe at weight 1 is what the shape shows at weight 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from .canonical import ARKIT_NAMES
from .viseme_curves import (
    MMD_EMOTION_RECIPES,
    MMD_MOUTH_RECIPES,
    OCULUS_RECIPES,
    VRM_EMOTION_RECIPES,
    VRM_GAZE_SHAPES,
    VRM_MOUTH_RECIPES,
)

Recipe = dict[str, float]  # weights of ARKit's shapes, by their full names


@dataclass(frozen=True)
class ShapeMeaning:
    """What a shape of this name shows.

    Attributes
    ----------
    standard : str
        Whose name it is, such as ARKit.
    kind : str
        single (a part of one of ARKit's shapes, or both its sides), viseme, emotion or gaze.
    recipe : dict
        Weights of ARKit's shapes that it shows at weight 1.
    """

    standard: str
    kind: str
    recipe: Recipe


# Words of names that are not ARKit's, and what they mean; without a side they move both. A number
# behind the ARKit shape is the part of it that a shape of this name moves.
SYNONYMS: dict[str, dict[str, str]] = {
    "MetaHuman": {
        "eyewiden": "eyeWide",
        "eyesquintinner": "eyeSquint",
        "eyecheekraise": "cheekSquint",
        "eyeupperlidup": "eyeWide 0.5",
        "browraisein": "browInnerUp",
        "browlateral": "browDown 0.5",
        "nosewrinkle": "noseSneer",
        "mouthcheekblow": "cheekPuff",
        "mouthcornerpull": "mouthSmile",
        "mouthcornerdepress": "mouthFrown",
        "mouthupperlipraise": "mouthUpperUp",
        "mouthlowerlipdepress": "mouthLowerDown",
        "mouthlipspress": "mouthPress",
        "mouthlipspurseu": "mouthPucker 0.5",
        "mouthlipspursed": "mouthPucker 0.5",
        "mouthpurseu": "mouthPucker 0.5",
        "mouthpursed": "mouthPucker 0.5",
        "mouthfunnelu": "mouthFunnel 0.5",
        "mouthfunneld": "mouthFunnel 0.5",
        "mouthlipstogetheru": "mouthClose 0.5",
        "mouthlipstogetherd": "mouthClose 0.5",
        "mouthupperlipbite": "mouthRollUpper",
        "mouthlowerlipbite": "mouthRollLower",
        "mouthupperliprollin": "mouthRollUpper",
        "mouthlowerliprollin": "mouthRollLower",
        "jawfwd": "jawForward",
        "jawchinraiseu": "mouthShrugUpper",
        "jawchinraised": "mouthShrugLower",
    },
    "Character Creator": {
        "browraiseinner": "browInnerUp",
        "browraiseouter": "browOuterUp",
        "browraise": "browInnerUp + browOuterUp",
        "browdrop": "browDown",
        "browcompress": "browDown 0.5",
        "cheekraise": "cheekSquint",
        "mouthpuckerup": "mouthPucker 0.5",
        "mouthpuckerdown": "mouthPucker 0.5",
        "mouthpucker": "mouthPucker",
        "mouthfunnelup": "mouthFunnel 0.5",
        "mouthfunneldown": "mouthFunnel 0.5",
        "mouthrollinupper": "mouthRollUpper",
        "mouthrollinlower": "mouthRollLower",
        "mouthupupper": "mouthUpperUp",
        "mouthdownlower": "mouthLowerDown",
        "mouthchinup": "mouthShrugLower",
        "mouthwiden": "mouthStretch",
        "mouthwidensides": "mouthStretch",
        "mouthtoplipup": "mouthUpperUp",
        "mouthbottomlipdown": "mouthLowerDown",
        "mouthlipstuck": "mouthRollUpper 0.7 + mouthRollLower 0.7",
        "mouthlipstight": "mouthPress 0.7",
        "mouthlipsopen": "mouthUpperUp 0.5 + mouthLowerDown 0.5",
    },
    "Unified Expressions": {
        "eyeclosed": "eyeBlink",
        "browlowerer": "browDown",
        "browpinch": "browDown 0.5",
        "mouthclosed": "mouthClose",
        "mouthsad": "mouthFrown",
        "mouthraiserupper": "mouthShrugUpper",
        "mouthraiserlower": "mouthShrugLower",
        "lipfunnel": "mouthFunnel",
        "lipfunnelupper": "mouthFunnel 0.5",
        "lipfunnellower": "mouthFunnel 0.5",
        "lippucker": "mouthPucker",
        "lippuckerupper": "mouthPucker 0.5",
        "lippuckerlower": "mouthPucker 0.5",
        "lipsuckupper": "mouthRollUpper",
        "lipsucklower": "mouthRollLower",
    },
    "other names": {
        "blink": "eyeBlink",
        "eyesclosed": "eyeBlink",
        "eyesclose": "eyeBlink",
        "eyeclose": "eyeBlink",
        "eyespread": "eyeWide",
        "eyesblink": "eyeBlink",
        "closeeyes": "eyeBlink",
        "eyeswide": "eyeWide",
        "eyessquint": "eyeSquint",
        "browsinnerup": "browInnerUp",
        "browsup": "browInnerUp + browOuterUp",
        "browup": "browInnerUp + browOuterUp",
        "eyebrowsup": "browInnerUp + browOuterUp",
        "browsouterup": "browOuterUp",
        "browsdown": "browDown",
        "eyebrowsdown": "browDown",
        "mouthopen": "jawOpen",
        "openmouth": "jawOpen",
        "mouthopened": "jawOpen",
        "jawdrop": "jawOpen",
        "jawdown": "jawOpen",
        "jawopened": "jawOpen",
        "smile": "mouthSmile",
        "lipcornerpull": "mouthSmile",
        "lipcornerpuller": "mouthSmile",
        "frown": "mouthFrown",
        "lipcornerdepressor": "mouthFrown",
        "kiss": "mouthPucker",
        "pout": "mouthPucker",
        "pucker": "mouthPucker",
        "lippuckerer": "mouthPucker",
        "funnel": "mouthFunnel",
        "lipfunneler": "mouthFunnel",
        "sneer": "noseSneer",
        "nosewrinkler": "noseSneer",
        "dimpler": "mouthDimple",
        "lipstretcher": "mouthStretch",
        "lippressor": "mouthPress",
        "chinraiser": "mouthShrugLower",
        "upperlipraiser": "mouthUpperUp",
        "lowerlipdepressor": "mouthLowerDown",
        "cheekraiser": "cheekSquint",
        "innerbrowraiser": "browInnerUp",
        "outerbrowraiser": "browOuterUp",
        "puff": "cheekPuff",
        "mouthpuff": "cheekPuff",
    },
}
# Visemes by their words behind a prefix such as viseme or V: a sound, or the shape of the lips.
SOUNDS: dict[str, Recipe] = {
    "sil": {},
    **{name.lower(): recipe for name, recipe in OCULUS_RECIPES.items()},
    "i": OCULUS_RECIPES["ih"],
    "o": OCULUS_RECIPES["oh"],
    "u": OCULUS_RECIPES["ou"],
    "a": OCULUS_RECIPES["aa"],
    "ee": VRM_MOUTH_RECIPES["ee"],
}
CHARACTER_CREATOR_VISEMES: dict[str, Recipe] = {
    "open": OCULUS_RECIPES["aa"],
    "explosive": OCULUS_RECIPES["PP"],
    "plosive": OCULUS_RECIPES["PP"],
    "dentallip": OCULUS_RECIPES["FF"],
    "tighto": OCULUS_RECIPES["oh"],
    "tight": OCULUS_RECIPES["ou"],
    "wide": VRM_MOUTH_RECIPES["ee"],
    "affricate": OCULUS_RECIPES["CH"],
    "lipopen": {"mouthLowerDown": 0.4, "mouthUpperUp": 0.3},
}
VRM_VOWELS = ("aa", "ih", "ou", "ee", "oh")
SINGLE_VOWELS = tuple("aiueo")
ALL_VISEMES = (*SOUNDS, *CHARACTER_CREATOR_VISEMES)
# Which visemes may stand behind each prefix. Without one, single vowels stand alone in a name.
VISEMES_BEHIND: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("viseme", "v", "vi", "phoneme", "lipsync", "mth"), ALL_VISEMES),
    "mouth": (*VRM_VOWELS, *SINGLE_VOWELS),
    "": (*VRM_VOWELS, "explosive", "dentallip", "tighto", "affricate"),
}
VROID_VISEMES = {"e": VRM_MOUTH_RECIPES["ee"]}  # that differ from the others' of these names
# Microsoft's visemes 0 to 21 by the shape of Oculus that shows the same sounds.
MICROSOFT_VISEMES = "sil aa aa oh E RR ih ou oh aa oh aa kk RR nn SS CH TH FF DD kk PP".split()
EMOTION_NAMES = {
    "happy": "happy",
    "joy": "happy",
    "angry": "angry",
    "sad": "sad",
    "sorrow": "sad",
    "relaxed": "relaxed",
    "fun": "relaxed",
    "surprised": "surprised",
}
# Parts of the face that VRoid's names begin with, and beginnings of ARKit's shapes in them.
VROID_PARTS = {
    "all": ("",),
    "mth": ("mouth", "jaw"),
    "brw": ("brow",),
    "eye": ("eye", "cheekSquint"),
}
MMD_NAMES: dict[str, Recipe] = {
    **MMD_MOUTH_RECIPES,
    **MMD_EMOTION_RECIPES,
    "まばたき": {"eyeBlink": 1.0},
    "ウィンク２": {"eyeBlinkLeft": 1.0},
    "ｳｨﾝｸ２右": {"eyeBlinkRight": 1.0},
    "びっくり": {"eyeWide": 1.0},
    "困る": {"browInnerUp": 1.0},
    "上": {"browInnerUp": 1.0, "browOuterUp": 1.0},
    "怒り": {"browDown": 1.0},
}
SIDES = {"l": "Left", "left": "Left", "r": "Right", "right": "Right"}
CORNERS = {f"{place}{side}": (place, side) for place in "ud" for side in "lr"}  # of MetaHuman
# Words that name a mesh, a rig or a number and say nothing about the shape.
FILLERS = {
    *("ctrl", "expressions", "expression", "blendshape", "blendshapes", "blend", "bs", "shape"),
    *("shapes", "key", "morph", "morpher", "target", "fcl", "vrc", "face", "head", "exp", "arkit"),
    *("ak", "au", "hb", "cc", "base", "body", "mesh", "model"),
}
RIG_WORDS = {"ctrl": "MetaHuman", "fcl": "VRoid"}  # that begin the names of a rig's shapes
MAX_NAME_WORDS = 12  # of names that are known
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


@cache
def meaning_of(name: str) -> ShapeMeaning | None:
    """Return what a shape of this name shows; None if the name is not known."""
    text = re.split(r"[.:|]", name)[-1] if not name.lower().startswith("vrc.") else name[4:]
    text = text.strip()
    if text in MMD_NAMES:
        is_viseme = text in MMD_MOUTH_RECIPES
        kind = "viseme" if is_viseme else "emotion" if text in MMD_EMOTION_RECIPES else "single"
        return ShapeMeaning("MMD", kind, both_sides(MMD_NAMES[text]))
    words = [word.lower() for word in _WORDS.findall(text)]
    for mark in RIG_WORDS:
        if mark in words:
            words = words[words.index(mark) :]
    if not _without_fillers(words) or len(words) > MAX_NAME_WORDS:
        return None
    return _gaze(words) or _viseme(words) or _emotion(words) or _single(words)


def both_sides(recipe: Recipe) -> Recipe:
    """Return a recipe by ARKit's full names; a name without Left or Right stands for both."""
    result: Recipe = {}
    for name, weight in recipe.items():
        for full in ARKIT_NAMES:
            if full == name or full in (f"{name}Left", f"{name}Right"):
                result[full] = weight
    return result


def counterparts(names: Sequence[str]) -> set[str]:
    """Return which of ARKit's shapes any of the names stands for."""
    meanings = (meaning_of(name) for name in names)
    return {part for meaning in meanings if meaning for part in meaning.recipe}


# ------------------------------------------------------------------------------------ kinds of names


def _without_fillers(words: list[str]) -> list[str]:
    """Words without numbers, and without what names a mesh or rig at the beginning."""
    kept = [word for word in words if not word.isdigit()]
    while len(kept) > 1 and (kept[0] in FILLERS or kept[0] in ("a", "t", "c")):
        kept = kept[1:]
    return kept


def _gaze(words: list[str]) -> ShapeMeaning | None:
    """Where one eye or both look: eyeLookInLeft, Eye_L_Look_Up, CTRL_expressions_eyeLookLeftL."""
    words = _without_fillers(words)
    joined = "".join(words)
    match = re.fullmatch(
        r"(eyes?)?([lr]|left|right)?look(up|down|in|out|left|right|l|r)(.*)", joined
    )
    if match is None or match[4] not in ("", *SIDES):
        return None
    side = SIDES.get(match[2] or match[4])
    direction = SIDES.get(match[3], match[3].capitalize())
    if direction in ("In", "Out"):
        sides = [side] if side else ["Left", "Right"]
        shapes = [f"eyeLook{direction}{each}" for each in sides]
    else:
        shapes = [shape for shape in VRM_GAZE_SHAPES[f"look{direction}"]]
        shapes = [shape for shape in shapes if side is None or shape.endswith(side)]
    standard = "ARKit" if len(shapes) == 1 else "VRM" if match[1] is None else "other names"
    return ShapeMeaning(standard, "gaze", {shape: 1.0 for shape in shapes})


def _viseme(words: list[str]) -> ShapeMeaning | None:
    """A mouth of a sound: viseme_aa, vrc.v_aa, V_Explosive, Fcl_MTH_A, AA_VI_10_aa, viseme_21."""
    if words[:2] == ["aa", "vi"]:
        words = words[1:]
    kept = [word for word in words if word not in FILLERS]
    if len(kept) == 2 and kept[0] == "viseme" and kept[1].isdigit():
        return _microsoft_viseme(int(kept[1]))
    kept = [word for word in kept if not word.isdigit()]
    prefix = kept[0] if len(kept) > 1 and kept[0] in VISEMES_BEHIND else ""
    viseme = "".join(kept[1:] if prefix else kept)
    allowed = SINGLE_VOWELS if len(words) == 1 and len(viseme) == 1 else VISEMES_BEHIND[prefix]
    if viseme not in allowed:
        return None
    standard = _standard_of_viseme(viseme, bool(prefix), words[:2] == ["fcl", "mth"])
    known = {
        **SOUNDS,
        **CHARACTER_CREATOR_VISEMES,
        **(VROID_VISEMES if standard == "VRoid" else {}),
    }
    return ShapeMeaning(standard, "viseme", both_sides(known[viseme]))


def _microsoft_viseme(number: int) -> ShapeMeaning | None:
    """A viseme of this number."""
    if number >= len(MICROSOFT_VISEMES):
        return None
    recipe = OCULUS_RECIPES.get(MICROSOFT_VISEMES[number], {})
    return ShapeMeaning("Microsoft visemes", "viseme", both_sides(recipe))


def _standard_of_viseme(viseme: str, has_prefix: bool, vroid: bool) -> str:
    """Whose name of a viseme it is."""
    if vroid and viseme != "sil":
        return "VRoid"
    if viseme in CHARACTER_CREATOR_VISEMES:
        return "Character Creator"
    return "Oculus visemes" if has_prefix else "VRM"


def _emotion(words: list[str]) -> ShapeMeaning | None:
    """An emotion: happy, Fcl_ALL_Joy, Fcl_BRW_Angry."""
    vroid = words[0] == "fcl"
    kept = _without_fillers(words)
    part = kept[0] if vroid and len(kept) == 2 and kept[0] in VROID_PARTS else "all"
    name = kept[-1]
    if name not in EMOTION_NAMES or len(kept) > 1 + (vroid and kept[0] in VROID_PARTS):
        return None
    recipe = both_sides(VRM_EMOTION_RECIPES[EMOTION_NAMES[name]])
    recipe = {shape: w for shape, w in recipe.items() if shape.startswith(VROID_PARTS[part])}
    if not recipe:
        return None
    return ShapeMeaning("VRoid" if vroid else "VRM", "emotion", recipe)


def _single(words: list[str]) -> ShapeMeaning | None:
    """One of ARKit's shapes, or the part of it that a side or a half of a lip moves."""
    rig = RIG_WORDS.get(words[0])
    words = _without_fillers(words)
    for parts, side in _sided(words):
        found = _recipe_of("".join(parts), None if side is None else SIDES[side])
        if found:
            standard, recipe = found
            return ShapeMeaning(rig or standard, "single", recipe)
    return None


def _sided(words: list[str]) -> Iterator[tuple[list[str], str | None]]:
    """Yield words without their side, and the side, in the ways in which they can be read."""
    if words[-1] in CORNERS:
        place, side = CORNERS[words[-1]]
        yield [*words[:-1], place], side
    yield words, None
    for k in (-1, 0, 1):
        if len(words) > 1 and words[k] in SIDES:
            rest = list(words)
            side = rest.pop(k)
            yield rest, side
    if len(words) == 1:
        for ending in ("left", "right", "l", "r"):
            if words[0].endswith(ending):
                yield [words[0].removesuffix(ending)], ending


@cache
def _known_words() -> dict[str, tuple[str, str]]:
    """Standard and text of a recipe by the words of a name, without its side."""
    known: dict[str, tuple[str, str]] = {}
    for standard, synonyms in SYNONYMS.items():
        known |= {words: (standard, text) for words, text in synonyms.items() if words not in known}
    for name in ARKIT_NAMES:
        base = name.removesuffix("Left").removesuffix("Right")
        known[name.lower()] = ("ARKit", name)
        if f"{base}Left" in ARKIT_NAMES and base not in ("jaw", "mouth"):
            known[base.lower()] = ("ARKit", base)
    return known


def _recipe_of(words: str, side: str | None) -> tuple[str, Recipe] | None:
    """Standard and recipe of a name's words with a side; None if they are not known."""
    if words in ("jaw", "mouth") and side:
        return "ARKit", {f"{words}{side}": 1.0}
    if words not in _known_words():
        return None
    standard, text = _known_words()[words]
    recipe: Recipe = {}
    for part in text.split(" + "):
        shape, _, factor = part.partition(" ")
        weight = float(factor or 1)
        if shape in ARKIT_NAMES:
            recipe[shape] = weight / (1 if side is None else 2)  # half of a shape without sides
        elif side is None:
            recipe |= {f"{shape}Left": weight, f"{shape}Right": weight}
        else:
            recipe[f"{shape}{side}"] = weight
    if side and words.endswith(("left", "right")):
        return None
    return standard, recipe
