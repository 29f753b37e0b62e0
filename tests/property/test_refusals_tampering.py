"""Whatever is done to refusals is found; what the log forgets by its limits is not taken for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.codec import hash_of
from service.application.refusal_check import DAY_US
from service.audit_ports import RefusalsVerified, caller_of, decode_noted
from service.ports import StoredEntry
from tests.kit.refused import (
    AGE_US,
    BEGIN_US,
    BOUNDS,
    CALLERS,
    END,
    LOG,
    Entries,
    caller_at,
    checkpoint,
    forged,
    refusal,
    stored,
    verified,
)


def is_last(at: int) -> bool:
    """Of its caller."""
    return caller_at(at) not in [caller_at(other) for other in range(at + 1, END)]


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


class TestParts:
    """Cut out of the log, with a checkpoint that says where each caller's begin and end."""

    BEGIN, UNTIL = 3, 10

    def found(self, entries: Entries) -> RefusalsVerified:
        cut = LOG[self.BEGIN : self.UNTIL]
        return verified(entries, checkpoint(len(cut), cut), part=True)

    def test_what_nobody_touched_is_right_though_it_is_old(self) -> None:
        assert self.found(LOG[self.BEGIN : self.UNTIL]) == RefusalsVerified(7, 0, 0, 7)

    @pytest.mark.parametrize("at", range(BEGIN, UNTIL))
    def test_one_that_was_taken_out_is_found(self, at: int) -> None:
        left = [*LOG[self.BEGIN : at], *LOG[at + 1 : self.UNTIL]]
        assert " missing" in self.found(left).fault

    def test_one_that_was_added_is_found(self) -> None:
        assert "is none that the checkpoint" in self.found(LOG[self.BEGIN : self.UNTIL + 1]).fault
        more = self.found(LOG[self.BEGIN - 1 : self.UNTIL])
        assert not more.fault, "one of before, that the others follow"
