"""Explanations of random histories: never a failure, and what is cited is what it is so by."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.record import Record
from events.replica_sets import RevisionDeclared
from events.values import versioned
from projections.evolve import evolve
from projections.state import State
from service.application.explainer import Explainer
from service.domain.commands import Facts
from service.domain.explaining import Explanation, SubjectKind, gpu_name
from service.domain.explaining_aspects import concerns
from service.domain.explaining_places import grounds, preferred_gpus, preferred_ports
from service.domain.placement import held_gpus, held_ports, place_gpus, place_ports
from service.domain.port_moves import resting_ports
from tests.kit.inline_store import InlineStore
from tests.kit.past import explainer_of, past_of, stored
from tests.property.test_random_histories import HOSTS, STEPS, play

LIMIT = 40

Seen = Callable[[State], Any]
"""What of a state a fact tells."""


def states_of(records: Sequence[Record]) -> list[State]:
    """The state at every record, from the empty one on."""
    states = [State()]
    for seq, record in enumerate(records, 1):
        state = states[-1].copy()
        evolve(state, seq, record)
        states.append(state)
    return states


def subjects(state: State) -> list[tuple[SubjectKind, str]]:
    """All that there is to be explained of a state."""
    found: list[tuple[SubjectKind, str]] = [("replicaSet", one) for one in state.replica_sets]
    found += [("replicaSet", f"{name}@{number}") for name, number in state.revisions]
    found += [("volume", one) for one in state.volumes]
    found += [("gpu", one) for one in state.gpus]
    found += [("port", str(port)) for port in range(40000, 40005)]
    found += [("operation", one) for one in list(state.operations)[-3:]]
    return [*found, ("record", str((state.seq + 1) // 2))] if state.seq else found


class Asked:
    """A history, and one who explains it."""

    def __init__(self, records: Sequence[Record], explainer: Explainer) -> None:
        self.records = records
        self.states = states_of(records)
        self.explainer = explainer

    async def check_all_at(self, seq: int) -> None:
        """Everything there is at a point, and all of its history."""
        state = self.states[seq]
        for kind, name in subjects(state):
            for everything in (False, True):
                found = await self.explainer.explain(
                    kind, name, seq, LIMIT, everything=everything
                )
                assert found is not None, (kind, name)
                self.check_records(found, seq)
                self.check_answer(found, kind, name, seq)

    def check_records(self, found: Explanation, seq: int) -> None:
        """They are there, were there already, and are told in the order of the ledger."""
        seqs = [link.seq for link in found.chain]
        assert seqs == sorted(set(seqs))
        assert all(1 <= one <= seq for one in seqs)
        assert {fact.seq for fact in found.answer if fact.seq is not None} <= set(seqs)
        for link in found.chain:
            record = self.records[link.seq - 1]
            assert link.record.command_id == record.command_id
            assert link.says
            assert link.cause is None or 1 <= link.cause < link.seq
            assert link.ended_seq is None or link.ended_seq >= link.seq

    def check_answer(self, found: Explanation, kind: SubjectKind, name: str, seq: int) -> None:
        """It is what the state says, and the record cited is the one that made it so."""
        state = self.states[seq]
        texts = {fact.text: fact.seq for fact in found.answer}
        assert list(texts) == [fact.text for fact in found.answer]
        if kind == "replicaSet" and "@" not in name:
            self._check_replica_set(texts, name, seq)
        elif kind == "gpu" and (holder := state.gpus[name].holder):
            for number in state.gpus[name].revisions:
                title = f"{versioned(holder, number)} has {gpu_name(state, name)}"
                assert self.declares(texts[title], holder, number, seq)
        elif kind == "port" and (lease := state.ports.get(int(name))):
            title = f"{versioned(lease.holder, max(lease.revisions))} has host port {name}"
            (cited,) = (at for text, at in texts.items() if text.startswith(title))
            assert cited is not None
            assert concerns(self.records[cited - 1], "port", name)
        elif kind == "operation":
            operation = state.operations[name]
            assert next(iter(texts.values())) == operation.seq

    def _check_replica_set(self, texts: dict[str, int | None], name: str, seq: int) -> None:
        state = self.states[seq]
        replica_set = state.replica_sets[name]
        if not replica_set.current:
            self.came_to_be(texts[f"{name} is not there any more"], seq, lambda s: s.live(name))
            return
        number = replica_set.current
        revision = state.revisions[name, number]
        title = f"{name} is {versioned(name, number)}, by {revision.cause}"
        assert self.declares(texts[title], name, number, seq)
        phase = texts[f"it is to be {replica_set.phase}"]
        self.came_to_be(phase, seq, lambda s: s.replica_sets[name].phase)
        if revision.container != "absent":
            told = next(at for text, at in texts.items() if text.startswith("its container "))
            self.came_to_be(told, seq, lambda s: s.revisions[name, number].container)
        if revision.gpus:
            self.came_to_be(
                next(at for text, at in texts.items() if "GPU" in text and "it has" in text),
                seq,
                lambda s: held_gpus(s, name, number),
            )
        if revision.ports:
            self.came_to_be(
                next(at for text, at in texts.items() if "port" in text and "it has" in text),
                seq,
                lambda s: held_ports(s, name, number),
            )

    def came_to_be(self, cited: int | None, seq: int, seen: Seen) -> None:
        """Since the record cited it is as it is now."""
        assert cited is not None
        now = seen(self.states[seq])
        assert all(seen(state) == now for state in self.states[cited : seq + 1])

    def declares(self, cited: int | None, name: str, number: int, seq: int) -> bool:
        """Is it the record that declared a revision, the last time that one of this number was?"""
        numbers = [
            at
            for at, record in enumerate(self.records[:seq], 1)
            if any(
                isinstance(event, RevisionDeclared) and (event.name, event.number) == (name, number)
                for event in record.events
            )
        ]
        return cited == numbers[-1]


@settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(STEPS, HOSTS, st.floats(0, 1))
def test_everything_can_be_explained(steps: Sequence[Any], host: Facts, share: float) -> None:
    world, _ = play(steps, (host, host), 0)

    async def check() -> None:
        async with InlineStore() as store:
            await stored(world.records, store)
            past = past_of(world.records, store)
            asked = Asked(world.records, explainer_of(world.records, store, past))
            await asked.check_all_at(len(world.records))
            await asked.check_all_at(round(share * len(world.records)))

    asyncio.run(check())


@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(STEPS, HOSTS)
def test_a_choice_is_told_as_it_was_made(steps: Sequence[Any], host: Facts) -> None:
    """By the rules themselves, on what is told to have come first."""
    world, _ = play(steps, (host, host), 0)
    for before, record in zip(states_of(world.records), world.records, strict=False):
        for event in record.events:
            if not isinstance(event, RevisionDeclared) or event.in_place:
                continue
            count, name = event.spec.gpu_count, event.name
            prefer = preferred_gpus(before, event)
            assert place_gpus(before, name, count, prefer) == event.gpus
            told = [fact.text for fact in grounds(before, record)]
            taken = {text.partition(":")[0] for text in told if ": taken" in text}
            assert taken == {f"GPU {before.gpus[uuid].index}" for uuid in event.gpus}
            assert event.ports == place_ports(
                before,
                name,
                event.spec.container_ports,
                preferred_ports(before, event),
                host.port_first,
                host.port_last,
                resting_ports(before, record.at_us),
            )
