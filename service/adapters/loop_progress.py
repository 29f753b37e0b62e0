"""How far a shrink is, from what e2fsck and resize2fs write of their own progress."""

import re

from service.disk_ports import OnProgress
from service.ports import Progress

_CHECK_PERCENT = 20
"""The check's part of the whole; resize2fs copies data, e2fsck only reads about it."""

_CHECK_PASSES = (0, 70, 90, 92, 95, 100)
"""Percent of a check that are done after each of its passes, as e2fsck's own bar has it."""

_RESIZE_PASSES = (0, 5, 85, 90, 97, 100)
"""The same for resize2fs: the second moves the blocks; it leaves out passes without work."""

_BAR_LENGTH = 40
_CHECKED = re.compile(r"^([1-5]) (\d+) (\d+) ", re.MULTILINE)
_PASS = re.compile(r"Begin pass ([1-5]) ")


class ShrinkProgress:
    """Reports bytes of `total_bytes`, never fewer than before, each percent once."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._percent = 0
        self._line = ""
        self._pass = ""

    def check_said(self, text: str) -> None:
        """A piece of what `e2fsck -C` wrote: lines of pass, done, of how many, device."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if found := _CHECKED.match(line):
                number, done, of = map(int, found.groups())
                self._reach(_CHECK_PERCENT * _within(_CHECK_PASSES, number, done, of) // 100)

    def resize_said(self, text: str) -> None:
        """A piece of what `resize2fs -p` wrote: of each pass a bar that fills with X."""
        self._pass += text
        begun = [found.start() for found in _PASS.finditer(self._pass)]
        if not begun:
            return
        self._pass = self._pass[begun[-1] :]
        drawn = min(self._pass.count("X"), _BAR_LENGTH)
        percent = _within(_RESIZE_PASSES, int(self._pass[len("Begin pass ")]), drawn, _BAR_LENGTH)
        self._reach(_CHECK_PERCENT + (100 - _CHECK_PERCENT) * percent // 100)

    def end(self) -> None:
        """All is done."""
        self._percent = 100
        self._on_progress(Progress(self._total_bytes, self._total_bytes))

    def _reach(self, percent: int) -> None:
        # The last percent belongs to `end`: after the tools, the file is still to be cut.
        percent = min(percent, 99)
        if percent > self._percent:
            self._percent = percent
            self._on_progress(Progress(self._total_bytes * percent // 100, self._total_bytes))


def _within(passes: tuple[int, ...], number: int, done: int, of: int) -> int:
    """Percent of a tool's work, when it has done so much of the pass with this number."""
    first, last = passes[number - 1], passes[number]
    return first + (last - first) * min(done, of) // max(of, 1)
