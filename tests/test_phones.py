"""Alignment of phones: their times, and text and audio that cannot be aligned."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from talkemo import InputError, TalkemoError
from talkemo.audio.recording import open_audio
from talkemo.data import phones
from talkemo.data.phones import Aligner, Phone, Word, align_corpus, bilabial_times

RATE = 16000
# The first 5 s of the example's sentence.
TEXT = "Hello! My name is Emma. A big brown map of Bombay is on the table"


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    pytest.importorskip("pocketsphinx")
    return Aligner()


@pytest.fixture(scope="module")
def samples(example_speech) -> np.ndarray:
    return open_audio(example_speech).samples()


def test_missing_package_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(TalkemoError, match="not installed") as caught:
        Aligner()
    assert caught.value.hint == "pip install pocketsphinx"


def test_bilabial_times_are_those_of_p_b_and_m():
    result = bilabial_times(
        [Phone("SIL", 0, 0.1), Phone("M", 0.1, 0.2), Phone("F", 0.2, 0.3), Phone("P", 0.3, 0.35)]
    )
    np.testing.assert_allclose(result, [[0.1, 0.2], [0.3, 0.35]])
    assert bilabial_times([]).shape == (0, 2)


@pytest.fixture(scope="module")
def aligned(aligner, samples) -> list[Word]:
    return aligner.words(samples[: 6 * RATE], TEXT)


def test_example_speech_is_aligned(aligner, samples, aligned):
    assert [word.text for word in aligned if word.text] == TEXT.lower().replace("!", "").replace(
        ".", ""
    ).split()
    result = aligner.phones(samples[: 6 * RATE], TEXT)
    assert [p for p in result if p.name != "SIL"] == [
        p for word in aligned if word.text for p in word.phones
    ]
    assert result[0].start == 0 and result[-1].end == pytest.approx(6, abs=0.05)
    assert all(a.end == b.start for a, b in pairwise(result)) and all(
        p.start < p.end for p in result
    )
    # my, name, Emma, big, brown, map (two), Bombay (three), table
    assert len(bilabial_times(result)) == 11


def test_stops_have_little_power(samples, aligned):
    """P and B have less power than open vowels."""

    def level(*names: str) -> float:
        stretches = [
            samples[int(p.start * RATE) : int(p.end * RATE)]
            for w in aligned
            for p in w.phones
            if p.name in names
        ]
        return float(np.median([np.sqrt(np.mean(stretch**2)) for stretch in stretches]))

    assert level("P", "B") < 0.5 * level("AE", "AA", "OW", "AY", "AW")


@pytest.mark.parametrize("text", ["", "?!", "room 12", "salt & pepper", "hello xqzzy"])
def test_unknown_text_is_not_aligned(aligner, samples, text):
    assert aligner.phones(samples, text) is None


def test_a_failed_alignment_is_none_and_does_not_change_the_next(aligner, samples):
    before = aligner.phones(samples[:RATE], "hello")
    assert aligner.phones(samples[:1600], TEXT) is None  # too short for the phones
    assert aligner.phones(samples[:0], "hello") is None
    assert aligner.phones(samples[:RATE], "hello") == before


def test_text_is_normalised(aligner):
    words = aligner.dictionary_words
    assert words("“Don’t—stop”, 'twas said…") == ["don't", "stop", "'twas", "said"]
    assert words("It's a well-known 'map'.") == ["it's", "a", "well", "known", "map"]


@pytest.fixture
def corpus(tmp_path, samples):
    speech = tmp_path / "speech"
    speech.mkdir()
    soundfile.write(speech / "a.wav", samples[:RATE], RATE)
    rows = [("a.wav", "hello"), ("missing.wav", "hello"), ("a.wav.number", "room 12")]
    table = "file\tset\tspeaker\ttext\n" + "".join(f"{file}\tx\ty\t{text}\n" for file, text in rows)
    (speech / "transcripts.tsv").write_text(table, "utf-8")
    return tmp_path


def test_corpus_is_aligned_and_an_interrupted_alignment_resumes(aligner, corpus, monkeypatch):
    out, progress, begun = corpus / "phones.json", [], []
    align_shard = phones._align_shard

    def interrupted_in_the_second(task):
        begun.append(task[1])
        if len(begun) == 2:
            raise KeyboardInterrupt
        align_shard(task)

    monkeypatch.setattr(phones, "_process_aligner", lambda: aligner)
    monkeypatch.setattr(phones, "ALIGNMENT_SHARD_UTTERANCES", 1)
    monkeypatch.setattr(phones, "_align_shard", interrupted_in_the_second)
    monkeypatch.setattr(phones, "map_tasks", lambda function, tasks, jobs: map(function, tasks))
    with pytest.raises(KeyboardInterrupt):
        align_corpus(corpus, out, 1)
    assert not out.exists()
    done = align_corpus(corpus, out, 1, lambda *counts: progress.append(counts))
    assert done == {"utterances": 3, "aligned": 1, "failed": 1}
    first, second, third = ([row] for row in phones._transcripts(corpus))
    assert begun == [first, second, second, third] and progress == [(2, 3), (3, 3)]
    result = json.loads(out.read_text("utf-8"))
    assert list(result) == ["a.wav"] and result["a.wav"][0][1] == 0
    assert not (corpus / "phones.parts").exists()


def test_missing_transcripts_are_reported(tmp_path):
    with pytest.raises(InputError, match="no such table"):
        align_corpus(tmp_path, tmp_path / "phones.json")


def test_phones_are_read(tmp_path):
    content = {"a.wav": [["SIL", 0, 0.1], ["P", 0.1, 0.2], ["AA1", 0.2, 1], ["ʃ", 1, 1]], "b": []}
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "p.json").write_bytes(mark + json.dumps(content).encode())
        read = phones.read_phones(tmp_path / "p.json")
        assert read["a.wav"][1] == Phone("P", 0.1, 0.2) and read["b"] == []


@pytest.mark.parametrize(
    "phone",
    [["P", -0.1, 0.2], ["P", 0.3, 0.2], ["P", 0, 1e9], ["P", 0, "1"], ["P", True, 1], ["P", 0],
     ["-1", 0, 1], ["", 0, 1], [3, 0, 1], [None, 0, 1], ["P Q", 0, 1], ["P" * 99, 0, 1], "P01", 5],
)  # fmt: skip
def test_impossible_phones_are_refused(tmp_path, phone):
    (tmp_path / "p.json").write_text(json.dumps({"a": [["P", 0, 1], phone]}))
    with pytest.raises(InputError, match=r"p\.json: not a file of aligned phones \(a: ") as caught:
        phones.read_phones(tmp_path / "p.json")
    assert "\n" not in caught.value.message


def test_the_number_of_phones_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(phones, "MAX_PHONES", 50)
    for content in ({"a": [["P", 0, 1]] * 60}, {str(k): [] for k in range(10)}):
        (tmp_path / "p.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="more than 50 phones"):
            phones.read_phones(tmp_path / "p.json")
