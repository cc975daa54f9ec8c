"""Build the installable zip of the Blender extension; the same sources give the same bytes.

python blender/build.py -o talkemo-blender.zip [--wheel talkemo-0.2.0-py3-none-any.whl]
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parent / "talkemo_blender"
LICENCE = Path(__file__).parent.parent / "LICENSE"
ENDINGS = (".py", ".toml")  # of the package's files
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state
ZIP_MODE = 0o644 << 16


def build(output: Path, wheel: Path | None = None) -> None:
    """Write the zip: one folder with the package, its manifest and licence, and maybe a wheel.

    `wheel` is one of talkemo itself, which the add-on then installs without further files.
    """
    files = {path.name: path for path in PACKAGE.iterdir() if path.suffix in ENDINGS}
    files["LICENSE"] = LICENCE
    if wheel is not None:
        files[wheel.name] = wheel
    with zipfile.ZipFile(output, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{PACKAGE.name}/{name}", ZIP_DATE)
            entry.external_attr = ZIP_MODE
            entry.create_system = 3  # Unix, on all systems
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].read_bytes())


def main() -> None:
    """Build the zip that the command line names."""
    parser = argparse.ArgumentParser(description="Build the zip of the Blender extension.")
    parser.add_argument("-o", "--output", type=Path, default=Path("talkemo-blender.zip"))
    parser.add_argument("--wheel", type=Path, help="a wheel of talkemo, to be installed from")
    arguments = parser.parse_args()
    build(arguments.output, arguments.wheel)
    print(arguments.output)


if __name__ == "__main__":
    main()
