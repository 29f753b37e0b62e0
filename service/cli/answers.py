"""The answers of the API as far as the tables need them; what is new there is ignored here.

The contract's own documents (info, history) are read as Docker spells them, with `.get`, since
they are passed on as they are and none of their fields is promised.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from service.cli.failures import CliFailure

T = TypeVar("T")


class Port(Struct, frozen=True, rename="camel"):
    """A container's port ("22/tcp") and the host port that leads to it."""

    container_port: str
    host_port: int
    holder: str = ""


class Retry(Struct, frozen=True):
    """An ended container is to be started again."""

    attempt: int


class ReplicaSetRow(Struct, frozen=True, rename="camel"):
    """A replica set in the list."""

    name: str
    version: int
    phase: str
    image_name: str
    gpus: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    create_time: str = ""
    container: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    retry: Retry | None = None
    gpu_access_lost_time: str | None = None
    debug_of: str = ""


class ReplicaSets(Struct, frozen=True, rename="camel"):
    """GET /replicaSet."""

    replica_sets: tuple[ReplicaSetRow, ...]


class VolumeRow(Struct, frozen=True, rename="camel"):
    """A volume in the list."""

    name: str
    volume_name: str
    size: str
    create_time: str = ""


class Volumes(Struct, frozen=True):
    """GET /volumes."""

    volumes: tuple[VolumeRow, ...]


class Ailment(Struct, frozen=True):
    """A fault of a GPU."""

    message: str


class Gpu(Struct, frozen=True, rename="camel"):
    """A GPU, who has it, and how it fares."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    present: bool = True
    holder: str | None = None
    simulated: bool = False
    health: str = "healthy"
    ailments: tuple[Ailment, ...] = ()
    quarantine: str = "nobody"
    why: str = ""
    since: str | None = None
    occupants: tuple[int, ...] = ()


class Gpus(Struct, frozen=True):
    """GET /resources/gpus."""

    details: tuple[Gpu, ...]


class PortSet(Struct, frozen=True, rename="pascal"):
    """The `ports` of GET /resources/ports."""

    start_port: int
    end_port: int
    available_count: int
    details: tuple[Port, ...] = field(default=(), name="details")


class Ports(Struct, frozen=True):
    """GET /resources/ports."""

    ports: PortSet


class Node(Struct, frozen=True, rename="camel"):
    """GET /node."""

    version: str
    """Of gpuledger."""
    node: str = ""
    owner: str = ""
    versions: dict[str, str] = {}
    gpu_runtime: str = ""
    gpu_detail: str = ""
    disk_detail: str = ""
    volume_detail: str = ""


class SpecChange(Struct, frozen=True):
    """A field of a spec that differs; empty is not there."""

    field: str
    old: str
    new: str


class VersionRow(Struct, frozen=True, rename="camel"):
    """A version in the history."""

    version: int
    create_time: str
    verb: str
    status: dict[str, Any]
    disk_kept: bool
    disk_bytes: int | None = None
    pinned: bool = False
    disk_gone: str = ""
    disk_with: int | None = None
    changed: tuple[SpecChange, ...] = ()
    rolled_back_to: int | None = None


class History(Struct, frozen=True):
    """GET /replicaSet/{name}/history."""

    history: tuple[VersionRow, ...]


class FileChange(Struct, frozen=True, rename="camel"):
    """A file that differs."""

    path: str
    kind: Literal["added", "changed", "deleted"]
    size_bytes: int = 0


class Files(Struct, frozen=True):
    """How two system disks differ."""

    added: int
    changed: int
    deleted: int
    listed: tuple[FileChange, ...]
    truncated: bool = False


class Diff(Struct, frozen=True):
    """GET /replicaSet/{name}/diff."""

    spec: tuple[SpecChange, ...]
    files: Files | None = None


class Receipt(Struct, frozen=True, rename="camel"):
    """A command that was accepted."""

    operation_id: str


class Step(Struct, frozen=True):
    """One thing that was done."""

    at: str
    text: str


class StepProgress(Struct, frozen=True, rename="camel"):
    """How far a long step is."""

    step: str
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""


class Operation(Struct, frozen=True, rename="camel"):
    """A command from acceptance to end."""

    id: str
    verb: str
    kind: str
    name: str
    state: Literal["running", "succeeded", "failed"]
    accepted_time: str = ""
    finished_time: str | None = None
    steps: tuple[Step, ...] = ()
    progress: StepProgress | None = None
    result: dict[str, Any] | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None


def read(data: Mapping[str, Any], kind: type[T]) -> T:
    """The answer as a type. Raises CliFailure when the service speaks another language."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise CliFailure(
            f"the service's answer cannot be read ({error}); is it another version?"
        ) from None
