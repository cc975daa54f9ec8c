"""Heads that move: how far, how fast, and how a mesh turns with them."""

import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import talkemo
from talkemo import InputError
from talkemo.capture.video import open_film
from talkemo.formats.live_link import head_angles
from talkemo.heads import SHARE, SPECTRUM, HeadMotion, Turner, check_head


def test_a_head_moves_as_people_s_do():
    times = np.arange(0, 120, 1 / 30)
    found = np.array([HeadMotion(seed).angles(times).std(0) for seed in range(20)])
    wanted = np.radians(SHARE * np.sqrt((SPECTRUM**2).sum(0)))
    np.testing.assert_allclose(found.mean(0), wanted, rtol=0.15)
    assert np.abs(HeadMotion(3).angles(np.zeros(1))).max() < 1e-9  # it looks ahead at first
    np.testing.assert_array_equal(HeadMotion(3).angles(times)[::2], HeadMotion(3).angles(times[::2]))
    assert np.abs(HeadMotion(3).angles(times) - HeadMotion(4).angles(times)).max() > 0.02
    turns = HeadMotion(1).rotations(times)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-5)


def test_a_mesh_turns_and_its_shoulders_stay(models, example_face):
    binding = talkemo.bind(example_face, models=models)
    turner = Turner(binding)
    turn = Rotation.from_euler("y", 0.3).as_matrix()
    moved = turner(binding.rest, turn)
    face = binding.placement.rotation.T @ (moved - binding.rest)[binding.landmarks68[30]]
    assert abs(face[0]) > 10 * binding.scale  # the nose goes to the side
    chin = binding.placement.to_canonical(binding.rest.astype(np.float64))[binding.landmarks68[8], 1]
    far = binding.placement.to_mesh(np.array([[0, chin - 200, 0.0]]))
    low = Turner(binding)
    low.share = np.zeros((1, 1), np.float32)
    np.testing.assert_array_equal(low(far.astype(np.float32), turn), far.astype(np.float32))
    np.testing.assert_allclose(turner(binding.rest, np.eye(3)), binding.rest, atol=1e-5 * binding.scale)


def test_animations_have_heads(example_face, short_speech, models, tmp_path):
    outputs = [tmp_path / name for name in ("a.csv", "a.npz", "a.mp4")]
    talkemo.animate(example_face, short_speech, outputs, fps=20, models=models, seed=2)
    with np.load(tmp_path / "a.npz") as arrays:
        head, vertices = arrays["head"], arrays["vertices"]
    np.testing.assert_allclose(head, HeadMotion(2).rotations(np.arange(len(head)) / 20), atol=1e-6)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    yaw = [float(row["HeadYaw"]) for row in rows]
    np.testing.assert_allclose(yaw, head_angles(head)[:, 0], atol=1e-5)
    still = talkemo.animate(
        example_face, short_speech, [tmp_path / "b.npz", tmp_path / "b.mp4"], fps=20, head="off", models=models, seed=2
    )
    with np.load(still.outputs[0]) as arrays:
        assert "head" not in arrays
        np.testing.assert_array_equal(arrays["vertices"], vertices)  # the mesh of an npz does not turn
    films = []
    for name in ("a.mp4", "b.mp4"):
        with open_film(tmp_path / name) as film:
            films.append(np.stack(list(film.pictures)).astype(int))
    assert np.abs(films[0][-1] - films[1][-1]).mean() > 1.5 * np.abs(films[0][0] - films[1][0]).mean()
    with pytest.raises(InputError, match="head motion"):
        check_head("on")
