"""What the observer may report of a container: commands as it sends them, looked at just now."""

import sys

from service.domain.observing_commands import ObserveContainer, ObserveGpuAccess, SeenContainer

ELSEWHERE = "started by somebody else"
"""An instant of a start that the service knows nothing of; any text will do for the rules."""


def ended(
    name: str = "foo",
    exit_code: int = 1,
    *,
    at_seq: int = sys.maxsize,
    jitter: float = 0.0,
    status: str = "exited",
    oom_killed: bool = False,
    ran_s: float = 0.0,
    with_engine: bool = False,
    started_at: str = "",
) -> ObserveContainer:
    """Its container was seen ended; `started_at` is a start that the service knows nothing of."""
    seen = SeenContainer(
        status=status,
        exit_code=exit_code,
        started_at=started_at,
        finished_at="an end",
        oom_killed=oom_killed,
        ran_s=ran_s,
        with_engine=with_engine,
    )
    return ObserveContainer(name, seen, at_seq, jitter)


def gone(name: str = "foo", *, at_seq: int = sys.maxsize) -> ObserveContainer:
    """Its container was not there."""
    return ObserveContainer(name, None, at_seq, 0.0)


def running(
    name: str = "foo", started_at: str = ELSEWHERE, *, at_seq: int = sys.maxsize
) -> ObserveContainer:
    """Its container was seen running since then."""
    return ObserveContainer(name, SeenContainer("running", 0, started_at, ""), at_seq, 0.0)


def access(
    name: str = "foo",
    *,
    lost: bool = True,
    at_seq: int = sys.maxsize,
    ran_s: float = 0.0,
    jitter: float = 0.0,
) -> ObserveGpuAccess:
    """It was looked whether its container may use its GPUs."""
    return ObserveGpuAccess(name, lost, "not permitted" if lost else "", at_seq, ran_s, jitter)
