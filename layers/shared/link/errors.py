"""Errors, classed by what happens next."""

from __future__ import annotations


class Rejected(Exception):
    """An event that can never succeed: it goes to the rejected-events queue and is not retried."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Invalid(Exception):
    """A request that its caller has to fix: 422 with every problem found, by field. `text`: the same as one line."""

    def __init__(self, errors: dict[str, list[str]], text: str = "") -> None:
        super().__init__(text or "; ".join(f"{name}: {text}" for name, texts in errors.items() for text in texts))
        self.errors = errors


class BadRequest(Exception):
    """A request that cannot be read: 400."""


class NotFound(Exception):
    """No such endpoint or resource: 404."""


class Conflict(Exception):
    """The request does not fit the present state: 409.

    `code` is `assigned` (the resource cannot take the endpoint), `limit` (the deployment cannot) or empty: the API
    puts LinK's words before the message by it.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Contended(Exception):
    """Other processes won the conditional write until the time was up: the platform tries again."""
