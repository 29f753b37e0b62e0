"""A made-up but well-formed ledger of any length, the same on every call.

`records(count, names)` first runs every name, then works through the names in turns: mostly
`execute`, with patches, failed patches, stops and restarts, volumes and deletions in between.
Every name has a GPU of its own, so that leases never clash however the turns fall.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from events import operations, outcomes, replica_sets, resources, volumes
from events.codec import show_time
from events.record import Event, Record
from events.values import Bind, ContainerSpec, Kind, PortBinding, Verb

NODE = "n1"
OWNER = "owner-1"
BEGIN_US = 1_700_000_000_000_000
IMAGE = "registry.example/lab/train:2.4"


@dataclass
class _Name:
    """What the generator remembers of one replica set."""

    index: int
    revision: int = 0
    newest: int = 0
    turns: int = 0
    volume_versions: int = 0
    ports: tuple[PortBinding, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"set{self.index}"

    @property
    def gpus(self) -> tuple[str, ...]:
        return (gpu_uuid(self.index),)


class _Log:
    """Counts records, and gives each its id and instant."""

    def __init__(self) -> None:
        self.seq = 0

    def record(
        self, kind: Kind | str, name: str, verb: str, operation_id: str, *events: Event
    ) -> Record:
        self.seq += 1
        return Record(
            command_id=self.id_at(self.seq),
            node=NODE,
            kind=kind,
            name=name,
            verb=verb,
            at_us=BEGIN_US + self.seq * 1_000,
            events=events,
            actor="ann" if operation_id else "gpuledger",
            operation_id=operation_id,
        )

    def accept(
        self, verb: Verb, kind: Kind, name: str, request: dict[str, Any], *events: Event
    ) -> Record:
        operation_id = self.id_at(self.seq + 1)
        accepted = operations.OperationAccepted(operation_id, verb, kind, name, request)
        return self.record(kind, name, verb, operation_id, accepted, *events)

    @staticmethod
    def id_at(seq: int) -> str:
        return f"0190f3a2-7c00-7000-8000-{seq:012x}"


def gpu_uuid(index: int) -> str:
    """The UUID of the n-th GPU."""
    return f"GPU-{index:08x}-0000-4000-8000-000000000000"


def records(count: int, names: int = 2_000) -> Iterator[Record]:
    """The first `count` records of the log; record n of it has sequence n, from 1."""
    return islice(_endless(names), count)


def _endless(names: int) -> Iterator[Record]:
    log = _Log()
    known = [_Name(index) for index in range(names)]
    yield log.record("node", NODE, "register", "", resources.NodeRegistered(NODE, OWNER))
    for one in known:
        yield log.record("gpu", gpu_uuid(one.index), "appear", "", _gpu(one.index))
    for one in known:
        yield from _run(log, one)
    while True:
        for one in known:
            yield from _turn(log, one)


def _turn(log: _Log, one: _Name) -> Iterator[Record]:
    """What happens to a name next; the numbers are only there to mix it."""
    one.turns += 1
    match (one.turns * 5 + one.index) % 64:
        case 7:
            yield from _patch(log, one)
        case 19:
            yield from _failed_patch(log, one)
        case 29:
            yield from _stop(log, one)
            yield from _restart(log, one)
        case 37:
            yield from _size_volume(log, one)
        case 47:
            yield from _delete(log, one)
            yield from _run(log, one)
        case 53:
            gone = resources.GpuDisappeared(gpu_uuid(one.index))
            yield log.record("gpu", gone.uuid, "disappear", "", gone)
            yield log.record("gpu", gone.uuid, "appear", "", _gpu(one.index))
        case _:
            yield from _execute(log, one)


def _gpu(index: int) -> resources.GpuAppeared:
    return resources.GpuAppeared(
        gpu_uuid(index), index, "NVIDIA A100-SXM4-80GB", 80 << 30, f"0000:{index:04x}:00.0"
    )


def _declare(one: _Name, cause: Verb, supersedes: int | None = None) -> tuple[Event, ...]:
    """The events that give a name its next revision, with its leases."""
    one.newest += 1
    one.revision = one.newest
    first_port = 40_000 + one.index * 4 + one.revision % 2 * 2
    one.ports = (PortBinding("22/tcp", first_port), PortBinding("8888/tcp", first_port + 1))
    binds = [Bind(f"/srv/data/{one.name}", "/root/data")]
    if one.volume_versions:
        binds.append(Bind(f"disk{one.index}-{one.volume_versions}", "/root/foo-tmp"))
    spec = ContainerSpec(
        image=IMAGE,
        gpu_count=1,
        binds=tuple(binds),
        env=("MODE=train", f"CONTAINER_VERSION={one.revision}"),
        cmd=("python", "-m", "train", "--epochs", "20"),
        container_ports=("22/tcp", "8888/tcp"),
        memory_bytes=32 << 30,
    )
    declared = replica_sets.RevisionDeclared(
        name=one.name,
        number=one.revision,
        cause=cause,
        spec=spec,
        gpus=one.gpus,
        ports=one.ports,
        gpu_runtime="nvidia",
        supersedes=supersedes,
        disk_from=supersedes,
    )
    gpus = resources.GpusLeased(one.name, one.revision, one.gpus)
    return declared, gpus, resources.PortsLeased(one.name, one.revision, one.ports)


def _release(one: _Name, revision: int, ports: tuple[PortBinding, ...]) -> tuple[Event, ...]:
    host_ports = tuple(binding.host_port for binding in ports)
    return (
        resources.GpusReleased(one.name, revision, one.gpus),
        resources.PortsReleased(one.name, revision, host_ports),
    )


def _start(log: _Log, one: _Name, operation: str) -> Iterator[Record]:
    """The container of the current revision is made and started, which ends the operation."""
    kind, name, number = "replica_set", one.name, one.revision
    image = outcomes.ImageResolved(name, number, IMAGE, "sha256:" + "ab" * 32)
    yield log.record(kind, name, "image_resolved", operation, image)
    created = outcomes.ContainerCreated(name, number, f"{log.seq:064x}", f"{name}-{number}:create")
    yield log.record(kind, name, "container_created", operation, created)
    started = outcomes.ContainerStarted(name, number, show_time(BEGIN_US + log.seq * 1_000))
    yield log.record(kind, name, "container_started", operation, started)
    ended = operations.OperationSucceeded(operation, {"containerName": f"{name}-{number}"})
    yield log.record(kind, name, "succeeded", operation, ended)


def _run(log: _Log, one: _Name) -> Iterator[Record]:
    request = {"imageName": IMAGE, "replicaSetName": one.name, "gpuCount": 1}
    accepted = log.accept("run", "replica_set", one.name, request, *_declare(one, "run"))
    yield accepted
    yield from _start(log, one, accepted.command_id)


def _execute(log: _Log, one: _Name) -> Iterator[Record]:
    request = {"workDir": "/root", "cmd": ["nvidia-smi", "--query-gpu=uuid"]}
    requested = replica_sets.ExecutionRequested(
        log.id_at(log.seq + 1), one.name, one.revision, tuple(request["cmd"]), "/root"
    )
    accepted = log.accept("execute", "replica_set", one.name, request, requested)
    yield accepted
    operation = accepted.command_id
    executed = outcomes.CommandExecuted(operation, one.name, one.revision, 0, 41_000, 640, 0)
    ended = operations.OperationSucceeded(operation, {"exitCode": 0})
    yield log.record("replica_set", one.name, "executed", operation, executed, ended)


def _patch(log: _Log, one: _Name) -> Iterator[Record]:
    kind, name, before, ports = "replica_set", one.name, one.revision, one.ports
    events = _declare(one, "patch", supersedes=before)
    accepted = log.accept("patch", "replica_set", name, {"gpuPatch": {"gpuCount": 1}}, *events)
    yield accepted
    operation = accepted.command_id
    stopped = outcomes.ContainerStopped(name, before, 0)
    yield log.record(kind, name, "container_stopped", operation, stopped)
    kept = outcomes.SnapshotTaken(name, before, f"gpuledger/{name}:{before}", 5 << 30)
    yield log.record(kind, name, "snapshot_taken", operation, kept)
    gone = outcomes.ContainerRemoved(name, before)
    retired = replica_sets.RevisionRetired(name, before)
    leases = _release(one, before, ports)
    yield log.record(kind, name, "container_removed", operation, gone, *leases, retired)
    yield from _start(log, one, operation)


def _failed_patch(log: _Log, one: _Name) -> Iterator[Record]:
    kind, name, before, ports = "replica_set", one.name, one.revision, one.ports
    events = _declare(one, "patch", supersedes=before)
    failed, failed_ports = one.revision, one.ports
    accepted = log.accept("patch", "replica_set", name, {}, *events)
    yield accepted
    operation = accepted.command_id
    refused = outcomes.EffectFailed(
        operation, f"{name}-{failed}:pull", "PullImage", kind, name, failed, "image_not_found", "no"
    )
    yield log.record(kind, name, "effect_failed", operation, refused)
    abandoned = replica_sets.RevisionAbandoned(name, failed, before, "running")
    leases = _release(one, failed, failed_ports)
    ended = operations.OperationFailed(operation, "image_not_found", "no such image")
    yield log.record(kind, name, "abandoned", operation, abandoned, *leases, ended)
    one.revision, one.newest, one.ports = before, failed - 1, ports


def _stop(log: _Log, one: _Name) -> Iterator[Record]:
    kind, name = "replica_set", one.name
    accepted = log.accept(
        "stop", "replica_set", name, {}, replica_sets.PhaseRequested(name, "stopped")
    )
    yield accepted
    operation = accepted.command_id
    stopped = outcomes.ContainerStopped(name, one.revision, 137)
    leases = _release(one, one.revision, one.ports)
    yield log.record(kind, name, "container_stopped", operation, stopped, *leases)
    yield log.record(kind, name, "succeeded", operation, operations.OperationSucceeded(operation))


def _restart(log: _Log, one: _Name) -> Iterator[Record]:
    events = _declare(one, "restart")
    accepted = log.accept("restart", "replica_set", one.name, {}, *events)
    yield accepted
    yield from _start(log, one, accepted.command_id)


def _size_volume(log: _Log, one: _Name) -> Iterator[Record]:
    """The name's data disk is made or, when it is there, grown; the next revision mounts it."""
    name, before = f"disk{one.index}", one.volume_versions or None
    one.volume_versions += 1
    verb: Verb = "resize" if before else "create"
    size = 20 * one.volume_versions
    declared = volumes.VolumeVersionDeclared(name, one.volume_versions, size << 30, verb, before)
    accepted = log.accept(verb, "volume", name, {"name": name, "size": f"{size}GB"}, declared)
    yield accepted
    operation = accepted.command_id
    made = outcomes.VolumeMade(name, one.volume_versions)
    yield log.record("volume", name, "made", operation, made)
    ended = operations.OperationSucceeded(operation, {"name": f"{name}-{one.volume_versions}"})
    yield log.record("volume", name, "succeeded", operation, ended)


def _delete(log: _Log, one: _Name) -> Iterator[Record]:
    kind, name = "replica_set", one.name
    accepted = log.accept(
        "delete", "replica_set", name, {}, replica_sets.PhaseRequested(name, "deleted")
    )
    yield accepted
    operation = accepted.command_id
    gone = outcomes.ContainerRemoved(name, one.revision)
    leases = _release(one, one.revision, one.ports)
    yield log.record(kind, name, "container_removed", operation, gone, *leases)
    deleted = replica_sets.ReplicaSetDeleted(name)
    ended = operations.OperationSucceeded(operation)
    yield log.record(kind, name, "deleted", operation, deleted, ended)
