"""Tables that fit the terminal: a column is dropped before a cell is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

GAP = 2
AGES = {"since", "reported", "lease", "delivered"}
"""Columns that change with the clock."""


@dataclass(frozen=True)
class Fitted:
    """Rows of markup. While a table is wider than the terminal, the columns in `drop` go, the first one first."""

    columns: list[str]
    rows: list[list[str]]
    drop: list[str]
    before: Fitted | None = field(default=None, repr=False)
    """An earlier table: cells that differ from it are highlighted."""

    def compared_with(self, before: Fitted | None) -> Fitted:
        """Return the same table with the cells highlighted that are new or have changed."""
        return replace(self, before=before and replace(before, before=None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        widths = [
            max(Measurement.get(console, options, Text.from_markup(text)).maximum for text in texts)
            for texts in zip(self.columns, *self.rows, strict=True)
        ]
        dropped: list[int] = []
        for i in map(self.columns.index, self.drop):
            if _width(widths, dropped) > options.max_width:
                dropped.append(i)
        # A wide column may have made room for narrow ones that went before it.
        for i in reversed(dropped):
            others = [one for one in dropped if one != i]
            if _width(widths, others) <= options.max_width:
                dropped = others
        shown = [i for i in range(len(self.columns)) if i not in dropped]
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for i in shown:
            whole = self.columns[i] == "id"
            table.add_column(self.columns[i], no_wrap=whole, min_width=widths[i] if whole else None, overflow="fold")
        for row in self.rows:
            table.add_row(*(self._marked(row, i) for i in shown))
        yield table
        if dropped:
            names = ", ".join(self.columns[i] for i in sorted(dropped))
            yield Text(f"not shown at this width: {names}", style="dim")

    def _marked(self, row: list[str], column: int) -> Text:
        text = Text.from_markup(row[column])
        if self.before is not None and self.columns[column] not in AGES:
            same = [old for old in self.before.rows if old[0] == row[0]]
            if not same or same[0][column] != row[column]:
                text.stylize("reverse")
        return text


def _width(widths: list[int], without: list[int]) -> int:
    """Return the width of a table without some of its columns.

    >>> _width([5, 40, 9], []), _width([5, 40, 9], [2])
    (58, 47)
    """
    kept = [width for i, width in enumerate(widths) if i not in without]
    return sum(kept) + GAP * (len(kept) - 1)
