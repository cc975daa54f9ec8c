"""Chromium, which tests of the web pages start without a window."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium: apt install chromium")


def browser_command(profile: Path, *options: str, headless: str = "--headless") -> list[str]:
    """Return the command that starts chromium with a profile of its own, silent and offline."""
    assert BROWSER is not None
    return [
        BROWSER,
        headless,
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--mute-audio",
        f"--user-data-dir={profile}",
        *options,
    ]


def drawing_options(width: int, height: int) -> list[str]:
    """Return options for pages with WebGL in a window of that size, in software."""
    return [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        f"--window-size={width},{height}",
    ]
