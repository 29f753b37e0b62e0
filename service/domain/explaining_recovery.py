"""What is said of what a host lost: a sentence for each event."""

from collections.abc import Callable
from typing import Any

from events import recovery
from events.values import versioned
from projections.state import State
from service.domain.explaining import gpu_names, numbered, whose


def _begun(event: recovery.RecoveryBegun, state: State) -> str:
    gpus = f" with {gpu_names(state, event.gpus)}" if event.gpus else ""
    disk = "the bare image"
    if event.disk_from is not None:
        disk = f"the kept system disk of {versioned(event.name, event.disk_from)}"
    return f"{whose(event)} is to be made again{gpus}, from {disk}"


SENTENCES: dict[type[Any], Callable[[Any, State], str]] = {
    recovery.ContainerLost: lambda event, state: (
        f"the container {whose(event)} was lost with its host"
    ),
    recovery.RecoveryBegun: _begun,
    recovery.VolumeLost: lambda event, state: (
        f"volume {numbered(event)} is to be made again, "
        + ("empty, as its disk is not there" if event.empty else "with its disk")
    ),
}
