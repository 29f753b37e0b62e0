"""Whatever is done to refusals is found; what the log forgets by its limits is not taken for it.

A small log of three callers; the limits are small too.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from events.codec import hash_of
from service.application.refusal_chain import RefusalChain
from service.application.refusal_check import (
    DAY_US,
    RefusalCheck,
    RefusalsBroken,
    RefusalsVerified,
)
from service.audit_ports import (
    Checkpoint,
    Noted,
    Refusal,
    RefusalBounds,
    RefusalsLost,
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
) -> RefusalsVerified:
    check = RefusalCheck(checkpoints, now_us, bounds)
    try:
        for entry in entries:
            check.take(entry)
        check.end()
    except RefusalsBroken as broken:
        return check.found(str(broken))
    return check.found()


def caller_at(at: int) -> str:
    return caller_of(decode_noted(LOG[at].body))


def is_last(at: int) -> bool:
    """Of its caller."""
    return caller_at(at) not in [caller_at(other) for other in range(at + 1, END)]


def forged(entry: StoredEntry) -> StoredEntry:
    """As if the caller had been refused something else; its message renamed."""
    noted = replace(decode_noted(entry.body), seq=999)
    return stored(entry.seq, noted)


def stored(number: int, noted: Noted) -> StoredEntry:
    entry = entry_of(noted)
    return StoredEntry(number, entry.subject, entry.message_id, entry.body)


def written_anew(entries: Entries, at: int, entry: StoredEntry) -> Entries:
    """One put in the place of another, and all of its caller behind it linked again."""
    found = [*entries[:at], entry]
    before = decode_noted(entry.body)
    digest = hash_of(entry.body)
    for other in entries[at + 1 :]:
        noted = decode_noted(other.body)
        if caller_of(noted) == caller_of(before):
            other = stored(
                other.seq, replace(noted, prevhash=digest, prev_us=before.at_us)
            )
            before, digest = noted, hash_of(other.body)
        found.append(other)
    return found


def test_what_nobody_touched_is_right() -> None:
    found = verified(LOG, checkpoint(4), checkpoint(END, count=2))
    assert found == RefusalsVerified(END, 0, 0, END)
    assert verified(LOG, checkpoint(4)).vouched == 4
    assert verified(LOG) == RefusalsVerified(END, 0, 0, 0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_byte_that_was_changed_is_found(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, END - 1))
    entry = LOG[at]
    place = data.draw(st.integers(0, len(entry.body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != entry.body[place]))
    body = entry.body[:place] + bytes([other]) + entry.body[place + 1 :]
    assert verified([*LOG[:at], replace(entry, body=body), *LOG[at + 1 :]]).fault


@pytest.mark.parametrize("at", range(END))
def test_one_that_was_changed_and_renamed_is_found_by_the_next_of_its_caller(at: int) -> None:
    changed = [*LOG[:at], forged(LOG[at]), *LOG[at + 1 :]]
    fault = verified(changed).fault
    if is_last(at):
        assert not fault, "the last has none behind it"
        fault = verified(changed, checkpoint()).fault
        assert "is not the one that a checkpoint" in fault
        return
    place = decode_noted(LOG[at].body).place
    assert f"was written to follow another one than {place}" in fault


@pytest.mark.parametrize("at", range(END))
def test_one_that_was_taken_out_is_found(at: int) -> None:
    left = [*LOG[:at], *LOG[at + 1 :]]
    noted = decode_noted(LOG[at].body)
    fault = verified(left).fault
    if is_last(at):
        assert not fault, "an end that was cut off has nobody to tell"
        fault = verified(left, checkpoint()).fault
    named = caller_of(noted) or "unknown callers"
    assert f"refusal {noted.place} of {named} missing" in fault


@pytest.mark.parametrize("caller", sorted(set(CALLERS)))
def test_all_of_a_caller_that_were_taken_out_are_found(caller: str) -> None:
    left = [entry for at, entry in enumerate(LOG) if caller_at(at) != caller]
    assert not verified(left).fault, "nobody is left to tell"
    assert "vouches for them" in verified(left, checkpoint()).fault


@pytest.mark.parametrize("at", range(END))
def test_one_that_was_put_in_is_found(at: int) -> None:
    """Linked as well as it goes: the next of its caller names another one."""
    noted = decode_noted(LOG[at].body)
    double = stored(at, replace(noted, seq=999))
    fault = verified([*LOG[:at], double, *LOG[at:]]).fault
    assert "is there twice" in fault or "put in" in fault


@pytest.mark.parametrize("at", range(END))
def test_one_of_a_new_caller_that_was_put_in_is_found_by_a_checkpoint(at: int) -> None:
    put_in = stored(at, replace(refusal(99, "mallory"), place=1))
    changed = [*LOG[:at], put_in, *LOG[at:]]
    assert not verified(changed).fault
    assert "refusal 1 of mallory (r99) was put in" in verified(changed, checkpoint()).fault
    assert not verified([*LOG, put_in], checkpoint()).fault, "that may have come since"


@pytest.mark.parametrize("at", range(END))
def test_what_was_written_anew_is_found_by_any_checkpoint_behind_it(at: int) -> None:
    anew = written_anew(LOG, at, forged(LOG[at]))
    assert not verified(anew).fault
    for until in range(at + 1, END + 1):
        assert "is not the one that a checkpoint" in verified(anew, checkpoint(until)).fault


@pytest.mark.parametrize("at", range(END))
def test_what_it_is_stored_under_has_to_fit(at: int) -> None:
    for wrong in (
        replace(LOG[at], subject="refusals.known.mallory"),
        replace(LOG[at], message_id="r1"),
        replace(LOG[at], message_id=f"{LOG[at].message_id}0"),
    ):
        assert verified([*LOG[:at], wrong, *LOG[at + 1 :]]).fault


def without_the_first(count: int, caller: str = "ci") -> Entries:
    """As the log is after it forgot some of a caller, or somebody took them out."""
    of_caller = [at for at in range(END) if caller_at(at) == caller]
    return [entry for at, entry in enumerate(LOG) if at not in of_caller[:count]]


class TestForgetting:
    def test_what_nothing_explains_was_taken_out(self) -> None:
        fault = verified(without_the_first(2)).fault
        assert "refusals 1 to 2 of ci missing, and the log did not forget them" in fault

    def test_too_many_of_a_caller(self) -> None:
        left = without_the_first(2)
        count = len([at for at in range(END) if caller_at(at) == "ci"]) - 2
        for limit, forgotten in ((count, True), (count + 1, False)):
            found = verified(left, checkpoint(), bounds=replace(BOUNDS, per_caller=limit))
            assert (found.fault == "") is forgotten
        assert verified(left, bounds=replace(BOUNDS, per_caller=count)).forgotten == 2

    def test_too_old(self) -> None:
        """The last of those that are missing decides: the others are older."""
        left = without_the_first(2)
        last_us = decode_noted(LOG[2].body).at_us
        assert caller_at(2) == "ci"
        assert verified(left, now_us=last_us + AGE_US - 1).fault
        found = verified(left, checkpoint(), now_us=last_us + AGE_US)
        assert (found.fault, found.forgotten) == ("", 2)

    def test_all_of_a_caller_too_old(self) -> None:
        left = [entry for at, entry in enumerate(LOG) if caller_at(at) != "bob"]
        last_us = max(decode_noted(e.body).at_us for at, e in enumerate(LOG) if e not in left)
        assert verified(left, checkpoint(), now_us=last_us + AGE_US - 1).fault
        assert not verified(left, checkpoint(), now_us=last_us + AGE_US).fault

    def test_too_large(self) -> None:
        """All that is older goes first: none of another caller may be left of before."""
        left = LOG[4:]
        size = sum(len(entry.body) for entry in left)
        full = replace(BOUNDS, bytes=size)
        assert not verified(left, checkpoint(), bounds=full).fault
        assert verified(left, checkpoint(), bounds=replace(full, bytes=4 * size)).fault
        early = stored(1, replace(refusal(0, "eve"), at_us=BEGIN_US - 2 * DAY_US, place=1))
        assert verified([early, *left], bounds=full).fault

    def test_it_says_how_much_is_left_and_proven(self) -> None:
        found = verified(LOG[4:], checkpoint(9), bounds=replace(BOUNDS, bytes=1_000))
        assert found == RefusalsVerified(END - 4, 0, 4, 5)


def older(number: int, actor: str) -> StoredEntry:
    """As 0.5.0 stored it."""
    entry = entry_of(refusal(number, actor))
    return StoredEntry(number, entry.subject, f"r{number}", entry.body)


class TestOfBefore:
    def log(self) -> Entries:
        kept = MemoryRefusals()
        kept.entries = [older(1, "ci"), older(2, ""), older(3, "ci")]
        kept._number = 3
        chain = RefusalChain(kept, MemoryBook().last)
        run_virtually(chain.keep([refusal(4, "ci"), refusal(5, "bob")]))
        return kept.entries

    def test_they_have_no_hash_and_are_counted(self) -> None:
        found = verified(self.log())
        assert found == RefusalsVerified(5, 3, 0, 0)

    def test_the_last_of_them_is_proven_by_the_first_that_has_one(self) -> None:
        entries = self.log()
        entries[2] = replace(entries[2], body=entries[2].body.replace(b"1013", b"1014"))
        assert "refusal 1 of ci" in verified(entries).fault

    def test_one_without_behind_one_that_has_one_is_found(self) -> None:
        entries = [*self.log(), older(6, "ci")]
        assert "has no hash of the one before" in verified(entries).fault

    def test_a_checkpoint_of_before_says_nothing_of_them(self) -> None:
        before = replace(checkpoint(), refusals=UNSET)
        assert b"refusals" not in before.signed_text()
        assert verified(LOG, before) == RefusalsVerified(END, 0, 0, 0)


class TestGoingOn:
    """Where a log of refusals is not what was signed of it, or not there any more."""

    def after(self, entries: Entries, signed: Checkpoint | None) -> tuple[Entries, str | None]:
        """One more of ci behind these."""
        kept, book = MemoryRefusals(), MemoryBook()
        kept.entries = list(entries)
        kept._number = entries[-1].seq if entries else 0
        book.kept = [] if signed is None else [signed]
        chain = RefusalChain(kept, book.last)
        run_virtually(chain.keep([refusal(50, "ci")]))
        return kept.entries, chain.trouble

    def test_it_goes_on_behind_what_is_there(self) -> None:
        entries, trouble = self.after(LOG, checkpoint())
        assert trouble is None
        assert not verified(entries, checkpoint()).fault
        assert not verified(entries, checkpoint(), checkpoint(END + 1, entries, 2)).fault

    def test_it_begins_anew_where_nothing_is_known_of_it(self) -> None:
        """As after the restore of a backup that has none, without its checkpoints."""
        entries, trouble = self.after([], None)
        assert (trouble, decode_noted(entries[0].body).place) == (None, 1)
        assert verified(entries) == RefusalsVerified(1, 0, 0, 0)

    def test_a_chain_that_is_not_there_any_more_is_gone_on_with(self) -> None:
        """So that no place is given twice; whether it was forgotten, its age tells."""
        entries, trouble = self.after([], checkpoint())
        signed = [head for head in checkpoint().refusals or () if head.caller == "ci"]
        assert (trouble, decode_noted(entries[0].body).place) == (None, signed[0].last + 1)
        assert "of ci missing, and the log did not forget them" in verified(entries).fault
        assert not verified(entries, now_us=NOW_US + AGE_US).fault

    def test_an_end_that_was_cut_off_is_told_and_found_for_ever(self) -> None:
        last = max(at for at in range(END) if caller_at(at) == "ci")
        entries, trouble = self.after([*LOG[:last], *LOG[last + 1 :]], checkpoint())
        place = decode_noted(LOG[last].body).place
        assert f"refusal {place} of ci is not what a checkpoint" in (trouble or "")
        assert f"refusal {place} of ci missing" in verified(entries).fault

    def test_one_that_was_changed_is_told_and_not_signed(self) -> None:
        last = max(at for at in range(END) if caller_at(at) == "ci")
        kept, book = MemoryRefusals(), MemoryBook()
        kept.entries = [*LOG[:last], forged(LOG[last]), *LOG[last + 1 :]]
        kept._number = END
        book.kept = [checkpoint()]
        chain = RefusalChain(kept, book.last)
        run_virtually(chain.keep([refusal(50, "ci"), refusal(51, "eve")]))
        assert "of ci is not what a checkpoint" in (chain.trouble or "")
        heads = {head.caller: head for head in run_virtually(chain.heads(NOW_US))}
        signed = {head.caller: head for head in checkpoint().refusals or ()}
        assert heads["ci"] == signed["ci"], "what was signed stands"
        assert heads["eve"].last == 1


@pytest.mark.parametrize("taken", range(4))
def test_what_was_not_confirmed_is_kept_once_and_in_its_place(taken: int) -> None:
    """Some of a batch are stored, and no answer comes."""
    kept = MemoryRefusals()
    chain = RefusalChain(kept, MemoryBook().last)

    async def live() -> None:
        await chain.keep(NOTED[:2])
        kept.takes = taken
        with pytest.raises(Exception, match="no answer"):
            await chain.keep(NOTED[2:6])
        kept.takes = None
        await chain.keep(NOTED[2:8])

    run_virtually(live())
    assert kept.noted == NOTED[:8]
    assert not verified(kept.entries).fault
