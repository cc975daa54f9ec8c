"""A web page that plays an animation with its sound in a browser, all of it in one file and without a network.

The page holds the mesh at rest, what each coordinate of a motion moves it by as int8, the coordinates of every frame,
how head and eyes turn and, where there are any, what each emotion changes; so the viewer can mix emotions anew.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.recording import Audio
from ..errors import InputError, TalkemoError
from ..expression.emotions import BEYOND
from ..formats.animation import FileWriter, Frames, Header, MeshTurner, video_frame_step
from ..formats.head_nodes import HeadNodes
from ..video.ffmpeg import ffmpeg_program

if TYPE_CHECKING:
    from .appearance import Appearance

LONGEST = 600.0  # s
WEB = Path(__file__).with_name("web")  # pages, and the script and the style that they share


class PageWriter(FileWriter):
    """Writes an .html; header and frames must have what a page is made of, `Header.basis` and `Frames.coordinates`."""

    def __init__(self, path: Path, header: Header, audio: Audio | None):
        if header.basis is None:
            raise InputError(
                f"{path.name}: no page can be made of this",
                "a page shows what animate and transfer make",
            )
        if header.frames / header.fps > LONGEST:
            raise InputError(
                f"{path.name}: more than {LONGEST:g} s for one page",
                "write an mp4, or cut the sound",
            )
        super().__init__(path)
        self.header, self.audio = header, audio
        self.every = video_frame_step(header.fps)
        self.count = 0
        self.plain: list[np.ndarray] = []
        self.tracks = HeadNodes(header.turn)
        self.moods: dict[str, list[np.ndarray]] = {}

    def write(self, frames: Frames) -> None:
        assert frames.coordinates is not None
        rows = slice(-self.count % self.every, None, self.every)
        self.count += len(frames.coordinates)
        self.plain.append(frames.coordinates[rows])
        for name, change in frames.moods.items():
            self.moods.setdefault(name, []).append(change[rows])
        self.tracks.write(frames, rows)

    def finish(self) -> None:
        with self.partial.path.open("w", encoding="utf-8") as file:
            file.write(page_text("page.html", self._data()))

    def _data(self) -> dict[str, Any]:
        """What the page's script reads, see web/page.html."""
        moods = [
            {
                "name": name,
                "change": text(np.concatenate(parts), np.float32),
                "amount": self._amount(name),
            }
            for name, parts in self.moods.items()
        ]
        head, eyes = self.tracks.rotations()
        return {
            **face_data(self.header),
            "name": str(self.header.meta.get("audio", "")),
            "fps": self.header.fps / self.every,
            "plain": text(np.concatenate(self.plain), np.float32),
            "head": text(head, np.float32),
            "eyes": text(eyes, np.float32),
            "moods": moods,
            "beyond": BEYOND,
            "sound": None if self.audio is None else base64.b64encode(_sound(self.audio)).decode(),
        }

    def _amount(self, name: str) -> float:
        """How much of an emotion the page shows at first."""
        return float(self.header.meta.get("amounts", {}).get(name, 0.0))


def page_text(template: str, data: dict[str, Any]) -> str:
    """A page of `web` with its data, its style and the viewer's script in it."""
    page = (WEB / template).read_text("utf-8")
    values = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"@STYLE@": "viewer.css", "@VIEWER@": "viewer.js"}
    for mark, name in parts.items():
        page = page.replace(mark, (WEB / name).read_text("utf-8"))
    before, after = page.split("@DATA@")
    return before + values + after


def face_data(header: Header) -> dict[str, Any]:
    """What the viewer's script, web/viewer.js, has to know of a face. The header has a basis."""
    from .appearance import appearance_of_header
    from .view import AMBIENT, AMBIENT_ABOVE, GLOSS, INSIDE, LIGHTS, SOFTNESS, frame_view

    assert header.basis is not None
    appearance = appearance_of_header(header)
    moves = header.basis()  # (S, N, 3)
    rest = appearance.points(header.rest)
    # Added parts go along with the mesh in a way that is linear in what moves it, as long as no head turns.
    added = np.stack([appearance.added(header.rest + row) for row in moves]) - appearance.added(
        header.rest
    )
    moves = np.concatenate([moves, added], axis=1).astype(np.float32)
    largest = np.maximum(np.abs(moves).max((1, 2)), 1e-12)
    view = frame_view(header.rest, header.focus, facing=header.facing)
    skin = io.BytesIO()
    _save_png(appearance.texture, skin)
    uv = (appearance.place + 0.5) / appearance.texture.shape[1::-1]
    return {
        "rest": text(rest, np.float32),
        "basis": text(np.round(moves / largest[:, None, None] * 127), np.int8),
        "scale": (largest / 127).tolist(),
        "faces": text(appearance.faces, np.uint32),
        "vertex": text(appearance.vertex, np.uint32),
        "place": text(uv, np.float32),
        "skin": "data:image/png;base64," + base64.b64encode(skin.getvalue()).decode(),
        "turning": None if header.turn is None else _turning(header.turn, appearance),
        "facing": (np.eye(3) if header.facing is None else np.asarray(header.facing)).T.tolist(),
        "middle": view.centre.tolist(),
        "half": view.half,
        "lights": LIGHTS.tolist(),
        "softness": SOFTNESS.tolist(),
        "glow": [AMBIENT, AMBIENT_ABOVE, GLOSS, INSIDE],
    }


def _turning(turn: MeshTurner, appearance: Appearance) -> dict[str, Any]:
    """How much of the head's rotation each point goes along with, and which points are eyeballs."""
    share = np.concatenate([turn.share[:, 0], np.ones(appearance.added_count)])
    balls = [*turn.eyes, *appearance.balls]
    return {
        "share": text(np.round(255 * share), np.uint8),
        "pivot": np.asarray(turn.pivot, float).tolist(),
        "balls": [
            {"rows": text(rows, np.uint32), "centre": np.asarray(centre, float).tolist()}
            for rows, centre in balls
        ],
    }


def text(values: np.ndarray, kind: Any) -> str:
    """Numbers as base64, little-endian."""
    return base64.b64encode(
        np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()
    ).decode()


def _save_png(picture: np.ndarray, file: io.BytesIO) -> None:
    from PIL import Image

    Image.fromarray(picture).save(file, "PNG", optimize=True)


def _sound(audio: Audio) -> bytes:
    """A recording as AAC in an mp4, which browsers play."""
    from .video_writer import audio_file

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkemo-")))
        source = audio_file(audio, stack)
        command = [
            ffmpeg_program(),
            "-v",
            "error",
            "-nostdin",
            "-y",
            "-i",
            f"file:{source.resolve()}",
            "-map",
            "0:a:0",
        ]
        command += [
            "-ac",
            "1",
            "-c:a",
            "aac",
            "-b:a",
            "64k",
            "-movflags",
            "+faststart",
            f"file:{folder / 'sound.m4a'}",
        ]
        done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().split("\n")[0][:120]
            raise TalkemoError(
                f"{audio.name}: its sound cannot be put into a page ({reason})", "is ffmpeg whole?"
            )
        return (folder / "sound.m4a").read_bytes()
