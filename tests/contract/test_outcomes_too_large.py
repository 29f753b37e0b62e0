"""What came of an effect has no room in a record: its operation ends, and is undone."""

from dataclasses import replace

from events.codec import RECORD_BYTES_MAX, RecordTooLarge
from tests.kit.builders import IMAGE, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual


@virtual
async def test_an_image_whose_environment_is_too_large() -> None:
    host = SimulatedHost()
    image = host.world.images[IMAGE]
    host.world.images[IMAGE] = replace(image, env=(f"A={'x' * RECORD_BYTES_MAX}",))
    async with SimulatedService(host) as service:
        ended = await service.do(run("foo", 1))
        assert (ended.state, ended.reason) == ("failed", "too_large")
        assert host.world.containers == {}
        assert [unit.holder for unit in service.state.gpus.values()] == [None, None]


@virtual
async def test_a_version_that_grew_until_its_container_is_too_large() -> None:
    """By patches: a patch's record has little beside the version, and its container's has more."""
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo"))
        number, size, ended = 0, 64_000, None
        while size and (ended is None or ended.state == "succeeded"):
            number += 1
            try:
                ended = await service.do(patch("foo", env=(f"V{number}={'x' * size}",)))
            except RecordTooLarge:
                size //= 2
        assert ended is not None
        assert (ended.state, ended.reason) == ("failed", "too_large")
        current = service.state.replica_sets["foo"].current
        assert {c.name: c.status for c in host.world.containers.values()} == {
            f"foo-{current}": "running"
        }
