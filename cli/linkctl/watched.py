"""What `linkctl watch` shows: the last look that succeeded, a clock, what changed, and since when looks fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from linkctl import show
from linkctl.fitted import Fitted


class Watched:
    """Looks of one kind, each compared with the one before."""

    def __init__(self, as_table: Callable[[Any], Any], seen: Any) -> None:
        self._as_table = as_table
        self._seen, self._seen_at = seen, time.time()
        self._before: Fitted | None = None
        self._failing_since: float | None = None
        self._error = ""

    def saw(self, seen: Any) -> None:
        """Take a look that succeeded."""
        self._before = _table(self._as_table(self._seen))
        self._seen, self._seen_at, self._failing_since = seen, time.time(), None

    def failed(self, error: str) -> None:
        """Take a look that failed."""
        self._failing_since = self._failing_since or time.time()
        self._error = error.splitlines()[0]

    def shown(self) -> RenderableType:
        """Return the table with its head and its foot."""
        if self._failing_since is not None:
            failing = show.ago(round(self._failing_since * 1000))
            foot = Text(f"looks fail since {failing}, trying again: {self._error}", style="red")
        else:
            foot = Text("changes are highlighted; Ctrl-C ends", style="dim")
        clock = Text(f"{show.utc(round(self._seen_at * 1000))}", style="dim")
        made = self._as_table(self._seen)
        parts = made.renderables if isinstance(made, Group) else [made]
        marked = [part.compared_with(self._before) if isinstance(part, Fitted) else part for part in parts]
        return Group(clock, *marked, foot)


def _table(made: Any) -> Fitted | None:
    parts = made.renderables if isinstance(made, Group) else [made]
    return next((part for part in parts if isinstance(part, Fitted)), None)
