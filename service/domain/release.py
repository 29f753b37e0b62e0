"""What a revision holds, given back: only once its container was observed gone or stopped."""

from events.record import Event
from events.resources import GpusReleased, PortsReleased
from projections.state import State
from service.domain.placement import held_gpus, held_ports


def release(state: State, name: str, number: int) -> tuple[Event, ...]:
    """The events that end every lease of a revision."""
    events: list[Event] = []
    if gpus := held_gpus(state, name, number):
        events.append(GpusReleased(name, number, gpus))
    if ports := held_ports(state, name, number):
        events.append(PortsReleased(name, number, ports))
    return tuple(events)
