"""The state: what the ledger says, folded. Pure; the one projection that decisions are made from.

The aggregates are frozen and replaced as a whole, so that a row can be taken from the state at
one record while the fold goes on. `State.touched` collects the keys of what the fold replaced;
the rows of the read store are made from exactly these. Made of values only, they can never be
in a cycle: `gc=False` keeps hundreds of thousands of them out of the collector's rounds.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from events.record import Record
from events.values import (
    Carry,
    ContainerSpec,
    GpuRuntime,
    Kind,
    Phase,
    PortBinding,
    Verb,
)
from projections.debug_copy import CopiedDisk, Loan
from projections.gpu_unit import GpuUnit as GpuUnit
from projections.node import ExpiredOrphan as ExpiredOrphan
from projections.node import Node as Node
from projections.node import RestingPort as RestingPort
from projections.price_book import Month, Price
from projections.webhook_book import Webhook

FINISHED_OPERATIONS_MAX = 4096
"""So many ended operations stay in memory; older ones are in the read store.

It is far more than the writer's queue holds, so an idempotency key that was looked up in the
read store just before its operation ended is still found here.
"""

ContainerPhase = Literal["absent", "created", "running", "exited", "removed"]
"""What was last observed of a revision's container."""

OperationState = Literal["running", "succeeded", "failed"]

Key = tuple[str, str | int, int]
"""Table, name (or id), version number (0 where there is none)."""


class PortLease(Struct, frozen=True, gc=False):
    """A host port in use. Ports that nobody leases have no row."""

    host_port: int
    holder: str
    revisions: tuple[int, ...]
    container_port: str


class Failure(Struct, frozen=True, gc=False):
    """Why an operation cannot be completed, in words for people."""

    reason: str
    message: str


class Revision(Struct, frozen=True, gc=False, omit_defaults=True):
    """One version of a replica set: as decided, and what was observed of it."""

    name: str
    number: int
    cause: Verb
    spec: ContainerSpec
    gpus: tuple[str, ...]
    ports: tuple[PortBinding, ...]
    gpu_runtime: GpuRuntime
    created_us: int
    supersedes: int | None = None
    disk_from: int | None = None
    rolled_back_to: int | None = None
    data_volume: str | None = None
    image_id: str | None = None
    container: ContainerPhase = "absent"
    container_id: str = ""
    started_at: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    finished_at: str = ""
    stray: bool = False
    """Somebody else started its container, which was not to run: it is to be stopped."""
    retrying: int = 0
    """The record that began to start its container again; 0 when none is under way."""
    ended_alone: bool = False
    """Its container ended without our stopping it, or was stopped to be started again: exit code
    and the rest tell of that."""
    ended_with_engine: bool = False
    """And that was not its own doing."""
    refused: int = 0
    """How often the engine did not start it again since then."""
    gpu_access_lost_us: int = 0
    """Since when its running container may not open its GPUs; 0 when it may, as far as is known."""
    remake: bool = False
    """Its container is to be removed and made anew, with other host ports."""
    seen_seq: int = 0
    """The record that last told of its container: what was looked at before is an old story."""
    attempt: int = 0
    """How many containers were made for it before this one, because of their host ports."""
    carry: Carry = "commit"
    base_image: str = ""
    """What its container's system disk lies on."""
    filled: bool = False
    """The kept system disk that it starts with was cloned into its container."""
    snapshot: str | None = None
    """The image or directory that holds its system disk, once it was stopped for a newer one."""
    snapshot_carry: Carry = "commit"
    """Which of the two `snapshot` names."""
    snapshot_bytes: int = 0
    kept_us: int = 0
    """Since when its system disk is kept."""
    pinned: bool = False
    expiring: str = ""
    """Why its system disk is being given up, for people."""
    gone: str = ""
    """Why its system disk was given up."""
    in_place: bool = False
    made_as: int = 0
    """The revision that its container was made as, when it took that of another over."""
    continued_as: int | None = None
    """The revision whose its container, and with it its system disk, became."""
    copies: bool = False
    precopied: bool = False
    origin: str = ""
    """The image, by its content, that its system disk began with, below all commits."""
    origin_env: tuple[str, ...] = ()
    origin_cmd: tuple[str, ...] = ()
    baked_env: tuple[str, ...] = ()
    """Names that commits left in the environment of the image that its container was made of."""
    baked_cmd: bool = False
    """A commit left a command in that image."""
    debug_of: str = ""
    copied: CopiedDisk | None = None
    """What the first revision of a debug copy begins with."""
    lost: Phase | None = None
    """What it was to be when its container went with its host; while that is removed, it can be
    made again."""


class Execution(Struct, frozen=True, gc=False):
    """A command to be run once in a container; its outcome is awaited."""

    operation_id: str
    number: int
    cmd: tuple[str, ...]
    work_dir: str


class ReplicaSet(Struct, frozen=True, gc=False, omit_defaults=True):
    """A name, and which of its revisions counts.

    `current` is the revision that is to be; `previous` the one it is taking the place of, while
    that goes on. Version numbers are never used twice, also after a deletion.
    """

    name: str
    phase: Phase = "running"
    current: int = 0
    previous: int | None = None
    newest: int = 0
    operation: str | None = None
    """The operation in progress; one at a time."""
    failure: Failure | None = None
    """Why that operation is being undone."""
    phase_before: Phase = "running"
    """What the set was before the operation in progress, for when it fails."""
    image_commit: str | None = None
    committed: str | None = None
    executions: tuple[Execution, ...] = ()
    snapshots: tuple[int, ...] = ()
    """Revisions whose system disk is kept, oldest first."""
    expiring: tuple[int, ...] = ()
    """Those of them whose system disk is being given up."""
    retry: int = 0
    """How many times in a row its ended container was, or is to be, started again."""
    retry_due_us: int = 0
    """When that is to be; 0 when it is not."""
    to_compact: tuple[int, ...] = ()
    """Those of them that are still to share files with the one kept before."""
    updated_us: int = 0
    tenant: str = ""
    """Whose it is: of the record that ran it, whoever changed it since."""
    debug_of: str = ""
    """Of a debug copy, the version that it is a copy of, such as "foo@3"."""
    debug_image: str = ""
    """And the image of its own that is to go with it."""
    loans: tuple[Loan, ...] = ()
    """Which of its system disks are being copied for whom."""


class VolumeVersion(Struct, frozen=True, gc=False, omit_defaults=True):
    """A size that a volume had, and since when."""

    number: int
    size_bytes: int
    cause: Verb
    created_us: int
    made: bool = False


class Volume(Struct, frozen=True, gc=False, omit_defaults=True):
    """A sized disk. All versions are the same disk; `current` says its size."""

    name: str
    current: int = 0
    previous: int | None = None
    newest: int = 0
    deleting: bool = False
    removed: bool = False
    """While it is being deleted: the disk was seen gone."""
    deleted: bool = False
    halts_users: bool = False
    operation: str | None = None
    failure: Failure | None = None
    versions: tuple[VolumeVersion, ...] = ()
    """Every version ever, oldest first."""
    tenant: str = ""
    """Whose it is: of the record that created it."""
    lost: bool = False
    """Its current version went with its host, and is not made again yet."""
    losses: int = 0
    """How often that was so."""


class Step(Struct, frozen=True, gc=False):
    """One thing that was done in an operation."""

    at_us: int
    text: str


class Operation(Struct, frozen=True, gc=False, omit_defaults=True):
    """A caller's command from acceptance to end."""

    id: str
    seq: int
    verb: Verb
    kind: Kind
    name: str
    accepted_us: int
    request: dict[str, Any]
    fingerprint: str = ""
    actor: str = ""
    tenant: str = ""
    remote: str = ""
    state: OperationState = "running"
    steps: tuple[Step, ...] = ()
    progress_step: str = ""
    progress_done_bytes: int = 0
    progress_total_bytes: int = 0
    result: dict[str, Any] = {}
    reason: str = ""
    message: str = ""
    finished_us: int | None = None
    finished_seq: int | None = None


class State:
    """The fold of all records up to `seq`."""

    def __init__(self) -> None:
        self.seq = 0
        self.node: Node | None = None
        self.replica_sets: dict[str, ReplicaSet] = {}
        self.revisions: dict[tuple[str, int], Revision] = {}
        self.volumes: dict[str, Volume] = {}
        self.gpus: dict[str, GpuUnit] = {}
        self.ports: dict[int, PortLease] = {}
        self.operations: dict[str, Operation] = {}
        self.prices: dict[tuple[str, int], Price] = {}
        """By scope, and the instant from which it holds."""
        self.months: dict[str, Month] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.finished: deque[str] = deque()
        self.volume_users: dict[str, set[str]] = {}
        """By volume: the replica sets that use it; a volume that nobody uses has no entry."""
        self.volumes_used: dict[str, frozenset[str]] = {}
        """The same by replica set, so that a change costs only what it touches."""
        self.touched: set[Key] = set()
        self.evicted: dict[str, Operation] = {}
        """Touched operations that left memory before their rows were taken."""

    def copy(self) -> "State":
        """An independent state; the aggregates are shared, being frozen."""
        other = State()
        other.seq, other.node = self.seq, self.node
        other.replica_sets = self.replica_sets.copy()
        other.revisions = self.revisions.copy()
        other.volumes = self.volumes.copy()
        other.gpus = self.gpus.copy()
        other.ports = self.ports.copy()
        other.operations = self.operations.copy()
        other.prices = self.prices.copy()
        other.months = self.months.copy()
        other.webhooks = self.webhooks.copy()
        other.finished = self.finished.copy()
        other.volume_users = {name: set(users) for name, users in self.volume_users.items()}
        other.volumes_used = self.volumes_used.copy()
        return other

    def forget_touched(self) -> None:
        """The rows of what was touched were taken, or nobody wants any."""
        self.touched.clear()
        self.evicted.clear()

    def live(self, name: str) -> ReplicaSet | None:
        """The replica set of this name, unless there is none or it was deleted."""
        replica_set = self.replica_sets.get(name)
        return replica_set if replica_set is not None and replica_set.current else None

    def live_volume(self, name: str) -> Volume | None:
        """The volume of this name, unless there is none or it was deleted."""
        volume = self.volumes.get(name)
        return volume if volume is not None and not volume.deleted and volume.current else None


Folds = dict[type[Any], Callable[[State, Record, Any], None]]
"""What an event of each type does to the state."""
