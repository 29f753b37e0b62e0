"""What events about GPUs, ports and volumes make of the state."""

import pytest
from msgspec.structs import replace

from events.operations import OperationFailed, OperationSucceeded
from events.outcomes import EffectFailed, VolumeMade, VolumeRemoved
from events.replica_sets import ReplicaSetDeleted, RevisionAbandoned, RevisionRetired
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpuErrorReported,
    GpuFellIll,
    GpuOccupied,
    GpuQuarantined,
    GpusLeased,
    GpusReleased,
    NodeRegistered,
    PortsLeased,
    PortsReleased,
)
from events.values import Bind, PortBinding
from events.volumes import (
    VolumeDeleted,
    VolumeDeletionRequested,
    VolumeVersionAbandoned,
    VolumeVersionDeclared,
)
from projections.evolve_resources import ERRORS_KEPT_MAX
from projections.gpu_unit import Ailment, Quarantine
from projections.state import Failure, Node, PortLease
from tests.kit.folds import SSH, WEB, Fold, declared, empty_node, running_set


@pytest.fixture
def fold() -> Fold:
    return empty_node()


@pytest.fixture
def ran() -> Fold:
    return running_set()


# -- GPUs and ports ---------------------------------------------------------------------------


def test_a_node_has_an_owner_and_remembers_the_port_leased_last(fold: Fold) -> None:
    assert fold.state.node == Node("n1", "owner")
    fold(PortsLeased("foo", 1, (SSH, WEB)))
    assert fold.state.node == Node("n1", "owner", port_cursor=40_001)
    fold(PortsLeased("bar", 1, ()))
    assert fold.state.node == Node("n1", "owner", port_cursor=40_001)


def test_ports_can_be_leased_before_there_is_a_node() -> None:
    fold = Fold()
    fold(PortsLeased("foo", 1, (SSH,)))
    fold(NodeRegistered("n1", "owner"))
    assert fold.state.node == Node("n1", "owner")


def test_a_gpu_that_disappears_and_comes_back_changed_keeps_its_lease(ran: Fold) -> None:
    ran(GpuDisappeared("GPU-a"))
    gpu = ran.state.gpus["GPU-a"]
    assert (gpu.present, gpu.holder, gpu.revisions) == (False, "foo", (1,))
    ran(GpuAppeared("GPU-a", 7, "A100", 40 << 30, "0000:07:00.0", "GPU-parent"))
    gpu = ran.state.gpus["GPU-a"]
    assert (gpu.present, gpu.index, gpu.parent_uuid) == (True, 7, "GPU-parent")
    assert (gpu.holder, gpu.revisions) == ("foo", (1,))


def test_a_gpu_that_comes_back_is_as_ill_as_before(ran: Fold) -> None:
    fell_ill_us = (ran.state.seq + 1) * 10
    ran(GpuErrorReported("GPU-a", 79), GpuFellIll("GPU-a", "xid", "XID 79", 79, "b1"))
    ran(GpuQuarantined("GPU-a", "XID 79"), GpuOccupied("GPU-a", (7,)), GpuDisappeared("GPU-a"))
    before = ran.state.gpus["GPU-a"]
    ran(GpuAppeared("GPU-a", 0, "A100", 80 << 30, "0000:00:00.0"))
    assert ran.state.gpus["GPU-a"] == replace(before, present=True)
    assert before.ailments == (Ailment("xid", "XID 79", fell_ill_us, 79, "b1"),)
    assert before.quarantine == Quarantine("XID 79", fell_ill_us + 10)


def test_of_the_errors_of_a_gpu_the_latest_are_remembered(ran: Fold) -> None:
    for xid in (*range(ERRORS_KEPT_MAX + 1), 1):
        ran(GpuErrorReported("GPU-a", xid))
    errors = [error.xid for error in ran.state.gpus["GPU-a"].errors]
    assert errors == [*range(2, ERRORS_KEPT_MAX + 1), 1]


def test_a_gpu_passes_from_one_revision_to_the_next_without_being_free(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1), GpusLeased("foo", 2, ("GPU-a", "GPU-b")))
    assert ran.state.gpus["GPU-a"].revisions == (1, 2)
    assert ran.state.gpus["GPU-b"].revisions == (2,)
    ran(GpusReleased("foo", 1, ("GPU-a",)))
    gpu = ran.state.gpus["GPU-a"]
    assert (gpu.holder, gpu.revisions) == ("foo", (2,))
    ran(GpusReleased("foo", 2, ("GPU-a", "GPU-b")))
    assert [gpu.holder for gpu in ran.state.gpus.values()] == [None, None]


def test_a_gpu_of_an_abandoned_revision_goes_back_to_the_one_before(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1), GpusLeased("foo", 2, ("GPU-a", "GPU-b")))
    ran(RevisionAbandoned("foo", 2, 1, "running"), GpusReleased("foo", 2, ("GPU-a", "GPU-b")))
    gpus = ran.state.gpus
    assert (gpus["GPU-a"].holder, gpus["GPU-a"].revisions) == ("foo", (1,))
    assert (gpus["GPU-b"].holder, gpus["GPU-b"].revisions) == (None, ())


def test_a_port_passes_from_one_revision_to_the_next(ran: Fold) -> None:
    ran(PortsLeased("foo", 2, (SSH, WEB)))
    assert ran.state.ports[40_000] == PortLease(40_000, "foo", (1, 2), "22/tcp")
    ran(PortsReleased("foo", 1, (40_000,)))
    assert ran.state.ports[40_000] == PortLease(40_000, "foo", (2,), "22/tcp")
    ran.state.forget_touched()
    ran(PortsReleased("foo", 2, (40_000, 40_001)))
    assert ran.state.ports == {}
    assert ran.state.touched == {("ports", 40_000, 0), ("ports", 40_001, 0)}


def test_a_port_can_lead_elsewhere_in_the_next_revision(ran: Fold) -> None:
    ran(PortsLeased("foo", 2, (PortBinding("2222/tcp", 40_000),)))
    assert ran.state.ports[40_000].container_port == "2222/tcp"


# -- volumes ----------------------------------------------------------------------------------


def test_a_volume_is_declared_made_and_resized(fold: Fold) -> None:
    operation = fold.accept(
        "create", VolumeVersionDeclared("bar", 1, 20 << 30, "create"), kind="volume"
    )
    bar = fold.state.live_volume("bar")
    assert bar is not None
    assert (bar.current, bar.newest, bar.operation) == (1, 1, operation)
    fold(VolumeMade("bar", 1), operation=operation)
    assert fold.state.volumes["bar"].versions[0].made
    assert fold.state.operations[operation].steps[-1].text == "volume bar-1 made"
    fold(VolumeVersionDeclared("bar", 2, 30 << 30, "resize", 1, True), operation="op-2")
    bar = fold.state.volumes["bar"]
    assert (bar.current, bar.previous, bar.halts_users) == (2, 1, True)
    fold(VolumeMade("bar", 2), operation="op-2")
    bar = fold.state.volumes["bar"]
    assert (bar.current, bar.previous, bar.halts_users) == (2, None, False)
    assert [(v.number, v.made) for v in bar.versions] == [(1, True), (2, True)]


def test_an_abandoned_version_never_was(fold: Fold) -> None:
    fold(VolumeVersionDeclared("bar", 1, 20 << 30, "create"), VolumeMade("bar", 1))
    fold(VolumeVersionDeclared("bar", 2, 10 << 30, "resize", 1), operation="op-2")
    fold(VolumeVersionAbandoned("bar", 2, 1), operation="op-2")
    bar = fold.state.volumes["bar"]
    assert (bar.current, bar.previous, bar.newest) == (1, None, 1)
    assert [version.number for version in bar.versions] == [1]


def test_a_volume_is_deleted_in_three_steps_and_can_be_made_again(fold: Fold) -> None:
    fold(VolumeVersionDeclared("bar", 1, 20 << 30, "create"), VolumeMade("bar", 1))
    fold(VolumeDeletionRequested("bar"), operation="op-d")
    assert fold.state.volumes["bar"].deleting
    fold(VolumeRemoved("bar"), operation="op-d")
    assert fold.state.volumes["bar"].removed
    fold(VolumeDeleted("bar"))
    bar = fold.state.volumes["bar"]
    assert (bar.deleted, bar.deleting, bar.removed, bar.current) == (True, False, False, 0)
    assert fold.state.live_volume("bar") is None
    fold(VolumeVersionDeclared("bar", 2, 20 << 30, "create"))
    assert fold.state.live_volume("bar") is not None
    assert fold.state.volumes["bar"].newest == 2


def test_an_operation_on_a_volume_frees_it_when_it_ends(fold: Fold) -> None:
    operation = fold.accept("create", VolumeVersionDeclared("foo", 1, 1, "create"), kind="volume")
    no_space = ("CreateVolume", "volume", "foo", 1, "no_space", "disk full")
    fold(EffectFailed(operation, "e", *no_space), operation=operation)
    assert fold.state.volumes["foo"].failure == Failure("no_space", "disk full")
    assert fold.state.volumes["foo"].operation == operation
    fold(OperationFailed(operation, "no_space", "disk full"), operation=operation)
    volume = fold.state.volumes["foo"]
    assert (volume.operation, volume.failure) == (None, None)


def test_a_run_with_a_data_disk_frees_both_when_it_ends(fold: Fold) -> None:
    disk = VolumeVersionDeclared("foo", 1, 20 << 30, "run")
    operation = fold.accept("run", disk, declared(1, data_volume="foo"))
    volume, foo = fold.state.volumes["foo"], fold.state.replica_sets["foo"]
    assert (volume.operation, foo.operation) == (operation, operation)
    fold(OperationSucceeded(operation), operation=operation)
    volume, foo = fold.state.volumes["foo"], fold.state.replica_sets["foo"]
    assert (volume.operation, foo.operation) == (None, None)


def test_who_uses_a_volume_is_known_through_current_and_previous(fold: Fold) -> None:
    users = fold.state.volume_users
    both = (Bind("bar-1", "/data"), Bind("baz-2", "/more"), Bind("/srv/x", "/x"))
    fold.accept("run", declared(1, both))
    assert users == {"bar": {"foo"}, "baz": {"foo"}}
    fold.accept("patch", declared(2, (Bind("qux-1", "/data"),), supersedes=1))
    assert users == {"bar": {"foo"}, "baz": {"foo"}, "qux": {"foo"}}
    fold(RevisionRetired("foo", 1))
    assert users == {"qux": {"foo"}}
    fold.accept("patch", declared(3, both, supersedes=2))
    fold(RevisionAbandoned("foo", 3, 2, "running"))
    assert users == {"qux": {"foo"}}
    fold(ReplicaSetDeleted("foo"))
    assert users == {}
    assert fold.state.volumes_used == {}
