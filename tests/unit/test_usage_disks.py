"""Usage of disks: volumes from their making to their removal, kept system disks while kept."""

import pytest

from events.outcomes import (
    ContainerStarted,
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskPutBack,
    VolumeMade,
    VolumeRemoved,
)
from events.replica_sets import ReplicaSetDeleted
from events.values import SIZE_UNITS
from events.volumes import (
    VolumeDeletionRequested,
    VolumeVersionAbandoned,
    VolumeVersionDeclared,
)
from tests.kit.usage_log import UsageLog, docker, uuids

GB = SIZE_UNITS["GB"]


@pytest.fixture
def log() -> UsageLog:
    return UsageLog()


def running(log: UsageLog) -> None:
    """foo-1 runs from second 100 on."""
    log.declare(90, 1, uuids(0), tenant="lab")
    log(100, ContainerStarted("foo", 1, docker(100)))


def volume(log: UsageLog, second: float, number: int, gigabytes: int) -> int:
    """A version of the volume bar is there; the record of it."""
    before = number - 1 or None
    size = gigabytes * GB
    log(second - 1, VolumeVersionDeclared("bar", number, size, "create", before), tenant="lab")
    return log(second, VolumeMade("bar", number))


def test_a_volume_is_used_from_its_making_to_its_removal(log: UsageLog) -> None:
    made = volume(log, 100, 1, 20)
    resized = volume(log, 200, 2, 30)
    removed = log(500, VolumeDeletionRequested("bar"), VolumeRemoved("bar"))
    assert log.spans("volume") == [(100, 200), (200, 500)]
    found = [(o.amount // GB, o.number, o.opened_seq, o.closed_seq) for o in log.of("volume")]
    assert found == [(20, 1, made, resized), (30, 2, resized, removed)]
    assert {(one.name, one.tenant) for one in log.of("volume")} == {("bar", "lab")}


def test_a_resize_that_failed_leaves_the_volume_as_it_was(log: UsageLog) -> None:
    made = volume(log, 100, 1, 20)
    log(200, VolumeVersionDeclared("bar", 2, 1 << 60, "resize", 1))
    log(210, VolumeRemoved("bar"))
    log(211, VolumeVersionAbandoned("bar", 2, back_to=1))
    assert log.spans("volume") == [(100, None)]
    assert log.of("volume")[0].opened_seq == made


def test_a_volume_that_never_came_to_be_is_not_used(log: UsageLog) -> None:
    log(100, VolumeVersionDeclared("bar", 1, GB, "create"))
    log(200, VolumeDeletionRequested("bar"), VolumeRemoved("bar"))
    assert log.rows == {}


def test_a_kept_system_disk_is_used_until_it_is_given_up(log: UsageLog) -> None:
    running(log)
    log.stop(200)
    taken = log(210, SnapshotTaken("foo", 1, "foo:1", 5 * GB))
    compacted = log(220, SnapshotCompacted("foo", 1, "foo:1", 2 * GB))
    log(225, SnapshotCompacted("foo", 1, "foo:1", 0, "it cannot be"))
    removed = log(300, SnapshotRemoved("foo", 1, "foo:1"))
    assert log.spans("snapshot") == [(210, 220), (220, 300)]
    found = [(o.amount // GB, o.opened_seq, o.closed_seq) for o in log.of("snapshot")]
    assert found == [(5, taken, compacted), (3, compacted, removed)]


def test_a_disk_put_back_is_the_containers_own_again(log: UsageLog) -> None:
    running(log)
    log.stop(200)
    log(210, SnapshotTaken("foo", 1, "foo:1", 0))
    log(220, SystemDiskPutBack("foo", 1, "foo:1"))
    assert log.spans("snapshot") == [(210, 220)]
    assert log.of("snapshot")[0].notes == ("no_size",)


def test_of_what_is_deleted_nothing_stays_open(log: UsageLog) -> None:
    running(log)
    log.stop(200)
    log(210, SnapshotTaken("foo", 1, "foo:1", GB))
    log(220, ReplicaSetDeleted("foo"))
    assert log.usage.open == {}
