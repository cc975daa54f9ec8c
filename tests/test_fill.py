"""Eyes, teeth, tongue and mouth that are added to a mesh without them, in images and files."""

import shutil
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
import trimesh
from openings_of_heads import with_wide_eyes
from test_exports import accessor
from test_units import FRAMES, written

from talkemo import ExportOptions, InputError, load_models
from talkemo.binding import bind_mesh
from talkemo.binding.fill import PART_NAMES, fill_of
from talkemo.binding.head_turner import HeadTurner
from talkemo.binding.mouth_edge import _whole_opening
from talkemo.face.anatomy import MATERIALS, anatomy_of_tensors, tensors_of_anatomy
from talkemo.face.canonical import ARKIT_NAMES, LEFT_EYE, RIGHT_EYE
from talkemo.formats.animation import Frames
from talkemo.formats.gltf_scene import ADDED_PART
from talkemo.formats.mesh import load_mesh
from talkemo.formats.registry import open_animation, open_writer
from talkemo.geometry.meshes import boundary_loops
from talkemo.pipelines.acting import bound_header
from talkemo.pipelines.outputs import output_paths
from talkemo.render.added_parts import FollowingVertices
from talkemo.render.appearance import appearance_of
from talkemo.render.page import face_data
from talkemo.render.software import SoftwareRenderer
from talkemo.render.textures import EYEBALL_RADIUS_MM, IRIS_RADIUS_MM, PUPIL_RADIUS_MM
from talkemo.render.view import frame_view
from talkemo.train.decimation import decimate
from talkemo.weights.models import Models, open_set
from talkemo.weights.weight_set import WeightSet, bundled_folder

JAW_OPEN = ARKIT_NAMES.index("jawOpen")


@pytest.fixture(scope="module")
def fill(bound):
    return fill_of(bound, bound.face.anatomy)


@pytest.fixture(scope="module")
def targets(fill, bound):
    """Displacement (52, A, 3) of the parts in canonical mm."""
    return fill.arkit_targets() / bound.scale


def rows_of(fill, name):
    return np.unique(fill.faces[name])


def frame(bound, **weights):
    weights = bound.face.weight_vector(weights)
    return bound.vertices(weights[None] @ bound.face.weights_to_coordinates)[0]


# ------------------------------------------------------------------------------------- the fitting


def test_narrow_lids_get_smaller_eyes_that_look_awake(bound, face, fill):
    """As on MediaPipe's canonical face, whose eyes are three quarters as high."""
    lids = [bound.mesh.vertices[bound.landmarks68[eye]] for eye in (RIGHT_EYE, LEFT_EYE)]
    mesh = with_wide_eyes(bound.mesh, np.array([eye.mean(0) for eye in lids]), factor=0.72)
    narrow = fill_of(bind_mesh(face, mesh), None)
    for ball, usual, eye in zip(narrow.eyeballs, fill.eyeballs, (RIGHT_EYE, LEFT_EYE)):
        assert 0.65 < ball.radius / usual.radius < 0.9
        marks = narrow.binding.rest[narrow.binding.landmarks68[eye]]
        upper, lower = marks[[1, 2], 1].mean(), marks[[4, 5], 1].mean()
        iris = ball.radius * IRIS_RADIUS_MM / EYEBALL_RADIUS_MM
        assert upper - lower > 1.1 * iris
        pupil = ball.radius * PUPIL_RADIUS_MM / EYEBALL_RADIUS_MM
        assert lower < ball.centre[1] - pupil and ball.centre[1] + 0.2 * pupil < upper


def test_teeth_stand_with_the_skull_or_go_with_the_jaw(fill, targets, bound):
    anatomy = bound.face.anatomy
    assert set(fill.faces) == set(PART_NAMES)
    lower = []
    for number, name in enumerate(MATERIALS):
        jaw, rows = anatomy.jaw[anatomy.material == number], rows_of(fill, name)
        assert len(rows) == len(jaw)
        assert not targets[:, rows[jaw == 0]].any()
        lower.append(rows[jaw == 1])
    assert [bool(len(rows)) for rows in lower] == [True] * 3
    lower = np.concatenate(lower)
    assert targets[JAW_OPEN, lower, 1].mean() < -8
    points = fill.points[lower] / bound.scale
    length = np.linalg.norm(np.diff(points[::37], axis=0), axis=1)
    for weight in (0.5, 1.0):
        moved = points + weight * targets[JAW_OPEN, lower]
        moved = np.linalg.norm(np.diff(moved[::37], axis=0), axis=1)
        np.testing.assert_allclose(moved, length, rtol=0.03)


def test_mouth_and_lids_follow_the_edges_of_the_mesh(fill, targets, bound):
    np.testing.assert_allclose(fill.points[fill.edge_rows], bound.rest[fill.edge], atol=1e-4)
    moved = bound.arkit_targets()[:, fill.edge] / bound.scale
    np.testing.assert_allclose(targets[:, fill.edge_rows], moved, atol=3e-3)
    for name, points in (("mouth", [48, 54]), ("eyelids", [*range(36, 48)])):
        own = fill.points[np.intersect1d(fill.edge_rows, rows_of(fill, name))] / bound.scale
        wanted = bound.rest[bound.landmarks68[points]] / bound.scale
        gaps = np.linalg.norm(own[:, None] - wanted, axis=2).min(0)
        assert gaps.max() < 6, name  # the edges are those of the openings


def test_nothing_is_seen_through_closed_lips_and_cheeks(bound):
    appearance = appearance_of(bound)
    added = appearance.vertex >= appearance.vertices
    mouth = added & (appearance.points(bound.rest)[appearance.vertex, 1] < 15 * bound.scale)
    closed = replace(appearance, faces=appearance.faces[~mouth[appearance.faces].any(1)])
    poses = (
        {"mouthPress": 0.8},
        {"mouthSmile": 1.0},
        {"jawOpen": 0.8},
        {"mouthLeft": 0.8, "jawOpen": 0.3},
    )
    for view, chosen in (("front", poses[:2]), ("side", poses[1:])):
        camera = frame_view(bound.rest, bound.focus, view, bound.placement.rotation)
        renderers = [SoftwareRenderer(one, camera, (160, 160)) for one in (appearance, closed)]
        for pose in chosen:
            vertices = frame(bound, **pose)
            with_parts, without = (r.draw(vertices).astype(int) for r in renderers)
            changed = (np.abs(with_parts - without).max(2) > 40).sum()
            assert changed < 8, (view, pose)  # of 25,600 pixels


def test_eyes_fill_their_lids_and_turn(fill, targets, bound):
    right, left = fill.eyeballs
    assert right.radius == left.radius
    for eyeball, lids, side in ((right, RIGHT_EYE, "Right"), (left, LEFT_EYE, "Left")):
        edges = bound.rest[bound.landmarks68[lids]][[1, 2, 4, 5]] - eyeball.centre
        gaps = np.linalg.norm(edges, axis=1) / bound.scale - eyeball.radius
        assert (gaps > -0.5).all() and (gaps < 3.5).all()
        from_centre = (fill.points[eyeball.rows] - eyeball.centre) / bound.scale
        turned = from_centre + targets[ARKIT_NAMES.index(f"eyeLookUp{side}"), eyeball.rows]
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), eyeball.radius, rtol=1e-3)
        assert np.abs(turned - from_centre).max() > 0.3 * eyeball.radius


def test_a_mesh_keeps_its_own_eyes_and_teeth(bound):
    eyes = tuple((np.arange(3), centre) for _, centre in bound.eyes)
    own = replace(bound, eyes=eyes, parts={**bound.parts, "upper_teeth": 9})
    assert set(fill_of(own, bound.face.anatomy).faces) == {"mouth"}
    assert set(fill_of(replace(own, parts=bound.parts), bound.face.anatomy).faces) == {
        *MATERIALS,
        "mouth",
    }


def test_all_triangles_of_an_opening_are_left_out():
    # A fan closes an opening of six vertices around 6; a coarse polygon misses its last triangle.
    fan = np.array([[k, (k + 1) % 6, 6] for k in range(6)])
    ring = np.array([[k, k + 7, (k + 1) % 6] for k in range(6)])
    inside = np.arange(12) < 5
    np.testing.assert_array_equal(
        _whole_opening(np.concatenate([fan, ring]), inside), np.arange(12) < 6
    )


# ----------------------------------------------------------------------------------------- weights


def test_sets_without_an_anatomy_of_their_own(bound, tmp_path, monkeypatch):
    wanted = load_models().anatomy
    np.testing.assert_array_equal(load_models("free").anatomy.points, wanted.points)
    shutil.copy(bundled_folder() / "default" / "face.safetensors", tmp_path)
    models = load_models(tmp_path)
    np.testing.assert_array_equal(models.face.anatomy.points, wanted.points)
    other = load_models(tmp_path)  # a face with other blend shapes
    names = tuple(f"x{name}" for name in models.face.expression_names)
    other.__dict__["face"] = replace(models.face, expression_names=names)
    assert other.anatomy is None
    path = WeightSet.path
    monkeypatch.setattr(
        WeightSet, "path", lambda self, stage: None if stage == "anatomy" else path(self, stage)
    )
    assert Models([open_set("default")], "cpu").anatomy is None
    bare = replace(bound, face=replace(bound.face, load_anatomy=None))
    assert set(fill_of(bare, bare.face.anatomy).faces) == {"eyes", "eyelids"}
    assert appearance_of(bare).added_count


def test_unusable_anatomies_are_refused(face):
    tensors, shapes = tensors_of_anatomy(face.anatomy), len(face.expression_names)
    again = anatomy_of_tensors(tensors, shapes)
    np.testing.assert_array_equal(again.socket_offsets, face.anatomy.socket_offsets)
    for name, wrong in (
        ("faces", np.full((5, 3), len(tensors["points"]), np.uint16)),
        ("material", tensors["material"] + 3),
        ("jaw", tensors["jaw"][1:]),
        ("socket", tensors["socket"][:, :3]),
        ("socket_offsets", tensors["socket_offsets"][1:]),
    ):
        with pytest.raises(ValueError, match="its "):
            anatomy_of_tensors({**tensors, name: wrong}, shapes)


def test_a_decimated_surface_keeps_its_shape():
    ball = trimesh.creation.icosphere(3, 10)
    points, faces = decimate(np.array(ball.vertices), np.array(ball.faces), 160)
    assert len(points) == 160 and not boundary_loops(faces, len(points))
    assert np.abs(np.linalg.norm(points, axis=1) - 10).max() < 0.5


# ------------------------------------------------------------------------------- drawing and files


def test_the_mouth_is_dark_between_closed_lips(bound):
    appearance = appearance_of(bound)
    shade = {}
    for name, vertices in (("closed", bound.rest), ("open", frame(bound, jawOpen=0.8))):
        appearance.points(vertices)
        shade[name] = (appearance.places() - appearance.place)[:, 1]
    added = appearance.vertex >= appearance.vertices
    assert shade["closed"][added].max() > 20 and not shade["closed"][~added].any()
    assert shade["open"].max() < 1
    in_texture = appearance.place[:, 1] + shade["closed"] < appearance.texture.shape[0]
    assert in_texture.all()


@pytest.fixture(scope="module")
def files(bound, tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    return folder, written(bound, [folder / "a.glb"])


def test_a_glb_contains_the_parts_of_a_mask(files, fill, bound):
    folder, frames = files
    document = pygltflib.GLTF2().load(str(folder / "a.glb"))
    nodes = {node.name: node for node in document.nodes if ADDED_PART in (node.extras or {})}
    eyeballs = {"eyeball_right": "eye_right", "eyeball_left": "eye_left"}  # and their nodes
    assert set(nodes) == (set(PART_NAMES) | set(eyeballs)) - {"eyes"}
    animation, head = document.animations[0], document.nodes[1]
    played = {c.target.node for c in animation.channels if c.target.path == "weights"}
    materials = {}
    local = FollowingVertices(fill)(frames.vertices[-1])
    by_name = {node.name: node for node in document.nodes}
    ball_rows = dict(zip(eyeballs, (ball.rows for ball in fill.eyeballs)))
    for name, node in nodes.items():
        number = document.nodes.index(node)
        parent = by_name[eyeballs[name]] if name in eyeballs else head
        assert number in played and number in parent.children
        mesh = document.meshes[node.mesh]
        rows = ball_rows[name] if name in eyeballs else rows_of(fill, name)
        assert mesh.extras["targetNames"] == list(ARKIT_NAMES)
        (primitive,) = mesh.primitives
        material = document.materials[primitive.material]
        materials[material.name] = material.pbrMetallicRoughness
        rest = 1000 * accessor(document, primitive.attributes.POSITION)
        np.testing.assert_allclose(rest, fill.points[rows], atol=1e-3)
        jaw = primitive.targets[JAW_OPEN]
        jaw = jaw["POSITION"] if isinstance(jaw, dict) else jaw.POSITION
        moved = 1000 * accessor(document, jaw)
        np.testing.assert_allclose(moved, fill.arkit_targets()[JAW_OPEN, rows], atol=1e-3)
        # A video shows the same motion, made of the frames' vertices instead of ARKit's weights.
        in_video = (local[rows] - rest)[:, 1].min()
        assert in_video == pytest.approx(0.9 * moved[:, 1].min(), rel=0.35, abs=0.5), name
    assert len({m.baseColorFactor[1] for m in materials.values()}) == len(PART_NAMES)
    assert materials["eyes"].baseColorTexture is not None
    assert {m.metallicFactor for m in materials.values()} == {0.0}


def test_added_parts_are_not_taken_for_the_mesh(files, bound):
    folder, _ = files
    count = len(bound.rest)
    assert len(load_mesh(folder / "a.glb").vertices) == count
    assert open_animation(folder / "a.glb").shape == (FRAMES, count, 3)


def test_without_fill(bound, tmp_path):
    header = bound_header(bound, 1, 10, {}, HeadTurner(bound))
    with open_writer(tmp_path / "a.glb", replace(header, fill=False)) as writer:
        rest = bound.rest[None]
        writer.write(Frames(rest, rest[:, bound.landmarks68], np.zeros((1, 52), np.float32)))
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert [mesh.name for mesh in document.meshes][1:] == []
    with pytest.raises(InputError, match="unknown fill 'on'"):
        output_paths(None, ExportOptions(fill="on"), [])


def test_usd_contains_the_parts_of_a_mask(fill, bound, tmp_path):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom, UsdShade, UsdSkel

    frames = written(bound, [tmp_path / "a.usdc"])
    written(bound, [tmp_path / "b.usdc"], bake=True)
    moving, baked = (Usd.Stage.Open(str(tmp_path / name)) for name in ("a.usdc", "b.usdc"))
    for name in PART_NAMES:
        rows = rows_of(fill, name)
        prim = moving.GetPrimAtPath(f"/face/{name}")
        points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get())
        np.testing.assert_allclose(points, fill.points[rows], atol=1e-3)
        assert UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0]
        binding = UsdSkel.BindingAPI(prim)
        assert len(binding.GetBlendShapeTargetsRel().GetTargets()) == len(ARKIT_NAMES)
        assert len(binding.GetJointIndicesPrimvar().Get()) == 2 * len(rows)
    teeth = UsdGeom.Mesh(baked.GetPrimAtPath("/face/teeth")).GetPointsAttr()
    added, turner = FollowingVertices(fill), HeadTurner(bound)
    wanted = added(turner(frames.vertices[2], frames.head[2]))[rows_of(fill, "teeth")]
    np.testing.assert_allclose(np.array(teeth.Get(2)), wanted, atol=1e-3)


def test_a_page_contains_the_parts_of_a_mask(bound, fill):
    header = bound_header(bound, 0, 30, {}, HeadTurner(bound))
    data, bare = (face_data(replace(header, fill=fill)) for fill in (True, False))
    assert len(data["turning"]["balls"]) == 2 and not bare["turning"]["balls"]
    sizes = [len(one["rest"]) for one in (data, bare)]
    assert sizes[0] - sizes[1] == pytest.approx(16 * len(fill.points), abs=8)
