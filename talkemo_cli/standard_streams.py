"""Standard input, output and error of the process: always open, and able to print any name.

Names of files are bytes. Python reads those that are not text as surrogates, and cannot print them;
a terminal obeys the control characters in them.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

CLOSED_STREAMS: set[str] = set()  # names of those that the process was started without
FIRST_SURROGATE, LAST_SURROGATE = "\udc80", "\udcff"  # stand for the bytes 0x80 to 0xff of a name
# What is printed for characters that an encoding such as ASCII lacks.
SUBSTITUTES = str.maketrans(
    {"→": "->", "×": "x", "–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'}
    | {"·": "*", "≤": "<=", "≥": ">=", "µ": "u", "•": "*"}
)
PRINT_ERRORS = "talkemo_print"  # name of the error handler


def open_standard_streams() -> None:
    """Open those of the descriptors 0 to 2 that are closed on the null device.

    Otherwise the next file that is opened gets one of them, and what is printed goes into it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
            CLOSED_STREAMS.add(name)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def print_any_text() -> None:
    """Let stdout and stderr print all characters, whatever their encoding.

    Surrogates become the bytes that they stand for, so that a path on stdout is the file's name.
    """
    codecs.register_error(PRINT_ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PRINT_ERRORS)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):  # in a stream that is also read, as by a test
        return codecs.lookup_error("surrogateescape")(error)
    if not isinstance(error, UnicodeEncodeError):
        raise error
    encoded = b""
    for character in error.object[error.start : error.end]:
        if FIRST_SURROGATE <= character <= LAST_SURROGATE:
            encoded += bytes([ord(character) - 0xDC00])
        else:
            similar = unicodedata.normalize("NFKD", character.translate(SUBSTITUTES))
            encoded += similar.encode("ascii", "ignore") or b"?"
    return encoded, error.end


def visible(text: str, keep: str = "") -> str:
    r"""Return a text whose control characters and other invisible ones are escaped, as in \x1b.

    Parameters
    ----------
    keep : str
        Characters that are not escaped.
    """
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if FIRST_SURROGATE <= character <= LAST_SURROGATE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
