"""The appearance of meshes: triangles, a texture, and added eyes, mouth and teeth.

A mesh with a texture or vertex colours is drawn with these. Others get brows, lips, lashes and some
blush, painted on an image that is projected onto the face from the front (skin.py).
"""

from __future__ import annotations

import numpy as np

from ..binding.binding import Binding
from ..binding.fill import INNER_LIP_POINTS, fill_of
from ..binding.mouth_edge import membranes
from ..face.canonical import EYE_CENTRES_MM, LEFT_EYE, RIGHT_EYE, Face
from ..formats.animation import Header
from ..formats.appearance import AddedVertices, Appearance
from ..formats.groups import vertex_groups
from ..formats.mesh_types import Mesh
from ..formats.texture_atlas import patch_coordinates, patch_size, vertex_colour_texture
from ..geometry.meshes import connected_pieces
from ..geometry.plane import inside_polygon
from ..geometry.rigid import Similarity
from .added_parts import FollowingVertices
from .browline import own_brows
from .nostrils import LEAST_LIGHT, darkened_texture, nostril_light
from .own_mouth import inside_of_mouth
from .skin import BROW_COLOUR, paint_skin, skin_coordinates
from .textures import (
    EYE_PIXELS_PER_RADIAN,
    PART_BANDS,
    SWATCH_PIXELS,
    eye_image,
    eye_texels,
    mesh_texture,
    part_texels,
    parts_image,
    shaded_texels,
)
from .view import SKIN

LASH_COLOUR = np.array([52.0, 40, 36])  # RGB
PLAIN_COLOURS = {
    "skin": SKIN,
    "lashes": LASH_COLOUR,
    "brows": BROW_COLOUR,
}
OWN_MOUTH_PARTS = ("teeth", "tongue", "inside", "mouth")
LASH_HAIR_MM = 0.9  # median height of the triangles of lashes, above which these are plates
# A sheet over an eyeball: how far it may lie before or behind the lids, how much of their opening it
# covers, and how large the opening must be: closed lids cover it too.
SHEET_DEPTH_MM, SHEET_SHARE, OPEN_EYE_MM2 = 10.0, 0.7, 60.0
PORTRAIT_REACH = 0.8  # of a portrait beyond the landmarks, in their extents
UNPAINTED_DEPTH_MM = 22.0  # behind the eye corners, from where nothing is painted


def plain_appearance(faces: np.ndarray) -> Appearance:
    """Return a skin-coloured appearance of triangles (F, 3), with nothing added."""
    count = int(faces.max()) + 1
    texture = np.tile(np.round(SKIN).astype(np.uint8), (4, 4, 1))
    texels = np.zeros((count, 2), np.float32)
    return Appearance(faces.astype(np.int32), np.arange(count), texels, texture, count)


def appearance_of_header(header: Header) -> Appearance:
    """Return the appearance that an animation's header asks for."""
    return (
        plain_appearance(header.faces)
        if header.appearance is None
        else header.appearance(header.fill)
    )


def canonical_appearance(
    face: Face, rest: np.ndarray | None = None, fill: bool = True
) -> Appearance:
    """Return the appearance of the canonical face.

    Parameters
    ----------
    face : Face
    rest : (V, 3), optional
        A person's face at rest in mm; the mean face if None.
    fill : bool
        Whether eyes, mouth and teeth are added.
    """
    return appearance_of(canonical_binding(face, rest), fill)


def canonical_binding(face: Face, rest: np.ndarray | None = None) -> Binding:
    """Return the binding of the canonical face, or of a person's face at rest (V, 3) in mm."""
    eyes = tuple((np.zeros(0, int), centre) for centre in EYE_CENTRES_MM)
    indices = np.arange(len(face.mean))
    identity = Similarity(1.0, np.eye(3), np.zeros(3))
    mesh = Mesh((face.mean if rest is None else rest).astype(np.float64), face.faces)
    targets = face.expression_basis
    return Binding(
        mesh, face, indices, targets, indices, face.landmarks68, identity, 0.0, 1.0, {}, eyes
    )


def appearance_of(binding: Binding, fill: bool = True) -> Appearance:
    """Return the appearance of a bound mesh; `fill` adds missing eyes, mouth and teeth."""
    return _AppearanceBuilder(binding, fill).build()


class _AppearanceBuilder:
    """Assembles an appearance, in canonical mm, for a face that looks along +z.

    The texture holds the skin on top and, below it, a row of four swatches: eyeball, teeth, throat,
    and plain colours.
    """

    def __init__(self, binding: Binding, fill: bool):
        self.binding, self.fill = binding, fill
        self.rest = binding.placement.to_canonical(binding.mesh.vertices)
        self.landmarks = self.rest[binding.landmarks68]
        self.groups = self._vertex_groups()
        self.corner_faces: list[np.ndarray] = []  # triangles of corners, counted per surface
        self.corner_vertices: list[np.ndarray] = []
        self.corner_texels: list[np.ndarray] = []
        self.mouth: list[np.ndarray] = []  # corners of own teeth and mouth
        self.added = AddedVertices()
        self.opacity: np.ndarray | None = None  # of the texture

    def build(self) -> Appearance:
        """Return the appearance."""
        attributes = self.binding.mesh.attributes
        faces = self.binding.mesh.faces
        own = None if attributes is None else mesh_texture(attributes, self._ranks())
        colours = None if attributes is None or own is not None else attributes.colours
        if colours is not None and patch_size(len(faces)) >= 2:
            visible = self._visible_triangles()
            light = np.maximum(self._nostril_light(visible), LEAST_LIGHT)[:, None]
            shaded = np.hstack([light * colours[:, :3], colours[:, 3:]])
            self._start_texture(vertex_colour_texture(shaded[faces]))
            texels = patch_coordinates(len(faces))[visible].reshape(-1, 2)
            self._add_triangles(faces[visible], texels)
        elif own is not None:
            texture, texels = own
            visible = self._visible_triangles()
            light = self._nostril_light(visible)[faces]
            texture, texels = darkened_texture(texture, texels, light)
            self._start_texture(texture)
            self._add_triangles(faces[visible], texels[visible].reshape(-1, 2))
        else:
            self._find_hairs()
            self._find_mouth()
            has_brows = bool((self.groups == "brows").any())
            skin = paint_skin(self.landmarks, self._skin_surface(), brows=not has_brows)
            self._start_texture(skin)
            self._add_painted_mesh(skin.shape[1::-1])
        if self.fill:
            self._add_parts()
        counts = [len(vertices) for vertices in self.corner_vertices]
        starts = np.cumsum([0, *counts[:-1]])
        corner_faces = [part + start for part, start in zip(self.corner_faces, starts)]
        return Appearance(
            np.concatenate(corner_faces).astype(np.int32),
            np.concatenate(self.corner_vertices).astype(np.int64),
            np.concatenate(self.corner_texels).astype(np.float32),
            self.texture,
            len(self.rest),
            self.added,
            np.concatenate([np.zeros(0, int), *self.mouth]),
            (*self._swatch(0, np.full(2, SWATCH_PIXELS / 2)), EYE_PIXELS_PER_RADIAN),
            self.opacity,
        )

    def _nostril_light(self, visible: np.ndarray) -> np.ndarray:
        """Return the share of light (N,) at each vertex, of the skin of visible triangles (F,)."""
        faces, skin = self.binding.mesh.faces, self.groups == "skin"
        return nostril_light(self.rest, faces[visible & skin[faces].all(1)], self.landmarks)

    def _vertex_groups(self) -> np.ndarray:
        """Return what each vertex (N,) belongs to: one of GROUP_KINDS, or the mouth's inside."""
        binding = self.binding
        groups = vertex_groups(binding.mesh.attributes, len(self.rest))
        off_skin = np.ones(len(groups), bool)  # upper teeth among them, which do not move
        off_skin[binding.moving[binding.canonical >= 0]] = False
        lips = self.landmarks[48:60]
        low, high = lips.min(0) - np.array([0, 12, 60]), lips.max(0) + np.array([0, 12, 0])
        behind_lips = ((self.rest > low) & (self.rest < high)).all(1)
        groups[(groups == "skin") & off_skin & behind_lips] = "inside"
        for rows, _ in binding.eyes:
            groups[rows] = "eyes"
        return groups

    def _find_hairs(self) -> None:
        """Mark own brows, and hide plates of lashes, whose texture would be mostly transparent."""
        faces, count = self.binding.mesh.faces, len(self.rest)
        pieces = connected_pieces(faces, count)
        skin = faces[(self.groups == "skin")[faces].all(1)]
        brows = own_brows(self.rest, skin, pieces, self.landmarks) & (self.groups == "skin")
        self.groups[brows] = "brows"
        lashes = self.groups == "lashes"
        if lashes.any() and _median_height(self.rest[faces[lashes[faces].all(1)]]) > LASH_HAIR_MM:
            self.groups[lashes] = "hidden"

    def _find_mouth(self) -> None:
        """Mark the inside of the mouth where it is joined with the skin."""
        skin = self.groups == "skin"
        faces = self.binding.mesh.faces
        inside = inside_of_mouth(self.rest, faces[skin[faces].all(1)], self.landmarks)
        self.groups[inside] = "mouth"

    def _skin_surface(self) -> np.ndarray:
        """Return the corners (F, 3, 3) of the triangles of the skin."""
        faces = self.binding.mesh.faces
        return self.rest[faces[(self.groups == "skin")[faces].all(1)]]

    def _start_texture(self, skin: np.ndarray) -> None:
        """Make the texture: skin above, swatches below."""
        self.swatch_row, width = skin.shape[:2]
        wide = -(-max(width, 4 * SWATCH_PIXELS) // 4) * 4  # GL reads rows of whole words
        self.texture = np.zeros((self.swatch_row + SWATCH_PIXELS, wide, 3), np.uint8)
        self.texture[: self.swatch_row, :width] = skin[..., :3]
        if skin.shape[2] == 4:
            self.opacity = np.full(self.texture.shape[:2], 255, np.uint8)
            self.opacity[: self.swatch_row, :width] = skin[..., 3]
        for number, image in enumerate((eye_image(), parts_image())):
            columns = slice(number * SWATCH_PIXELS, (number + 1) * SWATCH_PIXELS)
            self.texture[self.swatch_row :, columns] = image
        self.plain_texels = {}
        for number, (name, colour) in enumerate(PLAIN_COLOURS.items()):
            first = self.swatch_row + number * SWATCH_PIXELS // len(PLAIN_COLOURS)
            last = self.swatch_row + (number + 1) * SWATCH_PIXELS // len(PLAIN_COLOURS)
            self.texture[first:last, 3 * SWATCH_PIXELS : 4 * SWATCH_PIXELS] = colour
            self.plain_texels[name] = np.array([3.5 * SWATCH_PIXELS, (first + last) / 2])

    def _swatch(self, number: int, texels: np.ndarray) -> np.ndarray:
        """Return texture coordinates (P, 2) for coordinates within swatch `number`."""
        return texels + np.array([float(number * SWATCH_PIXELS), float(self.swatch_row)])

    # ------------------------------------------------------------------------------------ the mesh

    def _visible_triangles(self) -> np.ndarray:
        """Return which of the mesh's triangles (F,) are drawn."""
        faces = self.binding.mesh.faces
        visible = ~(self.groups[faces] == "hidden").any(1) & ~self._eye_sheets()
        return visible & ~membranes(self.binding, self.rest) if self.fill else visible

    def _eye_sheets(self) -> np.ndarray:
        """Return which triangles (F,) are sheets over the mesh's own eyeballs, between open lids.

        Some heads have such a sheet, welded to the lids, for shadows; its material is transparent.
        """
        faces = self.binding.mesh.faces
        centres = self.rest[faces].mean(1)
        first, second = np.diff(self.rest[faces][..., :2], axis=1).swapaxes(0, 1)
        area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
        sheets = np.zeros(len(faces), bool)
        for lids, (rows, _) in zip((RIGHT_EYE, LEFT_EYE), self.binding.eyes):
            if not len(rows):
                continue
            marks = self.landmarks[lids]
            before = inside_polygon(centres[:, :2], marks[:, :2]) & ~np.isin(faces, rows).any(1)
            before &= np.abs(centres[:, 2] - marks[:, 2].mean()) < SHEET_DEPTH_MM
            x, y = marks[:, 0], marks[:, 1]
            opening = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
            if opening > OPEN_EYE_MM2 and area[before].sum() > SHEET_SHARE * opening:
                sheets |= before
        return sheets

    def _ranks(self) -> np.ndarray:
        """Return how soon each triangle's (F,) texture may lose resolution, where it is too large.

        0 for the face, 1 for what else is in a portrait, such as hair, and 2 for the body.
        """
        faces, binding = self.binding.mesh.faces, self.binding
        low, high = self.landmarks.min(0), self.landmarks.max(0)
        reach = PORTRAIT_REACH * (high - low)[:2]
        middles = self.rest[faces].mean(1)[:, :2]
        near = ((middles > low[:2] - reach) & (middles < high[:2] + reach)).all(1)
        return np.where(binding.focus[faces].any(1), 0, np.where(near, 1, 2))

    def _add_painted_mesh(self, size: tuple[int, int]) -> None:
        """Add the mesh with painted skin (W, H), its own eyeballs, and plain colours elsewhere."""
        faces, visible = self.binding.mesh.faces, self._visible_triangles()
        texels = skin_coordinates(self.rest, self.landmarks)
        depth = self.landmarks[[36, 45], 2].mean() - UNPAINTED_DEPTH_MM
        skin = self.groups == "skin"
        painted = (self.rest[:, 2] > depth) & (skin | (self.groups == "mouth"))
        painted &= ((texels >= 0) & (texels <= np.array(size) - 1)).all(1)
        front = visible & painted[faces].all(1) & skin[faces].any(1)
        light = nostril_light(self.rest, faces[front], self.landmarks)
        dark = front & (light[faces] < 1).any(1)
        lit = front & ~dark
        self._add_triangles(faces[lit], texels[faces[lit]].reshape(-1, 2))
        shaded = shaded_texels("nostrils", light[faces[dark]].reshape(-1))
        self._add_triangles(faces[dark], self._swatch(1, shaded))
        eye = np.full(len(self.rest), -1)  # number of the eyeball that a vertex belongs to
        eyes = [(rows, centre) for rows, centre in self.binding.eyes if len(rows)]
        for number, (rows, _) in enumerate(eyes):
            eye[rows] = number
        for number, (_, centre) in enumerate(eyes):
            ball = faces[visible & ~front & (eye[faces] == number).all(1)]
            middle = self.binding.placement.to_canonical(np.asarray(centre)[None])[0]
            directions = self.rest[ball].reshape(-1, 3) - middle
            self._add_triangles(ball, self._swatch(0, eye_texels(directions)))
        plain = visible & ~front & ~((eye[faces] >= 0).all(1))
        kinds = self.groups[faces[:, 0]]
        for name in OWN_MOUTH_PARTS:
            self._add_own_mouth(name, faces[plain & (kinds == name)])
        for name, texel in self.plain_texels.items():
            same_kind = (kinds == name) | ((name == "skin") & (kinds == "eyes"))
            triangles = faces[plain & same_kind]
            self._add_triangles(triangles, np.tile(texel, (3 * len(triangles), 1)))

    def _add_own_mouth(self, name: str, faces: np.ndarray) -> None:
        """Add the mesh's own teeth, tongue or inside of the mouth, darker behind the lips."""
        depth_mm = self.landmarks[INNER_LIP_POINTS, 2].mean() - self.rest[faces.reshape(-1), 2]
        self._add_triangles(faces, self._swatch(1, part_texels(name, np.maximum(depth_mm, 0))))
        if len(faces):
            before = sum(len(vertices) for vertices in self.corner_vertices[:-1])
            self.mouth.append(before + np.arange(len(self.corner_vertices[-1])))

    def _add_triangles(self, faces: np.ndarray, texels: np.ndarray) -> None:
        """Add triangles (F, 3) with texture coordinates (3·F, 2); merge equal corners."""
        if not len(faces):
            return
        keys = np.column_stack([faces.reshape(-1), np.round(texels * 16)]).astype(np.int64)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        self.corner_faces.append(inverse.reshape(-1, 3))
        self.corner_vertices.append(faces.reshape(-1)[first])
        self.corner_texels.append(texels[first])

    # ---------------------------------------------------------------------------------- added parts

    def _add_parts(self) -> None:
        """Add eyes, mouth and teeth that the mesh lacks."""
        fill = fill_of(self.binding, self.binding.face.anatomy)
        vertices = np.concatenate(self.corner_vertices)
        own_mouth = np.unique(vertices[np.concatenate([np.zeros(0, int), *self.mouth])])
        self.added = FollowingVertices(fill, own_mouth)
        for name, faces in fill.faces.items():
            rows, local = np.unique(faces, return_inverse=True)
            if name == "eyes":
                texels = eye_texels(fill.gaze_directions())
            else:
                texels = part_texels(name, fill.depth[rows])
            self.corner_faces.append(local.reshape(-1, 3))
            self.corner_vertices.append(len(self.rest) + rows)
            self.corner_texels.append(self._swatch(int(name in PART_BANDS), texels))


def _median_height(corners: np.ndarray) -> float:
    """Return the median height of triangles (F, 3, 3) over their longest edge; 0 without any."""
    if not len(corners):
        return 0.0
    edges = corners - np.roll(corners, 1, axis=1)
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    longest = np.linalg.norm(edges, axis=2).max(1)
    return float(np.median(area / np.maximum(longest, 1e-9)))
