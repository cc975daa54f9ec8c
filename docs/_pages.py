"""Makes the pages of the documentation that are made from something else: `mkdocs build` runs it.

A page for each subcommand comes from the command's own signature and help; the model cards, the changelog and how to
contribute are files of the repository, whose links are turned to where their pages are.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from typer.models import ArgumentInfo, OptionInfo

from talkemo_cli.app import app

ROOT = Path(__file__).parent.parent
FILES = {"weights.md": "weights/README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md",
         "security.md": "SECURITY.md"}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    for command in app.registered_commands:
        files.append(
            File.generated(config, f"commands/{command.name}.md", content=command_page(command))
        )
    for page, source in FILES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between files of the repository to the pages that are made from them."""
    del config, files
    own = page.file.src_uri
    pages = {source: made for made, source in FILES.items()}
    here = Path(FILES[own]).parent if own in FILES else Path("docs")

    def turned(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        place = (ROOT / here / target).resolve()
        if not place.is_relative_to(ROOT):
            return match[0]
        name = place.relative_to(ROOT).as_posix()
        if name in pages:
            return f"]({pages[name]}{anchor})"
        return (
            f"]({name.removeprefix('docs/')}{anchor})"
            if own in FILES and name.startswith("docs/")
            else match[0]
        )

    return (
        markdown
        if own.startswith("commands/")
        else re.sub(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", turned, markdown)
    )


def command_page(command: Any) -> str:
    """A subcommand's page in Markdown."""
    function = command.callback
    signature = inspect.signature(function, eval_str=True)
    asked, panels = [], {}
    for parameter in signature.parameters.values():
        kind, *more = typing.get_args(parameter.annotation)
        info = next((item for item in more if isinstance(item, ArgumentInfo | OptionInfo)), None)
        if isinstance(info, ArgumentInfo):
            asked.append((parameter.name.upper(), info.help or ""))
        elif info is not None and not info.hidden:
            panel = panels.setdefault(info.rich_help_panel or "Options", [])
            panel.append(
                (flags(parameter.name, kind, info), info.help or "", shown(parameter.default))
            )
    lines = [f"# talkemo {command.name}", "", inspect.getdoc(function) or "", ""]
    if command.epilog:
        lines += ["```sh", *(line for line in command.epilog.splitlines() if line), "```", ""]
    lines += table(["argument", "is"], [[f"`{name}`", text] for name, text in asked])
    for name, rows in panels.items():
        lines += [
            f"## {name}",
            "",
            *table(["option", "is", "by default"], [[f"`{a}`", b, c] for a, b, c in rows]),
        ]
    return "\n".join(lines)


def flags(name: str, kind: Any, info: OptionInfo) -> str:
    """How an option is written."""
    # In an annotation typer takes the first name for a default, until it is asked.
    first = (
        (info.default,) if isinstance(info.default, str) and info.default.startswith("-") else ()
    )
    own = ", ".join((*first, *(info.param_decls or ())))
    if kind is bool:
        return own or f"--{name.replace('_', '-')}"
    return f"{own or '--' + name.replace('_', '-')} {info.metavar or placeholder(kind)}"


def placeholder(kind: Any) -> str:
    """What stands for a value of a type."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) in (typing.Union, list):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is list:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, type) and hasattr(kind, "__members__"):
        return "|".join(member.value for member in kind)
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


def shown(default: Any) -> str:
    """A default as it is shown."""
    value = getattr(default, "value", default)
    return (
        "" if value is None or value is False or value is inspect.Parameter.empty else f"`{value}`"
    )


def table(names: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, nothing without rows."""
    if not rows:
        return []
    line = lambda cells: (
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
    )
    return [line(names), line(["---"] * len(names)), *map(line, rows), ""]
