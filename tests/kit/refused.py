"""A small log of refusals, and whoever verifies it. The limits are small too."""

from collections.abc import Sequence

from msgspec.structs import replace

from service.application.refusal_chain import RefusalChain
from service.application.refusal_check import DAY_US, RefusalCheck, RefusalsBroken
from service.audit_ports import (
    Checkpoint,
    Noted,
    Refusal,
    RefusalBounds,
    RefusalsLost,
    RefusalsVerified,
    caller_of,
    decode_noted,
    entry_of,
)
from service.ports import StoredEntry
from tests.kit.builders import NODE, OWNER
from tests.kit.memory_audit import MemoryBook
from tests.kit.memory_refusals import MemoryRefusals
from tests.kit.virtual_time import run_virtually

Entries = list[StoredEntry]

AGE_US = 400 * DAY_US
BEGIN_US = 1_767_225_600_000_000
NOW_US = BEGIN_US + 10 * DAY_US
BOUNDS = RefusalBounds(per_caller=20, bytes=1 << 20, age_us=AGE_US)
CALLERS = ("ci", "", "ci", "bob", "ci", "", "bob", "ci", "ci", "", "", "ci")


def refusal(number: int, actor: str) -> Refusal:
    """One that is like the others but for these."""
    return Refusal(
        id=f"r{number}",
        at_us=BEGIN_US + number,
        seq=number,
        code=1013,
        status=409,
        reason="gpus_exhausted",
        message="none is free",
        method="POST",
        route="/api/v1/replicaSet",
        actor=actor,
    )


def written(noted: Sequence[Noted]) -> Entries:
    """As the service writes them."""
    kept = MemoryRefusals()
    chain = RefusalChain(kept, MemoryBook().last)

    async def live() -> None:
        for one in noted:
            await chain.keep([one])

    run_virtually(live())
    return kept.entries


NOTED: list[Noted] = [refusal(number, actor) for number, actor in enumerate(CALLERS, 1)]
LOG = written([*NOTED[:5], RefusalsLost(BEGIN_US + 5, 5, 7), *NOTED[5:]])
END = len(LOG)


def checkpoint(until: int = END, entries: Entries = LOG, count: int = 1) -> Checkpoint:
    """Of the log when it ended with this entry."""
    check = RefusalCheck((), NOW_US, BOUNDS)
    for entry in entries[:until]:
        check.take(entry)
    bare = Checkpoint(NODE, OWNER, 1, "", f"checkpoint {count}", count, "key")
    return replace(bare, refusals=check.heads())


def verified(
    entries: Sequence[StoredEntry],
    *checkpoints: Checkpoint,
    now_us: int = NOW_US,
    bounds: RefusalBounds = BOUNDS,
    part: bool = False,
) -> RefusalsVerified:
    """What is found of them."""
    check = RefusalCheck(checkpoints, 2 * now_us if part else now_us, bounds, part=part)
    try:
        for entry in entries:
            check.take(entry)
        check.end()
    except RefusalsBroken as broken:
        return check.found(str(broken))
    return check.found()


def stored(number: int, noted: Noted) -> StoredEntry:
    """As the log has it."""
    entry = entry_of(noted)
    return StoredEntry(number, entry.subject, entry.message_id, entry.body)


def forged(entry: StoredEntry) -> StoredEntry:
    """As if the caller had been refused something else; its message renamed."""
    return stored(entry.seq, replace(decode_noted(entry.body), seq=999))


def caller_at(at: int) -> str:
    """Whose the entry at an index is."""
    return caller_of(decode_noted(LOG[at].body))
