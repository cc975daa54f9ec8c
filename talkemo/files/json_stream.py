"""JSON of unknown origin, read value by value, so that a large file is never all in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any

from .reading import check_json_depth, finite_number

MAX_JSON_ITEM_CHARACTERS = 1 << 22  # of one value: the landmarks of a frame, phones of a recording
READ_CHARACTERS = 1 << 20  # at once


class JsonReader:
    """Reads the values of a JSON text one by one.

    Its methods raise ValueError, or RecursionError, for text that is not JSON; use it within
    `reading_errors`.

    Parameters
    ----------
    file : file object
        In binary, at its start; UTF-8, with or without a byte-order mark.
    """

    def __init__(self, file: IO[bytes]):
        self._text = io.TextIOWrapper(file, "utf-8-sig")
        self._decoder = json.JSONDecoder(parse_float=finite_number, parse_constant=finite_number)
        self._buffer, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """Return the next character that is not white space, an empty string at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read_more():
                return ""

    def value(self) -> Any:
        """Read the next value; raise ValueError if it is too large or nested too deeply."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if not self._read_more():  # it is not merely incomplete
                    raise
                continue
            if end < len(self._buffer) or not self._read_more():  # a number may go on
                check_json_depth(value)
                self._at = end
                return value

    def items(self) -> Iterator[Any]:
        """Yield the values of an array, which must be next."""
        for _ in self._elements("[", "]"):
            yield self.value()

    def names(self) -> Iterator[str]:
        """Yield the names of an object, which must be next; read the value after each of them."""
        for _ in self._elements("{", "}"):
            name = self.value()
            if not isinstance(name, str):
                raise ValueError("a name that is not a text")
            self._take(":")
            yield name

    def end(self) -> None:
        """Raise ValueError if something follows."""
        if self.peek():
            raise ValueError("there is something after its end")

    def _elements(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() != closing:
            yield
            while self.peek() == ",":
                self._at += 1
                yield
        self._take(closing)

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"no {character} where one is expected")
        self._at += 1

    def _read_more(self) -> bool:
        """Read on; return whether there was more."""
        rest = self._buffer[self._at :]
        if len(rest) > MAX_JSON_ITEM_CHARACTERS:
            raise ValueError(f"JSON with a value of more than {len(rest) >> 20} MiB")
        # An incomplete value is decoded again from its start; doubling the text keeps this rare.
        block = self._text.read(max(READ_CHARACTERS, len(rest)))
        self._ended = not block
        self._buffer, self._at = rest + block, 0
        return not self._ended
