"""What is other between two points of the ledger, told of two folds."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from events.outcomes import ContainerRemoved, VolumeMade
from events.record import Event
from events.replica_sets import PhaseRequested, ReplicaSetDeleted
from events.resources import (
    GpuDisappeared,
    GpuQuarantined,
    GpusLeased,
    GpusReleased,
    PortsReleased,
)
from events.values import ContainerSpec
from events.volumes import VolumeDeleted, VolumeVersionDeclared
from projections.state import State
from service.domain.between import StateChanges, changes_between
from tests.kit.folds import WEB, Fold, declared, empty_node, running_set

Told = dict[str, list[tuple[str, str, str, str, str]]]
"""By kind: name, how, and each field with its old and new value."""


def told(changes: StateChanges) -> Told:
    """The changes, a line a field."""
    kinds = {
        "gpus": changes.gpus,
        "ports": changes.ports,
        "sets": changes.replica_sets,
        "volumes": changes.volumes,
    }
    return {
        kind: [
            (thing.name, thing.how, change.field, change.old, change.new)
            for thing in things
            for change in thing.changes
        ]
        for kind, things in kinds.items()
        if things
    }


def after(fold: Fold, then: Callable[[], object]) -> Told:
    """What is other after something happened than it was before."""
    before = fold.state.copy()
    then()
    return told(changes_between(before, fold.state))


def test_nothing_differs_from_itself() -> None:
    state = running_set().state
    assert told(changes_between(state, state.copy())) == {}
    assert told(changes_between(State(), State())) == {}


def test_a_replica_set_that_came_with_its_leases() -> None:
    found = told(changes_between(empty_node().state, running_set().state))
    assert found == {
        "gpus": [("GPU-a", "changed", "holder", "", "foo-1")],
        "ports": [
            ("40000", "added", "holder", "", "foo-1"),
            ("40000", "added", "containerPort", "", "22/tcp"),
        ],
        "sets": [
            ("foo", "added", "version", "", "1"),
            ("foo", "added", "phase", "", "running"),
            ("foo", "added", "container", "", "running"),
            ("foo", "added", "gpus", "", "GPU-a"),
            ("foo", "added", "ports", "", "40000->22/tcp"),
        ],
    }


def test_a_new_version_with_another_spec() -> None:
    fold = running_set()
    spec = ContainerSpec(image="b:2", gpu_count=1, env=("A=1",), secret_env=("A",))
    new = declared(2, ports=(WEB,), supersedes=1)
    before = fold.state.copy()
    fold.accept("patch", replace(new, spec=spec))
    (thing,) = changes_between(before, fold.state).replica_sets
    assert thing.secret_env == ("A",)
    fields = {change.field: (change.old, change.new) for change in thing.changes}
    assert fields["version"] == ("1", "2")
    assert fields["container"] == ("running", "absent")
    assert fields["ports"] == ("40000->22/tcp", "40001->80/tcp")
    assert fields["imageName"] == ("a:1", "b:2")
    assert fields["env.A"] == ("", "1")
    assert "gpus" not in fields


def test_what_was_deleted() -> None:
    fold = running_set()

    def delete() -> None:
        fold.accept("delete", PhaseRequested("foo", "deleted"))
        fold(ContainerRemoved("foo", 1), GpusReleased("foo", 1, ("GPU-a",)))
        fold(PortsReleased("foo", 1, (40_000,)), ReplicaSetDeleted("foo"))

    found = after(fold, delete)
    assert {line[:2] for line in found["sets"]} == {("foo", "removed")}
    assert {line[:2] for line in found["ports"]} == {("40000", "removed")}
    assert found["gpus"] == [("GPU-a", "changed", "holder", "foo-1", "")]
    assert {line[1] for line in told(changes_between(fold.state, running_set().state))["sets"]} == {
        "added"
    }


@pytest.mark.parametrize(
    ("event", "field", "new"),
    [
        (GpusLeased("foo", 1, ("GPU-b",)), "holder", "foo-1"),
        (GpuQuarantined("GPU-b", "fan", by_hand=True), "notLent", "fan"),
    ],
)
def test_one_gpu_fares_otherwise(event: Event, field: str, new: str) -> None:
    fold = empty_node()
    found = after(fold, lambda: fold(event))
    assert found == {"gpus": [("GPU-b", "changed", field, "", new)]}


def test_a_gpu_that_is_gone() -> None:
    fold = empty_node()
    found = after(fold, lambda: fold(GpuDisappeared("GPU-a")))["gpus"]
    assert ("GPU-a", "changed", "present", "yes", "no") in found


def test_volumes_come_grow_and_go() -> None:
    fold = empty_node()

    def create() -> None:
        made = VolumeVersionDeclared("bar", 1, 1 << 30, "create", None)
        fold.accept("create", made, kind="volume")
        fold(VolumeMade("bar", 1))

    assert after(fold, create) == {
        "volumes": [("bar", "added", "version", "", "1"), ("bar", "added", "size", "", "1GB")]
    }
    grown = VolumeVersionDeclared("bar", 2, 2 << 30, "resize", 1)
    assert after(fold, lambda: fold(grown)) == {
        "volumes": [
            ("bar", "changed", "version", "1", "2"),
            ("bar", "changed", "size", "1GB", "2GB"),
        ]
    }
    gone = after(fold, lambda: fold(VolumeDeleted("bar")))
    assert {line[1] for line in gone["volumes"]} == {"removed"}
