"""Pictures of a comparison: the error over time, and where on the face it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face import Face
from ..formats.mesh import Mesh
from ..geometry import vertex_normals
from .metrics import Comparison

SHOWN = ("all", "lips")  # masks whose error is drawn over time


def plot_comparison(comparison: Comparison, mesh: Mesh, fps: float, face: Face, output: Path) -> None:
    """Write a png: RE of each frame, and the mean error of each vertex on the mesh, seen from the front.

    Raises TalkemoError where matplotlib is not installed.
    """
    from ..binding import bind_mesh
    from ..paper.drawing import new_figure, save_figure

    figure = new_figure((11, 4))
    course, place = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for name in SHOWN:
        if name in comparison.course:
            error = np.concatenate(comparison.course[name])
            course.plot(np.arange(len(error)) / fps, error, label=name, linewidth=1)
    course.set(xlabel="s", ylabel=f"RE, {comparison.unit}", ylim=(0, None))
    course.legend()
    try:
        points = bind_mesh(face, mesh).placement.to_canonical(mesh.vertices)
    except InputError:  # a mesh without a face is drawn as it stands
        points = mesh.vertices
    ahead = vertex_normals(points, mesh.faces)[mesh.faces].mean(1)[:, 2] > 0
    faces = mesh.faces[ahead]
    faces = faces[np.argsort(points[faces].mean(1)[:, 2])]  # what is nearer is drawn later
    error = comparison.where / comparison.frames
    drawn = place.tripcolor(points[:, 0], points[:, 1], faces, error, cmap="turbo", shading="gouraud", vmin=0)
    place.set(aspect="equal", title="mean error of each vertex")
    place.axis("off")
    figure.colorbar(drawn, ax=place, label=comparison.unit)
    save_figure(figure, output)
