"""Mistakes a user can mend: each is one sentence that names the file, key or data set and says what to do."""

_LONGEST = 600  # characters of a sentence; what a damaged file holds may be longer


class UserError(Exception):
    """Something the user gave us cannot be used (exit status 1)."""

    exit_status = 1

    def __init__(self, sentence: str):
        super().__init__(_bearable(sentence))


class UsageError(UserError):
    """The command, a parameter or a configuration is wrong (exit status 2)."""

    exit_status = 2


def _bearable(sentence: str) -> str:
    """The sentence in one line, without its middle where it is too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in sentence).split())
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"
