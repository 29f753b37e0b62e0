"""What becomes of a host's containers and volumes when it is recovered: told before it is done.

The plan is made by deciding the very commands that will be sent, on a copy of the state. So it
says what they will say, down to the GPUs and ports; only what Docker will answer is not known.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from events.operations import OperationFailed
from events.outcomes import SnapshotRemoved
from events.record import Event, Record, acceptance
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
from events.values import Phase, versioned
from projections.evolve import evolve
from projections.state import Operation, ReplicaSet, Revision, State, Volume
from service.domain.commands import Command, Envelope, Facts
from service.domain.decide import address, decide
from service.domain.invariants import IN_USE
from service.domain.placement import gpu_shortage
from service.domain.recovery import is_data_disk_made
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from service.domain.recovery_copies import is_copy_lost
from service.domain.recovery_sight import HostSight, SeenOwner
from service.domain.rejections import Rejected

Verdict = Literal["here", "whole", "loss", "cannot"]
"""It is here already; it is made again as it was; or something of it is lost; or it cannot be."""

Recover = RecoverReplicaSet | RecoverVolume

DATA_GONE = "its disk is not here: its data is gone"

AS: Mapping[Phase, str] = {
    "running": "made again and started",
    "paused": "made again, paused",
    "stopped": "made again, stopped",
}


class Step(Struct, frozen=True):
    """What becomes of one replica set or volume."""

    kind: Literal["replica_set", "volume"]
    name: str
    """With its version."""
    verdict: Verdict
    what: str
    """For people."""
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What will be other than it was, and is no loss."""


class Plan(Struct, frozen=True):
    """What is to be sent, and what will come of it."""

    steps: tuple[Step, ...]
    commands: tuple[Recover, ...]
    in_the_way: tuple[str, ...]
    """What has to be removed by hand before anything is done, and why."""

    @property
    def losses(self) -> tuple[str, ...]:
        """All that is lost, in words that name whose it is."""
        return tuple(f"{step.name}: {loss}" for step in self.steps for loss in step.losses)


class Outcome(Struct, frozen=True):
    """What became of one operation, of ours or of those that had been going on."""

    kind: str
    name: str
    verb: str
    succeeded: bool
    message: str = ""
    """Why it did not, for people."""


class RecoveryReport(Struct, frozen=True):
    """What a host is to be made of, and what became of that."""

    node: str
    records: int
    """Of the log that the plan was made from."""
    plan: Plan
    executed: bool = False
    outcomes: tuple[Outcome, ...] = ()

    @property
    def is_well(self) -> bool:
        """Is all as it is to be, or, where nothing was done yet, can it be?"""
        if any(step.verdict == "cannot" for step in self.plan.steps) or self.plan.in_the_way:
            return False
        return all(outcome.succeeded for outcome in self.outcomes)


def plan(state: State, sight: HostSight, facts: Facts, now_us: int) -> Plan:
    """The plan for a host. `state` is not changed."""
    ahead = state.copy()
    steps = [*_volumes_going_on(state, sight)]
    sent: list[Recover] = []
    for command in _candidates(state, sight):
        command_id = f"planned-{len(sent)}"
        events = foreseen(ahead, facts, now_us, command, command_id)
        step = _step(ahead, sight, command, events)
        if step is not None:
            steps.append(step)
        if events:
            sent.append(command)
            go_on(ahead, facts, now_us, command, command_id, events)
    return Plan(tuple(steps), tuple(sent), tuple(_in_the_way(state, sight)))


def foreseen(
    ahead: State, facts: Facts, now_us: int, command: Command, command_id: str
) -> tuple[Event, ...]:
    """What a command would lead to; nothing when it would be refused."""
    decision = decide(ahead, Envelope(command_id, now_us, command, facts))
    return () if isinstance(decision, Rejected) else decision


def go_on(
    ahead: State,
    facts: Facts,
    now_us: int,
    command: Command,
    command_id: str,
    events: tuple[Event, ...],
) -> None:
    """Fold what a command would lead to, as if it were recorded."""
    kind, name, verb = address(command)
    record = Record(
        command_id=command_id,
        node=facts.node,
        kind=kind,
        name=name,
        verb=verb,
        at_us=now_us,
        events=events,
        operation_id=command_id,
    )
    evolve(ahead, ahead.seq + 1, record)


def references(state: State, name: str) -> tuple[str, ...]:
    """The images that may be needed to make a replica set's container again."""
    replica_set = state.replica_sets[name]
    wanted: dict[str, None] = {}
    for number in (replica_set.current, replica_set.previous, *replica_set.snapshots):
        revision = state.revisions.get((name, number or 0))
        if revision is None:
            continue
        kept = revision.snapshot if revision.snapshot_carry == "commit" else None
        for image in (revision.spec.image, revision.origin, revision.base_image, kept):
            if image:
                wanted[image] = None
    return tuple(wanted)


def _candidates(state: State, sight: HostSight) -> Iterator[Recover]:
    """What might have to be said; the rules refuse what is nothing new. Volumes come first."""
    for name in sorted(state.volumes):
        volume = state.live_volume(name)
        if volume is None or not _is_missing(volume, sight):
            continue
        if volume.operation is None or is_data_disk_made(state, volume):
            yield RecoverVolume(name, disk=name in sight.disks)
    # Those that debug copies are made of come before these, which may not be finished then.
    for _, name in sorted((not one.loans, one.name) for one in state.replica_sets.values()):
        replica_set = state.live(name)
        if replica_set is not None:
            yield _command(state, sight, replica_set)


def _is_missing(volume: Volume, sight: HostSight) -> bool:
    mounted_as = versioned(volume.name, volume.current)
    return volume.lost or volume.name not in sight.disks or mounted_as not in sight.volumes


def _command(state: State, sight: HostSight, replica_set: ReplicaSet) -> RecoverReplicaSet:
    name = replica_set.name
    owner = state.node.owner if state.node is not None else ""
    ours = SeenOwner(owner, name)
    numbers = (replica_set.current, replica_set.previous or 0)
    kept = (state.revisions[name, number].snapshot for number in replica_set.snapshots)
    return RecoverReplicaSet(
        name,
        containers=tuple(n for n in numbers if sight.containers.get(versioned(name, n)) == ours),
        kept=tuple(disk for disk in kept if disk is not None and disk in sight.kept),
        images=tuple(image for image in references(state, name) if image in sight.images),
    )


def _step(
    ahead: State, sight: HostSight, command: Recover, events: tuple[Event, ...]
) -> Step | None:
    if isinstance(command, RecoverVolume):
        return _volume_step(ahead, sight, events)
    replica_set = ahead.replica_sets[command.name]
    current = ahead.revisions[command.name, replica_set.current]
    name = versioned(current.name, current.number)
    operation = ahead.operations.get(replica_set.operation or "")
    begun = next((event for event in events if isinstance(event, RecoveryBegun)), None)
    if operation is not None and begun is None and is_copy_lost(replica_set, events):
        loss = f"its debug (operation {operation.id}) ends as failed"
        return Step("replica_set", name, "loss", "is not made", (loss,))
    losses = [*_kept_losses(events)]
    notes: list[str] = []
    what = "as it is"
    verdict: Verdict = "here"
    if begun is not None:
        what = AS[begun.phase]
        wanted = next((e.phase for e in events if isinstance(e, ContainerLost)), current.lost)
        losses += _disk_losses(current, begun, sight)
        losses += _stopped(ahead, current, begun, wanted)
        notes += _notes(current, begun, sight)
        verdict = "loss" if losses else "whole"
        if missing := [*_missing(current, begun, sight)]:
            what, verdict, losses = "cannot be made again", "cannot", [*losses, *missing]
    elif any(isinstance(event, ContainerLost) for event in events):
        what, verdict = "made again once what had failed is undone", "loss"
        losses.append("what was changed in its system disk is gone")
    elif current.container not in IN_USE and operation is None:
        if not losses:
            return None  # it had no container before, and nothing of it is lost
        what, verdict = "as it was, without a container", "loss"
    elif losses:
        verdict = "loss"
    notes += _about(operation, events)
    return Step("replica_set", name, verdict, what, tuple(losses), tuple(notes))


def _volumes_going_on(state: State, sight: HostSight) -> Iterator[Step]:
    """Volumes that are being given another size: that makes a disk anew where there is none."""
    for name, volume in sorted(state.volumes.items()):
        operation = state.operations.get(volume.operation or "")
        had_data = any(version.made for version in volume.versions) and not volume.deleting
        is_own = operation is not None and operation.kind == "volume"
        if operation is not None and is_own and had_data and name not in sight.disks:
            going_on = f"its {operation.verb} (operation {operation.id}) goes on"
            version = versioned(name, volume.current)
            yield Step("volume", version, "loss", "made again, empty", (DATA_GONE,), (going_on,))


def _volume_step(ahead: State, sight: HostSight, events: tuple[Event, ...]) -> Step | None:
    lost = next((event for event in events if isinstance(event, VolumeLost)), None)
    if lost is None:
        return None
    name = versioned(lost.name, lost.number)
    if not lost.empty:
        return Step("volume", name, "whole", "made again on its disk")
    users = sorted(ahead.volume_users.get(lost.name, ()))
    containers = (versioned(user, ahead.replica_sets[user].current) for user in users)
    notes = (
        f"{container} is here, and while it runs has the old one mounted: copy the data out first"
        for container in containers
        if container in sight.containers
    )
    return Step("volume", name, "loss", "made again, empty", (DATA_GONE,), tuple(notes))


def _kept_losses(events: tuple[Event, ...]) -> Iterator[str]:
    for event in events:
        if isinstance(event, SnapshotRemoved):
            what = f"its kept system disk {event.image} is not here"
            yield f"no going back to version {event.revision}: {what}"


def _disk_losses(current: Revision, begun: RecoveryBegun, sight: HostSight) -> Iterator[str]:
    """What its container had that the new one will not have."""
    never_ran = current.container in ("absent", "created") and not current.started_at
    if never_ran and begun.disk_from == current.disk_from:
        return  # nothing was changed in it
    if begun.disk_from is not None:
        kept = versioned(begun.name, begun.disk_from)
        yield f"its system disk begins as {kept} left it: what was changed since is gone"
        return
    image = current.spec.image
    yield f"its system disk begins anew from {image}: what was changed in it is gone"
    here = sight.images.get(image)
    if begun.image_id is None and here is not None and current.origin not in ("", here):
        yield f"image {image} is another here than the one it was made of ({current.origin})"


def _stopped(
    ahead: State, current: Revision, begun: RecoveryBegun, wanted: Phase | None
) -> Iterator[str]:
    if wanted not in (None, "stopped") and begun.phase == "stopped":
        short = gpu_shortage(ahead, current.name, current.spec.gpu_count)
        why = short if current.spec.gpu_count else "its host ports cannot be had"
        yield f"it was {wanted} and is stopped: {why}"


def _missing(current: Revision, begun: RecoveryBegun, sight: HostSight) -> Iterator[str]:
    """What its container cannot be made without."""
    image = current.spec.image
    by_name = begun.disk_from is None and begun.image_id is None
    why = sight.unfetchable.get(image) if by_name and image not in sight.images else None
    if why is not None:
        yield f"image {image} is not here and cannot be fetched: {why}"
    for bind in current.spec.binds:
        if (refused := sight.unmountable.get(bind.source)) is not None:
            yield refused


def _notes(current: Revision, begun: RecoveryBegun, sight: HostSight) -> Iterator[str]:
    image = current.spec.image
    by_name = begun.disk_from is None and begun.image_id is None
    if by_name and image not in sight.images and image not in sight.unfetchable:
        yield f"image {image} is fetched"
    if set(begun.gpus) != set(current.gpus):
        yield f"GPUs {', '.join(begun.gpus)} in place of {', '.join(current.gpus)}"
    before = {binding.container_port: binding.host_port for binding in current.ports}
    for binding in begun.ports:
        if (old := before.get(binding.container_port)) != binding.host_port:
            yield f"port {binding.container_port} at {binding.host_port} in place of {old}"


def _about(operation: Operation | None, events: tuple[Event, ...]) -> Iterator[str]:
    if operation is None:
        return
    ended = any(isinstance(event, OperationFailed) for event in events)
    if ended:
        yield f"its {operation.verb} (operation {operation.id}) ends as failed"
    elif acceptance(events) is None:
        yield f"its {operation.verb} (operation {operation.id}) goes on"


def _in_the_way(state: State, sight: HostSight) -> Iterator[str]:
    """Containers of ours that the log does not tell of now, and those with a name that is needed.

    A log that is older than its containers would make a second one of what runs already.
    """
    owner = state.node.owner if state.node is not None else ""
    expected = {
        versioned(one.name, number): one.name
        for one in state.replica_sets.values()
        for number in (one.current, one.previous)
        if number
    }
    for container, seen in sorted(sight.containers.items()):
        if seen.owner != owner:
            yield f"container {container} was made by somebody else, and has a name of ours"
        elif expected.get(container) != seen.name:
            yield f"container {container} is of this installation, and not in this log"
