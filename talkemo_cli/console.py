"""What a command prints: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from talkemo.files.limits import limit

from .facts import animation_facts, named_fact, plain, residuals_in_mm
from .standard_streams import visible

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from talkemo import Result

UNLIMITED_COLUMNS = 1 << 16  # characters, more than any table has
# Between lines of progress that are not on a terminal; TALKEMO_PROGRESS_S states another number.
SECONDS_A_LINE = 60
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
            Lines without --json; by default a fact for each item of data.
        """
        if self.as_json:
            lines = [json.dumps(data, default=str)]
        elif lines is None:
            lines = [named_fact(name, value) for name, value in data.items()]
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

    def messages(self, lines: Iterable[str]) -> None:
        """Print messages, a line each."""
        for line in lines:
            self.message(line)

    def error(self, message: str, hint: str) -> None:
        """Print what went wrong and what to do about it, on stderr."""
        if sys.stderr is not None:  # it is None where the process was started without one
            with suppress(OSError):
                print(f"talkemo: {visible(message)}\n  {visible(hint)}", file=sys.stderr)

    @property
    def shows_progress(self) -> bool:
        """Whether a progress bar is shown."""
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[..., None]]:
        """Show a progress bar, or a line a minute if stderr is no terminal.

        Yields update(done, total, label=None).
        """
        if not self.shows_progress:
            yield self._line_a_minute(label)
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
        on_terminal = sys.stdout is not None and sys.stdout.isatty()  # else it is for a program
        with Progress(
            *columns,
            console=RichConsole(stderr=True),
            transient=True,
            redirect_stdout=on_terminal,
        ) as bar:
            task = bar.add_task(escape(visible(label)), total=None)
            yield lambda done, total, name=label: bar.update(
                task, completed=done, total=total, description=escape(visible(name))
            )

    def _line_a_minute(self, label: str) -> Callable[..., None]:
        """Return an update that prints a message if the last one is a minute old.

        Raises InputError if TALKEMO_PROGRESS_S is not a positive whole number.
        """
        last, pause = time.monotonic(), limit("PROGRESS_S", SECONDS_A_LINE)

        def update(done: float, total: float, name: str = label) -> None:
            nonlocal last
            if time.monotonic() - last >= pause:
                last = time.monotonic()
                of_total = f" of {total:g}" if total else ""
                self.message(f"{name}: {done:.0f}{of_total}")

        return update

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Print a table on stdout, unless the result is printed as JSON.

        Where the words of a table are wider than the terminal, each cell is a line of its own.
        """
        if self.as_json or sys.stdout is None:
            return
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.measure import Measurement
        from rich.table import Table

        shown = lambda text: escape(_for_stream(text, sys.stdout))
        cells = [[plain(cell) for cell in row] for row in rows]
        table = Table(title=shown(title), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(shown(column), justify="right" if number else "left")
        for row in cells:
            table.add_row(*map(shown, row))
        screen = RichConsole(file=sys.stdout, width=None if sys.stdout.isatty() else TABLE_COLUMNS)
        unlimited = screen.options.update(max_width=UNLIMITED_COLUMNS)
        if Measurement.get(screen, unlimited, table).minimum <= screen.width:
            screen.print(table)
        else:
            _print_cells(screen, title, columns, cells)

    def animation(self, result: Result) -> None:
        """Print an animation's facts, what was odd about its audio, and its output files."""
        self.messages(animation_facts(result))
        self.result(animation_data(result), [str(path) for path in result.outputs])


def animation_data(result: Result) -> dict[str, Any]:
    """The JSON object of an animation."""
    return {
        "outputs": [str(path) for path in result.outputs],
        "frames": result.frames,
        "fps": result.fps,
        "seconds": result.seconds,
        "binding_error_mm": result.binding_error_mm,
        **unit_data(result),
        "notes": result.notes,
        **({} if result.heard is None else {"heard": result.heard.as_json()}),
        **result.metrics,
        **residuals_in_mm(result),
    }


def unit_data(result: Result) -> dict[str, Any]:
    """The mesh's unit in the JSON object of an animation."""
    unit = result.unit
    width = round(unit.face_width_mm, 1)
    return {"unit": unit.name, "unit_guessed": unit.guessed, "face_width_mm": width}


def _print_cells(
    screen: RichConsole, title: str, columns: list[str], rows: list[list[str]]
) -> None:
    """Print a table as a line for each cell that is not empty, below the first cell of its row."""
    lines = [title]
    for row in rows:
        lines.append(f"{columns[0]}: {row[0]}")
        lines += [f"  {name}: {cell}" for name, cell in zip(columns[1:], row[1:]) if cell]
    for line in lines:
        screen.print(_for_stream(line, sys.stdout), markup=False, highlight=False)


def _for_stream(text: str, stream: TextIO) -> str:
    """A text as it is for a file or a pipe; for a terminal, with control characters escaped."""
    return visible(text, keep="\n\t") if stream.isatty() else text


console = Console()
