"""Render an animation that exists to a video or an image (`talkemo render`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..audio.recording import Audio
from ..binding import Binding
from ..errors import InputError
from ..files.reading import printable
from ..files.writing import check_output
from ..formats.animation import Header, Source, check_frames, video_frame_step
from ..formats.appearance import Appearance
from ..formats.groups import visible_triangles
from ..formats.mesh import load_mesh
from ..formats.mesh_types import Mesh
from ..formats.registry import needs_mesh
from ..geometry.meshes import mesh_edges, vertex_normals
from ..render import Renderer, new_renderer
from ..render.appearance import appearance_of_header
from ..render.scale_bar import draw_scale
from ..render.text import draw_text, is_drawable
from ..render.view import View, fitted, frame_view, width_and_height
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .bind import bind
from .named_audio import Notice, audio_of, missing_audio
from .options import FRAMINGS, PathLike, RenderOptions
from .outputs import Progress
from .shown_frames import ShownFrames
from .sources import open_source

RENDERED_IMAGE_ENDINGS = (".png",)
RENDERED_VIDEO_ENDINGS = (".mp4", ".webm", ".gif")
ENDINGS_WITH_AUDIO = (".mp4", ".webm")
MAX_COMPARED_ANIMATIONS = 6
HEATMAP_PERCENTILE = 99  # of the distances, shown in the warmest colour
MIN_HEATMAP_DISTANCE = 1e-9  # mesh units; a smaller one counts as none
WIRE_COLOUR, WIRE_OPACITY = np.array([40, 44, 50], np.float32), 0.4  # RGB
SHEET_FRAMES = 8
# RGB stops of the heat map, from no distance to the largest.
HEATMAP_STOPS = np.array(
    [
        [0.62, 0.68, 0.76],
        [0.55, 0.78, 0.62],
        [0.96, 0.85, 0.35],
        [0.93, 0.5, 0.2],
        [0.75, 0.1, 0.15],
    ]
)


def render(
    animation: PathLike,
    output: PathLike,
    *,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
    **options: object,
) -> None:
    """Render an npz, GLB, .npy, mesh sequence or fitted clip to a video (.mp4, .webm, .gif) or .png.

    Parameters
    ----------
    animation : path
    output : path
    weights, models
        The face model that finds eyes and mouth: a set of weights, or what `load_models` returned.
    progress : callable, optional
        Called with the frames done and their number.
    notice : callable, optional
        Called with a message if a video has no audio.
    **options
        The fields of `RenderOptions`: audio, size, view, frame, time, fps, mesh, fill, compare,
        caption, turntable, wireframe, heatmap, sheet.

    Raises
    ------
    InputError
        For an unusable animation, an unknown ending or view, a missing folder, or a time after
        the animation's end.
    """
    settings, output = RenderOptions(**options), Path(output)  # type: ignore[arg-type]
    endings = (*RENDERED_VIDEO_ENDINGS, *RENDERED_IMAGE_ENDINGS)
    files = [path for path in (settings.audio, settings.mesh) if path is not None]
    check_output(output, endings, animation, *settings.compare, *files)
    _check_options(settings, output)
    open_models = lambda: models or load_models(weights)
    paths = [animation, *settings.compare]
    sources = _open_all(paths, settings.fps, open_models, settings.mesh)
    if settings.heatmap and len({source.shape[1] for source in sources}) > 1:
        raise InputError(
            f"{settings.compare[0]}: another mesh than {animation}",
            "a heat map compares animations of the same mesh",
        )
    has_audio = output.suffix.lower() in ENDINGS_WITH_AUDIO
    if settings.audio is not None and not has_audio:
        raise InputError(
            f"{output.name}: a {output.suffix} has no audio",
            "name a .mp4 or .webm, or leave it out",
        )
    audio = audio_of(sources[0], settings.audio) if has_audio else None
    if audio is not None and audio.path is not None:
        check_output(output, endings, audio.path)
    models = open_models()
    labels = [Path(path).stem for path in paths]
    written = [settings.caption or "", *(labels if len(labels) > 1 else [])]
    _announce_missing_characters(written, notice)
    with ExitStack() as stack:
        panels = _open_panels(sources, labels, settings, models, stack)
        canvas = _Canvas(panels, settings.caption, settings.turntable)
        if output.suffix.lower() in RENDERED_IMAGE_ENDINGS:
            _write_image(output, canvas, settings.time, settings.sheet)
            return
        if has_audio and audio is None and notice is not None:
            notice(missing_audio(sources[0]))
        _write_video(output, canvas, audio, progress)


def _announce_missing_characters(texts: list[str], notice: Notice | None) -> None:
    """Say which texts have characters that no font of this machine has."""
    if notice is None:
        return
    for text in texts:
        if not is_drawable(text):
            notice(f"no font of this machine shows all of: {printable(text)}")


def _check_options(options: RenderOptions, output: Path) -> None:
    """Raise InputError for options that do not fit the output or each other."""
    width_and_height(options.size)
    if options.time is not None and not 0 <= options.time < np.inf:
        raise InputError(f"no frame at {options.time:g} s", "name a time of 0 or more, in seconds")
    if options.frame not in (None, *FRAMINGS):
        raise InputError(f"unknown frame '{options.frame}'", f"choose {' or '.join(FRAMINGS)}")
    _check_kind(options, is_image=output.suffix.lower() in RENDERED_IMAGE_ENDINGS)
    if len(options.compare) >= MAX_COMPARED_ANIMATIONS:
        raise InputError(
            f"{len(options.compare) + 1} animations side by side",
            f"compare at most {MAX_COMPARED_ANIMATIONS}",
        )
    if options.heatmap and len(options.compare) > 1:
        raise InputError(
            "a heat map shows the distance from one animation", "name one with --compare"
        )


def _check_kind(options: RenderOptions, is_image: bool) -> None:
    """Raise InputError for options of images with a video, and of videos with an image."""
    if options.time is not None and not is_image:
        raise InputError("--time chooses the frame of a .png", "leave it out, or name a .png")
    if options.turntable and is_image and not options.sheet:
        raise InputError(
            "a turntable is a video", "name a .mp4, .webm or .gif, or add --sheet for eight views"
        )
    if options.sheet and (options.time is not None or not is_image):
        raise InputError(
            "a contact sheet is a .png of several frames", "name one with -o, without --time"
        )


def header_of(source: Source) -> Header:
    """Return what a renderer needs to know about an animation."""
    rest = next(_frames(source)) if source.rest is None else source.rest
    focus = np.ones(source.shape[1], bool)
    if source.focus is not None and source.focus.shape == focus.shape:
        focus = source.focus.astype(bool)
    visible = visible_triangles(source.faces, source.attributes, source.shape[1])
    return Header(
        len(source),
        source.fps,
        source.faces[visible] if visible.any() else source.faces,
        rest,
        focus,
        source.facing,
        source.meta,
        attributes=source.attributes,
    )


def _open_all(
    paths: list[PathLike],
    fps: float | None,
    models: Callable[[], Models],
    mesh: PathLike | None,
) -> list[Source]:
    """Open animations, which must have frames.

    `mesh` is for those without triangles. If all have triangles, it gives them what its file says
    about the surface: groups, texture and colours.
    """
    without_triangles = [path for path in paths if needs_mesh(path)]
    sources = []
    for path in paths:
        source = open_source(path, fps, models, mesh if path in without_triangles else None)
        if not len(source):
            raise InputError(
                f"{printable(path)}: no frames in it", "check that it is the right file"
            )
        sources.append(source)
    if mesh is not None and not without_triangles:
        attributed_mesh = load_mesh(mesh)
        for source in sources:
            _set_attributes(source, attributed_mesh)
    return sources


def _set_attributes(source: Source, mesh: Mesh) -> None:
    """Give an animation the attributes of its mesh. Raises InputError for another mesh."""
    same_count = source.shape[1] == len(mesh.vertices)
    if not same_count or not np.array_equal(source.faces, mesh.faces):
        raise InputError(
            f"{printable(source.path)}: its triangles are not those of {mesh.name}",
            "--mesh names the mesh that the animation was made of",
        )
    source.attributes = mesh.attributes


def _open_panels(
    sources: list[Source],
    labels: list[str],
    settings: RenderOptions,
    models: Models,
    stack: ExitStack,
) -> list[_Panel]:
    """Return a panel for each animation, or one for a heat map; `stack` closes their renderers."""
    panels = []
    for source, label in zip(sources[:1] if settings.heatmap else sources, labels):
        reference = sources[1] if settings.heatmap and len(sources) > 1 else None
        shown_label = label if len(sources) > 1 and not settings.heatmap else ""
        panels.append(_open_panel(source, reference, shown_label, settings, models, stack))
    return panels


def _open_panel(
    source: Source,
    reference: Source | None,
    label: str,
    settings: RenderOptions,
    models: Models,
    stack: ExitStack,
) -> _Panel:
    """Return the panel of an animation; `reference` is what its heat map compares it with."""
    size = width_and_height(settings.size)
    header = header_of(source)
    binding = _binding_of(header, source, models)
    framed = _framed(header, binding, settings.frame, source)
    heatmap, shown = None, None
    if settings.heatmap:
        heatmap = _Heatmap(source, header, reference, None if binding is None else binding.scale)
    elif binding is not None:
        header = _with_appearance(header, binding, settings.fill)
        framed = _with_cut(framed, binding)
        shown = ShownFrames(source, binding)
    appearance = appearance_of_header(header) if heatmap is None else heatmap.appearance
    view = frame_view(framed.rest, framed.focus, settings.view, framed.facing, appearance.drawn)
    camera = fitted(view, size[0] / size[1])
    renderer = new_renderer(appearance, camera, size)
    stack.callback(renderer.close)
    edges = mesh_edges(header.faces)[0] if settings.wireframe else None
    return _Panel(
        source, header.faces, renderer, appearance, camera, label, shown, heatmap, edges, size
    )


def _binding_of(header: Header, source: Source, models: Models) -> Binding | None:
    """Return the binding of an animation's mesh, None if no face is found in it."""
    mesh = Mesh(header.rest.astype(np.float64), source.faces, source.attributes)
    try:
        return bind(mesh, models=models)
    except InputError:
        return None


def _with_appearance(header: Header, binding: Binding, fill: bool) -> Header:
    """Return a header of a painted face, whose lips may be cut, and eyes and teeth added."""
    from ..render.appearance import appearance_of

    shown = binding.shown
    faces = header.faces
    if binding.cut is not None:
        visible = visible_triangles(shown.mesh.faces, shown.mesh.attributes, len(shown.rest))
        faces = shown.mesh.faces[visible] if visible.any() else shown.mesh.faces
    return replace(
        header, faces=faces, appearance=lambda fill: appearance_of(shown, fill), fill=fill
    )


def _with_cut(header: Header, binding: Binding) -> Header:
    """Return a header of a mesh with the vertices of the cut between its lips."""
    shown, count = binding.shown, len(header.focus)
    focus = np.concatenate([header.focus, shown.focus[count:]])
    return replace(header, rest=shown.rest, focus=focus)


def _framed(header: Header, binding: Binding | None, frame: str | None, source: Source) -> Header:
    """Return a header whose focus is what the camera frames: face, body or the default.

    Raises InputError for the face of an animation that has none.
    """
    if frame == "body":
        return replace(header, focus=np.ones(len(header.rest), bool))
    if frame is None or not header.focus.all():
        return header
    if binding is None:
        raise InputError(f"{printable(source.path)}: no face is found in it", "use --frame body")
    facing = binding.placement.rotation if header.facing is None else header.facing
    return replace(header, focus=binding.focus, facing=facing)


# ---------------------------------------------------------------------------------------- the image


@dataclass(eq=False)
class _Panel:
    """One of the animations that are drawn side by side."""

    source: Source
    faces: np.ndarray
    renderer: Renderer
    appearance: Appearance
    view: View
    label: str
    shown: ShownFrames | None
    heatmap: _Heatmap | None
    edges: np.ndarray | None
    size: tuple[int, int]

    def draw(self, frame: _Frame, number: int, turn: float) -> np.ndarray:
        """Return the image of the video's frame `number`, with the camera turned by `turn` radians."""
        self.renderer.view = replace(self.view, yaw=self.view.yaw + turn)
        vertices = frame.vertices
        if self.heatmap is not None:
            self.heatmap.colour(vertices, number)
        if self.shown is not None:
            vertices, gaze = self.shown(vertices, frame.number)
            self.appearance.look_at(gaze)
        image = self.renderer.draw(vertices)
        if self.edges is not None:
            image = _draw_wires(image, self.renderer.view, vertices, self.faces, self.edges)
        if self.label:
            draw_text(image, self.label, at_top=True)
        return image


class _Canvas:
    """Panels side by side, with a caption."""

    def __init__(self, panels: list[_Panel], caption: str | None, turntable: bool):
        self.panels, self.caption, self.turntable = panels, caption, turntable
        self.fps = panels[0].source.fps
        durations = [len(panel.source) / panel.source.fps for panel in panels]
        self.frames = max(round(duration * self.fps) for duration in durations) or 1
        self.frame_step = video_frame_step(self.fps)

    def draw(self, frames: list[_Frame], number: int) -> np.ndarray:
        """Return the image (H, W, 3) uint8 of frame `number`, which has a frame of each panel."""
        turn = 2 * np.pi * number / self.frames if self.turntable else 0.0
        images = [panel.draw(frame, number, turn) for panel, frame in zip(self.panels, frames)]
        image = np.hstack(images)
        heatmap = self.panels[0].heatmap
        if heatmap is not None:
            draw_scale(image, heatmap.colours, heatmap.label)
        if self.caption:
            draw_text(image, self.caption, at_top=False)
        return image

    def frames_of_panels(self) -> Iterator[tuple[int, list[_Frame]]]:
        """Yield each frame's number and the frame of each panel."""
        players = [_Player(panel.source) for panel in self.panels]
        for number in range(self.frames):
            yield number, [player.at(number / self.fps) for player in players]


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame of an animation: its vertices (N, 3), and its number."""

    vertices: np.ndarray
    number: int


class _Player:
    """The frames of an animation at ascending times; after its end the last one."""

    def __init__(self, source: Source):
        self.fps, self.frames = source.fps, _frames(source)
        self.current, self.number = next(self.frames), 0

    def at(self, time: float) -> _Frame:
        """Return the frame at a time in seconds."""
        while self.number < round(time * self.fps):
            self.current = next(self.frames, self.current)
            self.number += 1
        return _Frame(self.current, self.number)


def _frames(source: Source) -> Iterator[np.ndarray]:
    """Yield frames (N, 3). Raises InputError for one that contains NaN or infinity."""
    done = 0
    for chunk in source.chunks():
        check_frames(source, chunk, done)
        done += len(chunk)
        yield from chunk


def _write_image(output: Path, canvas: _Canvas, time: float | None, sheet: bool) -> None:
    """Write one frame, or several as a contact sheet."""
    from ..render.images import save_image

    last = canvas.frames - 1
    if sheet:
        numbers = np.unique(np.linspace(0, last, SHEET_FRAMES).round().astype(int))
    elif time is None:
        numbers = np.array([canvas.frames // 2])
    else:
        _check_time(time, canvas)
        numbers = np.array([round(min(time * canvas.fps, last))])
    needed = islice(canvas.frames_of_panels(), int(numbers[-1]) + 1)
    images = [canvas.draw(frames, number) for number, frames in needed if number in numbers]
    columns = -(-len(images) // 2) if len(images) > 1 else 1
    while len(images) % columns:
        images.append(np.zeros_like(images[0]))
    rows = [np.hstack(images[k : k + columns]) for k in range(0, len(images), columns)]
    save_image(output, np.vstack(rows))


def _check_time(time: float, canvas: _Canvas) -> None:
    """Raise InputError for a time after the last frame."""
    duration = canvas.frames / canvas.fps
    if time > duration:
        raise InputError(
            f"--time {time:g} is after the end: the animation lasts {duration:.4g} s",
            f"choose a time from 0 to {duration:.4g} s",
        )


def _write_video(
    output: Path, canvas: _Canvas, audio: Audio | None, progress: Progress | None
) -> None:
    """Encode the frames, at most 30 per second, with the audio."""
    from ..files.writing import atomic_write
    from ..render.video_writer import audio_file
    from ..video.encoder import VideoEncoder

    # H.264 needs even sides.
    width = sum(panel.size[0] for panel in canvas.panels) // 2 * 2
    height = canvas.panels[0].size[1] // 2 * 2
    fps, seconds = canvas.fps / canvas.frame_step, canvas.frames / canvas.fps
    with ExitStack() as stack:
        audio_path = None if audio is None else audio_file(audio, stack)
        partial = stack.enter_context(atomic_write(output))
        encoder = VideoEncoder(partial, output, (width, height), fps, audio_path, seconds)
        stack.callback(encoder.close)
        for number, frames in canvas.frames_of_panels():
            if number % canvas.frame_step == 0:
                encoder.write(canvas.draw(frames, number)[:height, :width])
            if progress:
                progress(number + 1, canvas.frames)
        encoder.finish()


# ---------------------------------------------------------------------------- heat map and wires


class _Heatmap:
    """Colours a mesh by the distance of its vertices from rest, or from another animation.

    Attributes
    ----------
    colours : (256, 3) uint8
        From no distance to the largest one with a colour of its own.
    label : str
        That distance with its unit.
    """

    def __init__(
        self, source: Source, header: Header, other: Source | None, mesh_units_a_mm: float | None
    ):
        self.fps, self.rest, self.other = source.fps, header.rest, other
        count = len(header.rest)
        self.colours = (255 * _heat_colour(np.linspace(0, 1, 256))).astype(np.uint8)
        self.appearance = Appearance(
            header.faces.astype(np.int32),
            np.arange(count),
            np.zeros((count, 2), np.float32),
            self.colours[None].repeat(4, 0),
            count,
        )
        self._rewind()
        percentiles = [
            np.percentile(self._distance(vertices, number), HEATMAP_PERCENTILE)
            for number, vertices in enumerate(_frames(source))
        ]
        largest = float(np.percentile(percentiles, HEATMAP_PERCENTILE))
        self.label = _distance_label(largest, mesh_units_a_mm)
        self.largest = max(largest, MIN_HEATMAP_DISTANCE)
        self._rewind()

    def _rewind(self) -> None:
        self.reference = None if self.other is None else _Player(self.other)

    def _distance(self, vertices: np.ndarray, number: int) -> np.ndarray:
        """Return the distance (N,) of a frame's vertices from the reference; numbers ascend."""
        reference = (
            self.rest if self.reference is None else self.reference.at(number / self.fps).vertices
        )
        return np.asarray(np.linalg.norm(vertices - reference, axis=1))

    def colour(self, vertices: np.ndarray, number: int) -> None:
        """Set the colours of a frame; numbers ascend."""
        share = np.clip(self._distance(vertices, number) / self.largest, 0, 1)
        self.appearance.place[:, 0] = 255 * share


def _distance_label(distance: float, mesh_units_a_mm: float | None) -> str:
    """Return the largest distance of a heat map in mm or, if no face is found, in mesh units."""
    if distance <= MIN_HEATMAP_DISTANCE:
        return "no distance"
    if mesh_units_a_mm is None:
        return f"{distance:.3g} mesh units or more"
    return f"{distance / mesh_units_a_mm:.3g} mm or more"


def _heat_colour(share: np.ndarray) -> np.ndarray:
    """Return RGB (N, 3) in [0, 1], from grey-blue over yellow to red, for shares (N,)."""
    stops = np.arange(len(HEATMAP_STOPS))
    position = share * stops[-1]
    return np.column_stack([np.interp(position, stops, channel) for channel in HEATMAP_STOPS.T])


def _draw_wires(
    image: np.ndarray, view: View, vertices: np.ndarray, faces: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """Return an image with the edges (E, 2) whose vertices face the camera."""
    from PIL import Image, ImageDraw

    seen = view.to_camera(vertices)
    pixels = view.to_pixels(seen, image.shape[1], image.shape[0])[:, :2]
    facing = vertex_normals(seen, faces)[:, 2] > 0.05
    wires = Image.new("L", (image.shape[1], image.shape[0]))
    pen = ImageDraw.Draw(wires)
    for a, b in edges[facing[edges].all(1)]:
        pen.line([*pixels[a], *pixels[b]], fill=255)
    opacity = np.array(wires, np.float32)[..., None] / 255 * WIRE_OPACITY
    return (image + opacity * (WIRE_COLOUR - image)).astype(np.uint8)
