"""talkemo's exceptions.

TalkemoError            any failure that talkemo reports itself; the command line exits with 1
└── InputError          an unusable file, option or argument; the command line exits with 2
"""


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
