"""Landmarks and curves that other programs wrote."""

import csv
import json

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.capture.landmark_files import Curves, LandmarkFile, as_landmarks, read_landmark_file
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.live_link import LIVE_LINK_NAMES


@pytest.fixture(scope="module")
def points(face):
    """Twelve frames of the mean face in which the jaw opens: (T, 68, 2) px."""
    jaw = face.expression_basis[face.expression_names.index("jawOpen")][face.landmarks68]
    moved = face.mean[face.landmarks68] + np.linspace(0, 0.5, 12)[:, None, None] * jaw
    return moved[..., :2] * [2, -2] + 300


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_openface(points, tmp_path):
    names = ["frame", " face_id", " timestamp", " confidence", " success"]
    names += [f" {axis}_{k}" for axis in "xy" for k in range(68)]
    rows = [[k + 1, 0, k / 25, 0.9, int(k != 3), *p[:, 0], *p[:, 1]] for k, p in enumerate(points)]
    rows.insert(1, [1, 1, 0.0, 0.9, 1, *np.zeros(136)])  # another face
    read = read_landmark_file(write_csv(tmp_path / "o.csv", [names, *rows]))
    assert read.fps == 25 and np.isnan(read.recordings[0][3]).all()
    np.testing.assert_allclose(read.recordings[0][5], points[5], rtol=1e-5)


def test_rows_of_136_numbers(points, tmp_path):
    flat = points.reshape(12, 136)
    np.save(tmp_path / "a.npy", flat)
    plain = write_csv(tmp_path / "a.csv", flat)
    headed = write_csv(tmp_path / "b.csv", [[f"p{k}" for k in range(136)], *flat])
    for path in (tmp_path / "a.npy", plain, headed):
        np.testing.assert_allclose(read_landmark_file(path).recordings[0], points, rtol=1e-5)


def test_mediapipe(tmp_path):
    mesh = np.random.default_rng(0).random((3, 478, 3))
    np.save(tmp_path / "m.npy", mesh)
    with pytest.raises(InputError, match="fractions of the image's sides"):
        read_landmark_file(tmp_path / "m.npy")
    wanted = mesh[..., :2] * [640, 480]
    np.testing.assert_allclose(
        read_landmark_file(tmp_path / "m.npy", (640, 480)).recordings[0], wanted, rtol=1e-5
    )
    point = lambda p: {"x": p[0], "y": p[1], "z": p[2], "visibility": 0}
    plain = [[point(p) for p in frame] for frame in mesh]
    results = [{"faceLandmarks": [frame]} for frame in plain]
    results[1]["faceLandmarks"] = []  # no face
    for name, content in (("a.json", plain), ("b.json", {"frames": results})):
        (tmp_path / name).write_text(json.dumps(content))
        read = read_landmark_file(tmp_path / name, (640, 480)).recordings[0]
        np.testing.assert_allclose(read[[0, 2]], wanted[[0, 2]], rtol=1e-5)
        assert np.isnan(read[1]).all() == (name == "b.json")
    (tmp_path / "c.json").write_text('{"frames": 3}')
    with pytest.raises(InputError, match=r"c\.json: not a file of landmarks"):
        read_landmark_file(tmp_path / "c.json")


def test_live_link_face(face, tmp_path, example_face, models):
    rng = np.random.default_rng(1)
    weights = np.zeros((30, 52))
    weights[:, ARKIT_NAMES.index("jawOpen")] = rng.random(30) * 0.5
    weights[:, ARKIT_NAMES.index("mouthSmileLeft")] = rng.random(30) * 0.5
    names = [
        "Timecode",
        "BlendShapeCount",
        *(n[0].upper() + n[1:] for n in LIVE_LINK_NAMES),
        "HeadYaw",
        "HeadPitch",
        "HeadRoll",
    ]
    order = [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]
    rows = [
        [f"10:00:{k // 10:02d}:{k % 10:02d}.000", 61, *w[order], 0.1 * k, 0, 0]
        for k, w in enumerate(weights)
    ]
    path = write_csv(tmp_path / "l.csv", [names, *rows])
    read = read_landmark_file(path)
    assert isinstance(read, Curves) and read.fps == 10 and read.head[2, 0] == pytest.approx(0.2)
    np.testing.assert_allclose(read.arkit, weights, atol=1e-6)
    result = talkemo.reconstruct(path, onto=example_face, models=models)
    assert result.fps == 10
    np.testing.assert_allclose(result.arkit, weights, atol=0.02)
    # Curves written for Live Link Face can be read.
    talkemo.reconstruct(path, tmp_path / "again.csv", onto=example_face, models=models)
    np.testing.assert_allclose(
        read_landmark_file(tmp_path / "again.csv").arkit, result.arkit, atol=1e-3
    )


def test_a_csv_is_animated_at_its_rate(points, tmp_path, models):
    write_csv(tmp_path / "a.csv", points.reshape(12, 136))
    result = talkemo.reconstruct(tmp_path / "a.csv", fps=24, models=models)
    opening = np.linalg.norm(result.landmarks68[:, 62] - result.landmarks68[:, 66], axis=1)
    assert result.fps == 24 and opening[-1] > opening[0] + 5
    assert isinstance(read_landmark_file(tmp_path / "a.csv"), LandmarkFile)


@pytest.mark.parametrize(
    "shape", [(4, 67, 2), (4, 68, 3), (0, 68, 2), (68, 2), (4, 135), (4, 400, 3)]
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="its array is"):
        as_landmarks(np.zeros(shape), "x")
