"""What commands print: results in words, completion of values, styles and doctor."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import talkemo
from talkemo import InputError, Timeline, reconstruct
from talkemo.video.reader import check_video
from talkemo_cli.app import main
from talkemo_cli.console import console
from talkemo_cli.facts import frames_fact, metric_facts, named_fact


@pytest.fixture
def run(capsys):
    """Run a command in this process; returns its exit status and the lines that it printed."""

    def run_command(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return run_command


def test_an_animation_is_described_a_fact_a_line(run, tmp_path, example_face, silence):
    timeline = tmp_path / "t.txt"
    timeline.write_text("0 0.6 happy\n0.5 0.9 sad\n")
    out = tmp_path / "a.npz"
    options = ("--fps", 10, "--timeline", timeline, "-o", out)
    status, written, facts = run("animate", example_face, silence, *options)
    assert status == 0 and written == [str(out)]
    frames, fit, overlap = facts
    assert "from 0.5 s in that from 0 to 0.6 s" in overlap and str(timeline) in overlap
    assert frames == "10 frames at 10 fps, 1.00 s"
    assert fit.startswith("mesh fits the face model within ") and fit.endswith(" mm (median), good")


def test_a_binding_and_a_map_are_described_in_words(run, tmp_path, example_face):
    status, written, facts = run("bind", example_face, "-o", tmp_path / "b.npz")
    assert status == 0 and written == [str(tmp_path / "b.npz")]
    assert "vertices that move: 12500 of 12500" in facts and "skin: 12500 vertices" in facts
    assert any(fact.startswith("lips open to ") for fact in facts)
    status, written, facts = run("geomap", example_face, "-o", tmp_path / "m.npz")
    assert status == 0 and written == [str(tmp_path / "m.npz")]
    assert any(fact.startswith("the mesh is restored from its map within 0.0") for fact in facts)


def test_a_reconstruction_prints_paths_on_stdout_alone(run, tmp_path, face):
    points = face.mean[face.landmarks68, :2] * [2, -2] + 300
    np.save(tmp_path / "l.npy", np.stack([points] * 3))
    out = tmp_path / "r.npz"
    status, written, facts = run("reconstruct", tmp_path / "l.npy", "-o", out)
    assert status == 0 and written == [str(out)]
    assert facts[0] == "3 frames at 30 fps, 0.10 s"
    assert facts[1].startswith("landmarks fit the face model within 0.")


def test_facts_have_units():
    assert frames_fact(1, 25) == "1 frame at 25 fps, 0.04 s"
    assert named_fact("re_mm", 1.23456) == "re: 1.235 mm"
    assert named_fact("minutes", 2.0) == "minutes: 2"
    assert named_fact("corpora", ["grid", "ravdess"]) == "corpora: grid, ravdess"
    facts = list(metric_facts({"residual_px": 2.0, "rejected": {}, "delay": None, "people": 3}))
    assert facts == ["landmarks fit the image within 2.00 px (mean)", "people: 3"]


def test_a_reconstruction_takes_a_device(face, run):
    points = face.mean[face.landmarks68, :2] * [2, -2] + 300
    with pytest.raises(InputError, match="unknown device"):
        reconstruct(points[None], device="tpu")
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    for command in (("reconstruct", "l.npy", "-o", "r.npz"), ("bind", "face.obj")):
        status, written, lines = run(*command, "--device", "cuda")
        assert status == 2 and not written and "no CUDA device" in lines[0]


def test_styles_are_listed(run):
    status, names, _ = run("styles")
    assert status == 0 and names[0] == "default" and "grid_s1_s1" in names
    status, lines, _ = run("styles", "--weights", "free", "--json")
    listed = json.loads(lines[0])
    assert listed["weights"] == "free" and listed["styles"][0] == "default"
    assert set(listed["styles"]) != set(names)
    assert run("styles", "--weights", "nothing")[0] == 2


def test_doctor_reports_gpu_video_usd_and_sizes(run):
    status, lines, _ = run("doctor")
    assert status == 0
    for start in ("talkemo ", "GPU: ", "renderer: ", "ffmpeg", "reconstruct from video: ", "USD: "):
        assert any(line.startswith(start) for line in lines), start
    assert any(line.startswith("weights default: intact, ") and " MB" in line for line in lines)
    assert any(line.startswith("cache of bindings: ") for line in lines)
    facts = json.loads(run("doctor", "--json")[1][0])
    assert {"cuda", "films", "weights", "gpu", "usd", "weights_mb"} <= facts.keys()
    sizes = {"folder", "MB", "bindings", "captures_MB", "landmarks_MB"}
    assert sizes == facts["cache"].keys()


def test_a_clash_of_names_names_both_recordings(run, tmp_path, example_face):
    one, two = tmp_path / "one" / "a.wav", tmp_path / "two" / "a.wav"
    status, _, lines = run("animate", example_face, one, two, "-o", tmp_path)
    assert status == 2 and f"{one} and {two} would both be written to " in lines[0]
    assert "a_neutral.mp4" in lines[0]
    status, _, lines = run("animate", example_face, one, one, "-o", tmp_path)
    assert status == 2 and f"{one} is given twice" in lines[0]


def test_overlapping_spans_are_found(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("4 5 sad\n0 10 happy\n10 11 calm\n9.5 10.5 angry\n")
    pairs = [(a.start, b.start) for a, b in Timeline.read(path).overlaps()]
    assert pairs == [(0, 4), (0, 9.5), (9.5, 10)]
    path.write_text("0 1 happy\n1 2 sad\n")
    assert Timeline.read(path).overlaps() == [] == Timeline.constant("happy").overlaps()


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("2 3 happy\n4 5 sad\n", "all of its spans begin after the end of the audio at 1.00 s"),
        ("0 1 happy\n4 5 sad\n", "one of its spans begins after the end of the audio at 1.00 s"),
        ("0 0.5 happy\n0.6 9 sad\n", "the span from 0.6 to 9 s is cut off by the end of the audio"),
        ("0 0.5 happy\n0.4 1 sad\n", "one of its spans begins before an earlier one ends"),
        ("0 1 happy 1.2\n", "one of its spans is stronger than 1.5, the most"),
        ("0 0.5 happy\n0.5 1.05 sad\n", None),
    ],
)
def test_odd_timelines_are_described(tmp_path, text, note):
    (tmp_path / "t.txt").write_text(text)
    timeline = Timeline.read(tmp_path / "t.txt")
    notes = timeline.scaled(1.5 if "1.2" in text else 1.0).notes(1.0)
    assert [note] == [found[: len(note)] for found in notes] if note else not notes
    assert not any("the end of" in found for found in timeline.notes(None))


def test_a_timeline_after_the_end_is_noted_everywhere(
    run, tmp_path, bound, models, example_face, silence
):
    path = tmp_path / "t.txt"
    path.write_text("2 3 happy\n")
    note = f"{path}: all of its spans begin after the end of {silence.name} at 1.00 s"
    result = talkemo.animate(bound, silence, timeline=path, models=models, fps=5)
    assert any(found.startswith(note) for found in result.notes)
    options = ("--timeline", path, "--fps", "5", "--json")
    _, written, facts = run(
        "animate", example_face, silence, *options, "--format", "npz", "-o", tmp_path / "o"
    )
    assert any(fact.startswith(note) for fact in facts)
    assert any(n.startswith(note) for n in json.loads(written[-1])["results"][0]["notes"])
    animation = tmp_path / "o" / "silence_t.npz"
    result = talkemo.transfer(animation, timeline=path, models=models)
    assert any("after the end of the animation at 1.00 s" in found for found in result.notes)
    stream = talkemo.stream(bound, silence, timeline=path, models=models, fps=5)
    assert any("after the end of the audio at 1.00 s" in found for found in stream.notes)


@pytest.mark.parametrize(
    ("typed", "offered", "left_out"),
    [
        ("animate --emotion ", ("neutral", "surprised"), ()),
        ("animate --emotion happy:0.6,s", ("0.6,sad", "0.6,surprised"), ("calm",)),
        ("transfer --emotion h", ("happy",), ("sad",)),
        ("animate --style grid_s1_", ("grid_s1_s1",), ("default",)),
        ("animate --weights free --style ", ("default",), ("grid_s1_s1",)),
        ("animate --weights ", ("default", "free"), ()),
        ("render --view ", ("front", "three-quarter", "side"), ()),
        ("render --frame ", ("face", "body"), ()),
        ("animate --format ", ("mp4", "glb", "jsonl"), ()),
        ("animate --up ", ("x", "-z"), ()),
        ("animate --gaze ", ("auto", "off"), ()),
        ("animate --weights nothing --style ", (), ("default",)),
    ],
)
def test_the_shell_is_offered_values(monkeypatch, capsys, typed, offered, left_out):
    monkeypatch.setenv("_TALKEMO_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"talkemo {typed}")
    with pytest.raises(SystemExit) as end:
        main([])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert all(f'{value}"' in text for value in offered), text
    assert not any(f'{value}"' in text for value in left_out), text


def test_flags_have_no_type_in_help(run):
    for command in ((), ("animate",), ("live",), ("weights",)):
        status, lines, _ = run(*command, "--help")
        assert status == 0 and "bool" not in "\n".join(lines).lower()


def test_headings_of_tables_are_never_cut(capsys, monkeypatch):
    columns = ["emotion", "acceleration", "classification", "discriminator", "roughness"]
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    console.table("A title", columns, [["happy", 1.0, 2, "", 3]])
    assert capsys.readouterr().out.splitlines() == [
        "A title",
        "emotion: happy",
        "  acceleration: 1",
        "  classification: 2",
        "  roughness: 3",
    ]
    monkeypatch.setenv("COLUMNS", "100")
    console.table("A title", columns, [["happy", 1.0, 2, "", 3]])
    text = capsys.readouterr().out
    assert all(column in text for column in columns) and "…" not in text


def test_an_image_beyond_the_limit_is_called_too_large(tmp_path):
    for side in (9000, 20000):  # beyond the limit, and beyond Pillow's own
        path = tmp_path / f"{side}.png"
        write_png_header(path, side)
        with pytest.raises(InputError, match="more than 67 megapixels") as error:
            check_video(path)
        assert error.value.hint == "scale it down"


def write_png_header(path: Path, side: int) -> None:
    """Write a png that claims to be a grey square of that side, without its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


def test_a_folder_as_the_output_of_one_recording(run, example_face, short_speech, tmp_path):
    """A slash at the end, or files in it, say that it is no mesh sequence."""
    animate = ("animate", str(example_face), str(short_speech), "-o")
    new, used = tmp_path / "new", tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    assert run(*animate, f"{new}/", "--format", "csv")[0] == 0
    assert [path.name for path in new.iterdir()] == ["short_neutral.csv"]
    assert run(*animate, str(used))[0] == 0
    assert {path.name for path in used.iterdir()} == {"mine.txt", "short_neutral.mp4"}


def test_exchanged_face_and_recording(run, example_face, short_speech):
    status, _, messages = run("animate", str(short_speech), str(example_face))
    assert status == 2 and "name the mesh first" in "".join(messages)


def test_progress_that_is_not_on_a_terminal(monkeypatch, capsys):
    clock = iter([0.0, 30.0, 70.0, 70.0, 100.0, 140.0, 140.0])
    monkeypatch.setattr("talkemo_cli.console.time.monotonic", lambda: next(clock))
    with console.progress("talking") as update:
        for step in (1, 2, 3, 4):
            update(step, 1200)
    assert capsys.readouterr().err.splitlines() == ["talking: 2 of 1200", "talking: 4 of 1200"]


def test_options_without_effect_are_refused_before_any_work(run, example_face, silence, tmp_path):
    animation, image = tmp_path / "a.npz", tmp_path / "a.png"
    assert run("animate", example_face, silence, "--fps", 5, "-o", animation)[0] == 0
    status, _, messages = run("render", animation, "--audio", silence, "-o", image)
    assert status == 2 and "a .png has no audio" in messages[0] and not image.exists()
    videos = [tmp_path / name for name in ("a.csv", "b.csv")]
    status, _, messages = run("reconstruct", *videos, "--unit", "cm", "-o", tmp_path / "out")
    assert status == 2 and "unit cm of the person's own face" in messages[0]


def test_progress_without_a_terminal_comes_as_often_as_stated(monkeypatch, capsys):
    monkeypatch.setattr("talkemo_cli.console.time.monotonic", iter(range(0, 300, 20)).__next__)
    for stated, lines in (("", ["working: 3 of 9"]), ("20", [f"working: {k} of 9" for k in "123"])):
        monkeypatch.setenv("TALKEMO_PROGRESS_S", stated)
        with console.progress("working") as update:
            for done in (1, 2, 3):
                update(done, 9)
        assert capsys.readouterr().err.splitlines() == lines
