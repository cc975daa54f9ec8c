"""How a mesh is shown: what is painted on it, and the eyes, the mouth and the teeth that a bare mask lacks.

A mesh with a texture of its own is shown with that. On others brows, lips, lashes and a little colour are painted, by a
picture that is projected onto the face from the front; without brows nobody reads anger. Eyeballs are fitted to the
lids, and behind the lips lies a dark mouth with two plain rows of teeth, of which the lower one follows the jaw.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..binding.binding import Binding
from ..face.canonical import EYE_CENTRES, Face
from ..formats.animation import Header
from ..formats.appearance import AddedVertices, Appearance
from ..formats.mesh_types import Mesh, MeshAttributes
from ..geometry.rigid import Similarity, eye_rotation, rigid_motion
from .view import SKIN

# RGB.
BROW, LIP, LASH = np.array([[82.0, 58, 46], [196, 118, 108], [60, 42, 36]])
BLUSH = np.array([226.0, 150, 130])
TEETH, GAP, GUM, TONGUE = np.array(
    [[232.0, 225, 210], [150, 132, 118], [150, 84, 80], [176, 92, 88]]
)
INSIDE = np.array([206.0, 176, 164])  # what may be teeth, gums or tongue
DEEP = np.array([40.0, 14, 14])
WHITE, IRIS, RING, PUPIL = np.array([[238.0, 234, 230], [92, 108, 112], [44, 52, 58], [14, 12, 12]])
# Canonical mm.
EYEBALL, IRIS_RADIUS, PUPIL_RADIUS = 14.6, 6.4, 2.7
BROW_WIDTH, BROW_TAIL, BROW_EDGE = (
    3.3,
    1.3,
    2.4,
)  # half the width of a brow, of its outer end, and over what it fades
# How far the middle of a brow lies below the iBUG points, which are on its upper edge; so that a face tracker takes
# resting heads for neither raising nor lowering their brows.
BROW_DROP = 7.0
LIP_EDGE, LASH_WIDTH = 1.6, 0.9
MEMBRANE = 2.5  # stretch by an opening jaw from which a triangle between the lips closes the mouth and is left out
BEHIND = 22.0  # mm behind the corners of the eyes from which nothing is painted
PIXELS_A_MM = 3
MARGIN = 26.0  # mm around the landmarks that are painted
GAUSS_NEWTON = 8  # steps
SWATCH = (
    192  # pixels on a side of the picture of an eyeball, and height of the strip of plain colours
)
LARGEST_TEXTURE = 2048  # pixels on a side
PATCH = 4  # pixels on a side, of a triangle's own part of a texture that is made of vertex colours, at most
TEXTURE_PIXELS = 1 << 26  # of a mesh's own texture, at most
ROWS = {
    "upper": (-1.5, 8.0),
    "lower": (-8.5, -2.0),
}  # mm above the line between the lips at rest, of the teeth
BEHIND_LIPS = 7.0  # mm that the teeth stand behind the inner lips
MOUTH_DEPTH = 34.0  # mm behind the corners of the mouth
OWN_MOUTH = 14.0  # mm farther, where the mesh has teeth of its own
JAW_FOLLOWS = 0.8  # of the chin's motion, by the lower teeth, which are nearer to the joint
CHIN = slice(6, 11)  # iBUG points
STEADY = [27, 28, 36, 39, 42, 45]  # iBUG points that move with the skull
HIDDEN_GROUPS = ("joint", "helper")  # of an OBJ, of helpers that nobody is to see; MakeHuman's
NAMED = {
    "teeth": "teeth",
    "tongue": "tongue",
    "gums": "tongue",
    "eyes": "eyes",
    "helper-l-eye": "eyes",
    "helper-r-eye": "eyes",
}


def plain_appearance(faces: np.ndarray) -> Appearance:
    """A mesh of triangles (F, 3) in one colour, with nothing added."""
    count = int(faces.max()) + 1
    texture = np.tile(np.round(SKIN).astype(np.uint8), (4, 4, 1))
    return Appearance(
        faces.astype(np.int32), np.arange(count), np.zeros((count, 2), np.float32), texture, count
    )


def appearance_of_header(header: Header) -> Appearance:
    """How an animation says that its mesh is to be shown."""
    return plain_appearance(header.faces) if header.appearance is None else header.appearance()


def canonical_appearance(
    face: Face, rest: np.ndarray | None = None, fill: bool = True
) -> Appearance:
    """The look of the canonical face, or of a person's face at rest (V, 3) mm; fill: see `appearance_of`."""
    eyes = tuple((np.zeros(0, int), centre) for centre in EYE_CENTRES)
    every = np.arange(len(face.mean))
    placement = Similarity(1.0, np.eye(3), np.zeros(3))
    mesh = Mesh((face.mean if rest is None else rest).astype(np.float64), face.faces)
    shapes = face.expression_basis
    own = Binding(mesh, face, every, shapes, every, face.landmarks68, placement, 0.0, 1.0, {}, eyes)
    return appearance_of(own, fill)


def appearance_of(binding: Binding, fill: bool = True) -> Appearance:
    """The look of a bound mesh. fill: whether eyes and a mouth are added where it has none."""
    return _Painter(binding, fill).appearance()


class _Painter:
    """Puts a look together. All in canonical mm, in front of a face that looks along +z."""

    def __init__(self, binding: Binding, fill: bool):
        self.binding, self.fill = binding, fill
        self.rest = binding.placement.to_canonical(binding.mesh.vertices)
        self.landmarks = self.rest[binding.landmarks68]
        self.groups = vertex_groups(binding.mesh.attributes, len(self.rest))
        unnamed = self.groups == "skin"
        others = np.zeros(len(unnamed), bool)
        others[binding.moving[binding.canonical < 0]] = True
        lips = self.landmarks[48:60]
        low, high = lips.min(0) - np.array([0, 12, 60]), lips.max(0) + np.array([0, 12, 0])
        self.groups[unnamed & others & ((self.rest > low) & (self.rest < high)).all(1)] = "inside"
        for rows, _ in binding.eyes:
            self.groups[rows] = "eyes"
        self.balls: list[
            tuple[slice, np.ndarray]
        ] = []  # eyeballs that are added: their points, and their centre
        self.parts: list[
            tuple[np.ndarray, np.ndarray, np.ndarray]
        ] = []  # faces, vertex, place; of what is drawn
        self.added: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # points (A, 3), and how much they follow the jaw (A,)

    def appearance(self) -> Appearance:
        attributes = self.binding.mesh.attributes
        own = None if attributes is None else own_texture(attributes)
        self.colours = None if attributes is None or own is not None else attributes.colours
        if patch_size(len(self.binding.mesh.faces)) < 2:
            self.colours = None
        if self.colours is not None:
            own = patches(self.binding.mesh.faces, self.colours)
        skin = self._paint() if own is None else own
        self.height, width = skin.shape[:2]
        wide = -(-max(width, 4 * SWATCH) // 4) * 4  # GL reads rows of whole words
        texture = np.zeros((self.height + SWATCH, wide, 3), np.uint8)
        texture[: self.height, :width] = skin
        texture[self.height :, :SWATCH] = eye_picture()
        texture[self.height :, SWATCH : 2 * SWATCH] = teeth_picture()
        texture[self.height :, 2 * SWATCH : 3 * SWATCH] = depth_picture()
        self.plain = {}
        for k, (name, colour) in enumerate(
            {"skin": SKIN, "teeth": TEETH, "tongue": TONGUE, "inside": INSIDE}.items()
        ):
            rows = slice(self.height + k * SWATCH // 4, self.height + (k + 1) * SWATCH // 4)
            texture[rows, 3 * SWATCH : 4 * SWATCH] = colour
            self.plain[name] = np.array([3.5 * SWATCH, (rows.start + rows.stop) / 2])
        self._mesh(own is not None, (width, self.height))
        if self.fill:
            self._eyes()
            self._mouth()
        faces, vertex, place, corners = [], [], [], 0
        for some, own_vertex, own_place in self.parts:
            faces.append(some + corners)
            vertex.append(own_vertex)
            place.append(own_place)
            corners += len(own_vertex)
        return Appearance(
            np.concatenate(faces).astype(np.int32),
            np.concatenate(vertex).astype(np.int64),
            np.concatenate(place).astype(np.float32),
            texture,
            len(self.rest),
            Followers(self.binding, self.added, self.balls),
        )

    # ------------------------------------------------------------------------------------------------------ the mesh

    def _mesh(self, textured: bool, size: tuple[int, int]) -> None:
        """The mesh's own triangles, without what nobody is to see."""
        faces = self.binding.mesh.faces
        keep = ~(self.groups[faces] == "hidden").any(1)
        if self.fill:
            keep &= ~self._membranes(faces)
        if self.colours is not None:
            self._add_corners(faces[keep], patch_places(len(faces))[keep].reshape(-1, 2))
            return
        attributes = self.binding.mesh.attributes
        if (
            textured
            and attributes is not None
            and attributes.uv is not None
            and attributes.uv_faces is not None
        ):
            corners = attributes.uv_faces[keep].reshape(-1)
            uv = attributes.uv[corners] - np.floor(
                attributes.uv[corners].reshape(-1, 3, 2).mean(1)
            ).repeat(3, 0)
            place = np.column_stack([uv[:, 0], 1 - uv[:, 1]]) * size
            self._add_corners(faces[keep], np.clip(place, 0, np.array(size) - 1))
            return
        painted = self._place(self.rest)
        in_front = (self.rest[:, 2] > self.landmarks[[36, 45], 2].mean() - BEHIND) & (
            self.groups == "skin"
        )
        low, high = np.zeros(2), np.array(size) - 1
        in_front &= ((painted >= low) & (painted <= high)).all(1)
        front = keep & in_front[faces].all(1)
        self._add_corners(faces[front], painted[faces[front]].reshape(-1, 2))
        own = [(rows, centre) for rows, centre in self.binding.eyes if len(rows)]
        eye = np.full(len(self.rest), -1)
        for k, (rows, _) in enumerate(own):
            eye[rows] = k
        for k, (_, centre) in enumerate(own):
            some = faces[keep & ~front & (eye[faces] == k).all(1)]
            middle = self.binding.placement.to_canonical(np.asarray(centre)[None])[0]
            self._add_corners(some, self._on_eye(self.rest[some].reshape(-1, 3) - middle))
        others = keep & ~front & ~((eye[faces] >= 0).all(1))
        for name, plain in self.plain.items():
            of_kind = (self.groups[faces[:, 0]] == name) | (
                (name == "skin") & (self.groups[faces[:, 0]] == "eyes")
            )
            some = faces[others & of_kind]
            self._add_corners(some, np.tile(plain, (3 * len(some), 1)))

    def _add_corners(self, faces: np.ndarray, place: np.ndarray) -> None:
        """Triangles (F, 3) of the mesh with their corners' places in the texture (3·F, 2); equal corners become one."""
        if not len(faces):
            return
        keys = np.column_stack([faces.reshape(-1), np.round(place * 16)]).astype(np.int64)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        self.parts.append((inverse.reshape(-1, 3), faces.reshape(-1)[first], place[first]))

    def _membranes(self, faces: np.ndarray) -> np.ndarray:
        """(F,) bool: triangles that close the mouth, which an opening jaw would stretch, or the eyes of a mask."""
        binding = self.binding
        jaw = binding.face.expression_names.index("jawOpen")
        opened = binding.vertices(binding.face.shape_coordinates[[jaw]])[0]
        sides = [
            np.linalg.norm(v[faces] - v[np.roll(faces, 1, axis=1)], axis=2)
            for v in (binding.rest, opened)
        ]
        stretched = (sides[1] > MEMBRANE * sides[0]).any(1)
        centres = self.rest[faces].mean(1)
        result = stretched & inside(centres[:, :2], self.landmarks[60:68, :2])
        for eye, (rows, _) in zip((slice(36, 42), slice(42, 48)), binding.eyes):
            if not len(rows):
                near = np.abs(centres[:, 2] - self.landmarks[eye, 2].mean()) < EYEBALL
                result |= near & inside(centres[:, :2], self.landmarks[eye, :2])
        return result

    # ------------------------------------------------------------------------------------------------------ painting

    def _place(self, points: np.ndarray) -> np.ndarray:
        """Column and row (P, 2) of points in the picture that is painted."""
        low, high = self.landmarks[:, :2].min(0) - MARGIN, self.landmarks[:, :2].max(0) + MARGIN
        return (points[..., :2] - [low[0], high[1]]) * [PIXELS_A_MM, -PIXELS_A_MM]

    def _paint(self) -> np.ndarray:
        """The face seen from the front (H, W, 3) uint8, with brows, lips, lashes and a little colour."""
        marks = self.landmarks[:, :2]
        canvas = _Canvas(marks.min(0) - MARGIN, marks.max(0) + MARGIN)
        for cheek in (marks[[2, 31, 36]].mean(0), marks[[14, 35, 45]].mean(0), marks[30]):
            canvas.blend(cheek[None], 45, partial(_blush, cheek), BLUSH)
        outline, parting = marks[48:60], marks[60:65]

        def of_lips(points: np.ndarray) -> np.ndarray:
            edge = to_line(points, np.vstack([outline, outline[:1]]))
            return 0.85 * np.clip(
                0.5 + np.where(inside(points, outline), edge, -edge) / (2 * LIP_EDGE), 0, 1
            )

        canvas.blend(outline, 3, of_lips, LIP)
        # Where the lips meet.
        canvas.blend(outline, 3, lambda p: 0.5 * np.clip(1 - to_line(p, parting) / 2, 0, 1), LASH)
        for brow, outer in ((marks[17:22], 0), (marks[22:27], -1)):
            self._brow(canvas, brow, outer)
        upper, lower = (
            (marks[36:40], marks[42:46]),
            (marks[[39, 40, 41, 36]], marks[[45, 46, 47, 42]]),
        )
        for lid, strength in [*((lid, 0.85) for lid in upper), *((lid, 0.3) for lid in lower)]:
            canvas.blend(lid, 4, partial(_lash, lid, strength), LASH)
        return canvas.picture.clip(0, 255).astype(np.uint8)

    @staticmethod
    def _brow(canvas: _Canvas, brow: np.ndarray, outer: int) -> None:
        """Paint a brow along five points (5, 2), of which the `outer` one is at the temple."""
        across = np.linspace(brow[0, 0], brow[-1, 0], 9)
        # Vertices near five points are a jagged line, and on a coarse mesh fewer than five.
        places = len(np.unique(brow[:, 0].round(3)))
        if places < 2 or across[0] == across[-1]:
            return
        bow = np.polyfit(brow[:, 0] - brow[2, 0], brow[:, 1], min(2, places - 1))
        line = np.column_stack([across, np.polyval(bow, across - brow[2, 0]) - BROW_DROP])
        lean = 1.1 if outer == 0 else -1.1  # of the hairs

        def share(points: np.ndarray) -> np.ndarray:
            along = np.clip(
                np.abs(points[:, 0] - line[outer, 0]) / np.abs(across[-1] - across[0]), 0, 1
            )
            half = BROW_TAIL + (BROW_WIDTH - BROW_TAIL) * np.minimum(1, 1.6 * along)
            hairs = 1 - 0.14 * np.abs(np.sin(1.9 * points[:, 0] + lean * points[:, 1]))
            return 0.9 * hairs * np.clip((half - to_line(points, line)) / BROW_EDGE + 0.5, 0, 1)

        canvas.blend(line, 2 * BROW_WIDTH, share, BROW)

    # ------------------------------------------------------------------------------------------------------- the eyes

    def _on_eye(self, arms: np.ndarray) -> np.ndarray:
        """Places (P, 2) in the picture of an eyeball of what lies at arms (P, 3) from its centre."""
        ahead = arms / np.maximum(np.linalg.norm(arms, axis=1, keepdims=True), 1e-9)
        turned = np.arccos(np.clip(ahead[:, 2], -1, 1)) / np.pi  # 0 ahead, 1 behind
        flat = ahead[:, :2] / np.maximum(np.linalg.norm(ahead[:, :2], axis=1, keepdims=True), 1e-9)
        spot = (SWATCH / 2) * (1 + 0.98 * turned[:, None] * flat * [1, -1])
        return spot + np.array([0.0, self.height])

    def _eyes(self) -> None:
        """Eyeballs behind lids that have none."""
        ball, faces = sphere(24, 32)
        for k, (rows, centre) in enumerate(self.binding.eyes[:2]):
            if len(rows):
                continue
            lids = self.landmarks[36 + 6 * k : 42 + 6 * k]
            usual = self.binding.placement.to_canonical(np.asarray(centre)[None])[0]
            place = centre_behind(lids, usual)
            first = sum(len(own) for own, _ in self.added)
            self.balls.append((slice(first, first + len(ball)), place))
            self._add(place + EYEBALL * ball, faces, self._on_eye(ball), 0.0)

    # ------------------------------------------------------------------------------------------------------ the mouth

    def _mouth(self) -> None:
        """A dark mouth behind the lips, and teeth, where the mesh has none of its own."""
        inner = self.landmarks[60:68]
        own = bool(self.binding.parts.get("upper_teeth") or self.binding.parts.get("jaw"))
        middle = inner.mean(0)
        width = np.linalg.norm(self.landmarks[54] - self.landmarks[48])
        corner = self.landmarks[[48, 54], 2].mean()
        front = float(min(inner[2, 2], inner[6, 2])) - BEHIND_LIPS
        # A bowl behind the lips, whose lower half goes along with the jaw.
        angle = np.linspace(0, 2 * np.pi, 25)[:-1]
        rings = []
        behind = OWN_MOUTH if own else 0.0  # not in front of what the mesh has
        for depth, wide, high in (
            (14.0, 0.62, 25.0),
            (24.0, 0.52, 22.0),
            (MOUTH_DEPTH, 0.25, 10.0),
        ):
            x, y = wide * width * np.cos(angle), high * np.sin(angle)
            rings.append(
                np.column_stack(
                    [middle[0] + x, middle[1] + y, np.full(24, min(corner, front) - depth - behind)]
                )
            )
        points = np.concatenate(rings)
        k = np.arange(24)
        after = (k + 1) % 24
        faces = [
            np.concatenate(
                [
                    np.column_stack([a + k, b + k, a + after]),
                    np.column_stack([b + k, b + after, a + after]),
                ]
            )
            for a, b in pairwise((0, 24, 48))
        ]
        faces.append(np.column_stack([np.full(22, 48), 49 + k[:22], 50 + k[:22]]))
        shade = np.repeat([0.1, 0.3, 0.6], 24)
        place = np.column_stack([np.full(72, 2.5 * SWATCH), self.height + SWATCH * shade])
        upper = points[:, 1] >= middle[1] - 1e-6
        self._add(points, np.concatenate(faces), place, np.where(upper, 0.0, 1.0))
        if own:
            return
        for name, (low, high) in ROWS.items():
            self._teeth(name, low, high, middle, 0.45 * width, front, corner - BEHIND_LIPS)

    def _teeth(
        self,
        name: str,
        low: float,
        high: float,
        middle: np.ndarray,
        half: float,
        front: float,
        side: float,
    ) -> None:
        """A row of teeth: a strip along a curve, `front` in its middle and back to `side` at its ends."""
        across = np.linspace(-1, 1, 33)
        z = front + (min(side, front - 6) - front) * across**2
        x = middle[0] + half * np.sin(across * np.pi / 2)
        edge = np.where(np.abs(across) < 0.95, 1.0, 0.7)
        rows = []
        for share, bow in ((0.0, -1.5), (0.35, 0.0), (1.0, -1.0)):
            y = middle[1] + (low + share * (high - low)) * edge
            rows.append(np.column_stack([x, y, z + bow]))
        count = len(across)
        faces = np.array(
            [
                [[a + k, a + k + 1, b + k], [b + k, a + k + 1, b + k + 1]]
                for a, b in pairwise((0, count, 2 * count))
                for k in range(count - 1)
            ]
        ).reshape(-1, 3)
        along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
        height = np.repeat([0.0, 0.35, 1.0], count)
        if name == "lower":
            height = 1 - height
        column = SWATCH + SWATCH * np.clip(np.tile(along / along.max(), 3) * 0.98 + 0.01, 0, 1)
        place = np.column_stack([column, self.height + SWATCH * (0.02 + 0.96 * height)])
        self._add(np.concatenate(rows), faces, place, 0.0 if name == "upper" else 1.0)

    def _add(self, points: np.ndarray, faces: np.ndarray, place: np.ndarray, jaw: Any) -> None:
        """Add points (A, 3) with triangles and places in the texture; jaw: how much they follow it, 0 the skull."""
        first = len(self.rest) + sum(len(own) for own, _ in self.added)
        self.added.append((points, np.broadcast_to(jaw, len(points))))
        self.parts.append((faces, first + np.arange(len(points)), place))


class Followers(AddedVertices):
    """Moves what was added to a mesh: with the skull, wherever that turns, and with the jaw."""

    def __init__(
        self, binding: Binding, added: list[tuple[np.ndarray, np.ndarray]], balls: Any = ()
    ):
        self.gaze: np.ndarray | None = None
        self.balls = [(rows, binding.placement.to_mesh(centre)) for rows, centre in balls]
        self.axes = binding.placement.rotation
        self.steady = binding.landmarks68[STEADY]
        self.chin = binding.landmarks68[CHIN]
        self.rest = binding.rest[self.steady].astype(np.float64)
        self.chin_rest = binding.rest[self.chin].mean(0).astype(np.float64)
        self.points = np.concatenate(
            [binding.placement.to_mesh(points) for points, _ in added] or [np.zeros((0, 3))]
        )
        self.of_jaw = np.concatenate([jaw for _, jaw in added] or [np.zeros(0)])

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """The added vertices (A, 3) of a frame of the mesh, (N, 3)."""
        if not len(self.points):
            return self.points
        points = self.points
        if self.gaze is not None and self.balls:
            turned = eye_rotation(self.gaze, self.axes)
            points = points.copy()
            for rows, centre in self.balls:
                points[rows] = (points[rows] - centre) @ turned.T + centre
        steady = vertices[self.steady].astype(np.float64)
        (rotation,), (shift,) = rigid_motion(self.rest[None], steady[None])
        chin = vertices[self.chin].mean(0) - (self.chin_rest @ rotation.T + shift)
        return points @ rotation.T + shift + self.of_jaw[:, None] * (JAW_FOLLOWS * chin)


def centre_behind(lids: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """The centre (3,) of an eyeball whose surface the lids (6, 3) touch; usual: where it is in most faces."""
    wanted = np.array([1.0, 1.0, 0.2])  # lids tell how deep it lies, and hardly where it is across
    centre = usual.astype(np.float64)
    for _ in range(GAUSS_NEWTON):
        arm = centre - lids
        distance = np.maximum(np.linalg.norm(arm, axis=1), 1e-6)
        slope = np.concatenate([arm / distance[:, None], np.diag(wanted)])
        error = np.append(distance - EYEBALL, wanted * (centre - usual))
        centre = centre - np.linalg.lstsq(slope, error, rcond=None)[0]
    return centre


def sphere(rings: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of radius 1 with its poles along z: vertices (V, 3), triangles (F, 3)."""
    polar, around = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1)[:-1]
    grid = np.stack(np.meshgrid(polar, around, indexing="ij"), 2).reshape(-1, 2)
    sine = np.sin(grid[:, 0])
    vertices = np.column_stack(
        [sine * np.cos(grid[:, 1]), sine * np.sin(grid[:, 1]), np.cos(grid[:, 0])]
    )
    row, column = np.divmod(np.arange(rings * sectors), sectors)
    a, b = row * sectors + column, row * sectors + (column + 1) % sectors
    return vertices, np.concatenate(
        [np.column_stack([a, a + sectors, b]), np.column_stack([b, a + sectors, b + sectors])]
    )


# ------------------------------------------------------------------------------------------------------------- pictures


def eye_picture() -> np.ndarray:
    """An eyeball (SWATCH, SWATCH, 3) uint8, seen so that all of it shows: ahead in the middle, behind at the rim."""
    steps = (np.arange(SWATCH) + 0.5) / SWATCH * 2 - 1
    distance = np.hypot(*np.meshgrid(steps, steps)) / 0.98 * np.pi  # radians from straight ahead
    mm = EYEBALL * distance
    picture = np.tile(WHITE, (SWATCH, SWATCH, 1))
    picture *= (1 - 0.35 * np.clip((mm - 8) / 12, 0, 1))[..., None]  # lids shade the rest
    soft = lambda radius, edge: np.clip((radius - mm) / edge + 0.5, 0, 1)[..., None]
    for radius, edge, colour in (
        (IRIS_RADIUS, 0.7, RING),
        (IRIS_RADIUS - 0.8, 0.9, IRIS),
        (PUPIL_RADIUS, 0.5, PUPIL),
    ):
        picture += soft(radius, edge) * (colour - picture)
    x, y = np.meshgrid(steps, steps)
    spark = np.hypot(x + 0.05, y + 0.07)  # of the key light
    picture += np.clip(1.6 - spark / 0.03, 0, 1)[..., None] * (255 - picture)
    return picture.clip(0, 255).astype(np.uint8)


def teeth_picture() -> np.ndarray:
    """A row of teeth (SWATCH, SWATCH, 3) uint8: the biting edge above, gums below."""
    column, row = np.meshgrid(
        (np.arange(SWATCH) + 0.5) / SWATCH, (np.arange(SWATCH) + 0.5) / SWATCH
    )
    picture = np.tile(TEETH, (SWATCH, SWATCH, 1))
    picture *= (1 - 0.45 * np.abs(2 * column - 1) ** 2.5)[
        ..., None
    ]  # darker towards the corners of the mouth
    phase = np.abs((column * 10) % 1 - 0.5)  # ten teeth
    gap = np.clip((phase - 0.44) / 0.04, 0, 1) * np.clip(row * 6, 0.2, 1)
    picture += 0.75 * gap[..., None] * (GAP - picture)
    gum = np.clip((row - 0.82 + 0.06 * np.cos(2 * np.pi * (column * 10))) / 0.05, 0, 1)
    return (picture + gum[..., None] * (GUM - picture)).clip(0, 255).astype(np.uint8)


def depth_picture() -> np.ndarray:
    """The inside of a mouth (SWATCH, SWATCH, 3) uint8, from the lips above to the throat below."""
    share = np.clip((np.arange(SWATCH) + 0.5) / SWATCH / 0.5, 0, 1)[:, None, None]
    return np.broadcast_to(0.75 * LIP + share * (DEEP - 0.75 * LIP), (SWATCH, SWATCH, 3)).astype(
        np.uint8
    )


def own_texture(attributes: MeshAttributes) -> np.ndarray | None:
    """A mesh's own texture (H, W, 3) uint8, at most LARGEST_TEXTURE on a side; None where there is none to be read."""
    if attributes.texture is None or attributes.uv is None or attributes.uv_faces is None:
        return None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(attributes.texture), formats=["JPEG", "PNG"]) as picture:
            if picture.width * picture.height > TEXTURE_PIXELS:
                return None
            picture.thumbnail((LARGEST_TEXTURE, LARGEST_TEXTURE))
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def patch_size(count: int) -> int:
    """Pixels on a side of each triangle's patch in a texture of `patches`; less than 2 for too many triangles."""
    return min(PATCH, LARGEST_TEXTURE // int(np.ceil(np.sqrt(max(count, 1)))))


def patches(faces: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A texture (H, W, 3) uint8 with a patch for each triangle (F, 3), on which its vertices' colours (V, 3) blend."""
    size, across = patch_size(len(faces)), int(np.ceil(np.sqrt(len(faces))))
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    shares = np.stack([1 - x - y, x, y], -1)  # (size, size, 3), beyond the triangle as on it
    texture = np.zeros((across * across, size, size, 3), np.uint8)
    texture[: len(faces)] = np.einsum(
        "yxk,fkc->fyxc", shares, colours[faces].astype(np.float32)
    ).clip(0, 255)
    return (
        texture.reshape(across, across, size, size, 3)
        .swapaxes(1, 2)
        .reshape(across * size, across * size, 3)
    )


def patch_places(count: int) -> np.ndarray:
    """The places (F, 3, 2), column and row in pixels, of triangles' corners in the texture of `patches`."""
    size, across, number = patch_size(count), int(np.ceil(np.sqrt(count))), np.arange(count)
    origin = size * np.column_stack([number % across, number // across])
    return origin[:, None] + (size - 1) * np.array([[0.0, 0], [1, 0], [0, 1]])


def vertex_groups(attributes: MeshAttributes | None, count: int) -> np.ndarray:
    """What an OBJ's groups call each of a mesh's vertices, (N,) str: skin, teeth, tongue, eyes or hidden."""
    groups = np.full(count, "skin", dtype="<U6")
    kind = "skin"
    so_far = 0  # vertices before a line: indices below zero count from there
    for text in attributes.text if attributes is not None else ():
        if not isinstance(text, str):
            so_far += text
            continue
        for line in text.splitlines():
            if line.startswith("g "):
                kind = _kind_of(line[2:].strip().lower())
            elif kind != "skin" and line.startswith("f "):
                corners = [int(corner.split("/")[0]) for corner in line.split()[1:]]
                places = np.array(
                    [corner - 1 if corner > 0 else so_far + corner for corner in corners]
                )
                groups[places[(places >= 0) & (places < count)]] = kind
    return groups


def _kind_of(group: str) -> str:
    for word, kind in NAMED.items():
        if word in group and not (word == "eyes" and "lash" in group):
            return kind
    return "hidden" if group.startswith(HIDDEN_GROUPS) else "skin"


def _blush(cheek: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How red points (P, 2) around a place (2,) are."""
    return np.asarray(0.28 * np.exp(-(((points - cheek) / [17, 14]) ** 2).sum(1)))


def _lash(lid: np.ndarray, strength: float, points: np.ndarray) -> np.ndarray:
    """How dark points (P, 2) along a lid (M, 2) are."""
    return np.asarray(strength * np.clip(1.5 - to_line(points, lid) / LASH_WIDTH, 0, 1))


class _Canvas:
    """A picture of the plane between two corners (2,), in the colour of skin, that is painted part by part."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.low, self.high = low, high
        width, height = np.ceil((high - low) * PIXELS_A_MM).astype(int)
        self.picture = np.tile(SKIN.astype(np.float32), (height, width, 1))

    def blend(
        self,
        marks: np.ndarray,
        margin: float,
        share: Callable[[np.ndarray], np.ndarray],
        colour: np.ndarray,
    ) -> None:
        """Put a colour over the box around marks (M, 2); share: (P, 2) → (P,), how much of it at points."""
        low = ((marks.min(0) - margin - self.low) * PIXELS_A_MM).astype(int)
        high = ((marks.max(0) + margin - self.low) * PIXELS_A_MM).astype(int) + 1
        height, width = self.picture.shape[:2]
        columns = np.arange(max(low[0], 0), min(high[0], width))
        rows = np.arange(max(height - high[1], 0), min(height - low[1], height))
        x, y = (
            self.low[0] + (columns + 0.5) / PIXELS_A_MM,
            self.high[1] - (rows + 0.5) / PIXELS_A_MM,
        )
        if not len(x) or not len(y):
            return
        points = np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)
        part = self.picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part += share(points).reshape(len(rows), len(columns), 1) * (colour - part)


def to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance (N,) of points (N, 2) from a line through points (P, 2)."""
    distance = np.full(len(points), np.inf)
    for a, b in pairwise(line):
        along = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        distance = np.minimum(
            distance, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1)
        )
    return distance


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie in a polygon (P, 2): those from which a ray crosses its sides an odd number of times."""
    odd = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0)):
        between = (ay > y) != (by > y)
        odd ^= between & (x < ax + (y - ay) * (bx - ax) / np.where(between, by - ay, 1.0))
    return odd
