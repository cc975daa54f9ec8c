"""Videos of the paper's six methods for its user study (section 4.5).

`talkemo study make --paper` makes them:

full                     the models as they ship
without local weights    a talking model trained with equal weights of all vertices
without augmentation     emotion transfer trained on the actors alone
PointNet                 a PointNet as the generator of emotion transfer
VOCA                     the talking model with equal weights, and no emotion
Karras                   speech to motion with an emotional state, see `karras`

"without local weights" and "VOCA" use the paper's variant of the talking model, trained on neutral
ravdess and grid. "without augmentation" and "PointNet" use generators trained on the paper's four
emotions. "Karras" is trained on all acted and neutral recordings of ravdess and grid. So a preference
compares whole methods; it does not isolate the effect of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio, open_audio
from ..data.captures import StepProgress
from ..errors import InputError
from ..expression.emotions import one_hot
from ..face.canonical import Face
from ..files.artefact import Artefact, State
from ..files.cache import digest, sha256
from ..files.reading import printable
from ..formats.animation import Frames, Header
from ..formats.registry import open_writer
from ..networks.emotion import EmotionModel
from ..networks.talking import TalkingModel
from ..train import emotion, talking
from ..train.run import Run
from ..weights.models import Models
from .figure7 import trained_generator
from .karras import KarrasConfig, train_karras
from .training import (
    TRANSFERRED_EMOTIONS,
    Trainings,
    of_paper_emotions,
    paper_emotion_config,
)

VARIANT_VIDEO_FPS = 25.0
VARIANT_VIDEO_SIZE_PX = 512  # width and height
MAX_STUDY_RECORDING_S = 30.0  # participants do not judge longer videos

# Audio, times (T,) s and emotion → displacements (T, V, 3) mm by a method.
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
    progress: StepProgress | None = None,
) -> list[Path]:
    """Train the six methods, and render every recording with each emotion by each method.

    Parameters
    ----------
    recordings : sequence of Path
        Audio files of different names.
    data, cache, models, jobs, progress
        As in `load_captures`.
    output : Path
        Folder for the trainings, and for METHOD/RECORDING_EMOTION.mp4. Videos in it that are up to
        date with audio, weights and steps are not rendered again.
    steps : int, optional
        Steps of each of the four trainings. Default: each one's own.

    Returns
    -------
    list of Path
        The folders of the methods' videos.

    Raises
    ------
    InputError
        If a recording is unusable, too long, or has the name of another.
    """
    audios = _open_recordings(recordings)
    output.mkdir(parents=True, exist_ok=True)
    methods = _train_methods(data, cache, models, output / "trained", steps, jobs, progress)
    weights = [sha256(models.path(stage)) for stage in ("face", "speech", "talking", "emotion")]
    videos = [
        (m, name, target) for m in methods for name in audios for target in TRANSFERRED_EMOTIONS
    ]
    for number, (method, name, target) in enumerate(videos):
        path, audio = output / method / f"{name}_{target}.mp4", audios[name]
        path.parent.mkdir(exist_ok=True)
        video = Artefact(path, digest(weights, steps, audio.samples(), target))
        if video.state is not State.UP_TO_DATE:
            frames = max(1, int(np.ceil(audio.duration * VARIANT_VIDEO_FPS)))
            displacement = methods[method](audio, np.arange(frames) / VARIANT_VIDEO_FPS, target)
            write_canonical_video(path, models.face, displacement, audio)
            video.sign()
        if progress:
            progress("videos", number + 1, len(videos))
    return [output / method for method in methods]


def _open_recordings(paths: Sequence[Path]) -> dict[str, Audio]:
    """The recordings of a study by name. Raises InputError for long ones, and for equal names."""
    audios: dict[str, Audio] = {}
    for path in paths:
        audio = open_audio(path)
        if audio.duration > MAX_STUDY_RECORDING_S:
            raise InputError(
                f"{printable(path)}: {audio.duration:.0f} s",
                f"recordings of a study last {MAX_STUDY_RECORDING_S:g} s at most",
            )
        if path.stem in audios:
            raise InputError(
                f"{printable(path)}: another recording has the same name", "rename one of them"
            )
        audios[path.stem] = audio
    return audios


def _train_methods(
    data: Path,
    cache: Path,
    models: Models,
    folder: Path,
    steps: int | None,
    jobs: int,
    progress: StepProgress | None,
) -> dict[str, Method]:
    """The six methods, VOCA without emotion; trainings in `folder` are resumed."""
    face, config = models.face, paper_emotion_config(steps)
    run = Trainings(folder, data, cache, models, jobs, progress).run
    constant = trained_talking(run("constant"), steps, mouth=0.0)
    frames = of_paper_emotions(emotion.training_frames(run("unaugmented"), ("ravdess",)))
    emotion.train_stargan(face, frames, run("unaugmented"), replace(config, augmentation=0.0))
    unaugmented = run("unaugmented").models().emotion
    pointnet = trained_generator("PointNet, raw", face, frames, run("pointnet"), config)

    def by_pointnet(audio: Audio, times: np.ndarray, name: str) -> np.ndarray:
        before = models.talking.motion(audio, times).displacement(face)
        return before + pointnet.change(before, name)

    karras = train_karras(run("karras"), KarrasConfig(steps=steps or KarrasConfig.steps))

    def by_karras(audio: Audio, times: np.ndarray, name: str) -> np.ndarray:
        return karras.motion(audio, times, name).displacement(face)

    def without_emotion(audio: Audio, times: np.ndarray, name: str) -> np.ndarray:
        return constant.motion(audio, times).displacement(face)

    return {
        "full": partial(_transferred, models.talking, models.emotion),
        "without local weights": partial(_transferred, constant, models.emotion),
        "without augmentation": partial(_transferred, models.talking, unaugmented),
        "PointNet": by_pointnet,
        "VOCA": without_emotion,
        "Karras": by_karras,
    }


def _transferred(
    talk: TalkingModel, transfer: EmotionModel, audio: Audio, times: np.ndarray, name: str
) -> np.ndarray:
    """Displacements (T, V, 3) mm by a talking model and a model of emotion transfer."""
    motion = transfer.transfer(talk.motion(audio, times), one_hot(name))
    return motion.displacement(transfer.face)


def trained_talking(run: Run, steps: int | None, **changes: Any) -> TalkingModel:
    """Train the paper's own talking model with changed settings, such as mouth=0.0."""
    config = replace(
        talking.PAPER_TALKING_CONFIG, steps=steps or talking.PAPER_TALKING_CONFIG.steps, **changes
    )
    talking.train_talking(run, config)
    return run.models().talking


def write_canonical_video(path: Path, face: Face, displacement: np.ndarray, audio: Audio) -> None:
    """Write a video of the canonical face moved by displacements (T, V, 3) mm, with its audio."""
    from ..render.appearance import canonical_appearance

    vertices = (face.mean + displacement).astype(np.float32)
    header = Header(
        frames=len(vertices),
        fps=VARIANT_VIDEO_FPS,
        faces=face.faces,
        rest=face.mean,
        focus=np.ones(len(face.mean), bool),
        appearance=lambda fill: canonical_appearance(face, fill=fill),
    )
    no_arkit = np.zeros((len(vertices), 52), np.float32)  # a video does not show these weights
    with open_writer(path, header, audio=audio, size=VARIANT_VIDEO_SIZE_PX) as writer:
        writer.write(Frames(vertices, vertices[:, face.landmarks68], no_arkit))
        writer.complete()
