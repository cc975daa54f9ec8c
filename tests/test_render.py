"""Rendering: both renderers, added eyes and mouth, textures, and `talkemo render`."""

import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.spatial.transform import Rotation

import talkemo
from talkemo import InputError, render
from talkemo.audio.recording import open_audio
from talkemo.formats.appearance import Appearance
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh, MeshAttributes
from talkemo.formats.registry import open_animation
from talkemo.formats.texture_atlas import palette_tile
from talkemo.geometry.meshes import vertex_normals
from talkemo.geometry.plane import inside_polygon
from talkemo.render.appearance import (
    appearance_of,
    plain_appearance,
    vertex_groups,
)
from talkemo.render.browline import brow_lines
from talkemo.render.nostrils import darkened_texture, nostril_light
from talkemo.render.skin import BROW_COLOUR, paint_skin, skin_coordinates
from talkemo.render.software import SoftwareRenderer
from talkemo.render.textures import SWATCH_PIXELS
from talkemo.render.view import View, background_rows, frame_view


def test_software_renderer_draws_a_face(face):
    view = frame_view(face.mean)
    image = SoftwareRenderer(plain_appearance(face.faces), view, (200, 160)).draw(face.mean)
    assert image.shape == (160, 200, 3) and image.dtype == np.uint8
    background = (np.abs(image.astype(int) - background_rows(160)[:, None]) < 3).all(2)
    assert background[0, 0] and not background[80, 100]
    assert 0.2 < 1 - background.mean() < 0.7
    # The face is as symmetric as it is; the lights are not.
    assert (background == background[:, ::-1]).mean() > 0.98


def test_nearer_hides_farther(face):
    """Two copies: around the nose, where there are no holes, only the front one shows."""
    view = frame_view(face.mean)
    front = face.mean + np.array([0, 0, 5])
    both = np.concatenate([face.mean, front]).astype(np.float32)
    faces = np.concatenate([face.faces, face.faces + len(face.mean)])
    alone = SoftwareRenderer(plain_appearance(face.faces), view, (96, 96)).draw(front)
    together = SoftwareRenderer(plain_appearance(faces), view, (96, 96)).draw(both)
    np.testing.assert_allclose(together[46:54, 44:52].astype(int), alone[46:54, 44:52], atol=2)


def test_an_edge_between_two_surfaces_is_no_brighter_than_both():
    """The mean of their normals may face the light where neither does: white specks at lips."""
    for shift in np.arange(4) / 128:
        edge = [[-2, 0, 0.4], [2, 0, 0.4], [-2, 2, 3.2], [2, 2, 3.2]]  # above, leaning forwards
        behind = [[-2, -2, 0.2], [2, -2, 0.2], [-2, 2, -3.0], [2, 2, -3.0]]  # a floor, facing up
        points = np.add(np.float32([*edge, *behind]), [0, shift, 0])
        faces = np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6], [6, 5, 7]], np.int32)
        texture = np.full((1, 2, 3), 200, np.uint8)
        texture[:, 1] = 20
        place = np.repeat([[0.5, 0.5], [1.5, 0.5]], 4, axis=0).astype(np.float32)
        appearance = Appearance(faces, np.arange(8), place, texture, 8)
        view = View(np.zeros(3), 1.0, 70.0, 0.0, np.eye(3))
        image = SoftwareRenderer(appearance, view, (32, 32)).draw(points).astype(int)
        column = image[:, 16].sum(1)
        above, below = column[8], column[24]
        assert column[10:22].max() <= max(above, below) + 3


def test_unknown_view(face):
    with pytest.raises(InputError):
        frame_view(face.mean, None, "behind")


def test_a_head_is_framed_with_its_crown(face):
    """In every view, a figure's body is cut off and what is not drawn does not count."""
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(500, 3))
    skull = sphere / np.linalg.norm(sphere, axis=1, keepdims=True) * [82, 80, 95] + [0, 75, 20]
    body = rng.uniform([-300, -900, -80], [300, -115, 80], (500, 3))
    helper = np.array([[0.0, 200, 30]])
    points = np.concatenate([face.mean, skull, body, helper])
    focus = np.arange(len(points)) < len(face.mean)
    drawn = np.arange(len(points) - 1)
    for name in ("front", "three-quarter", "side", "right"):
        view = frame_view(points, focus, name, drawn=drawn)
        pixels = view.to_pixels(view.to_camera(points[: len(face.mean) + 500]), 512, 512)[:, :2]
        assert (pixels > 0).all() and (pixels < 511).all(), name
    front = frame_view(points, focus, drawn=drawn)
    assert front.half < 0.5 * 1.3 * (155 - face.mean[:, 1].min())
    assert frame_view(points, focus).half > front.half
    assert frame_view(face.mean, np.ones(len(face.mean), bool)).half < front.half


@pytest.mark.gl
def test_gl_and_software_agree(face, tmp_path):
    platform = render.gl_library()
    if platform is None:
        pytest.skip("neither EGL nor OSMesa on this machine")
    script = (
        "import numpy as np, sys\n"
        "from talkemo import render\n"
        "from talkemo.weights.models import load_models\n"
        "from talkemo.render.appearance import canonical_appearance\n"
        "from talkemo.render.view import frame_view\n"
        "face = load_models().face\n"
        "r = render.new_renderer(canonical_appearance(face), frame_view(face.mean), (256, 256))\n"
        "np.save(sys.argv[1], r.draw(face.mean)); print(r.name); r.close()\n"
    )
    images = []
    for name in (platform, "software"):
        environment = {**os.environ, "TALKEMO_RENDERER": name}
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / f"{name}.npy")],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == name
        images.append(np.load(tmp_path / f"{name}.npy").astype(int))
    covered = [np.abs(p - p[:, :1]).max(2) > 12 for p in images]
    assert (covered[0] == covered[1]).mean() > 0.98
    assert similarity(*(p.mean(2) for p in images)) > 0.95


def similarity(a, b):
    """Structural similarity of two grey images, up to 1, in 7-pixel windows (Wang et al. 2004)."""
    mean = lambda x: uniform_filter(x, 7)
    both = mean(a * b) - mean(a) * mean(b)
    spread = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (
        (2 * mean(a) * mean(b) + c1)
        * (2 * both + c2)
        / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (spread + c2))
    )
    return float(ratio.mean())


def test_a_mask_is_given_eyes_brows_and_a_mouth(models, example_face):
    binding = talkemo.bind(example_face, models=models)
    appearance, bare = appearance_of(binding), appearance_of(binding, fill=False)
    count = len(binding.rest)
    assert bare.points(binding.rest).shape == (count, 3) and bare.vertex.max() < count
    points = appearance.points(binding.rest)
    assert (
        len(points) > count and appearance.vertex.max() < len(points) and np.isfinite(points).all()
    )
    size = np.array(appearance.texture.shape[1::-1])
    assert (appearance.place >= 0).all() and (appearance.place < size).all()
    camera = frame_view(binding.rest, binding.focus, "front", binding.placement.rotation)
    images = [
        SoftwareRenderer(one, camera, (256, 256)).draw(binding.rest).astype(int)
        for one in (appearance, bare)
    ]
    column, row = camera.to_pixels(camera.to_camera(binding.rest[binding.landmarks68]), 256, 256)[
        :, :2
    ].T
    eye = np.s_[int(row[36:42].mean()), int(column[36:42].mean())]
    assert abs(images[1][eye] - background_rows(256)[eye[0]]).max() < 3  # a hole
    assert abs(images[0][eye] - background_rows(256)[eye[0]]).max() > 10  # an iris or its pupil
    brow = np.s_[int(row[19]) + 4 : int(row[19]) + 12, int(column[19]) - 2 : int(column[19]) + 3]
    cheek = np.s_[int(row[30]) : int(row[30]) + 5, int(column[41]) - 3 : int(column[41]) + 3]
    assert images[0][brow].min() < 0.7 * images[0][cheek].mean()


def test_added_parts_follow_skull_and_jaw(models, example_face):
    binding = talkemo.bind(example_face, models=models)
    appearance, rest = appearance_of(binding), binding.rest
    still = appearance.added(rest)
    turn = Rotation.from_rotvec([0.1, 0.3, 0]).as_matrix()
    np.testing.assert_allclose(
        appearance.added(rest @ turn.T + [1, 2, 3]),
        still @ turn.T + [1, 2, 3],
        atol=1e-3 * binding.scale,
    )
    opened = binding.vertices(
        binding.face.weight_vector({"jawOpen": 0.8})[None] @ binding.face.weights_to_coordinates
    )[0]
    moved = (appearance.added(opened) - still) @ binding.placement.rotation / binding.scale
    assert (
        moved[:, 1].min() < -5 and np.median(np.abs(moved[:, 1])) < 2
    )  # lower teeth go down, eyes and others stay


def test_groups_of_an_obj_name_its_parts(models, tmp_path, example_face):
    mesh = load_mesh(example_face)
    text = example_face.read_text().splitlines()
    faces = [k for k, line in enumerate(text) if line.startswith("f ")]
    text.insert(faces[-40], "g helper-skirt")
    text.insert(faces[-20], "g Teeth_upper")
    (tmp_path / "m.obj").write_text("\n".join(text))
    groups = vertex_groups(load_mesh(tmp_path / "m.obj").attributes, len(mesh.vertices))
    assert {*groups} == {"skin", "hidden", "teeth"}
    assert (vertex_groups(None, 3) == "skin").all()


def test_inside_a_polygon():
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    assert inside_polygon(np.array([[1.0, 1], [3, 1], [-1, -1]]), square).tolist() == [
        True,
        False,
        False,
    ]


def test_a_mesh_with_a_texture_shows_it(models, example_face):
    mesh = load_mesh(example_face)
    uv = np.random.default_rng(0).random((len(mesh.vertices), 2)).astype(np.float32)
    content = io.BytesIO()
    Image.new("RGB", (64, 32), (20, 40, 200)).save(content, "PNG")
    own = Mesh(mesh.vertices, mesh.faces, MeshAttributes(uv, mesh.faces, content.getvalue()))
    binding = talkemo.bind(own, models=models)
    camera = frame_view(binding.rest, binding.focus, "front", binding.placement.rotation)
    image = SoftwareRenderer(appearance_of(binding), camera, (128, 128)).draw(binding.rest)
    nose = camera.to_pixels(camera.to_camera(binding.rest[binding.landmarks68[[30]]]), 128, 128)[
        0, :2
    ].astype(int)
    assert image[nose[1], nose[0], 2] > 2 * image[nose[1], nose[0], 0]


@pytest.fixture(scope="module")
def animation(tmp_path_factory, example_face, short_speech, models):
    path = tmp_path_factory.mktemp("animation") / "a.npz"
    talkemo.animate(example_face, short_speech, path, emotion="happy", fps=20, models=models)
    return path


def test_videos_and_images_of_all_kinds(animation, short_speech, tmp_path, models):
    from talkemo.pipelines.rendering import render as draw
    from talkemo.video.reader import open_video

    for name in ("a.mp4", "a.webm"):
        draw(
            animation,
            tmp_path / name,
            audio=short_speech,
            size=(128, 96),
            caption="a line",
            models=models,
        )
        with open_video(tmp_path / name) as video:
            images = list(video.frames)
        assert len(images) == pytest.approx(30, abs=1) and images[0].shape == (96, 128, 3)
        assert open_audio(tmp_path / name).duration == pytest.approx(1.5, abs=0.1)
    draw(animation, tmp_path / "a.gif", size=64, turntable=True, models=models)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == pytest.approx(30, abs=2) and gif.size == (64, 64)
    images = {}
    options = {
        "plain": {},
        "side": {"view": "side"},
        "bare": {"fill": False},
        "wires": {"wireframe": True},
        "heat": {"heatmap": True},
        "same": {"heatmap": True, "compare": [animation]},
    }
    for name, chosen in options.items():
        draw(animation, tmp_path / f"{name}.png", size=160, time=0.5, models=models, **chosen)
        images[name] = np.array(Image.open(tmp_path / f"{name}.png")).astype(int)
    for name in ("side", "bare", "wires", "heat"):
        assert np.abs(images[name] - images["plain"]).mean() > 0.3, name
    warm = lambda image: (image[:, :145, 0] > 1.5 * image[:, :145, 2]).mean()  # without the scale
    scale = images["heat"][:, 145:]
    assert (scale[..., 0] > 1.5 * scale[..., 2]).mean() > 0.02
    # The animation does not differ from itself.
    assert warm(images["heat"]) > 0.01 and warm(images["same"]) < 1e-3
    draw(animation, tmp_path / "two.png", size=96, compare=[animation], models=models)
    assert Image.open(tmp_path / "two.png").size == (192, 96)
    draw(animation, tmp_path / "sheet.png", size=96, sheet=True, models=models)
    assert Image.open(tmp_path / "sheet.png").size == (4 * 96, 2 * 96)
    draw(animation, tmp_path / "odd.png", size=97, time=1.5, caption="two\nlines", models=models)
    assert Image.open(tmp_path / "odd.png").size == (97, 97)
    for wrong in (
        {"view": "behind"},
        {"size": 10},
        {"sheet": True, "time": 1.0},
        {"time": 1.6},
        {"time": 1e308},
        {"turntable": True},
        {"frame": "eyes"},
        {"compare": [animation] * 6},
    ):
        with pytest.raises(InputError):
            draw(animation, tmp_path / "x.png", models=models, **wrong)
    with pytest.raises(InputError, match="heat map"):
        draw(animation, tmp_path / "x.png", heatmap=True, compare=[animation] * 2, models=models)
    assert not (tmp_path / "x.png").exists()


def test_animations_of_different_rates_stay_in_sync(animation, tmp_path, models):
    from talkemo.pipelines.rendering import _Player
    from talkemo.pipelines.rendering import render as draw

    with np.load(animation) as arrays:
        content = dict(arrays)
    content["vertices"], content["fps"] = content["vertices"][::2], np.float64(10)
    np.savez(tmp_path / "slow.npz", **content)
    player = _Player(open_animation(tmp_path / "slow.npz"))
    np.testing.assert_array_equal(player.at(0.5).vertices, content["vertices"][5])
    np.testing.assert_array_equal(player.at(99).vertices, content["vertices"][-1])
    draw(
        tmp_path / "slow.npz",
        tmp_path / "a.png",
        heatmap=True,
        compare=[animation],
        size=96,
        time=1.0,
        models=models,
    )
    image = np.array(Image.open(tmp_path / "a.png")).astype(int)
    # Both animations are equal at any time, so that no pixel is warm.
    assert (image[:, :85, 0] > 1.5 * image[:, :85, 2]).mean() < 1e-3  # without the scale
    content["vertices"] = content["vertices"].copy()
    content["vertices"][3, 7] = np.nan
    np.savez(tmp_path / "nan.npz", **content)
    with pytest.raises(InputError, match="NaN"):
        draw(tmp_path / "nan.npz", tmp_path / "b.png", size=96, time=1.0, models=models)


def test_relative_indices_of_an_obj(tmp_path, monkeypatch):
    lines = [
        "v 0 0 0",
        "v 1 0 0",
        "v 0 1 0",
        "g teeth",
        "f -3 -2 -1",
        "g skin",
        "v 0 0 5",
        "v 1 0 5",
        "v 0 1 5",
        "f 4 5 6",
    ]
    monkeypatch.setattr("talkemo.formats.mesh_types.MIN_MESH_TRIANGLES", 1)
    (tmp_path / "m.obj").write_text("\n".join(lines) + "\n")
    mesh = load_mesh(tmp_path / "m.obj")
    assert vertex_groups(mesh.attributes, 6).tolist() == ["teeth"] * 3 + ["skin"] * 3


def test_a_mesh_is_shown_in_the_colours_of_its_vertices(tmp_path, example_face, models):
    import trimesh

    mesh = load_mesh(example_face)
    colours = np.tile(np.array([[40, 90, 200]], np.uint8), (len(mesh.vertices), 1))
    colours[mesh.vertices[:, 0] > mesh.vertices[:, 0].mean()] = [200, 160, 40]
    trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False).export(
        tmp_path / "a.ply"
    )
    with (tmp_path / "b.obj").open("w") as file:
        for vertex, colour in zip(mesh.vertices, colours / 255):
            file.write("v " + " ".join(f"{x:.5f}" for x in (*vertex, *colour)) + "\n")
        for face in mesh.faces + 1:
            file.write("f {} {} {}\n".format(*face))
    images = []
    for name in ("a.ply", "b.obj"):
        binding = talkemo.bind(tmp_path / name, models=models, cache=False)
        np.testing.assert_array_equal(binding.mesh.attributes.colours, colours)
        camera = frame_view(binding.rest, binding.focus, facing=binding.placement.rotation)
        images.append(
            SoftwareRenderer(appearance_of(binding), camera, (120, 120))
            .draw(binding.rest)
            .astype(int)
        )
    assert np.abs(images[0] - images[1]).mean() < 0.2
    left, right = images[0][75, 40], images[0][75, 80]
    assert left[2] > 1.5 * left[0] and right[0] > 1.5 * right[2]


def test_invalid_colours_are_left_out(tmp_path, example_face):
    text = example_face.read_text().splitlines()
    first = next(k for k, line in enumerate(text) if line.startswith("v "))
    for wrong in (" 1 0 x", " 0.5 0.5 0.5", " 1 0 nan"):
        (tmp_path / "a.obj").write_text(
            "\n".join([*text[:first], text[first] + wrong, *text[first + 1 :]])
        )
        assert load_mesh(tmp_path / "a.obj").attributes.colours is None


@pytest.fixture(scope="module")
def body(tmp_path_factory, animation):
    """The animation on the head of a figure three times as high, whose file names no focus."""
    with np.load(animation) as arrays:
        content = {name: arrays[name] for name in ("vertices", "faces", "fps")}
    content["vertices"] = content["vertices"][8:9]
    rest = content["vertices"][0]
    size = np.ptp(rest[:, 1])
    column = np.array([[x, -size * y, z] for y in (1, 2) for x in (-40, 40) for z in (-40, 40)])
    column = (column + rest.mean(0)).astype(np.float32)
    first = len(rest)
    sides = [[0, 1, 4], [1, 5, 4], [2, 3, 6], [3, 7, 6], [0, 2, 4], [2, 6, 4]]
    content["vertices"] = np.concatenate(
        [content["vertices"], np.broadcast_to(column, (len(content["vertices"]), 8, 3))], axis=1
    )
    content["faces"] = np.concatenate([content["faces"], np.array(sides, np.int32) + first])
    path = tmp_path_factory.mktemp("body") / "body.npz"
    np.savez(path, **content)
    return path


def test_the_camera_frames_the_face_or_the_body(animation, body, tmp_path, models):
    from talkemo.pipelines.rendering import render as draw

    def covered(name, source, **options):
        path = tmp_path / f"{name}.png"
        draw(source, path, size=96, time=0.0, models=models, **options)
        image = np.array(Image.open(path)).astype(int)
        return float((np.abs(image - background_rows(96)[:, None]) > 12).any(2).mean())

    whole = covered("default", body)
    assert covered("body", body, frame="body") == whole
    assert covered("face", body, frame="face") > 2 * whole
    assert covered("mask", animation) == covered("same", animation, frame="face")


def test_a_scale_names_mm_of_the_face_model_or_mesh_units(tmp_path, models, example_face):
    from talkemo.pipelines.rendering import _distance_label
    from talkemo.render.scale_bar import draw_scale

    assert _distance_label(0.25, 0.1) == "2.5 mm or more"
    assert _distance_label(0.25, None) == "0.25 mesh units or more"
    assert _distance_label(0.0, 1.0) == "no distance"
    colours = np.array([[0, 0, 255], [255, 0, 0]], np.uint8)
    image = np.zeros((200, 300, 3), np.uint8)
    draw_scale(image, colours, "2.5 mm or more")
    assert (image[90, 289:293] == [255, 0, 0]).all() and (image[110, 289:293] == [0, 0, 255]).all()
    assert (image[40:60, 180:294].min(2) > 200).any() and not image[:, :150].any()  # the label


def test_a_video_has_the_audio_that_its_animation_names(animation, short_speech, tmp_path, models):
    from talkemo.pipelines.rendering import render as draw

    with np.load(animation) as arrays:
        content = {**arrays, "vertices": arrays["vertices"][:4]}
    copy = tmp_path / "a.npz"
    np.savez(copy, **{name: content[name] for name in ("vertices", "faces", "fps", "meta")})
    told = []
    options = {"size": 64, "heatmap": True, "models": models, "notice": told.append}
    draw(copy, tmp_path / "silent.mp4", **options)
    assert len(told) == 1 and short_speech.name in told[0] and "--audio" in told[0]
    (tmp_path / short_speech.name).write_bytes(short_speech.read_bytes())
    draw(copy, tmp_path / "loud.mp4", **options)
    draw(copy, tmp_path / "a.gif", **options)  # has no audio
    assert open_audio(tmp_path / "loud.mp4").duration == pytest.approx(0.2, abs=0.1)
    with pytest.raises(InputError):
        open_audio(tmp_path / "silent.mp4")
    np.savez(
        tmp_path / "nameless.npz", **{name: content[name] for name in ("vertices", "faces", "fps")}
    )
    draw(tmp_path / "nameless.npz", tmp_path / "b.webm", **options)
    assert len(told) == 2 and "names no audio file" in told[1]
    with pytest.raises(InputError, match=r"--time chooses the frame of a \.png"):
        draw(copy, tmp_path / "c.mp4", time=1.0, models=models)


def test_brows_lie_on_the_head_s_own_ridge_and_never_cross_the_nose(face):
    marks = face.landmark_operator() @ face.mean
    surface = face.mean[face.faces]
    line = brow_lines(marks, surface)[True]
    low, middle = 6.0, marks[[39, 42], 0].mean()
    raised = surface.copy()  # the same landmarks over a ridge and eyes that lie elsewhere
    raised[..., 1] += low * np.clip((surface[..., 1] - marks[43, 1]) / 8, 0, 1)
    assert 2 < (brow_lines(marks, raised)[True] - line)[:, 1].mean() < low + 1
    flat = surface * [1, 1, 0]
    without = brow_lines(marks, flat)[True]
    assert marks[22:27, 1].mean() - 8 < without[:, 1].mean() < marks[22:27, 1].mean() - 3

    joined = marks.copy()  # as on a coarse mesh: both brows begin at the root of the nose
    joined[[21, 22], 0] = middle - 1, middle + 1
    lines = brow_lines(joined, surface)
    assert lines[True][0, 0] - lines[False][-1, 0] > 0.55 * np.ptp(marks[[39, 42], 0])
    image = paint_skin(joined, surface).astype(int)
    column = skin_coordinates(np.array([middle, 0, 0]), joined)[0].astype(int)
    rows = skin_coordinates(joined[[22, 27]] + [[0, 8, 0], [0, 0, 0]], joined)[:, 1].astype(int)
    assert image[rows[0] : rows[1], column].min() > 140

    low_brows = marks.copy()
    low_brows[17:27, 1] -= 10  # of a head with less room over the eyes
    assert brow_lines(low_brows)[True][1:-1, 1].min() > marks[43, 1]


def brightest_in_iris(binding, appearance, weights, gaze_degrees):
    """Return column of the brightest pixel in the iris of the right eye, and its brightness."""
    from talkemo.geometry.rigid import eye_rotation

    vertices = binding.vertices(
        binding.face.weight_vector(weights)[None] @ binding.face.weights_to_coordinates
    )[0]
    gaze = np.radians([0, gaze_degrees])
    appearance.look_at(gaze)
    rows, centre = min(appearance.balls, key=lambda ball: ball[1][0])
    placement = binding.placement
    ahead = eye_rotation(gaze, placement.rotation) @ placement.rotation[:, 2]
    reach = np.linalg.norm(appearance.points(vertices)[rows] - centre, axis=1).max()
    view = replace(frame_view(binding.rest, facing=placement.rotation), centre=centre, half=reach)
    image = SoftwareRenderer(appearance, view, (200, 200)).draw(vertices).astype(int).min(2)
    column, row, _ = view.to_pixels(view.to_camera((centre + reach * ahead)[None]), 200, 200)[0]
    y, x = np.mgrid[:200, :200]
    image[np.hypot(x - column, y - row) > 35] = 0
    return np.unravel_index(image.argmax(), image.shape)[1], image.max()


def test_the_catch_light_is_where_the_light_is(models, example_face):
    """It stays there when the eyes turn, and lowered lids do not hide it."""
    binding = talkemo.bind(example_face, models=models).shown
    appearance = appearance_of(binding)
    left, bright = brightest_in_iris(binding, appearance, {}, -10)
    right, as_bright = brightest_in_iris(binding, appearance, {}, 10)
    turn_pixels = 100 * np.sin(np.radians(20))
    assert bright > 200 and as_bright > 200 and abs(right - left) < 0.55 * turn_pixels
    lowered = brightest_in_iris(binding, appearance, {"eyeBlink": 0.2, "eyeSquint": 0.5}, 0)
    assert lowered[1] > 200


def nose_from_below(binding):
    """The brightness (160, 160) of an image of a nose, 0 to 765."""
    rest = binding.placement.to_canonical(binding.mesh.vertices)
    centre = rest[binding.landmarks68[33]] + [0, 2, 0]
    tilted = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    view = replace(frame_view(rest), centre=centre, half=16.0, facing=tilted)
    renderer = SoftwareRenderer(appearance_of(binding, fill=False), view, (160, 160))
    image = renderer.draw(binding.mesh.vertices.astype(np.float32)).astype(int).sum(2)
    renderer.close()
    return image


def test_a_palette_of_too_many_colours_stays_opaque():
    rng = np.random.default_rng(0)
    colours = np.column_stack([rng.integers(0, 256, (5000, 3)), np.full(5000, 255)])
    tile, _ = palette_tile([colours.astype(np.uint8)])
    assert np.asarray(tile.image)[..., 3].min() == 255


@pytest.mark.parametrize("kind", ["texture", "palette", "colours"])
def test_nostrils_of_a_head_s_own_colours_are_dark(bound, kind):
    mesh, colour = bound.mesh, np.array([214, 160, 132])
    image = io.BytesIO()
    Image.new("RGB", (64, 64), tuple(colour.tolist())).save(image, "PNG")
    size = np.ptp(mesh.vertices[:, :2], axis=0)
    flat = (mesh.vertices[:, :2] - mesh.vertices[:, :2].min(0)) / size
    uv = flat if kind == "texture" else np.full_like(flat, 0.5)
    own = MeshAttributes(uv.astype(np.float32), mesh.faces, image.getvalue())
    if kind == "colours":
        own = MeshAttributes(colours=np.tile(colour, (len(uv), 1)).astype(np.float32))
    drawn = nose_from_below(replace(bound, mesh=replace(mesh, attributes=own)))
    assert (drawn < 100).mean() > 0.02
    assert (drawn > 300).mean() > 0.4  # the skin around them keeps its colour


def test_a_texture_is_darkened_in_place_where_no_other_triangle_shows_it():
    texture = np.full((20, 20, 3), 200, np.uint8)
    texels = np.array([[[2.0, 2], [8, 2], [2, 8]], [[12, 12], [18, 12], [12, 18]]])
    light = np.array([[0.0, 0, 0], [1, 1, 1]])
    shaded, places = darkened_texture(texture, texels, light)
    assert shaded.shape == texture.shape and (places == texels).all()
    assert shaded[3, 3].max() < 20 and shaded[13, 13].min() == 200
    shared, places = darkened_texture(texture, texels[[0, 0]], light)
    assert (shared[:20] == texture).all() and (places[1] == texels[0]).all()
    column, row = places[0].mean(0).astype(int)
    assert row >= 20 and shared[row, column].max() < 20
    same, places = darkened_texture(texture, texels, np.ones((2, 3)))
    assert same is texture and places is texels


def test_nostrils_are_dark(models, example_face):
    binding = talkemo.bind(example_face, models=models).shown
    rest = binding.placement.to_canonical(binding.mesh.vertices)
    marks = rest[binding.landmarks68]
    light = nostril_light(rest, binding.mesh.faces, marks)
    dark = rest[light < 0.2] - marks[33]
    assert len(dark) > 50 and light.max() == 1
    for side in (-1, 1):
        assert (side * dark[:, 0] > 3).any()
    assert (np.abs(dark[:, 0]) < 25).all() and (np.abs(dark[:, 1]) < 25).all()
    assert (nose_from_below(binding) < 100).mean() > 0.02
    # Their floor, which faces up to the key light, is under the tip of the nose.
    normals = vertex_normals(rest, binding.mesh.faces)
    offset = rest - marks[33]
    floor = (normals[:, 1] > 0.3) & (np.abs(offset) < [9, 6, 14]).all(1) & (offset[:, 2] < -2)
    assert floor.any() and light[floor].mean() < 0.7


def with_hairs(mesh, face):
    """Return a mesh with own brows and plates of lashes, and the rows of each."""
    import parts_of_heads as build

    marks = mesh.vertices[face.landmarks68]
    parts = {
        "right_brow": build.brow(marks[17:22] - [0, 4, 0], 1.5),
        "left_brow": build.brow(marks[22:27] - [0, 4, 0], 1.5),
        "right_lash": build.lash(marks[36:40], 2),
        "left_lash": build.lash(marks[42:46], 2),
    }
    mesh, rows = build.with_parts(mesh, **parts)
    groups = np.full(len(mesh.vertices), "skin")
    groups = groups.astype("<U6")
    for side in ("right_lash", "left_lash"):
        groups[rows[side]] = "lashes"
    return replace(mesh, attributes=MeshAttributes(groups=groups)), rows


def test_own_brows_are_drawn_instead_of_painted_ones_and_plates_of_lashes_not(
    models, example_face, face
):
    mesh, rows = with_hairs(load_mesh(example_face), face)
    binding = talkemo.bind(mesh, models=models, cache=False).shown
    appearance = appearance_of(binding, fill=False)
    colours = appearance.texture[tuple(appearance.place.round().astype(int).T[::-1])].astype(int)
    bare = appearance_of(talkemo.bind(example_face, models=models).shown, fill=False)
    for part in ("right_brow", "left_brow"):
        own = np.isin(appearance.vertex, rows[part])
        assert own.any() and np.abs(colours[own] - BROW_COLOUR).max() < 2
    assert not np.isin(appearance.vertex, rows["left_lash"]).any()
    skins = [a.texture[:-SWATCH_PIXELS].astype(int) for a in (bare, appearance)]
    painted = [(np.abs(skin - BROW_COLOUR).max(2) < 40).sum() for skin in skins]
    assert painted[0] > 5 * painted[1] > 0


def test_a_sheet_between_the_lids_does_not_hide_the_mesh_s_own_eyes(models, example_face, face):
    import parts_of_heads as build

    mask = load_mesh(example_face)
    marks = mask.vertices[face.landmarks68]
    lids = {"right": slice(36, 42), "left": slice(42, 48)}
    balls = {side: build.eyeball(marks[rows], 13, 3) for side, rows in lids.items()}
    mesh, rows = build.with_parts(mask, **balls)
    ahead = [np.add(marks[ring].mean(0), [0, 0, 2]) for ring in lids.values()]
    sheets = []  # welded to the lids
    for number, ring in enumerate(lids.values()):
        edge, middle = face.landmarks68[ring], len(mesh.vertices) + number
        sheets += [[a, b, middle] for a, b in zip(edge, np.roll(edge, -1))]
    mesh = Mesh(np.vstack([mesh.vertices, ahead]), np.vstack([mesh.faces, sheets]).astype(np.int32))
    binding = talkemo.bind(mesh, models=models, cache=False).shown
    assert all(len(found) for found, _ in binding.eyes)
    appearance = appearance_of(binding)
    drawn = appearance.vertex[appearance.faces]
    assert not np.isin(drawn, len(mesh.vertices) - np.arange(1, 3)).any()
    for side in lids:
        assert np.isin(drawn, rows[side]).any()


def test_own_teeth_are_dark_between_closed_lips(models, example_face, face):
    import parts_of_heads as build

    mask = load_mesh(example_face)
    marks = mask.vertices[face.landmarks68]
    mesh, rows = build.with_parts(mask, teeth=build.teeth_row(marks, 6, (-3, 8)))
    groups = np.full(len(mesh.vertices), "skin", "<U6")
    groups[rows["teeth"]] = "teeth"
    mesh = replace(mesh, attributes=MeshAttributes(groups=groups))
    binding = talkemo.bind(mesh, models=models, cache=False).shown
    appearance = appearance_of(binding)
    teeth = np.isin(appearance.vertex, rows["teeth"])
    assert teeth.any()
    light = []
    for weights in ({}, {"jawOpen": 0.6}):
        coordinates = face.weight_vector(weights) @ face.weights_to_coordinates
        appearance.points(binding.vertices(coordinates[None])[0])
        column, row = appearance.places()[teeth].astype(int).T
        light.append(appearance.texture[row, column].mean())
    assert light[0] < 0.4 * light[1] and light[1] > 200


def test_own_teeth_are_darker_at_the_corners_of_the_mouth(models, example_face, face):
    """There they lie behind the cheeks; bright ones look like specks beside the front teeth."""
    import parts_of_heads as build

    mask = load_mesh(example_face)
    marks = mask.vertices[face.landmarks68]
    mesh, rows = build.with_parts(mask, teeth=build.teeth_row(marks, 3, (-3, 8)))
    groups = np.full(len(mesh.vertices), "skin", "<U6")
    groups[rows["teeth"]] = "teeth"
    mesh = replace(mesh, attributes=MeshAttributes(groups=groups))
    appearance = appearance_of(talkemo.bind(mesh, models=models, cache=False).shown)
    corners = np.flatnonzero(np.isin(appearance.vertex, rows["teeth"]))
    column, row = appearance.place[corners].astype(int).T
    light = appearance.texture[row, column].mean(1)
    depth = -mesh.vertices[appearance.vertex[corners], 2]
    front, back = (depth < np.quantile(depth, 0.2)), (depth > np.quantile(depth, 0.8))
    assert light[front].mean() > 200 and light[back].mean() < light[front].mean() - 5


def test_a_caption_that_no_font_shows_is_named(animation, tmp_path, models):
    from talkemo.pipelines.rendering import render as draw
    from talkemo.render.text import is_drawable

    said = []
    options = {"size": 96, "models": models, "notice": said.append}
    draw(animation, tmp_path / "a.png", caption="Grüße, café", **options)
    assert said == [] and is_drawable("Grüße, café")
    draw(animation, tmp_path / "b.png", caption="\U0010fff0 unknown", **options)
    assert len(said) == 1 and "no font" in said[0]
