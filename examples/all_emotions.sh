#!/bin/sh
# One video for each emotion, in out/.
set -e
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
mkdir -p out
for emotion in neutral calm happy sad angry fearful disgust surprised; do
    talkemo animate examples/face.obj examples/speech.wav --emotion $emotion -o out/$emotion.mp4
done
