"""What stood against a command: for every reason, from the state that it was refused on."""

from collections.abc import Callable
from typing import Any

import pytest

from events.billing import MonthClosed
from events.gpu_health import GpuReport
from events.values import split_versioned
from projections.state import ExpiredOrphan, Node
from service.domain.billing_commands import SetPrice
from service.domain.commands import (
    Command,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    ObserveGpus,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.decide import address
from service.domain.explaining import Fact
from service.domain.explaining_refusals import AGAINST, Refused, standing_against
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import (
    GIB,
    IMAGE,
    NODE,
    OWNER,
    facts,
    gpu,
    mount,
    patch,
    remount,
    resize,
    run,
    state_of,
)
from tests.kit.gwt import given, unfinished
from tests.kit.sightings import gone
from tests.kit.world import World

DISK = CreateVolume("disk", GIB)


def against(command: Command, *history: Any, reason: Reason, **options: Any) -> list[Fact]:
    """What stood against a command after this history; it must be refused for this reason."""
    decided = given(*history, **options).when(command)
    rejected = decided.decision
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason
    kind, name, _ = address(command)
    found = standing_against(decided.state, Refused(kind, name, reason, rejected.message))
    return list(found)


def then(command: Command) -> Callable[[World], object]:
    """A step that need not be driven to an end."""
    return lambda world: world.send(command)


def test_every_reason_is_explained() -> None:
    assert set(AGAINST) == set(Reason)


@pytest.mark.parametrize(
    ("command", "history", "reason", "texts"),
    [
        (
            StopReplicaSet("foo"),
            (),
            Reason.REPLICA_SET_NOT_FOUND,
            ["no record made a replica set foo"],
        ),
        (
            StopReplicaSet("foo"),
            (run("foo"), DeleteReplicaSet("foo")),
            Reason.REPLICA_SET_NOT_FOUND,
            ["foo is not there any more"],
        ),
        (
            run("foo", mounts=("disk-1",)),
            (),
            Reason.VOLUME_NOT_FOUND,
            ["no record made a volume of that name"],
        ),
        (
            run("foo", mounts=("disk-1",)),
            (DISK, DeleteVolume("disk")),
            Reason.VOLUME_NOT_FOUND,
            ["volume disk is not there any more"],
        ),
        (
            run("foo", mounts=("disk-7",)),
            (DISK,),
            Reason.VOLUME_NOT_FOUND,
            ["volume disk is disk-1 with 1GB"],
        ),
        (
            QuarantineGpu("gpu-9", "x"),
            (),
            Reason.GPU_NOT_FOUND,
            ["no record shows a GPU gpu-9"],
        ),
        (run("foo"), (run("foo"),), Reason.REPLICA_SET_EXISTS, ["foo is foo-1, by run"]),
        (DISK, (DISK,), Reason.VOLUME_EXISTS, ["volume disk is disk-1 with 1GB"]),
        (
            patch("foo", 1),
            (unfinished(run("foo")),),
            Reason.OPERATION_IN_PROGRESS,
            ["run of foo goes on, operation foo.1"],
        ),
        (
            resize("disk", 2),
            (unfinished(DISK),),
            Reason.OPERATION_IN_PROGRESS,
            ["create of volume disk goes on, operation disk.1"],
        ),
        (
            RollBackReplicaSet("foo", 9),
            (run("foo"),),
            Reason.REVISION_NOT_FOUND,
            ["foo-1 is the newest version that was declared"],
        ),
        (
            RollBackReplicaSet("foo", 1),
            (run("foo"),),
            Reason.ALREADY_AT_REVISION,
            ["foo is foo-1, by run"],
        ),
        (
            patch("foo", image=IMAGE),
            (run("foo"),),
            Reason.NOTHING_TO_PATCH,
            ["foo is foo-1, by run"],
        ),
        (
            remount(mount("/data"), mount("/other")),
            (run("foo"),),
            Reason.BIND_NOT_FOUND,
            ["foo is foo-1, by run"],
        ),
        (
            patch("foo", env=("A",)),
            (run("foo"),),
            Reason.ENV_NOT_FOUND,
            ["foo is foo-1, by run"],
        ),
        (
            patch("foo", 1),
            (run("foo"), then(gone("foo"))),
            Reason.SYSTEM_DISK_GONE,
            ["the system disk of foo-1 is gone: its container was removed by somebody else"],
        ),
        (
            ExecuteInReplicaSet("foo", ("true",)),
            (run("foo"), PauseReplicaSet("foo")),
            Reason.NOT_RUNNING,
            ["foo is to be paused", "its container was stopped, with exit code 0"],
        ),
        (
            PauseReplicaSet("foo"),
            (run("foo"), StopReplicaSet("foo")),
            Reason.STOPPED,
            ["foo is to be stopped", "its container was stopped, with exit code 0"],
        ),
        (resize("disk", 1), (DISK,), Reason.SAME_SIZE, ["volume disk is disk-1 with 1GB"]),
        (
            DeleteVolume("disk"),
            (DISK, run("foo", mounts=("disk-1",))),
            Reason.VOLUME_IN_USE,
            ["foo-1 uses it"],
        ),
        (
            StopReplicaSet("foo"),
            (DISK, run("foo", mounts=("disk-1",)), unfinished(resize("disk", 2))),
            Reason.VOLUME_BUSY,
            ["resize of volume disk goes on, operation disk.2"],
        ),
        (
            resize("disk", 2),
            (DISK, run("foo", mounts=("disk-1",)), unfinished(patch("foo", 1))),
            Reason.VOLUME_BUSY,
            ["patch of foo goes on, operation foo.2"],
        ),
    ],
)
def test_what_stood_against_it(
    command: Command, history: tuple[Any, ...], reason: Reason, texts: list[str]
) -> None:
    found = against(command, *history, reason=reason)
    assert [fact.text for fact in found] == texts
    known = not texts[0].startswith("no record")
    assert all((fact.source is not None or fact.seq is not None) == known for fact in found)


def test_a_disk_that_expired() -> None:
    history = run("foo"), patch("foo"), patch("foo"), patch("foo"), ExpireSnapshots("foo")
    world = given(*history, on=facts(keep_revisions=1)).world
    kept = [r.number for r in world.state.revisions.values() if r.snapshot is not None]
    number = next(n for n in (1, 2, 3) if n not in kept)
    refused = Refused(
        "replica_set",
        "foo",
        Reason.SYSTEM_DISK_GONE,
        f"the system disk of foo-{number} is not kept any more",
    )
    (fact,) = standing_against(world.state, refused)
    assert fact.text.startswith(f"the system disk of foo-{number} is not kept any more: ")
    assert fact.source == ("disk", "foo", number)


def test_an_orphan_that_is_going() -> None:
    state = state_of()
    going = ExpiredOrphan("container/c1", "container", "foo-9", "c1", "foo", 41, "")
    state.node = Node(NODE, OWNER, expiring=(going,))
    for kind, name in (("replica_set", "foo"), ("orphan", "container/c1")):
        refused = Refused(kind, name, Reason.OPERATION_IN_PROGRESS)
        (fact,) = standing_against(state, refused)
        assert (fact.text, fact.seq) == ("foo-9, which was in no record, is being removed", 41)
    assert standing_against(state, Refused("volume", "x", Reason.OPERATION_IN_PROGRESS)) == ()


def test_who_has_the_gpus_and_which_are_not_lent() -> None:
    history = (
        then(ObserveGpus((gpu(0), gpu(1), gpu(2)), (GpuReport("gpu-2", pids=(7,)),), (), "b")),
        run("bar", 1),
        QuarantineGpu("gpu-1", "noisy"),
    )
    found = against(run("foo", 1), *history, reason=Reason.GPUS_EXHAUSTED)
    assert [fact.text for fact in found] == [
        "0 of 3 GPUs could be had",
        "GPU 0: bar-1 has it",
        "GPU 1: in quarantine by hand: noisy",
        "GPU 2: process 7 of the host is on it",
    ]
    assert found[1].source is not None
    assert found[2].source is not None


def test_who_has_the_host_ports() -> None:
    history = run("bar", ports=2)
    found = against(
        run("foo", ports=3), history, reason=Reason.PORTS_EXHAUSTED, on=facts(ports=4)
    )
    assert [fact.text for fact in found] == [
        "others have 2 host ports",
        "host port 40000: bar-1 has it",
        "host port 40001: bar-1 has it",
    ]


def test_money() -> None:
    first = SetPrice("gpu", "1", "EUR", 0)
    (fact,) = against(SetPrice("gpu", "1", "USD", 0), first, reason=Reason.CURRENCY_DIFFERS)
    assert (fact.text, fact.seq) == ("the first price was set in EUR", 3)
    closed = MonthClosed("2026-10", 3, "EUR", "0", ())
    (fact,) = against(first, closed, reason=Reason.MONTH_CLOSED)
    assert (fact.text, fact.seq) == ("2026-10 was closed", 3)


@pytest.mark.parametrize("reason", Reason)
def test_an_empty_state_stands_against_nothing(reason: Reason) -> None:
    for kind, name in (("replica_set", "foo"), ("volume", "disk"), ("gpu", "gpu-0")):
        found = standing_against(given().world.state, Refused(kind, name, reason, "words"))
        assert all(fact.source is None for fact in found)


def test_a_pin_of_a_version_that_there_is_not() -> None:
    found = against(PinRevision("foo", 7), run("foo"), reason=Reason.REVISION_NOT_FOUND)
    assert split_versioned(found[0].text.split()[0]) == ("foo", 1)
