"""What checkpoints say of refusals, when they are signed and when not. On virtual time."""

from collections.abc import Sequence

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from service.adapters.audit_key import see_signed
from service.application.checkpointing import (
    AGAIN_S,
    INTERVAL_S,
    LOOK_EVERY_S,
    RECORDS,
    Checkpointing,
)
from service.application.refusal_chain import RefusalChain
from service.application.refusal_check import RefusalCheck
from service.audit_ports import Refusal, entry_of
from service.domain.commands import CreateVolume
from service.errors import AuditError, LedgerDamaged
from service.telemetry import Metrics
from tests.kit import refused
from tests.kit.builders import GIB, NODE, OWNER
from tests.kit.memory_audit import MemoryBook, MemoryKey
from tests.kit.memory_refusals import MemoryRefusals
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

KEY = MemoryKey()


class Signing:
    """A ledger with records in it, a log of refusals, and who signs both."""

    def __init__(self) -> None:
        self.host = SimulatedHost()
        self.book, self.kept = MemoryBook(), MemoryRefusals()
        self.begin()

    def begin(self) -> None:
        """As after a start of the service."""
        self.chain = RefusalChain(self.kept, self.book.last)
        self.signing = Checkpointing(
            *(self.host.ledger, self.book, self.chain, KEY, self.host.clock),
            lambda: len(self.host.ledger.entries),
            *(NODE, OWNER),
            Metrics().registry,
        )

    async def live(self) -> None:
        """Some records more."""
        async with SimulatedService(self.host) as service:
            await service.succeed(CreateVolume(f"v{len(self.host.ledger.entries)}", GIB))

    async def keep(self, numbers: Sequence[int], actor: str = "ci") -> None:
        now_us = self.host.clock.now_us()
        await self.chain.keep([refusal(number, actor, now_us) for number in numbers])

    def heads(self) -> dict[str, int]:
        """What the newest checkpoint says, by caller."""
        refusals = self.book.kept[-1].refusals
        assert refusals is not UNSET
        return {head.caller: head.last for head in refusals}


def refusal(number: int, actor: str, at_us: int) -> Refusal:
    return replace(refused.refusal(number, actor), id=f"{actor}-{number}", at_us=at_us)


@virtual
async def test_where_the_refusals_of_each_caller_end_is_signed() -> None:
    site = Signing()
    await site.live()
    await site.keep([1, 2])
    await site.keep([3], "")
    made = await site.signing.sign()
    see_signed(made, KEY.public)
    assert site.heads() == {"": 1, "ci": 2}
    changed = replace(made.refusals[0], last=7) if made.refusals else None
    with pytest.raises(AuditError, match="forged"):
        see_signed(replace(made, refusals=(changed,)), KEY.public)


@virtual
async def test_new_refusals_are_signed_also_where_no_record_is_new() -> None:
    site = Signing()
    await site.live()
    await site.signing.sign()
    assert await site.signing.sign() == site.book.kept[-1], "nothing is new"
    await site.keep([1])
    made = await site.signing.sign()
    assert (len(site.book.kept), made.count) == (2, 2)
    assert made.seq == site.book.kept[0].seq
    assert site.heads() == {"ci": 1}


@virtual
async def test_by_itself_after_so_long() -> None:
    site = Signing()
    async with SimulatedService(site.host) as service:
        service.supervisor.start("checkpoints", site.signing.run())
        await site.host.clock.sleep(1)
        await site.keep(range(2 * RECORDS))
        await site.host.clock.sleep(INTERVAL_S - 10)
        assert len(site.book.kept) == 1, "a flood fills no file of checkpoints"
        await site.host.clock.sleep(10 + LOOK_EVERY_S)
        assert (len(site.book.kept), site.heads()) == (2, {"ci": 2 * RECORDS})
        await site.host.clock.sleep(3 * INTERVAL_S)
        assert len(site.book.kept) == 2


@virtual
async def test_a_service_that_starts_signs_what_was_not_signed_before() -> None:
    site = Signing()
    await site.live()
    await site.keep([1])
    await site.signing.sign()
    await site.keep([2])
    await site.keep([1], "bob")
    site.begin()
    await site.signing.sign()
    assert site.heads() == {"bob": 1, "ci": 2}


@virtual
async def test_a_log_that_is_away_holds_no_checkpoint_up() -> None:
    site = Signing()
    await site.live()
    await site.keep([1])
    await site.signing.sign()
    site.begin()
    site.kept.away = "no server"
    await site.live()
    await site.signing.sign()
    assert (len(site.book.kept), site.heads()) == (2, {"ci": 1}), "what was signed stands"
    asked = site.kept.asked
    await site.live()
    await site.signing.sign()
    assert site.kept.asked == asked, "it is not asked at every look"
    site.kept.away = ""
    await site.host.clock.sleep(AGAIN_S)
    await site.keep([2])
    await site.signing.sign()
    assert site.heads() == {"ci": 2}


@virtual
async def test_what_was_signed_before_0_6_0_is_gone_on_with() -> None:
    site = Signing()
    await site.live()
    made = await site.signing.sign()
    bare = replace(made, refusals=UNSET, signature="")
    site.book.kept = [replace(bare, signature=KEY.signature(bare.signed_text()))]
    see_signed(site.book.kept[0], KEY.public)
    site.begin()
    await site.keep([1])
    await site.signing.sign()
    assert (len(site.book.kept), site.heads()) == (2, {"ci": 1})


class TestAPart:
    @virtual
    async def test_it_says_where_each_caller_s_begin_and_end(self) -> None:
        site = Signing()
        await site.live()
        for actor in ("ci", "bob", "ci", "ci", "bob"):
            await site.keep([len(site.kept.entries)], actor)
        made = await site.signing.sign(1, (2, 4))
        see_signed(made, KEY.public)
        assert made.refusals is not UNSET
        told = [(head.caller, head.first, head.last) for head in made.refusals]
        assert told == [("bob", 1, 1), ("ci", 2, 3)]
        check = RefusalCheck([made], 0, part=True)
        for entry in site.kept.entries[1:4]:
            check.take(entry)
        check.end()
        assert (await site.signing.sign(1, (1, 0))).refusals == ()

    @virtual
    async def test_none_is_signed_that_does_not_lead_to_what_was_written_last(self) -> None:
        site = Signing()
        await site.live()
        await site.keep([1, 2, 3])
        await site.keep([4, 5], "bob")
        entries = list(site.kept.entries)
        for at in (1, 2):
            site.kept.entries = [*entries]
            noted = replace(refusal(9, "ci", 1), place=at + 1, prevhash="0" * 64)
            forged = entry_of(noted)
            site.kept.entries[at] = replace(
                entries[at], body=forged.body, message_id=forged.message_id
            )
            with pytest.raises(LedgerDamaged):
                await site.signing.sign(1, (1, 5))
            with pytest.raises(LedgerDamaged):
                await site.signing.sign(1, (at + 1, at + 1))
