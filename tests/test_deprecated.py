"""Names of earlier versions still work, with a warning."""

import importlib

import numpy as np
import pytest

from talkemo import Motion
from talkemo.deprecated import MOVED_MODULES


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("talkemo.emotions", "parse_emotion"),
        ("talkemo.geomap", "geometry_map"),
        ("talkemo.motion", "Motion"),
        ("talkemo.models", "load_models"),
        ("talkemo.live", "Live"),
        ("talkemo.formats.open", "open_animation"),
        ("talkemo.pipelines.render", "render"),
    ],
)
def test_a_moved_module_is_imported_under_its_old_name(module, name):
    with pytest.warns(DeprecationWarning, match=MOVED_MODULES[module]):
        old = getattr(importlib.import_module(module), name)
    assert old is getattr(importlib.import_module(MOVED_MODULES[module]), name)


def test_names_of_modules_that_are_packages_now():
    from talkemo.audio import load_audio
    from talkemo.face import ARKIT_NAMES

    assert callable(load_audio) and len(ARKIT_NAMES) == 52


def test_renamed_methods_and_attributes(face, bound):
    weights = np.eye(len(face.expression_names))[:2]
    with pytest.warns(DeprecationWarning, match="from_weights"):
        motion = Motion.of_shapes(face, np.arange(2) / 60, weights)
    assert (
        motion.coordinates == Motion.from_weights(face, motion.times, weights).coordinates
    ).all()
    with pytest.warns(DeprecationWarning, match="targets"):
        assert bound.shapes is bound.targets
    with pytest.warns(DeprecationWarning, match="weight_vector"):
        assert (face.shape_vector({"jawOpen": 1.0}) == face.weight_vector({"jawOpen": 1.0})).all()


def test_an_unknown_module_is_still_missing():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("talkemo.nothing")
