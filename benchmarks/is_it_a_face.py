"""Whether binding tells meshes with a face from those without, and finds where the face is.

python benchmarks/is_it_a_face.py [--ict MODEL.npz] [--body BODY.obj] [--part tune] [--json]
python benchmarks/is_it_a_face.py --faces HEAD.glb ... --others CHAIR.obj ...

The meshes are generated: masks, heads, busts, sculptures, low-polygon and cartoon heads, figures;
and spheres, furniture, cars, hands, animals, terrain, lumps, figures without a head or a face.
Whole heads are made of ICT FaceKit's model.npz (--ict), some bodies of an OBJ with a group `body`
(--body); what needs a missing file is left out. Thresholds were chosen with `--part tune` and
`tune2`; `test` has other identities, shapes and orientations. A face counts as right if it is bound with its nose,
up and forward where they are; any other mesh if it is refused. Meshes named with --faces count as
right if they are bound at all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

import talkemo
from talkemo.errors import InputError
from talkemo.formats.groups import vertex_groups
from talkemo.formats.mesh import as_mesh
from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.rigid import cube_rotations

PARTS = {"tune": 0, "tune2": 1, "test": 2}  # their seeds
MAX_ANGLE_DEG = 25.0  # between the bound and the true axes of a face
MAX_NOSE_OFFSET = 0.25  # of the nose, relative to the length from its bridge to the chin
ICT_HEAD, ICT_EYES = slice(0, 11248), slice(21451, 24591)  # vertices of ICT FaceKit
NOSE, BRIDGE, CHIN, EYES = 30, 27, 8, slice(36, 48)  # iBUG landmarks

Surface = tuple[np.ndarray, np.ndarray]  # vertices (V, 3) and triangles (F, 3)
Limb = tuple[Sequence[float], Sequence[float], float]  # both ends and the radius of a capsule


@dataclass(frozen=True)
class Subject:
    """A mesh and where its face is: the nose (3,), axes (3, 3) and size; nose None without one."""

    name: str
    surface: Surface
    nose: np.ndarray | None = None
    axes: np.ndarray | None = None
    size: float = 1.0

    def placed(self, rotation: np.ndarray, scale: float) -> Subject:
        """Return the subject rotated, then scaled."""
        surface = (scale * self.surface[0] @ rotation.T, self.surface[1])
        if self.nose is None:
            return replace(self, surface=surface)
        nose = scale * rotation @ self.nose
        return replace(self, surface=surface, nose=nose, axes=rotation, size=scale * self.size)


# ------------------------------------------------------------------------------------ heads


@dataclass(frozen=True)
class Head:
    """A head in cm that looks along +z, with its iBUG landmarks (68, 3)."""

    surface: Surface
    landmarks: np.ndarray

    def subject(self, name: str, surface: Surface | None = None) -> Subject:
        """Return the head, or another surface with its face, as a subject."""
        size = float(np.linalg.norm(self.landmarks[BRIDGE] - self.landmarks[CHIN]))
        return Subject(name, surface or self.surface, self.landmarks[NOSE], np.eye(3), size)

    def warped(self, warp: Callable[[np.ndarray], np.ndarray]) -> Head:
        """Return the head with all positions warped."""
        return Head((warp(self.surface[0]), self.surface[1]), warp(self.landmarks))


def ict_head(model: dict[str, np.ndarray], rng: np.random.Generator, spread: float) -> Head:
    """Return a whole head with eyeballs; identity weights have the standard deviation `spread`."""
    weights = spread * rng.standard_normal(40)
    points = model["neutral"] + np.tensordot(weights, model["identity"][:40].astype(float), 1)
    quads = model["quads"]
    kept = np.zeros(len(points), bool)
    kept[ICT_HEAD] = kept[ICT_EYES] = True
    quads = quads[kept[quads].all(1) | (kept[quads[:, :3]].all(1) & (quads[:, 3] < 0))]
    triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]])
    used, renumbered = np.unique(triangles, return_inverse=True)
    surface = points[used], renumbered.reshape(-1, 3)
    return Head(surface, points[model["landmarks"]])


def cartoon(head: Head, eyes: float, nose: float, crown: float) -> Head:
    """Return a head with larger eyes, a flatter nose and a higher crown."""
    marks = head.landmarks
    centres = [marks[36:42].mean(0), marks[42:48].mean(0)]
    width = float(np.linalg.norm(marks[36] - marks[39]))

    def warp(points: np.ndarray) -> np.ndarray:
        result = points.copy()
        for centre in centres:
            away = points - centre
            share = np.exp(-np.square(away / (1.1 * width)).sum(1))
            result += (eyes - 1) * share[:, None] * away * [1, 1, 0.3]
        near = np.exp(-np.square((points - marks[NOSE]) / [1.6, 2.2, 3]).sum(1))
        depth = np.maximum(points[:, 2] - marks[39, 2], 0)
        result[:, 2] -= (1 - nose) * near * depth
        up = np.clip((points[:, 1] - marks[BRIDGE, 1]) / 8, 0, 1.5)
        result[:, 0] *= 1 + (crown - 1) * np.clip(up + 0.3, 0, 1)
        result[:, 1] += (crown - 1) * 8 * up
        return result

    return head.warped(warp)


def one_skin(surface: Surface, subdivisions: int, smooth: int = 0) -> Surface:
    """Return the outermost surface seen from the middle of a head, as one closed skin.

    It is smoothed as often as told, as a sculpture or a coarse scan is.
    """
    shape = trimesh.Trimesh(*surface, process=False)
    low, high = shape.bounds
    middle = (low + high) / 2 + [0, 0.05 * (high[1] - low[1]), 0]
    ball = trimesh.creation.icosphere(subdivisions)
    directions = np.asarray(ball.vertices)
    far = 4 * float(np.linalg.norm(high - low))
    starts = middle + far * directions
    hits, rays, _ = shape.ray.intersects_location(starts, -directions, multiple_hits=False)
    radius = np.full(len(directions), np.nan)
    radius[rays] = np.linalg.norm(hits - middle, axis=1)
    known = np.isfinite(radius)
    nearest = cKDTree(directions[known]).query(directions)[1]
    radius = radius[known][nearest]
    neighbours = trimesh.graph.edges_to_coo(ball.edges_unique, len(radius)).tocsr().astype(float)
    neighbours = neighbours + neighbours.T
    for _ in range(smooth):
        radius = 0.5 * radius + 0.5 * (neighbours @ radius) / neighbours.sum(1).A1
    return middle + radius[:, None] * directions, np.asarray(ball.faces)


def bust(surface: Surface, pedestal: bool = True) -> Surface:
    """Return a head on shoulders and a pedestal."""
    points = surface[0]
    low, high = points.min(0), points.max(0)
    height = high[1] - low[1]
    ball = trimesh.creation.icosphere(4)
    shoulders = np.asarray(ball.vertices) * [0.85 * height, 0.3 * height, 0.4 * height]
    depth = (low[2] + high[2]) / 2 - 0.1 * height
    shoulders = shoulders + np.array([0, low[1] - 0.2 * height, depth])
    parts = [surface, (shoulders, np.asarray(ball.faces))]
    if pedestal:
        foot = trimesh.creation.cylinder(0.32 * height, 0.5 * height, sections=48)
        foot = foot.subdivide().subdivide()
        points = np.asarray(foot.vertices)[:, [0, 2, 1]] * [1, -1, 1]
        points = points + np.array([0, low[1] - 0.6 * height, depth])
        parts.append((points, np.asarray(foot.faces)))
    return joined(*parts)


def joined(*surfaces: Surface) -> Surface:
    """Return several surfaces as one."""
    starts = np.cumsum([0, *(len(points) for points, _ in surfaces)])
    triangles = [faces + start for (_, faces), start in zip(surfaces, starts)]
    return np.concatenate([points for points, _ in surfaces]), np.concatenate(triangles)


def used(surface: Surface) -> Surface:
    """Return a surface without the vertices that belong to no triangle."""
    rows, renumbered = np.unique(surface[1], return_inverse=True)
    return surface[0][rows], renumbered.reshape(-1, 3)


def clustered(surface: Surface, cell: float) -> Surface:
    """Return a coarse mesh: vertices in one cell of a grid become one."""
    keys = np.round(surface[0] / cell).astype(int)
    _, first, cells = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = cells.reshape(-1)[surface[1]]
    faces = faces[(faces != faces[:, [1, 2, 0]]).all(1)]
    return surface[0][first], faces


# ----------------------------------------------------------------------------- figures, things


def capsules(*limbs: Limb) -> Surface:
    """Return capsules, each from one point to another, with a radius."""
    parts = []
    for start, end, radius in limbs:
        a, b = np.array(start, float), np.array(end, float)
        length = float(np.linalg.norm(b - a))
        capsule = trimesh.creation.capsule(length, radius, [20, 20])
        frame = trimesh.geometry.align_vectors([0, 0, 1], b - a)
        along = np.asarray(capsule.vertices) - capsule.bounds.mean(0)
        points = along @ frame[:3, :3].T + (a + b) / 2
        parts.append((points, np.asarray(capsule.faces)))
    return joined(*parts)


def figure(rng: np.random.Generator, head: bool = True) -> Surface:
    """Return a mannequin of capsules, 150 high, with a ball as its head or without."""
    wide = rng.uniform(0.85, 1.15)
    limbs: list[Limb] = [((0, 90, 0), (0, 140, 0), 17 * wide), ((0, 140, 0), (0, 150, 2), 6)]
    for side in (-1, 1):
        limbs += [
            ((side * 18 * wide, 140, 0), (side * 45, 105, 0), 5),
            ((side * 45, 105, 0), (side * 55, 75, 8), 4),
            ((side * 10, 88, 0), (side * 13, 8, 0), 8 * wide),
            ((side * 13, 4, 0), (side * 13, 4, 16), 4),
        ]
    limbs_of_body = capsules(*limbs)
    return joined(limbs_of_body, ball((0, 162, 2), (9, 12, 10))) if head else limbs_of_body


def hand(rng: np.random.Generator) -> Surface:
    """Return a palm with five fingers."""
    bend = rng.uniform(0.5, 3)
    limbs: list[Limb] = [((-3, -9, 0), (3, -9, 0), 1.5)]
    for k, length in enumerate((7, 8, 7.5, 6)):
        limbs.append(((2.4 * k - 3.6, -2, 0), (2.8 * k - 4.2, length - 2, bend), 0.9))
    limbs.append(((4, -6, 0), (8, -1, bend), 1.1))
    return joined(ball((0, -5, 0), (4.5, 5, 1.7)), capsules(*limbs))


def quadruped(rng: np.random.Generator) -> Surface:
    """Return an animal with a long snout, ears and a tail."""
    snout = rng.uniform(14, 24)
    legs = [((x, 40, z), (x, 2, z), 5) for x in (-9, 9) for z in (-32, 30)]
    neck = [((0, 55, 32), (0, 80, 50), 9), ((0, 84, 52), (0, 80, 52 + snout), 6)]
    ears = [((x, 90, 46), (1.4 * x, 100, 44), 2.5) for x in (-6, 6)]
    eyes = [((x, 88, 58), (x, 88, 58.5), 1.5) for x in (-5, 5)]
    tail = [((0, 55, -48), (0, 40, -66), 2.5)]
    body = ball((0, 55, 0), (16, 17, 46))
    return joined(
        body, ball((0, 84, 52), (10, 11, 13)), capsules(*legs, *neck, *ears, *eyes, *tail)
    )


def car(rng: np.random.Generator) -> Surface:
    """Return a car: two boxes and four wheels."""
    boxes = [((0, 0.7, 0), (1.8, 0.6, 4.2)), ((0, 1.25, -0.2), (1.5, 0.6, rng.uniform(1.6, 2.6)))]
    wheels = []
    for x in (-0.85, 0.85):
        for z in (-1.3, 1.3):
            wheel = trimesh.creation.cylinder(0.38, 0.25, sections=32)
            points = np.asarray(wheel.vertices)[:, [2, 1, 0]] * [1, 1, -1] + [x, 0.38, z]
            wheels.append((points, np.asarray(wheel.faces)))
    return joined(*(box(*sides) for sides in boxes), *wheels)


def chair(rng: np.random.Generator) -> Surface:
    """Return a chair: a seat, a back and four legs."""
    back = rng.uniform(0.8, 1.4)
    legs = [((x, -0.5, z), (0.1, 1, 0.1)) for x in (-0.45, 0.45) for z in (-0.45, 0.45)]
    boxes = [((0, 0, 0), (1, 0.1, 1)), ((0, back / 2, -0.5), (1, back, 0.1)), *legs]
    return joined(*(box(*sides) for sides in boxes))


def vase(rng: np.random.Generator) -> Surface:
    """Return a vase: a surface of revolution."""
    height = np.linspace(0, 1, 60)
    radius = 0.25 + 0.1 * np.sin(rng.uniform(5, 8) * height + rng.uniform(0, 3))
    shape = trimesh.creation.revolve(np.column_stack([radius, height]), sections=80)
    return np.asarray(shape.vertices)[:, [0, 2, 1]] * [1, 1, -1], np.asarray(shape.faces)


def lump(rng: np.random.Generator) -> Surface:
    """Return a sphere with waves of several lengths."""
    ball_points, faces = ball((0, 0, 0), (1, 1, 1), 5)
    height = np.zeros(len(ball_points))
    for frequency in (2, 3, 5, 8, 12):
        for _ in range(4):
            wave = frequency * rng.standard_normal(3)
            height += 0.25 / frequency * np.sin(ball_points @ wave + rng.uniform(0, 6))
    return ball_points * (1 + height)[:, None], faces


def terrain(rng: np.random.Generator) -> Surface:
    """Return hills."""
    x, y = np.meshgrid(np.linspace(-1, 1, 120), np.linspace(-1, 1, 120))
    height = np.zeros_like(x)
    for frequency in (2, 4, 7, 12):
        for _ in range(4):
            a, b = frequency * rng.standard_normal(2)
            height += 0.3 / frequency * np.sin(a * x + b * y + rng.uniform(0, 6))
    corner = (np.arange(119)[:, None] * 120 + np.arange(119)).ravel()
    lower = np.stack([corner, corner + 1, corner + 120], 1)
    upper = np.stack([corner + 1, corner + 121, corner + 120], 1)
    points = np.stack([x, height, -y], 2).reshape(-1, 3)
    return points, np.concatenate([lower, upper])


def ball(centre: Sequence[float], radii: Sequence[float], subdivisions: int = 3) -> Surface:
    """Return an ellipsoid."""
    shape = trimesh.creation.icosphere(subdivisions)
    return np.asarray(shape.vertices) * radii + np.asarray(centre), np.asarray(shape.faces)


def box(centre: Sequence[float], sides: Sequence[float]) -> Surface:
    """Return a box whose sides are subdivided."""
    shape = trimesh.creation.box(sides).subdivide().subdivide().subdivide()
    return np.asarray(shape.vertices) + np.asarray(centre), np.asarray(shape.faces)


def torus(rng: np.random.Generator) -> Surface:
    """Return a torus."""
    shape = trimesh.creation.torus(1, rng.uniform(0.25, 0.5), 64, 32)
    return np.asarray(shape.vertices), np.asarray(shape.faces)


# ------------------------------------------------------------------------------------ subjects


def subjects(part: str, ict: Path | None, body_file: Path | None) -> Iterator[Subject]:
    """Yield the generated subjects of a part, turned and scaled; those with a face come first."""
    seed = PARTS[part]
    rng = np.random.default_rng(seed)
    body = read_body(body_file) if body_file else None
    found = [mask(rng), *heads(ict_model(ict), rng, body)] if ict else [mask(rng)]
    if body is not None:
        found.append(nude(body))
    found += things(rng, body)
    if ict:
        found += half_heads(ict_model(ict), rng)
    cube = cube_rotations()
    for number, subject in enumerate(found):
        rotation = cube[(0, 1, 0, int(rng.integers(24)))[(number + seed) % 4]]
        if (number + seed) % 8 == 7:
            rotation = Rotation.random(rng=rng).as_matrix()
        yield subject.placed(rotation, float(10 ** rng.uniform(-2, 2)))


def ict_model(path: Path) -> dict[str, np.ndarray]:
    """Return ICT FaceKit's arrays with its landmarks."""
    indices = json.loads((path.parent / "indices.json").read_text())
    return {**np.load(path), "landmarks": np.array(indices["idx_to_landmark_verts"])}


def mask(rng: np.random.Generator) -> Subject:
    """Return a bare mask of the face model with an unusual identity."""
    face = talkemo.load_models().face
    identity = face.identity_weights(1.7 * rng.standard_normal(30))
    points = face.vertices(face.expression_factor[0], identity).astype(float)
    return Head((points, face.faces), points[face.landmarks68]).subject("mask")


def heads(
    model: dict[str, np.ndarray], rng: np.random.Generator, body: Surface | None
) -> Iterator[Subject]:
    """Yield whole heads, busts, sculptures and figures."""
    new_head = lambda spread=1.2: ict_head(model, rng, spread)
    yield new_head(1.7).subject("head")
    large = cartoon(new_head(), rng.uniform(1.4, 1.7), 0.6, rng.uniform(1.1, 1.3))
    yield large.subject("cartoon")
    doll = cartoon(new_head(0.8), 1.8, 0.35, 1.4)
    yield doll.subject("doll", one_skin(doll.surface, 6, 2))
    sitter = new_head()
    yield sitter.subject("bust", bust(sitter.surface))
    sitter = new_head()
    yield sitter.subject("sculpture", bust(one_skin(sitter.surface, 6, 3)))
    sitter = new_head(1.5)
    skin = one_skin(sitter.surface, 6)
    noise = 0.05 * rng.standard_normal(skin[0].shape)
    yield sitter.subject("scan", bust((skin[0] + noise, skin[1]), pedestal=False))
    sitter = new_head()
    yield sitter.subject("worn sculpture", one_skin(sitter.surface, 6, 12))
    sitter = new_head()
    yield sitter.subject("low polygon", one_skin(sitter.surface, 4))
    sitter = new_head()
    yield sitter.subject("clustered", clustered(sitter.surface, 0.8))
    sitter = cartoon(new_head(), 1.3, 0.8, 1.1)
    yield standing("chibi", sitter, figure(rng, head=False), 45.0)
    if body is not None:
        sitter = new_head()
        yield standing("person", sitter, used(without_head(body)), 24.0)


def things(rng: np.random.Generator, body: Surface | None) -> Iterator[Subject]:
    """Yield the subjects without a face."""
    yield Subject("ball", ball((0, 0, 0), rng.uniform(0.7, 1.3, 3).tolist(), 5))
    for make in (torus, chair, car, hand, quadruped, vase, lump, lump, terrain, figure):
        yield Subject(make.__name__, make(rng))
    if body is not None:
        headless = used(without_head(body))
        yield Subject("headless", headless)
        top, size = headless[0][:, 1].max(), 0.075 * np.ptp(headless[0][:, 1])
        head = ball((0, top + 0.8 * size, 0.5), (0.75 * size, size, 0.9 * size), 4)
        yield Subject("faceless", joined(headless, head))


def half_heads(model: dict[str, np.ndarray], rng: np.random.Generator) -> Iterator[Subject]:
    """Yield the back half of a head, and a mannequin whose relief is smoothed away."""
    head = ict_head(model, rng, 1.0)
    points, faces = head.surface
    behind = points[:, 2] < np.median(points[:, 2]) - 2
    yield Subject("back of a head", used((points, faces[behind[faces].all(1)])))
    yield Subject("mannequin", one_skin(head.surface, 5, 120))


def nude(body: Surface) -> Subject:
    """Return MakeHuman's body, whose nose is the foremost point of its head."""
    points = body[0]
    head = (points[:, 1] > points[:, 1].max() - 22) & (np.abs(points[:, 0]) < 1)
    row = np.flatnonzero(head)[points[head, 2].argmax()]
    return Subject("body", body, points[row], np.eye(3), 9.0)


def read_body(path: Path) -> Surface:
    """Return the skin of a MakeHuman OBJ in dm that stands upright, in cm."""
    mesh = as_mesh(path)
    skin = vertex_groups(mesh.attributes, len(mesh.vertices)) == "skin"
    used, renumbered = np.unique(mesh.faces[skin[mesh.faces].all(1)], return_inverse=True)
    return 10 * mesh.vertices[used], renumbered.reshape(-1, 3)


def without_head(body: Surface) -> Surface:
    """Return a body that is cut at its neck."""
    points, faces = body
    neck = points[:, 1].max() - 0.14 * np.ptp(points[:, 1])
    return points, faces[(points[faces, 1] < neck).all(1)]


def standing(name: str, head: Head, body: Surface, height: float) -> Subject:
    """Return a body with a head of that height in cm on its neck."""
    points = head.surface[0]
    size = height / np.ptp(points[:, 1])
    neck = np.array([0, points[:, 1].min(), np.median(points[:, 2])])
    top = np.array([0, body[0][:, 1].max() - 0.08 * height, 2])
    head = head.warped(lambda points: (points - neck) * size + top)
    return head.subject(name, joined(head.surface, body))


# --------------------------------------------------------------------------------- measurement


def judge(subject: Subject, mesh: Mesh, tracker: bool) -> dict[str, object]:
    """Bind a subject and return whether that is right, why it was refused, and the seconds."""
    started = time.perf_counter()
    row: dict[str, object] = {"name": subject.name, "face": subject.nose is not None}
    try:
        binding = talkemo.bind(mesh, hint=talkemo.FaceHint(tracker=tracker), cache=False)
    except InputError as error:
        row |= {"bound": False, "right": subject.nose is None, "reason": str(error)}
    else:
        row |= {"bound": True, "right": False, "error_mm": round(binding.error, 2)}
        row |= {"relief": round(binding.relief, 2)}
        if subject.nose is not None:
            row |= placement_errors(subject, binding)
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


def placement_errors(subject: Subject, binding: talkemo.Binding) -> dict[str, object]:
    """Return how far a bound face is from the true one, and whether that is right."""
    if subject.axes is None:
        return {"right": True}
    nose = binding.mesh.vertices[binding.landmarks68[NOSE]]
    offset = float(np.linalg.norm(nose - subject.nose)) / subject.size
    turn = Rotation.from_matrix(binding.placement.rotation @ subject.axes.T).magnitude()
    right = offset < MAX_NOSE_OFFSET and np.degrees(turn) < MAX_ANGLE_DEG
    return {"right": bool(right), "nose": round(offset, 2), "degrees": round(np.degrees(turn))}


def main() -> None:
    """Parse the command line, bind all subjects and print the confusion."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ict", type=Path)
    parser.add_argument("--body", type=Path)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--faces", type=Path, nargs="*", default=[])
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--tracker", action="store_true", help="ask the landmark tracker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for subject in subjects(options.part, options.ict, options.body):
        rows.append(judge(subject, as_mesh(subject.surface), options.tracker))
        show(rows[-1], options.json)
    for path in options.faces + options.others:
        nose = np.zeros(3) if path in options.faces else None
        subject = Subject(path.name, (np.zeros((0, 3)), np.zeros((0, 3), int)), nose)
        rows.append(judge(subject, as_mesh(path), options.tracker))
        show(rows[-1], options.json)
    for kind, wanted in (("with a face", True), ("without", False)):
        chosen = [row for row in rows if row["face"] is wanted]
        print(f"{kind}: {sum(bool(row['right']) for row in chosen)} of {len(chosen)} right")


def show(row: dict[str, object], as_json: bool) -> None:
    """Print the row of a subject."""
    text = json.dumps(row) if as_json else "  ".join(f"{k} {v}" for k, v in row.items())
    print(text, flush=True)


if __name__ == "__main__":
    main()
