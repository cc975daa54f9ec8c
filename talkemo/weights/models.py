"""The one door to weights: `load_models` gives the face and the networks of a set, each loaded when it is asked for."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..face.canonical import REGIONS, Face, face_of_tensors
from .files import check_compatible, check_made_for, load_weights
from .hub import cached_set
from .registry import (
    DEFAULT_SET,
    HUB_PREFIX,
    WeightSet,
    bundled_folder,
    bundled_sets,
    first_with,
    folder_set,
)

if TYPE_CHECKING:
    import torch

    from ..networks.emotion import EmotionModel
    from ..networks.judges import Classifier, Discriminator
    from ..networks.speech_encoder import SpeechEncoder
    from ..networks.talking import TalkingModel
from ..compute.devices import DEVICES, choose_device


def load_models(weights: str | Path = DEFAULT_SET, *, device: str = "auto") -> Models:
    """The models of a set of weights; nothing is read before it is asked for.

    weights: a bundled set's name, a folder that `talkemo train` wrote, or `hf://owner/repo@revision`. Stages that a
        folder or repository lacks come from the default set.
    device: auto (a CUDA GPU if there is one), cpu or cuda
    Raises InputError for an unknown set or device, and later for files that are damaged or do not fit together.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device '{device}'", f"choose from {', '.join(DEVICES)}")
    if weights == DEFAULT_SET:
        return _default_models(device)
    own = open_set(weights)
    return Models([own] if own.name == DEFAULT_SET else [own, open_set(DEFAULT_SET)], device)


def open_set(weights: str | Path) -> WeightSet:
    """The set of a bundled name, a folder, or `hf://owner/repo@revision`. Raises InputError where there is none.

    A set on the Hub is downloaded at first use and read from the Hub's cache ever after, see hub.py.
    """
    text = str(weights)
    if text.startswith(HUB_PREFIX):
        return cached_set(text)
    if isinstance(weights, str) and weights in bundled_sets():
        return folder_set(bundled_folder() / weights, weights)
    folder = Path(weights)
    if not folder.is_dir():
        raise InputError(
            f"{text}: no such set of weights",
            f"name a bundled set ({', '.join(bundled_sets())}), a folder that talkemo train wrote, or hf://owner/repo",
        )
    return folder_set(folder, f"./{text}" if text in bundled_sets() else text)


@lru_cache(maxsize=3)
def _default_models(device: str) -> Models:
    return Models([open_set(DEFAULT_SET)], device)


class Models:
    """Face and networks of one or more sets of weights, the first set that has a stage winning.

    face: the canonical face; encoder: sound to speech features; talking: features to motion; emotion: emotion transfer;
    discriminator and classifier(name): judges, for evaluation. Files that were not made for each other raise InputError.
    """

    def __init__(self, sets: list[WeightSet], device: str = "auto"):
        self.sets = sets
        self._device = device

    @property
    def name(self) -> str:
        """The set's name, as it was asked for."""
        return self.sets[0].name

    @cached_property
    def device(self) -> torch.device:
        """Where networks run. Raises InputError where CUDA is asked for and there is none."""
        return choose_device(self._device)

    def path(self, stage: str) -> Path:
        """The weights file of a stage."""
        found = first_with(self.sets, stage).path(stage)
        assert found is not None
        return found

    def load(self, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tensors and settings of a stage, checked against the registry. Raises InputError for a file that is damaged."""
        chosen = first_with(self.sets, stage)
        chosen.check(stage)
        return load_weights(self.path(stage), stage)

    def _load_for_face(self, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same, of a stage whose numbers mean nothing on another face."""
        tensors, settings = self.load(stage)
        names = self.face.expression_names
        check_made_for(
            self.path(stage), settings, face=self.face.fingerprint, expression_names=names
        )
        return tensors, settings

    @cached_property
    def face(self) -> Face:
        tensors, settings = self.load("face")
        with check_compatible(self.path("face"), "face"):
            _check_face(tensors, settings)
            return face_of_tensors(tensors, settings)

    @cached_property
    def encoder(self) -> SpeechEncoder:
        from ..networks.speech_encoder import build_encoder

        tensors, settings = self.load("speech")
        with check_compatible(self.path("speech"), "speech"):
            return build_encoder(tensors, settings, self.device)

    @cached_property
    def talking(self) -> TalkingModel:
        from ..networks.speech_encoder import log_mel_encoder
        from ..networks.talking import build_talking

        tensors, settings = self._load_for_face("talking")
        path = self.path("talking")
        with check_compatible(path, "talking"):
            if settings["features"] == "log-mel":
                encoder = log_mel_encoder(tensors.pop("filters"), self.device)
            else:
                encoder = self.encoder
            check_made_for(path, settings, encoder=encoder.fingerprint)
            return build_talking(tensors, settings, encoder, self.face, self.device)

    @cached_property
    def emotion(self) -> EmotionModel:
        from ..networks.emotion import build_emotion

        tensors, settings = self._load_for_face("emotion")
        with check_compatible(self.path("emotion"), "emotion"):
            return build_emotion(tensors, settings, self.face, self.device)

    @cached_property
    def discriminator(self) -> Discriminator:
        from ..networks.judges import build_discriminator

        tensors, _ = self._load_for_face("discriminator")
        with check_compatible(self.path("discriminator"), "discriminator"):
            return build_discriminator(tensors, self.device)

    def classifier(self, name: str = "four") -> tuple[Classifier, list[str]]:
        """The classifier of the paper's `four` emotions or of all `eight`, and the names of its classes."""
        from ..networks.judges import build_classifier

        tensors, settings = self._load_for_face("classifier")
        with check_compatible(self.path("classifier"), "classifier"):
            return build_classifier(tensors, settings, name, self.device)

    def check(self, stage: str) -> None:
        """Load a stage. Raises InputError where its file is damaged, or was made for another face or encoder."""
        if stage == "classifier":
            self.classifier("four")
            self.classifier("eight")
        else:
            getattr(self, {"speech": "encoder"}.get(stage, stage))


def check_set(own: WeightSet) -> None:
    """Load all that a set has, over the default set. Raises InputError for the first file that cannot be used."""
    models = Models([own] if own.name == DEFAULT_SET else [own, open_set(DEFAULT_SET)], "cpu")
    for stage in own.stages:
        models.check(stage)


def _check_face(tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Raise ValueError unless the tensors of a face fit each other, and its indices are of vertices and pixels it has."""
    vertices, pixels = len(tensors["mean"]), int(tensors["map_mask"].astype(bool).sum())
    rank, expressions, identities = tensors["core"].shape
    points = len(tensors["mesh_points"])
    shapes = {
        "mean": (vertices, 3),
        "faces": (len(tensors["faces"]), 3),
        "basis": (rank, vertices, 3),
        "expression_factor": (1 + len(settings["expression_names"]), expressions),
        "identity_mean": (identities,),
        "identity_scale": (identities, identities),
        "landmarks68": (68,),
        "mirror": (vertices,),
        "mouth_weight": (vertices,),
        "regions": (len(REGIONS), vertices),
        "chart": (vertices, 2),
        "map_vertices": (pixels, 3),
        "map_vertex_weights": (pixels, 3),
        "map_pixels": (vertices, *tensors["map_pixels"].shape[1:]),
        "map_pixel_weights": tensors["map_pixels"].shape,
        "mesh_point_vertices": (points, 3),
        "mesh_point_weights": (points, 3),
    }
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"its {name} is {tensors[name].shape}, not {shape}")
    counts = {
        name: vertices
        for name in ("faces", "landmarks68", "mirror", "map_vertices", "mesh_point_vertices")
    }
    for name, count in {**counts, "map_pixels": pixels}.items():
        index = tensors[name]
        if (
            index.dtype.kind not in "iu"
            or index.min(initial=0) < 0
            or index.max(initial=0) >= count
        ):
            raise ValueError(f"its {name} are not numbers under {count}")
