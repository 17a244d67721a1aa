"""The errors that end a command: `main` prints the message to standard error and exits with `exit_status`."""

from __future__ import annotations


class Failed(Exception):
    """The command failed; the message says why."""

    exit_status = 1


class Refused(Failed):
    """The API answered with an error."""


class Unreachable(Exception):
    """The API, AWS or the stack could not be reached; the message says what to do."""

    exit_status = 3
