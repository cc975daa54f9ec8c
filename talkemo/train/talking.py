"""Stage 3: the talking model, on neutral speech with captured motion (3D-TalkEmo, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import encoder, metrics, speech
from ..capture.landmarks import LIP_PAIRS
from ..data import facegood
from ..data.captures import Fitted, captures
from ..data.motion import from_rest
from ..data.sound import augment, mel_batch
from ..encoder import MARGIN, RATE, REACH, SAMPLES, SpeechEncoder
from ..errors import InputError
from ..face import Face, orthonormal_span
from ..files import read_npz, readable
from ..talking import COMPONENTS, WINDOW, TalkingNetwork, save_talking, windows
from .loop import Loop, half_precision

NOISE = "noise"  # the corpus of sound that is no speech
TAUGHT = "taught"  # the corpus of voices that nobody filmed, with the motion that the speech encoder's teacher tells
CORNERS = (48, 54)
EDGE = 6  # features
TOGETHER = 1.5  # mm that lips which count as together are further apart than at rest


@dataclass(frozen=True)
class TalkingConfig:
    """Settings of the talking model's training."""

    features: str = "speech"  # or log-mel
    # Share of each corpus in a batch, of those that are there: many people speaking freely teach more than one reading
    # a grammar.
    shares: tuple[tuple[str, float], ...] = (
        ("talking", 0.44),
        ("grid_s1", 0.22),
        ("ravdess", 0.18),
        ("java_sed", 0.06),
        ("facegood", 0.06),
        (NOISE, 0.04),
        (TAUGHT, 0.4),
    )
    steps: int = 800
    batch: int = 32  # crops
    seconds: float = 2.0  # of a crop
    learning_rate: float = 1e-3  # Adam
    encoder_rate: float = 1e-4  # the same for the upper half of the speech encoder; 0 leaves it as it is
    decay: bool = True  # whether the rates fall, as a cosine, or stay
    # How much of what the encoder's upper half has learnt here is kept, the rest being what it came with: between the two
    # it serves strangers better than either (Wortsman et al. 2022, WiSE-FT).
    blend: float = 0.75
    augment: bool = True
    mouth: float = 4.0  # how much more the lips count than the rest of the face, in the position term; 0 as in VOCA
    gap: float = 0.3  # weight of the gaps between the lips and of the mouth's width, in the position term
    closure: float = 1.0  # weight of the gap between lips that are together: a b whose lips do not meet is no b
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


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording ready to be trained on."""

    samples: np.ndarray  # (N,) int16
    level: float  # of loud, see speech.loud_level
    time: np.ndarray  # (T,) s
    target: np.ndarray  # (T, S)
    style: int  # −1 for none
    corpus: str
    weight: float  # how much its errors count, see `even_out`
    feature: np.ndarray | None  # (T', D + 1) where the encoder is not trained along


def train_talking(
    face: Face,
    data: Path,
    out: Path,
    config: TalkingConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    face_path: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train on the corpora under `data`; captures are read from `out`/captures and made there where missing.

    The speech encoder is `out`/speech.safetensors where it is there, the bundled one otherwise. Writes and returns
    `out`/talking.safetensors.
    """
    encoder_path, taught = out / "speech.safetensors", out / "taught.npz"
    material = gather(face, data, out / "captures", config, encoder_path, taught, face_path, jobs, progress)
    return fit(material, out, config, resume, max_minutes, progress)


@dataclass(frozen=True, eq=False)
class Material:
    """What a talking model is trained on, and what is held out to look at."""

    face: Face
    ear: SpeechEncoder
    span: np.ndarray
    styles: list[str]
    clips: list[Clip]
    checked: list[Clip]


def gather(
    face: Face,
    data: Path,
    cache: Path,
    config: TalkingConfig,
    encoder_path: Path | None = None,
    taught: Path | None = None,
    face_path: str | None = None,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Material:
    """The training split's neutral recordings with their sound, and their features unless the encoder learns too.

    taught: what `train_speech` left for this stage, voices that nobody filmed.
    """
    recordings = neutral_recordings(face, data, cache, config, face_path, jobs, progress)
    recordings = [r for r in recordings if r.split == "train"]
    held = held_out(recordings, config.hold_out)
    recordings = [r for r in recordings if r.name not in held]
    styles = sorted({r.speaker for r in recordings})
    if config.features == "log-mel":
        ear = encoder.log_mel_encoder()
    else:
        ear = encoder.load_encoder(encoder_path if encoder_path and encoder_path.is_file() else None)
    # The encoder's upper half may be trained along: not on what others share.
    ear = ear.with_tensors({})
    span, triangle = orthonormal_span(face)
    online = config.augment or config.encoder_rate > 0
    clips = []
    for number, r in enumerate(recordings):
        clips.append(make_clip(r, data, ear, triangle, styles, online))
        if progress:
            progress("sound", number + 1, len(recordings))
    if config.even_out:
        clips = even_out(clips, face, span)
    checked = [make_clip(r, data, ear, triangle, styles, True) for r in held.values()]
    if online and taught and taught.is_file() and any(name == TAUGHT for name, _ in config.shares):
        clips += taught_clips(taught, ear, face, len(span))
    if any(name == NOISE for name, _ in config.shares):
        rng = np.random.default_rng(config.seed)
        clips += [noise_clip(ear, len(span), online, rng) for _ in range(40)]
    return Material(face, ear, span, styles, clips, checked)


def fit(
    material: Material,
    out: Path,
    config: TalkingConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train on gathered material; writes and returns `out`/talking.safetensors."""
    face, ear, span, styles, clips = material.face, material.ear, material.span, material.styles, material.clips
    torch.manual_seed(config.seed)
    network = TalkingNetwork(ear.width, len(styles), len(span), config.dropout)
    start_decoder_at_components(network, torch.from_numpy(np.concatenate([c.target for c in clips])))
    listener, heard_through = ear.network, ear.fingerprint
    upper = upper_tensors(listener) if config.encoder_rate > 0 else set()
    before = {name: tensor.clone() for name, tensor in listener.state_dict().items()}
    for name, tensor in listener.named_parameters():
        tensor.requires_grad_(name in upper)
    groups: list[dict[str, Any]] = [{"params": [*network.parameters()], "lr": config.learning_rate}]
    if upper:
        groups.append({"params": [p for n, p in listener.named_parameters() if n in upper], "lr": config.encoder_rate})
    optimiser = torch.optim.Adam(groups)
    modules: dict[str, torch.nn.Module] = {"network": network, **({"encoder": listener} if upper else {})}
    loop = Loop("talking", out, modules, {"adam": optimiser}, resume, max_minutes, {**asdict(config), "steps": None})
    rng = np.random.default_rng(config.seed + loop.step)
    objective = Objective(face, span, config)
    by_corpus = [[k for k, c in enumerate(clips) if c.corpus == name] for name, _ in config.shares]
    shares = np.array([share if found else 0 for (_, share), found in zip(config.shares, by_corpus)])
    shares /= shares.sum()
    lengths = np.array([len(c.time) for c in clips], float)

    def save() -> Path:
        path = out / "talking.safetensors"
        about = {
            "features": config.features,
            "encoder": heard_through,
            "styles": styles,
            "config": asdict(config),
            "frames": int(lengths.sum()),
            "steps": loop.step,
            "minutes": round(loop.minutes, 1),
        }
        own = {name: before[name].lerp(listener.state_dict()[name], config.blend) for name in upper}
        save_talking(path, network, own, about, ear.filters if config.features == "log-mel" else None)
        return path

    sums, summed = torch.zeros(2), 0
    while loop.step < config.steps and not loop.out_of_time:
        if config.decay:
            fall = 0.5 + 0.5 * float(np.cos(np.pi * loop.step / config.steps))
            for group, rate in zip(optimiser.param_groups, (config.learning_rate, config.encoder_rate)):
                group["lr"] = rate * fall
        network.train()
        chosen = []
        for corpus in rng.choice(len(shares), config.batch, p=shares):
            inside = by_corpus[corpus]
            chosen.append(inside[rng.choice(len(inside), p=lengths[inside] / lengths[inside].sum())])
        window, target, style, pairs, weight = _batch(
            [clips[k] for k in chosen], network, listener, len(styles), config, rng
        )
        with half_precision():
            output = network(window, style).float()
        position, velocity = objective(output, target, pairs, weight)
        optimiser.zero_grad()
        (position + config.velocity * velocity).backward()
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 50.0)
        optimiser.step()
        sums, summed = sums + torch.stack([position, velocity]).detach(), summed + 1
        loop.step += 1
        if loop.step % 100 == 0:
            figures = {"position_mm2": float(sums[0]) / summed, "velocity_mm2": float(sums[1]) / summed}
            loop.log(**figures, **check(material.checked, network, listener, span, face))
            sums, summed = torch.zeros(2), 0
            if progress:
                progress("talking", loop.step, config.steps)
        if loop.step % 1000 == 0:
            loop.save()
            save()
    loop.save()
    return save()


def neutral_recordings(face, data, cache, config, face_path, jobs, progress) -> list[Fitted]:
    """Neutral recordings of the corpora of a config, both splits, from each person's rest."""
    names = tuple(name for name, _ in config.shares if name not in (NOISE, TAUGHT, facegood.CORPUS))
    found = from_rest(list(captures(data, cache, names, face_path, jobs, progress)), face)
    found = [r for r in found if r.emotion in ("neutral", "calm")]
    if any(name == facegood.CORPUS for name, _ in config.shares) and (data / facegood.CORPUS).is_dir():
        found += facegood.read(data, face)
    return found


def held_out(recordings: list[Fitted], every: int) -> dict[str, Fitted]:
    """Recordings to look at while training, none of the dev split's: those of every so many'th training speaker, and
    of a corpus with one speaker every so many'th clip."""
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


def make_clip(r: Fitted, data: Path, ear: SpeechEncoder, triangle: np.ndarray, styles: list[str], online: bool) -> Clip:
    """Read a recording's sound; its features too unless they are made `online`."""
    audio = speech.open_audio(data / r.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype(np.int16)
    level = speech.loud_level(audio, ear.filters)
    feature = None if online else ear.features(audio)
    style = styles.index(r.speaker) if r.speaker in styles else -1
    return Clip(samples, level, r.capture.time, r.capture.shapes @ triangle, style, r.corpus, 1.0, feature)


def taught_clips(path: Path, ear: SpeechEncoder, face: Face, coordinates: int) -> list[Clip]:
    """The utterances that `speech.save_taught` wrote."""
    arrays = read_npz(path, "sound with taught motion")
    with readable(path, "sound with taught motion"):
        samples, motion, start = arrays["samples"], arrays["motion"].astype(np.float32), arrays["start"]
        if str(arrays.get("face")) != face.fingerprint:
            raise InputError(f"{path}: made with another face model", "remove the file to train without it")
        if len(samples) != len(motion) * SAMPLES or start[-1] != len(motion) or motion.shape[1] != coordinates:
            raise InputError(f"{path}: damaged", "remove the file to train without it")
    clips = []
    for first, last in pairwise(start):
        sound = samples[first * SAMPLES : last * SAMPLES]
        padded = np.pad(sound.astype(np.float32) / 32768, speech.FFT // 2)
        level = speech.reference_level(speech.log_mel(padded, ear.filters).max(1))
        # The motion at an utterance's very ends is not known: there the teacher's features are not.
        time = np.arange(EDGE, last - first - EDGE) / RATE
        clips.append(Clip(sound, level, time, motion[first + EDGE : last - EDGE], -1, TAUGHT, 1.0, None))
    return clips


def opening_rows(face: Face, span: np.ndarray) -> np.ndarray:
    """(S,) mm that a unit of each coordinate in the span (S, V·3) opens the middle of the lips, upwards."""
    return face.lip_opening(span.reshape(len(span), -1, 3))


def even_out(clips: list[Clip], face: Face, span: np.ndarray) -> list[Clip]:
    """Weigh squared errors by the inverse of each speaker's own variance of the mouth opening, within limits."""
    across = opening_rows(face, span)
    of_speaker: dict[int, list[np.ndarray]] = {}
    for clip in clips:
        of_speaker.setdefault(clip.style, []).append(clip.target @ across)
    variance = {style: float(np.concatenate(found).var()) for style, found in of_speaker.items()}
    usual = float(np.median(list(variance.values())))
    limit = lambda value: float(np.clip(value, 0.4, 2.5))
    return [replace(clip, weight=limit(usual / max(variance[clip.style], 1e-6))) for clip in clips]


def noise_clip(ear: SpeechEncoder, coordinates: int, online: bool, rng: np.random.Generator) -> Clip:
    """Ten seconds of noise or of nothing, in which a face rests."""
    count = 10 * speech.SAMPLE_RATE
    spectrum = np.fft.rfft(rng.standard_normal(count)) * np.arange(1, count // 2 + 2) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, count)
    if rng.random() < 0.5:  # gusts and clatter
        swell = np.interp(np.arange(count), np.linspace(0, count, 40), rng.uniform(0, 1, 40))
        noise = noise * swell**2
    noise = noise / np.abs(noise).max() * 10 ** rng.uniform(-3, -0.1) * (rng.random() < 0.85)
    filters = ear.filters
    padded = np.pad(noise.astype(np.float32), speech.FFT // 2)
    bands = speech.log_mel(padded, filters)
    level = speech.reference_level(bands.max(1))
    feature = None
    if not online:
        rows = speech.normalise(bands, level)[: count // speech.HOP // 2 * 2]
        edge = np.zeros((2 * (REACH + MARGIN), len(filters)), np.float32)
        feature = ear.hear(np.concatenate([edge, rows, edge]))
    time = np.arange(0.2, 9.8, 1 / 30)
    rest = np.zeros((len(time), coordinates), np.float32)
    return Clip((noise * 32767).astype(np.int16), level, time, rest, -1, NOISE, 1.0, feature)


def _batch(
    clips: list[Clip],
    network: TalkingNetwork,
    listener: torch.nn.Module,
    styles: int,
    config: TalkingConfig,
    rng: np.random.Generator,
):
    """Crops of clips as windows (M, 16, D), targets (M, S), styles (M, K), rows (P, 2) of frames that follow each other,
    and weights (M,)."""
    length = int(config.seconds * RATE) + 2 * MARGIN  # features of a crop
    rows, firsts, waves = [], [], []
    for clip in clips:
        latest = max(clip.time[0], clip.time[-1] - config.seconds)
        begin = rng.uniform(clip.time[0] - 1e-6, latest + 1e-6)
        rows.append(np.flatnonzero((clip.time >= begin) & (clip.time < begin + config.seconds)))
        firsts.append(int(np.floor(begin * RATE)) - MARGIN)
    if clips[0].feature is None:
        for clip, first in zip(clips, firsts):
            start, stop = (first - REACH) * SAMPLES, (first + length + REACH) * SAMPLES
            part = clip.samples[max(start, 0) : max(stop, 0)].astype(np.float32) / 32768
            before = max(0, -start)
            waves.append(np.pad(part, (before, max(0, stop - start - before - len(part)))))
        wave = torch.from_numpy(np.stack(waves))
        levels = np.array([clip.level for clip in clips])
        if config.augment:
            mel = mel_batch(augment(wave, rng), rng, levels)
        else:
            mel = mel_batch(wave, None, levels)
        with half_precision():
            feature = listener(mel)[:, REACH:-REACH]
    else:
        parts = []
        for clip, first in zip(clips, firsts):
            assert clip.feature is not None
            # Row k of a feature table is at (k − MARGIN) / 50 s.
            index = np.clip(np.arange(first + MARGIN, first + MARGIN + length), 0, len(clip.feature) - 1)
            parts.append(clip.feature[index, :-1])
        feature = torch.from_numpy(np.stack(parts))
    feature = network.prepare(feature.float().flatten(0, 1)).unflatten(0, feature.shape[:2])
    window, target, style, pairs, weight, count = [], [], [], [], [], 0
    for number, (clip, row, first) in enumerate(zip(clips, rows, firsts)):
        times = torch.from_numpy(clip.time[row] - first / RATE)
        with half_precision():
            window.append((interpolation(times, length) @ feature[number]).unflatten(0, (len(row), WINDOW)))
        target.append(torch.from_numpy(clip.target[row]))
        one_hot = torch.zeros(len(row), styles)
        if clip.style >= 0 and rng.random() >= config.style_dropout:
            one_hot[:, clip.style] = 1
        style.append(one_hot)
        pairs.append(np.stack([np.arange(len(row) - 1), np.arange(1, len(row))], 1) + count)
        weight.append(torch.full((len(row),), clip.weight))
        count += len(row)
    every = torch.from_numpy(np.concatenate(pairs))
    return torch.cat(window), torch.cat(target), torch.cat(style), every, torch.cat(weight)


def interpolation(times: torch.Tensor, length: int) -> torch.Tensor:
    """`talking.windows` of `length` features as a matrix (T·16, length): its gradient is another matrix product."""
    index = windows(torch.arange(length, dtype=torch.float64)[:, None], times).flatten()
    low = index.floor().long().clamp(0, length - 2)
    matrix = torch.zeros(len(index), length)
    rows = torch.arange(len(index))
    matrix[rows, low] = (1 - (index - low)).float()
    matrix[rows, low + 1] = (index - low).float()
    return matrix


class Objective:
    """Position and velocity terms over all vertices, in mm², of coordinates in the span."""

    def __init__(self, face: Face, span: np.ndarray, config: TalkingConfig):
        # A weighted sum of squares over all vertices is a quadratic form of the coordinates; its root makes it a norm.
        weight = 1 + config.mouth * face.mouth_weight
        gram = _gram(span, weight / weight.sum())
        if config.gap:
            points = span.reshape(len(span), -1, 3)
            for a, b in (*LIP_PAIRS, CORNERS):
                across = points[:, face.landmarks68[a]] - points[:, face.landmarks68[b]]
                gram += config.gap / 4 * across @ across.T
        self.closure = config.closure
        self.across = torch.from_numpy(opening_rows(face, span)).float()
        self.position = _root(gram)
        self.even = _root(_gram(span, np.full(len(weight), 1 / len(weight))))

    def __call__(
        self, output: torch.Tensor, target: torch.Tensor, pairs: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        error = output - target
        squared = (error @ self.position).square().sum(1)
        if self.closure:
            together = (target @ self.across < TOGETHER).float()
            squared = squared + self.closure * (error @ self.across).square() * together
        change = ((error[pairs[:, 1]] - error[pairs[:, 0]]) @ self.even).square().sum(1)
        return (squared * weight).mean(), (change * weight[pairs[:, 1]]).mean()


def _gram(span: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return ((span * np.repeat(weight, 3).astype(np.float32)) @ span.T).astype(np.float64)


def _root(gram: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.cholesky(gram + 1e-9 * np.eye(len(gram)))).float()


def upper_tensors(network: torch.nn.Module) -> set[str]:
    """Names of the upper half of a speech encoder's parameters."""
    blocks = len({name.split(".")[1] for name, _ in network.named_parameters() if name.startswith("blocks.")})
    upper = (*(f"blocks.{k}." for k in range(blocks // 2, blocks)), "norm.")
    return {name for name, _ in network.named_parameters() if name.startswith(upper)}


def start_decoder_at_components(network: TalkingNetwork, targets: torch.Tensor) -> None:
    """The decoder starts as the data's principal components and mean, scaled so that codes are about one."""
    mean = targets.mean(0)
    _, values, right = torch.linalg.svd(targets - mean, full_matrices=False)
    scale = values[:COMPONENTS] / len(targets) ** 0.5
    with torch.no_grad():
        network.decoder.weight.copy_((right[:COMPONENTS] * scale[:, None]).T)
        network.decoder.bias.copy_(mean)


def check(clips: list[Clip], network: TalkingNetwork, listener: torch.nn.Module, span: np.ndarray, face: Face) -> dict:
    """Pearson r of mouth opening and width on clips held out, mean over the clips of each corpus."""
    if not clips:
        return {}
    network.eval()
    rows: dict[str, list[float]] = {}
    points = span.reshape(len(span), -1, 3)
    lips = face.landmarks68[[62, 66, 48, 54]]
    with torch.inference_mode():
        for clip in clips:
            if clip.target.std() == 0:
                continue
            stop = int((clip.time[-1] + 1) * RATE) * SAMPLES
            wave = np.zeros(stop, np.float32)
            part = clip.samples[:stop].astype(np.float32) / 32768
            wave[: len(part)] = part
            before = (REACH + MARGIN) * SAMPLES
            padded = torch.from_numpy(np.pad(wave, (before, before)))[None]
            feature = network.prepare(listener(mel_batch(padded, None, np.array([clip.level])))[0])
            window = windows(feature, torch.from_numpy(clip.time + (REACH + MARGIN) / RATE))
            result = network(window, torch.zeros(len(window), network.style.in_features)).numpy()
            found = face.mean[lips] + np.tensordot(result, points[:, lips], 1)
            wanted = face.mean[lips] + np.tensordot(clip.target, points[:, lips], 1)
            length = lambda p, a, b: np.linalg.norm(p[:, a] - p[:, b], axis=1)
            rows.setdefault(f"{clip.corpus}_opening", []).append(
                metrics.pearson(length(found, 0, 1), length(wanted, 0, 1))
            )
            rows.setdefault(f"{clip.corpus}_width", []).append(
                metrics.pearson(length(found, 2, 3), length(wanted, 2, 3))
            )
    return {name: float(np.mean(values)) for name, values in sorted(rows.items())}
