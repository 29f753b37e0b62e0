"""What looks at webhooks in a simulation sees what is wrong: each is made wrong here once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from events.webhooks import Wanted
from service.domain.webhook_commands import DisableWebhook, RegisterWebhook, RemoveWebhook
from tests.kit.builders import run
from tests.kit.simulated_service import SimulatedHost
from tests.kit.virtual_time import run_virtually
from tests.simulation.calling_service import CallingService
from tests.simulation.life import Life
from tests.simulation.line import Seen, Weather
from tests.simulation.receivers import Abroad, Noted, Posted, address_of
from tests.simulation.webhook_checks import Auditor

URL = address_of("hook", 1)
KINDS = Wanted(kind="replica_set", types=("operation.accepted.v1", "container.created.v1"))
ACCEPTED = Wanted(kind="replica_set", types=("operation.accepted.v1",))


@asynccontextmanager
async def living(
    host: SimulatedHost, abroad: Abroad, wanted: Wanted = KINDS
) -> AsyncIterator[CallingService]:
    """A service without trouble, with a webhook."""
    life = Life(1, host, Random(1), Weather(), Seen(), abroad)
    task = asyncio.create_task(life.run())
    await life.up.wait()
    register = RegisterWebhook("hook", URL, abroad.signer().key_id, wanted)
    try:
        await life.service.succeed(register)
        yield life.service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def first(abroad: Abroad, kind: type) -> int:
    """Where something of this kind is first among what happened."""
    return next(n for n, one in enumerate(abroad.happened) if isinstance(one, kind))


def leave_out(abroad: Abroad) -> None:
    del abroad.happened[first(abroad, Posted)]
    del abroad.happened[first(abroad, Noted)]


def send_again(abroad: Abroad) -> None:
    abroad.happened.append(abroad.happened[first(abroad, Posted)])


def change(**changes: object) -> Callable[[Abroad], None]:
    def changed(abroad: Abroad) -> None:
        where = first(abroad, Posted)
        posted = abroad.happened[where]
        assert isinstance(posted, Posted)
        abroad.happened[where] = replace(posted, **changes)  # type: ignore[arg-type]

    return changed


def change_header(name: str, text: str) -> Callable[[Abroad], None]:
    def changed(abroad: Abroad) -> None:
        posted = abroad.happened[first(abroad, Posted)]
        assert isinstance(posted, Posted)
        change(headers={**posted.headers, name: text})(abroad)

    return changed


WRONG = {
    "one is left out": (leave_out, "is next"),
    "what was taken comes again": (send_again, "is next"),
    "before it is registered": (change(folded_seq=1), "not registered"),
    "elsewhere": (change(url=address_of("hook", 2)), "another address"),
    "with a key that is no more": (change(key_id="old"), "another key"),
    "another body": (change(body=b"{}"), "is right"),
    "another time": (change(begun_us=1), "bears another time"),
    "no signature": (change_header("Webhook-Signature", "v1,x"), "is right"),
    "another type of content": (change_header("Content-Type", "text/plain"), "is no event"),
}


async def looked_at(spoil: Callable[[Abroad], None] | None) -> None:
    host, abroad = SimulatedHost(), Abroad()
    async with living(host, abroad) as service:
        await service.succeed(run("foo"))
        await asyncio.sleep(5)
        if spoil is not None:
            spoil(abroad)
        await Auditor(host.ledger, abroad).check_at_rest(service, 60)
        assert len([one for one in abroad.happened if isinstance(one, Posted)]) == 2


def test_what_is_right_is_seen_to_be_right() -> None:
    run_virtually(looked_at(None))


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(what: str) -> None:
    spoil, words = WRONG[what]
    with pytest.raises(AssertionError, match=words):
        run_virtually(looked_at(spoil))


async def sent_twice(later_us: int) -> None:
    """The receiver does not take an event at first; it said so later than it did."""
    host, abroad = SimulatedHost(), Abroad()
    abroad.moods[URL] = "always"
    async with living(host, abroad, ACCEPTED) as service:
        await service.succeed(run("foo"))
        await asyncio.sleep(4)
        abroad.moods[URL] = "well"
        await asyncio.sleep(10)
        posted = abroad.happened[first(abroad, Posted)]
        assert isinstance(posted, Posted)
        posted.heard_us += later_us
        await Auditor(host.ledger, abroad).check_at_rest(service, 60)


def test_what_comes_again_too_soon_is_seen() -> None:
    with pytest.raises(AssertionError, match="too soon"):
        run_virtually(sent_twice(3_000_000))


def test_the_log_of_requests_is_held_against_them() -> None:
    run_virtually(sent_twice(0))
    with pytest.raises(AssertionError, match="is the log"):
        run_virtually(sent_twice(-1))


@pytest.mark.parametrize("end", [RemoveWebhook("hook"), DisableWebhook("hook", "moves")])
def test_what_is_sent_after_the_end_is_seen(end: RemoveWebhook | DisableWebhook) -> None:
    async def live() -> None:
        host, abroad = SimulatedHost(), Abroad()
        async with living(host, abroad) as service:
            await service.succeed(run("foo"))
            await asyncio.sleep(5)
            await service.succeed(end)
            await asyncio.sleep(5)
            change(folded_seq=service.projector.folded_seq)(abroad)
            await Auditor(host.ledger, abroad).check_at_rest(service, 60)

    with pytest.raises(AssertionError, match=r"not registered|is disabled"):
        run_virtually(live())
