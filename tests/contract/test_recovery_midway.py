"""A host is lost while a disk is copied, a data disk is made, or it is recovered itself."""

import asyncio

import pytest

from service.domain.commands import DebugReplicaSet, DeleteReplicaSet
from tests.contract.test_recovery import interrupted, made, told
from tests.kit.builders import GIB, OWNER, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import run_virtually
from tests.simulation.lost_hosts import (
    WRITTEN,
    RecoveringService,
    check_recovered,
    furnished,
    lose,
    recovered,
)


@pytest.mark.parametrize(
    ("system_disk", "version", "verb"),
    [
        ("auto", 1, "create_container"),
        ("auto", 1, "start_container"),
        ("auto", 2, "commit_container"),
        ("commit", 1, "tag_image"),
        ("commit", 2, "commit_container"),
        ("commit", 2, "start_container"),
    ],
)
def test_a_debug_copy_is_not_made_of_what_was_made_anew(
    system_disk: str, version: int, verb: str
) -> None:
    async def play() -> None:
        host = made(system_disk=system_disk)
        await furnished(host, (run("foo", 0, 1), WRITTEN, patch("foo")))
        await interrupted(host, DebugReplicaSet("bug", "foo", version), verb)
        lose(host)
        for image in [image for image in host.world.images if "snapshot" in image]:
            del host.world.images[image]
        plan, outcomes = await recovered(host)
        steps = {step.name: step.what for step in plan.steps}
        assert told(outcomes) == {"debug bug": False, "recover foo": True}
        if verb != "create_container":  # it cannot be seen beforehand what there is to begin with
            assert steps["bug-1"] == "is not made"
        assert set(host.world.containers) == {"foo-2"}
        await check_recovered(host)
        async with SimulatedService(host) as service:
            await service.succeed(DeleteReplicaSet("foo"))

    run_virtually(play())


def test_a_data_disk_is_made_again_before_its_container_is() -> None:
    async def play() -> None:
        host = made()
        await furnished(host, ())
        await interrupted(host, run("new", data_disk_bytes=GIB), "create_container")
        lose(host)
        there: list[set[str]] = []

        def note(verb: str, name: str) -> None:
            if verb == "create_container":
                there.append(set(host.world.volumes))

        engine = SimulatedEngine(host.world, owner=OWNER, faults=note)
        _, outcomes = await recovered(host, engine=engine)
        assert told(outcomes) == {"run new": True}
        assert there == [{"new-1"}]
        await check_recovered(host)

    run_virtually(play())


def test_a_host_that_is_lost_while_it_is_recovered() -> None:
    async def play() -> None:
        host = made()
        await furnished(host, (run("foo", 1, 1), WRITTEN, patch("foo")))
        lose(host)
        await killed_at_its_start(host)
        lose(host)
        _, outcomes = await recovered(host)
        assert told(outcomes) == {"recover foo": True}
        assert host.world.containers["foo-2"].status == "running"
        await check_recovered(host)

    run_virtually(play())


async def killed_at_its_start(host: SimulatedHost) -> None:
    """A recovery that ends when the container has been made, and is to be started."""
    reached = asyncio.Event()

    def fault(verb: str, name: str) -> str | None:
        if verb == "start_container":
            reached.set()
        return "before" if reached.is_set() else None

    engine = SimulatedEngine(host.world, owner=OWNER, faults=fault)
    async with RecoveringService(host, engine=engine) as service:
        recovering = asyncio.create_task(service.recover())
        await reached.wait()
        recovering.cancel()
        await asyncio.gather(recovering, return_exceptions=True)
