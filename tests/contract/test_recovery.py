"""A lost host is made again: whatever was going on, whatever is missing, wherever it is killed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from service.disk_ports import SystemDisks, VolumeStore
from service.domain.commands import (
    CreateVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    Request,
    StopReplicaSet,
)
from service.domain.recovery_plan import Outcome
from service.ports import ContainerEngine, Ledger
from tests.crashes.life import Cut
from tests.kit.builders import GIB, IMAGE, OWNER, PORT_FIRST, gpu, patch, run
from tests.kit.crash_points import points, watched
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_recovery import RecoveringService, lose, recovered
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import run_virtually
from tests.simulation.checks import check_at_rest, check_every_record, check_world, records_of

WRITTEN = ExecuteInReplicaSet("foo", ("sh", "-c", "echo mine > /data/mine"))
FURNISHED: tuple[Request, ...] = (
    CreateVolume("vol", GIB),
    run("foo", 1, 1, mounts=("vol-1",)),
    WRITTEN,
    patch("foo"),
    run("bar", 1, 1),
    PauseReplicaSet("bar"),
    run("baz", data_disk_bytes=GIB),
    StopReplicaSet("baz"),
)


async def furnished(host: SimulatedHost, commands: Sequence[Request] = FURNISHED) -> None:
    """The service of this host was there, and has stopped."""
    async with SimulatedService(host) as service:
        await service.succeed(*commands)
        await service.projector.wait_stored(await service.ledger.last_seq())


def made(**changes: Any) -> SimulatedHost:
    return SimulatedHost(**{"gpus": 2, "system_disk": "auto", **changes})


def told(outcomes: Sequence[Outcome]) -> dict[str, bool]:
    return {f"{one.verb} {one.name}": one.succeeded for one in outcomes}


def shown(host: SimulatedHost) -> dict[str, Any]:
    containers = host.world.containers.values()
    return {
        "containers": {c.name: (c.status, c.gpus(), c.host_ports(), c.files) for c in containers},
        "volumes": set(host.world.volumes),
        "disks": set(host.volumes.disks),
        "kept": set(host.disks.kept),
    }


async def check(host: SimulatedHost) -> None:
    """The service starts on it, finds all as the ledger says, and has nothing to do."""
    async with SimulatedService(host) as service:
        seq = await service.ledger.last_seq()
        await asyncio.sleep(120)
        assert await service.ledger.last_seq() == seq
        await check_at_rest(service)
        await check_world(service.state, host)
    check_every_record(await records_of(host.ledger))


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
        await check(host)

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
        await check(host)

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
        await check(host)

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
        await check(host)

    run_virtually(play())


def test_what_cannot_be_made_is_made_when_it_is_run_again() -> None:
    async def play() -> None:
        host = made()
        await furnished(host)
        image = host.world.images.pop(IMAGE)
        lose(host)
        plan, outcomes = await recovered(host)
        assert {s.verdict for s in plan.steps if s.kind == "replica_set"} == {"cannot"}
        failed = {name for name, done in told(outcomes).items() if not done}
        assert failed == {"recover foo", "recover bar"} | ({"recover baz"} & failed)
        await check(host)
        host.world.images[IMAGE] = image
        _, again = await recovered(host)
        assert all(told(again).values())
        assert host.world.containers["foo-2"].status == "running"
        assert host.world.containers["bar-1"].gpus() == ("gpu-1",)
        await check(host)

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
        await check(host)

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
        await check(host)

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
        await check(host)

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
        await check(host)

    run_virtually(play())


async def life(host: SimulatedHost, cut: Cut) -> bool:
    """One run of the recovery; False when it was killed at the point of `cut`."""

    async def live() -> None:
        service = RecoveringService(
            host,
            ledger=watched(Ledger, cast(Ledger, host.ledger), cut),
            engine=watched(ContainerEngine, cast(ContainerEngine, host.engine), cut),
            volumes=watched(VolumeStore, cast(VolumeStore, host.volumes), cut),
            disks=watched(SystemDisks, cast(SystemDisks, host.disks), cut),
        )
        async with service:
            await service.recover()

    doing, over = asyncio.create_task(live()), asyncio.create_task(cut.over.wait())
    await asyncio.wait((doing, over), return_when=asyncio.FIRST_COMPLETED)
    if doing.done():
        over.cancel()
        await doing
        return True
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return False


@pytest.mark.parametrize("system_disk", ["auto", "commit"])
def test_killed_at_every_step_it_goes_on(system_disk: str) -> None:
    async def lost() -> SimulatedHost:
        host = made(system_disk=system_disk)
        await furnished(host)
        lose(host, disks=False, kept=False)
        host.probe.shown = [gpu(0), gpu(7)]
        return host

    async def free() -> tuple[dict[str, Any], Cut]:
        host, cut = await lost(), Cut(armed=True)
        assert await life(host, cut)
        return shown(host), cut

    def played(work: Callable[[], Awaitable[Any]]) -> Any:
        async def play() -> Any:
            return await work()

        return run_virtually(play())

    end, cut = played(free)
    steps = points(cut.calls)
    assert len(steps) > 30

    for at in steps:

        async def killed(at: Any = at) -> None:
            host = await lost()
            assert not await life(host, Cut(at, armed=True)), at
            assert await life(host, Cut(armed=True))
            assert shown(host) == end, at
            await check(host)

        played(killed)
