"""Debug copies in the whole service: the files of then, and what waits goes on afterwards."""

from typing import Any

import pytest

from events.labels import LABEL_DEBUG_OF
from service.application.intake import Caller
from service.domain.commands import (
    CommitReplicaSet,
    DebugReplicaSet,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    RestartReplicaSet,
)
from service.errors import EngineRefused
from service.ports import ImageInfo
from tests.kit.builders import OWNER, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

DEBUG = DebugReplicaSet("bug", "foo", 1)


def write(text: str, name: str = "foo") -> ExecuteInReplicaSet:
    return ExecuteInReplicaSet(name, ("sh", "-c", f"echo {text} > /{text}"))


def files(host: SimulatedHost, container: str) -> set[str]:
    return set(host.world.containers[container].files)


SLOW_S = 60


class SlowEngine(SimulatedEngine):
    """Its commits take a while, and its starts when they are to."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(host.world, owner=OWNER)
        self.paused: list[bool] = []
        """Whether each commit made its container stand still."""
        self.starts_slowly = False
        self.refuses = False
        """They fail in the end, and leave their image."""
        self._clock = host.clock

    async def commit_container(self, *arguments: Any, pause: bool, **options: Any) -> ImageInfo:
        """As the port says."""
        self.paused.append(pause)
        made = await super().commit_container(*arguments, pause=pause, **options)
        await self._clock.sleep(SLOW_S)
        if self.refuses:
            raise EngineRefused("no space left on device", "no_space")
        return made


    async def start_container(self, name: str) -> str:
        """As the port says."""
        if self.starts_slowly:
            await self._clock.sleep(SLOW_S)
        return await super().start_container(name)


@virtual
@pytest.mark.parametrize("system_disk", ["auto", "commit"])
async def test_it_has_the_files_of_then(system_disk: Any) -> None:
    host = SimulatedHost(system_disk=system_disk)
    async with SimulatedService(host) as service:
        for command in (run(), write("first"), patch(), write("second"), DEBUG):
            await service.succeed(command)
        assert files(host, "bug-1") == {"/first"}
        await service.succeed(write("mine", "bug"))
        await service.succeed(RestartReplicaSet("bug"))
        assert files(host, "bug-2") == {"/first", "/mine"}
        assert files(host, "foo-2") == {"/first", "/second"}
        await service.succeed(DeleteReplicaSet("foo"))
        await service.succeed(DeleteReplicaSet("bug"))
        assert host.disks.kept == {}
        assert not [name for name in host.world.images if name.startswith("gpuledger/")]


@virtual
async def test_what_is_executed_meanwhile_is_executed_afterwards() -> None:
    host = SimulatedHost()
    engine = SlowEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run())
        await service.succeed(write("before"))
        copying = await service.submit(DEBUG)
        await host.clock.sleep(1)
        begun_s = host.clock.monotonic_s()
        await service.succeed(write("meanwhile"))
        assert host.clock.monotonic_s() - begun_s > SLOW_S / 2
        await service.ended(copying)
    assert engine.paused == [True]
    assert files(host, "bug-1") == {"/before"}
    assert files(host, "foo-1") == {"/before", "/meanwhile"}


@virtual
async def test_what_is_executed_meanwhile_is_executed_also_when_the_copy_fails() -> None:
    host = SimulatedHost()
    engine = SlowEngine(host)
    engine.refuses = True
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run())
        copying = await service.submit(DEBUG)
        await host.clock.sleep(1)
        await service.succeed(write("meanwhile"))
        assert (await service.ended(copying)).state == "failed"
    assert files(host, "foo-1") == {"/meanwhile"}
    assert not [name for name in host.world.images if name.startswith("gpuledger/")]


@virtual
async def test_what_is_just_being_started_again_is_copied_once_it_runs() -> None:
    host = SimulatedHost()
    engine = SlowEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run(on_exit="restart"))
        engine.starts_slowly = True
        host.world.end("foo-1", 1)
        await host.clock.sleep(SLOW_S / 2)
        copying = await service.submit(DEBUG)
        await host.clock.sleep(1)
        assert host.world.containers["foo-1"].status == "exited"
        assert (await service.ended(copying)).state == "succeeded"
    assert engine.paused == [True]


@virtual
async def test_it_is_charged_to_who_asked_for_it_also_when_somebody_else_restarts_it() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        for tenant, command in (("lab", run()), ("ops", DEBUG), ("", RestartReplicaSet("bug"))):
            caller = Caller("somebody", tenant)
            await service.ended(await service.intake.submit(command, {}, caller))
        sets = service.state.replica_sets
        assert {name: one.tenant for name, one in sets.items()} == {"foo": "lab", "bug": "ops"}


@virtual
async def test_an_image_of_a_copy_does_not_say_that_it_is_one() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        for command in (run(), patch(), DEBUG):
            await service.succeed(command)
        assert host.world.containers["bug-1"].labels[LABEL_DEBUG_OF] == "foo@1"
        for name in ("foo", "bug"):
            await service.succeed(CommitReplicaSet(name, f"saved:{name}"))
        assert host.world.images["saved:bug"].labels[LABEL_DEBUG_OF] == ""
        assert LABEL_DEBUG_OF not in host.world.images["saved:foo"].labels
