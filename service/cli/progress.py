"""Following an operation to its end, with a line that says how far it is.

The line is for people: it comes only when a thing takes longer than a second, only on a
terminal, only on stderr, and it is gone when the thing is done.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from service.cli.addresses import path_of
from service.cli.answers import Operation, StepProgress, read
from service.cli.failures import CliFailure, Unreachable

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.cli.client import Api

INTERVAL_S_MIN = 0.02
INTERVAL_S_MAX = 0.25
INTERVAL_GROWTH = 1.5
ENGINE_AWAY = "engine_unavailable"
QUIET_S = 1.0
OUTAGE_S_MAX = 10.0
"""For so long the service may be away (a restart, say) before we stop following."""

STEP_WORDS = {
    "EnsureImage": "fetching the image",
    "CreateContainer": "creating the container",
    "UpdateContainer": "giving the container other limits",
    "StartContainer": "starting the container",
    "StopContainer": "stopping the container",
    "RemoveContainer": "removing the container",
    "TakeSnapshot": "keeping the system disk",
    "RemoveSnapshot": "removing a kept system disk",
    "DropOrphan": "removing what is in no record",
    "CompactSnapshot": "sharing what kept system disks have in common",
    "PreCopyDisk": "copying the system disk ahead",
    "FillDisk": "carrying the system disk",
    "PutBackDisk": "putting the system disk back",
    "CommitImage": "saving the image",
    "MakeDebugImage": "making the debug copy's image",
    "RemoveDebugImage": "removing the debug copy's image",
    "Execute": "running the command",
    "MakeVolume": "making the volume",
    "SizeVolume": "resizing the volume",
    "RemoveVolume": "removing the volume",
}
"""What the steps of operations are called in front of people."""


def follow(api: "Api", operation_id: str, line: "ProgressLine") -> Operation:
    """Ask until the operation has ended. Raises Unreachable when the service stays away."""
    interval_s = INTERVAL_S_MIN
    away_since: float | None = None
    while True:
        try:
            operation = fetch(api, operation_id)
        except Unreachable as outage:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > OUTAGE_S_MAX:
                raise Unreachable(
                    f"{outage}; the operation goes on: gpuledger op {operation_id}"
                ) from None
        else:
            away_since = None
            if operation.state != "running":
                return operation
            line.show(operation)
        time.sleep(interval_s)
        interval_s = min(interval_s * INTERVAL_GROWTH, INTERVAL_S_MAX)


def fetch(api: "Api", operation_id: str) -> Operation:
    """The operation as it is now."""
    return read(api.get(path_of("operations", operation_id)), Operation)


def result_of(operation: Operation) -> dict[str, Any] | None:
    """What an ended operation gave. Raises CliFailure when it failed."""
    if operation.state != "failed":
        return operation.result
    text = f"{operation.message} (code {operation.code})"
    if operation.reason == ENGINE_AWAY:
        raise Unreachable(text)
    raise CliFailure(text)


class ProgressLine:
    """The line on stderr. It costs nothing until it is needed."""

    def __init__(self, stream: TextIO, quiet_s: float = QUIET_S) -> None:
        self._stream = stream
        self._shown_after = time.monotonic() + quiet_s
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, operation: Operation) -> None:
        """Say how far the operation is."""
        if not self._stream.isatty() or time.monotonic() < self._shown_after:
            return
        if self._bar is None:
            self._bar = _bar_on(self._stream)
            self._bar.add_task("", total=None)
            self._bar.start()
        text, done, total = _position_of(operation)
        self._bar.update(
            self._bar.task_ids[0],
            description=f"{operation.verb} {operation.name}: {text}",
            completed=done,
            total=total,
        )


def step_of(progress: StepProgress) -> str:
    """What is being done, for people."""
    return f"{STEP_WORDS.get(progress.step, progress.step)} {progress.message}".rstrip()


def _position_of(operation: Operation) -> tuple[str, int, int | None]:
    """What is being done, bytes done, and bytes in all where they are known."""
    progress = operation.progress
    if progress is not None:
        return step_of(progress), progress.done_bytes, progress.total_bytes or None
    return operation.steps[-1].text if operation.steps else "accepted", 0, None


def _bar_on(stream: TextIO) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=Console(file=stream),
        transient=True,
    )
