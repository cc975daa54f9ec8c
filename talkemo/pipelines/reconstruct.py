"""Films, landmarks and corpora to 3D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..binding import Binding, FaceHint
from ..capture.audio_sync import delayed, sound_delay, video_audio
from ..capture.camera import FIELD_OF_VIEW
from ..capture.fitting import IDENTITY_MODES, Capture
from ..capture.landmark_files import (
    ENDINGS,
    HINT,
    Curves,
    LandmarkFile,
    as_points,
    read_landmark_file,
)
from ..capture.landmark_tracker import LandmarkTracker
from ..capture.landmarks import check_spread
from ..capture.video_capture import capture_video, fit_recording
from ..errors import InputError
from ..expression.emotions import Timeline
from ..expression.head_motion import gaze_of, gaze_weights
from ..face.canonical import Face
from ..face.motion import Motion
from ..files.reading import printable
from ..files.writing import check_output
from ..formats.animation import Frames, Header
from ..formats.face_models import FaceModel, read_face_model
from ..formats.live_link import head_rotation
from ..formats.mesh import save_ply
from ..formats.mesh_types import Mesh
from ..formats.obj import save_obj
from ..geometry.rigid import nearest_rotation
from ..render.preview import FORMATS as PREVIEW_FORMATS
from ..render.preview import write_preview
from ..video.reader import CAPTURE_ENDINGS, check_video
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .bind import bind
from .outputs import (
    OUTPUT_CHUNK_FRAMES,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    check_mode,
    output_paths,
    write_animation,
)
from .performance import bound_header

if TYPE_CHECKING:
    from ..render.appearance import Appearance

HEAD_FRAMES = 7  # over which the turn of a head is a mean
MODEL_PRIOR = 0.01  # penalty (mm² a vertex) on a squared coefficient of a user's model
NEUTRAL_FORMATS = (".obj", ".ply")


def reconstruct(
    source: PathLike | np.ndarray,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    fps: float | None = None,
    picture: tuple[int, int] | None = None,
    onto: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding | None = None,
    model: PathLike | None = None,
    head: bool = False,
    emotion: str | None = None,
    intensity: float = 1.0,
    neutral: PathLike | None = None,
    preview: PathLike | None = None,
    sync: str = "off",
    number: int = 1,
    field_of_view: float | None = None,
    export: ExportOptions | None = None,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    models: Models | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Fit the bilinear model to a filmed person: an animation of the person's own face, or of another mesh.

    source: a film or a photograph; or its landmarks as an array or a file, the 68 of iBUG (T, 68, 2) or MediaPipe's mesh
        (T, 478, 2) in px, y down, NaN where no face was found: npy, npz (several arrays are several recordings of one
        person, the first animated), OpenFace's csv, MediaPipe's json; or Live Link Face's csv, weights of ARKit's shapes
    fps: frames a second of landmarks, the file's own if None, or else 30; a film has its own
    picture: width and height in px, for landmarks in shares of them, as MediaPipe gives them
    onto: a mesh that the performance is put on, as of `animate`, in the place of the person's own face; hint, cache: of it
    model: a face model of the user's, see `formats.face_models`: the person's face is animated in its topology
    head: whether the mesh turns as the person's head does
    emotion: what the performance is changed to, see `transfer`, at an intensity in [0, 1.5]; None leaves it as it is
    neutral: where the face that is animated is written at rest, an obj or ply
    preview: where a film is written beside itself with the points and the fitted face over it, an mp4, or of one picture
        a png
    sync: auto or off: whether a film's sound that comes before or after its lips is brought in time with them: the lips
        are moved
    number: which of several faces in a film, counted from the largest in the first picture that has as many
    field_of_view: degrees that a film's camera sees from left to right, for a face near it; None for the paper's scaled
        orthography (Eq. 3)
    outputs, export, weights, models, progress: as of `animate`. A video and an npz have the film's sound.
    `metrics` of the result has `residual_mm` and, of a film, `residual_px`, the mean distance of the landmarks from the
    model's, `frames_without_face`, which are interpolated, `faces`, how many there are, `missing_s` of a film that is cut, and where it can be told `sound_delay_s`, by which the sound
    came after the lips.
    Raises InputError for what cannot be used, TalkemoError where `talkemo[video]` is not installed.
    """
    export, hint = export or ExportOptions(), hint or FaceHint()
    named = Path(source) if isinstance(source, str | Path) else None
    inputs = [x for x in (named, onto, model) if isinstance(x, str | Path)]
    paths = output_paths(outputs, export, [*inputs, *hint.files])
    if neutral is not None:
        check_output(Path(neutral), NEUTRAL_FORMATS, *inputs, *paths)
    if preview is not None:
        check_output(Path(preview), PREVIEW_FORMATS, *inputs, *paths)
        if named is None or named.suffix.lower() not in CAPTURE_ENDINGS:
            raise InputError("a preview is of a film", "leave --preview out")
    if fps is not None:
        check_fps(fps)
    corrected = check_mode(sync, "way to synchronise")
    if number < 1:
        raise InputError(f"face number {number}", "the largest face is number 1")
    if field_of_view is not None and not FIELD_OF_VIEW[0] <= field_of_view <= FIELD_OF_VIEW[1]:
        raise InputError(
            f"a field of view of {field_of_view:g} degrees",
            f"choose from {FIELD_OF_VIEW[0]:g} to {FIELD_OF_VIEW[1]:g}; webcams and telephones have about 65",
        )
    course = None if emotion is None else Timeline.constant(emotion, intensity)
    film, found = None, None
    if named is not None and named.suffix.lower() in CAPTURE_ENDINGS:
        if fps is not None:
            raise InputError("a film has its own frame rate", "leave --fps out")
        check_video(named)
        tracker = LandmarkTracker()  # what is not installed is said before the face is bound
    elif number > 1 or field_of_view is not None or sync != "off":
        raise InputError(
            "a face's number, a field of view and the sound's delay are of films", "leave them out"
        )
    elif named is not None:
        if named.suffix.lower() not in ENDINGS:
            raise InputError(f"{printable(named)}: cannot read this kind of file", HINT)
        found = read_landmark_file(named, picture)
    else:
        found = LandmarkFile([as_points(np.asarray(source), _name(None), picture)])
    if isinstance(found, LandmarkFile):
        _check_landmarks(found.recordings, _name(named))
    if model is not None and onto is not None:
        raise InputError("a face model and a mesh to animate", "give one of them")
    topology = None if model is None else read_face_model(model)
    models = models or load_models(weights)
    face = models.face
    if onto is not None and not isinstance(onto, Binding):
        onto = bind(onto, hint=hint, models=models, cache=cache)
    if isinstance(found, Curves):
        capture = _of_curves(face, replace(found, fps=fps or found.fps))
        fps = fps or found.fps
    elif found is not None:
        fps = fps or found.fps or 30.0
        try:
            capture = fit_recording(face, found.recordings, fps)
        except InputError as error:
            raise InputError(f"{_name(named)}: {error.message}", error.hint) from None
    else:
        assert named is not None
        film = capture_video(face, named, tracker, progress, number, field_of_view)
        capture, fps = film.capture, film.fps
    check_fps(fps)
    sound = video_audio(named) if film is not None and named is not None else None
    delay = None if sound is None else sound_delay(capture, face, models.talking, sound)
    if corrected and delay is not None:
        capture = delayed(capture, delay.seconds)
    meta: dict[str, Any] = {
        "talkemo": __version__,
        ("landmarks" if film is None else "film"): _name(named),
    }
    if sound is not None:
        meta["audio"] = sound.name
    if course is not None:
        meta |= {"emotion": emotion, "intensity": intensity}
    meta["residual_mm"] = capture.residual.round(2).tolist()
    if film is not None:
        meta["residual_px"] = film.residual_px.round(2).tolist()
    meta["seen"] = capture.seen.astype(int).tolist()
    person = Person(face, capture.identity)
    if topology is not None and model is not None:
        onto, coefficients = bound_person(topology, person, models, cache)
        meta |= {"model": Path(model).name, "identity": coefficients.round(4).tolist()}
    if isinstance(onto, Binding):
        header = bound_header(onto, len(capture.shapes), fps, meta)
    else:
        header = Header(
            frames=len(capture.shapes),
            fps=fps,
            faces=face.faces,
            rest=person.neutral,
            focus=np.ones(len(face.mean), bool),
            meta=meta,
            targets=person.arkit_targets,
            appearance=person.appearance,
            basis=person.basis,
        )
    animated = onto if isinstance(onto, Binding) else person
    result = write_animation(
        paths,
        header,
        _frames(capture, face, animated, models, course, head),
        export=export,
        audio=sound,
        binding_error_mm=onto.error if isinstance(onto, Binding) else 0.0,
        progress=progress,
    )
    if neutral is not None:
        save = save_obj if Path(neutral).suffix.lower() == ".obj" else save_ply
        save(neutral, header.rest, header.faces)
    if preview is not None and film is not None and named is not None:
        own = lambda part: person.vertices(film.capture.shapes[part])
        write_preview(Path(preview), named, film, face.faces, own, sound)
    result.metrics["residual_mm"] = round(float(capture.residual[capture.seen].mean()), 3)
    if film is not None:
        result.metrics["residual_px"] = round(float(film.residual_px[film.capture.seen].mean()), 3)
        result.metrics["faces"] = film.faces
        if film.missing:
            result.metrics["missing_s"] = round(film.missing, 2)
        result.metrics["frames_without_face"] = int((~film.capture.seen).sum())
        if delay is not None:
            result.metrics["sound_delay_s"] = delay.seconds
    return result


def _frames(
    capture: Capture,
    face: Face,
    animated: Person | Binding,
    models: Models,
    course: Timeline | None,
    head: bool,
) -> Iterator[tuple[Motion, Frames]]:
    """The frames of a capture on a person's own face or a bound mesh, part by part."""
    turns = steady_turns(capture.rotation)
    for start in range(0, len(capture.shapes), OUTPUT_CHUNK_FRAMES):
        part = slice(start, start + OUTPUT_CHUNK_FRAMES)
        shapes = capture.shapes[part]
        motion = Motion.of_shapes(face, capture.time[part], shapes)
        change = np.zeros_like(motion.coordinates)
        if course is not None:
            after = models.emotion.transfer(
                motion, course.amounts(motion.times), from_neutral=False
            )
            change = after.coordinates - motion.coordinates
            motion = after
        if isinstance(animated, Binding):
            vertices, landmarks = animated.vertices(motion.coordinates), animated.landmarks68
            axes, middle = animated.placement.rotation, animated.rest[animated.focus].mean(0)
        else:
            vertices = animated.vertices(shapes) + np.tensordot(change, face.span, 1).astype(
                np.float32
            )
            landmarks, axes, middle = face.landmarks68, np.eye(3), animated.neutral.mean(0)
        if head:
            turn = (axes @ turns[part] @ axes.T).astype(np.float32)
            vertices = (vertices - middle) @ turn.transpose(0, 2, 1) + middle
        vertices = vertices.astype(np.float32, copy=False)
        arkit = shapes @ face.arkit_matrix
        gaze = gaze_of(arkit)  # an emotion leaves it as it is
        if course:
            arkit = gaze_weights(motion.arkit(face), gaze)
        yield (
            motion,
            Frames(vertices, vertices[:, landmarks], arkit, turns[part], gaze, motion.coordinates),
        )


def steady_turns(rotation: np.ndarray) -> np.ndarray:
    """The head's rotations (T, 3, 3) from its mean one, without a tracker's trembling.

    Each is a smooth mean of HEAD_FRAMES frames. What they are measured from is the mean of the film: where a person looks
    straight ahead no film says, and the camera may stand high or low.
    """
    half = HEAD_FRAMES // 2
    window = np.hanning(HEAD_FRAMES + 2)[1:-1]
    padded = np.pad(rotation, ((half, half), (0, 0), (0, 0)), mode="edge")
    smooth = sum(w * padded[k : k + len(rotation)] for k, w in enumerate(window / window.sum()))
    ahead, _ = nearest_rotation(rotation.mean(0))
    turns, _ = nearest_rotation(np.asarray(smooth))
    return np.asarray(turns @ ahead.T)


def _name(path: Path | None) -> str:
    return "landmarks" if path is None else path.name


class Person:
    """The face of standardised identity coefficients (I,), with its own expressions."""

    def __init__(self, face: Face, identity: np.ndarray):
        self.face = face
        self.core = face.core @ face.identity_weights(identity)  # (R, E)
        self.neutral = self.vertices(np.zeros((1, len(face.expression_names)), np.float32))[0]

    def vertices(self, shapes: np.ndarray) -> np.ndarray:
        """Vertices (T, V, 3) float32 mm for blend-shape weights (T, S)."""
        coefficients = self.face.expression_weights(shapes) @ self.core.T
        return (self.face.mean + np.tensordot(coefficients, self.face.basis, 1)).astype(np.float32)

    def basis(self) -> np.ndarray:
        """(S, V, 3) float32 mm, what a unit of each coordinate of a motion moves this face by."""
        return self.vertices(self.face.span_shapes.astype(np.float32)) - self.neutral

    def appearance(self) -> Appearance:
        """How pictures show this face."""
        from ..render.appearance import canonical_appearance

        return canonical_appearance(self.face, self.neutral)

    def arkit_targets(self) -> np.ndarray:
        """(52, V, 3) float32 mm, what ARKit's shapes at weight 1 move this face by."""
        return self.vertices((self.face.arkit_matrix > 0).T.astype(np.float32)) - self.neutral


def bound_person(
    model: FaceModel, person: Person, models: Models, cache: bool = True
) -> tuple[Binding, np.ndarray]:
    """A person's face in a model's topology, bound, and the model's coefficients (I,) for it.

    Where the mean face of the model is bound, it is moved as the person's face differs from the canonical mean face.
    """
    face = models.face
    found = bind(model.mesh, models=models, cache=cache)
    on_skin = found.canonical >= 0
    differs = (person.neutral - face.mean)[found.canonical[on_skin]]
    wanted = found.scale * differs @ found.placement.rotation.T
    design = model.identity[:, found.moving[on_skin]].reshape(len(model.identity), -1) / np.float32(
        found.scale
    )
    gram = design @ design.T + MODEL_PRIOR * on_skin.sum() * np.eye(len(design))
    coefficients = np.linalg.solve(gram, design @ wanted.reshape(-1) / found.scale)
    vertices = model.mesh.vertices + np.tensordot(coefficients, model.identity, 1)
    return bind(replace(model.mesh, vertices=vertices), models=models, cache=False), coefficients


def _check_landmarks(recordings: list[np.ndarray], name: str) -> None:
    """Raise InputError where recordings are not landmarks of a face, of one kind."""
    if not recordings or len({r.shape[1] for r in recordings}) > 1:
        raise InputError(f"{name}: its arrays are {[r.shape for r in recordings][:3]}", HINT)
    if not all(np.isfinite(r).all((1, 2)).any() for r in recordings):
        raise InputError(f"{name}: a recording in which no frame has a face", "leave it out")
    check_spread(recordings, name)


def _of_curves(face: Face, curves: Curves) -> Capture:
    """Recorded weights as a capture of the mean person."""
    count = len(curves.arkit)
    return Capture(
        shapes=(curves.arkit @ (face.arkit_matrix > 0).T).astype(np.float32),
        rotation=head_rotation(curves.head).astype(np.float32),
        scale=np.ones(count, np.float32),
        translation=np.zeros((count, 2), np.float32),
        residual=np.zeros(count, np.float32),
        identity=np.zeros(IDENTITY_MODES, np.float32),
        time=np.arange(count) / curves.fps,
        seen=np.ones(count, bool),
        gap=np.full(count, np.nan, np.float32),
    )


def reconstruct_corpus(
    folder: Path,
    out: Path,
    models: Models,
    jobs: int = 1,
    progress: Progress | None = None,
    scheduler: str | None = None,
) -> dict[str, object]:
    """Fit a corpus folder and write `out`/CORPUS.npz; returns the figures of data.captures.summary.

    A call that was ended goes on with the people that it has not fitted: they are kept in `out`/CORPUS.partial.
    """
    from ..data import captures

    if out.suffix == ".npz" or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: captures of a corpus go into a folder", "choose a folder's name")
    folder = folder.resolve()
    path = out / f"{folder.name}.npz"
    fitted = captures.make_captures(
        folder.name, folder.parent, path, models, jobs, progress, scheduler
    )
    return {"input": folder.name, **captures.summary(fitted)}
