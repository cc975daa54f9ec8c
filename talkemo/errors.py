"""The exceptions of talkemo, drawn as one tree:

TalkemoError            anything talkemo itself reports; the command line exits with status 1
└── InputError          an unusable file, option or argument; the command line exits with status 2
"""


class TalkemoError(Exception):
    """Something failed while running.

    `message` says what and where in one line, `hint` what to do about it.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple:
        """Both arguments, so that an error of a worker process reaches the user as it is."""
        return type(self), (self.message, self.hint)


class InputError(TalkemoError, ValueError):
    """A file, option or argument that cannot be used."""
