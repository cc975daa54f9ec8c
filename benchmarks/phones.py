"""Aligned phones of recordings, for benchmarks/closures.py and `talkemo evaluate --phones`.

python benchmarks/phones.py TRANSCRIPTS.tsv AUDIO -o PHONES.json
python benchmarks/phones.py --corpus DATA/grid_s1 DATA/ravdess -o PHONES.json

TRANSCRIPTS is a tab-separated table with the columns name and text, and start and end in s where a
row covers only part of a recording; any speech recogniser can produce it. AUDIO is the folder of
NAME.ogg, .wav, .flac or .mp3. The output is {name: [[phone, start, end], ...]}: times in s,
ARPAbet names, English only. --corpus takes the words of GRID's alignments and RAVDESS's two
sentences instead. A row is skipped if the dictionary lacks one of its words or if its
audio and text cannot be aligned. Needs pocketsphinx: pip install 'talkemo[teacher]'.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

from talkemo.audio.recording import SAMPLE_RATE, open_audio
from talkemo.data.corpora import CORPORA, read_corpus
from talkemo.data.phones import Aligner, Phone, phones_to_json
from talkemo.files.writing import atomic_write

RAVDESS_SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}
GRID_PAUSES = ("sil", "sp")
AUDIO_SUFFIXES = (".ogg", ".wav", ".flac", ".mp3")


def align_row(aligner: Aligner, folder: Path, row: dict[str, str]) -> list[Phone] | None:
    """The phones of a row, times from the recording's start; prints why and returns None if not."""
    paths = [folder / f"{row['name']}{suffix}" for suffix in AUDIO_SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        print(f"{row['name']}: no audio")
        return None
    samples = open_audio(path).samples()
    first = int(float(row.get("start") or 0) * SAMPLE_RATE)
    last = int(float(row["end"]) * SAMPLE_RATE) if row.get("end") else len(samples)
    phones = aligner.phones(samples[first:last], row["text"])
    if phones is None:
        print(f"{row['name']}: not aligned: {row['text'][:60]}")
        return None
    start = first / SAMPLE_RATE
    return [Phone(p.name, p.start + start, p.end + start) for p in phones]


def align_table(transcripts: Path, audio: Path) -> dict[str, list[list]]:
    """The phones of a table of transcripts, by recording."""
    with transcripts.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    aligner = Aligner()
    phones_by_name: dict[str, list[list]] = {}
    for row in rows:
        phones = align_row(aligner, audio, row)
        if phones is not None:
            phones_by_name.setdefault(row["name"], []).extend(phones_to_json(phones))
    return phones_by_name


def corpus_rows(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield name, audio and words of a corpus's recordings whose words are known."""
    for recording in read_corpus(folder.name, folder.parent):
        if folder.name == "ravdess":
            yield recording.name, recording.audio, RAVDESS_SENTENCES[recording.name.split("-")[3]]
        else:
            align = folder / "align" / f"{recording.name}.align"
            words = [line.split()[2] for line in align.read_text("utf-8").splitlines() if line]
            spoken = " ".join(word for word in words if word not in GRID_PAUSES)
            yield recording.name, recording.audio, spoken


def align_corpora(folders: list[Path]) -> dict[str, list[list]]:
    """The phones of corpora, by recording."""
    aligner, result = Aligner(), {}
    for folder in folders:
        if folder.name not in CORPORA[:2]:
            raise SystemExit(f"{folder}: words are known of {CORPORA[0]} and {CORPORA[1]} only")
        for name, audio, text in corpus_rows(folder):
            phones = aligner.phones(open_audio(audio).samples(), text)
            if phones is not None:
                result[name] = phones_to_json(phones)
    return result


def main() -> None:
    """Parse the command line and write the phones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("transcripts", type=Path, nargs="?")
    parser.add_argument("audio", type=Path, nargs="?")
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="DATA/NAME")
    parser.add_argument("-o", "--output", type=Path, default=Path("phones.json"))
    options = parser.parse_args()

    if options.corpus:
        phones_by_name = align_corpora(options.corpus)
    elif options.transcripts and options.audio:
        phones_by_name = align_table(options.transcripts, options.audio)
    else:
        parser.error("name TRANSCRIPTS and AUDIO, or --corpus")
    with atomic_write(options.output) as partial:
        partial.write_text(json.dumps(phones_by_name, separators=(",", ":")), "utf-8")
    print(f"{len(phones_by_name)} recordings with phones: {options.output}")


if __name__ == "__main__":
    main()
