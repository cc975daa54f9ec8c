#!/bin/sh
# Installs talkemo with its test tools into .venv beside this checkout, then lints, checks types and runs the tests.
set -e
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet '.[test]'
sh tests/lint.sh --check
# A file's tests share what they make; the files keep the order of tests/conftest.py.
.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
