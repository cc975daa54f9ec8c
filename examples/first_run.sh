#!/bin/sh
# Installs talkemo into .venv beside this checkout and runs the main job on the examples.
set -e
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet .
mkdir -p out
.venv/bin/talkemo animate examples/face.obj examples/speech.wav --emotion happy -o out/happy.mp4 -o out/happy.npz
