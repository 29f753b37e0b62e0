"""One seed, from its beginning to the checks when all has come to rest."""

import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from msgspec import Struct

from events.orphans import OrphanSpared
from events.record import Event
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
from tests.kit.virtual_time import run_virtually
from tests.simulation.checks import (
    check_at_rest,
    check_disks,
    check_done_once,
    check_every_record,
    check_gpus,
    check_retention,
    check_told,
    check_world,
    records_of,
)
from tests.simulation.long_after import LONG_AFTER_S
from tests.simulation.town import Simulation

LIMIT_S = 3 * 3600.0

TOO_SLOW = {OrphanSpared}
"""An orphan is removed after minutes of peace, in which nothing is refused."""

ELSEWHERE = {ContainerLost, RecoveryBegun, VolumeLost}
"""A host is recovered while nobody asks for anything: tests/contract/test_recovery.py."""

CALLS = {
    *(f"webhook: answer {status}" for status in (0, 204, 500, 503)),
    *(f"webhook: {what}" for what in ("after", "dead", "disk full", "revive", "twice")),
    "webhook: crash long after",
}
"""What becomes of requests to webhooks."""

EVENTS = CALLS | {
    f"event: {kind.__name__}" for kind in set(get_args(Event)) - TOO_SLOW - ELSEWHERE
}
"""What enough seeds have to meet."""


class Played(Struct):
    """What was met in some histories, and what was wrong: the seed, and in words."""

    met: Counter[str]
    failures: list[tuple[int, str]]


def play(seed: int) -> Counter[str]:
    """A history, looked at from all sides; what was met in it, and how often.

    What it raises has a note that says how to play it again.
    """
    simulation = Simulation(seed)
    try:
        with _errors_told() as errors:
            run_virtually(_simulate(simulation), LIMIT_S + LONG_AFTER_S)
        assert errors == [], f"errors were logged: {errors}"
    except BaseException as error:
        error.add_note(f"play it again: make simulate SEED={seed}")
        raise
    return simulation.seen.met


def play_all(seeds: range) -> Played:
    """One after the other, whatever becomes of them."""
    played = Played(Counter(), [])
    for seed in seeds:
        try:
            played.met += play(seed)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = str(error) or place.line
            played.failures.append(
                (seed, f"{type(error).__name__} at {place.filename}:{place.lineno}: {words}")
            )
    return played


async def _simulate(simulation: Simulation) -> None:
    host, seen = simulation.host, simulation.seen
    service = await simulation.run()
    records = await records_of(host.ledger)
    check_every_record(host.ledger.entries)
    await check_at_rest(service)
    check_retention(service)
    await check_world(service.state, host)
    check_told(simulation.told, records)
    check_done_once(records, seen)
    check_gpus(records)
    check_disks(records, host)
    again = await simulation.restart()
    assert await records_of(host.ledger) == records, "a start with nothing to do did something"
    await check_at_rest(again)
    await simulation.end()
    await simulation.long_after()
    seen.met.update(f"event: {type(e).__name__}" for record in records for e in record.events)


@contextmanager
def _errors_told() -> Iterator[list[str]]:
    """What is logged as an error. Lesser things are not even formatted: they are half the time."""
    told: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler = Handler(logging.ERROR)
    root, before = logging.getLogger(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield told
    finally:
        logging.disable(before)
        root.removeHandler(handler)
