"""Motion for MikuMikuDance: morphs, head and eyes as a VMD file, 30 frames per second.

The file is little-endian, its names are Shift-JIS, cut to 15 bytes and padded with zeros:

    "Vocaloid Motion Data 0002" in 30 bytes, the model's name in 20
    uint32 number of bone keyframes; each: name, uint32 frame, position x y z, rotation x y z w
        (floats), 64 bytes of interpolation
    uint32 number of morph keyframes; each: name, uint32 frame, float weight
    uint32 numbers of keyframes of the camera, lights, shadows and inverse kinematics

MMD's axes are left-handed, y up, and a model looks along -z. Sources: "VMD file format" in the
MikuMikuDance Wiki; "Introduction to VMD and VPD" in babylon-mmd's documentation.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.viseme_curves import CurveFit
from ..geometry.rigid import eye_rotation
from .animation import FileWriter, Frames, Header

VMD_FPS = 30.0
VMD_SIGNATURE = b"Vocaloid Motion Data 0002"
VMD_ENCODING = "cp932"
MODEL_NAME = b"talkemo"
HEAD_BONE, EYES_BONE = "頭", "両目"
SMALLEST_STEP = 1e-4  # a key is left out where it and its neighbours differ by less
# Control points (20, 20) and (107, 107) of 127 make the interpolation linear: x1, y1, x2 and y2 of
# the position's x, y, z and of the rotation. The last three quarters repeat the first, shifted. Of
# the first quarter, bytes 2 and 3 are zero where the bone's physics is on.
_LINEAR = bytes([20] * 8 + [107] * 8)
_QUARTERS = [_LINEAR[k:] + bytes(k) for k in range(4)]
LINEAR_INTERPOLATION = _LINEAR[:2] + bytes(2) + _LINEAR[4:] + b"".join(_QUARTERS[1:])


class VmdWriter(FileWriter):
    """Writes the mouth's vowels, emotions, brows and lids as MMD's morphs, and the bones 頭 and 両目.

    The keyframes are counted before they are listed, so the curves of all frames stay in memory:
    about 100 bytes per frame.
    """

    def __init__(self, path: Path, header: Header):
        if header.canonical is None:
            raise InputError(
                f"{path}: no morphs are known for this mesh", "write another kind of file"
            )
        self.fit, self.fps = CurveFit(header.canonical, "mmd"), header.fps
        self._morphs: list[np.ndarray] = []
        self._bones: dict[str, list[np.ndarray]] = {HEAD_BONE: [], EYES_BONE: []}
        super().__init__(path)

    def write(self, frames: Frames) -> None:
        self._morphs.append(self.fit(frames.arkit, frames.speech, frames.emotion))
        if frames.head is not None:
            self._bones[HEAD_BONE].append(_left_handed(frames.head))
        if frames.gaze is not None:
            self._bones[EYES_BONE].append(_left_handed(eye_rotation(frames.gaze, np.eye(3))))

    def finish(self) -> None:
        morphs = _resampled(np.concatenate(self._morphs), self.fps)
        bones = {
            name: _resampled(_continuous(np.concatenate(rotations)), self.fps)
            for name, rotations in self._bones.items()
            if rotations
        }
        rotation_keys = [
            _name(name, 15)
            + struct.pack("<I7f", frame, 0, 0, 0, *rotations[frame] / norm(rotations[frame]))
            + LINEAR_INTERPOLATION
            for name, rotations in bones.items()
            for frame in _keys(rotations)
        ]
        morph_keys = [
            _name(name, 15) + struct.pack("<If", frame, weights[frame])
            for name, weights in zip(self.fit.names, morphs.T)
            for frame in _keys(weights[:, None])
        ]
        with self.partial.path.open("wb") as file:
            file.write(VMD_SIGNATURE.ljust(30, b"\0") + MODEL_NAME.ljust(20, b"\0"))
            for keys in (rotation_keys, morph_keys):
                file.write(struct.pack("<I", len(keys)) + b"".join(keys))
            file.write(struct.pack("<4I", 0, 0, 0, 0))


def norm(quaternion: np.ndarray) -> float:
    """Return the length of a quaternion."""
    return float(np.linalg.norm(quaternion))


def _left_handed(rotations: np.ndarray) -> np.ndarray:
    """Return quaternions x y z w (T, 4) in MMD's axes: those of the face, with z reversed."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotations).as_quat() * [-1, -1, 1, 1]


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """Return the same rotations (T, 4) with signs that change nowhere, for interpolation."""
    flips = np.sign(np.einsum("tq,tq->t", quaternions[1:], quaternions[:-1]) + 1e-12)
    return quaternions * np.concatenate([[1.0], np.cumprod(flips)])[:, None]


def _resampled(values: np.ndarray, fps: float) -> np.ndarray:
    """Return values (T, C) at VMD_FPS, by linear interpolation."""
    times = np.arange(len(values)) / fps
    count = int(times[-1] * VMD_FPS + 1e-6) + 1
    wanted = np.arange(count) / VMD_FPS
    return np.column_stack([np.interp(wanted, times, column) for column in values.T])


def _keys(values: np.ndarray) -> np.ndarray:
    """Return the frames of values (T, C) that need a key: all but those within a constant span."""
    steps = np.abs(np.diff(values, axis=0)).max(1) < SMALLEST_STEP
    is_inside = np.zeros(len(values), bool)
    is_inside[1:-1] = steps[1:] & steps[:-1]
    return np.flatnonzero(~is_inside)


def _name(name: str, size: int) -> bytes:
    return name.encode(VMD_ENCODING)[:size].ljust(size, b"\0")
