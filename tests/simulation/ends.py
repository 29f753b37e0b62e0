"""What the ledger and the fold say of containers that ended, for tests on the real parts."""

from events.observations import ContainerExited
from events.record import Event
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.checks import records_of


async def told(host: SimulatedHost, *kinds: type[Event]) -> list[Event]:
    """The events of these kinds in the ledger."""
    events = [event for record in await records_of(host.ledger) for event in record.events]
    return [event for event in events if isinstance(event, kinds)]


async def exits(host: SimulatedHost) -> list[tuple[int, bool]]:
    """Exit codes that were seen, and whether the engine had ended as well."""
    return [
        (event.exit_code, event.with_engine)
        for event in await told(host, ContainerExited)
        if isinstance(event, ContainerExited)
    ]


def phase(service: SimulatedService, name: str = "foo") -> tuple[str, str]:
    """What it is to be, and what its container was last seen to be."""
    replica_set = service.state.replica_sets[name]
    return replica_set.phase, service.state.revisions[name, replica_set.current].container
