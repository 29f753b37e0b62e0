"""The commands about what becomes of containers without anybody asking for it."""

from msgspec import Struct


class SeenContainer(Struct, frozen=True):
    """A container as the engine shows it."""

    status: str
    """Docker's word: created, running, paused, restarting, removing, exited, dead."""
    exit_code: int
    started_at: str
    finished_at: str
    oom_killed: bool = False
    ran_s: float = 0.0
    """From its start to its end, by Docker's clock."""
    with_engine: bool = False
    """It ended because the engine did."""


class ObserveContainer(Struct, frozen=True, tag=True):
    """The observer looked at the container of a replica set; None when there is none."""

    name: str
    seen: SeenContainer | None
    looked_at_seq: int
    """What was folded before it looked."""
    jitter: float
    """Chance as data, from 0 to 1."""


class ObserveGpuAccess(Struct, frozen=True, tag=True):
    """The service looked whether the running container of a replica set may open its GPUs."""

    name: str
    lost: bool
    message: str
    looked_at_seq: int
    """What was folded before it looked."""
    ran_s: float
    """Since its start, by Docker's clock."""
    jitter: float
    """Chance as data, from 0 to 1."""


class RetryReplicaSet(Struct, frozen=True, tag=True):
    """It is time to start a container again."""

    name: str
    attempt: int
