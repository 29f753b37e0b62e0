"""Histories by chance, replayed: decided as they were, and followed as the whole state says."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.operations import OperationSucceeded
from events.outcomes import ContainerRemoved, ContainerStarted, ContainerStopped
from events.record import Event, Record
from events.replica_sets import PhaseRequested
from events.resources import GpuOccupied, GpusLeased, GpusReleased, PortsLeased, PortsReleased
from events.values import PortBinding
from events.volumes import VolumeDeletionRequested, VolumeVersionDeclared
from projections.evolve import evolve
from projections.state import State
from service.domain.alterations import Alterations, AlterRecord
from service.domain.breach_watch import BreachWatch
from service.domain.commands import (
    Command,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    Facts,
    StopReplicaSet,
)
from service.domain.due_effects import DueEffects
from service.domain.effects import StartContainer, kind_of
from service.domain.invariants import check
from service.domain.placement_orders import Order
from service.domain.reconcile import reconcile
from service.domain.rejections import Rejected
from service.domain.replaying import Replay
from service.domain.tally import Tally, count
from service.domain.what_if import OtherHistory, answered
from tests.kit.builders import GIB, NODE, facts, patch, resize, run
from tests.kit.decided_log import BasisWorld
from tests.property.test_random_histories import HOSTS, STEPS, play

TWO_HOSTS = st.tuples(HOSTS, HOSTS)


def played(steps: Sequence[Any], hosts: Sequence[Facts]) -> BasisWorld:
    """A history, stored with everything that records bear."""
    world, _ = play(steps, hosts, 0, BasisWorld)
    assert isinstance(world, BasisWorld)
    return world


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, TWO_HOSTS)
def test_every_record_is_decided_as_it_is_stored(
    steps: Sequence[Any], hosts: Sequence[Facts]
) -> None:
    tally, due, watch = Tally(), DueEffects(), BreachWatch()
    replay = Replay(followers=(tally, due, watch))
    for seq, event in played(steps, hosts).events:
        step = replay.step(seq, event)
        assert step.verdict == "same", step
        assert tally.counts == count(replay.state)
        assert {effect.effect_id for effect in due.all()} == set(_due(replay.state))
        assert watch.breaches == ()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, TWO_HOSTS, st.data())
def test_what_a_record_breaks_is_seen_in_the_part_that_is_looked_at(
    steps: Sequence[Any], hosts: Sequence[Facts], data: st.DataObject
) -> None:
    """One record that no rule would make, somewhere in the history: any of those there are."""
    events = played(steps, hosts).events
    watch = BreachWatch()
    replay = Replay(followers=(watch,))
    for seq, event in events[: data.draw(st.integers(3, len(events)), label="until")]:
        replay.step(seq, event)
    see_what_breaks(replay.state, watch)


def test_volumes_and_those_who_use_them() -> None:
    """Sets stand still for a volume, a volume waits for its users, and a set for its data disk."""
    world = BasisWorld(2, facts(ports=2, volumes_grow_online=False))
    commands: list[Command] = [
        CreateVolume("disk", GIB),
        run("foo", 1, 1, ("disk-1",)),
        run("bar", 1, 1, ("disk-1",), data_disk_bytes=GIB),
        resize("disk", 2),
        patch("foo", gpu_count=1, memory_bytes=GIB),
        StopReplicaSet("bar"),
        run("baz", 0, 1),  # with the port that bar had
        DeleteReplicaSet("bar"),
        DeleteReplicaSet("baz"),
        run("qux", data_disk_bytes=GIB),
        DeleteVolume("bar"),
        DeleteReplicaSet("foo"),
        DeleteVolume("disk"),
    ]
    for command in commands:
        assert not isinstance(world.send(command), Rejected)
        world.drive(lambda effect: effect.name == "qux" and isinstance(effect, StartContainer))
    due, watch = DueEffects(), BreachWatch()
    replay = Replay(followers=(due, watch))
    for seq, event in world.events:
        assert replay.step(seq, event).verdict == "same"
        assert {effect.effect_id for effect in due.all()} == set(_due(replay.state)), seq
        see_what_breaks(replay.state, watch)


def see_what_breaks(state: State, watch: BreachWatch) -> None:
    """Every wrong event breaks, as the watch sees it, what it breaks of the whole state."""
    for wrong in _wrong(state):
        other, follower = state.copy(), deepcopy(watch)
        record = Record("by-hand", NODE, "node", NODE, "test", 0, (wrong,))
        evolve(other, other.seq + 1, record)
        follower.follow(other)
        assert set(follower.breaches) == set(check(other)), wrong


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, TWO_HOSTS, st.data())
def test_an_altered_history_is_as_sound_as_any(
    steps: Sequence[Any], hosts: Sequence[Facts], data: st.DataObject
) -> None:
    """A record less, and another placement: nothing is broken, and nothing waits for ever."""
    events = played(steps, hosts).events
    dropped = data.draw(st.integers(3, len(events)), label="dropped")
    order = data.draw(st.sampled_from(get_args(Order)), label="order")
    altered = Alterations(placement=order, records=(AlterRecord(dropped, drop=True),))
    history = OtherHistory(altered, answered(events, altered.shared))
    for seq, event in events:
        for _ in history.step(seq, event):
            pass
        assert check(history.here) == ()
    waiting = [o.id for o in history.here.operations.values() if o.state == "running"]
    assert waiting == []


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(STEPS, TWO_HOSTS)
def test_a_history_altered_to_what_it_was_is_the_same(
    steps: Sequence[Any], hosts: Sequence[Facts]
) -> None:
    events = played(steps, hosts).events
    same = Alterations(records=(AlterRecord(3, command={"name": "foo"}),))
    history = OtherHistory(same, answered(events, same.shared))
    assert [one for seq, event in events for one in history.step(seq, event)] == []
    here, there = vars(history.here), vars(history.there)
    assert here is not there
    assert {k: v for k, v in here.items() if k != "evicted"} == {
        k: v for k, v in there.items() if k != "evicted"
    }


def _due(state: State) -> Iterator[str]:
    names = [("replica_set", name) for name in state.replica_sets]
    names += [("volume", name) for name in state.volumes]
    names += [("orphan", one.id) for one in (state.node.expiring if state.node else ())]
    for kind, name in names:
        for effect in reconcile(state, kind, name):
            assert (kind_of(effect), effect.name) == (kind, name)
            yield effect.effect_id


def _wrong(state: State) -> Iterator[Event]:
    """Events that can be folded here; some are wrong, and some only odd."""
    for uuid in state.gpus:
        yield GpuOccupied(uuid, (7,))
    for found in state.replica_sets.values():
        if not found.current:
            continue
        name, number = found.name, found.current
        revision = state.revisions[name, number]
        yield PhaseRequested(name, "paused" if found.phase == "stopped" else "stopped")
        yield ContainerStarted(name, number, "never")
        yield ContainerStopped(name, number, 0)
        yield ContainerRemoved(name, number)
        for uuid, gpu in state.gpus.items():
            if number in gpu.revisions and gpu.holder == name:
                yield GpusReleased(name, number, (uuid,))
            yield GpusLeased(name, number, (uuid,))
        for binding in revision.ports:
            if binding.host_port in state.ports:
                yield PortsReleased(name, number, (binding.host_port,))
        for port in state.ports:
            yield PortsLeased(name, number, (replace(_BINDING, host_port=port),))
    for volume in state.volumes.values():
        if volume.current and not volume.deleted:
            yield VolumeVersionDeclared(volume.name, volume.newest + 1, 7, "resize", volume.current)
            yield VolumeDeletionRequested(volume.name)
    for operation in state.operations.values():
        if operation.state == "running":
            yield OperationSucceeded(operation.id)


_BINDING = PortBinding("22/tcp", 0)
