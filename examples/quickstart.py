"""Animates the example face with the example speech in several ways, and prints what it makes; see docs/python.md.

python examples/quickstart.py [OUT]      OUT is a folder, out by default
"""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile

import talkemo
from talkemo import Binding, ExportOptions, FaceHint, InputError, Models, Result, Timeline
from talkemo.formats.mesh import load_mesh

EXAMPLES = Path(__file__).parent
FACE, SPEECH = EXAMPLES / "face.obj", EXAMPLES / "speech.wav"
FPS = 30.0  # frames a second


def main(out: Path) -> None:
    """Make everything, one way after the other, in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    # A bundled set, a folder that talkemo train wrote, or hf://owner/repository@revision.
    models = talkemo.load_models("default", device="auto")

    report("files", animate_files(models, out))

    spoken = animate_arrays(models)
    report("arrays", spoken)
    assert spoken.vertices is not None and spoken.arkit is not None and spoken.motion is not None
    opening = spoken.motion.lip_opening(models.face)
    print(f"  vertices {spoken.vertices.shape}, ARKit weights {spoken.arkit.shape}")
    print(f"  the lips open by up to {opening.max():.1f} mm")

    binding = talkemo.bind(
        FACE, out / "face.binding.npz", hint=FaceHint(up="y", forward="z"), models=models
    )
    print(
        f"bind: {len(binding.moving)} vertices move, the model's face is {binding.error:.2f} mm off"
    )
    for result in animate_many(binding, models, out):
        report("many", result)

    report("timeline", animate_timeline(binding, models, out))
    report("transfer", change_emotion(out / "happy.npz", models, out))

    fitted = reconstruct_face(spoken, models)
    report("reconstruct", fitted)
    print(f"  the landmarks are {fitted.metrics['residual_mm']:.2f} mm off")

    try:
        talkemo.animate(FACE, SPEECH, emotion="bored", models=models)
    except InputError as error:
        print(f"refused: {error.message}\n  {error.hint}")


def animate_files(models: Models, out: Path) -> Result:
    """A mesh file and a sound file to an npz, a GLB with ARKit's 52 shapes, and their curves as csv."""
    outputs = [out / "happy.npz", out / "happy.glb", out / "happy.csv"]
    return talkemo.animate(
        FACE, SPEECH, outputs, emotion="happy", intensity=0.8, fps=FPS, models=models
    )


def animate_arrays(models: Models) -> Result:
    """Vertices, triangles and samples to vertices, landmarks and ARKit weights. No file is written."""
    mesh = load_mesh(FACE)
    samples, rate = soundfile.read(SPEECH)
    first = samples[: 2 * rate]
    return talkemo.animate(
        (mesh.vertices, mesh.faces), (first, rate), emotion="happy", fps=FPS, models=models
    )


def animate_many(binding: Binding, models: Models, out: Path) -> list[Result]:
    """A face that was found once, for several recordings; each frame of the GLB is exact."""
    samples, rate = soundfile.read(SPEECH)
    emotions = {"first": "sad", "second": "happy:0.6,surprised:0.4"}
    results = []
    for number, (name, emotion) in enumerate(emotions.items()):
        part = samples[number * rate : (number + 1) * rate]
        results.append(
            talkemo.animate(
                binding,
                (part, rate),
                out / f"{name}.glb",
                emotion=emotion,
                fps=FPS,
                export=ExportOptions(bake=True),
                models=models,
            )
        )
    return results


def animate_timeline(binding: Binding, models: Models, out: Path) -> Result:
    """Emotions that come and go, a line a span: start and end in seconds, emotion or mix, strength."""
    path = out / "timeline.txt"
    path.write_text("0.0 2.0 happy 0.8\n2.0 4.5 happy:0.3,surprised:0.7\n5.0 6.0 angry\n", "utf-8")
    timeline = Timeline.read(path)
    return talkemo.animate(
        binding, SPEECH, out / "timeline.npz", timeline=timeline, fps=FPS, models=models
    )


def change_emotion(animation: Path, models: Models, out: Path) -> Result:
    """The emotion of an animation that exists, with the frames counted while they are made."""

    def progress(done: int, total: int) -> None:
        print(f"  {done} of {total} frames", file=sys.stderr)

    return talkemo.transfer(
        animation, out / "angry.npz", emotion="angry", models=models, progress=progress
    )


def reconstruct_face(spoken: Result, models: Models) -> Result:
    """The 3D face of landmarks in pixels, y down, as a detector finds them in a video; here they are projected."""
    assert spoken.landmarks68 is not None
    landmarks = spoken.landmarks68[..., :2] * [2.0, -2.0] + [320.0, 240.0]
    return talkemo.reconstruct(landmarks, fps=spoken.fps, models=models)


def report(what: str, result: Result) -> None:
    """Print what was made."""
    files = ", ".join(str(path) for path in result.outputs) or "arrays"
    print(f"{what}: {result.frames} frames at {result.fps:g} fps: {files}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out"))
