"""Draws how a mesh is bound: the mesh, the model's face on it, its vertices in the canonical chart, and how far each moves.

python examples/binding_sheet.py [FACE] [OUT.png]      needs talkemo[figures]
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot
import numpy as np

import talkemo
from talkemo.binding.registration import fit_face, refine
from talkemo.binding.surface import sample_surface
from talkemo.geometry.meshes import vertex_normals
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import frame_view

here = Path(__file__).parent
source = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "face.obj"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else here.parent / "docs" / "binding.png"
binding = talkemo.bind(source)
face, mesh = binding.face, binding.mesh
fit = fit_face(face, sample_surface(mesh.vertices, mesh.faces), binding.placement)
fitted = refine(face, fit)
points = binding.placement.to_canonical(mesh.vertices)


def front(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Triangles that look at the viewer, the farthest first."""
    normals = vertex_normals(vertices, faces)[faces].mean(1)
    seen = faces[normals[:, 2] > 0.05]
    return seen[np.argsort(vertices[seen, 2].mean(1))]


figure, axes = plot.subplots(1, 4, figsize=(13.6, 4.2))
renderer = SoftwareRenderer(
    appearance_of(binding),
    frame_view(mesh.vertices, binding.focus, facing=binding.placement.rotation),
    (420, 420),
)
axes[0].imshow(renderer.draw(mesh.vertices))
axes[0].set_title("a mesh")
x, y, _ = fitted.T
axes[1].triplot(x, y, front(fitted, face.faces), linewidth=0.15, color="0.35")
axes[1].plot(*fitted[face.landmarks68, :2].T, ".", markersize=3, color="tab:green")
axes[1].set_title("the model's face laid over it")
skin = binding.canonical >= 0
chart = face.chart[binding.canonical[skin]]
parts = {
    "upper_face": "tab:blue",
    "lower_face": "tab:orange",
    "eyelids": "tab:purple",
    "lips": "tab:red",
}
axes[2].plot(*chart.T, ".", markersize=0.8, color="0.7")
for name, colour in parts.items():
    inside = face.regions[name][binding.canonical[skin]]
    axes[2].plot(*chart[inside].T, ".", markersize=0.8, color=colour, label=name.replace("_", " "))
axes[2].set_title("its vertices in the canonical chart")
axes[2].legend(markerscale=10, fontsize=7, loc="lower right")
amount = np.zeros(len(points))
amount[binding.moving] = np.linalg.norm(binding.targets, axis=2).max(0) / binding.scale
box = (np.abs(points[:, 0]) < 130) & (points[:, 1] > -190) & (points[:, 1] < 170)
triangles = front(points, mesh.faces[box[mesh.faces].all(1)])
drawn = axes[3].tripcolor(
    points[:, 0], points[:, 1], triangles, amount, shading="gouraud", vmax=25, cmap="magma"
)
axes[3].set_xlim(-125, 125)
axes[3].set_ylim(-180, 165)
axes[3].set_title("how far each can move, mm")
figure.colorbar(drawn, ax=axes[3], shrink=0.7)
for ax in axes:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal")
figure.tight_layout()
figure.savefig(target, dpi=90)
print(target)
