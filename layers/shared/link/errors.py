"""Errors, classed by what happens next."""

from __future__ import annotations


class Rejected(Exception):
    """An event that can never succeed: it goes to the rejected-events queue and is not retried."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Invalid(Exception):
    """A request the caller has to mend: 422 with every problem found, by field."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, texts in errors.items() for text in texts))
        self.errors = errors


class BadRequest(Exception):
    """A request that cannot be read: 400."""


class NotFound(Exception):
    """No such endpoint: 404."""


class Conflict(Exception):
    """The request does not fit what is: 409."""


class Contended(Exception):
    """Others kept winning the conditional write until the time was up: the platform tries again."""
