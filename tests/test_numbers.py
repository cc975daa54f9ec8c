"""Numbers in README and docs/results.md are those of the json files that the commands left."""

import json
import re
import string
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if sys.version_info < (3, 11):
    pytest.skip("needs tomllib, which Python 3.11 brings", allow_module_level=True)
import tomllib  # noqa: E402

NUMBERS = tomllib.loads((ROOT / "docs" / "numbers.toml").read_text("utf-8"))
STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]|\[([^\]=]+)=([^\]]+)\]")


class Blank(string.Formatter):
    """Writes nothing for a value that is missing, whatever its format."""

    def format_field(self, value, format_spec):
        return "" if value is None else super().format_field(value, format_spec)


def look_up(path):
    """The value at a path such as `results/default.json lips.corpora[corpus=talking].r_width`."""
    name, _, keys = path.partition(" ")
    value = json.loads((ROOT / "docs" / name).read_text("utf-8"))
    for key, index, field, wanted in STEP.findall(keys):
        if key:
            value = value[key]
        elif index:
            value = value[int(index)]
        else:
            (value,) = (entry for entry in value if entry[field] == wanted)
    return value


def one_line(text):
    return re.sub(r"\s+", " ", text)


def sentences():
    """The file and the sentence or row of each entry, with its numbers."""
    for entry in NUMBERS["number"]:
        known = {"file", "says"}
        values = {name: look_up(path) for name, path in entry.items() if name not in known}
        yield entry["file"], string.Formatter().vformat(entry["says"], (), values)
    for entry in NUMBERS["rows"]:
        names = entry.get("names", {})
        for row in look_up(entry["each"]):
            values = {k: names.get(v, v) if isinstance(v, str) else v for k, v in row.items()}
            yield entry["file"], Blank().vformat(entry["row"], (), values)


@pytest.mark.parametrize(("file", "sentence"), list(sentences()))
def test_documents_tell_the_numbers_that_commands_printed(file, sentence):
    text = one_line((ROOT / file).read_text("utf-8"))
    assert one_line(sentence) in text, f"{file} does not say: {sentence}"


def test_a_number_that_differs_is_found():
    file, sentence = next(sentences())
    changed = re.sub(r"\d\.\d+", lambda match: f"{float(match[0]) + 0.01:.2f}", sentence, count=1)
    assert changed != sentence
    assert one_line(changed) not in one_line((ROOT / file).read_text("utf-8"))
