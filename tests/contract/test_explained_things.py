"""Explanations of GPUs, host ports and volumes: who has them and why, or why nobody may."""

from events.gpu_health import GpuError, GpuReport
from service.domain.commands import (
    CreateVolume,
    DeleteReplicaSet,
    ObserveGpus,
    QuarantineGpu,
    ReportGpuErrors,
    StopReplicaSet,
)
from service.domain.effects import StartContainer
from service.domain.port_moves import REST_US
from tests.kit.builders import GIB, facts, gpu, resize, run
from tests.kit.explained import (
    explained,
    grounds,
    link_of,
    place_of,
    seq_of,
    texts,
)
from tests.kit.gwt import at, given, unfinished


class TestGpu:
    async def test_why_this_one(self) -> None:
        world = given(run("bar", 1), QuarantineGpu("gpu-1", "noisy"), run("foo", 1), gpus=4).world
        found = await explained(world.records, "gpu", "2")
        assert texts(found)[0] == "foo-1 has GPU 2"
        link = link_of(found, "foo-1 is to be")
        assert link.seq == place_of(found, "foo-1 has GPU 2")
        bar = seq_of(world, "bar.1")
        hand = seq_of(world, "gpu-1.1")
        assert [(fact.text, fact.seq) for fact in link.grounds] == [
            ("1 GPU asked for, 2 of 4 could be had; first come the lowest indexes", None),
            ("GPU 2: taken, nobody has it", None),
            ("GPU 0: bar-1 has it", bar),
            ("GPU 1: in quarantine by hand: noisy", hand),
            ("GPU 3: not needed", None),
        ]

    async def test_one_that_is_sick(self) -> None:
        world = given().world
        world.send(ReportGpuErrors((GpuError("gpu-1", 79),), "b1"))
        found = await explained(world.records, "gpu", "gpu-1")
        assert texts(found)[0] == "nobody has GPU 1"
        report = len(world.records)
        assert place_of(found, "it is not lent, in quarantine by the rules: ") == report
        assert place_of(found, "it is sick: ") == report
        shown = next(link for link in found.chain if link.seq == 2)
        assert shown.says == ("the driver shows GPU 1, NVIDIA H100: gpu-1",)

    async def test_one_with_processes_of_the_host(self) -> None:
        world = given().world
        two = tuple(map(gpu, range(2)))
        world.send(ObserveGpus(two, (GpuReport("gpu-0", pids=(7,)),), (), "b1"))
        found = await explained(world.records, "gpu", "0")
        text = "it is not lent: process 7 of the host is on it"
        assert place_of(found, text) == len(world.records)
        world.send(ObserveGpus(two[1:], (), (), "b1"))
        found = await explained(world.records, "gpu", "0")
        assert place_of(found, "it is not lent: the driver does not show it") == len(world.records)

    async def test_one_that_was_given_back(self) -> None:
        world = given(run("foo", 1), StopReplicaSet("foo")).world
        found = await explained(world.records, "gpu", "0")
        assert place_of(found, "nobody has GPU 0; foo-1 had it") == len(world.records)
        assert "it may be lent" in texts(found)
        history = await explained(world.records, "gpu", "0", everything=True)
        assert link_of(history, "GPU 0 lent to foo-1").record.command_id == "foo.1"

    async def test_who_had_it_last(self) -> None:
        foo = run("foo", 1), StopReplicaSet("foo")
        bar = run("bar", 1), StopReplicaSet("bar")
        world = given(at(1), *foo, at(2), *bar).world
        found = await explained(world.records, "gpu", "0")
        assert place_of(found, "nobody has GPU 0; bar-1 had it") == len(world.records)
        world = given(at(1), *bar, at(2), *foo).world
        found = await explained(world.records, "gpu", "0")
        assert place_of(found, "nobody has GPU 0; foo-1 had it") == len(world.records)

    async def test_other_gpus_are_not_in_its_history(self) -> None:
        world = given(run("foo", 1)).world
        world.send(ReportGpuErrors((GpuError("gpu-1", 79),), "b1"))
        for index, seqs in ((0, [2, 3]), (1, [2, len(world.records)])):
            found = await explained(world.records, "gpu", str(index), everything=True)
            assert [link.seq for link in found.chain] == seqs


class TestPort:
    async def test_one_that_moved(self) -> None:
        world = given(unfinished(run("foo", ports=1), 2), on=facts(4)).world
        (effect,) = world.due()
        assert isinstance(effect, StartContainer)
        world.refuse_port(effect)
        moved = len(world.records)
        world.drive()
        new = await explained(world.records, "port", "40001")
        assert place_of(new, "foo-1 has host port 40001, for 22/tcp") == moved
        assert "host port 40001 for 22/tcp: the next free one after 40000, which was lent last" in (
            grounds(new, "gets the host ports")
        )
        old = await explained(world.records, "port", "40000", moved)
        assert place_of(old, "it is not lent until 1970-01-01T00:10:00Z") == moved

    async def test_one_that_rests_no_more(self) -> None:
        world = given(unfinished(run("foo", ports=1), 2), on=facts(4)).world
        (effect,) = world.due()
        assert isinstance(effect, StartContainer)
        world.refuse_port(effect)
        moved = len(world.records)
        at(REST_US + 1)(world)
        world.send(CreateVolume("disk", GIB))
        then = await explained(world.records, "port", "40000", moved)
        now = await explained(world.records, "port", "40000")
        assert any(text.startswith("it is not lent until") for text in texts(then))
        assert not any(text.startswith("it is not lent until") for text in texts(now))

    async def test_free_ones(self) -> None:
        world = given(run("foo", ports=1), DeleteReplicaSet("foo")).world
        found = await explained(world.records, "port", "40000")
        assert place_of(found, "nobody has host port 40000; foo-1 had it") == len(world.records)
        assert texts(found)[-1] == "it may be lent"
        outside = await explained(world.records, "port", "80")
        assert texts(outside)[-1].startswith("it is outside of the range 40000-40009")


class TestVolume:
    async def test_its_size_and_its_users(self) -> None:
        made = CreateVolume("disk", GIB), run("foo", 1, mounts=("disk-1",)), resize("disk", 2)
        world = given(*made).world
        found = await explained(world.records, "volume", "disk")
        assert "it can be mounted" in texts(found)
        resized = seq_of(world, "disk.2")
        assert place_of(found, "volume disk is disk-2 with 2GB, by resize") == resized
        user = seq_of(world, "foo.1")
        assert place_of(found, "foo-1 uses it") == user
        assert not any(link.grounds for link in found.chain)

    async def test_a_data_disk_came_with_its_set(self) -> None:
        world = given(run("foo", data_disk_bytes=GIB)).world
        found = await explained(world.records, "volume", "foo")
        declared = place_of(found, "volume foo is foo-1 with 1GB, by run")
        assert world.records[(declared or 0) - 1].command_id == "foo.1"
