"""Draw how a mesh is bound to the face model.

    python examples/binding_sheet.py [FACE] [OUT.png]      (by default out/binding.png; needs the extra figures)

From left to right: the mesh, the fitted model face, the mesh's vertices on the canonical chart,
and how far each vertex can move.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot
import numpy as np
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation

import talkemo
from talkemo import Binding
from talkemo.binding.registration import fit_face, refine_fit
from talkemo.binding.surface import sample_surface
from talkemo.geometry.meshes import vertex_normals
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

REGION_COLOURS = {
    "upper_face": "tab:blue",
    "lower_face": "tab:orange",
    "eyelids": "tab:purple",
    "lips": "tab:red",
}
MAX_MOVEMENT_MM = 25  # end of the colour scale


def main() -> None:
    """Bind the mesh and draw the sheet."""
    folder = Path(__file__).parent
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "face.obj"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("out/binding.png")
    binding = talkemo.bind(source)
    sheet, axes = plot.subplots(1, 4, figsize=(13.6, 4.2))
    draw_mesh(axes[0], binding)
    draw_fit(axes[1], binding)
    draw_chart(axes[2], binding)
    draw_movement(axes[3], binding)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_aspect("equal")
    sheet.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(target, dpi=90)
    print(target)


def draw_mesh(ax: Axes, binding: Binding) -> None:
    """The mesh as previews show it."""
    vertices = binding.mesh.vertices
    camera = frame_view(vertices, binding.focus, facing=binding.placement.rotation)
    renderer = SoftwareRenderer(appearance_of(binding), camera, (420, 420))
    ax.imshow(renderer.draw(vertices))
    ax.set_title("mesh")


def draw_fit(ax: Axes, binding: Binding) -> None:
    """The model's face fitted to the mesh, and its landmarks."""
    face, mesh = binding.face, binding.mesh
    fit = fit_face(face, sample_surface(mesh.vertices, mesh.faces), binding.placement)
    vertices = refine_fit(face, fit)
    triangles = visible_triangles(vertices, face.faces)
    ax.triplot(vertices[:, 0], vertices[:, 1], triangles, linewidth=0.15, color="0.35")
    landmarks = vertices[face.landmarks68]
    ax.plot(landmarks[:, 0], landmarks[:, 1], ".", markersize=3, color="tab:green")
    ax.set_title("fitted model")


def draw_chart(ax: Axes, binding: Binding) -> None:
    """The mesh's vertices on the canonical chart, coloured by region."""
    face = binding.face
    canonical = binding.canonical[binding.canonical >= 0]
    chart = face.chart[canonical]
    ax.plot(chart[:, 0], chart[:, 1], ".", markersize=0.8, color="0.7")
    for name, colour in REGION_COLOURS.items():
        region = chart[face.regions[name][canonical]]
        label = name.replace("_", " ")
        ax.plot(region[:, 0], region[:, 1], ".", markersize=0.8, color=colour, label=label)
    ax.set_title("vertices on the canonical chart")
    ax.legend(markerscale=10, fontsize=7, loc="lower right")


def draw_movement(ax: Axes, binding: Binding) -> None:
    """The largest displacement of each vertex by a blend shape."""
    mesh = binding.mesh
    points = binding.placement.to_canonical(mesh.vertices)
    movement = np.zeros(len(points))
    movement[binding.moving] = np.linalg.norm(binding.targets, axis=2).max(0) / binding.scale
    in_view = (np.abs(points[:, 0]) < 130) & (points[:, 1] > -190) & (points[:, 1] < 170)
    triangles = visible_triangles(points, mesh.faces[in_view[mesh.faces].all(1)])
    triangulation = Triangulation(points[:, 0], points[:, 1], triangles)
    colours = ax.tripcolor(
        triangulation, movement, shading="gouraud", vmax=MAX_MOVEMENT_MM, cmap="magma"
    )
    ax.set_xlim(-125, 125)
    ax.set_ylim(-180, 165)
    ax.set_title("largest movement, mm")
    ax.figure.colorbar(colours, ax=ax, shrink=0.7)


def visible_triangles(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles that face the viewer, the farthest first."""
    normals = vertex_normals(vertices, faces)[faces].mean(1)
    visible = faces[normals[:, 2] > 0.05]
    return visible[np.argsort(vertices[visible, 2].mean(1))]


if __name__ == "__main__":
    main()
