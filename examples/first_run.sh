#!/bin/sh
# Installs talkemo into .venv beside this checkout and runs the main job on the examples.
set -e
here=$(pwd)
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv || {
    echo "python3 cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
}
echo "Installing talkemo and its libraries into .venv. The largest is torch; this can take minutes." >&2
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
.venv/bin/python -m pip install --disable-pip-version-check .
mkdir -p out
echo "Animating the example face. The first video takes longer, while the renderer is compiled." >&2
.venv/bin/talkemo animate examples/face.obj examples/speech.wav --emotion happy -o out/happy.mp4 -o out/happy.npz
echo >&2
echo "Done. What comes next:" >&2
[ "$here" = "$PWD" ] || echo "    cd '$PWD'" >&2
cat >&2 <<'NEXT'
    . .venv/bin/activate                                          # once per terminal
    talkemo animate YOUR_FACE.obj YOUR_SPEECH.wav --emotion happy
    talkemo doctor                                                # what works on this machine
NEXT
