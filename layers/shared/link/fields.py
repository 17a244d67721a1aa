"""Fields of a decoded JSON body, read with every problem at once. Standard library only.

Each message has the value, the rule and the way out; a value that may be secret is never shown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from link.errors import Invalid

HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
"""What can be the value of an HTTP header, and the text of a field."""
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_SHOWN = 80
_JSON_TYPES = {type(None): "null", dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
_T = TypeVar("_T")


class Problems(defaultdict[str, list[str]]):
    """The problems found so far, by field."""

    def __init__(self) -> None:
        super().__init__(list)

    def collect(self, read: Callable[[], _T]) -> _T | None:
        """What `read` returns; None when it raised Invalid, whose problems are collected."""
        try:
            return read()
        except Invalid as invalid:
            for name, found in invalid.errors.items():
                self[name] += found
            return None

    def raise_if_any(self) -> None:
        """Raises Invalid when there are problems."""
        if any(self.values()):
            raise Invalid({name: found for name, found in self.items() if found})


def json_object(
    value: object, name: str, known: tuple[str, ...] | None, problems: Problems, *, unused: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The members of an object; empty for null or when it is none.

    `known` None: any name is. `unused`: accepted, but without effect.
    """
    if isinstance(value, dict):
        if known is None:
            return value
        problems[name] += [unknown_field(key, known) for key in sorted(value.keys() - {*known, *unused})]
        return value
    if value is not None:
        problems[name].append(f"invalid JSON: {json_type(value)} is not an object")
    return {}


def unknown_field(key: str, known: Collection[str]) -> str:
    """The problem with a field of this name, with the nearest known one."""
    from difflib import get_close_matches  # Only a typing error needs it.

    nearest = get_close_matches(key.lower(), known, n=1)
    hint = f"write {nearest[0]!r}" if nearest else f"use {', '.join(known)}"
    return f"field {SURROGATE.sub(chr(0xFFFD), key)[:MAX_SHOWN]!r} is not known: {hint}"


def text(value: object, found: list[str]) -> str:
    """A text; empty when it is absent or none. A lone surrogate becomes U+FFFD, as in Go."""
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if value is not None:
        found.append(f"{json_type(value)} is not a string: put it in quotes")
    return ""


def integer(value: object, found: list[str]) -> int | None:
    """A whole number; None when it is absent or none."""
    if value is None or type(value) is int:
        return value
    shown = str(value) if isinstance(value, float) else json_type(value)
    found.append(f"{shown} is not a whole number")
    return None


def in_range(value: object, lowest: int, highest: int, found: list[str]) -> int | None:
    """A whole number within limits."""
    number = integer(value, found)
    if number is not None and not lowest <= number <= highest:
        found.append(f"{str(number)[:20]} is outside {lowest} to {highest}")
    return number


def control_character(value: str) -> str:
    """The problem with the first character that a header cannot hold, or nothing. The text itself may be secret."""
    allowed = HEADER_VALUE.match(value)
    assert allowed is not None
    if allowed.end() == len(value):
        return ""
    return f"control character U+{ord(value[allowed.end()]):04X} at position {allowed.end() + 1}: remove it"


def json_type(value: object) -> str:
    """What JSON calls a value of this type."""
    return _JSON_TYPES.get(type(value), "a number")
