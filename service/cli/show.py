"""Tables and words for people: readable at 80 columns, and whole when piped.

On a terminal a cell that is too long is folded, never cut. In a pipe there is no width: one row
is one line, without colour, so that grep, awk and cut have an easy time.
"""

import io
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 100_000
"""Wider than any row: rich folds at a console's width, and a pipe has none."""
NARROW_WIDTH = 80
"""The width that tables are made for."""

_AGE_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], whole: Collection[str] = ()
) -> str:
    """Columns under headings; "-" stands where a cell has nothing to say.

    The columns in `whole` are never folded, so that they can be copied: others give way. They
    must be short enough for 80 columns; on narrower terminals they are folded as well.
    """
    from rich.table import Table

    console = _console()
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        no_wrap = heading in whole and console.width >= NARROW_WIDTH
        grid.add_column(heading, overflow="fold", no_wrap=no_wrap)
    for row in rows:
        grid.add_row(*(plain(cell) or "-" for cell in row))
    return _rendered(console, grid)


def plain(text: str) -> str:
    """A text with nothing in it that acts on a terminal: names of files, an environment and what
    a registry answers are somebody else's. Lines stay lines; all else is shown as its escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def details(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, one pair a line; a value of several lines goes on below itself."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, plain(value) or "-")
    return _rendered(_console(), grid)


def age(created: str, now_s: float) -> str:
    """How long ago an instant (RFC 3339) was: "45s", "3m", "2h", "12d"."""
    instant = _instant(created)
    if instant is None:
        return ""
    seconds = max(0, int(now_s - instant.timestamp()))
    for unit, size in _AGE_UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "0s"


def moment(text: str) -> str:
    """An instant (RFC 3339) to the second, in UTC; a text that is none stays as it is."""
    instant = _instant(text)
    return text if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def plural(count: int, noun: str) -> str:
    """ "1 GPU", "2 GPUs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _console() -> "Console":
    """A console as wide and as colourful as the standard output."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=Console(file=sys.stdout).width if terminal else PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _rendered(console: "Console", grid: "Table") -> str:
    """The lines that rich makes, without the blanks that it pads them with."""
    with console.capture() as capture:
        console.print(grid)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
