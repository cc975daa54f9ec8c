#!/bin/sh
# Formats, lints and checks types in one command; with --check nothing is changed and what is not formatted is an error.
set -e
cd "$(dirname "$0")/.."
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
if [ "$1" = "--check" ]; then
    "$python" -m ruff format --check .
    "$python" -m ruff check .
else
    "$python" -m ruff format .
    "$python" -m ruff check --fix .
fi
"$python" -m mypy
