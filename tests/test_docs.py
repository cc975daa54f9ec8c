"""The documentation: each command has a page with all options, and links are valid."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest
from browser import browser_command, needs_browser
from conftest import ROOT

from talkemo import __version__
from talkemo_cli.app import app


@pytest.fixture(scope="module")
def pages():
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="pip install 'talkemo[docs]'")
    source = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "_pages.py")
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


def test_a_command_s_page_has_its_help_and_options(pages):
    commands = {command.name: pages.command_page(command) for command in app.registered_commands}
    page = commands["animate"]
    for text in (
        "# talkemo animate",
        "| `FACE` |",
        "`--emotion TEXT`",
        "`-o, --output PATH`",
        "| `--stream` |",
        "## Face",
        "`0`",
    ):
        assert text in page, text
    assert "talkemo animate face.obj speech.wav --emotion happy" in page
    assert page.index("## Options") < page.index("## Face") < page.index("## Shared")
    assert "<code>--blink auto&#124;off&#124;RATE</code>" in page and "\\|" not in page
    assert all(text.count("\n") > 8 for text in commands.values())
    assert "--device auto&#124;cpu&#124;cuda" in commands["doctor"]
    assert all("bool" not in text for text in commands.values())
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert all(f"commands/{name}.md" in nav for name in commands)


@pytest.fixture(scope="module")
def site(pages, tmp_path_factory):
    """The site, built without warnings."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # an advertisement of the theme
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_the_site_is_built_without_warnings(site):
    page = (site / "commands" / "animate.html").read_text("utf-8")
    assert "talkemo animate" in page and "tables.css" in page
    assert (site / "commands" / "styles.html").is_file()


@needs_browser
def test_tables_of_a_command_s_page_fit_it(pages, site, tmp_path):
    """Each table is as wide as its frame or narrower, in a wide window and on a phone."""
    folder = shutil.copytree(site, tmp_path / "site")
    page = folder / "commands" / "animate.html"
    report = (
        "<script>window.addEventListener('load', () => setTimeout(() => document.title = "
        "[...document.querySelectorAll('table')].map(table => "
        "table.scrollWidth <= table.parentElement.clientWidth).join(' '), 300))</script></body>"
    )
    page.write_text(page.read_text("utf-8").replace("</body>", report), "utf-8")
    for width in (1100, 500):
        options = (f"--window-size={width},900", "--virtual-time-budget=3000", "--dump-dom")
        command = browser_command(tmp_path / "profile", *options, page.as_uri())
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
        title = re.search("<title>(.*)</title>", done.stdout)
        assert title and set(title[1].split()) == {"true"}, (width, done.stdout[:500])


def test_the_citation_names_this_version_and_the_paper():
    yaml = pytest.importorskip("yaml", reason="pip install 'talkemo[docs]'")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__ and citation["cff-version"] == "1.2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Wang", "Fan", "Xia"]
    assert paper["url"] in (ROOT / "docs" / "data.md").read_text("utf-8")
