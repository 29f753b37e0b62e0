"""A record decided once more: as it is stored, otherwise, or not at all."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from events.codec import CloudEvent, read
from events.resources import GpusLeased
from projections.state import State
from service.domain.commands import DebugReplicaSet, Envelope
from service.domain.decide import decide
from service.domain.due_effects import DueEffects
from service.domain.effects import EnsureImage, MakeDebugImage
from service.domain.guards import Decision
from service.domain.observing_commands import RetryReplicaSet
from service.domain.placement_orders import Placement
from service.domain.rejections import Reason, Rejected
from service.domain.replaying import NO_BASIS, NO_FACTS, Replay, Step
from service.domain.tally import Counts, Tally
from tests.kit.builders import facts, run
from tests.kit.decided_log import BasisWorld
from tests.kit.replayed import Events, events_of, story
from tests.kit.sightings import ended

LEDGERS = Path(__file__).parents[1] / "replay" / "ledgers"
RUN_FOO, PATCH_FOO, FOO_STOPS, RUN_BAR, RESTART_FOO = 3, 8, 20, 21, 26


@pytest.fixture(scope="module")
def told() -> Events:
    """The story of foo and bar."""
    return events_of(story())


def steps(events: Events, replay: Replay | None = None) -> list[Step]:
    replay = replay or Replay()
    return [replay.step(seq, event) for seq, event in events]


def with_event(events: Events, seq: int, event: CloudEvent) -> Events:
    return [(at, event if at == seq else one) for at, one in events]


def otherwise(found: list[Step]) -> list[int]:
    return [step.seq for step in found if step.verdict == "otherwise"]


def test_a_log_is_decided_as_it_is_stored(told: Events) -> None:
    assert {step.verdict for step in steps(told)} == {"same"}


def test_another_rule_is_found_where_it_matters_first(told: Events) -> None:
    placement = Placement("highest")
    found = steps(told, Replay(placement.decide, (placement,)))
    first = next(step for step in found if step.verdict == "otherwise")
    assert first.seq == RUN_FOO
    assert isinstance(first.again, tuple)
    leased = [event for event in first.again if isinstance(event, GpusLeased)]
    assert [event.uuids for event in leased] == [("gpu-3",)]
    # What is folded is what is stored: only where GPUs are chosen, something is otherwise.
    assert otherwise(found) == [RUN_FOO, PATCH_FOO, RUN_BAR, RESTART_FOO]


def test_a_rule_that_refuses_is_told_with_its_words(told: Events) -> None:
    no = Rejected(Reason.NOT_RUNNING, "no")

    def refuses(state: State, envelope: Envelope) -> Decision:
        return no if state.seq == PATCH_FOO - 1 else decide(state, envelope)

    found = steps(told, Replay(refuses))
    assert otherwise(found) == [PATCH_FOO]
    assert found[PATCH_FOO - 1].again == no


def test_a_rule_that_fails_is_told_with_its_error(told: Events) -> None:
    def fails(state: State, envelope: Envelope) -> Decision:
        if state.seq == PATCH_FOO - 1:
            raise KeyError("size_bytes")
        return decide(state, envelope)

    found = steps(told, Replay(fails))
    assert otherwise(found) == [PATCH_FOO]
    assert found[PATCH_FOO - 1].why == "today's code fails on it: KeyError: 'size_bytes'"


def test_an_event_that_was_changed_is_found(told: Events) -> None:
    event = told[RUN_BAR - 1][1]
    leased = next(e for e in event.data.events if isinstance(e, GpusLeased))
    other = tuple(
        replace(e, uuids=("gpu-2",)) if e is leased else e for e in event.data.events
    )
    changed = replace(event, data=replace(event.data, events=other))
    assert otherwise(steps(with_event(told, RUN_BAR, changed)))[0] == RUN_BAR


@pytest.mark.parametrize("field", ["subject", "verb"])
def test_a_record_that_is_about_something_else_than_its_command(told: Events, field: str) -> None:
    event = told[RUN_BAR - 1][1]
    value = {"subject": "replica_set/baz", "verb": "patch"}[field]
    found = steps(with_event(told, RUN_BAR, replace(event, **{field: value})))
    assert RUN_BAR in otherwise(found)
    assert found[RUN_BAR - 1].why == "its command is about replica_set bar run"


@pytest.mark.parametrize("ledger", ["v0.1.0-upper", "v0.4.0-upper", "v0.4.0-observed"])
def test_what_was_stored_without_a_basis_is_walked_and_not_decided(ledger: str) -> None:
    bodies = (LEDGERS / f"{ledger}.jsonl").read_bytes().splitlines()
    tally = Tally()
    found = steps([(seq, read(b)) for seq, b in enumerate(bodies, 1)], Replay(followers=(tally,)))
    assert len(found) == len(bodies)
    assert {(step.verdict, step.why) for step in found} == {("undecidable", NO_BASIS)}
    assert tally.counts.replica_sets > 0


def test_a_log_that_goes_on_with_a_basis_is_decided_from_there(told: Events) -> None:
    old = [
        (seq, replace(event, data=replace(event.data, basis=None)) if seq < PATCH_FOO else event)
        for seq, event in told
    ]
    found = steps(old)
    assert [step.verdict for step in found[: PATCH_FOO - 1]] == ["undecidable"] * (PATCH_FOO - 1)
    # The facts of the first records are gone, and came in full with none of those behind them.
    assert {step.why for step in found[PATCH_FOO - 1 :]} == {NO_FACTS}


@pytest.mark.parametrize("part", ["command", "facts"])
def test_a_basis_of_a_later_version_is_said_to_be_so(told: Events, part: str) -> None:
    event = told[RUN_FOO - 1][1]
    assert event.data.basis is not None
    odd = read(
        b'{"id":"a","source":"/gpuledger/n1","type":"t","subject":"s","time":"","timeus":0,'
        b'"verb":"v","data":{"events":[],"basis":{"command":{"type":"FlyToTheMoon"},'
        b'"facts":{"node":7}}}}'
    ).data.basis
    assert odd is not None
    basis = replace(event.data.basis, **{part: getattr(odd, part)})
    later = replace(event, data=replace(event.data, basis=basis))
    step = steps(with_event(told, RUN_FOO, later))[RUN_FOO - 1]
    assert step.verdict == "undecidable"
    assert f"the {part} of operation.accepted.v1" in step.why


def test_what_becomes_due_is_told_with_the_record_that_it_is_due_by(told: Events) -> None:
    due = DueEffects()
    replay = Replay(followers=(due,))
    begun = {}
    for seq, event in told:
        replay.step(seq, event)
        begun[seq] = due.begun
    (image,) = begun[RUN_FOO]
    assert isinstance(image, EnsureImage)
    assert [type(effect).__name__ for effect in begun[PATCH_FOO]] == ["StopContainer"]
    assert begun[len(told)] == ()
    assert list(due.all()) == []


def test_a_debug_copy_becomes_due_when_its_source_has_started() -> None:
    """By a record that is about another replica set."""
    world = BasisWorld(0, facts())
    world.send(run("foo", on_exit="restart"))
    world.drive()
    for command in (ended("foo"), RetryReplicaSet("foo", 1), DebugReplicaSet("bug", "foo", 1)):
        world.send(command)
    (start,) = world.due()
    world.succeed(start)
    due = DueEffects()
    replay = Replay(followers=(due,))
    for seq, event in world.events:
        replay.step(seq, event)
    (begun,) = due.begun
    assert isinstance(begun, MakeDebugImage)
    assert list(due.all()) == [begun] == list(world.due())


def test_the_numbers_of_a_state(told: Events) -> None:
    tally = Tally()
    replay = Replay(followers=(tally,))
    found = {}
    for seq, event in told:
        replay.step(seq, event)
        found[seq] = tally.counts
    assert found[2] == Counts(gpus=4, gpus_free=4)
    assert found[PATCH_FOO - 1] == Counts(4, 3, 1, 0, 1, 1, 1, containers_running=1)
    assert (found[PATCH_FOO].gpus_leased, found[PATCH_FOO].operations_running) == (2, 1)
    assert (found[FOO_STOPS].stopped, found[FOO_STOPS].gpus_free) == (1, 4)
    assert found[len(told)] == Counts(4, 2, 2, 0, 1, 1, 1, containers_running=1, volumes=1)
