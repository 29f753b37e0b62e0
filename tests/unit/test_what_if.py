"""A history that is altered: what follows from it, and where it differs from the log."""

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from events.outcomes import ImageResolved
from events.resources import GpusLeased
from projections.state import State
from service.domain.alterations import (
    Alterations,
    AlterGpus,
    AlterRecord,
    InsertCommand,
    NoSuchHistory,
    see_that_it_makes_sense,
)
from service.domain.between import changes_between
from service.domain.commands import CreateVolume, Failed, RecordOutcome
from service.domain.effects import SizeVolume
from service.domain.invariants import check
from service.domain.replaying import Replay
from service.domain.what_if import Difference, OtherHistory, answered
from tests.kit.builders import GIB, facts, resize, run
from tests.kit.decided_log import BasisWorld
from tests.kit.replayed import Events, events_of, story

RUN_FOO, START_FOO, PATCH_FOO, STOP_FOO, FOO_STOPPED = 3, 6, 8, 18, 20
RUN_BAR, RESTART_FOO = 21, 26
RUN_BAZ: dict[str, Any] = {
    "type": "RunReplicaSet",
    "name": "baz",
    "spec": {"image": "train:1", "gpu_count": 1},
}


@pytest.fixture(scope="module")
def told() -> Events:
    """The story of foo and bar."""
    return events_of(story())


def altered(
    events: Events, *, unfinished: bool = False, **alterations: Any
) -> tuple[OtherHistory, list[Difference]]:
    """The history to its end; nothing may be broken in it after any record."""
    asked = Alterations(**alterations)
    see_that_it_makes_sense(asked)
    history = OtherHistory(asked, answered(events, asked.shared))
    found: list[Difference] = []
    for seq, event in events:
        found += history.step(seq, event)
        assert check(history.here) == ()
    replay = Replay()
    for seq, event in events:
        replay.step(seq, event)
    assert changes_between(replay.state, history.there) == changes_between(State(), State())
    running = [o for o in history.here.operations.values() if o.state == "running"]
    assert bool(running) is unfinished
    return history, found


def ways(differences: list[Difference]) -> list[tuple[int, str, str]]:
    return [(one.seq, one.how, one.record.verb) for one in differences]


def holders(history: OtherHistory) -> dict[str, str | None]:
    return {uuid: gpu.holder for uuid, gpu in history.here.gpus.items()}


def leased(difference: Difference) -> tuple[str, ...]:
    return next(event.uuids for event in difference.here if isinstance(event, GpusLeased))


def test_another_placement(told: Events) -> None:
    history, found = altered(told, placement="highest")
    assert ways(found)[:2] == [(RUN_FOO, "otherwise", "run"), (PATCH_FOO, "otherwise", "patch")]
    assert leased(found[0]) == ("gpu-3",)
    assert leased(found[1]) == ("gpu-2", "gpu-3")
    assert {one.how for one in found} == {"otherwise"}
    # bar had the highest one when foo was restarted.
    assert holders(history) == {"gpu-0": None, "gpu-1": "foo", "gpu-2": "foo", "gpu-3": None}


def test_the_gpu_that_was_given_back_first(told: Events) -> None:
    _, found = altered(told, placement="longest_free")
    assert ways(found)[0] == (RUN_BAR, "otherwise", "run")
    assert leased(found[0]) == ("gpu-2",), "gpu-0 and gpu-1 had been lent before"
    _, found = altered(told, placement="longest_free", after=FOO_STOPPED)
    assert leased(found[0]) == ("gpu-2",), "also when that was in what is shared"


def test_another_placement_from_a_record_on(told: Events) -> None:
    _, found = altered(told, placement="highest", after=PATCH_FOO)
    assert ways(found)[0] == (RUN_BAR, "otherwise", "run")


def test_placement_is_another_only_behind_its_record(told: Events) -> None:
    refused = InsertCommand(5, {"type": "StopReplicaSet", "name": "nobody"})
    _, found = altered(told, placement="highest", after=PATCH_FOO, inserts=(refused,))
    assert ways(found)[:2] == [(5, "refused", "stop"), (RUN_BAR, "otherwise", "run")]


def test_an_answer_is_about_the_effect_as_it_is_here(told: Events) -> None:
    other = AlterRecord(RUN_FOO, command={"spec": {"image": "b:2"}})
    _, found = altered(told, records=(other,))
    resolved = [e for one in found for e in one.here if isinstance(e, ImageResolved)]
    assert {event.image for event in resolved} == {"b:2"}


def test_the_answer_of_the_log_is_waited_for() -> None:
    """The volume could be resized at once, as nobody has to stand still; its answer comes later."""
    world = BasisWorld(2, facts(volumes_grow_online=False))
    for command in (CreateVolume("disk", GIB), run("foo", 1, 0, ("disk-1",)), resize("disk", 2)):
        world.send(command)
        world.drive(lambda effect: isinstance(effect, SizeVolume))
    ran = next(seq for seq, event in world.events if event.verb == "run")
    history, found = altered(world.events, records=(AlterRecord(ran, drop=True),))
    assert "only here" not in {one.how for one in found}
    (version,) = (v for v in history.here.volumes["disk"].versions if v.made)
    assert version.number == 1, "it failed in the log"


def test_what_the_log_comes_to_by_itself_is_not_done_before() -> None:
    told = events_of(story(keep_revisions=1))
    assert "expire" in {event.verb for _, event in told}
    _, found = altered(told, placement="highest")
    assert {one.how for one in found} == {"otherwise"}
    assert "expire" not in {one.record.verb for one in found}


def test_a_patch_to_more_gpus(told: Events) -> None:
    change = AlterRecord(PATCH_FOO, command={"gpu_count": 3})
    history, found = altered(told, records=(change,))
    assert found[0].seq == PATCH_FOO
    assert leased(found[0]) == ("gpu-0", "gpu-1", "gpu-2")
    assert list(holders(history).values()).count("foo") == 3


def test_a_patch_that_could_not_have_been(told: Events) -> None:
    change = AlterRecord(PATCH_FOO, command={"gpu_count": 5})
    history, found = altered(told, records=(change,))
    assert (found[0].seq, found[0].how) == (PATCH_FOO, "refused")
    assert found[0].why == "gpus_exhausted: 5 GPUs asked for, 3 free beside its own 1"
    # Its outcomes are in the log alone; later commands go on from foo-1.
    gone = [one.seq for one in found if one.how == "only there" and one.seq < STOP_FOO]
    assert gone == list(range(PATCH_FOO + 1, PATCH_FOO + 7))
    assert history.here.replica_sets["foo"].current == 2


def test_a_command_that_was_never_there(told: Events) -> None:
    history, found = altered(told, records=(AlterRecord(RUN_BAR, drop=True),))
    assert (found[0].how, found[0].why) == ("only there", "dropped")
    assert "bar" not in history.here.replica_sets
    # Neither was there anything to delete, which is refused.
    assert ("refused", "delete") in {(one.how, one.record.verb) for one in found}
    restarted = next(one for one in found if one.seq == RESTART_FOO)
    assert leased(restarted) == ("gpu-0", "gpu-1")


def test_a_command_more_is_done_at_once(told: Events) -> None:
    history, found = altered(told, inserts=(InsertCommand(STOP_FOO - 1, RUN_BAZ, "ann"),))
    added = [one for one in found if one.how == "only here"]
    assert [one.record.verb for one in added] == ["run", *["outcome"] * 4]
    assert {one.seq for one in added} == {STOP_FOO - 1}
    assert added[0].record.actor == "ann"
    baz = history.here.replica_sets["baz"]
    assert (baz.phase, history.here.revisions["baz", 1].container) == ("running", "running")


def test_a_command_more_that_is_refused(told: Events) -> None:
    stop = {"type": "StopReplicaSet", "name": "nobody"}
    _, found = altered(told, inserts=(InsertCommand(5, stop),))
    assert ways(found) == [(5, "refused", "stop")]
    assert found[0].why == "replica_set_not_found: there is no replica set nobody"


def test_a_command_between_is_refused_while_another_goes_on(told: Events) -> None:
    """The answers that the log has come at their time, and not before."""
    stop = {"type": "StopReplicaSet", "name": "foo"}
    _, found = altered(told, inserts=(InsertCommand(START_FOO - 1, stop),))
    assert [one.how for one in found] == ["refused"]
    assert "foo is busy with a run" in found[0].why


def test_one_gpu_more(told: Events) -> None:
    change = AlterRecord(PATCH_FOO, command={"gpu_count": 5})
    history, found = altered(told, records=(change,), gpus=(AlterGpus(4, add=1),))
    assert ways(found)[:2] == [(4, "only here", "observe"), (PATCH_FOO, "otherwise", "patch")]
    assert leased(found[1]) == ("gpu-0", "gpu-1", "gpu-2", "gpu-3", "GPU-added-1")
    assert history.here.gpus["GPU-added-1"].index == 4


def test_a_gpu_less(told: Events) -> None:
    history, found = altered(told, gpus=(AlterGpus(2, remove=("gpu-0",)),))
    assert ways(found)[:2] == [(2, "only here", "observe"), (RUN_FOO, "otherwise", "run")]
    assert leased(found[1]) == ("gpu-1",)
    assert history.here.gpus["gpu-0"].present is False


def test_gpus_stay_altered_when_the_driver_is_looked_at_again(told: Events) -> None:
    host_booted = next(event for _, event in told if event.verb == "observe")
    again = [*told, (len(told) + 1, host_booted)]
    history, _ = altered(again, gpus=(AlterGpus(4, add=2), AlterGpus(9, remove=("gpu-0",))))
    there = {uuid for uuid, gpu in history.here.gpus.items() if gpu.present}
    assert there == {"gpu-1", "gpu-2", "gpu-3", "GPU-added-1", "GPU-added-2"}


def test_other_facts(told: Events) -> None:
    history, found = altered(told, facts={"port_first": 40_004, "port_last": 40_009})
    assert found[0].seq == RUN_FOO
    assert set(history.here.ports) == {40_004}


def test_kept_disks_are_given_up_as_the_service_would(told: Events) -> None:
    """No record of the log asks for that: there, nothing was due."""
    history, found = altered(told, facts={"keep_revisions": 1})
    expired = [one for one in found if one.record.verb == "expire"]
    assert [one.how for one in expired] == ["only here"]
    assert len(history.here.replica_sets["foo"].snapshots) == 1
    assert len(history.there.replica_sets["foo"].snapshots) == 2


def test_an_answer_that_was_another(told: Events) -> None:
    refused = {"type": "Failed", "reason": "no_space", "message": "no space left on device"}
    change = AlterRecord(START_FOO, command={"outcome": refused})
    history, found = altered(told, records=(change,))
    assert found[0].seq == START_FOO
    command = found[0].command
    assert isinstance(command, RecordOutcome)
    assert command.outcome == Failed("no_space", "no space left on device")
    # The run is undone; so there is no foo to patch, stop and restart.
    assert "foo" not in {s.name for s in history.here.replica_sets.values() if s.current}
    assert Counter(one.how for one in found)["refused"] >= 3


def test_nothing_is_presumed_of_what_the_log_ends_before(told: Events) -> None:
    """The patch goes on at the end of the log, in both histories."""
    begun = told[: PATCH_FOO + 1]
    history, found = altered(begun, unfinished=True, placement="highest")
    assert ways(found) == [(RUN_FOO, "otherwise", "run"), (PATCH_FOO, "otherwise", "patch")]
    assert history.here.operations[begun[-1][1].operationid].state == "running"


def test_a_record_that_cannot_be_decided_anew(told: Events) -> None:
    seq, event = told[PATCH_FOO - 1]
    old = [*told[: seq - 1], (seq, replace(event, data=replace(event.data, basis=None)))]
    altered(old, unfinished=True, inserts=(InsertCommand(seq, RUN_BAZ),))
    with pytest.raises(NoSuchHistory, match=r"record 8 was stored without what it was decided on"):
        altered(old, placement="highest")


@pytest.mark.parametrize(
    ("alterations", "words"),
    [
        ({}, "nothing is altered"),
        ({"after": 4}, "nothing is altered"),
        ({"records": (AlterRecord(3),)}, "record 3: give either drop = true or command"),
        ({"records": (AlterRecord(3, True, {"a": 1}),)}, "record 3: give either"),
        ({"records": (AlterRecord(3, True), AlterRecord(3, True))}, "altered twice"),
        ({"records": (AlterRecord(0, True),)}, "the first record has seq 1"),
        ({"gpus": (AlterGpus(3),)}, "gpus after 3: give add"),
        ({"facts": {"ports": 3}}, "a host has no ports; it has node, gpu_runtime, port_first"),
        ({"facts": {"port_first": "a"}}, r"facts: Expected `int`, got `str` - at `\$.port_first`"),
        (
            {"inserts": (InsertCommand(3, {"type": "FlyAway"}),)},
            "the insertion after 3: Invalid value 'FlyAway'",
        ),
        ({"inserts": (InsertCommand(3, {"name": "foo"}),)}, "missing required field `type`"),
        (
            {"inserts": (InsertCommand(3, {**RUN_BAZ, "gpus": 1}),)},
            "is a RunReplicaSet, which has no gpus; it has name, spec, data_disk_bytes",
        ),
    ],
)
def test_what_makes_no_sense(alterations: dict[str, Any], words: str) -> None:
    with pytest.raises(NoSuchHistory, match=words):
        see_that_it_makes_sense(Alterations(**alterations))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"gpus": 3}, "record 8 is a PatchReplicaSet, which has no gpus; it has name, gpu_count"),
        ({"gpu_count": "many"}, "record 8: Expected"),
    ],
)
def test_a_change_that_the_command_cannot_have(
    told: Events, command: dict[str, Any], words: str
) -> None:
    with pytest.raises(NoSuchHistory, match=words):
        altered(told, records=(AlterRecord(PATCH_FOO, command=command),))
