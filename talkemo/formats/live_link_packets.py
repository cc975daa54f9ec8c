"""Packets of the Live Link Face app, which Unreal's Live Link receives by UDP, by default at 11111.

A packet holds one frame. All of it is big-endian:

    uint8 6, the version
    int32 length and characters of the device's id, then of the subject's name
    int32 number of the frame, float32 fraction of a frame, int32 frames per int32 seconds
    uint8 61, then 61 float32: the 52 weights in Apple's order, which here has left before right
        everywhere; yaw, pitch and roll of the head, of the left and of the right eye

The angles are those of the csv (see live_link.py). Sources: "Frame layout" in the readme of
think-biq/LLV; the order of EARFaceBlendShape in Unreal's AugmentedReality module.
"""

from __future__ import annotations

import struct
import uuid
from fractions import Fraction

import numpy as np

from .live_link import ROTATION_COLUMNS, head_angles

PACKET_VERSION = 6
VALUE_COUNT = 61
RATE_TOLERANCE = 1e-5  # relative, within which a frame rate is one of NTSC's, such as 30000/1001


def frame_rate(fps: float) -> Fraction:
    """Return a frame rate as Unreal states it: 30000/1001 for 29.97."""
    ntsc = Fraction(round(fps * 1001), 1001)
    if abs(float(ntsc) - fps) <= RATE_TOLERANCE * fps:
        return ntsc
    return Fraction(fps).limit_denominator(1001)


class LiveLinkEncoder:
    """Makes packets of frames.

    Parameters
    ----------
    subject : str
        Name under which Unreal lists the face.
    fps : float
        Frames per second.
    """

    def __init__(self, subject: str, fps: float):
        self.rate = frame_rate(fps)
        device = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{subject}.talkemo")).upper()
        self.start = struct.pack(">B", PACKET_VERSION) + _text(device) + _text(subject)

    def __call__(self, time: float, arkit: np.ndarray, head: np.ndarray | None) -> bytes:
        """Return the packet of a frame at a time in s.

        Parameters
        ----------
        time : float
            In s.
        arkit : (52,)
            Weights.
        head : (3, 3), optional
            Rotation of the head.
        """
        angles = np.zeros(len(ROTATION_COLUMNS))
        if head is not None:
            angles[:3] = head_angles(head[None])[0]
        number = time * float(self.rate)
        whole = int(number + 1e-6)
        values = np.concatenate([arkit.clip(0, 1), angles]) + 0.0
        return self.start + struct.pack(
            f">ifiiB{VALUE_COUNT}f",
            whole,
            max(number - whole, 0.0),
            self.rate.numerator,
            self.rate.denominator,
            VALUE_COUNT,
            *values,
        )


def _text(text: str) -> bytes:
    characters = text.encode()
    return struct.pack(">i", len(characters)) + characters
