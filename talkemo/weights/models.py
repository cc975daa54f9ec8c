"""Loading models: `load_models` returns the face and the networks of a set of weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compute.devices import DEVICES, choose_device
from ..errors import InputError
from ..face.anatomy import Anatomy, anatomy_of_tensors
from ..face.canonical import REGIONS, Face, face_of_tensors
from ..files.reading import printable
from ..networks.protocols import DEFAULT_STYLE
from .files import (
    check_compatible,
    check_made_for,
    load_settings,
    load_weights,
    training_hint,
)
from .hub import cached_set
from .names import DEFAULT_SET, HUB_PREFIX
from .registry import ANY_USE_LICENCES
from .weight_set import WeightSet, bundled_folder, bundled_sets, folder_set

if TYPE_CHECKING:
    import torch

    from ..networks.emotion import EmotionModel
    from ..networks.judges import Classifier, Discriminator
    from ..networks.speech_encoder import SpeechEncoder
    from ..networks.talking import TalkingModel
    from ..networks.voice import VoiceModel


def load_models(weights: str | Path = DEFAULT_SET, *, device: str = "auto") -> Models:
    """Return the models of a set of weights. Each is read from its file when it is first used.

    Parameters
    ----------
    weights : str or Path
        Name of a bundled set, a folder written by `talkemo train`, or `hf://owner/repo@revision`.
        Stages that a folder or repository lacks come from the default set.
    device : str
        auto (a CUDA GPU if there is one), cpu or cuda.

    Raises
    ------
    InputError
        The set or the device is unknown. On first use: files are damaged or do not fit together.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device '{device}'", f"choose from {', '.join(DEVICES)}")
    if weights == DEFAULT_SET:
        return _default_models(device)
    return Models(_over_default(open_set(weights)), device)


def open_set(weights: str | Path) -> WeightSet:
    """Return a set of weights by its bundled name, folder, or `hf://owner/repo@revision`.

    A set on the Hub is downloaded when it is first used. Raises InputError if there is no such set.
    """
    text = str(weights)
    if text.startswith(HUB_PREFIX):
        return cached_set(text)
    bundled = bundled_sets()
    if isinstance(weights, str) and weights in bundled:
        return folder_set(bundled_folder() / weights, weights)
    folder = Path(weights)
    if not folder.is_dir():
        raise InputError(
            f"{text}: no such set of weights",
            f"name a bundled set ({', '.join(bundled)}), a folder that talkemo train wrote, "
            "or hf://owner/repo",
        )
    return folder_set(folder, f"./{text}" if text in bundled else text)


def style_names(weights: str | Path = DEFAULT_SET) -> list[str]:
    """Return the speaking styles of a set of weights, `default` first; no network is built.

    Raises InputError for an unknown set, or an unusable file of its talking model.
    """
    path = load_models(weights).path("talking")
    with check_compatible(path, "talking"):
        styles = load_settings(path, "talking")["styles"]
        if not isinstance(styles, list) or not all(isinstance(name, str) for name in styles):
            raise ValueError("its styles are not names")
    return [DEFAULT_STYLE, *styles]


def check_set(weights: WeightSet) -> None:
    """Load all stages of a set, over the default set. Raises InputError for an unusable file."""
    models = Models(_over_default(weights), "cpu")
    for stage in weights.stages:
        models.check(stage)


@lru_cache(maxsize=3)
def _default_models(device: str) -> Models:
    return Models([open_set(DEFAULT_SET)], device)


def _over_default(weights: WeightSet) -> list[WeightSet]:
    """Return a set followed by the default set, which has the stages that it lacks."""
    return [weights] if weights.name == DEFAULT_SET else [weights, open_set(DEFAULT_SET)]


class Models:
    """The canonical face and the networks of one or more sets of weights.

    Each stage comes from the first set that has it, and is loaded when it is first used. Its file
    is checked against the registry, and must have been made for the same face and speech encoder
    as the others; otherwise InputError is raised. See networks/protocols.py for what `encoder`,
    `talking` and `emotion` offer.
    """

    def __init__(self, sets: list[WeightSet], device: str = "auto"):
        self.sets = sets
        self._device = device

    @property
    def name(self) -> str:
        """Name of the set, as the user gave it."""
        return self.sets[0].name

    @cached_property
    def device(self) -> torch.device:
        """The device of the networks. Raises InputError for cuda if it is unavailable."""
        return choose_device(self._device)

    def path(self, stage: str) -> Path:
        """Return the weights file of a stage. Raises InputError if no set has it."""
        return self._find(stage)[1]

    def licence_notes(self, *stages: str) -> list[str]:
        """Return a sentence for each stage whose weights come from another set with stricter terms.

        A set without a talking model, for example, gets that of the default set, which is for
        research only.
        """
        notes = []
        for stage in stages:
            weights, _ = self._find(stage)
            entry = weights.entries.get(stage)
            if weights is self.sets[0] or entry is None or entry.licence in ANY_USE_LICENCES:
                continue
            notes.append(
                f"{printable(self.name)} has no weights of the stage {stage}: those of the set "
                f"{weights.name} are used; licence: {entry.licence}"
            )
        return notes

    def load(self, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a stage's tensors and settings. Raises InputError for an unusable file."""
        weights, path = self._find(stage)
        weights.check(stage)
        return load_weights(path, stage)

    def check(self, stage: str) -> None:
        """Load a stage. Raises InputError for a damaged or incompatible file."""
        if stage == "classifier":
            self.classifier("four")
            self.classifier("eight")
        else:
            getattr(self, "encoder" if stage == "speech" else stage)

    @cached_property
    def face(self) -> Face:
        """The canonical face."""
        tensors, settings = self.load("face")
        with check_compatible(self.path("face"), "face"):
            _check_face(tensors, settings)
            face = face_of_tensors(tensors, settings)
        return replace(face, load_anatomy=lambda: self.anatomy)

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """Teeth, tongue and mouth socket of the canonical face.

        None if there are none for the blend shapes of this face: a set with a face of its own need
        not have them.
        """
        found = self._first("anatomy")
        if found is None:
            return None
        path, names = found[1], self.face.expression_names
        tensors, settings = self.load("anatomy")
        if found[0] is not self._find("face")[0] and settings["expression_names"] != list(names):
            return None
        check_made_for(path, settings, expression_names=names)
        with check_compatible(path, "anatomy"):
            return anatomy_of_tensors(tensors, len(names))

    @cached_property
    def encoder(self) -> SpeechEncoder:
        """The speech encoder: audio to features."""
        from ..networks.speech_encoder import build_encoder

        tensors, settings = self.load("speech")
        with check_compatible(self.path("speech"), "speech"):
            return build_encoder(tensors, settings, self.device)

    @cached_property
    def talking(self) -> TalkingModel:
        """The talking model: audio to motion."""
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
        """The emotion model: motion to motion with an emotion."""
        from ..networks.emotion import build_emotion

        tensors, settings = self._load_for_face("emotion")
        with check_compatible(self.path("emotion"), "emotion"):
            return build_emotion(tensors, settings, self.face, self.device)

    @cached_property
    def discriminator(self) -> Discriminator:
        """The discriminator that the emotion model was trained against, for evaluation."""
        from ..networks.judges import build_discriminator

        tensors, _ = self._load_for_face("discriminator")
        with check_compatible(self.path("discriminator"), "discriminator"):
            return build_discriminator(tensors, self.device)

    def classifier(self, name: str = "four") -> tuple[Classifier, list[str]]:
        """Return a classifier of the paper's `four` or all `eight` emotions, and their names."""
        from ..networks.judges import build_classifier

        tensors, settings = self._load_for_face("classifier")
        with check_compatible(self.path("classifier"), "classifier"):
            return build_classifier(tensors, settings, name, self.device)

    @cached_property
    def voice(self) -> VoiceModel:
        """The voice model: audio to the emotion of a voice."""
        from ..networks.voice import build_voice

        self._refuse_stricter_terms("voice")
        tensors, settings = self.load("voice")
        path = self.path("voice")
        check_made_for(path, settings, encoder=self.encoder.fingerprint)
        with check_compatible(path, "voice"):
            return build_voice(tensors, settings, self.encoder, self.device)

    def can_use(self, stage: str) -> bool:
        """Return whether there is a stage, on terms that suit the set that the user named."""
        try:
            self._refuse_stricter_terms(stage)
        except InputError:
            return False
        return True

    def _refuse_stricter_terms(self, stage: str) -> None:
        """Raise InputError if a set for any use would get a stage of another set that is not."""
        weights, own = self._find(stage)[0], self.sets[0]
        entry = weights.entries.get(stage)
        is_free = own.entries and all(e.licence in ANY_USE_LICENCES for e in own.entries.values())
        if weights is own or not is_free or entry is None or entry.licence in ANY_USE_LICENCES:
            return
        raise InputError(
            f"{printable(self.name)} has no weights of the stage {stage}, and may be used for any "
            f"purpose; those of {weights.name} are for {entry.licence}",
            "name the emotion, or choose --weights default",
        )

    def _find(self, stage: str) -> tuple[WeightSet, Path]:
        """Return the first set that has a stage, and its file. Raises InputError if none has."""
        found = self._first(stage)
        if found is not None:
            return found
        names = ", ".join(weights.name for weights in self.sets)
        raise InputError(f"no weights of the stage '{stage}' in {names}", training_hint(stage))

    def _first(self, stage: str) -> tuple[WeightSet, Path] | None:
        """Return the first set that has a stage, and its file; None if none has."""
        files = ((weights, weights.path(stage)) for weights in self.sets)
        return next(((weights, path) for weights, path in files if path is not None), None)

    def _load_for_face(self, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Load a stage, and check that it was trained for this face."""
        tensors, settings = self.load(stage)
        face, path = self.face, self.path(stage)
        check_made_for(
            path, settings, face=face.fingerprint, expression_names=face.expression_names
        )
        return tensors, settings


def _check_face(tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Raise ValueError unless a face's tensors fit together and its indices are in range."""
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
    limits = {
        "faces": vertices,
        "landmarks68": vertices,
        "mirror": vertices,
        "map_vertices": vertices,
        "mesh_point_vertices": vertices,
        "map_pixels": pixels,
    }
    for name, limit in limits.items():
        index = tensors[name]
        in_range = index.min(initial=0) >= 0 and index.max(initial=0) < limit
        if index.dtype.kind not in "iu" or not in_range:
            raise ValueError(f"its {name} are not numbers under {limit}")
