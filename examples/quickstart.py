"""Animate the example face with the example speech in several ways; see docs/python.md.

    python examples/quickstart.py [OUT]

OUT is the folder for the files that are written, `out/quickstart` by default.
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
EXAMPLE_FPS = 30.0


def main(out: Path) -> None:
    """Run all examples and write their files to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    # A bundled set, a folder written by `talkemo train`, or hf://owner/repository@revision.
    models = talkemo.load_models("default", device="auto")

    report("files", animate_files(models, out))

    spoken = animate_arrays(models)
    report("arrays", spoken)
    assert spoken.vertices is not None and spoken.arkit is not None and spoken.motion is not None
    opening = spoken.motion.lip_opening(models.face)
    print(f"  vertices {spoken.vertices.shape}, ARKit weights {spoken.arkit.shape}")
    print(f"  largest lip opening: {opening.max():.1f} mm")

    hint = FaceHint(up="y", forward="z")
    binding = talkemo.bind(FACE, out / "face.binding.npz", hint=hint, models=models)
    print(f"bind: {len(binding.moving)} moving vertices, fitted within {binding.error:.2f} mm")
    for result in animate_many(binding, models, out):
        report("many", result)

    report("timeline", animate_timeline(binding, models, out))
    report("transfer", change_emotion(out / "happy.npz", models, out))

    fitted = reconstruct_face(spoken, models)
    report("reconstruct", fitted)
    print(f"  landmark residual: {fitted.metrics['residual_mm']:.2f} mm")

    try:
        talkemo.animate(FACE, SPEECH, emotion="bored", models=models)
    except InputError as error:
        print(f"refused: {error.message}\n  {error.hint}")


def animate_files(models: Models, out: Path) -> Result:
    """Animate a mesh file with an audio file; write an npz, a GLB and ARKit's curves as csv."""
    outputs = [out / "happy.npz", out / "happy.glb", out / "happy.csv"]
    return talkemo.animate(
        FACE, SPEECH, outputs, emotion="happy", intensity=0.8, fps=EXAMPLE_FPS, models=models
    )


def animate_arrays(models: Models) -> Result:
    """Animate arrays of vertices, triangles and samples, without writing a file."""
    mesh = load_mesh(FACE)
    samples, rate = soundfile.read(SPEECH)
    two_seconds = samples[: 2 * rate]
    return talkemo.animate(
        (mesh.vertices, mesh.faces),
        (two_seconds, rate),
        emotion="happy",
        fps=EXAMPLE_FPS,
        models=models,
    )


def animate_many(binding: Binding, models: Models, out: Path) -> list[Result]:
    """Animate a face that is bound once with several recordings; GLBs with exact frames."""
    samples, rate = soundfile.read(SPEECH)
    emotions = {"first": "sad", "second": "happy:0.6,surprised:0.4"}
    results = []
    for second, (name, emotion) in enumerate(emotions.items()):
        result = talkemo.animate(
            binding,
            (samples[second * rate : (second + 1) * rate], rate),
            out / f"{name}.glb",
            emotion=emotion,
            fps=EXAMPLE_FPS,
            export=ExportOptions(bake=True),
            models=models,
        )
        results.append(result)
    return results


def animate_timeline(binding: Binding, models: Models, out: Path) -> Result:
    """Animate with changing emotions; each line has start and end in s, emotion, intensity."""
    path = out / "timeline.txt"
    path.write_text("0.0 2.0 happy 0.8\n2.0 4.5 happy:0.3,surprised:0.7\n5.0 6.0 angry\n", "utf-8")
    timeline = Timeline.read(path)
    return talkemo.animate(
        binding, SPEECH, out / "timeline.npz", timeline=timeline, fps=EXAMPLE_FPS, models=models
    )


def change_emotion(animation: Path, models: Models, out: Path) -> Result:
    """Change the emotion of an existing animation and print progress."""

    def progress(done: int, total: int) -> None:
        print(f"  {done} of {total} frames", file=sys.stderr)

    return talkemo.transfer(
        animation, out / "angry.npz", emotion="angry", models=models, progress=progress
    )


def reconstruct_face(spoken: Result, models: Models) -> Result:
    """Reconstruct a 3D face from landmarks in pixels, y down; here projected from an animation."""
    assert spoken.landmarks68 is not None
    landmarks = spoken.landmarks68[..., :2] * [2.0, -2.0] + [320.0, 240.0]
    return talkemo.reconstruct(landmarks, fps=spoken.fps, models=models)


def report(example: str, result: Result) -> None:
    """Print the files of a result."""
    files = ", ".join(str(path) for path in result.outputs) or "arrays"
    print(f"{example}: {result.frames} frames at {result.fps:g} fps: {files}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/quickstart"))
