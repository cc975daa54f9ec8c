"""What a command prints: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from .standard_streams import visible

if TYPE_CHECKING:
    from talkemo import Result

TABLE_COLUMNS = 140  # characters, width of a table that does not go to a terminal


class Console:
    """The output of one run, as the shared options ask for it."""

    def __init__(self) -> None:
        self.configure()

    def configure(self, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        """Apply the shared options of a run."""
        self.as_json, self.quiet, self.debug = as_json, quiet, debug

    def result(self, data: dict[str, Any], lines: list[str] | None = None) -> None:
        """Print a command's result: one JSON object with --json, else lines.

        Parameters
        ----------
        data : dict
            The JSON object.
        lines : list of str, optional
            Lines without --json; by default `name: value` for each item of data.
        """
        if self.as_json:
            lines = [json.dumps(data, default=str)]
        elif lines is None:
            lines = [f"{name}: {_plain(value)}" for name, value in data.items()]
        try:
            for line in lines:
                print(_for_stream(line, sys.stdout))
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # the reader has ended
            self.mute()

    def mute(self) -> None:
        """Discard all further output, because the process that reads it has ended."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)

    def message(self, text: str) -> None:
        """Print a message for the person at the terminal, on stderr."""
        if not self.quiet and sys.stderr is not None:
            with suppress(OSError):  # a terminal that was closed; the run goes on
                print(visible(text), file=sys.stderr, flush=True)

    def error(self, message: str, hint: str) -> None:
        """Print what went wrong and what to do about it, on stderr."""
        if sys.stderr is not None:  # it is None where the process was started without one
            with suppress(OSError):
                print(f"talkemo: {visible(message)}\n  {visible(hint)}", file=sys.stderr)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[..., None]]:
        """Show a progress bar if stderr is a terminal; yields update(done, total, label=None)."""
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield lambda done, total, name=label: None
            return
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task = bar.add_task(escape(visible(label)), total=None)
            yield lambda done, total, name=label: bar.update(
                task, completed=done, total=total, description=escape(visible(name))
            )

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Print a table on stdout, unless the result is printed as JSON."""
        if self.as_json or sys.stdout is None:
            return
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.table import Table

        shown = lambda text: escape(_for_stream(text, sys.stdout))
        table = Table(title=shown(title), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(shown(column), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(shown(_plain(cell)) for cell in row))
        width = None if sys.stdout.isatty() else TABLE_COLUMNS
        RichConsole(file=sys.stdout, width=width).print(table)

    def animation(self, result: Result) -> None:
        """Print an animation's frame count, metrics and output files."""
        self.message(
            f"{result.frames} frames at {result.fps:g} fps; the face model fits the mesh to "
            f"{result.binding_error_mm:.1f} mm"
        )
        for note in result.notes:
            self.message(note)
        for name, value in result.metrics.items():
            self.message(f"{name.replace('_', ' ')}: {value:.3g}")
        self.result(animation_data(result), [str(path) for path in result.outputs])


def animation_data(result: Result) -> dict[str, Any]:
    """The JSON object of an animation."""
    return {
        "outputs": [str(path) for path in result.outputs],
        "frames": result.frames,
        "fps": result.fps,
        "seconds": result.seconds,
        "binding_error_mm": result.binding_error_mm,
        "notes": result.notes,
        **result.metrics,
    }


def _for_stream(text: str, stream: TextIO) -> str:
    """A text as it is for a file or a pipe; for a terminal, with control characters escaped."""
    return visible(text, keep="\n\t") if stream.isatty() else text


def _plain(value: Any) -> str:
    """A value as text: floats with four digits, dictionaries as `name value` pairs."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    return str(value)


console = Console()
