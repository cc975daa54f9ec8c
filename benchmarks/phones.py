"""Aligned phones of recordings, for benchmarks/closures.py and `talkemo evaluate --phones`.

python benchmarks/phones.py TRANSCRIPTS.tsv AUDIO -o PHONES.json

TRANSCRIPTS is a tab-separated table with the columns name and text, and start and end in s where a
row covers only part of a recording; any speech recogniser can produce it. AUDIO is the folder of
NAME.ogg, .wav, .flac or .mp3. The output is {name: [[phone, start, end], ...]}: times in s,
ARPAbet names, English only. A row is skipped if the dictionary lacks one of its words or if its
audio and text cannot be aligned. Needs pocketsphinx: pip install 'talkemo[teacher]'.
"""

import argparse
import csv
import json
from pathlib import Path

from talkemo.audio.recording import SAMPLE_RATE, open_audio
from talkemo.data.phones import Aligner, Phone, phones_to_json
from talkemo.files.writing import atomic_write

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


def main() -> None:
    """Parse the command line and write the phones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("transcripts", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("phones.json"))
    options = parser.parse_args()

    with options.transcripts.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    aligner = Aligner()
    phones_by_name: dict[str, list[list]] = {}
    for row in rows:
        phones = align_row(aligner, options.audio, row)
        if phones is not None:
            phones_by_name.setdefault(row["name"], []).extend(phones_to_json(phones))
    with atomic_write(options.output) as partial:
        partial.write_text(json.dumps(phones_by_name, separators=(",", ":")), "utf-8")
    print(f"{len(rows)} rows, {len(phones_by_name)} recordings with phones: {options.output}")


if __name__ == "__main__":
    main()
