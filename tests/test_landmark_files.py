"""Landmarks and curves that other programs wrote."""

import csv
import json

import numpy as np
import pytest

import talkemo
from talkemo import InputError
from talkemo.capture.landmark_files import (
    Curves,
    LandmarkFile,
    _timecode_fps,
    as_landmarks,
    read_landmark_file,
)
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.files import json_stream
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


@pytest.fixture
def small_blocks(monkeypatch):
    """JSON is read in blocks of seven characters."""
    monkeypatch.setattr(json_stream, "READ_CHARACTERS", 7)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_json_is_read_value_by_value(points, tmp_path, small_blocks, mark):
    frames = [[{"x": x, "y": y} for x, y in frame] for frame in points.tolist()]
    content = {"about": {"a": [1, 2]}, "frames": [None, [], *frames, {"faceLandmarks": []}]}
    (tmp_path / "a.json").write_bytes(mark + json.dumps(content, indent=1).encode())
    (read,) = read_landmark_file(tmp_path / "a.json").recordings
    assert read.shape == (15, 68, 2) and np.isnan(read[[0, 1, 14]]).all()
    np.testing.assert_allclose(read[2:14], points, rtol=1e-5)


@pytest.mark.parametrize(
    "content",
    ["", "[", "[1", "[1,", "{", '{"frames"', '{"frames":', "{1:2}", "[[]] []", "[NaN]", "[,]", "[1 2]",
     "12", "nul", '{"frames": [[[1, 2]]', "[" * 100_000, '["' + "a" * 9_000_000],
)  # fmt: skip
def test_broken_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: not a file of landmarks"):
        read_landmark_file(tmp_path / "a.json")


def test_json_values(tmp_path, small_blocks):
    for content in (
        "[1, 23456789012, -1.5e-7, true, null]",
        '{"a": "[,]\\"", "b": [[], {}]}',
        "[]",
    ):
        (tmp_path / "a.json").write_text(content)
        with (tmp_path / "a.json").open("rb") as file:
            reader = json_stream.JsonReader(file)
            if content[0] == "[":
                assert list(reader.items()) == json.loads(content)
            else:
                assert {name: reader.value() for name in reader.names()} == json.loads(content)
            reader.end()


def test_frames_without_a_face_are_counted(tmp_path):
    """A frame of four bytes takes four kilobytes, if another frame has a face."""
    frame = json.dumps(np.ones((478, 2)).tolist())
    for content in (f"[{frame}{',null' * 50_000}]", f"[{'null,' * 50_000}{frame}]"):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match="its landmarks take more than 64 MiB"):
            read_landmark_file(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a" + "," * 2_000_000, "a line of more than 1048576 characters"),
        ('"' + "a\n" * 1000, "rows of 1 numbers"),  # a quotation without an end
        ("1,2\n3,4\n", "rows of 2 numbers"),
        ("\n" * 1_000_001, "more than 1000000 rows"),
        ("\n\n", "0 rows"),
    ],
)
def test_a_csv_is_counted_while_it_is_read(tmp_path, content, reason):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=reason):
        read_landmark_file(tmp_path / "a.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_with_a_byte_order_mark(points, tmp_path, end):
    rows = end.join(",".join(map(str, row)) for row in points.reshape(12, 136))
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    (read,) = read_landmark_file(tmp_path / "a.csv").recordings
    np.testing.assert_allclose(read, points, rtol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "fps"),
    [
        ([0, 0, 1, 1, 2, 2, 3], 2),
        ([5, 6, 5, 5, 4, 9], 60),  # back in time
        ([5, 6, 4, 6, 4, 6], 60),  # and to where it was
        ([5, 5, 5], 60),
        ([5, -1, 7], 60),
        ([0, 100, 200, 300], 1),
        ([], 60),
    ],
)
def test_the_rate_of_time_codes(recwarn, seconds, fps):
    assert _timecode_fps(np.array(seconds, int)) == fps and not recwarn.list
