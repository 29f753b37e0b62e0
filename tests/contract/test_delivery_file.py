"""What is remembered of webhooks: in a file that outlives the service, and in memory."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.messages import Place
from service.adapters.delivery_file import FILE, LOG_MAX, DeliveryFile
from service.adapters.webhook_key import FILE as KEY_FILE
from service.adapters.webhook_key import webhook_key
from service.errors import DeliveriesUnavailable, SettingsError
from service.webhook_ports import Attempt, Deliveries, Outcome, Standing
from tests.kit.webhook_rig import InlineDeliveries

END = 1000


def attempt(event_id: str, outcome: Outcome = "delivered", number: int = 1) -> Attempt:
    status = 200 if outcome == "delivered" else 500
    error = "" if outcome == "delivered" else "HTTP 500"
    return Attempt(event_id, "x.y.v1", number, 7, 3, status, error, outcome)


@pytest.fixture(params=["file", "memory"])
async def deliveries(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deliveries]:
    made = DeliveryFile(tmp_path / FILE) if request.param == "file" else InlineDeliveries()
    yield made
    await made.close()


async def test_a_place_is_begun_once_and_gone_on_from(deliveries: Deliveries) -> None:
    assert await deliveries.standing("one") is None
    begun = await deliveries.begin("one", 5, Place(5), END)
    assert (begun.place, begun.pending, begun.dead, begun.due_us) == (Place(5), 0, 0, None)
    moved = await deliveries.note("one", attempt("8.1"), 0, Place(7, 1))
    assert (moved.place, moved.last) == (Place(7, 1), attempt("8.1"))
    await deliveries.move("one", Place(9))
    assert (await deliveries.begin("one", 5, Place(5), END)).place == Place(9)
    assert (await deliveries.begin("two", 6, Place(6), END)).place == Place(6)


async def test_what_failed_is_due_later_and_gone_when_delivered(deliveries: Deliveries) -> None:
    await deliveries.begin("one", 1, Place(1), END)
    await deliveries.note("one", attempt("2.0", "failed"), 200, Place(1, 0))
    found = await deliveries.note("one", attempt("2.1", "failed"), 100, Place(1, 1))
    assert (found.pending, found.due_us) == (2, 100)
    assert await deliveries.due("one", 99) is None
    first = await deliveries.due("one", 500)
    assert first is not None
    assert (first.id, first.attempts, first.due_us, first.first_us) == ("2.1", 1, 100, 7)
    again = await deliveries.note("one", attempt("2.1", "failed", 2), 300, None)
    assert (again.pending, again.due_us, again.place) == (2, 200, Place(1, 1))
    await deliveries.note("one", attempt("2.0"), 0, None)
    left = await deliveries.note("one", attempt("2.1", "delivered", 3), 0, None)
    assert (left.pending, left.due_us) == (0, None)
    log = await deliveries.attempts("one", 3)
    assert [(one.id, one.number) for one in log] == [("2.1", 3), ("2.0", 1), ("2.1", 2)]


async def test_dead_letters_are_sent_again_or_forgotten(deliveries: Deliveries) -> None:
    await deliveries.begin("one", 1, Place(1), END)
    for index in range(4):
        await deliveries.note("one", attempt(f"2.{index}", "dead", 10), 50, Place(1, index))
    found = await deliveries.dead("one", 3)
    assert [one.id for one in found] == ["2.0", "2.1", "2.2"]
    assert await deliveries.due("one", 500) is None
    counted = await deliveries.revive("one", ["2.1", "2.1", "7.7"], 60)
    assert counted == (1, await deliveries.standing("one"))
    assert await deliveries.revive("two", [], 60) == (0, None)
    revived = await deliveries.due("one", 60)
    assert revived is not None
    assert (revived.id, revived.attempts) == ("2.1", 0)
    assert (await deliveries.discard("one", ["2.0"]))[0] == 1
    assert await deliveries.discard("one", []) == (2, await deliveries.standing("one"))
    standing = await deliveries.standing("one")
    assert standing is not None
    assert (standing.pending, standing.dead) == (1, 0)


async def test_another_registration_begins_anew(deliveries: Deliveries) -> None:
    await deliveries.begin("one", 1, Place(1), END)
    await deliveries.note("one", attempt("2.0", "failed"), 5, Place(1, 0))
    anew = await deliveries.begin("one", 9, Place(9), END)
    assert (anew.place, anew.pending, anew.last) == (Place(9), 0, None)


async def test_what_is_after_the_end_of_the_ledger_is_forgotten(deliveries: Deliveries) -> None:
    await deliveries.begin("one", 1, Place(1), END)
    for seq in (4, 8):
        await deliveries.note("one", attempt(f"{seq}.0", "failed"), 5, Place(seq - 1, 0))
    cut = await deliveries.begin("one", 1, Place(1), 5)
    assert (cut.place, cut.pending) == (Place(5), 1)
    assert (await deliveries.begin("one", 1, Place(1), 5)).place == Place(5)


async def test_only_those_that_are_kept_are_kept(deliveries: Deliveries) -> None:
    for name in ("one", "two"):
        await deliveries.begin(name, 1, Place(1), END)
        await deliveries.note_ping(name, 1, attempt("ping-1"))
    await deliveries.keep({"two"})
    assert await deliveries.standing("one") is None
    assert await deliveries.attempts("one", 9) == []
    assert len(await deliveries.attempts("two", 9)) == 1


async def test_the_log_is_bounded_for_each(deliveries: Deliveries) -> None:
    await deliveries.begin("one", 1, Place(1), END)
    await deliveries.begin("two", 2, Place(2), END)
    await deliveries.note_ping("two", 2, attempt("ping-1"))
    for number in range(LOG_MAX + 5):
        await deliveries.note_ping("one", 1, attempt("ping-1", number=number))
    found = await deliveries.attempts("one", 2 * LOG_MAX)
    assert [one.number for one in found] == list(range(LOG_MAX + 4, 4, -1))
    assert len(await deliveries.attempts("two", 9)) == 1


async def test_a_ping_is_of_one_registration(deliveries: Deliveries) -> None:
    assert await deliveries.note_ping("one", 1, attempt("ping-1")) is None
    await deliveries.begin("one", 1, Place(1), END)
    noted = await deliveries.note_ping("one", 1, attempt("ping-2"))
    assert noted == Standing(Place(1), last=attempt("ping-2"))
    await deliveries.begin("one", 9, Place(9), END)
    assert await deliveries.note_ping("one", 1, attempt("ping-3")) is None
    assert await deliveries.attempts("one", 9) == []


async def test_the_file_is_found_again(tmp_path: Path) -> None:
    first = DeliveryFile(tmp_path / FILE)
    await first.begin("one", 1, Place(1), END)
    await first.note("one", attempt("2.0", "failed"), 5, Place(1, 0))
    await first.close()
    again = DeliveryFile(tmp_path / FILE)
    found = await again.begin("one", 1, Place(1), END)
    assert (found.place, found.pending, found.last) == (Place(1, 0), 1, attempt("2.0", "failed"))
    await again.close()


def test_no_file_is_made_for_nothing(tmp_path: Path) -> None:
    async def keep() -> None:
        made = DeliveryFile(tmp_path / FILE)
        await made.keep(())
        await made.close()

    asyncio.run(keep())
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    made = DeliveryFile(tmp_path / FILE)
    assert (await made.begin("one", 1, Place(1), END)).place == Place(1)
    await made.close()
    assert (tmp_path / f"{FILE}.damaged").read_bytes().startswith(b"no database")


async def test_a_file_out_of_reach_is_told_and_tried_again(tmp_path: Path) -> None:
    made = DeliveryFile(tmp_path / "folder" / FILE)
    with pytest.raises(DeliveriesUnavailable, match="cannot be used"):
        await made.standing("one")
    (tmp_path / "folder").mkdir()
    assert await made.standing("one") is None
    await made.close()


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    key = webhook_key(tmp_path)
    assert (len(key), webhook_key(tmp_path)) == (32, key)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "\xff"])
def test_a_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / KEY_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"webhooks\.key"):
        webhook_key(tmp_path)


def test_a_key_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        webhook_key(tmp_path / "nowhere")
