"""Rendering animations from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..audio.recording import load_audio
from ..errors import InputError
from ..files.reading import printable
from ..files.writing import check_output
from ..formats.animation import Header, Source, check_frames, video_frame_step
from ..formats.mesh_types import Mesh
from ..formats.registry import open_animation
from ..geometry.meshes import mesh_edges
from ..render import Renderer, new_renderer
from ..formats.appearance import Appearance
from ..render.appearance import appearance_of_header
from ..render.view import View, fitted, frame_view, width_and_height
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .bind import bind
from .outputs import PathLike, Progress

PICTURES, FILMS = (".png",), (".mp4", ".webm", ".gif")
MOST_COMPARED = 6
HEAT_PERCENTILE = 99  # of the displacements, that the warmest colour stands for
LINE, WIRE_OPACITY = np.array([40, 44, 50], np.float32), 0.4  # RGB of a wire
SHEET = 8  # frames of a contact sheet


def render(
    animation: PathLike,
    output: PathLike,
    *,
    audio: PathLike | None = None,
    size: int | tuple[int, int] = 512,
    view: str = "front",
    time: float | None = None,
    fps: float | None = None,
    fill: bool = True,
    compare: Sequence[PathLike] = (),
    caption: str | None = None,
    turntable: bool = False,
    wireframe: bool = False,
    heatmap: bool = False,
    sheet: bool = False,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    progress: Progress | None = None,
) -> None:
    """Render an npz, a GLB or a folder of meshes to a film, .mp4, .webm or .gif, or to a .png.

    A .png shows the frame at `time` s, by default the middle one, or as a `sheet` eight frames.
    audio: sound of a film; size: pixels on a side, or width and height; view: one of render.view.VIEWS
    fps: of a folder of meshes, 30 if None
    fill: whether a mesh without eyes, teeth and brows is given some; one in which no face is found never is
    compare: animations that are shown beside it, each with its name; caption: a line below
    turntable: whether the camera goes once around; wireframe: whether the edges of the triangles are drawn
    heatmap: whether colours show how far each vertex is from rest, or, with one animation to compare, from that one
    weights, models: give the face model that finds where eyes and mouth are; progress: called with frames done, in all
    Raises InputError for an unusable animation, an unknown ending or view, a missing folder.
    """
    output = Path(output)
    check_output(
        output, (*FILMS, *PICTURES), animation, *compare, *([] if audio is None else [audio])
    )
    width, height = width_and_height(size)
    if time is not None and not 0 <= time < np.inf:
        raise InputError(f"no frame at {time:g} s", "name a time of 0 or more, in seconds")
    if sheet and (time is not None or output.suffix.lower() != ".png"):
        raise InputError(
            "a contact sheet is a .png of several frames", "name one by -o, and leave --time out"
        )
    if len(compare) >= MOST_COMPARED:
        raise InputError(
            f"{len(compare) + 1} animations side by side", f"compare at most {MOST_COMPARED}"
        )
    if heatmap and len(compare) > 1:
        raise InputError(
            "a heat map shows the distance from one animation", "name one by --compare"
        )
    sources = [_open(path, fps) for path in (animation, *compare)]
    if heatmap and compare and sources[0].shape[1] != sources[1].shape[1]:
        raise InputError(
            f"{compare[0]}: another mesh than {animation}",
            "a heat map compares one mesh with itself",
        )
    models = None if heatmap else models or load_models(weights)
    headers = [_with_look(header_of(source), source, models, fill) for source in sources]
    shown_beside = sources[:1] if heatmap else sources
    labels = [Path(path).stem for path in (animation, *compare)] if len(shown_beside) > 1 else [""]
    with ExitStack() as stack:
        panels = []
        for source, header, label in zip(shown_beside, headers, labels):
            camera = fitted(
                frame_view(header.rest, header.focus, view, header.facing), width / height
            )
            heat = _Heat(source, header, sources[1] if compare else None) if heatmap else None
            appearance = appearance_of_header(header) if heat is None else heat.appearance
            renderer = new_renderer(appearance, camera, (width, height))
            stack.callback(renderer.close)
            edges = mesh_edges(header.faces)[0] if wireframe else None
            panels.append(
                _Panel(source, header, renderer, camera, label, heat, edges, (width, height))
            )
        canvas = _Canvas(panels, caption, turntable)
        if output.suffix.lower() in PICTURES:
            _write_picture(output, canvas, time, sheet)
        else:
            _write_film(output, canvas, audio, progress)


def header_of(source: Source) -> Header:
    """What a picture needs to know of an animation."""
    rest = next(_frames(source)) if source.rest is None else source.rest
    focus = np.ones(source.shape[1], bool)
    if source.focus is not None and source.focus.shape == (source.shape[1],):
        focus = source.focus.astype(bool)
    return Header(
        len(source),
        source.fps,
        source.faces,
        rest,
        focus,
        source.facing,
        source.meta,
        attributes=source.attributes,
    )


def _open(path: PathLike, fps: float | None) -> Source:
    source = open_animation(path, fps)
    if not len(source):
        raise InputError(f"{printable(path)}: no frames in it", "is it the right file?")
    return source


def _with_look(header: Header, source: Source, models: Models | None, fill: bool) -> Header:
    """A header that says how the mesh is shown, where its face is found; it is remembered, as of every mesh."""
    if models is None:
        return header
    from ..render.appearance import appearance_of

    try:
        binding = bind(
            Mesh(header.rest.astype(np.float64), source.faces, source.attributes), models=models
        )
    except InputError:
        return header
    return replace(header, appearance=lambda: appearance_of(binding, fill))


# --------------------------------------------------------------------------------------------------------- the picture


@dataclass(eq=False)
class _Panel:
    """One animation in the picture."""

    source: Source
    header: Header
    renderer: Renderer
    view: View
    label: str
    heat: _Heat | None
    edges: np.ndarray | None
    size: tuple[int, int]

    def draw(self, vertices: np.ndarray, number: int, turn: float) -> np.ndarray:
        """The frame with its number, the camera `turn` radians farther round."""
        self.renderer.view = replace(self.view, yaw=self.view.yaw + turn)
        if self.heat is not None:
            self.heat.colour(vertices, number)
        picture = self.renderer.draw(vertices)
        return picture if self.edges is None else _with_wires(picture, self, vertices)


class _Canvas:
    """Puts panels side by side, with their labels and a caption."""

    def __init__(self, panels: list[_Panel], caption: str | None, turntable: bool):
        self.panels, self.caption, self.turntable = panels, caption, turntable
        self.fps = panels[0].source.fps
        self.frames = (
            max(round(len(panel.source) / panel.source.fps * self.fps) for panel in panels) or 1
        )
        self.every = video_frame_step(self.fps)

    def frame(self, vertices: list[np.ndarray], number: int) -> np.ndarray:
        """The picture (H, W, 3) uint8 of a frame of each panel."""
        turn = 2 * np.pi * number / max(self.frames, 1) if self.turntable else 0.0
        pictures = [panel.draw(own, number, turn) for panel, own in zip(self.panels, vertices)]
        for panel, picture in zip(self.panels, pictures):
            if panel.label:
                _write_text(picture, panel.label, top=True)
        whole = np.hstack(pictures)
        if self.caption:
            _write_text(whole, self.caption, top=False)
        return whole

    def every_frame(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The vertices (N, 3) of each panel, frame by frame; a shorter animation rests at its end."""
        players = [_Player(panel.source) for panel in self.panels]
        for number in range(self.frames):
            yield number, [player.at(number / self.fps) for player in players]


class _Player:
    """The frames of an animation at ascending times; at its end it rests."""

    def __init__(self, source: Source):
        self.fps, self.frames = source.fps, _frames(source)
        self.shown, self.number = next(self.frames), 0

    def at(self, time: float) -> np.ndarray:
        """The vertices (N, 3) at `time` s."""
        while self.number < round(time * self.fps):
            self.shown = next(self.frames, self.shown)
            self.number += 1
        return self.shown


def _frames(source: Source) -> Iterator[np.ndarray]:
    """The frames (N, 3), one by one. Raises InputError where one has NaN in it."""
    done = 0
    for part in source.chunks():
        check_frames(source, part, done)
        done += len(part)
        yield from part


def _write_picture(output: Path, canvas: _Canvas, time: float | None, sheet: bool) -> None:
    from ..render.images import save_image

    last = canvas.frames - 1
    if sheet:
        wanted = np.unique(np.linspace(0, last, SHEET).round().astype(int))
    else:
        wanted = np.array(
            [canvas.frames // 2 if time is None else round(min(time * canvas.fps, last))]
        )
    pictures = [canvas.frame(vertices, k) for k, vertices in canvas.every_frame() if k in wanted]
    columns = -(-len(pictures) // 2) if len(pictures) > 1 else 1
    while len(pictures) % columns:
        pictures.append(np.zeros_like(pictures[0]))
    rows = [np.hstack(pictures[k : k + columns]) for k in range(0, len(pictures), columns)]
    save_image(output, np.vstack(rows))


def _write_film(
    output: Path, canvas: _Canvas, audio: PathLike | None, progress: Progress | None
) -> None:
    from ..files.writing import atomic_write
    from ..render.video_writer import audio_file
    from ..video.writer import VideoEncoder

    width = sum(panel.size[0] for panel in canvas.panels)
    size = canvas.panels[0].size[1] // 2 * 2, width // 2 * 2  # H.264 wants even sides
    with ExitStack() as stack:
        sound = None if audio is None else audio_file(load_audio(audio), stack)
        partial = stack.enter_context(atomic_write(output))
        frame = (size[1], size[0]), canvas.fps / canvas.every
        encoder = VideoEncoder(partial, output, *frame, sound, canvas.frames / canvas.fps)
        stack.callback(encoder.close)
        for number, vertices in canvas.every_frame():
            if number % canvas.every == 0:
                encoder.write(canvas.frame(vertices, number)[: size[0], : size[1]])
            if progress:
                progress(number + 1, canvas.frames)
        encoder.finish()


# ------------------------------------------------------------------------------------------------- heat, wires and text


class _Heat:
    """Colours a mesh by how far its vertices are from rest, or from those of another animation of the same mesh."""

    def __init__(self, source: Source, header: Header, other: Source | None):
        self.fps, self.rest = source.fps, header.rest
        count = len(header.rest)
        scale = np.linspace(0, 1, 256)[:, None]
        self.appearance = Appearance(
            header.faces.astype(np.int32),
            np.arange(count),
            np.zeros((count, 2), np.float32),
            (255 * _heat_colour(scale)).astype(np.uint8)[None].repeat(4, 0),
            count,
        )
        self.beside = None if other is None else _Player(other)
        found = [
            np.percentile(self._distance(v, k), HEAT_PERCENTILE)
            for k, v in enumerate(_frames(source))
        ]
        self.largest = max(float(np.percentile(found, HEAT_PERCENTILE)), 1e-9)
        self.beside = None if other is None else _Player(other)

    def _distance(self, vertices: np.ndarray, number: int) -> np.ndarray:
        """(N,): how far the vertices of a frame are from where they are compared with; frames ascend."""
        beside = self.rest if self.beside is None else self.beside.at(number / self.fps)
        return np.asarray(np.linalg.norm(vertices - beside, axis=1))

    def colour(self, vertices: np.ndarray, number: int) -> None:
        """Set the colours of a frame; numbers ascend."""
        self.appearance.place[:, 0] = 255 * np.clip(
            self._distance(vertices, number) / self.largest, 0, 1
        )


def _heat_colour(share: np.ndarray) -> np.ndarray:
    """Grey-blue over yellow to red, (N, 3) in [0, 1], of shares (N, 1)."""
    stops = np.array(
        [
            [0.62, 0.68, 0.76],
            [0.55, 0.78, 0.62],
            [0.96, 0.85, 0.35],
            [0.93, 0.5, 0.2],
            [0.75, 0.1, 0.15],
        ]
    )
    at = share[:, 0] * (len(stops) - 1)
    return np.column_stack([np.interp(at, np.arange(len(stops)), stops[:, k]) for k in range(3)])


def _with_wires(picture: np.ndarray, panel: _Panel, vertices: np.ndarray) -> np.ndarray:
    """A picture with the edges of the triangles that face the camera."""
    from PIL import Image, ImageDraw

    from ..geometry.meshes import vertex_normals

    view = panel.renderer.view
    seen = view.to_camera(vertices)
    places = view.to_pixels(seen, picture.shape[1], picture.shape[0])[:, :2]
    ahead = vertex_normals(seen, panel.header.faces)[:, 2] > 0.05
    wires = Image.new("L", (picture.shape[1], picture.shape[0]))
    pen = ImageDraw.Draw(wires)
    assert panel.edges is not None
    for a, b in panel.edges:
        if ahead[a] and ahead[b]:
            pen.line([*places[a], *places[b]], fill=255)
    share = np.array(wires, np.float32)[..., None] / 255 * WIRE_OPACITY
    return (picture + share * (LINE - picture)).astype(np.uint8)


def _write_text(picture: np.ndarray, text: str, top: bool) -> None:
    """Write a line into a picture, in its middle above or below."""
    from PIL import Image, ImageDraw, ImageFont

    text = " ".join(text.split())
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    size = max(12, picture.shape[0] // 22)
    font = ImageFont.load_default(size)
    while size > 8 and pen.textlength(text, font=font) > 0.94 * picture.shape[1]:
        size -= 1
        font = ImageFont.load_default(size)
    place = (picture.shape[1] / 2, size if top else picture.shape[0] - size)
    pen.text(
        place,
        text,
        fill=(236, 236, 236),
        font=font,
        anchor="mm",
        stroke_width=2,
        stroke_fill=(24, 26, 30),
    )
    picture[:] = np.array(image)
