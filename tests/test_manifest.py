"""Manifests: many lines of speech, each acted in its own way."""

import csv
import json
import shutil

import numpy as np
import pytest

import talkemo
from talkemo.pipelines.manifest import read_manifest
from talkemo.pipelines.options import AnimateOptions
from talkemo_cli.app import main


@pytest.fixture
def folder(tmp_path, short_speech, silence):
    shutil.copy(short_speech, tmp_path / "hello.wav")
    shutil.copy(silence, tmp_path / "wait.wav")
    (tmp_path / "moods.txt").write_text("0 0.5 happy\n")
    return tmp_path


def write(folder, text):
    (folder / "lines.csv").write_text(text, "utf-8")
    return folder / "lines.csv"


def run(manifest, *options):
    return main(
        ["animate", "-", "--manifest", str(manifest), "--format", "csv", "--fps", "10", *options]
    )


def test_lines_replace_options(folder):
    manifest = write(
        folder,
        "\ufeffAudio;emotion;timeline;intensity;style;seed;output\n"
        "hello.wav;sad;;0.5;grid_s1_s1;7;a.glb\n\nwait.wav;;moods.txt;;;;\nhello.wav;;;;;;\n",
    )
    first, second, third = read_manifest(manifest, AnimateOptions(emotion="angry", seed=2))
    assert first.audio == folder / "hello.wav" and first.output == folder / "a.glb"
    options = first.options
    assert (options.emotion, options.intensity, options.style, options.seed) == (
        "sad",
        0.5,
        "grid_s1_s1",
        7,
    )
    assert second.options.timeline == folder / "moods.txt" and second.options.emotion == "neutral"
    assert (third.options, third.output) == (AnimateOptions(emotion="angry", seed=2), None)
    assert third.where.endswith("lines.csv: line 5")


def test_a_manifest_is_animated_and_resumed(folder, capsys, models, monkeypatch):
    manifest = write(
        folder, "audio,emotion,output\nhello.wav,sad,\nwait.wav,,named.npz\nhello.wav,happy,\n"
    )
    out = folder / "out"
    assert run(manifest, "-o", str(out), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [one["outputs"] for one in result["results"]] == [
        [str(out / "hello_sad.csv")],
        [str(folder / "named.npz")],
        [str(out / "hello_happy.csv")],
    ]
    wanted = talkemo.animate("-", folder / "hello.wav", emotion="sad", fps=10, models=models)
    with (out / "hello_sad.csv").open(newline="") as file:
        jaw = [float(row["JawOpen"]) for row in csv.DictReader(file)]
    names = talkemo.face.canonical.ARKIT_NAMES
    np.testing.assert_allclose(jaw, wanted.arkit[:, names.index("jawOpen")], atol=1e-5)
    (out / "hello_happy.csv").unlink()
    done = []
    animate = talkemo.pipelines.batch_tasks.animate
    monkeypatch.setattr(
        "talkemo.pipelines.batch_tasks.animate",
        lambda *a, **k: done.append(a[1].name) or animate(*a, **k),
    )
    assert run(manifest, "-o", str(out), "--resume", "--json") == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert done == ["hello.wav"] and len(result["skipped"]) == 2 and result["recordings"] == 3
    assert output.err.strip().endswith("1 of 3 recordings done, 2 skipped: their outputs exist")
    assert run(manifest, "-o", str(out), "--resume") == 0
    output = capsys.readouterr()
    assert output.out == "" and "nothing to do: the outputs of all 3 recordings exist" in output.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("audio,emotoin\nhello.wav,sad\n", "unknown column 'emotoin'\n  did you mean emotion?"),
        ("audio,audio\nhello.wav,hello.wav\n", "two columns audio"),
        ("emotion\nsad\n", "no column audio"),
        ("audio\n", "no recordings below its header"),
        ("", "an empty manifest"),
        ("audio,emotion\nhello.wav\n,sad\n", "line 3: no audio"),
        ("audio,emotion\nhello.wav,sad,1\n", "line 2: 3 values for 2 columns"),
        ("audio\nhello.wav\nnone.wav\n", "line 3: {}/none.wav: no such audio file"),
        ("audio\n.\n", "line 2: {} is a folder, not an audio file"),
        ("audio,emotion\nhello.wav,happpy\n", "line 2: unknown emotion 'happpy'"),
        ("audio,intensity\nhello.wav,9\n", "line 2: intensity 9 is not between"),
        ("audio,intensity\nhello.wav,nan\n", "line 2: intensity 'nan'"),
        ("audio,seed\nhello.wav,-1\n", "line 2: seed -1"),
        ("audio,style\nhello.wav,nobody\n", "line 2: unknown style 'nobody'"),
        ("audio,timeline\nhello.wav,none.txt\n", "line 2: {}/none.txt: no such timeline"),
        ("audio,emotion,timeline\nhello.wav,sad,moods.txt\n", "line 2: an emotion and a timeline"),
        ("audio,output\nhello.wav,a.exe\n", "line 2: {}/a.exe: cannot write this kind of file"),
        ("audio,output\nhello.wav,none/a.csv\n", "line 2: {}/none: no such folder"),
        (
            "audio,output\nhello.wav,a.csv\nwait.wav,./a.csv\n",
            "lines.csv: line 2 and {}/lines.csv: line 3 would both be written to",
        ),
        ("audio\nhello.wav\nhello.wav\n", "line 2 and {}/lines.csv: line 3 would both be written"),
        (
            "audio,output,timeline\nhello.wav,moods.csv,\nwait.wav,,moods.csv\n",
            "moods.csv is an input and would be overwritten",
        ),
        ('audio\n"hello.wav\n', "not a manifest (unexpected end of data)"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_before_any_work(folder, capsys, text, why):
    (folder / "moods.csv").write_text("start,end,emotion\n0,1,happy\n")
    assert run(write(folder, text), "-o", str(folder / "out")) == 2
    message = capsys.readouterr().err
    assert why.format(folder) in message and len(message.splitlines()) == 2
    assert not (folder / "out").exists()


def test_a_manifest_replaces_recordings(folder, capsys):
    manifest = write(folder, "audio\nhello.wav\n")
    for arguments in (
        ["-", str(folder / "hello.wav"), "--manifest", str(manifest)],
        ["-", "--stream", "--manifest", str(manifest)],
        ["-"],
    ):
        assert main(["animate", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_one_recording_is_resumed_too(folder, capsys):
    command = ["animate", "-", str(folder / "hello.wav"), "-o", str(folder / "one.csv"), "--resume"]
    assert main(command) == 0
    written = (folder / "one.csv").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*command, "--emotion", "happy"]) == 0
    assert "its outputs exist" in capsys.readouterr().err
    assert (folder / "one.csv").stat().st_mtime_ns == written
    assert main(["animate", "-", str(folder / "hello.wav"), "--stream", "--resume"]) == 2
