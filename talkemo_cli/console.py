"""What a command says: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Console:
    """The output of one run, as the shared options want it."""

    as_json = False
    quiet = False
    debug = False

    def reset(self) -> None:
        """Forget the options of an earlier run in the same process."""
        self.as_json = self.quiet = self.debug = False

    def result(self, data: dict[str, Any], lines: list[str] | None = None) -> None:
        """Print a command's result: one JSON object with --json, else lines (by default the figures, one a line)."""
        if self.as_json:
            lines = [json.dumps(data, default=str)]
        elif lines is None:
            lines = [f"{name}: {_plain(value)}" for name, value in data.items()]
        try:
            for line in lines:
                print(line)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # whoever reads it has seen enough
            self.mute()

    def mute(self) -> None:
        """Send what is still to be printed to nowhere: whoever read it is gone."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)

    def message(self, text: str) -> None:
        """Say something to the person at the terminal."""
        if not self.quiet and sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)

    def error(self, message: str, hint: str) -> None:
        """Say what went wrong, and what to do about it."""
        if sys.stderr is not None:  # it is None where the process was started without one
            print(f"talkemo: {message}\n  {hint}", file=sys.stderr)

    @contextmanager
    def progress(self, label: str) -> Iterator[Any]:
        """A progress bar on a terminal, nothing elsewhere; yields update(done, total, label=None)."""
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield lambda done, total, name=label: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
        )
        with Progress(
            *columns, TimeRemainingColumn(), console=RichConsole(stderr=True), transient=True
        ) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total, name=label: bar.update(
                task, completed=done, total=total, description=name
            )

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table on stdout, unless the result is wanted as JSON."""
        if self.as_json:
            return
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(escape(_plain(cell)) for cell in row))
        if sys.stdout is not None:
            RichConsole(file=sys.stdout, width=None if sys.stdout.isatty() else 140).print(table)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    return str(value)


console = Console()
