"""Generate pages of the documentation; `mkdocs build` runs it.

Each subcommand gets a page from its signature and help. The model cards, the changelog and the
contributing guide are files of the repository; links to them are changed to their pages.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from typer.models import ArgumentInfo, OptionInfo

from talkemo_cli.app import app

ROOT = Path(__file__).parent.parent
# Pages that are copies of a file of the repository.
REPOSITORY_PAGES = {
    "weights.md": "weights/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")  # to a file, in Markdown


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    for command in app.registered_commands:
        page = f"commands/{command.name}.md"
        files.append(File.generated(config, page, content=command_page(command)))
    for page, source in REPOSITORY_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Change links to files of the repository to links to their pages."""
    del config, files
    uri = page.file.src_uri
    if uri.startswith("commands/"):
        return markdown
    page_of_file = {source: target for target, source in REPOSITORY_PAGES.items()}
    folder = ROOT / Path(REPOSITORY_PAGES.get(uri, "docs/index.md")).parent

    def changed_link(match: re.Match[str]) -> str:
        path, anchor = (folder / match[1]).resolve(), match[2] or ""
        if not path.is_relative_to(ROOT):
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        if name in page_of_file:
            return f"]({page_of_file[name]}{anchor})"
        if uri in REPOSITORY_PAGES and name.startswith("docs/"):
            return f"]({name.removeprefix('docs/')}{anchor})"
        return match[0]

    return LINK.sub(changed_link, markdown)


def command_page(command: Any) -> str:
    """The page of a subcommand, in Markdown."""
    function = command.callback
    arguments: list[list[str]] = []
    panels: dict[str, list[list[str]]] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind, *metadata = typing.get_args(parameter.annotation)
        info = next((x for x in metadata if isinstance(x, ArgumentInfo | OptionInfo)), None)
        if isinstance(info, ArgumentInfo):
            arguments.append([f"`{parameter.name.upper()}`", info.help or ""])
        elif info is not None and not info.hidden:
            option = code(option_usage(parameter.name, kind, info))
            panel = panels.setdefault(info.rich_help_panel or "Options", [])
            panel.append([option, info.help or "", default_text(parameter.default)])
    lines = [f"# talkemo {command.name}", "", inspect.getdoc(function) or "", ""]
    if command.epilog:
        lines += ["```sh", *(line for line in command.epilog.splitlines() if line), "```", ""]
    lines += table(["argument", "meaning"], arguments)
    first_and_last = {"Options": -1, "Shared": 1}
    for name, rows in sorted(panels.items(), key=lambda item: first_and_last.get(item[0], 0)):
        lines += [f"## {name}", "", *table(["option", "meaning", "default"], rows)]
    return "\n".join(lines)


def option_usage(name: str, kind: Any, info: OptionInfo) -> str:
    """How an option is written, with a placeholder for its value."""
    names = list(info.param_decls or ())
    # In an annotation typer takes the first name for a default, until it is resolved.
    if isinstance(info.default, str) and info.default.startswith("-"):
        names.insert(0, info.default)
    usage = ", ".join(names) or f"--{name.replace('_', '-')}"
    return usage if kind is bool else f"{usage} {info.metavar or placeholder(kind)}"


def code(text: str) -> str:
    """A text as code; in a table, Markdown's own code cannot contain the bar between cells."""
    return f"<code>{text}</code>" if "|" in text else f"`{text}`"


def placeholder(kind: Any) -> str:
    """The placeholder of a value of a type."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) in (typing.Union, list):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is list:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.value for member in kind)
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


def default_text(default: Any) -> str:
    """A default as it is printed; empty if there is none."""
    value = getattr(default, "value", default)
    if value is None or value is False or value is inspect.Parameter.empty:
        return ""
    return f"`{value}`"


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table; none without rows."""
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *rows]
    return [*map(table_line, lines), ""]


def table_line(cells: list[str]) -> str:
    """A line of a Markdown table."""
    texts = [" ".join(cell.split()).replace("|", "&#124;") for cell in cells]
    return "| " + " | ".join(texts) + " |"
