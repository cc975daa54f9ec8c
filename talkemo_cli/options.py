"""How a function becomes a command: its dataclasses of options become options of the command line.

    @command("render", "talkemo render talk.npz -o talk.mp4")
    def render(animation: Annotated[Path, typer.Argument()], options: RenderOptions) -> None:

Each field of `RenderOptions` becomes an option, and the function gets the dataclass that they fill.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from talkemo import InputError
from talkemo.files.reading import printable
from talkemo.formats.registry import describe_outputs
from talkemo.options import option
from talkemo.pipelines.options import RuntimeOptions

from . import THREADS_CHOSEN
from .completion import offering
from .console import console
from .usage import check_no_path_is_empty


class _BareFlags:
    """A command whose help shows no type for options without a value."""

    def get_params(self, context: Any) -> list[Any]:
        """Return the parameters of the command."""
        parameters: list[Any] = super().get_params(context)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class _Group(_BareFlags, TyperGroup):
    """The talkemo command."""


class _Command(_BareFlags, TyperCommand):
    """One of its subcommands."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        """Read the arguments. Raises InputError for an empty path."""
        paths = _paths_of_command.get(str(self.name), ())
        check_no_path_is_empty(self.get_params(context), paths, arguments)
        return super().parse_args(context, arguments)


app = typer.Typer(
    name="talkemo",
    cls=_Group,
    help="Animate a 3D face mesh with speech and emotion.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OUTPUT_HELP = f"Its ending selects the format: {describe_outputs()}. May be repeated."


_paths_of_command: dict[str, set[str]] = {}  # names of the parameters that take paths
_named_as_folders: set[Path] = set()  # by the command line of this run


class Only:
    """Annotation that limits a command to the named fields of a dataclass of options."""

    def __init__(self, *names: str):
        self.names = names


@dataclass(frozen=True)
class SharedOptions:
    """Options of all commands."""

    as_json: bool = option(False, "Print one JSON object.", names=("--json",), panel="Shared")
    quiet: bool = option(False, "Show no progress.", names=("--quiet", "-q"), panel="Shared")
    debug: bool = option(False, "Show tracebacks.", panel="Shared")


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a subcommand, which also gets the shared options.

    A parameter with the name of a field in one of the groups replaces that field's option.

    Parameters
    ----------
    name : str
        Name of the subcommand.
    *examples : str
        Command lines for its `--help`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        parameters = _flattened(signature)

        @functools.wraps(function)
        def run(**values: Any) -> None:
            values["device"] = values["device"].value
            console.configure(**dataclasses.asdict(_filled(SharedOptions, values)))
            _check_device(values["device"])
            arguments = {}
            for parameter in signature.parameters.values():
                group, _ = _group_and_names(parameter.annotation)
                is_group = dataclasses.is_dataclass(group)
                arguments[parameter.name] = (
                    _filled(group, values) if is_group else values[parameter.name]
                )
            function(**arguments)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        _paths_of_command[name] = {new.name for new in parameters if _has_path(new.annotation)}
        run.__annotations__ = {new.name: new.annotation for new in parameters}
        return app.command(name, cls=_Command, epilog="\n\n".join(examples))(run)

    return register


def _has_path(annotation: Any) -> bool:
    """Whether a parameter takes a path, or several."""
    return annotation is Path or any(map(_has_path, typing.get_args(annotation)))


def _check_device(device: str) -> None:
    """Raise InputError for a device that this machine lacks, also where no network would run."""
    if device == "cuda":  # nothing else can be missing, and the check takes a second
        from talkemo.compute.devices import choose_device

        choose_device(device)


def output_option(remark: str) -> Any:
    """Return -o of a command that writes animations; the remark ends its help."""
    return typer.Option("-o", "--output", help=f"{OUTPUT_HELP} {remark}")


def remember_folders(arguments: Sequence[str]) -> None:
    """Remember which arguments name folders by a slash at the end, which paths do not keep."""
    _named_as_folders.clear()
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("--") else argument
        if value.endswith(("/", os.sep)):
            _named_as_folders.add(Path(value))


def is_folder_of_outputs(path: Path) -> bool:
    """Whether an output is a folder for files: a slash ends its name, or it has files already.

    Any other name without an ending is that of a mesh sequence.
    """
    return path in _named_as_folders or (os.path.isdir(path) and bool(os.listdir(path)))


def use_all_cores() -> None:
    """Let networks use all cores for training, unless the user has chosen a number of threads."""
    import torch

    from talkemo.compute.devices import available_cores

    if not THREADS_CHOSEN:
        torch.set_num_threads(available_cores())


def _flattened(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters of a command as Typer reads them: an option for each field of each group."""
    flat: dict[str, inspect.Parameter] = {}
    plain = {}
    for parameter in signature.parameters.values():
        group, names = _group_and_names(parameter.annotation)
        if dataclasses.is_dataclass(group):
            flat |= {new.name: new for new in _options_of(group, names)}
        else:
            plain[parameter.name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
            flat |= plain
    shared = (*_options_of(RuntimeOptions, ("device",)), *_options_of(SharedOptions))
    return list((flat | plain | {new.name: new for new in shared}).values())


def _group_and_names(annotation: Any) -> tuple[Any, tuple[str, ...] | None]:
    """The annotated type, and the names of its fields that become options; None for all."""
    if typing.get_origin(annotation) is not Annotated:
        return annotation, None
    annotated, *marks = typing.get_args(annotation)
    return annotated, next((mark.names for mark in marks if isinstance(mark, Only)), None)


def _typed_fields(group: Any) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Yield the fields of a group, each with the type that is read for it."""
    for field in dataclasses.fields(group):
        yield field, field.metadata.get("kind") or _annotated_type(group, field)


def _annotated_type(group: Any, field: dataclasses.Field[Any]) -> Any:
    """The type in a field's annotation; only a field with a `kind` may name types that are not
    imported, such as arrays."""
    owner = next(base for base in group.__mro__ if field.name in inspect.get_annotations(base))
    alone = {"__annotations__": {field.name: field.type}, "__module__": owner.__module__}
    return typing.get_type_hints(type("Alone", (), alone))[field.name]


def _options_of(group: Any, names: tuple[str, ...] | None = None) -> Iterator[inspect.Parameter]:
    """A parameter with a Typer option for each field of a group and of groups in it."""
    for field, field_type in _typed_fields(group):
        settings = field.metadata
        if dataclasses.is_dataclass(field_type):
            yield from _options_of(field_type, names)
        elif settings.get("on_command_line", True) and (names is None or field.name in names):
            info = typer.Option(
                *_flags(field),
                help=settings["help"],
                metavar=settings.get("metavar"),
                min=settings.get("minimum"),
                max=settings.get("maximum"),
                rich_help_panel=settings.get("panel"),
                hidden=settings.get("hidden", False),
                autocompletion=offering(settings.get("values")),
            )
            read_type, default = _as_read(field, field_type)
            yield _keyword(field.name, Annotated[read_type, info], default)
            for alias in settings.get("aliases", ()):
                hidden = typer.Option(alias, hidden=True)
                yield _keyword(_alias_name(alias), Annotated[read_type | None, hidden], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _flags(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The names of a field's option. Of a switch that is on by default, the name turns it off."""
    prefix = "--no-" if field.default is True else "--"
    return field.metadata.get("names", (prefix + field.name.replace("_", "-"),))


def _alias_name(alias: str) -> str:
    return alias.lstrip("-").replace("-", "_") + "_alias"


def _as_read(field: dataclasses.Field[Any], field_type: Any) -> tuple[Any, Any]:
    """The type that Typer reads for a field, and the field's default as that type."""
    allowed = typing.get_args(field_type) or (field_type,)
    default: Any = field.default
    if "choices" in field.metadata:
        names = {choice: choice for choice in field.metadata["choices"]}
        choices: Any = Enum("Choice", names, type=str)  # type: ignore[misc]
        return choices, choices(default)
    if field_type is bool:
        return bool, False
    if typing.get_origin(field_type) is Sequence:
        return list[Path] | None, None
    if _is_size(field_type):
        allowed = (str, *allowed)
    read_type = next((wanted for wanted in (Path, str) if wanted in allowed), allowed[0])
    if default is None:
        return read_type | None, None
    return read_type, read_type(default)


def _filled(group: Any, values: dict[str, Any]) -> Any:
    """A group filled with the values that Typer read; a field that is no option has its default."""
    arguments = {}
    for field, field_type in _typed_fields(group):
        if dataclasses.is_dataclass(field_type):
            arguments[field.name] = _filled(field_type, values)
        elif field.name in values:
            arguments[field.name] = _value(field, field_type, values)
    return group(**arguments)


def _value(field: dataclasses.Field[Any], field_type: Any, values: dict[str, Any]) -> Any:
    """Return a field's value from what Typer read; an older name of the option overrides it."""
    value = values[field.name]
    for alias in field.metadata.get("aliases", ()):
        if values[_alias_name(alias)] is not None:
            value = values[_alias_name(alias)]
    if isinstance(value, Enum):
        return value.value
    if field.default is True:  # its flag is --no-NAME
        return not value
    if typing.get_origin(field_type) is Sequence:
        return tuple(value or ())
    if value is not None and _is_size(field_type):
        return read_size(value, _flags(field)[0], square=int in typing.get_args(field_type))
    return value


def _is_size(field_type: Any) -> bool:
    return tuple[int, int] in (field_type, *typing.get_args(field_type))


def read_size(text: str, flag: str, square: bool) -> int | tuple[int, int]:
    """Return the pixels of WIDTHxHEIGHT or, if a square is allowed, of one side.

    Raises
    ------
    InputError
        The text is neither.
    """
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    if match and square and match[2] is None:
        return int(match[1])
    if not match or match[2] is None or (not square and "0" in match.groups()):
        hint = "pixels, such as 512 or 1280x720"
        if not square:
            hint = "width and height in pixels, such as 1280x720"
        raise InputError(
            f"{flag} {printable(text, 40) or 'without a value'}: not a size", f"write {hint}"
        )
    return int(match[1]), int(match[2])
