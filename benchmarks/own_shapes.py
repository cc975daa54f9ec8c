"""Compare what a character's own blend shapes show of a recording with its binding.

python benchmarks/own_shapes.py AVATAR.glb [AVATAR.vrm ...] [--audio speech.wav] [--emotion happy]
    [--map FILE] [--seconds 6] [--fps 60]

Prints for each character how many of its shapes are driven, the share of the motion of the mouth in
poses of speech that they show, the correlation and the slope of the mouth's opening through them
against that through the binding, the mean distance of the vertices of face and mouth from where the
binding puts them and the mean error of the lids' opening, in mm of a face of human size, and the
time that the weights take, in % of that of the frames.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import talkemo
from talkemo.audio.recording import audio_of_samples, load_audio
from talkemo.audio.samples import SAMPLE_RATE
from talkemo.binding import Binding
from talkemo.face.canonical import INNER_LIPS
from talkemo.face.motion import split_times
from talkemo.formats.animation import Frames
from talkemo.pipelines.acting import ActingPlan, FaceActor
from talkemo.pipelines.options import AnimateOptions
from talkemo.pipelines.outputs import OUTPUT_CHUNK_FRAMES
from talkemo.pipelines.own_targets import fitted_shapes
from talkemo.weights.models import Models

EXAMPLE = Path(__file__).parent.parent / "examples" / "speech.wav"
COLUMNS = (
    *("character", "vertices", "driven", "standards", "mouth shown", "r of the opening", "slope"),
    *("face mm", "mouth mm", "lids mm", "time of the frames'"),
)
LID_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper and lower landmarks


def opening(binding: Binding, vertices: np.ndarray, *pairs: tuple[int, int]) -> np.ndarray:
    """Mean vertical distance (T,) of pairs of landmarks, in canonical mm."""
    upper, lower = (vertices[:, binding.landmarks68[list(points)]] for points in zip(*pairs))
    return np.asarray((upper - lower).mean(1) @ binding.placement.rotation[:, 1] / binding.scale)


def performed(
    binding: Binding, models: Models, audio: Path, seconds: float, options: AnimateOptions
) -> tuple[list[Frames], float]:
    """The frames of the beginning of a recording, and the time that they took."""
    samples = load_audio(audio).samples()[: int(seconds * SAMPLE_RATE)]
    recording = audio_of_samples(samples, SAMPLE_RATE)
    actor = FaceActor(models, binding, ActingPlan.of(options))
    times = np.arange(int(recording.duration * options.fps)) / options.fps
    chunks = split_times(times, OUTPUT_CHUNK_FRAMES)
    started = time.perf_counter()
    speech = models.talking.stream(actor.listen(recording), chunks, options.style)
    return [actor(motion)[1] for motion in speech], time.perf_counter() - started


def compare(path: Path, models: Models, options: argparse.Namespace) -> str:
    """A row of the table."""
    binding = talkemo.bind(path, models=models)
    if not binding.mesh.shapes:
        return f"| {path.name} | {len(binding.rest):,} | no shapes |"
    own = fitted_shapes(binding, options.map)
    acting = AnimateOptions(emotion=options.emotion, fps=options.fps)
    # Shapes have the mesh's own vertices, which a cut between the lips would add to.
    frames, frame_s = performed(binding, models, options.audio, options.seconds, acting)
    started = time.perf_counter()
    weights = np.concatenate([own.weights(chunk) for chunk in frames])
    weight_s = time.perf_counter() - started
    expected = np.concatenate([chunk.vertices[:, : len(binding.rest)] for chunk in frames])
    above_rest = (weights - own.at_rest).astype(np.float32)
    shown = binding.rest + np.tensordot(above_rest, own.targets(), 1)
    lips, shown_lips = (opening(binding, vertices, INNER_LIPS) for vertices in (expected, shown))
    lids, shown_lids = (opening(binding, vertices, *LID_PAIRS) for vertices in (expected, shown))
    distance = np.linalg.norm(expected - shown, axis=2) / binding.scale
    cells = [
        path.name,
        f"{len(binding.rest):,}",
        f"{len(own.found.driven)} of {len(binding.mesh.shapes)}",
        ", ".join(f"{name} {count}" for name, count in own.found.standards.items()),
        f"{own.mouth_shown:.0%}",
        f"{np.corrcoef(lips, shown_lips)[0, 1]:.4f}",
        f"{np.polyfit(lips, shown_lips, 1)[0]:.2f}",
        f"{distance[:, binding.focus].mean():.2f}",
        f"{distance[:, binding.region('mouth')].mean():.2f}",
        f"{np.abs(lids - shown_lids).mean():.2f}",
        f"{weight_s / frame_s:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("characters", nargs="+", type=Path)
    parser.add_argument("--audio", type=Path, default=EXAMPLE)
    parser.add_argument("--emotion", default="neutral")
    parser.add_argument("--map", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--fps", type=float, default=60.0)
    options = parser.parse_args()
    models = talkemo.load_models()
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    for path in options.characters:
        print(compare(path, models, options), flush=True)


if __name__ == "__main__":
    main()
