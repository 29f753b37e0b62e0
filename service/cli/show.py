"""Tables and words for people: readable at 80 columns, and whole when piped.

On a terminal a cell that is too long is folded, never cut. In a pipe there is no width: one row
is one line, without colour, so that grep, awk and cut have an easy time.
"""

import io
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 100_000
"""Wider than any row: rich folds at a console's width, and a pipe has none."""
INDENT = " " * 4
NARROW_WIDTH = 80
"""The width that tables are made for."""

_AGE_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    whole: Collection[str] = (),
    right: Collection[str] = (),
) -> str:
    """Columns under headings; "-" stands where a cell has nothing to say.

    The columns in `whole` are never folded, so that they can be copied: others give way. They
    must be short enough for 80 columns; on narrower terminals they are folded as well. Those in
    `right` stand below each other by their last digit.
    """
    from rich.table import Table

    console = _console()
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        no_wrap = heading in whole and console.width >= NARROW_WIDTH
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        grid.add_column(heading, overflow="fold", no_wrap=no_wrap, justify=justify)
    for row in rows:
        grid.add_row(*(escaped(cell) or "-" for cell in row))
    return _rendered(console, grid)


def escaped(text: str) -> str:
    """A text with nothing in it that acts on a terminal: names of files, an environment and what
    a registry answers are somebody else's. Lines stay lines; all else is shown as its escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def explained_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose last column is prose. On a terminal it stands below its row, where it has
    the whole width; the other cells, which are short, are not folded then."""
    console = _console()
    if not console.is_terminal:
        return table(headings, rows)
    rows = [[escaped(cell) for cell in row] for row in rows]
    short = [headings[:-1], *([cell or "-" for cell in row[:-1]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in short
    ]
    text = f"{lines[0]}\n"
    for line, row in zip(lines[1:], rows, strict=True):
        prose = textwrap.fill(
            row[-1], console.width, initial_indent=INDENT, subsequent_indent=INDENT
        )
        text += f"{line}\n{prose}\n" if prose else f"{line}\n"
    return text


def details(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, one pair a line; a value of several lines goes on below itself."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, escaped(value) or "-")
    return _rendered(_console(), grid)


def age(created: str, now_s: float) -> str:
    """How long ago an instant (RFC 3339) was: "45s", "3m", "2h", "12d"."""
    instant = _instant(created)
    return "" if instant is None else _span(max(0, int(now_s - instant.timestamp())))


def lasted(begin: str, end: str) -> str:
    """How long it was from one instant (RFC 3339) to another; "" of less than a second."""
    first, last = _instant(begin), _instant(end)
    if first is None or last is None or (seconds := int((last - first).total_seconds())) < 1:
        return ""
    return _span(seconds)


def moment(text: str) -> str:
    """An instant (RFC 3339) to the second, in UTC; a text that is none stays as it is."""
    instant = _instant(text)
    return text if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def plural(count: int, noun: str) -> str:
    """ "1 GPU", "2 GPUs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _span(seconds: int) -> str:
    for unit, size in _AGE_UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "0s"


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _console() -> "Console":
    """A console as wide and as colourful as the standard output."""
    from rich.console import Console

    # A process that was started without a standard output has None there.
    terminal = sys.stdout is not None and sys.stdout.isatty()
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
