"""What somebody else started beside the service is not taken for a start of the service's own."""

from service.domain.commands import ContinueReplicaSet, PauseReplicaSet
from tests.kit.builders import OWNER, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.ends import phase

RUN = run("foo", 1, 1, cmd=("sleep", "600"))

PROMPT_S = 0.5


@virtual
async def test_what_was_stopped_again_is_started_when_it_is_continued() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN, PauseReplicaSet("foo"))
        host.world.begin(host.world.containers["foo-1"])
        await host.clock.sleep(PROMPT_S)
        assert host.world.containers["foo-1"].status == "exited"
        await service.succeed(ContinueReplicaSet("foo"))
        assert host.world.containers["foo-1"].status == "running"
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("running", "running")


@virtual
async def test_an_end_after_a_start_that_nobody_saw_costs_one_retry() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(
            run("foo", 1, 1, cmd=("sleep", "600"), on_exit="restart", max_retries=1)
        )
        host.world.streams.clear()
        host.world.begin(host.world.containers["foo-1"])
        host.world.end("foo-1", 1)
        await host.clock.sleep(200)
        assert host.world.containers["foo-1"].status == "running"
        assert phase(service) == ("running", "running")


@virtual
async def test_what_ran_again_while_it_was_patched_runs_when_the_patch_fails() -> None:
    """Somebody starts foo-1 while it stands still for foo-2, which then cannot start."""
    host = SimulatedHost(system_disk="auto")

    def fault(verb: str, name: str) -> str | None:
        if (verb, name) == ("start_container", "foo-2"):
            host.world.begin(host.world.containers["foo-1"])
            return "refuse"
        return None

    engine = SimulatedEngine(host.world, owner=OWNER, faults=fault)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(RUN)
        assert (await service.do(patch("foo"))).state == "failed"
        await host.clock.sleep(PROMPT_S)
        assert host.world.containers["foo-1"].status == "running"
        assert phase(service) == ("running", "running")
