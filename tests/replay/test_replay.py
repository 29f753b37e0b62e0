"""Every released version's ledger is read, folded and found in order by today's code."""

from pathlib import Path
from typing import get_args

import pytest

from events.codec import decode, hash_of, message_id_of
from events.record import Event, Record
from events.subjects import subject_of
from projections.evolve import evolve
from projections.state import State
from projections.usage import Usage
from projections.usage_folds import meter
from service.domain.invariants import check
from service.ports import StoredEntry
from tests.kit.decided_again import decided_again
from tests.kit.usage_left import expect_used

LEDGERS = sorted((Path(__file__).parent / "ledgers").glob("*.jsonl"))


def records(ledger: Path) -> list[Record]:
    """The records of a recorded ledger."""
    return [decode(line) for line in ledger.read_bytes().splitlines()]


def fold(ledger: Path) -> State:
    """The state after all of them; nothing may be out of order after any of them."""
    state = State()
    for seq, record in enumerate(records(ledger), 1):
        evolve(state, seq, record)
        assert check(state) == (), f"{ledger.name}, record {seq}"
    return state


def test_every_event_there_ever_was_is_in_a_recorded_ledger() -> None:
    recorded = {type(e) for ledger in LEDGERS for r in records(ledger) for e in r.events}
    assert recorded == set(get_args(Event))


@pytest.mark.parametrize("carry", ["upper", "commit"])
def test_the_story_of_v0_1_0_is_told_as_it_was(carry: str) -> None:
    state = fold(Path(__file__).parent / "ledgers" / f"v0.1.0-{carry}.jsonl")
    sets = {s.name: (s.phase, s.current, s.newest) for s in state.replica_sets.values()}
    assert sets == {
        "foo": ("running", 3, 3),
        "bar": ("deleted", 0, 2),
        "bad": ("deleted", 0, 0),
    }
    foo = [state.revisions["foo", number] for number in (1, 2, 3)]
    assert [(r.cause, r.spec.gpu_count, r.container) for r in foo] == [
        ("run", 1, "removed"),
        ("patch", 2, "removed"),
        ("rollback", 1, "running"),
    ]
    assert [r.snapshot is not None for r in foo] == [True, True, False]
    holders = [gpu.holder for gpu in state.gpus.values()]
    assert (holders.count("foo"), holders.count(None), len(state.ports)) == (1, 3, 1)
    volumes = {v.name: (v.current, v.newest, v.deleted) for v in state.volumes.values()}
    assert volumes == {"foo": (2, 2, False), "disk": (0, 1, True), "bad": (0, 0, True)}
    ended = [operation.state for operation in state.operations.values()]
    assert (ended.count("succeeded"), ended.count("failed")) == (14, 3)


@pytest.mark.parametrize("carry", ["upper", "commit"])
def test_the_story_of_v0_2_0_is_told_as_it_was(carry: str) -> None:
    state = fold(Path(__file__).parent / "ledgers" / f"v0.2.0-{carry}.jsonl")
    sets = {s.name: (s.phase, s.current, s.newest) for s in state.replica_sets.values()}
    assert sets == {
        "foo": ("running", 3, 3),
        "bar": ("deleted", 0, 2),
        "bad": ("deleted", 0, 0),
        "qux": ("running", 6, 6),
    }
    qux = [state.revisions["qux", number] for number in range(1, 7)]
    assert [(r.cause, r.disk_from, r.in_place, r.continued_as) for r in qux] == [
        ("run", None, False, 2),
        ("patch", 1, True, None),
        ("patch", 2, False, None),
        ("patch", 3, False, None),
        ("rollback", 2, False, None),
        ("patch", None, False, None),
    ]
    assert [r.gone for r in qux] == ["", *["1 newer ones are kept"] * 3, "", ""]
    assert [r.snapshot_carry for r in qux if r.snapshot is not None] == [carry]
    assert qux[0].spec.env == qux[4].spec.env == ("A=1",)
    assert qux[2].spec.env == ("B=2",)
    assert qux[5].spec.image == "saved:1"
    sources = [bind.source for bind in state.revisions["foo", 3].spec.binds]
    assert sources == ["foo-2"]
    ended = [operation.state for operation in state.operations.values()]
    assert (ended.count("succeeded"), ended.count("failed")) == (22, 4)


def test_what_v0_3_0_observed_is_told_as_it_was() -> None:
    state = fold(Path(__file__).parent / "ledgers" / "v0.3.0-observed.jsonl")
    current = {name: state.revisions[name, one.current] for name, one in state.replica_sets.items()}
    sets = {n: (s.phase, current[n].container) for n, s in state.replica_sets.items()}
    assert sets == {
        "foo": ("stopped", "exited"),
        "bar": ("running", "running"),
        "baz": ("paused", "exited"),
        "qux": ("stopped", "removed"),
    }
    assert current["foo"].exit_code == 3
    assert state.replica_sets["bar"].retry == 1
    # Another process had the first port.
    assert list(state.ports) == [32001]
    assert state.node is not None
    assert [resting.host_port for resting in state.node.resting] == [32000]
    assert [gpu.holder for gpu in state.gpus.values()] == ["bar", None, None, None]
    assert all(gpu.quarantine is None for gpu in state.gpus.values())


@pytest.mark.parametrize("version", ["v0.1.0", "v0.2.0"])
@pytest.mark.parametrize("carry", ["upper", "commit"])
def test_what_is_left_of_a_story_is_all_that_is_still_used(version: str, carry: str) -> None:
    state, usage = State(), Usage()
    story = Path(__file__).parent / "ledgers" / f"{version}-{carry}.jsonl"
    for seq, record in enumerate(records(story), 1):
        evolve(state, seq, record)
        meter(usage, state, seq, record)
    assert usage.open
    expect_used(state, [one for slots in usage.open.values() for one in slots.values()])


@pytest.mark.parametrize("version", ["v0.5.0", "v0.6.0"])
@pytest.mark.parametrize("story", ["upper", "commit", "observed"])
def test_what_was_stored_is_one_chain_and_decided_again_as_it_was(
    story: str, version: str
) -> None:
    ledger = Path(__file__).parent / "ledgers" / f"{version}-{story}.jsonl"
    entries = [
        StoredEntry(seq, subject_of(record), message_id_of(record.command_id, hash_of(body)), body)
        for seq, body in enumerate(ledger.read_bytes().splitlines(), 1)
        for record in (decode(body),)
    ]
    assert sum(1 for _ in decided_again(entries)) == len(entries)
