"""The documentation: each command has a page with all options, and links are valid."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT

from talkemo import __version__
from talkemo_cli.app import app


@pytest.fixture(scope="module")
def pages():
    pytest.importorskip("mkdocs", reason="pip install 'talkemo[docs]'")
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
    assert all(text.count("\n") > 8 for text in commands.values())
    assert "`--device auto|cpu|cuda`" in commands["doctor"] or "--device" in commands["animate"]
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert all(f"commands/{name}.md" in nav for name in commands)


def test_the_site_is_built_without_warnings(pages, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    assert "talkemo animate" in (tmp_path / "site" / "commands" / "animate.html").read_text("utf-8")


def test_the_citation_names_this_version_and_the_paper():
    yaml = pytest.importorskip("yaml", reason="pip install 'talkemo[docs]'")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__ and citation["cff-version"] == "1.2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Wang", "Fan", "Xia"]
    assert paper["url"] in (ROOT / "docs" / "data.md").read_text("utf-8")
