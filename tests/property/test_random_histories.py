"""Long histories by chance: too long to enumerate, shrunk by hypothesis when one fails.

Beside what `World` looks at after every record, the fold of the stored records must be the live
state: from the first record on, and from a copy taken at any point.
"""

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.codec import decode, encode
from events.record import Record
from events.values import Carry
from projections.evolve import evolve
from projections.state import State
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ObserveGpus,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from tests.kit.builders import GIB, facts, gpu, mount, patch, remount, resize, run
from tests.kit.world import NEVER_FAIL, World

NAMES = st.sampled_from(["foo", "bar", "baz"])
DISKS = st.sampled_from(["foo", "disk", "other"])
MOUNTS = st.lists(
    st.sampled_from(["/data", "disk-1", "disk-2", "other-1", "foo-1"]), max_size=2, unique=True
).map(tuple)
COUNTS = st.integers(0, 3)
SIZES = st.integers(1, 4)


def _of_names(*commands: type[Any]) -> st.SearchStrategy[Command]:
    return st.one_of([st.builds(command, NAMES) for command in commands])


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(run, NAMES, COUNTS, st.integers(0, 2), MOUNTS, st.sampled_from([None, None, GIB])),
    st.builds(patch, NAMES, st.none() | COUNTS),
    st.builds(
        lambda name, old, new: remount(mount(old), mount(new), name),
        NAMES,
        st.sampled_from(["/data", "disk-1"]),
        st.sampled_from(["/other", "disk-1", "disk-2", "other-1"]),
    ),
    _of_names(StopReplicaSet, PauseReplicaSet, ContinueReplicaSet),
    _of_names(RestartReplicaSet, DeleteReplicaSet),
    st.builds(RollBackReplicaSet, NAMES, st.integers(1, 4)),
    st.builds(CommitReplicaSet, NAMES, st.just("saved:1")),
    st.builds(ExecuteInReplicaSet, NAMES, st.just(("true",))),
    st.builds(CreateVolume, DISKS, SIZES.map(lambda gib: gib * GIB)),
    st.builds(resize, DISKS, SIZES),
    st.builds(DeleteVolume, DISKS),
    st.sets(st.integers(0, 3)).map(lambda shown: ObserveGpus(tuple(map(gpu, sorted(shown))))),
)

CARRIES = st.sampled_from(get_args(Carry))

EFFECT = st.tuples(st.integers(0, 7), st.integers(0, 3))
"""Which of the due effects ends next, and whether it fails (one time in four)."""

STEPS = st.lists(st.one_of(COMMANDS, EFFECT, EFFECT, EFFECT), min_size=10, max_size=120)


def play(
    steps: Sequence[Any], grows_online: bool, carry: Carry, copy_at: int
) -> tuple[World, State]:
    """The world after all steps, driven to rest, and a copy of its state on the way."""
    world = World(3, facts(4, volumes_grow_online=grows_online, carry=carry))
    copied = world.state.copy()
    for place, step in enumerate(steps):
        if place == copy_at:
            copied = world.state.copy()
        if not isinstance(step, tuple):
            world.send(step)
            continue
        due = world.due()
        if due:
            effect = due[step[0] % len(due)]
            if step[1] == 0 and not isinstance(effect, NEVER_FAIL):
                world.fail(effect)
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
@given(STEPS, st.booleans(), CARRIES, st.integers(0, 120))
def test_the_fold_of_the_stored_records_is_the_live_state(
    steps: Sequence[Any], grows_online: bool, carry: Carry, copy_at: int
) -> None:
    world, copied = play(steps, grows_online, carry, copy_at)
    live = contents(world.state)
    assert contents(fold(State(), world.records)) == live
    assert contents(fold(copied, world.records[copied.seq :])) == live


@settings(max_examples=200, deadline=None, database=None)
@given(STEPS, st.booleans(), CARRIES)
def test_what_was_taken_can_all_be_given_back(
    steps: Sequence[Any], grows_online: bool, carry: Carry
) -> None:
    """Whatever went before: when every set and volume is deleted, nothing is held by anybody."""
    world, _ = play(steps, grows_online, carry, 0)
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
    assert [v.name for v in state.volumes.values() if v.current and not v.deleted] == []
