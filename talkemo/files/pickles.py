"""Pickles of unknown origin, read as plain values and records: nothing is looked up or called."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

MAX_PICKLE_OPCODES = 100_000  # of a file; FLAME's have some thousands
MAX_PICKLE_DEPTH = 100  # tuples and records in each other

# Opcodes of numbers, texts, bytes, tuples, lists, dictionaries, objects, and the memo. Those of
# sets, out-of-band buffers, persistent ids and extensions are refused.
OPCODES = frozenset(
    getattr(pickle, name)[0]
    for name in (
        "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 "
        "LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES "
        "BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS "
        "EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ NEWOBJ_EX "
        "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
    ).split()
)


@dataclass(frozen=True)
class Global:
    """The name of a class or function of a module."""

    module: str
    name: str


@dataclass(eq=False)
class Record:
    """An object that is not built: its class or function, the arguments, and a state."""

    made_by: Global
    arguments: tuple = field(repr=False)
    state: Any = field(default=None, repr=False)


class _Opcodes(dict):
    """Handlers of opcodes; looking up more than MAX_PICKLE_OPCODES raises UnpicklingError."""

    left = MAX_PICKLE_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_PICKLE_OPCODES} steps")
        if opcode not in self:
            raise pickle.UnpicklingError("it has sets, or is not a pickle")
        return super().__getitem__(opcode)


class _ClaimsChecked:
    """A file that refuses to read more than it holds, before memory for it is allocated."""

    def __init__(self, file: IO[bytes]):
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if size > self._size - self._file.tell():
            raise pickle.UnpicklingError("it claims more than it holds")
        return self._file.read(size)


# Python's own unpickler: the one in C allocates memory for any number that a file claims.
class _RecordUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Builds records, with memory and time that are proportional to the file.

    Only references are copied: a text that is used a thousand times is in memory once. Keys of
    dictionaries are texts or numbers, since hashing nested tuples may take forever.
    """

    dispatch: ClassVar[Any]
    stack: list[Any]
    pop_mark: Any
    read: Any

    def __init__(self, file: IO[bytes], allowed: Callable[[str, str], bool]):
        super().__init__(_ClaimsChecked(file), encoding="latin1")
        self._allowed = allowed
        self._depths: dict[int, int] = {}  # of tuples and records, by their id
        self._alive: list[Any] = []  # so that no id is used twice
        known = {code: load for code, load in self.dispatch.items() if code in OPCODES}
        self.dispatch = _Opcodes({**known, **self._own_handlers()})  # type: ignore[misc]

    @staticmethod
    def _own_handlers() -> dict[int, Any]:
        """The opcodes that make tuples, objects or keys."""
        this = _RecordUnpickler
        return {
            pickle.TUPLE[0]: lambda reader: this._tuple(reader, None),
            pickle.TUPLE1[0]: lambda reader: this._tuple(reader, 1),
            pickle.TUPLE2[0]: lambda reader: this._tuple(reader, 2),
            pickle.TUPLE3[0]: lambda reader: this._tuple(reader, 3),
            pickle.DICT[0]: lambda reader: reader.stack.append(this._items(reader, {})),
            pickle.SETITEM[0]: lambda reader: this._set_item(reader),
            pickle.SETITEMS[0]: lambda reader: this._items(reader, None),
            pickle.REDUCE[0]: lambda reader: this._object(reader),
            pickle.NEWOBJ[0]: lambda reader: this._object(reader),
            pickle.NEWOBJ_EX[0]: lambda reader: this._object(reader, keywords=True),
            pickle.BUILD[0]: lambda reader: this._build(reader),
            pickle.BYTEARRAY8[0]: lambda reader: this._bytes(reader),
        }

    def find_class(self, module: str, name: str) -> Global:
        if not self._allowed(module, name):
            raise pickle.UnpicklingError(f"it would call {module}.{name}"[:80])
        return Global(module, name)

    def _nested(self, value: Any, *children: Any) -> Any:
        """Return a new value that contains others, unless it is nested too deeply."""
        depth = 1 + max((self._depths.get(id(child), 0) for child in children), default=0)
        if depth > MAX_PICKLE_DEPTH:
            raise pickle.UnpicklingError("it is nested too deeply")
        self._depths[id(value)] = depth
        self._alive.append(value)
        return value

    def _tuple(self, size: int | None) -> None:
        if size is None:
            children = self.pop_mark()
        else:
            children = self.stack[-size:]
            del self.stack[-size:]
        if size is not None and len(children) < size:
            raise pickle.UnpicklingError("its stack is empty")
        self.stack.append(self._nested(tuple(children), *children))

    def _items(self, target: dict | None) -> dict:
        """Add the marked keys and values to a dictionary, by default the one below them."""
        items = self.pop_mark()
        target = self.stack[-1] if target is None else target
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._add(target, key, value)
        return target

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._add(self.stack[-1], key, value)

    @staticmethod
    def _add(target: Any, key: Any, value: Any) -> None:
        if type(target) is not dict or not isinstance(key, str | bytes | int | float):
            raise pickle.UnpicklingError(
                "a dictionary with keys that are neither texts nor numbers"
            )
        target[key] = value

    def _object(self, keywords: bool = False) -> None:
        if keywords:
            self.stack.pop()
        arguments, made_by = self.stack.pop(), self.stack.pop()
        if not isinstance(made_by, Global) or type(arguments) is not tuple:
            raise pickle.UnpicklingError("an object that is made of another")
        self.stack.append(self._nested(Record(made_by, arguments), arguments))

    def _bytes(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(self.read(size))

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            raise pickle.UnpicklingError("a state without an object")
        self.stack[-1].state = state


def read_records(file: IO[bytes], allowed: Callable[[str, str], bool]) -> Any:
    """Return the content of a pickle, its objects as records.

    Parameters
    ----------
    file : file object
    allowed : callable
        Whether a class or function may be named, by its module and name.

    Raises
    ------
    Exception
        Many kinds, for a broken pickle; use it within `reading_errors`.
    """
    return _RecordUnpickler(file, allowed).load()
