"""A lost host is made again, whatever was going on, and whatever is missing."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.domain.commands import PauseReplicaSet, Request, StopReplicaSet
from service.domain.recovery_plan import Outcome
from tests.kit.builders import GIB, IMAGE, OWNER, PORT_FIRST, gpu, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import run_virtually
from tests.simulation.lost_hosts import (
    FURNISHED,
    WRITTEN,
    RecoveringService,
    check_recovered,
    furnished,
    lose,
    recovered,
    shown,
)


def made(**changes: Any) -> SimulatedHost:
    return SimulatedHost(**{"gpus": 2, "system_disk": "auto", **changes})


def told(outcomes: Sequence[Outcome]) -> dict[str, bool]:
    return {f"{one.verb} {one.name}": one.succeeded for one in outcomes}


@pytest.mark.parametrize("system_disk", ["auto", "commit"])
def test_all_is_made_again_as_it_was(system_disk: str) -> None:
    async def play() -> None:
        host = made(system_disk=system_disk)
        await furnished(host)
        before = shown(host)
        lose(host, disks=False, kept=False)
        _, outcomes = await recovered(host)
        every = ("replica_set", "bar"), ("replica_set", "foo")
        assert all(one.succeeded for one in outcomes)
        assert {(one.kind, one.name) for one in outcomes} >= {*every, ("volume", "vol")}
        after = shown(host)
        statuses = {name: one[0] for name, one in after["containers"].items()}
        assert statuses == {"foo-2": "running", "bar-1": "created", "baz-1": "created"}
        for name, (_, *same) in after["containers"].items():
            assert same == list(before["containers"][name][1:])
        assert {key: after[key] for key in ("volumes", "disks", "kept")} == {
            key: before[key] for key in ("volumes", "disks", "kept")
        }
        await check_recovered(host)

    run_virtually(play())


def test_what_is_there_is_left_alone() -> None:
    """The data directory was lost, and Docker runs on."""

    async def play() -> None:
        host = made()
        await furnished(host)
        before, seq = shown(host), await host.ledger.last_seq()
        plan, outcomes = await recovered(host)
        assert outcomes == ()
        assert {step.verdict for step in plan.steps} == {"here"}
        assert shown(host) == before
        assert await host.ledger.last_seq() == seq
        await check_recovered(host)

    run_virtually(play())


def test_disks_that_were_lost_below_running_containers_are_made_anew() -> None:
    """The data directory was lost with what was in it, and Docker runs on."""

    async def play() -> None:
        host = made()
        await furnished(host)
        before = shown(host)
        host.volumes.disks.clear()
        plan, outcomes = await recovered(host)
        assert told(outcomes) == {"recover baz": True, "recover vol": True}
        (step,) = [step for step in plan.steps if step.name == "vol-1"]
        assert "foo-2 is here" in step.notes[0]
        assert shown(host) == before
        await check_recovered(host)

    run_virtually(play())


def test_other_gpus_take_the_place_of_those_that_are_not_there() -> None:
    async def play() -> None:
        host = made(gpus=3)
        await furnished(host)
        kept_gpu = host.world.containers["foo-2"].gpus()
        lose(host)
        host.probe.shown = [gpu(0), gpu(7)]
        plan, _ = await recovered(host)
        assert host.world.containers["foo-2"].gpus() == kept_gpu == ("gpu-0",)
        assert host.world.containers["bar-1"].gpus() == ("gpu-7",)
        notes = {step.name: step.notes for step in plan.steps if step.kind == "replica_set"}
        assert notes["bar-1"] == ("GPUs gpu-7 in place of gpu-1",)
        await check_recovered(host)

    run_virtually(play())


def test_who_finds_no_gpu_is_made_and_stopped() -> None:
    async def play() -> None:
        host = made()
        await furnished(host)
        lose(host)
        host.probe.shown = [gpu(1)]
        plan, outcomes = await recovered(host)
        assert all(told(outcomes).values())
        (loss,) = [loss for loss in plan.losses if "is stopped" in loss]
        assert loss.startswith("foo-2: it was running and is stopped: 1 GPUs asked for, 0 free")
        assert host.world.containers["foo-2"].status == "created"
        assert host.world.containers["bar-1"].gpus() == ("gpu-1",)
        await check_recovered(host)

    run_virtually(play())


def test_what_cannot_be_made_is_made_when_it_is_run_again() -> None:
    async def play() -> None:
        host = made()
        await furnished(host)
        image = host.world.images.pop(IMAGE)
        lose(host)
        plan, outcomes = await recovered(host)
        assert {s.verdict for s in plan.steps if s.kind == "replica_set"} == {"cannot"}
        failed = sorted(one.name for one in outcomes if not one.succeeded)
        assert failed == ["bar", "baz", "foo"]  # each tried once
        await check_recovered(host)
        host.world.images[IMAGE] = image
        _, again = await recovered(host)
        assert all(told(again).values())
        assert host.world.containers["foo-2"].status == "running"
        assert host.world.containers["bar-1"].gpus() == ("gpu-1",)
        await check_recovered(host)

    run_virtually(play())


def test_a_volume_that_cannot_be_made_takes_its_users_along_and_no_data() -> None:
    async def play() -> None:
        host = made()
        await furnished(host, FURNISHED[:3])
        lose(host, disks=False)
        host.volumes.faults = lambda verb, name: "refuse" if verb == "create_disk" else None
        _, outcomes = await recovered(host)
        words = {one.kind: one.message for one in outcomes}
        assert not any(one.succeeded for one in outcomes)
        assert "volume vol, which it binds, was lost" in words["replica_set"]
        assert set(host.volumes.disks) == {"vol"}
        host.volumes.faults = lambda verb, name: None
        _, again = await recovered(host)
        assert told(again) == {"recover vol": True, "recover foo": True}
        assert host.world.containers["foo-1"].status == "running"
        await check_recovered(host)

    run_virtually(play())


async def interrupted(host: SimulatedHost, command: Request, verb: str) -> None:
    """The host is lost when the engine is asked for this: what was going on has no end."""
    reached = asyncio.Event()

    def fault(asked: str, name: str) -> str | None:
        if asked == verb:
            reached.set()
        return "before" if reached.is_set() else None

    engine = SimulatedEngine(host.world, owner=OWNER, faults=fault)
    async with SimulatedService(host, engine=engine) as service:
        await service.submit(command)
        await reached.wait()


GOING_ON: list[tuple[Request, str, dict[str, bool]]] = [
    (patch("foo", 2), "create_container", {"patch foo": True}),
    (patch("foo", 2), "start_container", {"patch foo": True}),
    (patch("foo", memory_bytes=GIB), "rename_container", {"patch foo": True}),
    (StopReplicaSet("foo"), "stop_container", {"recover foo": True, "stop foo": True}),
    (PauseReplicaSet("foo"), "stop_container", {"pause foo": True, "recover foo": True}),
    (run("new"), "create_container", {"recover foo": True, "run new": True}),
]


@pytest.mark.parametrize("system_disk", ["auto", "commit"])
@pytest.mark.parametrize(("command", "verb", "ends"), GOING_ON)
def test_what_was_going_on_comes_to_its_end(
    command: Request, verb: str, ends: dict[str, bool], system_disk: str
) -> None:
    async def play() -> None:
        host = made(system_disk=system_disk)
        await furnished(host, (run("foo", 0, 1), WRITTEN))
        await interrupted(host, command, verb)
        lose(host)
        _, outcomes = await recovered(host)
        assert told(outcomes) == ends
        await check_recovered(host)

    run_virtually(play())


def test_what_had_failed_is_undone_and_then_made_again() -> None:
    async def play() -> None:
        host = made()
        await furnished(host, (run("foo", 1, 1),))
        failing = patch("foo", cmd=("no-such-command",))
        await interrupted(host, failing, "remove_container")
        lose(host)
        plan, outcomes = await recovered(host)
        assert told(outcomes) == {"patch foo": False, "recover foo": True}
        assert plan.steps[0].what == "made again once what had failed is undone"
        assert {c.name: c.status for c in host.world.containers.values()} == {"foo-1": "running"}
        await check_recovered(host)

    run_virtually(play())


@pytest.mark.parametrize(("owner", "words"), [("", "somebody else"), (OWNER, "not in this log")])
def test_what_is_in_the_way_is_named(owner: str, words: str) -> None:
    async def play() -> None:
        host = made()
        await furnished(host, (run("foo"),))
        other = host.world.containers["foo-1"]
        name = "foo-1" if not owner else "foo-2"
        lose(host)
        other.name = name
        other.config["Labels"] = {**other.labels, "gpuledger.owner": owner}
        host.world.containers[name] = other
        async with RecoveringService(host) as service:
            await service.gate.require()
            (why,) = (await service.recovery.plan()).in_the_way
        assert name in why
        assert words in why

    run_virtually(play())


def test_another_process_on_a_port_moves_it() -> None:
    async def play() -> None:
        host = made()
        await furnished(host, (run("foo", 0, 1),))
        lose(host)
        host.world.listeners = {PORT_FIRST}
        _, outcomes = await recovered(host)
        assert told(outcomes) == {"recover foo": True}
        assert host.world.containers["foo-1"].host_ports() != {("22/tcp", str(PORT_FIRST))}
        await check_recovered(host)

    run_virtually(play())
