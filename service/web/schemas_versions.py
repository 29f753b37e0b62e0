"""What `data` holds in answers about the versions of a replica set, and how two of them differ."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from events.values import OnExit, OnGpuLost
from service.domain.changes import SpecChange
from service.web.container_ends import RetryData


class ContainerInfo(Struct, frozen=True, rename="camel"):
    """A version of a replica set; the configs are as Docker's API spells them."""

    version: int
    create_time: str
    config: dict[str, Any]
    host_config: dict[str, Any]
    networking_config: dict[str, Any]
    platform: None
    container_name: str
    gpus: list[str]
    """UUIDs that it was given; one that is stopped has given them back, and its host ports too.
    Beside the contract's `DeviceRequests`, which simulated GPUs do not have."""
    phase: str | UnsetType = UNSET
    """What it is meant to be: running, paused or stopped; left out of a history."""
    container: str | UnsetType = UNSET
    """What was last seen of its container: absent, created, running, exited or removed."""
    gpus_sick: list[str] | UnsetType = UNSET
    """Those that it has and that fell ill or are gone; left out of a history."""
    exit_code: int | UnsetType = UNSET
    """With the next three: of one that ended though nobody asked for it; not in a history."""
    oom_killed: bool | UnsetType = UNSET
    finished_time: str | UnsetType = UNSET
    retry: RetryData | UnsetType = UNSET
    gpu_access_lost_time: str | UnsetType = UNSET
    """Since when it runs without being let at its GPUs; left out when it is, and of a history."""
    on_exit: OnExit = "none"
    max_retries: int = 0
    on_gpu_lost: OnGpuLost = "none"
    debug_of: str | UnsetType = UNSET
    """Of a debug copy, the version that it is a copy of, such as "foo@3"."""


class ContainerInfoData(Struct, frozen=True):
    """The current version."""

    info: ContainerInfo


class ContainerVersion(Struct, frozen=True, rename="camel"):
    """One version in a history."""

    version: int
    create_time: str
    status: ContainerInfo
    verb: str
    """What made it: run, patch, rollback, restart or debug."""
    disk_kept: bool
    """True while its system disk is kept, so that it can be rolled back to."""
    disk_bytes: int | None
    """Of the kept system disk: its directory's, or its whole image's; null when none is kept."""
    pinned: bool
    """True when its system disk is to be kept until it is unpinned."""
    disk_gone: str
    """Why its system disk cannot be had any more, for people; empty when it can."""
    disk_with: int | None
    """The version whose container and system disk it became, as only limits differed."""
    changed: list[SpecChange]
    """What is other in it than in the version that it took the place of."""
    rolled_back_to: int | UnsetType = UNSET
    """For a rollback, the version that was gone back to."""


class ContainerHistoryData(Struct, frozen=True):
    """Every version, newest first."""

    history: list[ContainerVersion]


class DebugData(Struct, frozen=True, rename="camel"):
    """The debug copy that runs."""

    name: str
    debug_of: str
    """The version that it is a copy of, such as "foo@3"."""
    not_carried: list[str] | UnsetType = UNSET
    """What of the system disk could not come along, for people; left out when all of it did."""


class FileChangeData(Struct, frozen=True, rename="camel"):
    """A file that differs."""

    path: str
    kind: Literal["added", "changed", "deleted"]
    size_bytes: int
    """Of the newer one; 0 when it was deleted."""


class FilesData(Struct, frozen=True):
    """How the system disks differ: all files counted, the first of them listed by path."""

    added: int
    changed: int
    deleted: int
    listed: list[FileChangeData]
    truncated: bool
    """True when more differ than are listed."""


class DiffData(Struct, frozen=True, rename={"old": "from", "new": "to"}):
    """What is other in version `to` than in version `from`."""

    name: str
    old: int
    new: int
    spec: list[SpecChange]
    files: FilesData | None
    """Null when they were not asked for."""
