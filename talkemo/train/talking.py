"""Stage 4: the talking model, trained on neutral speech with captured motion (3D-TalkEmo, section 3.3).

Besides the recordings it learns from hours of speech that nobody filmed, with the motion that the lips stage's teachers
give it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import facegood
from ..data.audio_augmentation import augment, mel_batch
from ..data.utterances import FREE_CORPORA
from ..evaluation.metrics import pearson
from ..face.canonical import INNER_LIPS, MOUTH_CORNERS, Face
from ..networks.speech_encoder import (
    FEATURE_RATE,
    MARGIN,
    SpeechEncoder,
    encoder_changes,
    log_mel_encoder,
)
from ..networks.talking import COMPONENTS, WINDOW, TalkingNetwork, talking_tensors, windows
from ..weights.files import check_compatible
from .batches import (
    CROP_CONTEXT_FEATURES,
    MIN_OPENING_SPREAD_MM,
    NOISE_CLIPS,
    NOISE_CORPUS,
    PSEUDO_LABELLED,
    Clip,
    ClipBatch,
    ClipSampler,
    captured_clips,
    even_out,
    make_clip_batch,
    noise_clip,
    pseudo_labelled_clips,
    split_recordings,
    with_features,
)
from .loop import Loop, cosine, half_precision
from .objective import Objective
from .run import Run, StartWeights
from .together import Together

GRADIENT_LIMIT = 50.0  # norm of the gradient above which it is scaled down
LOG_EVERY, CHECK_EVERY, SAVE_EVERY = 100, 500, 1000  # steps
SOME_FRAMES = 20_000  # of a corpus, that the first components of motion are computed from
LARGEST_GAIN = 1.5  # of the lips' motion
LARGE_BATCH, LARGE_STEPS = 32, 3000  # where a GPU is present
FREE_STEPS = 700  # at most, on the few people whose recordings are free


@dataclass(frozen=True)
class TalkingConfig:
    """Settings of the talking model's training."""

    features: str = "speech"  # or log-mel
    # Share of each corpus in a batch, of those that are there: many people who speak freely contribute more than one
    # who reads a grammar.
    shares: tuple[tuple[str, float], ...] = (
        ("talking", 0.44),
        ("grid_s1", 0.2),
        ("ravdess", 0.16),
        ("arabic_news", 0.2),
        ("java_sed", 0.08),
        ("facegood", 0.06),
        (NOISE_CORPUS, 0.04),
        (PSEUDO_LABELLED, 0.6),
    )
    steps: int = 1200
    batch: int = 12  # crops
    seconds: float = 4.0  # of a crop
    learning_rate: float = 1e-3  # Adam
    encoder_rate: float = (
        1e-4  # the same for the layers of the speech encoder; 0 leaves it as it is
    )
    decay: bool = True  # whether the rates fall, as a cosine, or stay
    augment: bool = (
        True  # whether sound is put into rooms, over lines and with noise, see data.sound
    )
    mouth: float = 4.0  # how much more the lips count than the rest of the face, in the position term; 0 as in VOCA
    gap: float = (
        0.3  # weight of the gaps between the lips and of the mouth's width, in the position term
    )
    closure: float = (
        1.0  # weight of the opening of lips that should be closed, in the position term
    )
    velocity: float = 10.0  # weight of the velocity term, as in VOCA
    even_out: bool = (
        True  # whether everybody's motion is brought to the usual size, see material.even_out
    )
    level: float | None = (
        None  # how much the mean of a crop's error counts; as each clip says, if None
    )
    amplitude: bool = (
        True  # whether the result is scaled to move the lips as widely as held-out people do
    )
    style_dropout: float = 0.5  # share of crops shown without their style
    dropout: float = 0.2
    # Every so many'th training speaker (clip, of a single speaker) is kept for the log's figures and the amplitude.
    hold_out: int = 8
    seed: int = 0


# The paper's own variant: two corpora, constant rates, VOCA's Adam, the lips' weight and nothing else.
PAPER = TalkingConfig(
    shares=(("ravdess", 0.5), ("grid_s1", 0.5)),
    steps=20000,
    batch=4,
    seconds=0.6,  # 64 frames a step, or nearly
    learning_rate=1e-4,
    decay=False,
    encoder_rate=0.0,
    augment=False,
    mouth=24.0,
    gap=0.0,
    closure=0.0,
    dropout=0.0,
    even_out=False,
    level=1.0,
    amplitude=False,
    style_dropout=0.0,
    hold_out=0,
)


def talking_config(seed: int, options: dict[str, Any]) -> TalkingConfig:
    """The settings of `talkemo train talking` with its options, see `run.train`."""
    config = PAPER if options.get("paper") else TalkingConfig()
    if options.get("large") and not options.get("paper"):
        config = replace(config, batch=LARGE_BATCH, steps=LARGE_STEPS)
    config = replace(config, seed=seed)
    if options.get("free"):
        config = replace(
            config, shares=free_shares(config.shares), steps=min(config.steps, FREE_STEPS)
        )
    if options.get("hold_out") is not None:
        config = replace(config, hold_out=options["hold_out"])
    if options.get("steps") is not None:
        config = replace(config, steps=options["steps"])
    if options.get("constant_weights"):
        config = replace(config, mouth=0.0, gap=0.0, closure=0.0)
    if options.get("log_mel"):
        others = tuple(share for share in config.shares if share[0] != PSEUDO_LABELLED)
        config = replace(config, features="log-mel", encoder_rate=0.0, shares=others)
    if options.get("freeze_encoder"):
        config = replace(config, encoder_rate=0.0)
    return config


def free_shares(shares: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """The shares of corpora that may be used for any purpose; what is filmed of them keeps its share together."""
    kept = (*FREE_CORPORA, facegood.CORPUS, NOISE_CORPUS, PSEUDO_LABELLED)
    filmed = lambda pairs: sum(
        share for name, share in pairs if name not in (NOISE_CORPUS, PSEUDO_LABELLED)
    )
    own = tuple(pair for pair in shares if pair[0] in kept)
    factor = filmed(shares) / filmed(own)
    return tuple(
        (name, share if name in (NOISE_CORPUS, PSEUDO_LABELLED) else factor * share)
        for name, share in own
    )


def train_talking(run: Run, config: TalkingConfig) -> Path:
    """Train on the corpora of a run; writes and returns `out`/talking.safetensors."""
    read_start(
        run, config
    )  # weights that cannot be started from are refused before the corpora are read
    return fit(gather(run, config), run, config)


# ------------------------------------------------------------------------------------------------------------ material


@dataclass(frozen=True, eq=False)
class Material:
    """What a talking model is trained on. checked: clips held out for the log's figures."""

    face: Face
    encoder: SpeechEncoder
    styles: list[str]
    clips: list[Clip]
    checked: list[Clip]


def gather(run: Run, config: TalkingConfig) -> Material:
    """The training split's recordings with their sound, and with features unless they change in training.

    Noise and, where the lips stage left them in the run's folder, pseudo-labelled utterances are added.
    """
    models = run.models()
    face = models.face
    encoder = (
        log_mel_encoder(device=models.device) if config.features == "log-mel" else models.encoder
    )
    recordings, held = split_recordings(run, config.shares, config.hold_out)
    styles = sorted({r.speaker for r in recordings})
    clips = captured_clips(run, recordings, face, encoder.filters, styles)
    checked = captured_clips(run, held, face, encoder.filters, styles)
    if config.even_out:
        clips = even_out(clips, face)
    if config.level is not None:
        clips = [replace(clip, mean=config.level) for clip in clips]
    names = [name for name, _ in config.shares]
    if NOISE_CORPUS in names:
        rng = np.random.default_rng(config.seed)
        clips += [noise_clip(encoder.filters, len(face.span), rng) for _ in range(NOISE_CLIPS)]
    if not (config.augment or config.encoder_rate > 0):
        clips = [with_features(clip, encoder) for clip in clips]
    elif PSEUDO_LABELLED in names:
        clips += pseudo_labelled_clips(run.prepared, run.labels, face)
    return Material(face, encoder, styles, clips, checked)


def windows_of(
    batch: ClipBatch,
    network: TalkingNetwork,
    encoder: torch.nn.Module,
    vary: bool,
    together: Together,
) -> torch.Tensor:
    """Windows (N, T, 16, D) of this process's rows of a batch.

    vary: whether the sound is put into rooms, over lines and with noise
    """
    if batch.wave is None:
        assert batch.feature is not None
        feature = together.part(batch.feature)
    else:
        # Voices are mixed, so that every process needs the sound of all of the batch.
        mel = together.part(
            mel_batch(augment(batch.wave) if vary else batch.wave, batch.levels, vary)
        )
        with half_precision(mel.device):
            feature = encoder(mel)[:, CROP_CONTEXT_FEATURES:-CROP_CONTEXT_FEATURES].float()
    feature = network.prepare(feature.flatten(0, 1)).unflatten(0, feature.shape[:2])
    with half_precision(feature.device):
        return (interpolation(together.part(batch.times), feature.shape[1]) @ feature).unflatten(
            1, (-1, WINDOW)
        )


def interpolation(times: torch.Tensor, length: int) -> torch.Tensor:
    """`windows` of `length` features at times (N, T) as matrices (N, T·16, length): their gradient is a product, too."""
    device = times.device
    index = windows(
        torch.arange(length, dtype=torch.float64, device=device)[:, None], times.flatten()
    )
    index = index.reshape(len(times), -1, 1).float()
    columns = torch.arange(length, dtype=torch.float32, device=device)
    return (1 - (index - columns).abs()).clamp_min(0)


# ------------------------------------------------------------------------------------------------------------ training


def fit(material: Material, run: Run, config: TalkingConfig) -> Path:
    """Train on gathered material, which stays as it is; writes and returns `out`/talking.safetensors."""
    training = Training(material, run, config)
    loop = training.loop
    sampler = ClipSampler(material.clips, replace(config, batch=config.batch * run.together.count))
    with loop.whole_steps():
        while loop.step < config.steps and not loop.out_of_time:
            loop.figures.add(training.step(sampler.draw(loop.rng), loop.rng))
            loop.step += 1
            if (
                loop.step % (CHECK_EVERY if material.checked else LOG_EVERY) == 0
                or loop.step == config.steps
            ):
                loop.log(check(material.checked, training.network, training.encoder, material.face))
            if loop.step % LOG_EVERY == 0:
                run.report("talking", loop.step, config.steps)
            if loop.step % SAVE_EVERY == 0:
                training.save()
            loop.end_step()
    loop.save()
    return training.save()


class Training:
    """The networks and the optimiser of one training, and their checkpoints."""

    def __init__(self, material: Material, run: Run, config: TalkingConfig):
        self.material, self.run, self.config = material, run, config
        self.device, self.together = material.encoder.device, run.together
        face, styles = material.face, material.styles
        start = read_start(run, config)
        torch.manual_seed(config.seed)
        network = TalkingNetwork(
            material.encoder.width, len(styles), len(face.span), config.dropout
        )
        start_decoder_at_components(network.decoder, some_targets(material.clips))
        if start:
            with check_compatible(start.path, "talking"):
                start_network(network, start.tensors, start.settings["styles"], styles)
        self.together.share_statistics(network)
        self.network = network.to(self.device)
        # A copy: what others share is not trained. It may have been trained along in the start, too.
        trained_along = config.encoder_rate > 0
        self.encoder = material.encoder.changed(
            encoder_part(start, material.encoder) if start and trained_along else {}
        )
        self.along = tensors_trained_along(self.encoder.network) if trained_along else []
        for name, tensor in self.encoder.network.named_parameters():
            tensor.requires_grad_(name in self.along)
        parameters = dict(self.encoder.network.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [*self.network.parameters()], "lr": config.learning_rate}
        ]
        modules: dict[str, torch.nn.Module] = {"network": self.network}
        if self.along:
            groups.append(
                {"params": [parameters[name] for name in self.along], "lr": config.encoder_rate}
            )
            modules["encoder"] = self.encoder.network
        self.optimiser = torch.optim.Adam(groups)
        settings = {
            **asdict(config),
            "steps": None,
            "face": face.fingerprint,
            "encoder": material.encoder.fingerprint,
        }
        rng = np.random.default_rng(config.seed)
        self.loop = Loop("talking", run, modules, {"adam": self.optimiser}, settings, rng)
        self.objective = Objective(face, config.mouth, config.gap, config.closure, self.device)

    def step(self, clips: list[Clip], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One step of the optimiser on crops of clips; returns the losses."""
        if self.config.decay:
            fall = cosine(self.loop.step / self.config.steps)
            rates = (self.config.learning_rate, self.config.encoder_rate)
            for group, rate in zip(self.optimiser.param_groups, rates):
                group["lr"] = rate * fall
        self.network.train()
        config, styles = self.config, self.network.style.in_features
        batch = make_clip_batch(
            clips, config.seconds, styles, config.style_dropout, rng, self.device
        )
        window = windows_of(
            batch, self.network, self.encoder.network, config.augment, self.together
        )
        style = self.together.part(batch.style)[:, None].expand(-1, window.shape[1], -1)
        with half_precision(self.device):
            output = self.network(window.flatten(0, 1), style.flatten(0, 1)).float()
        output = self.together.whole(output.unflatten(0, window.shape[:2]))
        position, velocity = self.objective(output, batch.target, batch.inside, batch.mean)
        self.optimiser.zero_grad()
        self.together.share(position + self.config.velocity * velocity).backward()
        trained = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        self.together.add_up(trained)
        torch.nn.utils.clip_grad_norm_(trained, GRADIENT_LIMIT)
        self.optimiser.step()
        return {"position_mm2": position, "velocity_mm2": velocity}

    def save(self) -> Path:
        """Write the weights as they are."""
        material, config, loop = self.material, self.config, self.loop
        tensors = talking_tensors(self.network)
        if config.amplitude and material.checked:
            gain, middle = amplitude(material.checked, self.network, self.encoder, material.face)
            tensors |= scaled_decoder(self.network, gain, middle)
        if config.features == "log-mel":
            tensors["filters"] = material.encoder.filters
        changes = encoder_changes(self.encoder.network, material.encoder.network, self.along)
        tensors |= {f"encoder/{name}": change for name, change in changes.items()}
        settings = {
            "features": config.features,
            "encoder": material.encoder.fingerprint,
            "styles": material.styles,
            "config": asdict(config),
            "frames": sum(len(clip.time) for clip in material.clips),
            "steps": loop.step,
        }
        return self.run.save("talking", tensors, settings)


def tensors_trained_along(network: torch.nn.Module) -> list[str]:
    """Names of a speech encoder's parameters that the motion may change: all layers above its convolutions."""
    return [name for name, _ in network.named_parameters() if name.startswith(("blocks.", "norm."))]


def some_targets(clips: list[Clip]) -> torch.Tensor:
    """Coordinates (M, S) of some frames of every corpus."""
    of_corpus: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        of_corpus.setdefault(clip.corpus, []).append(clip.target)
    joined = [np.concatenate(found[:: -(-len(found) // 1000)]) for found in of_corpus.values()]
    parts = [every[:: -(-len(every) // SOME_FRAMES)] for every in joined]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def start_decoder_at_components(decoder: torch.nn.Linear, targets: torch.Tensor) -> None:
    """The decoder starts as the data's principal components and mean, scaled so that codes are about one."""
    mean = targets.mean(0)
    _, values, right = torch.linalg.svd(targets - mean, full_matrices=False)
    scale = values[:COMPONENTS] / len(targets) ** 0.5
    with torch.no_grad():
        decoder.weight[:, : len(scale)] = (right[:COMPONENTS] * scale[:, None]).T
        decoder.bias.copy_(mean)


def check(
    clips: list[Clip], network: TalkingNetwork, encoder: SpeechEncoder, face: Face
) -> dict[str, float]:
    """Pearson r of mouth opening and width in the default style, the mean over the clips of each corpus."""
    return mean_correlations(clips, predictions(clips, network, encoder), face)


def mean_correlations(
    clips: list[Clip], motions: Iterable[np.ndarray], face: Face
) -> dict[str, float]:
    """Pearson r of the mouth's opening and width in a motion (T, S) of each clip, the mean over those of each corpus."""
    rows: dict[str, list[float]] = {}
    for clip, found in zip(clips, motions):
        for name, value in correlations(found, clip.target, face).items():
            rows.setdefault(f"{clip.corpus}_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(rows.items())}


def correlations(found: np.ndarray, wanted: np.ndarray, face: Face) -> dict[str, float]:
    """Pearson r of the mouth's opening and width in two motions' coordinates (T, S)."""
    points = list(face.landmarks68[[*INNER_LIPS, *MOUTH_CORNERS]])
    rest, span = face.mean[points], face.span[:, points]
    result = {}
    both = [rest + np.tensordot(coordinates, span, 1) for coordinates in (found, wanted)]
    for name, (a, b) in {"opening": (0, 1), "width": (2, 3)}.items():
        result[name] = pearson(*(np.linalg.norm(p[:, a] - p[:, b], axis=1) for p in both))
    return result


def predictions(
    clips: list[Clip], network: TalkingNetwork, encoder: SpeechEncoder
) -> Iterator[np.ndarray]:
    """Coordinates (T, S) that a network gives each clip in the default style."""
    network.eval()
    for clip in clips:
        feature = torch.from_numpy(encoder.features(clip.audio)[:, :-1]).to(encoder.device)
        times = torch.from_numpy(clip.time + MARGIN / FEATURE_RATE).to(encoder.device)
        with torch.inference_mode():
            window = windows(network.prepare(feature), times)
            style = torch.zeros(len(window), network.style.in_features, device=encoder.device)
            yield network(window, style).cpu().numpy()


def amplitude(
    clips: list[Clip], network: TalkingNetwork, encoder: SpeechEncoder, face: Face
) -> tuple[float, np.ndarray]:
    """By how much the lips of clips move more widely than predicted, the median; and the mean prediction (S,).

    A network that is trained on squared errors moves less than people do: what it cannot know it leaves out.
    """
    ratios, means = [], []
    for clip, found in zip(clips, predictions(clips, network, encoder)):
        wanted = (clip.target @ face.opening_row).std()
        ratios.append(wanted / max((found @ face.opening_row).std(), MIN_OPENING_SPREAD_MM))
        means.append(found.mean(0))
    return float(np.clip(np.median(ratios), 1, LARGEST_GAIN)), np.mean(means, axis=0)


def scaled_decoder(
    network: TalkingNetwork, gain: float, middle: np.ndarray
) -> dict[str, np.ndarray]:
    """The decoder's tensors, as a weights file keeps them, that move `gain` times as far from the middle (S,)."""
    weight, bias = (
        network.decoder.weight.detach().cpu().numpy(),
        network.decoder.bias.detach().cpu().numpy(),
    )
    return {
        "decoder.weight": (gain * weight).astype(np.float16),
        "decoder.bias": (gain * bias + (1 - gain) * middle).astype(np.float16),
    }


# ------------------------------------------------------------------------------------------- starting from weights


def read_start(run: Run, config: TalkingConfig) -> StartWeights | None:
    """The weights that a run starts from, None for random ones.

    Raises InputError where they were trained on other features or for a face with other blend shapes.
    """
    start = run.start_weights("talking")
    if start is None:
        return None
    models = run.models()
    width = log_mel_encoder().width if config.features == "log-mel" else models.encoder.width
    with check_compatible(start.path, "talking"):
        start.check(
            features=(start.settings["features"], config.features),
            feature_width=(len(start.tensors["normalise.running_mean"]), width),
            expression_names=(
                start.settings["expression_names"],
                list(models.face.expression_names),
            ),
        )
    return start


def start_network(
    network: TalkingNetwork,
    tensors: dict[str, np.ndarray],
    their_styles: list[str],
    styles: list[str],
) -> None:
    """Give a network the tensors of talking weights, styles by name; a new style begins as the default one, zeros."""
    state = network.state_dict()
    for name in state:
        if name == "normalise.num_batches_tracked":
            continue
        tensor = torch.from_numpy(tensors[name].astype(np.float32))
        if name in ("style.weight", "hidden.weight"):  # the last columns belong to the styles
            shared = tensor.shape[1] - len(their_styles)
            columns = torch.zeros(len(tensor), len(styles), device=tensor.device)
            for k, style in enumerate(styles):
                if style in their_styles:
                    columns[:, k] = tensor[:, shared + their_styles.index(style)]
            tensor = torch.cat([tensor[:, :shared], columns], 1)
        state[name] = tensor
    network.load_state_dict(state)


def encoder_part(start: StartWeights, encoder: SpeechEncoder) -> dict[str, np.ndarray]:
    """How talking weights change the encoder; not at all where they belong to another encoder than this one."""
    if start.settings["encoder"] != encoder.fingerprint:
        return {}
    return {name[8:]: array for name, array in start.tensors.items() if name.startswith("encoder/")}
