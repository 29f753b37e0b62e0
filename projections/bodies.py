"""A table of the state whose aggregates are decoded when somebody looks at them.

A state that is loaded to answer one question holds thousands of versions that nobody asks about;
to decode them all would cost more than everything else.
"""

from collections.abc import Callable, Mapping
from typing import Any


class Bodies(dict[Any, Any]):
    """A dict of aggregates, those not looked at since they were loaded as their JSON (bytes).

    It is for the fold, which gets, sets, deletes, pops and goes through values: what it sets is
    the aggregate itself. `dict(bodies)` and `dict.items(bodies)` give what is kept, undecoded.
    """

    def __init__(self, read: Callable[[bytes], Any], kept: Mapping[Any, Any]) -> None:
        super().__init__(kept)
        self._read = read

    def _decoded(self, kept: Any) -> Any:
        return self._read(kept) if type(kept) is bytes else kept

    def __getitem__(self, key: Any) -> Any:
        return self._decoded(super().__getitem__(key))

    def get(self, key: Any, default: Any = None) -> Any:
        """As a dict's."""
        return self._decoded(super().get(key, default))

    def pop(self, key: Any, *default: Any) -> Any:
        """As a dict's."""
        return self._decoded(super().pop(key, *default))

    def values(self) -> Any:
        """All aggregates, decoded one after the other."""
        return map(self._decoded, super().values())

    def items(self) -> Any:
        """All keys with their aggregates, decoded one after the other."""
        return ((key, self._decoded(kept)) for key, kept in super().items())

    def copy(self) -> "Bodies":
        """An independent table; what is not decoded stays so."""
        return Bodies(self._read, self)
