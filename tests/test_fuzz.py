"""Mutated files of every kind are read or refused; see fuzzing.py.

TALKEMO_FUZZ=100000 tries that many of them.
"""

import os

import fuzzing
import pytest

FILES = int(os.environ.get("TALKEMO_FUZZ", "5000"))
FIRST = int(os.environ.get("TALKEMO_FUZZ_FIRST", "0"))  # seed of the first file


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to limit memory")
def test_mutated_files(tmp_path):
    faults = fuzzing.try_all(FILES, tmp_path, FIRST, print)
    assert not faults, "\n".join([f"{len(faults)} faults, such as:", *faults[:40]])
