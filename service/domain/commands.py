"""Commands, and the envelope with everything that may differ between two runs.

Imperative, as a caller says it. The values are well formed (the web layer saw to that); whether
they may be done is for `decide`.
"""

from typing import Any

from msgspec import Struct

from events.billing import MonthClosed
from events.gpu_health import GpuError, GpuReport, MissingGpu
from events.values import Bind, Carry, ContainerSpec, Gpu, GpuRuntime, OnExit, OnGpuLost
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.effects import Effect
from service.domain.observing_commands import ObserveContainer, ObserveGpuAccess, RetryReplicaSet
from service.domain.orphan_commands import ExpireOrphan, RemoveOrphan, Thing


class RunReplicaSet(Struct, frozen=True):
    """Make a replica set and run its first revision."""

    name: str
    spec: ContainerSpec
    data_disk_bytes: int | None = None


class BindChange(Struct, frozen=True):
    """Mount `new` where `old` was mounted."""

    old: Bind
    new: Bind


class BindAt(Struct, frozen=True):
    """What is to be mounted at `target`: `source` as a Bind's, or nothing when it is empty."""

    source: str
    target: str


class PatchReplicaSet(Struct, frozen=True):
    """Put a revision in place that differs in what is given here, and in nothing else.

    None leaves a thing as it is; a limit of 0 is none.
    """

    name: str
    gpu_count: int | None = None
    bind: BindChange | None = None
    binds: tuple[BindAt, ...] = ()
    env: tuple[str, ...] = ()
    """K=V sets a variable, a bare K takes it away; the others stay."""
    secret_env: tuple[str, ...] = ()
    """Keys to mark as secret, beside those that are; their values are among `env`."""
    cmd: tuple[str, ...] | None = None
    """Empty is the image's own."""
    container_ports: tuple[str, ...] | None = None
    image: str | None = None
    """Another image: the system disk begins anew with it."""
    nano_cpus: int | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    pids_limit: int | None = None
    on_exit: OnExit | None = None
    max_retries: int | None = None
    on_gpu_lost: OnGpuLost | None = None


class RollBackReplicaSet(Struct, frozen=True):
    """Put a revision in place with the spec and the system disk that `version` had."""

    name: str
    version: int


class DebugReplicaSet(Struct, frozen=True, tag=True):
    """Run a copy of a version of the replica set `of`, with its system disk, as `name`."""

    name: str
    of: str
    version: int
    gpu_count: int = 0
    cmd: tuple[str, ...] | None = None
    """In place of the version's own; empty is the image's own."""


class RestartReplicaSet(Struct, frozen=True):
    """Put a revision in place as it is, GPUs and ports applied for again."""

    name: str


class StopReplicaSet(Struct, frozen=True):
    """Stop, and give GPUs and ports back."""

    name: str


class PauseReplicaSet(Struct, frozen=True):
    """Stop the container, and keep GPUs and ports."""

    name: str


class ContinueReplicaSet(Struct, frozen=True):
    """Start the paused container again."""

    name: str


class CommitReplicaSet(Struct, frozen=True):
    """Save the system disk as an image."""

    name: str
    image: str


class ExecuteInReplicaSet(Struct, frozen=True):
    """Run a command in the running container."""

    name: str
    cmd: tuple[str, ...]
    work_dir: str = ""


class PinRevision(Struct, frozen=True):
    """Keep the system disk of a version until it is unpinned."""

    name: str
    version: int


class UnpinRevision(Struct, frozen=True):
    """Keep the system disk of a version as long as any other."""

    name: str
    version: int


class DeleteReplicaSet(Struct, frozen=True):
    """Remove the container and the kept system disks; give everything back."""

    name: str


class CreateVolume(Struct, frozen=True):
    """Make a sized volume."""

    name: str
    size_bytes: int


class ResizeVolume(Struct, frozen=True):
    """Give a volume another size; the data stays."""

    name: str
    size_bytes: int


class DeleteVolume(Struct, frozen=True):
    """Remove a volume and its data."""

    name: str


class QuarantineGpu(Struct, frozen=True):
    """Do not lend a GPU, from now on. `name` is its UUID; `why` is for people."""

    name: str
    why: str


class RestoreGpu(Struct, frozen=True):
    """Lend a GPU again. `name` is its UUID."""

    name: str


Request = (
    RunReplicaSet
    | PatchReplicaSet
    | RollBackReplicaSet
    | DebugReplicaSet
    | RestartReplicaSet
    | StopReplicaSet
    | PauseReplicaSet
    | ContinueReplicaSet
    | CommitReplicaSet
    | ExecuteInReplicaSet
    | DeleteReplicaSet
    | PinRevision
    | UnpinRevision
    | CreateVolume
    | ResizeVolume
    | DeleteVolume
    | QuarantineGpu
    | RestoreGpu
    | RemoveOrphan
    | SetPrice
    | CloseMonth
)
"""What a caller can send. An accepted one becomes an operation."""


class Succeeded(Struct, frozen=True):
    """The engine did it. `facts` are what the matching event wants to know."""

    facts: dict[str, Any] = {}


class Failed(Struct, frozen=True):
    """The engine refused, in its own words."""

    reason: str
    message: str


class RecordOutcome(Struct, frozen=True):
    """The executor reports what became of an effect."""

    effect: Effect
    outcome: Succeeded | Failed


class RecordProgress(Struct, frozen=True):
    """The executor reports how far a long effect is."""

    effect: Effect
    done_bytes: int
    total_bytes: int
    message: str = ""


class ObserveGpus(Struct, frozen=True):
    """The watcher reports all GPUs that the driver shows now, and how they fare."""

    gpus: tuple[Gpu, ...]
    reports: tuple[GpuReport, ...] = ()
    """Of one that has none there is nothing to say against it."""
    missing: tuple[MissingGpu, ...] = ()
    boot: str = ""


class ReportGpuErrors(Struct, frozen=True):
    """The watcher reports errors of GPUs, as the driver did."""

    errors: tuple[GpuError, ...]
    boot: str = ""


class ExpireSnapshots(Struct, frozen=True):
    """The service looks after the kept system disks of a replica set.

    `short_of_space` says, for people, how little is left on their disk; empty when it is enough.
    """

    name: str
    short_of_space: str = ""


class RegisterNode(Struct, frozen=True):
    """The first command of an installation."""

    node: str
    owner: str


Command = (
    Request
    | RecordOutcome
    | RecordProgress
    | ObserveGpus
    | ReportGpuErrors
    | ObserveContainer
    | ObserveGpuAccess
    | RetryReplicaSet
    | ExpireSnapshots
    | ExpireOrphan
    | RegisterNode
)


class Facts(Struct, frozen=True):
    """What the host and the settings are now; decisions copy from it what has to last."""

    node: str
    gpu_runtime: GpuRuntime = "none"
    port_first: int = 40000
    port_last: int = 65535
    volumes_grow_online: bool = False
    volumes_shrink_online: bool = False
    carry: Carry = "commit"
    clones_share_blocks: bool = False
    """A kept directory is cloned without copying: the file system has reflinks."""
    keep_revisions: int = 10
    """So many kept system disks a replica set may have, beside those that are pinned."""
    keep_us: int = 0
    """A kept system disk that is older than this is given up; 0 never."""
    data_disk_path: str = "/root/foo-tmp"
    orphan: Thing | None = None
    """What a `RemoveOrphan` names, as it was just seen; None when it was not."""
    totals: MonthClosed | None = None
    """Of the month that is to be closed, as the rows have them."""


class Envelope(Struct, frozen=True):
    """A command on its way to `decide`, with who sent it and when."""

    command_id: str
    issued_at_us: int
    command: Command
    facts: Facts
    actor: str = ""
    tenant: str = ""
    request: dict[str, Any] = {}
    """The body as the caller sent it, for the record."""
    fingerprint: str = ""
    traceparent: str = ""
