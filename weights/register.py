"""Writes registry.toml anew from the weights in this folder: run it after replacing a file.

python weights/register.py
"""

import json
from pathlib import Path

from talkemo.weights import STAGES, sha256

NC = "research and non-commercial use"
ABOUT = {
    "face": ("MIT", "canonical face, bilinear model, geometry map"),
    "speech": (NC, "sound to speech features"),
    "talking": (NC, "speech features to the motion of the canonical face"),
    "emotion": ("CC BY-NC-SA 4.0", "emotion transfer on geometry maps"),
    "discriminator": ("CC BY-NC-SA 4.0", "what emotion transfer was trained against, for evaluation"),
    "classifier": ("CC BY-NC-SA 4.0", "judge of generated emotions, for evaluation"),
}

folder = Path(__file__).parent
lines = ["# The bundled weights; written by register.py."]
for stage in STAGES:
    path = folder / f"{stage}.safetensors"
    licence, about = ABOUT[stage]
    entry = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "licence": licence,
        "about": about,
    }
    lines += ["", f"[{stage}]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
(folder / "registry.toml").write_text("\n".join(lines) + "\n", "utf-8")
