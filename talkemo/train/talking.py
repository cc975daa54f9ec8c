"""Stage 3: the talking model, trained on neutral speech with captured motion (3D-TalkEmo, section 3.3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import audio as sound
from ..audio import Audio
from ..data import facegood
from ..data.captures import Fitted, load_captures
from ..data.motion import from_rest
from ..data.sound import augment, mel_batch
from ..errors import InputError
from ..evaluation.metrics import pearson
from ..face import INNER_LIPS, MOUTH_CORNERS, Face
from ..files import read_npz, readable
from ..networks.speech_encoder import FEATURE_RATE, MARGIN, REACH, SAMPLES, SpeechEncoder, log_mel_encoder
from ..networks.talking import COMPONENTS, WINDOW, TalkingNetwork, talking_tensors, windows
from ..weights import check_compatible
from .loop import Loop, half_precision
from .objective import Objective
from .run import Run, StartWeights

NOISE = "noise"  # the corpus of sound without speech, made up here
PSEUDO_LABELLED = "pseudo_labelled"  # the corpus of sound without video, with motion that the speech stage predicted
UNLABELLED_ENDS = 6  # features at either end of a pseudo-labelled utterance whose motion is not known
NOISE_CLIPS = 40
NOISE_SECONDS = 10.0  # of each
GRADIENT_LIMIT = 50.0  # norm of the gradient above which it is scaled down
LOG_EVERY, SAVE_EVERY = 100, 1000  # steps


@dataclass(frozen=True)
class TalkingConfig:
    """Settings of the talking model's training."""

    features: str = "speech"  # or log-mel
    # Share of each corpus in a batch, of those that are there: many people who speak freely contribute more than one
    # who reads a grammar.
    shares: tuple[tuple[str, float], ...] = (
        ("talking", 0.44),
        ("grid_s1", 0.22),
        ("ravdess", 0.18),
        ("java_sed", 0.06),
        ("facegood", 0.06),
        (NOISE, 0.04),
        (PSEUDO_LABELLED, 0.4),
    )
    steps: int = 800
    batch: int = 32  # crops
    seconds: float = 2.0  # of a crop
    learning_rate: float = 1e-3  # Adam
    encoder_rate: float = 1e-4  # the same for the upper half of the speech encoder; 0 leaves it as it is
    decay: bool = True  # whether the rates fall, as a cosine, or stay
    # The saved upper half of the encoder is a mix of what it began with (0) and what was trained here (1): between the
    # two it serves unknown voices better than either (Wortsman et al. 2022, WiSE-FT).
    blend: float = 0.75
    augment: bool = True  # whether sound is put into rooms, over lines and with noise, see data.sound
    mouth: float = 4.0  # how much more the lips count than the rest of the face, in the position term; 0 as in VOCA
    gap: float = 0.3  # weight of the gaps between the lips and of the mouth's width, in the position term
    closure: float = 1.0  # weight of the opening of lips that should be closed, in the position term
    velocity: float = 10.0  # weight of the velocity term, as in VOCA
    even_out: bool = True  # whether people who open their mouths wide count no more than those who mumble
    style_dropout: float = 0.5  # share of crops shown without their style
    dropout: float = 0.4
    hold_out: int = 0  # every so many'th training speaker (clip, of a single speaker) is kept for the log's figures
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
    style_dropout=0.0,
)


def talking_config(seed: int, options: dict[str, Any]) -> TalkingConfig:
    """The settings of `talkemo train talking` with its options, see `run.train`."""
    config = PAPER if options.get("paper") else TalkingConfig()
    config = replace(config, seed=seed, hold_out=options.get("hold_out") or 0)
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


def train_talking(run: Run, config: TalkingConfig) -> Path:
    """Train on the corpora of a run; writes and returns `out`/talking.safetensors."""
    read_start(run, config)  # weights that cannot be started from are refused before the corpora are read
    return fit(gather(run, config), run, config)


# ------------------------------------------------------------------------------------------------------------ material


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording ready to be trained on."""

    samples: np.ndarray  # (N,) int16, at 16 kHz
    level: float  # of loud, see audio.loud_level
    time: np.ndarray  # (T,) s
    target: np.ndarray  # (T, S) coordinates
    style: int  # −1 for none
    corpus: str
    weight: float  # how much its errors count, see `even_out`
    feature: np.ndarray | None  # (T', D + 1) where features are not computed while training

    @property
    def audio(self) -> Audio:
        """The clip's sound as a recording."""
        held = self.samples.astype(np.float32) / 32768
        return Audio(None, len(held) / sound.SAMPLE_RATE, float(np.abs(held).max(initial=0.0)), held)


@dataclass(frozen=True, eq=False)
class Material:
    """What a talking model is trained on. checked: clips held out for the log's figures."""

    face: Face
    encoder: SpeechEncoder
    styles: list[str]
    clips: list[Clip]
    checked: list[Clip]


def gather(run: Run, config: TalkingConfig) -> Material:
    """The training split's neutral recordings with their sound, and with features unless they change in training.

    Noise and, where the speech stage left them in the run's folder, pseudo-labelled utterances are added.
    """
    models = run.models()
    face = models.face
    recordings = [r for r in neutral_recordings(run, config) if r.split == "train"]
    held = held_out(recordings, config.hold_out)
    recordings = [r for r in recordings if r.name not in held]
    styles = sorted({r.speaker for r in recordings})
    encoder = log_mel_encoder(device=models.device) if config.features == "log-mel" else models.encoder
    online = config.augment or config.encoder_rate > 0
    clips = []
    for number, r in enumerate(recordings):
        clips.append(make_clip(r, run.data, face, encoder, styles, online))
        run.report("sound", number + 1, len(recordings))
    if config.even_out:
        clips = even_out(clips, face)
    checked = [make_clip(r, run.data, face, encoder, styles, True) for r in held.values()]
    corpora = [name for name, _ in config.shares]
    utterances = run.out / f"{PSEUDO_LABELLED}.npz"
    if online and PSEUDO_LABELLED in corpora and utterances.is_file():
        clips += pseudo_labelled_clips(utterances, encoder, face)
    if NOISE in corpora:
        rng = np.random.default_rng(config.seed)
        clips += [noise_clip(encoder, len(face.span), online, rng) for _ in range(NOISE_CLIPS)]
    return Material(face, encoder, styles, clips, checked)


def neutral_recordings(run: Run, config: TalkingConfig) -> list[Fitted]:
    """Neutral recordings of the corpora of a config, both splits, from each person's rest."""
    corpora = [name for name, _ in config.shares]
    models = run.models()
    captured = tuple(name for name in corpora if name not in (NOISE, PSEUDO_LABELLED, facegood.CORPUS))
    recordings = load_captures(run.data, run.captures, models, captured, run.jobs, run.report)
    found = [r for r in from_rest(list(recordings), models.face) if r.emotion in ("neutral", "calm")]
    if facegood.CORPUS in corpora and (run.data / facegood.CORPUS).is_dir():
        found += facegood.read(run.data, models.face)
    return found


def held_out(recordings: list[Fitted], every: int) -> dict[str, Fitted]:
    """Recordings to measure while training, by name, none of them of the dev split.

    Those of every so many'th training speaker, and of a corpus with one speaker every so many'th clip, 40 at most.
    """
    if not every:
        return {}
    chosen = {}
    for corpus in {r.corpus for r in recordings} - {facegood.CORPUS}:
        of_corpus = [r for r in recordings if r.corpus == corpus]
        speakers = sorted({r.speaker for r in of_corpus})
        if len(speakers) == 1:
            chosen.update({r.name: r for r in of_corpus[::every][:40]})
        else:
            chosen.update({r.name: r for r in of_corpus if r.speaker in speakers[every // 2 :: every]})
    return chosen


def make_clip(r: Fitted, data: Path, face: Face, encoder: SpeechEncoder, styles: list[str], online: bool) -> Clip:
    """Read a recording's sound, and compute its features unless that is done `online`, while training."""
    audio = sound.open_audio(data / r.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype(np.int16)
    level = sound.loud_level(audio, encoder.filters)
    feature = None if online else encoder.features(audio)
    style = styles.index(r.speaker) if r.speaker in styles else -1
    target = r.capture.motion(face).coordinates
    return Clip(samples, level, r.capture.time, target, style, r.corpus, 1.0, feature)


def pseudo_labelled_clips(path: Path, encoder: SpeechEncoder, face: Face) -> list[Clip]:
    """The utterances of a file that `speech.save_pseudo_labelled` wrote."""
    kind, hint = "a file of pseudo-labelled sound", "remove the file to train without it"
    with readable(path, kind, hint):
        arrays = read_npz(path, kind)
        samples, motion, start = arrays["samples"], arrays["motion"].astype(np.float32), arrays["start"]
        if str(arrays.get("face")) != face.fingerprint:
            raise InputError(f"{path}: made with another face model", hint)
        if len(samples) != len(motion) * SAMPLES or start[-1] != len(motion) or motion.shape[1] != len(face.span):
            raise InputError(f"{path}: its arrays do not have matching lengths", hint)
    clips = []
    for first, last in pairwise(start):
        own = samples[first * SAMPLES : last * SAMPLES]
        padded = np.pad(own.astype(np.float32) / 32768, sound.FFT // 2)
        level = sound.reference_level(sound.log_mel(padded, encoder.filters).max(1))
        time = np.arange(UNLABELLED_ENDS, last - first - UNLABELLED_ENDS) / FEATURE_RATE
        target = motion[first + UNLABELLED_ENDS : last - UNLABELLED_ENDS]
        clips.append(Clip(own, level, time, target, -1, PSEUDO_LABELLED, 1.0, None))
    return clips


def even_out(clips: list[Clip], face: Face) -> list[Clip]:
    """Weigh squared errors by the inverse of each speaker's variance of the mouth opening, within limits."""
    of_speaker: dict[int, list[np.ndarray]] = {}
    for clip in clips:
        of_speaker.setdefault(clip.style, []).append(clip.target @ face.opening_row)
    variance = {style: float(np.concatenate(found).var()) for style, found in of_speaker.items()}
    usual = float(np.median(list(variance.values())))
    limit = lambda value: float(np.clip(value, 0.4, 2.5))
    return [replace(clip, weight=limit(usual / max(variance[clip.style], 1e-6))) for clip in clips]


def noise_clip(encoder: SpeechEncoder, coordinates: int, online: bool, rng: np.random.Generator) -> Clip:
    """Noise or silence, in which a face of `coordinates` rests."""
    count = int(NOISE_SECONDS * sound.SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count)) * np.arange(1, count // 2 + 2) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, count)
    if rng.random() < 0.5:  # gusts and clatter
        swell = np.interp(np.arange(count), np.linspace(0, count, 40), rng.uniform(0, 1, 40))
        noise = noise * swell**2
    noise = noise / np.abs(noise).max() * 10 ** rng.uniform(-3, -0.1) * (rng.random() < 0.85)
    bands = sound.log_mel(np.pad(noise.astype(np.float32), sound.FFT // 2), encoder.filters)
    time = np.arange(0.2, NOISE_SECONDS - 0.2, 1 / 30)
    rest = np.zeros((len(time), coordinates), np.float32)
    samples = (noise * 32767).astype(np.int16)
    clip = Clip(samples, sound.reference_level(bands.max(1)), time, rest, -1, NOISE, 1.0, None)
    return clip if online else replace(clip, feature=encoder.features(clip.audio))


# ------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, eq=False)
class Batch:
    """Frames of several crops, on the device of the network.

    window: (M, 16, D); style: (M, K) one-hot or zeros; target: (M, S); weight: (M,)
    pairs: (P, 2), rows of frames that follow each other
    """

    window: torch.Tensor
    style: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    pairs: torch.Tensor


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a clip. frames: (T,) their indices; first: index of its first feature, 0 at the clip's start."""

    clip: Clip
    frames: np.ndarray
    first: int


class ClipSampler:
    """Draws clips: a corpus by its share, then one of its clips by its length."""

    def __init__(self, clips: list[Clip], config: TalkingConfig):
        self.clips, self.batch = clips, config.batch
        self.by_corpus = [[k for k, c in enumerate(clips) if c.corpus == name] for name, _ in config.shares]
        shares = np.array([share if found else 0 for (_, share), found in zip(config.shares, self.by_corpus)])
        self.shares = shares / shares.sum()
        self.lengths = np.array([len(c.time) for c in clips], float)

    def draw(self, rng: np.random.Generator) -> list[Clip]:
        """The clips of a batch."""
        chosen = []
        for corpus in rng.choice(len(self.shares), self.batch, p=self.shares):
            inside = self.by_corpus[corpus]
            weight = self.lengths[inside]
            chosen.append(inside[rng.choice(len(inside), p=weight / weight.sum())])
        return [self.clips[k] for k in chosen]


def make_batch(
    clips: list[Clip],
    network: TalkingNetwork,
    encoder: torch.nn.Module,
    config: TalkingConfig,
    rng: np.random.Generator,
    device: torch.device,
) -> Batch:
    """A crop of each clip, with windows of features that `encoder` makes now or that the clip has already."""
    crops = [_crop(clip, config.seconds, rng) for clip in clips]
    length = int(config.seconds * FEATURE_RATE) + 2 * MARGIN
    if clips[0].feature is None:
        wave = torch.from_numpy(np.stack([_crop_sound(crop, length) for crop in crops])).to(device)
        levels = np.array([clip.level for clip in clips])
        mel = mel_batch(augment(wave, rng), rng, levels) if config.augment else mel_batch(wave, None, levels)
        with half_precision(device):
            feature = encoder(mel)[:, REACH:-REACH]
    else:
        feature = torch.from_numpy(np.stack([_crop_features(crop, length) for crop in crops])).to(device)
    feature = network.prepare(feature.float().flatten(0, 1)).unflatten(0, feature.shape[:2])
    window = []
    for crop, own in zip(crops, feature):
        times = torch.from_numpy(crop.clip.time[crop.frames] - crop.first / FEATURE_RATE).to(device)
        with half_precision(device):
            window.append((interpolation(times, length) @ own).unflatten(0, (len(times), WINDOW)))
    style = _styles(crops, network.style.in_features, config.style_dropout, rng)
    target = np.concatenate([crop.clip.target[crop.frames] for crop in crops])
    weight = np.concatenate([np.full(len(crop.frames), crop.clip.weight, np.float32) for crop in crops])
    on_device = [torch.from_numpy(array).to(device) for array in (style, target, weight, _following(crops))]
    return Batch(torch.cat(window), *on_device)


def _crop(clip: Clip, seconds: float, rng: np.random.Generator) -> Crop:
    """A random part of a clip, MARGIN features longer at either end than its frames."""
    latest = max(clip.time[0], clip.time[-1] - seconds)
    begin = rng.uniform(clip.time[0] - 1e-6, latest + 1e-6)
    frames = np.flatnonzero((clip.time >= begin) & (clip.time < begin + seconds))
    return Crop(clip, frames, int(np.floor(begin * FEATURE_RATE)) - MARGIN)


def _crop_sound(crop: Crop, length: int) -> np.ndarray:
    """The samples that `length` features of a crop depend on; silence beyond the clip."""
    start, stop = (crop.first - REACH) * SAMPLES, (crop.first + length + REACH) * SAMPLES
    part = crop.clip.samples[max(start, 0) : max(stop, 0)].astype(np.float32) / 32768
    before = max(0, -start)
    return np.pad(part, (before, max(0, stop - start - before - len(part))))


def _crop_features(crop: Crop, length: int) -> np.ndarray:
    """Features (length, D) of a crop, from the clip's own."""
    feature = crop.clip.feature
    assert feature is not None
    # Row k of a clip's features is at (k − MARGIN) / 50 s.
    index = np.arange(crop.first + MARGIN, crop.first + MARGIN + length)
    return feature[index.clip(0, len(feature) - 1), :-1]


def _styles(crops: list[Crop], styles: int, dropout: float, rng: np.random.Generator) -> np.ndarray:
    """One-hot styles (M, K) of the crops' frames; zeros for clips without one, and for some of those with one."""
    parts = []
    for crop in crops:
        one_hot = np.zeros((len(crop.frames), styles), np.float32)
        if crop.clip.style >= 0 and rng.random() >= dropout:
            one_hot[:, crop.clip.style] = 1
        parts.append(one_hot)
    return np.concatenate(parts)


def _following(crops: list[Crop]) -> np.ndarray:
    """Rows (P, 2) of frames that follow each other within a crop."""
    starts = np.cumsum([0, *(len(crop.frames) for crop in crops)])
    return np.concatenate([np.stack([np.arange(a, b - 1), np.arange(a + 1, b)], 1) for a, b in pairwise(starts)])


def interpolation(times: torch.Tensor, length: int) -> torch.Tensor:
    """`windows` of `length` features as a matrix (T·16, length): its gradient is another matrix product."""
    device = times.device
    index = windows(torch.arange(length, dtype=torch.float64, device=device)[:, None], times).flatten()
    low = index.floor().long().clamp(0, length - 2)
    matrix = torch.zeros(len(index), length, device=device)
    rows = torch.arange(len(index), device=device)
    matrix[rows, low] = (1 - (index - low)).float()
    matrix[rows, low + 1] = (index - low).float()
    return matrix


# ------------------------------------------------------------------------------------------------------------ training


def fit(material: Material, run: Run, config: TalkingConfig) -> Path:
    """Train on gathered material, which stays as it is; writes and returns `out`/talking.safetensors."""
    training = Training(material, run, config)
    loop = training.loop
    sampler = ClipSampler(material.clips, config)
    with loop.whole_steps():
        while loop.step < config.steps and not loop.out_of_time:
            loop.figures.add(training.step(sampler.draw(loop.rng), loop.rng))
            loop.step += 1
            if loop.step % LOG_EVERY == 0:
                loop.log(check(material.checked, training.network, training.encoder, material.face))
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
        self.device = material.encoder.device
        face, styles = material.face, material.styles
        start = read_start(run, config)
        torch.manual_seed(config.seed)
        network = TalkingNetwork(material.encoder.width, len(styles), len(face.span), config.dropout)
        start_decoder_at_components(network, torch.from_numpy(np.concatenate([c.target for c in material.clips])))
        if start:
            with check_compatible(start.path, "talking"):
                start_network(network, start.tensors, start.settings["styles"], styles)
        self.network = network.to(self.device)
        # A copy: what others share is not trained. Its upper half may have been trained along in the start, too.
        trained_along = config.encoder_rate > 0
        self.encoder = material.encoder.with_tensors(
            encoder_part(start, material.encoder) if start and trained_along else {}
        )
        self.upper = upper_tensors(self.encoder.network) if trained_along else []
        self.before = {name: tensor.clone() for name, tensor in self.encoder.network.state_dict().items()}
        for name, tensor in self.encoder.network.named_parameters():
            tensor.requires_grad_(name in self.upper)
        parameters = dict(self.encoder.network.named_parameters())
        groups: list[dict[str, Any]] = [{"params": [*self.network.parameters()], "lr": config.learning_rate}]
        modules: dict[str, torch.nn.Module] = {"network": self.network}
        if self.upper:
            groups.append({"params": [parameters[name] for name in self.upper], "lr": config.encoder_rate})
            modules["encoder"] = self.encoder.network
        self.optimiser = torch.optim.Adam(groups)
        settings = {**asdict(config), "steps": None, "face": face.fingerprint, "encoder": material.encoder.fingerprint}
        rng = np.random.default_rng(config.seed)
        self.loop = Loop("talking", run, modules, {"adam": self.optimiser}, settings, rng)
        self.objective = Objective(face, config.mouth, config.gap, config.closure, self.device)

    def step(self, clips: list[Clip], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One step of the optimiser on crops of clips; returns the losses."""
        if self.config.decay:
            fall = 0.5 + 0.5 * float(np.cos(np.pi * self.loop.step / self.config.steps))
            rates = (self.config.learning_rate, self.config.encoder_rate)
            for group, rate in zip(self.optimiser.param_groups, rates):
                group["lr"] = rate * fall
        self.network.train()
        batch = make_batch(clips, self.network, self.encoder.network, self.config, rng, self.device)
        with half_precision(self.device):
            output = self.network(batch.window, batch.style).float()
        position, velocity = self.objective(output, batch.target, batch.pairs, batch.weight)
        self.optimiser.zero_grad()
        (position + self.config.velocity * velocity).backward()
        trained = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, GRADIENT_LIMIT)
        self.optimiser.step()
        return {"position_mm2": position, "velocity_mm2": velocity}

    def save(self) -> Path:
        """Write the weights as they are."""
        material, config, loop = self.material, self.config, self.loop
        tensors = talking_tensors(self.network)
        if config.features == "log-mel":
            tensors["filters"] = material.encoder.filters
        now = self.encoder.network.state_dict()
        for name in self.upper:
            mixed = self.before[name].lerp(now[name], config.blend)
            tensors[f"encoder/{name}"] = mixed.detach().cpu().numpy().astype(np.float16)
        settings = {
            "features": config.features,
            "encoder": material.encoder.fingerprint,
            "styles": material.styles,
            "config": asdict(config),
            "frames": sum(len(clip.time) for clip in material.clips),
            "steps": loop.step,
            "minutes": round(loop.minutes, 1),
        }
        return self.run.save("talking", tensors, settings)


def upper_tensors(network: torch.nn.Module) -> list[str]:
    """Names of the upper half of a speech encoder's parameters."""
    blocks = len({name.split(".")[1] for name, _ in network.named_parameters() if name.startswith("blocks.")})
    upper = (*(f"blocks.{k}." for k in range(blocks // 2, blocks)), "norm.")
    return [name for name, _ in network.named_parameters() if name.startswith(upper)]


def start_decoder_at_components(network: TalkingNetwork, targets: torch.Tensor) -> None:
    """The decoder starts as the data's principal components and mean, scaled so that codes are about one."""
    mean = targets.mean(0)
    _, values, right = torch.linalg.svd(targets - mean, full_matrices=False)
    scale = values[:COMPONENTS] / len(targets) ** 0.5
    with torch.no_grad():
        network.decoder.weight.copy_((right[:COMPONENTS] * scale[:, None]).T)
        network.decoder.bias.copy_(mean)


def check(clips: list[Clip], network: TalkingNetwork, encoder: SpeechEncoder, face: Face) -> dict[str, float]:
    """Pearson r of mouth opening and width in the default style, the mean over the clips of each corpus."""
    if not clips:
        return {}
    network.eval()
    rows: dict[str, list[float]] = {}
    points = list(face.landmarks68[[*INNER_LIPS, *MOUTH_CORNERS]])
    rest, span = face.mean[points], face.span[:, points]
    for clip in clips:
        if clip.target.std() == 0:
            continue
        feature = torch.from_numpy(encoder.features(clip.audio)[:, :-1]).to(encoder.device)
        times = torch.from_numpy(clip.time + MARGIN / FEATURE_RATE).to(encoder.device)
        with torch.inference_mode():
            window = windows(network.prepare(feature), times)
            style = torch.zeros(len(window), network.style.in_features, device=encoder.device)
            found = rest + np.tensordot(network(window, style).cpu().numpy(), span, 1)
        wanted = rest + np.tensordot(clip.target, span, 1)
        for name, (a, b) in {"opening": (0, 1), "width": (2, 3)}.items():
            length = [np.linalg.norm(p[:, a] - p[:, b], axis=1) for p in (found, wanted)]
            rows.setdefault(f"{clip.corpus}_{name}", []).append(pearson(*length))
    return {name: float(np.mean(values)) for name, values in sorted(rows.items())}


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
            expression_names=(start.settings["expression_names"], list(models.face.expression_names)),
        )
    return start


def start_network(
    network: TalkingNetwork, tensors: dict[str, np.ndarray], their_styles: list[str], styles: list[str]
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
    """The encoder's tensors in talking weights; none where they belong to another encoder than this one."""
    if start.settings["encoder"] != encoder.fingerprint:
        return {}
    return {name[8:]: array for name, array in start.tensors.items() if name.startswith("encoder/")}
