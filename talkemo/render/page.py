"""A web page that plays an animation with its audio: one file, no network.

The page contains the mesh at rest, the displacement by each motion coordinate as int8, the
coordinates, head and eye rotations of every frame, and the change of coordinates by each emotion,
so that the viewer can mix emotions.
"""

from __future__ import annotations

import base64
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.recording import Audio
from ..errors import InputError, TalkemoError
from ..files.reading import printable
from ..formats.animation import FileWriter, Frames, Header, MeshTurner, video_frame_step
from ..formats.head_nodes import HeadNodes
from ..video.ffmpeg import AUDIO_DEMUXERS, input_arguments, run_ffmpeg

if TYPE_CHECKING:
    from ..formats.appearance import Appearance

MAX_PAGE_S = 600.0
WEB = Path(__file__).with_name("web")  # templates of pages, and the viewer's scripts and style


class PageWriter(FileWriter):
    """Writes an .html. It needs `Header.basis` and `Frames.coordinates`."""

    def __init__(self, path: Path, header: Header, audio: Audio | None):
        if header.basis is None:
            raise InputError(
                f"{path.name}: this animation cannot be written as a page",
                "pages are written by animate and transfer",
            )
        if header.frames / header.fps > MAX_PAGE_S:
            raise InputError(
                f"{path.name}: more than {MAX_PAGE_S:g} s for one page",
                "write an mp4, or cut the audio",
            )
        super().__init__(path)
        self.header, self.audio = header, audio
        self.frame_step = video_frame_step(header.fps)
        self.frames_written = 0
        self.neutral: list[np.ndarray] = []  # coordinates without the emotions below
        self.rotations = HeadNodes(header.turner_of_nodes(bake=False))
        self.emotions: dict[str, list[np.ndarray]] = {}

    def write(self, frames: Frames) -> None:
        """Append frames."""
        assert frames.coordinates is not None
        rows = slice(-self.frames_written % self.frame_step, None, self.frame_step)
        self.frames_written += len(frames.coordinates)
        self.neutral.append(frames.coordinates[rows])
        for name, change in frames.moods.items():
            self.emotions.setdefault(name, []).append(change[rows])
        self.rotations.write(frames, rows)

    def finish(self) -> None:
        """Write the page."""
        text = page_text("page.html", self._data())
        self.partial.path.write_text(text, encoding="utf-8")

    def _data(self) -> dict[str, Any]:
        """Return the JSON object that the script of web/page.html reads."""
        amounts = self.header.meta.get("amounts", {})
        emotions = []
        for name, changes in self.emotions.items():
            change = base64_text(np.concatenate(changes), np.float32)
            emotions.append({"name": name, "change": change, "amount": float(amounts.get(name, 0))})
        head, eyes = self.rotations.rotations()
        audio = None if self.audio is None else base64.b64encode(_aac(self.audio)).decode()
        return {
            **face_data(self.header),
            "name": str(self.header.meta.get("audio", "")),
            "fps": self.header.fps / self.frame_step,
            "plain": base64_text(np.concatenate(self.neutral), np.float32),
            "head": base64_text(head, np.float32),
            "eyes": base64_text(eyes, np.float32),
            "moods": emotions,
            "sound": audio,
        }


def page_text(template: str, data: dict[str, Any]) -> str:
    """Return a page of `web/` with its data as JSON, its style and its scripts."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template(template).render(data=data)


def face_data(header: Header) -> dict[str, Any]:
    """Return the data with which web/viewer.js draws a face. The header must have a basis."""
    from .appearance import appearance_of_header
    from .textures import png_of
    from .transparency import draw_order
    from .view import frame_view, shading_of_page

    assert header.basis is not None
    appearance = appearance_of_header(header)
    basis = header.basis()  # (S, N, 3)
    # Added vertices move linearly with the mesh's, as long as the head does not turn.
    added_at_rest = appearance.added.linear(header.rest)
    added = np.stack([appearance.added.linear(header.rest + row) for row in basis]) - added_at_rest
    moves = np.concatenate([basis, added], axis=1).astype(np.float32)
    largest = np.maximum(np.abs(moves).max((1, 2)), 1e-12)
    view = frame_view(header.rest, header.focus, facing=header.facing, drawn=appearance.drawn)
    facing = np.eye(3) if header.facing is None else np.asarray(header.facing)
    order, image = draw_order(appearance), appearance.texture
    if appearance.opacity is not None:
        image = np.dstack([image, appearance.opacity])
    size = np.array(image.shape[1::-1])
    eye, turner = None, header.turner_of_nodes(bake=False)
    if appearance.eye is not None:  # its middle, and radians per unit of the texture
        middle = (np.array(appearance.eye[:2]) + 0.5) / size
        eye = [*middle.tolist(), *(size / appearance.eye[2]).tolist()]
    return {
        "rest": base64_text(appearance.points(header.rest), np.float32),
        "basis": base64_text(np.round(moves / largest[:, None, None] * 127), np.int8),
        "scale": (largest / 127).tolist(),
        "bite": _bite_data(header, appearance),
        "faces": base64_text(order.faces, np.uint32),
        "opaque": [order.solid, order.cut],
        "vertex": base64_text(appearance.vertex, np.uint32),
        "place": base64_text((appearance.place + 0.5) / size, np.float32),
        "skin": "data:image/png;base64," + base64.b64encode(png_of(image)).decode(),
        "turning": None if turner is None else _turning_data(turner, appearance),
        "facing": facing.T.tolist(),
        "middle": view.centre.tolist(),
        "half": view.half,
        "shadow": _shadow_data(appearance),
        "eye": eye,
        **shading_of_page(),
    }


def _bite_data(header: Header, appearance: Appearance) -> dict[str, Any] | None:
    """Return what lowers the vertices that go with the jaw to the closed bite, see `Bite`."""
    own = None if header.bite is None else header.bite()
    found = [(own, 0), (appearance.added.bite, appearance.vertices)]
    bites = [(bite, first) for bite, first in found if bite is not None and len(bite.rows)]
    if not bites:
        return None
    return {
        "open": bites[0][0].gradient.astype(float).tolist(),
        "rows": base64_text(np.concatenate([first + b.rows for b, first in bites]), np.uint32),
        "lowered": base64_text(np.concatenate([b.opened for b, _ in bites]), np.float32),
    }


def _shadow_data(appearance: Appearance) -> dict[str, Any] | None:
    """Return how the added mouth darkens as the lips close, see `added_parts.Occlusion`."""
    from .added_parts import FollowingVertices

    if not isinstance(appearance.added, FollowingVertices):
        return None
    added, occlusion = appearance.added, appearance.added.occlusion
    share = np.zeros((appearance.vertices + len(added.points), occlusion.share.shape[1]))
    share[added.own_mouth] = added.own_occlusion.share
    share[appearance.vertices :] = occlusion.share
    own = np.isin(np.arange(len(appearance.vertex)), appearance.mouth)
    corners = np.flatnonzero(own | (appearance.vertex >= appearance.vertices))
    return {
        "corners": base64_text(corners, np.uint32),
        "upper": occlusion.upper.tolist(),
        "lower": occlusion.lower.tolist(),
        "up": occlusion.up.tolist(),
        "closed": occlusion.closed.tolist(),
        "gaps": np.asarray(occlusion.gaps, float).tolist(),
        "share": base64_text(np.round(255 * share[appearance.vertex[corners]]), np.uint8),
        "depth": occlusion.rows / appearance.texture.shape[0],
    }


def _turning_data(turn: MeshTurner, appearance: Appearance) -> dict[str, Any]:
    """Return each vertex's share of the head rotation, and the eyeballs."""
    share = np.concatenate([turn.share[:, 0], np.ones(appearance.added_count)])
    balls = []
    for rows, centre in [*turn.eyes, *appearance.balls]:
        position = np.asarray(centre, float).tolist()
        balls.append({"rows": base64_text(rows, np.uint32), "centre": position})
    return {
        "share": base64_text(np.round(255 * share), np.uint8),
        "pivot": np.asarray(turn.pivot, float).tolist(),
        "balls": balls,
    }


def base64_text(values: np.ndarray, dtype: Any) -> str:
    """Return an array as base64 text, little-endian."""
    little_endian = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(little_endian.tobytes()).decode()


def _aac(audio: Audio) -> bytes:
    """Return a recording as AAC in an mp4, which browsers play."""
    from .video_writer import audio_file

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talkemo-")))
        source, target = audio_file(audio, stack), folder / "audio.m4a"
        command = ["-v", "error", "-nostdin", "-y"]
        command += input_arguments(str(source.resolve()), AUDIO_DEMUXERS)
        command += ["-map", "0:a:0", "-ac", "1", "-c:a", "aac", "-b:a", "64k"]
        command += ["-t", f"{MAX_PAGE_S:g}", "-movflags", "+faststart", f"file:{target}"]
        status, log = run_ffmpeg(command)
        if status:
            reason = printable(log.strip().split("\n")[0], 120)
            raise TalkemoError(
                f"{audio.name}: ffmpeg cannot encode its audio for a page ({reason})",
                "is the installation of ffmpeg complete?",
            )
        return target.read_bytes()
