"""What events about kept system disks, and about containers that stay, make of the state."""

from typing import Any

import pytest

from events.outcomes import (
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerUpdated,
    ImageResolved,
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPrecopied,
    SystemDiskPutBack,
)
from events.replica_sets import (
    BindMoved,
    ReplicaSetDeleted,
    RevisionPinned,
    RevisionRetired,
    RevisionUnpinned,
    SnapshotExpired,
)
from events.values import Bind
from tests.kit.folds import Fold, declared, running_set


@pytest.fixture
def ran() -> Fold:
    return running_set()


def succeed(fold: Fold, number: int, image: str = "base", **fields: Any) -> None:
    """The next version takes the place of the one before, whose disk is kept."""
    before = number - 1
    wish: dict[str, Any] = {"supersedes": before, "disk_from": before, "carry": "upper"} | fields
    operation = fold.accept("patch", declared(number, **wish))
    kept = f"foo-{before}-{operation}"
    fold(ContainerCreated("foo", number, f"id-{number}", "e", image), operation=operation)
    fold(SnapshotTaken("foo", before, kept, 100, "upper"), operation=operation)
    fold(ContainerStarted("foo", number, f"at-{number}"), operation=operation)
    fold(ContainerRemoved("foo", before), operation=operation)
    fold(RevisionRetired("foo", before), operation=operation)


def test_a_pin_comes_and_goes(ran: Fold) -> None:
    ran.state.forget_touched()
    seen = []
    for event in (RevisionPinned("foo", 1), RevisionUnpinned("foo", 1)):
        ran(event)
        seen.append(ran.state.revisions["foo", 1].pinned)
    assert seen == [True, False]
    assert ran.state.touched == {("revisions", "foo", 1)}


def test_a_disk_is_kept_since_the_instant_of_its_record(ran: Fold) -> None:
    ran(SnapshotTaken("foo", 1, "s:1", 5, "upper"))
    revision = ran.state.revisions["foo", 1]
    assert revision.kept_us == ran.state.seq * 10
    assert (revision.snapshot_bytes, revision.snapshot_carry) == (5, "upper")


def test_a_disk_that_is_given_up_says_why_before_and_after(ran: Fold) -> None:
    ran(SnapshotTaken("foo", 1, "s:1", 5))
    ran(SnapshotExpired("foo", 1, "count", "2 newer ones are kept"))
    foo, revision = ran.state.replica_sets["foo"], ran.state.revisions["foo", 1]
    assert (foo.expiring, foo.snapshots, revision.snapshot) == ((1,), (1,), "s:1")
    assert revision.expiring == "2 newer ones are kept"
    ran(SnapshotRemoved("foo", 1, "s:1", "2 newer ones are kept"))
    foo, revision = ran.state.replica_sets["foo"], ran.state.revisions["foo", 1]
    assert (foo.expiring, foo.snapshots, revision.snapshot) == ((), (), None)
    assert (revision.expiring, revision.gone) == ("", "2 newer ones are kept")


@pytest.mark.parametrize(
    ("events", "snapshots", "to_compact", "size"),
    [
        ((), (1, 2), (2,), 100),
        ((SnapshotCompacted("foo", 2, "k", 30),), (1, 2), (), 70),
        ((SnapshotCompacted("foo", 2, "k", 300),), (1, 2), (), 0),
        ((SnapshotCompacted("foo", 2, "k", 0, "no"),), (1, 2), (), 100),
        ((SnapshotRemoved("foo", 2, "k"),), (1,), (), 0),
        ((SystemDiskPutBack("foo", 2, "k"),), (1,), (), 0),
        ((ReplicaSetDeleted("foo"),), (), (), 100),
    ],
)
def test_a_disk_is_compacted_once(
    ran: Fold, events: tuple[Any, ...], snapshots: Any, to_compact: Any, size: int
) -> None:
    ran(ContainerCreated("foo", 1, "id-1", "e-1", "base"))
    succeed(ran, 2, copies=True)
    succeed(ran, 3, copies=True)
    for event in events:
        ran(event)
    foo = ran.state.replica_sets["foo"]
    assert (foo.snapshots, foo.to_compact) == (snapshots, to_compact)
    assert ran.state.revisions["foo", 2].snapshot_bytes == size


@pytest.mark.parametrize(
    ("copies", "image_of_first", "to_compact"),
    [(True, "base", (2,)), (False, "base", ()), (True, "other", ())],
)
def test_a_retired_disk_waits_to_be_compacted_where_clones_are_copies(
    ran: Fold, copies: bool, image_of_first: str, to_compact: tuple[int, ...]
) -> None:
    ran(ContainerCreated("foo", 1, "id-1", "e-1", image_of_first))
    succeed(ran, 2, copies=copies)
    succeed(ran, 3, copies=copies)
    assert ran.state.replica_sets["foo"].to_compact == to_compact


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (SystemDiskPrecopied("foo", 1, 3 << 30), "system disk copied ahead (3GB)"),
        (SystemDiskPrecopied("foo", 1, 0), None),
        (SystemDiskPrecopied("foo", 1, 0, "no room"), "system disk not copied ahead: no room"),
        (SystemDiskFilled("foo", 1, "k"), "system disk carried to foo-1"),
        (SnapshotTaken("foo", 1, "k", 1 << 30), "system disk of foo-1 kept (1GB with its image)"),
        (SnapshotTaken("foo", 1, "k", 1 << 30, "upper"), "system disk of foo-1 kept (1GB)"),
        (SystemDiskPutBack("foo", 1, "k"), "foo-1 has its system disk again"),
    ],
)
def test_what_was_done_with_a_disk_is_a_step_of_the_operation(
    ran: Fold, event: Any, text: str | None
) -> None:
    operation = ran.accept("patch", declared(2, supersedes=1))
    ran(event, operation=operation)
    steps = [step.text for step in ran.state.operations[operation].steps]
    assert steps == ([] if text is None else [text])


def test_a_disk_is_copied_ahead_once(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1, copies=True))
    assert ran.state.revisions["foo", 2].copies
    ran(SystemDiskPrecopied("foo", 2, 0))
    assert ran.state.revisions["foo", 2].precopied


def test_a_container_that_stays_is_that_of_the_next_version(ran: Fold) -> None:
    ran(ImageResolved("foo", 1, "a:1", "sha256:0", ("LANG=C",), ("sh",)))
    ran(ContainerCreated("foo", 1, "id-1", "e-1", "sha256:0"))
    ran(ContainerStarted("foo", 1, "at-1"), RevisionPinned("foo", 1))
    operation = ran.accept("patch", declared(2, supersedes=1, disk_from=1, in_place=True))
    assert ran.state.revisions["foo", 2].in_place
    ran(ContainerUpdated("foo", 2), operation=operation)
    old, new = (ran.state.revisions["foo", number] for number in (1, 2))
    assert (old.container, old.continued_as, old.pinned) == ("removed", 2, False)
    assert (new.container, new.container_id, new.started_at) == ("running", "id-1", "at-1")
    assert (new.base_image, new.origin, new.origin_env) == ("sha256:0", "sha256:0", ("LANG=C",))
    assert (new.origin_cmd, new.image_id, new.pinned) == (("sh",), "sha256:0", True)
    text = ran.state.operations[operation].steps[-1].text
    assert text == "foo-1 goes on as foo-2 with other limits"


def test_a_bind_moves_to_the_next_version_of_its_volume(ran: Fold) -> None:
    binds = (Bind("disk-1", "/a"), Bind("other-1", "/b"), Bind("disk-1", "/c"))
    ran.accept("patch", declared(2, binds=binds, supersedes=1))
    ran(BindMoved("foo", 2, "disk-1", "disk-2"))
    assert ran.state.revisions["foo", 2].spec.binds == (
        Bind("disk-2", "/a"),
        Bind("other-1", "/b"),
        Bind("disk-2", "/c"),
    )
    assert ran.state.volume_users == {"disk": {"foo"}, "other": {"foo"}}
