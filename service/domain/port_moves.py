"""A leased host port that another process has: the revision gets another one."""

import re

from events.observations import PortRefused, PortsMoved
from events.record import Event
from events.resources import PortsLeased, PortsReleased
from events.values import PortBinding
from projections.state import Revision, State
from service.domain.commands import Envelope
from service.domain.effects import StartContainer
from service.domain.placement import place_ports

REST_US = 600 * 1_000_000
"""So long a port that another process has is not lent."""

MOVES_MAX = 8
"""So often a revision gets other ports; then whatever takes them is not by chance."""

WORDS_MAX = 512
"""So many characters of Docker's go into the record, once a port."""

_PORT = re.compile(r":(\d{1,5})\b")


def move_ports(
    state: State, envelope: Envelope, effect: StartContainer, message: str
) -> tuple[Event, ...]:
    """The events that give a container which never ran other host ports; none when there are not.

    Docker tells only at the start that a port is taken, and takes ports only at the creation: the
    container is made anew.
    """
    revision = state.revisions[effect.name, effect.number]
    if revision.container != "created" or revision.attempt >= MOVES_MAX:
        return ()
    refused = _named(revision, message) or revision.ports
    taken = {binding.host_port for binding in refused}
    now_us, facts = envelope.issued_at_us, envelope.facts
    placed = place_ports(
        state,
        effect.name,
        [binding.container_port for binding in revision.ports],
        {b.container_port: b.host_port for b in revision.ports if b not in refused},
        facts.port_first,
        facts.port_last,
        resting=resting_ports(state, now_us),
    )
    if placed is None or not taken:
        return ()
    return (
        *_rest(refused, envelope, effect, message),
        PortsReleased(effect.name, effect.number, tuple(sorted(taken))),
        PortsMoved(effect.name, effect.number, placed),
        PortsLeased(
            effect.name, effect.number, tuple(b for b in placed if b not in revision.ports)
        ),
    )


def refused_ports(
    state: State, envelope: Envelope, effect: StartContainer, message: str
) -> tuple[Event, ...]:
    """For a container that cannot be made anew: its next revision is not to get these ports."""
    named = _named(state.revisions[effect.name, effect.number], message)
    return _rest(named, envelope, effect, message)


def _named(revision: Revision, message: str) -> tuple[PortBinding, ...]:
    """Those of its ports that Docker's words name."""
    numbers = {int(port) for port in _PORT.findall(message)}
    return tuple(binding for binding in revision.ports if binding.host_port in numbers)


def _rest(
    refused: tuple[PortBinding, ...], envelope: Envelope, effect: StartContainer, message: str
) -> tuple[Event, ...]:
    until_us, words = envelope.issued_at_us + REST_US, message[:WORDS_MAX]
    return tuple(
        PortRefused(binding.host_port, effect.name, effect.number, until_us, words)
        for binding in refused
    )


def resting_ports(state: State, now_us: int) -> frozenset[int]:
    """The host ports that are not lent now, as another process was found to have them."""
    resting = state.node.resting if state.node is not None else ()
    return frozenset(port.host_port for port in resting if port.until_us > now_us)
