"""Random commands by several clients, on the real parts, while everything goes wrong.

Lost replies, refusals, an engine and a ledger that are away, GPUs that come and go, and crashes
at any moment, after which the service starts again on what is left. One seed is one history;
`--seed N` plays it again.
"""

import logging

import pytest

from tests.kit.virtual_time import run_virtually
from tests.simulation.checks import (
    check_at_rest,
    check_disks,
    check_done_once,
    check_retention,
    check_told,
    check_world,
    records_of,
)
from tests.simulation.town import Simulation

LIMIT_S = 3 * 3600.0


async def simulate(seed: int) -> Simulation:
    """One history, looked at from all sides when it has come to rest."""
    simulation = Simulation(seed)
    host = simulation.host
    service = await simulation.run()
    records = await records_of(host.ledger)
    await check_at_rest(service)
    check_retention(service)
    await check_world(service.state, host)
    check_told(simulation.told, records)
    check_done_once(records, simulation.seen)
    check_disks(records, host)
    again = await simulation.restart()
    assert await records_of(host.ledger) == records, "a start with nothing to do did something"
    await check_at_rest(again)
    await simulation.end()
    return simulation


def test_whatever_happens_the_ledger_is_right(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        try:
            run_virtually(simulate(seed), LIMIT_S)
        except BaseException as error:
            error.add_note(f"play it again: pytest tests/simulation --seed {seed}")
            raise
    assert caplog.messages == []
