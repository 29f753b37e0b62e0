"""What is still used when nothing is going on: exactly what the state says is there."""

from collections.abc import Iterable

from projections.state import State
from projections.usage import Interval


def expect_used(state: State, intervals: Iterable[Interval]) -> None:
    """The open intervals against the state, which knows of none."""
    left = [one for one in intervals if one.ended_us is None]
    of = {meter: {(i.name, i.number) for i in left if i.meter == meter} for meter in METERS}
    runs = {
        (r.name, r.number)
        for r in state.revisions.values()
        if r.container == "running" and not r.stray
    }
    assert of["cpu"] == of["memory"] == runs
    kept = {(r.name, r.number) for r in state.revisions.values() if r.snapshot is not None}
    assert of["snapshot"] == kept
    volumes = {(v.name, v.current) for v in state.volumes.values() if v.current and not v.deleted}
    assert of["volume"] == volumes
    lent = {
        (unit.holder or "", number, unit.uuid)
        for unit in state.gpus.values()
        for number in unit.revisions
    }
    used = {(i.name, i.number, i.gpu): i.kept for i in left if i.gpu}
    assert used.keys() <= lent
    assert {one for one, why in used.items() if not why} == {o for o in lent if o[:2] in runs}
    paused = {s.name for s in state.replica_sets.values() if s.phase == "paused"}
    assert {name for (name, _, _), why in used.items() if why == "paused"} <= paused


METERS = ("gpu", "cpu", "memory", "volume", "snapshot")
