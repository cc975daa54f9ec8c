"""The command line as a user runs it, and its messages for bad input."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import trimesh
from waiting import HANG_S

from talkemo.audio.recording import load_audio
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.obj import save_obj
from talkemo.formats.registry import OUTPUT_ENDINGS
from talkemo.options import with_keywords
from talkemo.pipelines import options as pipeline_options
from talkemo_cli.app import main


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def talkemo(capsys, monkeypatch):
    """Run a command in this process, which saves the start of a separate one."""

    def run(*arguments, cwd=None):
        if cwd:
            monkeypatch.chdir(cwd)
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return run


def start(*arguments, **options):
    """Start a command as a separate process."""
    command = [sys.executable, "-m", "talkemo_cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_command_as_a_separate_process(tmp_path, example_face, short_speech):
    running = start("animate", example_face, short_speech, "--fps", 10, "-o", tmp_path / "a.npz")
    stdout, stderr = running.communicate(timeout=HANG_S)
    assert running.returncode == 0 and stdout.strip() == str(tmp_path / "a.npz"), stderr
    running = start("animate", example_face, tmp_path / "none.wav", "-o", tmp_path / "b.npz")
    stdout, stderr = running.communicate(timeout=HANG_S)
    assert running.returncode == 2 and stdout == "" and "no such audio file" in stderr


def test_a_terminated_run_leaves_no_partial_output(tmp_path, example_face, example_speech):
    running = start("animate", example_face, example_speech, "--fps", 240, "-o", tmp_path / "a.npz")
    deadline = time.monotonic() + HANG_S
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=HANG_S)
    assert running.returncode == 128 + signal.SIGTERM and not any(tmp_path.iterdir())


def test_help_and_version(talkemo):
    assert "animate" in talkemo("--help").stdout
    assert talkemo("--version").stdout.startswith("talkemo ")
    for command in (
        "animate",
        "bind",
        "reconstruct",
        "geomap",
        "train",
        "transfer",
        "render",
        "evaluate",
        "weights",
        "doctor",
    ):
        done = talkemo(command, "--help")
        assert done.returncode == 0 and "--json" in done.stdout


def test_animate(talkemo, tmp_path, example_face, short_speech):
    out = tmp_path / "a.npz"
    done = talkemo(
        "animate",
        example_face,
        short_speech,
        "--emotion",
        "happy",
        "--fps",
        25,
        "-o",
        out,
        "-o",
        tmp_path / "a.mp4",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out), str(tmp_path / "a.mp4")]
    with np.load(out, allow_pickle=False) as file:
        assert file["vertices"].shape == (38, 12500, 3) and file["vertices"].dtype == np.float32
        assert file["faces"].dtype == np.int32 and file["faces"].shape[1] == 3
        assert float(file["fps"]) == 25
        assert file["landmarks68"].shape == (38, 68, 3)
        assert file["arkit"].shape == (38, 52) and file["arkit"].dtype == np.float32
        assert file["arkit"].min() >= 0 and file["arkit"].max() <= 1
        assert list(file["arkit_names"]) == ARKIT_NAMES
        # Gaze is small: eyeballs that follow these weights must not roll.
        gaze = file["arkit"][:, [name.startswith("eyeLook") for name in ARKIT_NAMES]]
        assert 0 < gaze.max() < 0.8 and (gaze >= 0).all()
        meta = json.loads(str(file["meta"]))
        assert meta["emotion"] == "happy" and meta["audio"] == "short.wav"
        assert np.abs(np.diff(file["vertices"], axis=0)).max() > 0.1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.npz"]
    about, frames = video_frames(tmp_path / "a.mp4")
    assert "25 fps" in about and "Audio: aac" in about and "Video: h264" in about
    assert "Duration: 00:00:01.5" in about
    assert len(frames) in (37, 38)  # the audio ends in the middle of the last frame
    assert frames[0].std() > 20  # a face in front of a background
    assert np.abs(frames[20] - frames[0]).max() > 30  # and it moves


def video_frames(path):
    """Return ffmpeg's description of a video, and its frames (T, 512, 512, 3)."""
    ffmpeg = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    done = subprocess.run(ffmpeg, capture_output=True)
    return done.stderr.decode(), np.frombuffer(done.stdout, np.uint8).reshape(
        -1, 512, 512, 3
    ).astype(int)


def test_default_output_and_json(talkemo, tmp_path, example_face, short_speech):
    done = talkemo(
        "animate",
        example_face,
        short_speech,
        "--emotion",
        "anger",
        "--size",
        64,
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == ["short_anger.mp4"]
    assert (tmp_path / "short_anger.mp4").stat().st_size > 1000


def test_silence_leaves_the_face_at_rest(talkemo, tmp_path, example_face, silence):
    still = ("--liveliness", "off", "--blink", "off")
    for options, moved_mm in ((still, 1e-5), ((), 2.0)):  # brows drift, lids follow the gaze
        done = talkemo("animate", example_face, silence, "-o", tmp_path / "a.npz", *options)
        assert done.returncode == 0, done.stderr
        vertices = NpzAnimation(tmp_path / "a.npz").vertices()
        assert len(vertices) == 60
        assert np.abs(vertices - vertices[0]).max() < moved_mm


def test_render_geomap_doctor_weights(talkemo, tmp_path, example_face, short_speech, face):
    assert (
        talkemo(
            "animate", example_face, short_speech, "--fps", 10, "-o", tmp_path / "a.npz"
        ).returncode
        == 0
    )
    done = talkemo(
        "render", tmp_path / "a.npz", "-o", tmp_path / "a.png", "--size", 128, "--view", "left"
    )
    assert done.returncode == 0, done.stderr
    done = talkemo(
        "render",
        tmp_path / "a.npz",
        "-o",
        tmp_path / "a.mp4",
        "--size",
        64,
        "--audio",
        short_speech,
    )
    assert done.returncode == 0, done.stderr
    done = talkemo("geomap", example_face, "-o", tmp_path / "m.npz", "--json")
    figures = json.loads(done.stdout)
    assert figures["round_trip_mean_mm"] < 0.1 and figures["round_trip_lips_eyelids_max_mm"] < 1
    assert talkemo("geomap", tmp_path / "m.npz", "-o", tmp_path / "m.obj").returncode == 0
    back, start = load_mesh(tmp_path / "m.obj").vertices, load_mesh(example_face).vertices
    assert np.linalg.norm(back - start, axis=1).mean() < 0.1
    assert json.loads(talkemo("doctor", "--json").stdout)["weights"] == {
        "default": "intact",
        "free": "intact",
    }
    assert talkemo("weights", "verify").returncode == 0


def test_reconstruct_landmarks(talkemo, tmp_path, face):
    shapes = np.zeros((20, len(face.expression_names)))
    shapes[:, face.expression_names.index("jawOpen")] = np.linspace(0, 0.4, 20)
    points = (face.mean + np.tensordot(shapes, face.expression_basis, 1))[:, face.landmarks68]
    np.save(tmp_path / "l.npy", points[..., :2] * [2, -2] + 300)
    done = talkemo("reconstruct", tmp_path / "l.npy", "-o", tmp_path / "r.npz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["residual_mm"] < 1
    vertices = NpzAnimation(tmp_path / "r.npz").vertices()
    lips = vertices[:, face.landmarks68[[62, 66]]]
    opening = np.linalg.norm(lips[:, 0] - lips[:, 1], axis=1)
    assert opening[-1] - opening[0] > 5


def bad_inputs(folder: Path, example_face, speech_file):
    """Return face, audio and further options, by name, of runs that must end with status 2."""
    (folder / "empty.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes(speech_file.read_bytes()[:30])
    (folder / "text.wav").write_text("not audio")
    soundfile.write(folder / "a.mp3", np.zeros(8000), 16000)
    (folder / "a.mp3").rename(folder / "mp3.wav")
    (folder / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (folder / "one.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 1\nf 1 2 3\n")
    lines = example_face.read_text().splitlines()
    (folder / "nan.obj").write_text("\n".join(["v nan 0 0", *lines[1:]]))
    (folder / "face.xyz").write_text("?")
    good = (example_face, speech_file)
    return {
        "missing face": (folder / "none.obj", speech_file, []),
        "missing audio": (example_face, folder / "none.wav", []),
        "folder as audio": (example_face, folder, []),
        "folder as face": (folder, speech_file, []),
        "empty wav": (example_face, folder / "empty.wav", []),
        "truncated wav": (example_face, folder / "cut.wav", []),
        "mp3 named wav": (example_face, folder / "mp3.wav", []),
        "text named wav": (example_face, folder / "text.wav", []),
        "no faces": (folder / "points.obj", speech_file, []),
        "one triangle": (folder / "one.obj", speech_file, []),
        "NaN vertex": (folder / "nan.obj", speech_file, []),
        "unknown mesh format": (folder / "face.xyz", speech_file, []),
        "unknown emotion": (*good, ["--emotion", "furious"]),
        "intensity": (*good, ["--intensity", "1.6"]),
        "intensity nan": (*good, ["--intensity", "nan"]),
        "fps": (*good, ["--fps", "0"]),
        "size": (*good, ["--size", "3"]),
        "no such option": (*good, ["--emotoin", "happy"]),
    }


def test_bad_input_is_one_line_and_status_2(talkemo, tmp_path, example_face, short_speech):
    folder = tmp_path / "inputs"
    folder.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    for name, (face, audio, options) in bad_inputs(folder, example_face, short_speech).items():
        done = talkemo("animate", face, audio, "-o", out / "a.mp4", "-o", out / "a.npz", *options)
        assert done.returncode == 2, (name, done.stderr)
        assert "Traceback" not in done.stderr, name
        assert done.stdout == "", name
        assert done.stderr.startswith("talkemo: "), name
        assert len(done.stderr.strip().splitlines()) == 2, (
            name,
            done.stderr,
        )  # what is wrong, what to do
    assert list(out.iterdir()) == []


def test_bad_outputs(talkemo, tmp_path, example_face, short_speech):
    (tmp_path / "b.mp4").mkdir()
    for output in (tmp_path / "none" / "a.mp4", tmp_path / "a.xyz", tmp_path / "b.mp4"):
        done = talkemo("animate", example_face, short_speech, "-o", output)
        assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["b.mp4"]


def test_an_input_is_not_overwritten(talkemo, tmp_path, example_face, short_speech):
    copy = tmp_path / "a.mp4"
    copy.write_bytes(short_speech.read_bytes())
    done = talkemo("animate", example_face, copy, "-o", copy)
    assert done.returncode == 2 and "overwritten" in done.stderr
    assert copy.read_bytes() == short_speech.read_bytes()


def test_render_with_audio_shorter_than_the_animation(
    talkemo, tmp_path, example_face, short_speech
):
    soundfile.write(tmp_path / "s.wav", np.zeros(3000), 16000)
    assert (
        talkemo(
            "animate", example_face, short_speech, "--fps", 30, "-o", tmp_path / "a.npz"
        ).returncode
        == 0
    )
    done = talkemo(
        "render", tmp_path / "a.npz", "-o", tmp_path / "a.mp4", "--audio", tmp_path / "s.wav"
    )
    assert done.returncode == 0, done.stderr
    assert len(video_frames(tmp_path / "a.mp4")[1]) == 45


def test_an_existing_output_survives_a_failure(talkemo, tmp_path, example_face):
    (tmp_path / "a.npz").write_text("mine")
    assert (
        talkemo("animate", example_face, tmp_path / "none.wav", "-o", tmp_path / "a.npz").returncode
        == 2
    )
    assert (tmp_path / "a.npz").read_text() == "mine"


def test_broken_animations_are_refused(talkemo, tmp_path):
    np.savez(tmp_path / "a.npz", vertices=np.zeros((2, 3)), faces=np.zeros((1, 3), int), fps=30)
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 junk")
    (tmp_path / "c.npz").write_bytes(b"")
    np.save(tmp_path / "d.npy", np.zeros(3))
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    (tmp_path / "e.npy").write_bytes(b"")  # numpy's exception has no text
    done = talkemo("reconstruct", tmp_path / "e.npy", "-o", tmp_path / "x.npz")
    assert done.returncode == 2 and "not a file of landmarks" in done.stderr
    for name in ("a.npz", "b.npz", "c.npz", "d.npz"):
        done = talkemo("geomap", tmp_path / name, "-o", tmp_path / "x.obj")
        assert done.returncode == 2 and "Traceback" not in done.stderr, (name, done.stderr)
        done = talkemo("reconstruct", tmp_path / name, "-o", tmp_path / "x.npz")
        assert done.returncode == 2 and "Traceback" not in done.stderr, (name, done.stderr)
    for name in ("a.npz", "b.npz", "c.npz", "d.npz", "none.npz"):
        done = talkemo("render", tmp_path / name, "-o", tmp_path / "x.png")
        assert done.returncode == 2 and "Traceback" not in done.stderr, (name, done.stderr)


def test_style_is_selected_by_name(talkemo, tmp_path, example_face, short_speech):
    done = talkemo(
        "animate", example_face, short_speech, "--style", "grid_s1_s1", "-o", tmp_path / "a.npz"
    )
    assert done.returncode == 0, done.stderr
    assert NpzAnimation(tmp_path / "a.npz").meta["style"] == "grid_s1_s1"
    done = talkemo(
        "animate", example_face, short_speech, "--style", "nobody", "-o", tmp_path / "b.npz"
    )
    assert (
        done.returncode == 2
        and "unknown style" in done.stderr
        and not (tmp_path / "b.npz").exists()
    )


def test_transfer_keeps_the_audio_and_changes_the_face(
    talkemo, tmp_path, example_face, short_speech
):
    recording = tmp_path / "short.wav"
    recording.write_bytes(short_speech.read_bytes())
    assert (
        talkemo(
            "animate", example_face, recording, "--fps", 25, "-o", tmp_path / "n.npz"
        ).returncode
        == 0
    )
    (tmp_path / "timeline.txt").write_text("0 0.8 happy\n0.8 1.5 angry 0.5\n")
    done = talkemo(
        "transfer",
        "n.npz",
        "--timeline",
        "timeline.txt",
        "-o",
        "c.npz",
        "-o",
        "c.mp4",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["c.npz", "c.mp4"]
    about, frames = video_frames(tmp_path / "c.mp4")
    assert "Audio: aac" in about and len(frames) in (
        37,
        38,
    )  # the audio file that the npz names lies beside it
    before, after = NpzAnimation(tmp_path / "n.npz"), NpzAnimation(tmp_path / "c.npz")
    assert np.linalg.norm(after.vertices() - before.vertices(), axis=2).mean() > 0.1
    assert after.meta["timeline"] == "timeline.txt" and after.meta["audio"] == "short.wav"
    for arguments, why in (
        (("n.npz",), "--emotion, or a --timeline"),
        (
            ("n.npz", "--emotion", "happy", "--timeline", "timeline.txt"),
            "--emotion, or a --timeline",
        ),
        (("n.npz", "--emotion", "happy", "--intensity", "2"), "intensity 2"),
        (("n.npz", "--emotion", "happy", "--neutral", "none.obj"), "no such mesh"),
        (("none.npz", "--emotion", "happy"), "no such animation"),
    ):
        done = talkemo("transfer", *arguments, "-o", "x.npz", cwd=tmp_path)
        assert done.returncode == 2 and why in done.stderr, (arguments, done.stderr)
    assert not (tmp_path / "x.npz").exists()


def test_saved_binding_animates_a_rotated_face(talkemo, tmp_path, example_face, short_speech):
    mesh = load_mesh(example_face)
    face, ball = tmp_path / "lying.obj", tmp_path / "ball.obj"
    save_obj(face, mesh.vertices[:, [0, 2, 1]] * [1, -1, 1], mesh.faces)  # z up, looking along -y
    done = talkemo("bind", face, "--json", "-o", tmp_path / "b.npz", "-o", tmp_path / "b.png")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["error_mm"] < 1.2 and 0.85 < figures["lip_opening"] < 1.15
    assert figures["up"][2] > 0.95 and figures["forward"][1] < -0.95
    with_it = talkemo(
        "animate",
        face,
        short_speech,
        "--binding",
        tmp_path / "b.npz",
        "--fps",
        10,
        "-o",
        tmp_path / "a.npz",
    )
    assert with_it.returncode == 0, with_it.stderr
    without = talkemo(
        "animate",
        face,
        short_speech,
        "--fps",
        10,
        "-o",
        tmp_path / "c.npz",
        "-o",
        tmp_path / "c.mp4",
    )
    assert without.returncode == 0, without.stderr
    np.testing.assert_array_equal(
        NpzAnimation(tmp_path / "a.npz").vertices(), NpzAnimation(tmp_path / "c.npz").vertices()
    )
    # The camera faces the face in any orientation: skin in the middle, background beside it.
    frame = video_frames(tmp_path / "c.mp4")[1][0]
    assert frame[180:260, 216:296, 0].mean() > 110 and frame[256, 10].max() < 80
    sphere = trimesh.creation.icosphere(4)
    save_obj(ball, np.array(sphere.vertices), np.array(sphere.faces))
    done = talkemo("bind", ball, "--up", "y", "--forward", "z", "-o", tmp_path / "ball.npz")
    assert done.returncode == 2 and "no face found" in done.stderr and "--landmarks" in done.stderr
    assert len(done.stderr.splitlines()) == 2 and not (tmp_path / "ball.npz").exists()


def test_batch_of_recordings(talkemo, tmp_path, example_face, short_speech, silence, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "one.wav").write_bytes(short_speech.read_bytes())
    (folder / "two.wav").write_bytes(silence.read_bytes())
    (folder / "bad.wav").write_text("not audio")
    recordings = [folder / name for name in ("one.wav", "bad.wav", "two.wav")]
    options = (
        "--emotion",
        "sad",
        "--fps",
        10,
        "--format",
        "npz",
        "--format",
        "csv",
        "-o",
        tmp_path / "out",
    )
    done = talkemo("animate", example_face, *recordings, *options)
    assert (
        done.returncode == 1
        and "bad.wav" in done.stderr
        and "1 of 3 recordings failed" in done.stderr
    )
    names = ["one_sad.csv", "one_sad.npz", "two_sad.csv", "two_sad.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert sorted(Path(line).name for line in done.stdout.splitlines()) == names
    done = talkemo("animate", example_face, *recordings, *options, "--json")
    result = json.loads(done.stdout)
    assert [Path(item["audio"]).name for item in result["results"]] == ["one.wav", "two.wav"]
    assert Path(result["failed"][0]["audio"]).name == "bad.wav"
    # One recording with --format goes into the folder too, as if a pattern matched one file.
    assert talkemo("animate", example_face, recordings[0], *options).returncode == 0
    for wrong in (
        ("animate", example_face, recordings[0], recordings[0], "-o", tmp_path / "out"),
        ("animate", example_face, *recordings, "-o", tmp_path / "a.npz"),
        ("animate", example_face, *recordings, "-o", tmp_path / "out", "--format", "exe"),
        ("animate", example_face, *recordings, "-o", tmp_path / "none" / "out"),
        ("animate", example_face, *recordings, "-o", tmp_path / "new", "--style", "nobody"),
        ("animate", example_face, *recordings, "-o", tmp_path / "new", "--fps", 0),
        ("animate", example_face, *recordings, "-o", tmp_path / "new", "--size", 1),
    ):
        done = talkemo(*wrong)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 2, (
            wrong,
            done.stderr,
        )
        assert not (tmp_path / "new").exists(), wrong
    # An unexpected exception ends one recording, not the batch; the hint says if all have failed.
    speech = recordings[0].read_bytes()
    recordings[1].write_bytes(speech)
    load = load_audio

    def broken(source):
        if Path(source).name == "bad.wav":
            raise ZeroDivisionError("of the test")
        return load(source)

    monkeypatch.setattr("talkemo.pipelines.animate.load_audio", broken)
    done = talkemo("animate", example_face, *recordings, *options)
    assert done.returncode == 1 and "ZeroDivisionError: of the test" in done.stderr
    assert (
        done.stderr.strip().endswith("the others are done") and len(done.stdout.splitlines()) == 4
    )
    done = talkemo("animate", example_face, recordings[1], *options)
    assert done.returncode == 1 and "the others" not in done.stderr


def test_weights_and_device_are_chosen(talkemo, tmp_path, example_face, short_speech):
    good = ("animate", example_face, short_speech, "--fps", 10, "-o", tmp_path / "a.npz")
    assert talkemo(*good, "--weights", "default", "--device", "cpu").returncode == 0
    assert NpzAnimation(tmp_path / "a.npz").meta["weights"]["set"] == "default"
    done = talkemo(*good, "--weights", tmp_path / "nowhere")
    assert done.returncode == 2 and "no such set of weights" in done.stderr
    done = talkemo(*good, "--device", "tpu")
    assert done.returncode == 2 and "--device" in done.stderr


def test_cached_binding_is_used_again(talkemo, tmp_path, example_face, short_speech, monkeypatch):
    monkeypatch.setenv("TALKEMO_CACHE", str(tmp_path / "cache"))
    good = ("animate", example_face, short_speech, "--fps", 10, "-o", tmp_path / "a.npz")
    assert talkemo(*good, "--no-cache").returncode == 0 and not (tmp_path / "cache").exists()
    assert talkemo(*good).returncode == 0 and any((tmp_path / "cache" / "bindings").iterdir())
    first = NpzAnimation(tmp_path / "a.npz").vertices()
    monkeypatch.setattr(
        "talkemo.binding.bind_face.bind_mesh", lambda *_, **__: pytest.fail("searched again")
    )
    assert talkemo(*good).returncode == 0
    np.testing.assert_array_equal(NpzAnimation(tmp_path / "a.npz").vertices(), first)


def test_one_thread_unless_the_user_chooses():
    script = "import talkemo_cli, torch; print(torch.get_num_threads())"
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "OPENBLAS_"))
    }
    for chosen, threads in ({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2"):  # the user's choice counts
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment | chosen, capture_output=True, text=True
        )
        assert done.stdout.strip() == threads


def test_importing_the_commands_loads_no_heavy_library():
    heavy = "{'numpy', 'torch', 'scipy', 'trimesh', 'PIL'}"
    script = f"import sys, talkemo_cli.app; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        (pipeline_options.AnimateKeywords, pipeline_options.AnimateOptions),
        (pipeline_options.StreamKeywords, pipeline_options.StreamOptions),
        (pipeline_options.TransferKeywords, pipeline_options.TransferOptions),
    ],
)
def test_keywords_are_the_fields_of_the_options(keywords, options):
    assert set(keywords.__annotations__) == {field.name for field in dataclasses.fields(options)}


def test_keywords_replace_fields_of_the_options():
    options = pipeline_options.AnimateOptions(emotion="sad", fps=25)
    changed = with_keywords(options, {"fps": 30, "style": None})
    assert changed == pipeline_options.AnimateOptions(emotion="sad", fps=30)
    with pytest.raises(TypeError, match="emotoin"):
        with_keywords(options, {"emotoin": "happy"})


def test_an_older_name_of_an_option_still_works(talkemo, tmp_path):
    help_text = talkemo("reconstruct", "--help").stdout
    assert "--image-size" in help_text and "--picture" not in help_text
    for name in ("--image-size", "--picture"):
        done = talkemo("reconstruct", "a.npy", name, "1280", "-o", tmp_path / "a.npz")
        assert done.returncode == 2 and "--image-size 1280: not a size" in done.stderr


def test_a_batch_writes_every_format(talkemo, tmp_path, example_face, silence):
    left_out = (".usda", ".usdc", ".usdz", ".vrm")  # USD needs an extra, a VRM is made of a VRM
    formats = [ending.lstrip(".") for ending in OUTPUT_ENDINGS if ending not in left_out]
    options = [argument for name in formats for argument in ("--format", name)]
    arguments = ("animate", example_face, silence, *options, "--fps", 10, "--size", 64)
    done = talkemo(*arguments, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    beside = {"silence_neutral.bin"}  # the data of the gltf
    assert names == {f"silence_neutral.{name}" for name in formats} | beside and "html" in formats
