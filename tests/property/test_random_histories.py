"""Long histories by chance: too long to enumerate, shrunk by hypothesis when one fails.

Beside what `World` looks at after every record, the fold of the stored records must be the live
state: from the first record on, and from a copy taken at any point.
"""

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.codec import decode, encode
from events.gpu_health import GpuError, GpuReport, MissingGpu
from events.record import Record
from events.values import Carry
from projections.evolve import evolve
from projections.state import State
from service.domain.billing_commands import SetPrice
from service.domain.commands import (
    BindAt,
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    Facts,
    ObserveGpus,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    ReportGpuErrors,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    StopReplicaSet,
    UnpinRevision,
)
from service.domain.effects import PutBackDisk, StartContainer
from service.domain.observing_commands import RetryReplicaSet
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from tests.kit.builders import GIB, IMAGE, facts, gpu, mount, patch, remount, resize, run
from tests.kit.sightings import ELSEWHERE, access, ended, gone, running
from tests.kit.world import NEVER_FAIL, World

NAMES = st.sampled_from(["foo", "foo", "foo", "bar", "baz"])
DISKS = st.sampled_from(["foo", "disk", "other"])
MOUNTS = st.lists(
    st.sampled_from(["/data", "disk-1", "disk-2", "other-1", "foo-1"]), max_size=2, unique=True
).map(tuple)
COUNTS = st.integers(0, 3)
SIZES = st.integers(1, 4)
VERSIONS = st.integers(1, 5)


def _of_names(*commands: type[Any]) -> st.SearchStrategy[Command]:
    return st.one_of([st.builds(command, NAMES) for command in commands])


UUIDS = st.sampled_from([f"gpu-{index}" for index in range(4)])
BOOTS = st.sampled_from(["b1", "b1", "b2"])
REPORTS = st.builds(
    GpuReport,
    UUIDS,
    ecc_uncorrected=st.integers(0, 2),
    remap_pending=st.booleans(),
    pids=st.sampled_from([(), (), (7,)]),
)


def _observed(shown: set[int], reports: list[GpuReport], boot: str) -> ObserveGpus:
    """Some GPUs answer; of the others the driver says that they are lost, or do not answer."""
    missing = (MissingGpu(n, n % 2 == 0, "no answer") for n in range(4) if n not in shown)
    return ObserveGpus(tuple(map(gpu, sorted(shown))), tuple(reports), tuple(missing), boot)


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(run, NAMES, COUNTS, st.integers(0, 2), MOUNTS, st.sampled_from([None, None, GIB])),
    st.builds(patch, NAMES, st.none() | COUNTS),
    st.builds(patch, NAMES),
    st.builds(
        lambda name, old, new: remount(mount(old), mount(new), name),
        NAMES,
        st.sampled_from(["/data", "disk-1"]),
        st.sampled_from(["/other", "disk-1", "disk-2", "other-1"]),
    ),
    st.builds(lambda name, gib: patch(name, memory_bytes=gib * GIB), NAMES, st.integers(0, 2)),
    st.builds(lambda name, image: patch(name, image=image), NAMES, st.sampled_from([IMAGE, "b:1"])),
    st.builds(
        lambda name, env: patch(name, env=env),
        NAMES,
        st.sampled_from([("A=1",), ("A=2", "B=1"), ("A",)]),
    ),
    st.builds(
        lambda name, source: patch(name, binds=(BindAt(source, "/x"),)),
        NAMES,
        st.sampled_from(["/data", "disk-1", "disk-2", ""]),
    ),
    _of_names(StopReplicaSet, PauseReplicaSet, ContinueReplicaSet),
    _of_names(RestartReplicaSet, DeleteReplicaSet),
    st.builds(RollBackReplicaSet, NAMES, VERSIONS),
    st.builds(DebugReplicaSet, NAMES, NAMES, VERSIONS, st.integers(0, 1)),
    st.builds(PinRevision, NAMES, VERSIONS),
    st.builds(UnpinRevision, NAMES, VERSIONS),
    st.builds(ExpireSnapshots, NAMES, st.sampled_from(["", "", "1GB were free"])),
    st.builds(CommitReplicaSet, NAMES, st.just("saved:1")),
    st.builds(ExecuteInReplicaSet, NAMES, st.just(("true",))),
    st.builds(CreateVolume, DISKS, SIZES.map(lambda gib: gib * GIB)),
    st.builds(resize, DISKS, SIZES),
    st.builds(DeleteVolume, DISKS),
    st.builds(
        lambda name, most: run(name, 1, 1, on_exit="restart", max_retries=most),
        NAMES,
        st.integers(0, 2),
    ),
    st.builds(ended, NAMES),
    st.builds(lambda name: ended(name, 137, with_engine=True), NAMES),
    st.builds(lambda name: ended(name, ran_s=3600.0, started_at=ELSEWHERE), NAMES),
    st.builds(gone, NAMES),
    st.builds(lambda name, lost: access(name, lost=lost), NAMES, st.booleans()),
    st.builds(running, NAMES, st.sampled_from([ELSEWHERE, "once more"])),
    st.builds(RetryReplicaSet, NAMES, st.integers(0, 3)),
    st.builds(
        lambda name, most: run(name, 1, 1, on_gpu_lost="restart", max_retries=most),
        NAMES,
        st.integers(0, 2),
    ),
    st.sets(st.integers(0, 3)).map(lambda shown: ObserveGpus(tuple(map(gpu, sorted(shown))))),
    st.builds(_observed, st.sets(st.integers(0, 3)), st.lists(REPORTS, max_size=3), BOOTS),
    st.builds(
        lambda uuid, xid, boot: ReportGpuErrors((GpuError(uuid, xid),), boot),
        UUIDS,
        st.sampled_from([13, 48, 79]),
        BOOTS,
    ),
    st.builds(QuarantineGpu, UUIDS, st.just("by hand")),
    st.builds(RestoreGpu, UUIDS),
    st.builds(SetPrice, st.just("gpu"), st.sampled_from("12"), st.just("EUR"), SIZES),
    st.builds(RegisterWebhook, NAMES, st.just("https://x.example/"), st.just("key")),
    st.builds(RotateWebhook, NAMES, st.sampled_from(["key", "other"])),
    st.builds(DisableWebhook, NAMES, st.just("by hand")),
    st.builds(EnableWebhook, NAMES),
    st.builds(RemoveWebhook, NAMES),
)

HOSTS = st.builds(
    facts,
    ports=st.just(4),
    gpu_runtime=st.sampled_from(["nvidia", "cdi"]),
    volumes_grow_online=st.booleans(),
    volumes_shrink_online=st.booleans(),
    carry=st.sampled_from(get_args(Carry)),
    clones_share_blocks=st.booleans(),
    keep_revisions=st.integers(0, 2),
)
"""What decisions know of the host; it may be another one after a while."""

EFFECT = st.tuples(st.integers(0, 7), st.integers(0, 4))
"""Which of the due effects ends next, and whether it fails (0), or somebody meddles (1)."""

DRIVE = st.integers(1, 20)
"""So many due effects end well, in their order: histories come further than by single ones."""

STEPS = st.lists(st.one_of(COMMANDS, COMMANDS, EFFECT, DRIVE, DRIVE), min_size=20, max_size=120)


def play(
    steps: Sequence[Any], hosts: Sequence[Facts], copy_at: int, kind: type[World] = World
) -> tuple[World, State]:
    """The world (of a kind) after all steps, driven to rest, and a copy of its state on the way.

    The first half of the steps is taken on the first host, as it were, the others on the second;
    but volumes stay what they are, as the world holds what is due against what they can do.
    """
    world = kind(3, hosts[0])
    for command in (run("foo", 1, 1, data_disk_bytes=GIB, memory_bytes=GIB), patch("foo")):
        world.send(command)
        world.drive()
    copied = world.state.copy()
    for place, step in enumerate(steps):
        if place == copy_at:
            copied = world.state.copy()
        if place == len(steps) // 2:
            world.facts = replace(
                hosts[1],
                volumes_grow_online=hosts[0].volumes_grow_online,
                volumes_shrink_online=hosts[0].volumes_shrink_online,
            )
        if isinstance(step, int):
            for _ in range(step):
                if due := world.due():
                    world.succeed(due[0])
        elif not isinstance(step, tuple):
            world.send(step)
        elif due := world.due():
            effect = due[step[0] % len(due)]
            if step[1] == 0 and not isinstance(effect, NEVER_FAIL):
                world.fail(effect)
            elif step[1] == 1 and isinstance(effect, StartContainer) and world.has_ports(effect):
                world.refuse_port(effect)
            elif step[1] == 1 and isinstance(effect, PutBackDisk):
                world.find_gone(effect)
            else:
                world.succeed(effect)
    world.drive()
    return world, copied


def contents(state: State) -> dict[str, Any]:
    """All that a state consists of, but for what is being collected for the read store."""
    return {k: v for k, v in vars(state).items() if k not in ("touched", "evicted")}


def fold(state: State, records: Sequence[Record]) -> State:
    """The state after these records, each as it comes back from the ledger."""
    for record in records:
        evolve(state, state.seq + 1, decode(encode(record)))
    return state


@settings(
    max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, st.tuples(HOSTS, HOSTS), st.integers(0, 120))
def test_the_fold_of_the_stored_records_is_the_live_state(
    steps: Sequence[Any], hosts: Sequence[Facts], copy_at: int
) -> None:
    world, copied = play(steps, hosts, copy_at)
    live = contents(world.state)
    assert contents(fold(State(), world.records)) == live
    assert contents(fold(copied, world.records[copied.seq :])) == live


@settings(max_examples=200, deadline=None, database=None)
@given(STEPS, st.tuples(HOSTS, HOSTS))
def test_what_was_taken_can_all_be_given_back(
    steps: Sequence[Any], hosts: Sequence[Facts]
) -> None:
    """Whatever went before: when every set and volume is deleted, nothing is held by anybody."""
    world, _ = play(steps, hosts, 0)
    for name in list(world.state.replica_sets):
        world.send(DeleteReplicaSet(name))
    world.drive()
    for name in list(world.state.volumes):
        world.send(DeleteVolume(name))
    world.drive()
    state = world.state
    assert [unit.uuid for unit in state.gpus.values() if unit.holder or unit.revisions] == []
    assert state.ports == {}
    assert state.volume_users == {}
    assert [s.name for s in state.replica_sets.values() if s.current or s.snapshots] == []
    assert [r.number for r in state.revisions.values() if r.snapshot is not None] == []
    assert [v.name for v in state.volumes.values() if v.current and not v.deleted] == []
