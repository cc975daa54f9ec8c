"""Extras: groups of optional dependencies, and the command that installs one."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit


def install_command(extra: str) -> str:
    """Return the command that installs an extra.

    It names the checkout from which talkemo was installed, if it is still there, since talkemo may
    not be on a package index.
    """
    checkout, is_editable = _checkout()
    target = shlex.quote(f"{checkout or 'talkemo'}[{extra}]")
    return f"pip install {'-e ' if is_editable else ''}{target}"


def _checkout() -> tuple[Path | None, bool]:
    """The folder that pip installed talkemo from, and whether that is editable (PEP 610)."""
    try:
        origin = json.loads(distribution("talkemo").read_text("direct_url.json") or "{}")
        address = urlsplit(origin["url"])
        folder = Path(unquote(address.path.lstrip("/") if ":" in address.path else address.path))
        is_editable = bool(origin["dir_info"].get("editable"))
    except (PackageNotFoundError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, False
    if address.scheme != "file" or not (folder / "pyproject.toml").is_file():
        return None, False
    return folder, is_editable
