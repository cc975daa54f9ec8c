import os
import subprocess
import sys

import numpy as np
import pytest

from talkemo import InputError, render
from talkemo.render.software import SoftwareRenderer
from talkemo.render.view import BACKGROUND, frame_view


def test_software_renderer_draws_a_face(face):
    view = frame_view(face.mean)
    image = SoftwareRenderer(face.faces, view, (200, 160)).draw(face.mean)
    assert image.shape == (160, 200, 3) and image.dtype == np.uint8
    background = (np.abs(image.astype(int) - BACKGROUND.astype(int)) < 3).all(2)
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
    alone = SoftwareRenderer(face.faces, view, (96, 96)).draw(front)
    together = SoftwareRenderer(faces, view, (96, 96)).draw(both)
    np.testing.assert_allclose(together[46:54, 44:52].astype(int), alone[46:54, 44:52], atol=2)


def test_unknown_view(face):
    with pytest.raises(InputError):
        frame_view(face.mean, None, "behind")


@pytest.mark.gl
def test_gl_and_software_agree(face, tmp_path):
    platform = render.gl_library()
    if platform is None:
        pytest.skip("neither EGL nor OSMesa on this machine")
    script = (
        "import numpy as np, sys\n"
        "from talkemo import render\n"
        "from talkemo.models import load_models\n"
        "from talkemo.render.view import frame_view\n"
        "face = load_models().face\n"
        "r = render.new_renderer(face.faces, frame_view(face.mean), (128, 128))\n"
        "np.save(sys.argv[1], r.draw(face.mean)); print(r.name); r.close()\n"
    )
    pictures = []
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
        pictures.append(np.load(tmp_path / f"{name}.npy").astype(int))
    covered = [np.abs(p - p[0, 0]).max(2) > 12 for p in pictures]
    assert (covered[0] == covered[1]).mean() > 0.98
