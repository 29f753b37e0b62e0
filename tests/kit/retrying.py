"""Replica sets that end and are started again, and what is decided about them."""

from events.observations import ContainerExited, RetryScheduled
from events.record import Event
from events.replica_sets import PhaseRequested
from events.resources import GpusReleased, PortsReleased
from tests.kit.builders import run

RUN = run("foo", 1, 1)
KEEPS_ON = run("foo", 1, 1, on_exit="restart")
TWICE = run("foo", 1, 1, on_exit="restart", max_retries=2)

GIVEN_UP: tuple[Event, ...] = (
    PhaseRequested("foo", "stopped"),
    GpusReleased("foo", 1, ("gpu-0",)),
    PortsReleased("foo", 1, (40000,)),
)
EXITED = ContainerExited("foo", 1, 1, "an end")


def scheduled(attempt: int, due_s: float) -> RetryScheduled:
    """Due so long after the instant at which a world looks, 1."""
    return RetryScheduled("foo", 1, attempt, 1 + int(due_s * 1_000_000))
