"""The end of an operation: what is given back, what is retired, what the caller is told."""

import pytest

from events.operations import OperationFailed, OperationSucceeded
from events.record import Event
from events.replica_sets import ReplicaSetDeleted, RevisionAbandoned, RevisionRetired
from events.resources import GpusReleased, PortsReleased
from events.volumes import VolumeDeleted, VolumeVersionAbandoned
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    Effect,
    EnsureImage,
    MakeVolume,
    Settle,
    SizeVolume,
)
from service.domain.settle import COMMIT_LOSES
from tests.kit.builders import GIB, PORT_FIRST, patch, resize, run
from tests.kit.gwt import Given, given
from tests.kit.world import FAILURE

LOSES = {"notCarried": list(COMMIT_LOSES)}

FAILED = (FAILURE.reason, FAILURE.message)


def settled(world: Given, command: Command, *fails: type[Effect]) -> tuple[Event, ...]:
    """What the settlement of a command decides."""
    decided = world.when(command)
    while True:
        effect = decided.world.due()[0]
        failing = isinstance(effect, fails)
        decision = decided.world.fail(effect) if failing else decided.world.succeed(effect)
        if isinstance(effect, Settle):
            assert isinstance(decision, tuple)
            return decision


@pytest.mark.parametrize(
    ("history", "command", "events"),
    [
        ((), run(gpu_count=1, ports=1), (OperationSucceeded("foo.1", {"name": "foo-1"}),)),
        (
            (run(gpu_count=1, ports=1),),
            patch(gpu_count=2),
            (
                RevisionRetired("foo", 1),
                GpusReleased("foo", 1, ("gpu-0",)),
                PortsReleased("foo", 1, (PORT_FIRST,)),
                OperationSucceeded("foo.2", {"containerName": "foo-2", **LOSES}),
            ),
        ),
        (
            (run(gpu_count=1), StopReplicaSet("foo")),
            RestartReplicaSet("foo"),
            (
                RevisionRetired("foo", 1),
                OperationSucceeded("foo.3", {"containerName": "foo-2", **LOSES}),
            ),
        ),
        (
            (run(), patch()),
            RollBackReplicaSet("foo", 1),
            (
                RevisionRetired("foo", 2),
                OperationSucceeded("foo.3", {"containerName": "foo-3", **LOSES}),
            ),
        ),
        (
            (run(gpu_count=2, ports=1),),
            StopReplicaSet("foo"),
            (
                GpusReleased("foo", 1, ("gpu-0", "gpu-1")),
                PortsReleased("foo", 1, (PORT_FIRST,)),
                OperationSucceeded("foo.2"),
            ),
        ),
        ((run(gpu_count=2),), PauseReplicaSet("foo"), (OperationSucceeded("foo.2"),)),
        (
            (run(gpu_count=1),),
            DeleteReplicaSet("foo"),
            (
                GpusReleased("foo", 1, ("gpu-0",)),
                ReplicaSetDeleted("foo"),
                OperationSucceeded("foo.2"),
            ),
        ),
        (
            (run(gpu_count=1), StopReplicaSet("foo"), run("bar", 1)),
            DeleteReplicaSet("foo"),
            (ReplicaSetDeleted("foo"), OperationSucceeded("foo.3")),
        ),
        (
            (run(),),
            CommitReplicaSet("foo", "saved:1"),
            (OperationSucceeded("foo.2", {"imageName": "saved:1"}),),
        ),
        (
            (),
            CreateVolume("disk", GIB),
            (OperationSucceeded("disk.1", {"name": "disk-1", "size": "1GB"}),),
        ),
        (
            (CreateVolume("disk", GIB),),
            resize("disk", 20),
            (OperationSucceeded("disk.2", {"name": "disk-2", "size": "20GB"}),),
        ),
        (
            (CreateVolume("disk", GIB),),
            DeleteVolume("disk"),
            (VolumeDeleted("disk"), OperationSucceeded("disk.2")),
        ),
    ],
)
def test_a_success(history: tuple[Command, ...], command: Command, events: object) -> None:
    assert settled(given(*history), command) == events


@pytest.mark.parametrize(
    ("history", "command", "fails", "events"),
    [
        (
            (),
            run(gpu_count=1, ports=1),
            EnsureImage,
            (
                GpusReleased("foo", 1, ("gpu-0",)),
                PortsReleased("foo", 1, (PORT_FIRST,)),
                RevisionAbandoned("foo", 1, 0, "deleted"),
                OperationFailed("foo.1", *FAILED),
            ),
        ),
        (
            (),
            run(data_disk_bytes=GIB),
            CreateContainer,
            (
                RevisionAbandoned("foo", 1, 0, "deleted"),
                VolumeVersionAbandoned("foo", 1, 0),
                OperationFailed("foo.1", *FAILED),
            ),
        ),
        (
            (run(gpu_count=1, ports=1),),
            patch(gpu_count=2),
            CreateContainer,
            (
                GpusReleased("foo", 2, ("gpu-0", "gpu-1")),
                PortsReleased("foo", 2, (PORT_FIRST,)),
                RevisionAbandoned("foo", 2, 1, "running"),
                OperationFailed("foo.2", *FAILED),
            ),
        ),
        (
            (run(gpu_count=1), StopReplicaSet("foo")),
            RestartReplicaSet("foo"),
            CreateContainer,
            (
                GpusReleased("foo", 2, ("gpu-0",)),
                RevisionAbandoned("foo", 2, 1, "stopped"),
                OperationFailed("foo.3", *FAILED),
            ),
        ),
        (
            (),
            CreateVolume("disk", GIB),
            MakeVolume,
            (VolumeVersionAbandoned("disk", 1, 0), OperationFailed("disk.1", *FAILED)),
        ),
        (
            (CreateVolume("disk", GIB),),
            resize("disk", 2),
            SizeVolume,
            (VolumeVersionAbandoned("disk", 2, 1), OperationFailed("disk.2", *FAILED)),
        ),
    ],
)
def test_a_failure(
    history: tuple[Command, ...], command: Command, fails: type[Effect], events: object
) -> None:
    assert settled(given(*history), command, fails) == events
