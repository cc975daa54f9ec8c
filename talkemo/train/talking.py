"""Stage 4: the talking model, trained on neutral speech with captured motion (3D-TalkEmo, 3.3).

Besides captures it learns from hours of speech without video, with the motion that the lips
stage's teachers predicted for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import facegood
from ..data.audio_augmentation import augment, mel_batch
from ..data.utterances import FREE_CORPORA
from ..errors import InputError
from ..evaluation.metrics import pearson
from ..face.canonical import INNER_LIPS, MOUTH_CORNERS, Face
from ..face.lip_measures import distance_gradients
from ..networks.speech_encoder import (
    FEATURE_RATE,
    SILENCE_MARGIN_FEATURES,
    SpeechEncoder,
    encoder_changes,
    log_mel_encoder,
)
from ..networks.talking import (
    TALKING_COMPONENTS,
    WINDOW_FEATURES,
    TalkingNetwork,
    talking_tensors,
    windows,
)
from ..weights.files import check_compatible
from .batches import (
    CROP_CONTEXT_FEATURES,
    MIN_OPENING_SPREAD_MM,
    NOISE_CLIPS,
    NOISE_CORPUS,
    PSEUDO_LABELLED,
    ClipBatch,
    ClipSampler,
    Shares,
    TrainingClip,
    captured_clips,
    even_out,
    make_clip_batch,
    noise_clip,
    pseudo_labelled_clips,
    split_recordings,
    with_features,
)
from .loop import Intervals, Loop, Losses, cosine_decay, half_precision
from .options import TrainOptions
from .processes import TrainingProcesses
from .run import Run, StartWeights
from .talking_objective import Objective, TalkingObjective, measure_matrix

TALKING_GRADIENT_NORM = 50.0  # above which the gradient is scaled down
TALKING_INTERVALS = Intervals(progress=5, log=100, weights=1000, log_last_step=True)
HELD_OUT_LOG_STEPS = 500  # steps from a row of the log to the next, if speakers are held out
MAX_COMPONENT_FRAMES = 20_000  # of a corpus, that the components of motion are computed from
LIP_GAIN_RANGE = (0.7, 2.0)  # of the lips' measures, see `lip_gains`
# Attention of the encoder's layers to later features, by the seconds of audio after a frame that the
# frame then depends on: a feature's 0.02 s each, and 0.15 s of convolution, window and spectrum.
LOOKAHEADS: dict[str, tuple[int, ...] | None] = {
    "0.25": (2, 2, 1),
    "0.35": (4, 3, 3),
    "0.45": (6, 6, 3),
    "0.55": None,
}
DEFAULT_LOOKAHEAD = "0.45"  # shorter ones lose more than 0.01 of r on held-out training speakers
FREE_TALKING_STEPS = 700  # at most, on the few speakers whose recordings are free


@dataclass(frozen=True)
class TalkingConfig:
    """Settings of the talking model's training."""

    features: str = "speech"  # or log-mel
    # Share of each existing corpus in a batch: many people who speak freely contribute more than
    # one who reads sentences of a fixed grammar.
    shares: Shares = (
        ("talking", 0.44),
        ("talking_more", 0.2),
        ("grid_s1", 0.2),
        ("ravdess", 0.16),
        ("arabic_news", 0.2),
        ("java_sed", 0.08),
        ("facegood", 0.06),
        (NOISE_CORPUS, 0.08),
        (PSEUDO_LABELLED, 0.6),
    )
    steps: int = 1200
    batch: int = 12  # crops
    seconds: float = 4.0  # of a crop
    learning_rate: float = 1e-3  # Adam
    encoder_rate: float = 1e-4  # of the speech encoder's layers; 0 does not train them
    # How many features after each the encoder's layers attend to; None leaves them as they are.
    future: tuple[int, ...] | None = LOOKAHEADS[DEFAULT_LOOKAHEAD]
    decay: bool = True  # whether the rates fall as a cosine instead of being constant
    augment: bool = True  # whether audio is augmented, see data.audio_augmentation
    # Position term: additional weight of the lips, 0 as in VOCA.
    mouth: float = 4.0
    gap: float = 0.3  # position term: weight of the lips' gaps and of the mouth's width
    closure: float = 1.0  # position term: weight of the opening of lips that should be closed
    # Position term: weights in mm² of opening, width and protrusion, and of the lips' own blend
    # shapes, in units of their spread, see `talking_objective.measure_matrix`.
    distances: float = 1.0
    shapes: float = 1.0
    velocity: float = 10.0  # weight of the velocity term, as in VOCA
    even_out: float = 1.0  # how far all speakers' motion is scaled alike, see batches.even_out
    level: float | None = None  # weight of a crop's mean error; None for each clip's own
    amplitude: bool = True  # whether the result is scaled to move the lips as held-out people do
    style_dropout: float = 0.5  # share of crops without their style
    dropout: float = 0.2
    # Every n-th training speaker (or clip, if there is one speaker) is held out: for metrics in the
    # log, and to choose the amplitude.
    hold_out: int = 8
    seed: int = 0


# The paper's own variant: two corpora, constant rates, VOCA's Adam, the lips' weight and no more.
PAPER_TALKING_CONFIG = TalkingConfig(
    shares=(("ravdess", 0.5), ("grid_s1", 0.5)),
    steps=20000,
    batch=4,
    seconds=0.6,  # about 64 frames a step
    learning_rate=1e-4,
    decay=False,
    encoder_rate=0.0,
    future=None,
    augment=False,
    mouth=24.0,
    gap=0.0,
    closure=0.0,
    distances=0.0,
    shapes=0.0,
    dropout=0.0,
    even_out=0.0,
    level=1.0,
    amplitude=False,
    style_dropout=0.0,
    hold_out=0,
)


def talking_config(options: TrainOptions, seed: int, large: bool) -> TalkingConfig:
    """Return the settings of `talkemo train talking`; `large` is for a GPU."""
    config = replace(PAPER_TALKING_CONFIG if options.paper else TalkingConfig(), seed=seed)
    if large and not options.paper:
        config = replace(config, batch=32, steps=3000)
    if options.free:
        steps = min(config.steps, FREE_TALKING_STEPS)
        config = replace(config, shares=free_shares(config.shares), steps=steps)
    config = options.changed(config, "steps", "hold_out")
    if options.freeze_encoder:  # which was not trained to look ahead less
        config = replace(config, encoder_rate=0.0, future=None)
    if options.lookahead is not None:
        config = replace(config, future=attention_of_lookahead(options.lookahead))
    if options.constant_weights:
        config = replace(config, mouth=0.0, gap=0.0, closure=0.0, distances=0.0, shapes=0.0)
    if options.log_mel:
        shares = tuple(share for share in config.shares if share[0] != PSEUDO_LABELLED)
        config = replace(config, features="log-mel", encoder_rate=0.0, shares=shares, future=None)
    return config


def attention_of_lookahead(seconds: str) -> tuple[int, ...] | None:
    """Return `TalkingConfig.future` for a look-ahead. Raises InputError for an unknown one."""
    if seconds not in LOOKAHEADS:
        raise InputError(f"unknown look-ahead {seconds}", f"choose {', '.join(LOOKAHEADS)} (s)")
    return LOOKAHEADS[seconds]


def free_shares(shares: Shares) -> Shares:
    """Return the shares of corpora for any purpose; captured ones together keep their share."""
    allowed = (*FREE_CORPORA, facegood.CORPUS, NOISE_CORPUS, PSEUDO_LABELLED)
    free = tuple(pair for pair in shares if pair[0] in allowed)
    factor = _captured_share(shares) / _captured_share(free)
    return tuple(
        (name, share if name in (NOISE_CORPUS, PSEUDO_LABELLED) else factor * share)
        for name, share in free
    )


def _captured_share(shares: Shares) -> float:
    return sum(share for name, share in shares if name not in (NOISE_CORPUS, PSEUDO_LABELLED))


def train_talking(run: Run, config: TalkingConfig) -> Path:
    """Train the talking model on a run's corpora.

    Returns
    -------
    Path
        `out`/talking.safetensors.

    Raises
    ------
    InputError
        The start weights do not fit, or a corpus is missing or damaged.
    """
    read_start_weights(run, config)  # refuse weights that do not fit before corpora are read
    return train_on_data(gather_training_data(run, config), run, config)


# ------------------------------------------------------------------------------- training data


@dataclass(frozen=True, eq=False)
class TalkingData:
    """What a talking model is trained on: clips, and those held out for the log's metrics."""

    face: Face
    encoder: SpeechEncoder
    styles: list[str]
    clips: list[TrainingClip]
    held_out: list[TrainingClip]


def gather_training_data(run: Run, config: TalkingConfig) -> TalkingData:
    """Return the training split's recordings with their audio.

    They have features unless these change in training. Noise and, if the lips stage left them in
    the run's folder, pseudo-labelled utterances are added.
    """
    models = run.models()
    face = models.face
    use_log_mel = config.features == "log-mel"
    if use_log_mel:
        encoder = log_mel_encoder(device=models.device)
    else:
        encoder = models.encoder.narrowed(config.future)
    recordings, held_out = split_recordings(run, config.shares, config.hold_out)
    styles = sorted({r.speaker for r in recordings})
    clips = captured_clips(run, recordings, face, encoder.filters, styles)
    held_out_clips = captured_clips(run, held_out, face, encoder.filters, styles)
    if config.even_out:
        clips = even_out(clips, face, config.even_out)
    if config.level is not None:
        clips = [replace(clip, mean=config.level) for clip in clips]
    corpora = dict(config.shares)
    if NOISE_CORPUS in corpora:
        rng = np.random.default_rng(config.seed)
        clips += [noise_clip(encoder.filters, len(face.span), rng) for _ in range(NOISE_CLIPS)]
    if not (config.augment or config.encoder_rate > 0):
        clips = [with_features(clip, encoder) for clip in clips]
    elif PSEUDO_LABELLED in corpora:
        clips += pseudo_labelled_clips(run.prepared_audio, run.pseudo_labels, face)
    return TalkingData(face, encoder, styles, clips, held_out_clips)


def encode_windows(
    batch: ClipBatch,
    network: TalkingNetwork,
    encoder: torch.nn.Module,
    vary: bool,
    processes: TrainingProcesses,
) -> torch.Tensor:
    """Return the windows (N, T, 16, D) of this process's rows of a batch.

    `vary` puts the audio into rooms, over telephone lines and with noise.
    """
    if batch.wave is None:
        assert batch.feature is not None
        feature = processes.own_rows(batch.feature)
    else:
        # Voices are mixed, so every process needs the audio of the whole batch.
        wave = augment(batch.wave) if vary else batch.wave
        mel = processes.own_rows(mel_batch(wave, batch.levels, vary))
        with half_precision(mel.device):
            feature = encoder(mel)[:, CROP_CONTEXT_FEATURES:-CROP_CONTEXT_FEATURES].float()
    feature = network.prepare(feature.flatten(0, 1)).unflatten(0, feature.shape[:2])
    with half_precision(feature.device):
        weights = interpolation_matrices(processes.own_rows(batch.times), feature.shape[1])
        return (weights @ feature).unflatten(1, (-1, WINDOW_FEATURES))


def interpolation_matrices(times: torch.Tensor, length: int) -> torch.Tensor:
    """Return `windows` at times (N, T) of `length` features as matrices (N, T·16, length).

    Products with matrices have quicker gradients than the indexing of `windows`.
    """
    device = times.device
    rows = torch.arange(length, dtype=torch.float64, device=device)[:, None]
    index = windows(rows, times.flatten()).reshape(len(times), -1, 1).float()
    columns = torch.arange(length, dtype=torch.float32, device=device)
    return (1 - (index - columns).abs()).clamp_min(0)


# ------------------------------------------------------------------------------------ training


def train_on_data(
    data: TalkingData,
    run: Run,
    config: TalkingConfig,
    make_training: Callable[[TalkingData, Run, TalkingConfig], TalkingTraining] | None = None,
) -> Path:
    """Train the talking model on gathered data; return `out`/talking.safetensors.

    The data are not modified. `make_training` makes another training than TalkingTraining.
    """
    training = (make_training or TalkingTraining)(data, run, config)
    intervals = TALKING_INTERVALS
    if data.held_out:
        intervals = replace(intervals, log=HELD_OUT_LOG_STEPS)
    training.loop.train(
        config.steps,
        training.step,
        intervals,
        rate_factor=training.rate_factor if config.decay else None,
        measure=training.correlations,
        save_weights=training.save,
    )
    return training.save()


class TalkingTraining:
    """The talking network and the speech encoder in training.

    Subclasses may have another network or objective; `variant` says which, for checkpoints.
    """

    variant: str = ""

    def __init__(self, data: TalkingData, run: Run, config: TalkingConfig):
        self.data, self.run, self.config = data, run, config
        self.device, self.processes = data.encoder.device, run.processes
        face, styles = data.face, data.styles
        start = read_start_weights(run, config)
        torch.manual_seed(config.seed)
        targets = sample_targets(data.clips)
        self.targets = targets.numpy()
        network = self.new_network(targets)
        if start:
            with check_compatible(start.path, "talking"):
                start_network(network, start.tensors, start.settings["styles"], styles)
        self.processes.share_batch_norms(network)
        self.network = network.to(self.device)
        trains_encoder = config.encoder_rate > 0
        # A copy, since others use the encoder; the start weights may contain a trained one.
        self.encoder = data.encoder.changed(
            encoder_part(start, data.encoder) if start and trains_encoder else {}
        )
        encoder_parameters = dict(self.encoder.network.named_parameters())
        self.trained_names = trainable_names(self.encoder.network) if trains_encoder else []
        for name, parameter in encoder_parameters.items():
            parameter.requires_grad_(name in self.trained_names)
        groups: list[dict[str, Any]] = [
            {"params": [*self.network.parameters()], "lr": config.learning_rate}
        ]
        networks: dict[str, torch.nn.Module] = {"network": self.network}
        if self.trained_names:
            trained = [encoder_parameters[name] for name in self.trained_names]
            groups.append({"params": trained, "lr": config.encoder_rate})
            networks["encoder"] = self.encoder.network
        settings = {
            **asdict(config),
            "steps": None,
            "face": face.fingerprint,
            "encoder": data.encoder.fingerprint,
        }
        if self.variant:
            settings["variant"] = self.variant
        optimisers = {"adam": torch.optim.Adam(groups)}
        self.loop = Loop("talking", run, networks, optimisers, settings, config.seed)
        self.objective = self.new_objective()
        batch = config.batch * self.processes.count
        self.sampler = ClipSampler(data.clips, replace(config, batch=batch))

    def new_network(self, targets: torch.Tensor) -> TalkingNetwork:
        """Return an untrained network whose decoder starts at the components of targets (M, S)."""
        data = self.data
        width, styles = data.encoder.width, len(data.styles)
        network = TalkingNetwork(width, styles, targets.shape[1], self.config.dropout)
        start_decoder_at_components(network.decoder, targets)
        return network

    def new_objective(self) -> TalkingObjective:
        """Return the terms of the loss."""
        face, config = self.data.face, self.config
        measures = measure_matrix(face, self.targets, config.distances, config.shapes)
        return Objective(face, config.mouth, config.gap, config.closure, self.device, measures)

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rates in a step."""
        return cosine_decay(step / self.config.steps)

    def step(self) -> Losses:
        """Take a step on crops of new clips; return the losses."""
        config, processes, rng = self.config, self.processes, self.loop.rng
        self.network.train()
        styles = self.network.style.in_features
        clips = self.sampler.draw(rng)
        batch = make_clip_batch(
            clips, config.seconds, styles, config.style_dropout, rng, self.device
        )
        window = encode_windows(
            batch, self.network, self.encoder.network, config.augment, processes
        )
        style = processes.own_rows(batch.style)[:, None].expand(-1, window.shape[1], -1)
        with half_precision(self.device):
            output = self.network(window.flatten(0, 1), style.flatten(0, 1)).float()
        output = processes.all_rows(output.unflatten(0, window.shape[:2]))
        position, velocity = self.objective(output, batch.target, batch.inside, batch.mean)
        self.loop.descend(position + config.velocity * velocity, max_norm=TALKING_GRADIENT_NORM)
        return {"position_mm2": position, "velocity_mm2": velocity}

    def correlations(self) -> dict[str, float]:
        """Return the mean Pearson r of mouth opening and width of each corpus's held-out clips."""
        motions = predict_clips(self.data.held_out, self.network, self.encoder)
        return mean_correlations(self.data.held_out, motions, self.data.face)

    def save(self) -> Path:
        """Write the weights as they are; return the file."""
        data, config = self.data, self.config
        tensors = talking_tensors(self.network)
        if config.amplitude and data.held_out:
            gains, mean = lip_gains(data.held_out, self.network, self.encoder, data.face)
            matrix = gain_matrix(data.face, self.targets, gains)
            tensors |= scaled_decoder(self.network, matrix, mean)
        if config.features == "log-mel":
            tensors["filters"] = data.encoder.filters
        changes = encoder_changes(self.encoder.network, data.encoder.network, self.trained_names)
        tensors |= {f"encoder/{name}": change for name, change in changes.items()}
        settings = {
            "features": config.features,
            "encoder": data.encoder.fingerprint,
            "styles": data.styles,
            "config": asdict(config),
            "frames": sum(len(clip.time) for clip in data.clips),
            "steps": self.loop.step,
        }
        if config.future:
            settings["future"] = list(config.future)
        return self.run.save("talking", tensors, settings)


def trainable_names(encoder: torch.nn.Module) -> list[str]:
    """Return the names of the encoder's parameters above its convolutions, which may be trained."""
    return [name for name, _ in encoder.named_parameters() if name.startswith(("blocks.", "norm."))]


def sample_targets(clips: list[TrainingClip]) -> torch.Tensor:
    """Return the coordinates (M, S) of evenly chosen frames of every corpus."""
    by_corpus: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        by_corpus.setdefault(clip.corpus, []).append(clip.target)
    samples = []
    for targets in by_corpus.values():
        frames = np.concatenate(targets[:: -(-len(targets) // 1000)])
        samples.append(frames[:: -(-len(frames) // MAX_COMPONENT_FRAMES)])
    return torch.from_numpy(np.concatenate(samples).astype(np.float32))


def start_decoder_at_components(decoder: torch.nn.Linear, targets: torch.Tensor) -> None:
    """Set a decoder to the principal components and the mean of coordinates (M, S).

    Components are scaled so that codes have a standard deviation of about one.
    """
    mean = targets.mean(0)
    _, values, right = torch.linalg.svd(targets - mean, full_matrices=False)
    scale = values[:TALKING_COMPONENTS] / len(targets) ** 0.5
    with torch.no_grad():
        decoder.weight[:, : len(scale)] = (right[:TALKING_COMPONENTS] * scale[:, None]).T
        decoder.bias.copy_(mean)


# ---------------------------------------------------------------------------- held-out metrics


def mean_correlations(
    clips: list[TrainingClip], motions: Iterable[np.ndarray], face: Face
) -> dict[str, float]:
    """Return the mean Pearson r of mouth opening and width over each corpus's clips.

    Parameters
    ----------
    clips : list of Clip
        With the target motion.
    motions : iterable of (T, S)
        Predicted coordinates at the frames of each clip.
    face : Face

    Returns
    -------
    dict of float
        CORPUS_opening and CORPUS_width.
    """
    values: dict[str, list[float]] = {}
    for clip, motion in zip(clips, motions):
        for name, r in correlations(motion, clip.target, face).items():
            values.setdefault(f"{clip.corpus}_{name}", []).append(r)
    return {name: float(np.mean(of_clips)) for name, of_clips in sorted(values.items())}


def correlations(predicted: np.ndarray, target: np.ndarray, face: Face) -> dict[str, float]:
    """Return Pearson's r of the mouth's opening and width in two motions' coordinates (T, S)."""
    vertices = list(face.landmarks68[[*INNER_LIPS, *MOUTH_CORNERS]])
    rest, span = face.mean[vertices], face.span[:, vertices]
    points = [rest + np.tensordot(motion, span, 1) for motion in (predicted, target)]
    result = {}
    for name, (a, b) in {"opening": (0, 1), "width": (2, 3)}.items():
        distances = [np.linalg.norm(p[:, a] - p[:, b], axis=1) for p in points]
        result[name] = pearson(*distances)
    return result


def predict_clips(
    clips: list[TrainingClip], network: TalkingNetwork, encoder: SpeechEncoder
) -> Iterator[np.ndarray]:
    """Predict the coordinates (T, S) of each clip in the default style."""
    network.eval()
    for clip in clips:
        feature = torch.from_numpy(encoder.features(clip.audio)[:, :-1]).to(encoder.device)
        times = torch.from_numpy(clip.time + SILENCE_MARGIN_FEATURES / FEATURE_RATE).to(
            encoder.device
        )
        with torch.inference_mode():
            window = windows(network.prepare(feature), times)
            style = torch.zeros(len(window), network.style.in_features, device=encoder.device)
            yield network(window, style).cpu().numpy()


def lip_gains(
    clips: list[TrainingClip], network: TalkingNetwork, encoder: SpeechEncoder, face: Face
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much wider lips move in clips than predicted.

    A network that is trained on squared errors leaves out the motion that it cannot predict, so it
    moves less than people do, and the more so the less predictable a measure is.

    Returns
    -------
    gains : (M,)
        One for each measure of `distance_gradients`: the median over the clips of the ratio of the
        standard deviations, within LIP_GAIN_RANGE.
    mean : (S,)
        The mean prediction.
    """
    gradients = np.stack([*distance_gradients(face).values()], 1)  # (S, M)
    ratios, means = [], []
    for clip, motion in zip(clips, predict_clips(clips, network, encoder)):
        predicted = np.maximum((motion @ gradients).std(0), MIN_OPENING_SPREAD_MM)
        ratios.append((clip.target @ gradients).std(0) / predicted)
        means.append(motion.mean(0))
    return np.clip(np.median(ratios, axis=0), *LIP_GAIN_RANGE), np.mean(means, axis=0)


def gain_matrix(face: Face, targets: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the matrix (S, S) that scales the lips' measures of coordinates by `gains` (M,).

    Each measure is scaled along the direction in which it varies in `targets` (N, S), coordinates
    of speech; what is uncorrelated with the measures is kept.
    """
    gradients = np.stack([*distance_gradients(face).values()], 1).astype(np.float64)  # (S, M)
    covariance = np.cov(targets.T.astype(np.float64))
    directions = covariance @ gradients
    directions = directions @ np.linalg.inv(gradients.T @ directions)  # (S, M), dual to gradients
    return np.eye(len(covariance)) + (gradients * (gains - 1)) @ directions.T


def scaled_decoder(
    network: TalkingNetwork, matrix: np.ndarray, mean: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the decoder's float16 tensors whose output is mean + (x − mean) @ matrix.

    `matrix` is (S, S), `mean` (S,); x is the network's present output.
    """
    weight = network.decoder.weight.detach().cpu().numpy()
    bias = network.decoder.bias.detach().cpu().numpy()
    return {
        "decoder.weight": (matrix.T @ weight).astype(np.float16),
        "decoder.bias": (mean + (bias - mean) @ matrix).astype(np.float16),
    }


# ------------------------------------------------------------------------- start from weights


def read_start_weights(run: Run, config: TalkingConfig) -> StartWeights | None:
    """Return the weights that a run starts from, None for random ones; raise if they do not fit."""
    start = run.start_weights("talking")
    if start is None:
        return None
    models = run.models()
    use_log_mel = config.features == "log-mel"
    width = log_mel_encoder().width if use_log_mel else models.encoder.width
    names = list(models.face.expression_names)
    with check_compatible(start.path, "talking"):
        start.check(
            features=(start.settings["features"], config.features),
            feature_width=(len(start.tensors["normalise.running_mean"]), width),
            expression_names=(start.settings["expression_names"], names),
            future=(start.settings.get("future"), list(config.future) if config.future else None),
        )
    return start


def start_network(
    network: TalkingNetwork,
    tensors: dict[str, np.ndarray],
    start_styles: list[str],
    styles: list[str],
) -> None:
    """Give a network for `styles` the tensors of talking weights for `start_styles`.

    Styles are copied by name; new ones start as the default style, zeros.
    """
    state = network.state_dict()
    for name in state:
        if name == "normalise.num_batches_tracked":
            continue
        tensor = torch.from_numpy(tensors[name].astype(np.float32))
        if name in ("style.weight", "hidden.weight"):  # the last columns belong to the styles
            shared = tensor.shape[1] - len(start_styles)
            columns = torch.zeros(len(tensor), len(styles), device=tensor.device)
            for k, style in enumerate(styles):
                if style in start_styles:
                    columns[:, k] = tensor[:, shared + start_styles.index(style)]
            tensor = torch.cat([tensor[:, :shared], columns], 1)
        state[name] = tensor
    network.load_state_dict(state)


def encoder_part(start: StartWeights, encoder: SpeechEncoder) -> dict[str, np.ndarray]:
    """Return the changes of the encoder in talking weights; none if they are of another encoder."""
    if start.settings["encoder"] != encoder.fingerprint:
        return {}
    prefix = "encoder/"
    return {
        name.removeprefix(prefix): array
        for name, array in start.tensors.items()
        if name.startswith(prefix)
    }
