"""Make examples/face.obj and examples/face.glb again: a whole head that no person has.

    python examples/make_head.py MODEL [-o FOLDER]      (by default out)

MODEL is ict_facekit/model.npz, see docs/data.md. The head is sampled from ICT-FaceKit's model of
people's faces (MIT, USC Institute for Creative Technologies): skin with ears and neck, mouth, both
eyes, teeth, gums, tongue and lashes, each in a group of its own. Units are mm, y is up.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import trimesh
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import connected_components

import talkemo
from talkemo.files.writing import atomic_write
from talkemo.formats.appearance import Appearance
from talkemo.geometry.meshes import vertex_normals
from talkemo.render.appearance import appearance_of

SEED, IDENTITY_STD = 1, 0.7  # of the sampled coefficients, in standard deviations of people
MM_PER_UNIT = 10.0  # the model is in cm
# The first of the model's vertices of a part, and the one after its last. What is left out, such as
# inner eyeballs, eye sockets and tear films, is only seen with materials of its own.
RANGES = {
    "skin": (0, 11248),
    "mouth": (11248, 13294),
    "gums": (14062, 17039),
    "teeth_upper": (17039, 19247),
    "teeth_lower": (19247, 21451),
    "eye_left": (21451, 22221),
    "eye_right": (23021, 23791),
}
TONGUE_HALF_WIDTH_CM, TONGUE_TIP_CM = 2.2, 9.0  # limits of its texture islands in the mean head
UPPER_GUMS_MOTION_CM = 0.5  # largest motion of the upper gums when the jaw opens
# The model's lashes are cards for a texture of hairs. Of each lid, upper and lower, one card is used:
# the first of its vertices.
LASH_CARDS = {"lashes_left": (25351, 25693), "lashes_right": (26035, 26377)}
CARD_ROWS, CARD_COLUMNS = 6, 19  # vertices of a card: from root to tip, and along the lid
HAIRS = 30  # of a lid
# Shares of a card's rows: where the band that joins the hairs begins, off the lid's own vertices,
# and ends; the tips of the upper and of the lower lashes.
HAIR_ROOT, HAIR_BAND, HAIR_TIPS = 0.04, 0.13, (0.6, 0.42)
TEXTURE_QUALITY = 88  # of the GLB's JPEG


@dataclass
class Part:
    """Polygons of a group; -1 pads triangles, and stands for corners without a texture."""

    name: str
    quads: np.ndarray  # (Q, 4) vertices
    uv_quads: np.ndarray  # (Q, 4) texture coordinates


@dataclass
class Head:
    """A head in named groups."""

    vertices: np.ndarray  # (V, 3) mm
    uv: np.ndarray  # (U, 2)
    parts: list[Part]


def main() -> None:
    """Parse the command line and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("-o", "--output", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    head, target = sampled_head(options.model, SEED), options.output / "face.obj"
    save_head(target, head)
    print(target)
    save_glb(target.with_suffix(".glb"), target, head)
    print(target.with_suffix(".glb"))


def sampled_head(model: Path, seed: int) -> Head:
    """Return a head of the model, with an identity that is drawn with a seed."""
    with np.load(model) as file:
        neutral, identity, quads, uv, uv_quads = (
            file[name] for name in ("neutral", "identity", "quads", "uv", "quads_uv")
        )
        jaw_open = file["expression"][list(file["expression_names"]).index("jawOpen")]
    coefficients = IDENTITY_STD * np.random.default_rng(seed).standard_normal(len(identity))
    vertices = neutral + np.tensordot(coefficients, identity.astype(np.float64), 1)
    parts = []
    for name, (first, last) in RANGES.items():
        rows = ((quads >= first) & (quads < last)).any(1) & (quads < last).all(1)
        part = Part(name, quads[rows], uv_quads[rows])
        if name == "gums":
            lower, upper = gums_of_jaws(part, jaw_open)
            parts += [upper, *without_tongue(lower, neutral)]
        else:
            parts.append(part)
    for name, cards in LASH_CARDS.items():
        for first, tips in zip(cards, HAIR_TIPS):
            points, hairs = lashes(card_grid(vertices, first, quads, uv, uv_quads), tips)
            hairs = np.where(hairs < 0, -1, hairs + len(vertices))
            parts.append(Part(name, hairs, np.full(hairs.shape, -1)))
            vertices = np.concatenate([vertices, points])
    return compact(Head(vertices * MM_PER_UNIT, uv, parts))


def gums_of_jaws(gums: Part, jaw_open: np.ndarray) -> tuple[Part, Part]:
    """Return the gums of the lower jaw with the tongue, and those of the upper jaw.

    They are one surface of the model, whose motion by jawOpen is `jaw_open` (V, 3). The polygons
    between them, deep in the throat, are left out, so that each can follow its jaw.
    """
    moves = np.linalg.norm(jaw_open.astype(np.float64), axis=1) > UPPER_GUMS_MOTION_CM
    corner_moves, corner = moves[gums.quads], gums.quads >= 0
    lower, upper = (corner_moves | ~corner).all(1), (~corner_moves | ~corner).all(1)
    return (
        Part("gums_lower", gums.quads[lower], gums.uv_quads[lower]),
        Part("gums_upper", gums.quads[upper], gums.uv_quads[upper]),
    )


def without_tongue(gums: Part, neutral: np.ndarray) -> list[Part]:
    """Return the tongue and the gums around it, which are one surface of the model."""
    corners = gums.uv_quads
    edges = np.concatenate([corners[:, [0, k]] for k in (1, 2, 3)])
    edges = edges[edges[:, 1] >= 0]
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (corners.max() + 1,) * 2)
    island = connected_components(graph)[1][corners[:, 0]]
    tongue = np.zeros(len(corners), bool)
    for number in np.unique(island):
        rows = gums.quads[island == number]
        points = neutral[rows[rows >= 0]]
        narrow = np.abs(points[:, 0]).max() < TONGUE_HALF_WIDTH_CM
        tongue[island == number] = narrow and points[:, 2].max() > TONGUE_TIP_CM
    return [
        Part(name, gums.quads[rows], corners[rows])
        for name, rows in ((gums.name, ~tongue), ("tongue", tongue))
    ]


def card_grid(
    vertices: np.ndarray, first: int, quads: np.ndarray, uv: np.ndarray, uv_quads: np.ndarray
) -> np.ndarray:
    """Return a card of lashes as a grid (CARD_ROWS, CARD_COLUMNS, 3), whose first row is the root."""
    rows = (quads >= first) & (quads < first + CARD_ROWS * CARD_COLUMNS)
    place = np.zeros((CARD_ROWS * CARD_COLUMNS, 2))
    place[quads[rows] - first] = uv[uv_quads[rows]]
    order = np.argsort(place[:, 1]).reshape(CARD_ROWS, CARD_COLUMNS)
    order = np.take_along_axis(order, np.argsort(place[order, 0], axis=1), 1)
    grid = vertices[first + order]
    # The hairs spread: their tips lie on a longer line than their roots.
    length = np.linalg.norm(np.diff(grid[[0, -1]], axis=1), axis=2).sum(1)
    return grid if length[0] < length[1] else grid[::-1]


def lashes(grid: np.ndarray, tips: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pointed hairs on a narrow band, as vertices (P, 3) and polygons (Q, 4)."""
    along = np.linspace(0, 1, HAIRS + 1)
    middle = (along[1:] + along[:-1]) / 2
    bend = HAIR_BAND + 0.55 * (tips - HAIR_BAND)
    points = np.concatenate(
        [
            on_grid(grid, 0 * along + HAIR_ROOT, along),
            on_grid(grid, 0 * along + HAIR_BAND, along),
            on_grid(grid, 0 * middle + bend, middle - 0.25 / HAIRS),
            on_grid(grid, 0 * middle + bend, middle + 0.25 / HAIRS),
            on_grid(grid, 0 * middle + tips, middle),
        ]
    )
    k = np.arange(HAIRS)
    low, root = k, k + HAIRS + 1
    left, right, tip = (2 * (HAIRS + 1) + k + HAIRS * step for step in range(3))
    quads = [
        [low, low + 1, root + 1, root],
        [root, root + 1, right, left],
        [left, right, tip, 0 * k - 1],
    ]
    return points, np.concatenate([np.stack(columns, 1) for columns in quads])


def on_grid(grid: np.ndarray, out: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return points (P, 3) of a grid (R, C, 3) at shares of its rows and of its columns."""
    place = np.stack([out * (grid.shape[0] - 1), along * (grid.shape[1] - 1)])
    return np.stack([map_coordinates(grid[..., k], place, order=1) for k in range(3)], 1)


def compact(head: Head) -> Head:
    """Return the head without unused vertices and texture coordinates, in the order of its parts."""
    used = [np.concatenate([part.quads.reshape(-1) for part in head.parts])]
    used.append(np.concatenate([part.uv_quads.reshape(-1) for part in head.parts]))
    kept, renumbered = [], []
    for indices, count in zip(used, (len(head.vertices), len(head.uv))):
        values, first = np.unique(indices[indices >= 0], return_index=True)
        rows = values[np.argsort(first)]
        new = np.full(count + 1, -1)  # the last for -1
        new[rows] = np.arange(len(rows))
        kept.append(rows)
        renumbered.append(new)
    parts = [
        Part(part.name, renumbered[0][part.quads], renumbered[1][part.uv_quads])
        for part in head.parts
    ]
    return Head(head.vertices[kept[0]], head.uv[kept[1]], parts)


def save_head(path: Path, head: Head) -> None:
    """Write the head as an OBJ with groups and texture coordinates."""
    lines = [
        "# A head sampled from ICT-FaceKit (MIT, Copyright (c) 2020 USC Institute for Creative"
    ]
    lines += ["# Technologies) by examples/make_head.py; mm, y up"]
    lines += [f"v {x:.2f} {y:.2f} {z:.2f}" for x, y, z in head.vertices]
    lines += [f"vt {u:.4f} {v:.4f}" for u, v in head.uv]
    for name in dict.fromkeys(part.name for part in head.parts):
        lines.append(f"g {name}")
        for part in head.parts:
            if part.name == name:
                lines += [polygon(*corners) for corners in zip(part.quads, part.uv_quads)]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")


def polygon(corners: np.ndarray, uv_corners: np.ndarray) -> str:
    """Return a line of an OBJ for a polygon."""
    words = [
        f"{vertex + 1}/{uv + 1}" if uv >= 0 else f"{vertex + 1}"
        for vertex, uv in zip(corners, uv_corners)
        if vertex >= 0
    ]
    return " ".join(["f", *words])


def save_glb(path: Path, source: Path, head: Head) -> None:
    """Write the OBJ `source` as a GLB in metres: a node for each group, and the previews' texture."""
    binding = talkemo.bind(source)
    appearance = appearance_of(binding, fill=False)
    faces = appearance.vertex[appearance.faces]
    group = np.full(len(head.vertices), "", object)
    for part in head.parts:
        group[np.unique(part.quads[part.quads >= 0])] = part.name
    normals = vertex_normals(binding.rest, binding.mesh.faces)
    material = trimesh.visual.material.PBRMaterial(
        name="head",
        baseColorTexture=texture_image(appearance),
        metallicFactor=0.0,
        roughnessFactor=0.6,
        doubleSided=True,
    )
    scene = trimesh.Scene()
    for name in dict.fromkeys(part.name for part in head.parts):
        rows = appearance.faces[group[faces[:, 0]] == name]
        corners, triangles = np.unique(rows, return_inverse=True)
        vertex = appearance.vertex[corners]
        uv = (appearance.place[corners] + 0.5) / appearance.texture.shape[1::-1]
        mesh = trimesh.Trimesh(
            binding.rest[vertex] / 1000,
            triangles.reshape(-1, 3),
            vertex_normals=normals[vertex],
            process=False,
            visual=trimesh.visual.TextureVisuals(uv * [1, -1] + [0, 1], material=material),
        )
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    with atomic_write(path) as partial:
        partial.write_bytes(scene.export(file_type="glb", include_normals=True))


def texture_image(appearance: Appearance) -> Image.Image:
    """Return the texture as an image that is stored as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(appearance.texture).save(file, "JPEG", quality=TEXTURE_QUALITY)
    return Image.open(file)


if __name__ == "__main__":
    main()
