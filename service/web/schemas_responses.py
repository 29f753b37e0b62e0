"""What `data` holds in every answer. Encoded from these types, and documented from them."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from events.gpu_health import GpuCause
from events.values import GpuRuntime, Kind, Verb
from projections.state import OperationState
from service.application.health import Component
from service.web.container_ends import RetryData


class Envelope(Struct, frozen=True):
    """Around every answer: the contract's code, what to do about it, and the data."""

    code: int
    msg: str
    data: Any


class Refusal(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The data of a refusal or an error."""

    reason: str
    """A stable snake_case word."""
    field: str = ""
    """The field of the request that is wrong."""
    operation_id: str = ""
    """The operation that failed."""


class AcceptedData(Struct, frozen=True, rename="camel"):
    """The command is stored in the ledger at `seq`; its operation goes on."""

    operation_id: str
    seq: int


class RunData(Struct, frozen=True):
    """The container that runs."""

    name: str


class ContainerData(Struct, frozen=True, rename="camel"):
    """The container that took the place of the one before."""

    container_name: str
    not_carried: list[str] | UnsetType = UNSET
    """What of the system disk could not come along, for people; left out when all of it did."""


class CommitData(Struct, frozen=True, rename="camel"):
    """The image that was saved."""

    image_name: str


class ExecuteData(Struct, frozen=True, rename="camel"):
    """What a command wrote, and how it ended."""

    stdout: str
    stderr: str
    exit_code: int
    truncated: bool
    """True when the command wrote more than is kept; `msg` says how much."""


class VolumeData(Struct, frozen=True):
    """The volume that was made, with its version, and its size."""

    name: str
    size: str


class PortData(Struct, frozen=True, rename="camel"):
    """A container's port, and the host port that leads to it."""

    container_port: str
    host_port: int


class ReplicaSetSummary(Struct, frozen=True, rename="camel"):
    """A replica set in the list."""

    name: str
    version: int
    container_name: str
    phase: str
    """What it is meant to be: running, paused or stopped."""
    container: str
    """What was last seen of its container: absent, created, running, exited or removed."""
    image_name: str
    gpu_count: int
    gpus: list[str]
    gpus_sick: list[str]
    """Those of its GPUs that fell ill or are gone; a patch or a restart takes others."""
    ports: list[PortData]
    create_time: str
    operation_id: str | None
    """The operation in progress, if there is one."""
    exit_code: int | UnsetType = UNSET
    """With the next two: of a container that ended though nobody asked for it."""
    oom_killed: bool | UnsetType = UNSET
    finished_time: str | UnsetType = UNSET
    retry: RetryData | UnsetType = UNSET
    gpu_access_lost_time: str | UnsetType = UNSET
    debug_of: str | UnsetType = UNSET
    """Of a debug copy, the version that it is a copy of, such as "foo@3"."""


class ReplicaSetsData(Struct, frozen=True, rename="camel"):
    """The replica sets that are there, by name."""

    replica_sets: list[ReplicaSetSummary]
    next: str | None
    """Give it as `after` to get what follows; null at the end."""


class VolumeOptions(Struct, frozen=True, rename="pascal"):
    """A volume's options, as Docker's API spells them."""

    driver: str
    driver_opts: dict[str, str]
    name: str


class VolumeInfo(Struct, frozen=True, rename="camel"):
    """A version of a volume."""

    version: int
    create_time: str
    opt: VolumeOptions


class VolumeInfoData(Struct, frozen=True):
    """The current version."""

    info: VolumeInfo


class VolumeVersionData(Struct, frozen=True, rename="camel"):
    """One version in a history."""

    version: int
    create_time: str
    status: VolumeInfo


class VolumeHistoryData(Struct, frozen=True):
    """Every version, newest first."""

    history: list[VolumeVersionData]


class VolumeSummary(Struct, frozen=True, rename="camel"):
    """A volume in the list."""

    name: str
    version: int
    volume_name: str
    size: str
    size_bytes: int
    create_time: str
    operation_id: str | None


class VolumesData(Struct, frozen=True):
    """The volumes that are there, by name."""

    volumes: list[VolumeSummary]


Usage = Literal[0, 1]
"""The contract's words for a GPU that is free and for one that is used."""

QuarantinedBy = Literal["nobody", "policy", "hand"]
"""Who said that a GPU is not lent: the rules, because it fell ill, or a person."""


class GpuAilment(Struct, frozen=True):
    """A fault of a GPU, and since when it has it."""

    cause: GpuCause
    message: str
    since: str


class GpuDetail(Struct, frozen=True, rename="camel"):
    """A GPU or MIG instance, and who has it."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    pci_bus_id: str
    parent_uuid: str | None
    present: bool
    """False when the driver does not show it any more but somebody still has it."""
    holder: str | None
    """The container that has it, such as "foo-2"."""
    simulated: bool
    """True when there is no such device: it stands for one on a machine without GPUs."""
    health: Literal["healthy", "sick"]
    ailments: list[GpuAilment]
    quarantine: QuarantinedBy
    """While it is in quarantine it is not lent; whoever has it keeps it."""
    why: str
    """Why it is not lent, or what it is sick of, for people; empty when there is nothing."""
    since: str | None
    """Since when it is in quarantine, or sick."""
    occupants: list[int]
    """Processes of the host that are on it though nobody leases it: it is not lent meanwhile."""


class GpusData(Struct, frozen=True):
    """By UUID 0 for free and 1 for used, and the details.

    One that nobody has and that is not lent all the same, because it is in quarantine or because
    a process of the host is on it, is 1 as well: not to be counted on.
    """

    gpus: dict[str, Usage]
    details: list[GpuDetail]


class PortDetail(Struct, frozen=True, rename="camel"):
    """A host port in use, and whose it is."""

    host_port: int
    container_port: str
    holder: str


class PortSet(
    Struct,
    frozen=True,
    rename={
        "start_port": "StartPort",
        "end_port": "EndPort",
        "available_count": "AvailableCount",
        "used_port_set": "UsedPortSet",
    },
):
    """The host ports that are lent, and which are in use."""

    start_port: int
    end_port: int
    available_count: int
    used_port_set: dict[str, dict[str, str]]
    """The keys are the ports; the values are empty, as the predecessor's."""
    details: list[PortDetail]


class PortsData(Struct, frozen=True):
    """The host ports."""

    ports: PortSet


class NodeData(Struct, frozen=True, rename="camel"):
    """This installation: where it runs and what with."""

    node: str
    owner: str
    """The installation that the labels of its containers name."""
    version: str
    """Of gpuledger."""
    versions: dict[str, str]
    """Of what it runs with: docker, nats, ..."""
    gpu_runtime: GpuRuntime
    """How GPUs are handed to Docker; "simulated" and "none" hand over nothing."""
    gpu_detail: str
    """One line for people about the GPUs."""
    disk_detail: str
    """One line for people: how containers' system disks are carried, and why so."""
    volume_detail: str
    """One line for people: how volumes are sized here, or why they cannot be."""
    gpus: list[GpuDetail]


class StepData(Struct, frozen=True):
    """One thing that was done."""

    at: str
    text: str


class ProgressData(Struct, frozen=True, rename="camel"):
    """How far a long step is."""

    step: str
    done_bytes: int
    total_bytes: int
    message: str


class OperationData(Struct, frozen=True, rename="camel"):
    """A caller's command, from acceptance to end."""

    id: str
    seq: int
    """Its record in the ledger."""
    verb: Verb
    kind: Kind
    name: str
    state: OperationState
    actor: str
    accepted_time: str
    finished_time: str | None
    steps: list[StepData]
    progress: ProgressData | None
    result: dict[str, Any] | None
    """What a caller who waited got as `data`; null until it has succeeded."""
    code: int | None
    """What a caller who waited got as `code`; null until it has ended."""
    reason: str | None
    """Why it failed: a stable snake_case word."""
    message: str | None
    """Why it failed, for people; where Docker refused, Docker's own words."""
    request: dict[str, Any] | UnsetType = UNSET
    """What was asked; not in lists."""


class OperationsData(Struct, frozen=True):
    """Operations, newest first."""

    operations: list[OperationData]
    next: int | None
    """Give it as `before` to get what follows; null at the end."""


class PongData(Struct, frozen=True):
    """The answer of /ping, without an envelope."""

    message: str


class AliveData(Struct, frozen=True):
    """The process answers."""

    alive: bool


class ReadyData(Struct, frozen=True):
    """Every part that an operation needs."""

    ready: bool
    components: dict[str, Component]
