"""What the service writes behind what is there: of before, not confirmed, changed, or gone."""

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from service.application.refusal_chain import RefusalChain
from service.audit_ports import Checkpoint, RefusalsVerified, decode_noted, entry_of
from service.ports import StoredEntry
from tests.kit.memory_audit import MemoryBook
from tests.kit.memory_refusals import MemoryRefusals
from tests.kit.refused import (
    AGE_US,
    END,
    LOG,
    NOTED,
    NOW_US,
    Entries,
    caller_at,
    checkpoint,
    forged,
    refusal,
    verified,
)
from tests.kit.virtual_time import run_virtually


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
