"""Looks after the read store's file: one that was deleted works on, unseen, for who has it open."""

from projections.projector import Projector
from service.ports import Clock

LOOK_S = 1.0
"""A look costs some 0.3 ms, in the read store's own thread."""


async def watch_rows(projector: Projector, clock: Clock) -> None:
    """Have the rows written anew whenever their file is lost, until cancelled."""
    while True:
        await clock.sleep(LOOK_S)
        await projector.look_at_rows()
