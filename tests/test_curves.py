"""Curves of Oculus visemes, VRM expressions and ARKit, with and without a mesh."""

import csv
import json

import numpy as np
import pytest

import talkemo
from talkemo import ExportOptions, InputError
from talkemo.binding.canonical_binding import bind_canonical
from talkemo.face.motion import Motion
from talkemo.face.viseme_curves import (
    CURVE_NAMES,
    EMOTION_RECIPES,
    MOUTH_RECIPES,
    OCULUS_RECIPES,
    VRM_EMOTION_RECIPES,
    VRM_MOUTH_RECIPES,
    CurveFit,
    recipe_weights,
)
from talkemo.formats.live_link import LIVE_LINK_NAMES
from talkemo_cli.app import main

VISEMES = [("oculus", name) for name in OCULUS_RECIPES]
EXPRESSIONS = [("vrm", name) for name in (*VRM_MOUTH_RECIPES, *VRM_EMOTION_RECIPES)]


@pytest.fixture(scope="module")
def fits(face):
    return {kind: CurveFit(face, kind) for kind in CURVE_NAMES}


def leading(fit, arkit, speech=None, emotion=None, but=()):
    """Return the name of the strongest curve of each frame, without blinks and gaze."""
    without = ("blink", "look", *but)
    names = [name for name in fit.names if not name.startswith(without)]
    curves = fit(arkit, speech, emotion)[:, [fit.names.index(name) for name in names]]
    return [names[number] for number in curves.argmax(1)]


@pytest.mark.parametrize(("kind", "name"), VISEMES + EXPRESSIONS)
def test_a_motion_made_of_one_pose_gives_its_curve(face, fits, kind, name):
    recipe = {
        **OCULUS_RECIPES,
        **(VRM_MOUTH_RECIPES | VRM_EMOTION_RECIPES if kind == "vrm" else {}),
    }
    pose = face.weight_vector(recipe[name])
    motion = Motion.from_weights(face, np.arange(3.0), np.outer([1.0, 0.8, 0.6], pose))
    arkit = motion.arkit(face)
    rest = ("sil", "neutral")  # a weak pose is more at rest than not
    assert leading(fits[kind], arkit[:1]) == [name]
    assert leading(fits[kind], arkit, but=rest) == [name] * 3  # of motion of unknown origin
    nothing = np.zeros_like(motion.coordinates)
    is_emotion = name in VRM_EMOTION_RECIPES
    speech, emotion = (nothing, motion.coordinates) if is_emotion else (motion.coordinates, nothing)
    assert leading(fits[kind], arkit, speech, emotion, rest) == [name] * 3


@pytest.mark.parametrize("kind", ["vrm", "mmd"])
def test_vowels_of_motion_of_unknown_origin_are_no_emotions(face, fits, kind):
    fit, emotions = fits[kind], EMOTION_RECIPES[kind]
    vowels = np.stack([recipe_weights(recipe) for recipe in MOUTH_RECIPES[kind].values()])
    columns = [fit.names.index(name) for name in emotions]
    assert fit(vowels)[:, columns].max() < 0.05
    smile = "happy" if kind == "vrm" else "にっこり"
    if smile in emotions:
        happy = recipe_weights(emotions[smile])[None]
        assert fit(happy)[0, fit.names.index(smile)] > 0.4


def test_curves_are_in_range_and_a_closed_mouth_is_silent(face, fits):
    rng = np.random.default_rng(4)
    arkit = rng.random((40, 52)) * (rng.random((40, 52)) < 0.2)
    for fit in fits.values():
        curves = fit(arkit)
        assert curves.shape == (40, len(fit.names)) and curves.min() >= 0 and curves.max() <= 1
    np.testing.assert_allclose(fits["oculus"](arkit).sum(1), 1)
    assert leading(fits["oculus"], np.zeros((2, 52))) == ["sil"] * 2
    assert leading(fits["vrm"], np.zeros((2, 52))) == ["neutral"] * 2


def test_blinks_and_gaze_are_vrm_curves(fits):
    arkit = np.zeros((1, 52))
    for name, weight in (("eyeBlinkLeft", 0.9), ("eyeBlinkRight", 0.6), ("eyeLookOutLeft", 0.4)):
        arkit[0, CURVE_NAMES["arkit"].index(name)] = weight
    curves = dict(zip(fits["vrm"].names, fits["vrm"](arkit)[0]))
    assert curves["blink"] == pytest.approx(0.6) and curves["blinkLeft"] == pytest.approx(0.3)
    assert curves["blinkRight"] == 0 and curves["lookLeft"] == pytest.approx(0.2)
    assert curves["neutral"] > 0.9


def read(path):
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return rows[0], np.array([row[1:] for row in rows[1:]], float)


def test_speech_drives_open_vowels_whatever_the_emotion(tmp_path, example_speech, models):
    curves = {}
    for emotion in ("neutral", "happy"):
        out = [tmp_path / f"{emotion}.csv", tmp_path / f"{emotion}.json"]
        export = ExportOptions(curves="oculus")
        talkemo.animate(
            "-", example_speech, out, emotion=emotion, fps=20, export=export, models=models
        )
        names, values = read(out[0])
        assert names == ["Time", *CURVE_NAMES["oculus"], "HeadYaw", "HeadPitch", "HeadRoll"]
        curves[emotion] = dict(zip(names[1:], values.T))
        about = json.loads(out[1].read_text())
        assert (about["curves"], about["fps"]) == ("oculus", 20) and about["meta"][
            "emotion"
        ] == emotion
        assert about["names"] == list(CURVE_NAMES["oculus"])
        weights = np.array([frame["weights"] for frame in about["frames"]])
        np.testing.assert_allclose(weights, values[:, :15], atol=1e-5)
        assert about["frames"][3]["time"] == 0.15 and len(about["frames"][3]["head"]) == 3
    speech = talkemo.animate("-", example_speech, fps=20, blink="off", models=models).motion
    opening = speech.lip_opening(models.face)
    vowels = sum(curves["neutral"][name] for name in ("aa", "E", "ih", "oh"))
    assert (
        np.corrcoef(opening, vowels)[0, 1] > 0.8
        and np.corrcoef(opening, curves["neutral"]["sil"])[0, 1] < -0.75
    )
    wide = opening > np.percentile(opening, 90)
    assert curves["neutral"]["aa"][wide].mean() > 0.25
    # A smile is not taken for a vowel.
    np.testing.assert_allclose(curves["happy"]["ih"], curves["neutral"]["ih"], atol=1e-4)


def test_silence_and_an_emotion_as_vrm(tmp_path, silence, models):
    out = tmp_path / "a.csv"
    export = ExportOptions(curves="vrm")
    talkemo.animate("-", silence, out, emotion="happy", fps=20, export=export, models=models)
    names, values = read(out)
    means = dict(zip(names[1:], values.mean(0)))
    assert means["happy"] + means["relaxed"] > 0.7 and means["happy"] > 0.3
    assert max(means[name] for name in VRM_MOUTH_RECIPES) < 0.05


def test_curves_need_no_mesh_and_arkit_is_the_default(tmp_path, short_speech, face, capsys):
    outputs = [tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "a.npz"]
    options = [word for path in outputs for word in ("-o", str(path))]
    assert main(["animate", "-", str(short_speech), "--fps", "10", *options]) == 0
    names, values = read(outputs[0])
    assert names[2:54] == [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
    with np.load(outputs[2]) as arrays:
        assert arrays["vertices"].shape == (15, *face.mean.shape)
        jaw = list(arrays["arkit_names"]).index("jawOpen")
        column = LIVE_LINK_NAMES.index("jawOpen")
        np.testing.assert_allclose(arrays["arkit"][:, jaw], values[:, 1 + column], atol=1e-5)
        about = json.loads(outputs[1].read_text())
        weights = [frame["weights"][jaw] for frame in about["frames"]]
        np.testing.assert_allclose(weights, arrays["arkit"][:, jaw], atol=2e-5)
    for wrong in (["--curves", "unity", "-o", "a.csv"], ["--curves", "vrm", "-o", "a.npz"]):
        capsys.readouterr()
        assert main(["animate", "-", str(short_speech), *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_canonical_face_is_bound_exactly(face, bound):
    binding = bind_canonical(face)
    shape = face.weights_to_coordinates[[face.expression_names.index("mouthPucker")]]
    moved = binding.vertices(shape)[0] - face.mean
    wanted = face.expression_basis[face.expression_names.index("mouthPucker")]
    np.testing.assert_allclose(moved, wanted, atol=2e-3)
    assert binding.lip_opening_ratio() == pytest.approx(1, abs=0.01)


def test_a_mesh_without_the_canonical_face_has_no_curves(tmp_path, bound):
    from talkemo.formats.animation import Header
    from talkemo.formats.registry import open_writer

    header = Header(1, 30.0, bound.mesh.faces, bound.rest, bound.focus)
    with pytest.raises(InputError, match="no curves are known"):
        open_writer(tmp_path / "a.json", header)
    assert not list(tmp_path.iterdir())
