"""Messages of the VMC protocol, by OSC: for VSeeFace, Warudo, and receivers in Unity and Godot.

Each frame is one OSC bundle, or several if it is larger than a packet of a network:

    /VMC/Ext/OK 1, /VMC/Ext/T time in s
    /VMC/Ext/Bone/Pos bone, position x y z, rotation x y z w: Head, LeftEye, RightEye
    /VMC/Ext/Blend/Val expression, weight: for each of them
    /VMC/Ext/Blend/Apply

Positions are 0, because the avatar's skeleton is not known. Rotations are local, in Unity's axes:
left-handed, y up, the avatar looking along +z. Source: protocol.vmc.info, the specification of what
a Marionette receives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..extras import install_command
from ..face.viseme_curves import CURVE_NAMES
from ..geometry.rigid import eye_rotation

MAX_BUNDLE_BYTES = 1400  # that a packet of an Ethernet holds
# Names of VRM 0.x. Avatars have either these or those of VRM 1.0, so both are sent.
VRM0_NAMES = {
    "happy": "Joy",
    "angry": "Angry",
    "sad": "Sorrow",
    "relaxed": "Fun",
    "surprised": "Surprised",
    "aa": "A",
    "ih": "I",
    "ou": "U",
    "ee": "E",
    "oh": "O",
    "blink": "Blink",
    "blinkLeft": "Blink_L",
    "blinkRight": "Blink_R",
    "lookUp": "LookUp",
    "lookDown": "LookDown",
    "lookLeft": "LookLeft",
    "lookRight": "LookRight",
}
UNSENT_CURVES = ("neutral", "sil")  # the face at rest, which is no expression
MIRROR_X = np.array([1, -1, -1, 1])  # of a quaternion: to axes with x reversed


def sent_names(kind: str) -> list[tuple[str, int]]:
    """Return the names under which curves of a kind are sent, each with its number.

    Those of ARKit are as in "perfect sync": BrowInnerUp and so on.
    """
    names = []
    for number, name in enumerate(CURVE_NAMES[kind]):
        if name in UNSENT_CURVES:
            continue
        spellings = [name[0].upper() + name[1:]] if kind == "arkit" else [name]
        if kind == "vrm":
            spellings.append(VRM0_NAMES[name])
        names += [(spelling, number) for spelling in spellings]
    return names


class VmcEncoder:
    """Makes OSC bundles of frames whose curves are of a kind, one of CURVE_NAMES.

    Raises
    ------
    TalkemoError
        python-osc is not installed.
    """

    def __init__(self, kind: str):
        try:
            from pythonosc import osc_bundle_builder, osc_message_builder
        except ImportError:
            raise TalkemoError(
                "VMC needs python-osc, which is not installed", install_command("live")
            ) from None
        self._bundles, self._messages = osc_bundle_builder, osc_message_builder
        self.names = sent_names(kind)

    def __call__(
        self,
        time: float,
        curves: np.ndarray,
        head: np.ndarray | None = None,
        gaze: np.ndarray | None = None,
    ) -> list[bytes]:
        """Return the bundles of a frame, each to be sent as one packet.

        Parameters
        ----------
        time : float
            In s.
        curves : (C,)
            Weights in [0, 1].
        head : (3, 3), optional
            Rotation of the head.
        gaze : (2,), optional
            Pitch and yaw of the eyes in radians.
        """
        messages = [self._message("OK", 1), self._message("T", float(time))]
        if head is not None:
            messages.append(self._bone("Head", head))
        if gaze is not None:
            turned = eye_rotation(gaze)
            messages += [self._bone(name, turned) for name in ("LeftEye", "RightEye")]
        messages += [
            self._message("Blend/Val", name, float(curves[number])) for name, number in self.names
        ]
        messages.append(self._message("Blend/Apply"))
        return self._bundled(messages)

    def _bone(self, name: str, rotation: np.ndarray) -> Any:
        from scipy.spatial.transform import Rotation

        quaternion = Rotation.from_matrix(rotation).as_quat() * MIRROR_X
        return self._message("Bone/Pos", name, 0.0, 0.0, 0.0, *quaternion.tolist())

    def _message(self, address: str, *values: str | float) -> Any:
        """An OSC message; integers are sent as int32, other numbers as float32."""
        builder = self._messages.OscMessageBuilder(f"/VMC/Ext/{address}")
        for value in values:
            builder.add_arg(value)
        return builder.build()

    def _bundled(self, messages: list[Any]) -> list[bytes]:
        """Messages in as few bundles as hold them, in order."""
        bundles, size = [], MAX_BUNDLE_BYTES
        for message in messages:
            if size + 4 + message.size > MAX_BUNDLE_BYTES:
                bundles.append(self._bundles.OscBundleBuilder(self._bundles.IMMEDIATELY))
                size = 16  # "#bundle" and the time
            bundles[-1].add_content(message)
            size += 4 + message.size
        return [bundle.build().dgram for bundle in bundles]
