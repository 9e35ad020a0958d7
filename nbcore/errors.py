"""Mistakes a user can mend: each is one sentence that names the file, key or data set and says what to do."""


class UserError(Exception):
    """Something the user gave us cannot be used (exit status 1)."""

    exit_status = 1


class UsageError(UserError):
    """The command, a parameter or a configuration is wrong (exit status 2)."""

    exit_status = 2
