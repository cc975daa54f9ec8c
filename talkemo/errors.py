"""talkemo's exceptions.

TalkemoError            any failure that talkemo reports itself; the command line exits with 1
└── InputError          an unusable file, option or argument; the command line exits with 2
"""

import errno

DEBUG_HINT = "run it again with --debug for the traceback"
# What to do about failures of the operating system, by error number.
OS_ERROR_HINTS = {
    errno.ENOSPC: "free some space on that disk, or write elsewhere",
    errno.EDQUOT: "free some space on that disk, or write elsewhere",
    errno.EFBIG: "the file system limits the size of files; write elsewhere, or fewer frames",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "that disk cannot be written to; choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open; close other programs",
}


class TalkemoError(Exception):
    """A failure while running.

    `message` states the problem and where it is, `hint` how to solve it; each is one line.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple:
        """Pickle both arguments, so that a worker process can raise the error in its parent."""
        return type(self), (self.message, self.hint)


class InputError(TalkemoError, ValueError):
    """A file, option or argument that cannot be used."""


def explain(error: Exception) -> tuple[str, str]:
    """Return the message and the hint for any exception, one line each."""
    if isinstance(error, TalkemoError):
        return error.message, error.hint
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = OS_ERROR_HINTS.get(error.errno or 0, DEBUG_HINT)
        return f"{where}{(error.strerror or str(error)).lower()}", hint
    if isinstance(error, MemoryError):
        return (
            "out of memory",
            "close other programs, or use a smaller mesh, a lower --fps, or no --bake",
        )
    reason = str(error).splitlines()[0] if str(error) else ""
    return f"failed: {type(error).__name__}: {reason}", DEBUG_HINT
