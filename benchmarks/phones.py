"""The phones of recordings, aligned with what is said in them: what benchmarks/closures.py and `evaluate --phones` read.

python benchmarks/phones.py TRANSCRIPTS.tsv AUDIO -o PHONES.json

TRANSCRIPTS is a table, separated by tabs, with the columns name and text, and start and end in s where a row has only a part
of a recording: any speech recogniser's output put into one, without the words that the dictionary lacks. AUDIO is the folder
of NAME.ogg, .wav, .flac or .mp3. Written is {name: [[phone, start, end], ...]}, times in s, ARPAbet's names. English only. A
row is left out where the dictionary lacks one of its words, or where sound and text do not go together. Needs pocketsphinx:
pip install 'talkemo[teacher]'.
"""

import argparse
import csv
import json
from pathlib import Path

from talkemo.audio.recording import SAMPLE_RATE, open_audio
from talkemo.data.phones import Aligner, Phone, phones_to_json
from talkemo.files.writing import atomic_write

ENDINGS = (".ogg", ".wav", ".flac", ".mp3")

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
found: dict[str, list[list]] = {}
for row in rows:
    path = next(
        (p for end in ENDINGS if (p := options.audio / f"{row['name']}{end}").is_file()), None
    )
    if path is None:
        print(f"{row['name']}: no sound")
        continue
    samples = open_audio(path).samples()
    first = int(float(row.get("start") or 0) * SAMPLE_RATE)
    last = int(float(row["end"]) * SAMPLE_RATE) if row.get("end") else len(samples)
    phones = aligner.phones(samples[first:last], row["text"])
    if phones is None:
        print(f"{row['name']}: not aligned: {row['text'][:60]}")
        continue
    start = first / SAMPLE_RATE
    found.setdefault(row["name"], []).extend(
        phones_to_json([Phone(p.name, p.start + start, p.end + start) for p in phones])
    )
with atomic_write(options.output) as partial:
    partial.write_text(json.dumps(found, separators=(",", ":")), "utf-8")
print(f"{len(rows)} rows, {len(found)} recordings with phones: {options.output}")
