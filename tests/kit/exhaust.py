"""Every choice path of a test, completely: the test asks `choose`, and is run once per path.

    for choose in all_paths():
        sent = choose.one_of(("stop", "delete"))
        fails = choose.yes()

The loop runs four times here. A later choice may depend on earlier ones. Nothing is random, and
a path that fails is told by `choose.taken`.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choose:
    """The choices of one path: those of the path before as far as they hold, then the first."""

    def __init__(self, begun: Sequence[tuple[int, int]]) -> None:
        self._path = list(begun)
        self._place = 0

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        assert bound > 0, "there is nothing to choose from"
        if self._place == len(self._path):
            self._path.append((0, bound))
        number, before = self._path[self._place]
        assert before == bound, "the same choices led elsewhere: the test is not deterministic"
        self._place += 1
        return number

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def yes(self) -> bool:
        """No, and then yes."""
        return self.below(2) == 1

    @property
    def taken(self) -> tuple[int, ...]:
        """The numbers chosen so far: what to look at when a path fails."""
        return tuple(number for number, _ in self._path[: self._place])

    def following(self) -> list[tuple[int, int]] | None:
        """The path after this one; None when this was the last."""
        path = self._path[: self._place]
        while path:
            number, bound = path.pop()
            if number + 1 < bound:
                return [*path, (number + 1, bound)]
        return None


def all_paths() -> Iterator[Choose]:
    """One `Choose` per path, until every path was taken."""
    path: list[tuple[int, int]] | None = []
    while path is not None:
        choose = Choose(path)
        yield choose
        path = choose.following()
