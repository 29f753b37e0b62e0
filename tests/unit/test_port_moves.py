"""A leased host port that another process of the host has."""

import pytest

from events.observations import PortRefused, PortsMoved, RetryBegun
from events.outcomes import ContainerRemoved, ContainerStarted, EffectFailed
from events.resources import PortsLeased, PortsReleased
from events.values import PortBinding
from service.domain.commands import (
    ContinueReplicaSet,
    DeleteReplicaSet,
    Failed,
    PauseReplicaSet,
    RestartReplicaSet,
)
from service.domain.effects import CreateContainer, FillDisk, StartContainer
from service.domain.observing_commands import RetryReplicaSet
from service.domain.port_moves import MOVES_MAX, REST_US, WORDS_MAX
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import facts, patch, run
from tests.kit.gwt import at, given, unfinished
from tests.kit.sightings import ended
from tests.kit.world import World

WORDS = (
    "driver failed programming external connectivity on endpoint foo-1: Error starting userland"
    " proxy: listen tcp4 0.0.0.0:{}: bind: address already in use"
)


def refuse(world: World, port: int) -> tuple[object, ...]:
    """The start that is due is refused, in Docker's words; what is decided on that."""
    (effect,) = world.due()
    assert isinstance(effect, StartContainer)
    decision = world.report(effect, Failed("port_taken", WORDS.format(port)))
    assert not isinstance(decision, Rejected)
    return decision


def starting(ports: int = 1, host_ports: int = 4) -> World:
    """A run whose container is there and is to be started."""
    return given(unfinished(run("foo", ports=ports), 2), on=facts(host_ports)).world


def test_another_port_is_leased_and_the_container_made_anew() -> None:
    world = starting()
    assert refuse(world, 40000) == (
        PortRefused(40000, "foo", 1, REST_US, WORDS.format(40000)),
        PortsReleased("foo", 1, (40000,)),
        PortsMoved("foo", 1, (PortBinding("22/tcp", 40001),)),
        PortsLeased("foo", 1, (PortBinding("22/tcp", 40001),)),
    )
    assert list(world.state.ports) == [40001]
    ids = []
    while world.due():
        effect = world.due()[0]
        ids.append(effect.effect_id.partition("/")[2])
        if isinstance(effect, CreateContainer):
            assert effect.config["HostConfig"]["PortBindings"] == {
                "22/tcp": [{"HostIp": "", "HostPort": "40001"}]
            }
        world.succeed(effect)
    assert ids == ["remove-foo-1", "create-foo-1-1", "start-foo-1-1", "settle"]
    assert world.state.revisions["foo", 1].container == "running"


def test_only_the_port_that_is_named_moves() -> None:
    world = starting(ports=3, host_ports=8)
    refuse(world, 40001)
    hosts = [binding.host_port for binding in world.state.revisions["foo", 1].ports]
    assert hosts == [40000, 40003, 40002]
    assert sorted(world.state.ports) == [40000, 40002, 40003]


def test_words_that_name_none_move_them_all() -> None:
    world = starting(ports=2)
    (effect,) = world.due()
    world.report(effect, Failed("port_taken", "some port is taken"))
    hosts = [binding.host_port for binding in world.state.revisions["foo", 1].ports]
    assert hosts == [40002, 40003]


def test_long_words_are_cut() -> None:
    world = starting()
    (effect,) = world.due()
    decision = world.report(effect, Failed("port_taken", ":40000 " + "x" * 5_000))
    assert not isinstance(decision, Rejected)
    assert isinstance(decision[0], PortRefused)
    assert len(decision[0].message) == WORDS_MAX


def test_the_port_rests_and_is_lent_again_afterwards() -> None:
    world = starting(host_ports=2)
    refuse(world, 40000)
    world.drive()
    again = run("bar", ports=1)
    decision = world.send(again)
    assert isinstance(decision, Rejected)
    assert decision.reason == Reason.PORTS_EXHAUSTED
    at(REST_US)(world)
    assert not isinstance(world.send(again), Rejected)
    assert sorted(world.state.ports) == [40000, 40001]


def test_one_that_rests_is_not_moved_to() -> None:
    world = starting(host_ports=2)
    refuse(world, 40000)
    world.succeed(world.due()[0])
    world.succeed(world.due()[0])
    assert [type(event) for event in refuse(world, 40001)] == [PortRefused, EffectFailed]


def test_what_has_rested_is_forgotten_with_the_next() -> None:
    world = starting(host_ports=4)
    refuse(world, 40000)
    world.drive()
    at(REST_US)(world)
    world.send(run("bar", ports=1))
    world.succeed(world.due()[0])
    world.succeed(world.due()[0])
    refuse(world, 40002)
    assert world.state.node is not None
    assert [port.host_port for port in world.state.node.resting] == [40002]


def test_a_patch_whose_old_version_had_the_port_gets_another() -> None:
    """Between the stop of the one and the start of the other somebody took it."""
    on = facts(carry="upper")
    world = given(run("foo", ports=1), on=on).world
    world.send(patch())
    done = []
    while world.due():
        effect = world.due()[0]
        done.append(type(effect))
        if isinstance(effect, StartContainer) and effect.effect_id.endswith("foo-2"):
            refuse(world, 40000)
        else:
            world.succeed(effect)
    # The disk is filled anew with the new container.
    assert done.count(FillDisk) == 2
    assert [b.host_port for b in world.state.revisions["foo", 2].ports] == [40001]
    assert list(world.state.ports) == [40001]


def test_the_caller_is_told_when_no_port_is_left() -> None:
    world = starting(host_ports=1)
    decision = refuse(world, 40000)
    assert [type(event) for event in decision] == [PortRefused, EffectFailed]
    world.drive()
    (operation,) = world.state.operations.values()
    assert (operation.state, operation.reason) == ("failed", "port_taken")
    assert world.state.ports == {}


def test_after_so_many_moves_it_is_not_by_chance() -> None:
    world = starting(host_ports=20)
    for moves in range(MOVES_MAX):
        refuse(world, 40000 + moves)
        world.succeed(world.due()[0])
        world.succeed(world.due()[0])
    decision = refuse(world, 40000 + MOVES_MAX)
    assert [type(event) for event in decision] == [PortRefused, EffectFailed]
    world.drive()
    assert world.state.live("foo") is None


def test_one_that_ran_before_keeps_its_port_until_it_is_made_anew() -> None:
    world = given(run("foo", ports=1), PauseReplicaSet("foo")).world
    world.send(ContinueReplicaSet("foo"))
    decision = refuse(world, 40000)
    assert [type(event) for event in decision[:2]] == [PortRefused, EffectFailed]
    world.drive()
    assert world.state.replica_sets["foo"].phase == "paused"
    assert list(world.state.ports) == [40000]
    world.send(RestartReplicaSet("foo"))
    world.drive()
    assert list(world.state.ports) == [40001]


def test_a_retry_that_cannot_have_its_port_is_tried_again() -> None:
    keeps_on = run("foo", ports=1, on_exit="restart")
    world = given(keeps_on, ended(), unfinished(RetryReplicaSet("foo", 1))).world
    decision = refuse(world, 40000)
    names = [type(event).__name__ for event in decision]
    assert names == ["PortRefused", "EffectFailed", "RetryScheduled"]


def test_the_retry_after_that_carries_it_to_a_container_with_another_port() -> None:
    world = refused_a_retry(host_ports=4)
    decision = world.send(RetryReplicaSet("foo", 2))
    assert not isinstance(decision, Rejected)
    names = [type(event).__name__ for event in decision]
    assert names == ["OperationAccepted", "RevisionDeclared", "PortsLeased"]
    world.drive()
    revision = world.state.revisions["foo", 2]
    assert (revision.container, revision.disk_from) == ("running", 1)
    assert list(world.state.ports) == [40001]
    assert world.state.replica_sets["foo"].retry == 0


def test_when_no_other_port_is_left_it_is_tried_on_the_one_it_has() -> None:
    world = refused_a_retry(host_ports=1)
    assert world.send(RetryReplicaSet("foo", 2)) == (RetryBegun("foo", 1, 2),)


def test_when_the_port_has_rested_it_is_tried_on_the_one_it_has() -> None:
    world = refused_a_retry(host_ports=4)
    at(REST_US)(world)
    assert world.send(RetryReplicaSet("foo", 2)) == (RetryBegun("foo", 1, 2),)


def refused_a_retry(host_ports: int) -> World:
    """One that ran, ended, and could not be started again on its port 40000."""
    keeps_on = run("foo", ports=1, on_exit="restart")
    history = (keeps_on, ended(), unfinished(RetryReplicaSet("foo", 1)))
    world = given(*history, on=facts(host_ports)).world
    refuse(world, 40000)
    return world


def test_it_can_be_undone_before_it_is_made_anew() -> None:
    world = starting()
    refuse(world, 40000)
    world.drive(lambda effect: isinstance(effect, CreateContainer))
    assert world.state.live("foo") is None
    assert world.state.ports == {}
    removed = [e for r in world.records for e in r.events if isinstance(e, ContainerRemoved)]
    assert len(removed) == 2


@pytest.mark.parametrize("reason", ["refused", "device_unavailable"])
def test_other_refusals_move_nothing(reason: str) -> None:
    world = starting()
    (effect,) = world.due()
    decision = world.report(effect, Failed(reason, WORDS.format(40000)))
    assert not isinstance(decision, Rejected)
    assert isinstance(decision[0], EffectFailed)


def test_it_can_be_deleted_afterwards() -> None:
    world = starting()
    refuse(world, 40000)
    world.drive()
    world.send(DeleteReplicaSet("foo"))
    world.drive()
    assert world.state.ports == {}
    started = [e for r in world.records for e in r.events if isinstance(e, ContainerStarted)]
    assert len(started) == 1
