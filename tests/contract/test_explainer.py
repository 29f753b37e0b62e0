"""Explanations: each question there is, on histories made by the rules, from rows and ledger."""

import pytest

from events.observations import GpuAccessRestored
from events.record import Record
from service.application.explainer import SCANNED_MAX
from service.application.stored_records import GAP_MAX, StoredRecords
from service.domain.commands import (
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    PinRevision,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import StartContainer
from service.domain.explaining_refusals import Refused
from service.domain.observing_commands import RetryReplicaSet
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, NODE, facts, patch, run
from tests.kit.explained import (
    asked_of,
    explained,
    grounds,
    link_of,
    place_of,
    refused_because,
    seq_of,
    texts,
)
from tests.kit.gwt import failing, given, unfinished
from tests.kit.past import ListedLedger
from tests.kit.sightings import ended


class TestReplicaSet:
    async def test_why_it_is_as_it_is(self) -> None:
        world = given(run("foo", 1, 1), patch("foo", 2)).world
        found = await explained(world.records, "replicaSet", "foo")
        assert texts(found) == [
            "foo is foo-2, by patch",
            "it is to be running",
            "its container runs since i",
            "it has GPU 0, GPU 1",
            "it has host port 40000->22/tcp",
        ]
        declared = place_of(found, "foo is foo-2")
        assert link_of(found, "foo-2 is to be").outcome == "succeeded"
        assert grounds(found, "foo-2 is to be")[:4] == [
            "other than in foo-1: gpuCount 1 -> 2",
            "2 GPUs asked for, 2 of 2 could be had; first come those of foo-1, then the lowest"
            " indexes",
            "GPU 0: taken, foo-1 has it already",
            "GPU 1: taken, nobody has it",
        ]
        started = link_of(found, "the container foo-2 runs")
        assert started.cause == declared
        assert all("run of foo" not in text for link in found.chain for text in link.says)

    async def test_a_patch_that_failed(self) -> None:
        world = given(run("foo", 1), failing(patch("foo", 2), StartContainer)).world
        found = await explained(world.records, "replicaSet", "foo")
        assert texts(found)[0] == "foo is foo-1, by run"
        end = place_of(found, "the last that was asked for failed, patch of foo: the engine does")
        assert end == len(world.records)
        asked = link_of(found, "patch of foo was accepted")
        assert (asked.outcome, asked.ended_seq) == ("failed (refused)", end)
        assert link_of(found, "foo-2 was undone; foo-1 is current again").cause == asked.seq

    async def test_a_number_that_was_used_before(self) -> None:
        """The version of that number that failed is not the one that is there."""
        failed = failing(patch("foo", 2), StartContainer)
        world = given(run("foo", 1), failed, patch("foo", 2)).world
        found = await explained(world.records, "replicaSet", "foo")
        assert place_of(found, "foo is foo-2") == seq_of(world, "foo.3")

    async def test_a_patch_of_a_stopped_one_that_failed(self) -> None:
        failed = failing(patch("foo", 2), StartContainer)
        world = given(run("foo", 1), StopReplicaSet("foo"), failed).world
        found = await explained(world.records, "replicaSet", "foo")
        assert place_of(found, "it is to be stopped") == len(world.records)

    async def test_one_that_is_started_again(self) -> None:
        world = given(run("foo", 1, on_exit="restart", max_retries=3)).world
        world.send(ended("foo"))
        found = await explained(world.records, "replicaSet", "foo")
        exited = place_of(found, "its container ended by itself, with exit code 1")
        assert place_of(found, "it is to be started again at 1970-01-01T00:00:00Z") == exited
        assert grounds(found, "ended by itself") == [
            "onExit of foo-1 is restart, 3 times in a row"
        ]
        world.send(RetryReplicaSet("foo", 1))
        world.drive()
        found = await explained(world.records, "replicaSet", "foo")
        started = link_of(found, "the container foo-1 runs")
        begun = link_of(found, "foo-1 is started again now")
        assert place_of(found, "its container runs") == started.seq
        assert (started.cause, begun.cause) == (begun.seq, exited)

    async def test_a_version_that_a_retry_declared(self) -> None:
        world = given(run("foo", 1, 1, on_exit="restart")).world
        world.send(ended("foo"))
        world.send(RetryReplicaSet("foo", 1))
        (effect,) = world.due()
        assert isinstance(effect, StartContainer)
        world.refuse_port(effect)
        scheduled = len(world.records)
        world.send(RetryReplicaSet("foo", 2))
        world.drive()
        found = await explained(world.records, "replicaSet", "foo")
        assert place_of(found, "foo is foo-2, by restart") == scheduled + 1
        assert link_of(found, "foo-2 is to be").cause == scheduled

    async def test_one_that_was_deleted(self) -> None:
        world = given(run("foo", 1), DeleteReplicaSet("foo")).world
        found = await explained(world.records, "replicaSet", "foo")
        assert place_of(found, "foo is not there any more") == len(world.records)
        assert link_of(found, "delete of foo was accepted").ended_seq == len(world.records)

    async def test_what_goes_on(self) -> None:
        world = given(run("foo", 1), unfinished(patch("foo", 2), 1)).world
        found = await explained(world.records, "replicaSet", "foo")
        asked = place_of(found, "patch of foo goes on, operation foo.2")
        link = link_of(found, "patch of foo was accepted")
        assert (link.seq, link.outcome, link.ended_seq) == (asked, "goes on", None)

    async def test_commands_in_it_change_nothing(self) -> None:
        world = given(run("foo", 1), *[ExecuteInReplicaSet("foo", ("true",))] * 3).world
        found = await explained(world.records, "replicaSet", "foo")
        assert all("command" not in text for link in found.chain for text in link.says)
        found = await explained(world.records, "replicaSet", "foo", everything=True)
        said = [text for link in found.chain for text in link.says]
        assert said.count("a command is to be run in foo-1: true") == 3

    async def test_as_it_was(self) -> None:
        world = given(run("foo", 1), patch("foo", 2)).world
        run_ended = seq_of(world, "/settle/done")
        found = await explained(world.records, "replicaSet", "foo", run_ended)
        assert texts(found)[0] == "foo is foo-1, by run"
        assert max(link.seq for link in found.chain) <= run_ended

    async def test_the_whole_history_has_a_bound(self) -> None:
        world = given(run("foo", 1), StopReplicaSet("foo"), RestartReplicaSet("foo")).world
        whole = await explained(world.records, "replicaSet", "foo", everything=True)
        own = [seq for seq, one in enumerate(world.records, 1) if one.name == "foo"]
        assert ([link.seq for link in whole.chain], whole.older) == (own, False)
        some = await explained(world.records, "replicaSet", "foo", limit=3, everything=True)
        assert [link.seq for link in some.chain][-3:] == own[-3:]
        assert some.older

    async def test_only_so_many_records_are_looked_at(self) -> None:
        world = given(run("foo", 1)).world
        noise = Record("n", NODE, "replica_set", "foo", "x", 0, (GpuAccessRestored("foo", 1),))
        found = await explained([*world.records, *[noise] * SCANNED_MAX], "replicaSet", "foo")
        assert place_of(found, "its container runs") is None
        assert found.older
        told = Record("n", NODE, "replica_set", "foo", "execute", 0, noise.events)
        records = [*world.records, *[noise] * 300, *[told] * SCANNED_MAX]
        found = await explained(records, "replicaSet", "foo")
        assert place_of(found, "its container runs") is not None
        assert not found.older


class TestVersion:
    async def test_where_its_disk_is(self) -> None:
        world = given(
            run("foo", 1), patch("foo"), PinRevision("foo", 1), RollBackReplicaSet("foo", 1)
        ).world
        found = await explained(world.records, "replicaSet", "foo@1")
        assert "foo-1 was declared by run" in texts(found)
        kept = place_of(found, "its system disk is kept, 1B")
        pinned = place_of(found, "its system disk is kept until it is unpinned")
        retired = place_of(found, "the current version is foo-3")
        assert kept is not None
        assert pinned is not None
        assert retired is not None
        assert kept < retired < pinned
        third = await explained(world.records, "replicaSet", "foo@3")
        assert "as foo-1 was" in link_of(third, "foo-3 is to be").says[1]

    async def test_one_whose_container_went_on(self) -> None:
        commands = run("foo", 1, memory_bytes=GIB), patch("foo", memory_bytes=2 * GIB)
        world = given(*commands, on=facts(gpu_runtime="cdi")).world
        found = await explained(world.records, "replicaSet", "foo@1")
        assert not any(text.startswith("its container was removed") for text in texts(found))
        assert place_of(found, "its container, with its system disk, went on as foo-2")
        assert "its container goes on, with its GPUs and ports" in " ".join(
            grounds(await explained(world.records, "replicaSet", "foo"), "foo-2 is to be")
        )


class TestOperationAndRecord:
    async def test_all_that_was_done(self) -> None:
        world = given(run("foo", 1), failing(patch("foo", 2), StartContainer)).world
        found = await explained(world.records, "operation", "foo.2")
        of_it = [s for s, one in enumerate(world.records, 1) if one.operation_id == "foo.2"]
        assert [link.seq for link in found.chain] == of_it
        assert place_of(found, "patch of foo, failed after 0.0 s") == of_it[0]
        assert place_of(found, "it failed (refused): the engine does not want to") == of_it[-1]
        assert "StartContainer of foo-2 failed (refused): the engine does not want to" in (
            link_of(found, "StartContainer of foo-2").says
        )

    async def test_one_record(self) -> None:
        world = given(run("foo", 1)).world
        started = seq_of(world, "/start-foo-1/done")
        found = await explained(world.records, "record", str(started))
        assert texts(found) == ["the container foo-1 runs since i"]
        assert [link.seq for link in found.chain] == [3, started]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("replicaSet", "bar"),
        ("replicaSet", "foo@2"),
        ("replicaSet", "foo@0"),
        ("replicaSet", "foo@"),
        ("volume", "foo"),
        ("gpu", "2"),
        ("gpu", "gpu-9"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "x"),
        ("operation", "foo.2"),
        ("record", "0"),
        ("record", "99"),
        ("record", "٣"),
    ],
)
async def test_what_is_not_there(kind: str, name: str) -> None:
    world = given(run("foo", 1)).world
    assert await asked_of(world.records, kind, name) is None  # type: ignore[arg-type]


async def test_who_has_the_gpus_that_one_was_refused() -> None:
    decided = given(run("bar", 1), patch("bar", 2)).when(run("foo", 1))
    assert isinstance(decided.decision, Rejected)
    refused = Refused("replica_set", "foo", Reason.GPUS_EXHAUSTED, decided.decision.message)
    found = await refused_because(decided.world.records, refused)
    second = seq_of(decided.world, "bar.2")
    assert [(fact.text, fact.seq) for fact in found.answer] == [
        ("0 of 2 GPUs could be had", None),
        ("GPU 0: bar-2 has it", second),
        ("GPU 1: bar-2 has it", second),
    ]
    assert [link.seq for link in found.chain] == [second]


async def test_records_that_are_near_are_read_in_one_go() -> None:
    world = given(run("foo", 1)).world
    history = [world.records[0]] * (4 * GAP_MAX)
    ledger = ListedLedger(history)
    records = StoredRecords(ledger.read)
    far = 3 * GAP_MAX
    assert [told.seq for told in await records.told([far, 5, 1, far + 1])] == [far, 5, 1, far + 1]
    assert ledger.read_records == 5 + 2
    assert (await records.one(5)).record == history[4]
    assert ledger.read_records == 5 + 2
