"""Settings of the emotion transfer's training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..data.utterances import FREE_CORPORA
from .options import TrainOptions

FREE_ITERATIONS = 11_000  # with only the few actors whose recordings are free


@dataclass(frozen=True)
class EmotionConfig:
    """Settings of the emotion transfer's training."""

    iterations: int = 22_000  # of the discriminator; 200,000 in the paper
    batch: int = 16
    # Adam's rate, 1e-4 in StarGAN: constant in the first half, then falling to 0.
    learning_rate: float = 2e-4
    critic: int = 3  # iterations to a step of the generator
    classification: float = 1.0  # weight, λ_cls
    reconstruction: float = 10.0  # weight, λ_rec
    penalty: float = 10.0  # weight of the gradient penalty, λ_gp
    speech: float = 5.0  # weight of the difference of two frames' residuals on the lips
    level: float = 2.0  # weight of the squared error of the intensity
    gap: float = 2.0  # weight (1/mm²) of how far an emotion opens lips that are closed for b, m, p
    augmentation: float = 1.0  # the animator's weight at intensity 1, 0 for none
    levels: tuple[float, float] = (0.15, 1.5)  # lowest and highest intensity
    corpora: tuple[str, ...] = ("ravdess",)
    # Standard deviation of noise on the blend-shape weights that the discriminator sees. Without
    # it the generator changes a class by an invisible tenth of a millimetre.
    noise: float = 0.12
    average: float = 0.998  # decay per generator step of its exponential moving average
    channels: int = 64  # of the generator
    blocks: int = 3  # of the generator
    classifier_steps: int = 2500
    seed: int = 0


def emotion_config(options: TrainOptions, seed: int, large: bool) -> EmotionConfig:
    """Return the settings of `talkemo train emotion`; `large` is for a GPU."""
    config = EmotionConfig(seed=seed)
    if options.no_augmentation:
        config = replace(config, augmentation=0.0)
    if large:
        config = replace(config, iterations=60_000, batch=32)
    if options.java_sed:
        config = replace(config, corpora=("ravdess", "java_sed"))
    if options.free:
        config = replace(config, corpora=FREE_CORPORA, iterations=FREE_ITERATIONS)
    if options.steps is not None:
        config = replace(config, iterations=options.steps)
    return config
