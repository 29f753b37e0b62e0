"""Containers that somebody renamed: neither lost with their GPUs, nor taken for others."""

from service.application.observer import LOOK_EVERY_S
from service.domain.commands import DeleteReplicaSet, PauseReplicaSet, StopReplicaSet
from tests.kit.builders import OWNER, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.ends import phase

RUN = run("foo", 1, 1, cmd=("sleep", "600"))


@virtual
async def test_one_that_was_renamed_is_stopped_before_its_gpus_are_given_back() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.world.rename(host.world.containers["foo-1"], "mine")
        await service.succeed(StopReplicaSet("foo"))
        assert host.world.containers["mine"].status == "exited"
        assert [unit.holder for unit in service.state.gpus.values()] == [None, None]


@virtual
async def test_one_that_was_renamed_is_removed_and_who_has_its_name_is_not() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN, run("bar"))
        host.world.rename(host.world.containers["foo-1"], "mine")
        host.world.rename(host.world.containers["bar-1"], "foo-1")
        await service.succeed(DeleteReplicaSet("foo"))
        assert set(host.world.containers) == {"foo-1"}
        await service.succeed(DeleteReplicaSet("bar"))
        assert host.world.containers == {}


@virtual
async def test_one_that_is_gone_is_not_who_has_its_name() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN, run("bar"), PauseReplicaSet("foo"))
        host.world.streams.clear()
        host.world.remove("foo-1")
        host.world.rename(host.world.containers["bar-1"], "foo-1")
        await service.succeed(DeleteReplicaSet("foo"))
        assert host.world.containers["foo-1"].status == "running"


@virtual
async def test_a_failed_creation_removes_nobody_who_has_the_name() -> None:
    """Another replica set's container has it, or the own one that was to be superseded."""
    for name in ("bar-1", "foo-1"):
        host = SimulatedHost(system_disk="auto")  # the name is taken before anything is stopped
        async with SimulatedService(host) as service:
            await service.succeed(run("foo"), run("bar"))
            host.world.rename(host.world.containers[name], "foo-2")
            ended = await service.do(patch("foo"))
            assert (ended.state, ended.reason) == ("failed", "name_taken")
            assert host.world.containers["foo-2"].status == "running"


@virtual
async def test_a_creation_whose_reply_was_lost_is_undone() -> None:
    host = SimulatedHost()

    def fault(verb: str, name: str) -> str | None:
        if (verb, name) == ("create_container", "foo-2"):
            return "after" if name not in host.world.containers else "refuse"
        return None

    engine = SimulatedEngine(host.world, owner=OWNER, faults=fault)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("foo"))
        assert (await service.do(patch("foo"))).state == "failed"
        assert set(host.world.containers) == {"foo-1"}


@virtual
async def test_one_that_is_gone_is_seen_to_be_although_another_has_its_name() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN, run("bar"))
        host.world.remove("foo-1")
        host.world.rename(host.world.containers["bar-1"], "foo-1")
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert phase(service) == ("stopped", "removed")
        assert phase(service, "bar") == ("running", "running")
