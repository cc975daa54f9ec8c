"""The paper's five methods as films, for its user study (section 4.5): `talkemo study make --paper`.

full                     the models as they ship
without local weights    a talking model whose vertices all count alike
without augmentation     an emotion transfer that has seen the actors alone
PointNet                 a PointNet as the generator of emotion transfer
VOCA                     the talking model with constant weights, and no emotion

The talking model of the second and the last is the paper's own variant, trained on neutral ravdess and grid; the generators
of the third and the fourth are trained on the paper's four emotions, for fewer iterations than those that ship. What people
prefer says what a method is worth as the paper has it, not what one of its parts is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio, open_audio
from ..data.captures import Report
from ..errors import InputError
from ..expression.emotions import PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..files.cache import corpora_digests, digest, sha256
from ..files.reading import printable
from ..files.writing import atomic_write
from ..formats.animation import Frames, Header
from ..formats.registry import open_writer
from ..networks.emotion import EmotionModel
from ..networks.talking import TalkingModel
from ..train import emotion, talking
from ..train.run import Run
from ..weights.models import Models
from .emotion_training import emotion_config, labelled, of_paper_emotions, temporary_run
from .figure7 import moved, trained_pointnet

EMOTIONS_SHOWN = PAPER_EMOTIONS[1:]
FPS = 25.0
SIZE = 512  # pixels on a side
LONGEST = 30.0  # s of a recording: nobody judges longer films

# What a method makes of a motion of speech with an emotion: displacements (T, V, 3) mm.
Method = Callable[[Audio, np.ndarray, str], np.ndarray]


def render_variants(
    recordings: Sequence[Path],
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    steps: int | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> list[Path]:
    """Train what the five methods need and render every recording with each emotion by each; returns their folders.

    output: a folder for the trainings, and for METHOD/RECORDING_EMOTION.mp4; what is in it already is kept, unless it was
        made of other sound, with other weights or after other steps
    steps: of each of the three trainings, each one's own number if None
    Raises InputError for recordings that cannot be used.
    """
    sounds = {}
    for path in recordings:
        sound = open_audio(path)
        if sound.duration > LONGEST:
            raise InputError(
                f"{printable(path)}: {sound.duration:.0f} s",
                f"recordings of a study last {LONGEST:g} s at most",
            )
        if path.stem in sounds:
            raise InputError(
                f"{printable(path)}: another recording has the same name", "rename one of them"
            )
        sounds[path.stem] = sound
    output.mkdir(parents=True, exist_ok=True)
    methods = _methods(data, cache, models, output / "trained", steps, jobs, progress)
    weights = [sha256(models.path(stage)) for stage in ("face", "speech", "talking", "emotion")]
    films = [(m, name, which) for m in methods for name in sounds for which in EMOTIONS_SHOWN]
    for number, (method, name, which) in enumerate(films):
        path = output / method / f"{name}_{which}.mp4"
        path.parent.mkdir(exist_ok=True)
        origin = digest(weights, steps, sounds[name].samples(), which)
        about = path.with_suffix(".txt")
        if not (path.is_file() and about.is_file() and about.read_text("utf-8") == origin):
            times = np.arange(max(1, int(np.ceil(sounds[name].duration * FPS)))) / FPS
            write_film(path, models.face, methods[method](sounds[name], times, which), sounds[name])
            with atomic_write(about) as partial:
                partial.write_text(origin, "utf-8")
        if progress:
            progress("films", number + 1, len(films))
    return [output / method for method in methods]


def _methods(
    data: Path,
    cache: Path,
    models: Models,
    folder: Path,
    steps: int | None,
    jobs: int,
    progress: Report | None,
) -> dict[str, Method]:
    """The five methods, the last of which shows no emotion. What they need is trained in folders of `folder`, once."""
    face, usual = models.face, emotion_config(steps)

    run = lambda name: variant_run(folder, name, data, cache, models, jobs, progress)
    constant = trained_talking(run("constant"), steps, mouth=0.0)
    frames = of_paper_emotions(emotion.training_frames(run("unaugmented"), ("ravdess",)))
    emotion.train_stargan(face, frames, run("unaugmented"), replace(usual, augmentation=0.0))
    unaugmented: EmotionModel = run("unaugmented").models().emotion
    points = trained_pointnet(face, frames, run("pointnet"), usual)

    def transferred(talk: TalkingModel, transfer: EmotionModel) -> Method:
        return lambda sound, times, which: transfer.transfer(
            talk.motion(sound, times), one_hot(which)
        ).displacement(face)

    def by_pointnet(sound: Audio, times: np.ndarray, which: str) -> np.ndarray:
        before = models.talking.motion(sound, times).displacement(face)
        return before + moved(face, points, before, which)

    return {
        "full": transferred(models.talking, models.emotion),
        "without local weights": transferred(constant, models.emotion),
        "without augmentation": transferred(models.talking, unaugmented),
        "PointNet": by_pointnet,
        "VOCA": lambda sound, times, which: constant.motion(sound, times).displacement(face),
    }


def variant_run(
    folder: Path,
    name: str,
    data: Path,
    cache: Path,
    models: Models,
    jobs: int = 1,
    progress: Report | None = None,
) -> Run:
    """The training of a variant in a folder of its own in `folder`, which goes on unless the corpora have changed."""
    run = temporary_run(folder / name, data, cache, models, jobs, progress)
    origin = digest(*corpora_digests(data, ("ravdess", "grid_s1")))
    return labelled(replace(run, resume=True, discard_stale=True, fingerprint=origin), name)


def trained_talking(run: Run, steps: int | None, **changes: Any) -> TalkingModel:
    """The paper's own talking model with other settings, such as mouth=0.0 for constant weights."""
    talking.train_talking(
        run,
        replace(
            talking.PAPER_TALKING_CONFIG,
            steps=steps or talking.PAPER_TALKING_CONFIG.steps,
            **changes,
        ),
    )
    return run.models().talking


def write_film(path: Path, face: Face, displacement: np.ndarray, sound: Audio) -> None:
    """Write a film of the canonical face moved by displacements (T, V, 3) mm, with its sound."""
    from ..render.appearance import canonical_appearance

    vertices = (face.mean + displacement).astype(np.float32)
    header = Header(
        frames=len(vertices),
        fps=FPS,
        faces=face.faces,
        rest=face.mean,
        focus=np.ones(len(face.mean), bool),
        appearance=lambda: canonical_appearance(face),
    )
    arkit: Any = np.zeros((len(vertices), 52), np.float32)  # which no film shows
    with open_writer(path, header, audio=sound, size=SIZE) as writer:
        writer.write(Frames(vertices, vertices[:, face.landmarks68], arkit))
        writer.complete()
