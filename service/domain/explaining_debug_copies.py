"""What is said of debug copies: a sentence for each event."""

from collections.abc import Callable
from typing import Any

from events import debug_copies
from events.values import show_size, versioned
from projections.state import State
from service.domain.explaining import numbered


def _begun(event: debug_copies.DebugCopyBegun, state: State) -> str:
    disk = f"the system disk of {versioned(event.of, event.version)}"
    return f"{numbered(event)} begins with a copy of {disk}, which is not given up meanwhile"


SENTENCES: dict[type[Any], Callable[[Any, State], str]] = {
    debug_copies.DebugCopyBegun: _begun,
    debug_copies.DebugImageMade: lambda event, state: (
        f"{numbered(event)} has an image of its own to lie on, {show_size(event.size_bytes)}"
    ),
    debug_copies.DebugImageRemoved: lambda event, state: (
        f"the image that {numbered(event)} lay on is gone"
    ),
    debug_copies.DebugCopyEnded: lambda event, state: (
        f"the system disk of {event.of} is not copied for {numbered(event)} any more"
    ),
}
