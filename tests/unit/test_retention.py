"""Kept system disks: which are given up when, which never, and what is pinned."""

from collections.abc import Sequence
from typing import Any

import pytest

from events.replica_sets import RevisionPinned, RevisionUnpinned, SnapshotExpired
from events.values import Expiry
from projections.state import ReplicaSet, Revision, State
from service.domain.commands import (
    Command,
    DeleteReplicaSet,
    ExpireSnapshots,
    PinRevision,
    UnpinRevision,
)
from service.domain.rejections import Reason
from service.domain.retention import DAY_US, due_to_expire, oldest_removable, removable
from tests.kit.builders import GIB, facts, patch, replica_set, revision, run, state_of
from tests.kit.gwt import Step, given, steps, unfinished

LITTLE = "1GB were free, 2GB must be"
EXPIRE = ExpireSnapshots("foo")
SHORT = ExpireSnapshots("foo", LITTLE)


def kept(number: int, days: int = 0, **changes: Any) -> Revision:
    """A revision whose disk is kept as a directory since that day."""
    fields: dict[str, Any] = {
        "snapshot": f"foo-{number}-op",
        "snapshot_carry": "upper",
        "base_image": "image",
        "kept_us": days * DAY_US,
    }
    return revision(number, container="removed", **(fields | changes))


def as_image(number: int, **changes: Any) -> Revision:
    """A revision whose disk is kept as an image."""
    return kept(number, **({"snapshot_carry": "commit"} | changes))


def shelf(
    *disks: Revision, base_image: str = "image", name: str = "foo", **changes: Any
) -> tuple[ReplicaSet | Revision, ...]:
    """A replica set with these kept disks, whose current version is the tenth."""
    numbers = tuple(disk.number for disk in disks)
    fields: dict[str, Any] = {"snapshots": numbers} | changes
    current = revision(10, base_image=base_image, name=name)
    return replica_set(10, name=name, **fields), current, *disks


def numbers(disks: Sequence[Revision]) -> list[int]:
    return [disk.number for disk in disks]


THREE = kept(1), kept(2), kept(3)


@pytest.mark.parametrize(
    ("disks", "base_image", "expected"),
    [
        ((), "image", []),
        (THREE, "image", [1, 2, 3]),
        ((kept(1), kept(2, pinned=True), kept(3)), "image", [1, 3]),
        ((kept(1, expiring="old"), kept(2)), "image", [2]),
        ((as_image(1), as_image(2)), "foo-2-op", [1]),
        ((as_image(1), as_image(2, base_image="foo-1-op")), "foo-2-op", [1]),
        ((as_image(1), kept(2, base_image="foo-1-op"), as_image(3)), "image", [2, 3]),
        ((as_image(1), kept(2, base_image="foo-1-op", pinned=True)), "image", []),
        ((as_image(1), kept(2, base_image="foo-1-op", expiring="old")), "image", []),
    ],
)
def test_what_is_pinned_or_underneath_something_else_is_not_given_up(
    disks: tuple[Revision, ...], base_image: str, expected: list[int]
) -> None:
    state = state_of(*shelf(*disks, base_image=base_image))
    assert numbers(removable(state, state.replica_sets["foo"])) == expected


def due(
    state: State,
    keep: int = 10,
    keep_days: int = 0,
    today: int = 0,
    command: ExpireSnapshots = EXPIRE,
) -> list[tuple[int, Expiry]]:
    on = facts(keep_revisions=keep, keep_us=keep_days * DAY_US)
    return [(e.revision, e.why) for e in due_to_expire(state, on, today * DAY_US, command)]


@pytest.mark.parametrize(
    ("disks", "keep", "expected"),
    [
        (THREE, 3, []),
        (THREE, 2, [1]),
        (THREE, 1, [1, 2]),
        (THREE, 0, [1, 2, 3]),
        ((), 0, []),
        ((kept(1, pinned=True), kept(2), kept(3)), 2, []),
        ((kept(1, pinned=True), kept(2), kept(3)), 1, [2]),
        ((kept(1), kept(2), kept(3, pinned=True)), 0, [1, 2]),
        ((kept(1, expiring="old"), kept(2), kept(3)), 2, []),
        ((as_image(1), as_image(2), as_image(3, snapshot="base")), 0, [1, 2]),
        ((as_image(1), as_image(2), as_image(3, snapshot="base")), 2, [1]),
        ((as_image(1), as_image(2), as_image(3, snapshot="base")), 3, []),
        ((as_image(1, snapshot="base"), as_image(2), as_image(3)), 2, [2]),
    ],
)
def test_so_many_of_the_newest_are_kept_beside_those_that_are_pinned(
    disks: tuple[Revision, ...], keep: int, expected: list[int]
) -> None:
    state = state_of(*shelf(*disks, base_image="base"))
    assert due(state, keep) == [(number, "count") for number in expected]


AGED = kept(1, days=1), kept(2, days=5), kept(3, days=8)


@pytest.mark.parametrize(
    ("disks", "keep_days", "today", "expected"),
    [
        (AGED, 0, 1000, []),
        (AGED, 7, 8, []),
        (AGED, 7, 9, [1]),
        (AGED, 7, 13, [1, 2]),
        (AGED, 7, 100, [1, 2, 3]),
        ((kept(1, days=1, pinned=True), kept(2, days=1)), 7, 100, [2]),
    ],
)
def test_none_is_kept_for_longer_than_that(
    disks: tuple[Revision, ...], keep_days: int, today: int, expected: list[int]
) -> None:
    """One that is exactly as old stays: it goes at the next look."""
    state = state_of(*shelf(*disks))
    today_us = today * DAY_US - 1 if not expected else today * DAY_US
    on = facts(keep_us=keep_days * DAY_US)
    found = due_to_expire(state, on, today_us, EXPIRE)
    assert [(e.revision, e.why) for e in found] == [(number, "age") for number in expected]


def test_the_number_is_looked_at_before_the_age() -> None:
    state = state_of(*shelf(*AGED))
    assert due(state, keep=2, keep_days=7, today=13) == [(1, "count"), (2, "age")]


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        (THREE, [1]),
        ((kept(1), kept(2)), [1]),
        ((kept(1),), []),
        ((kept(1, pinned=True), kept(2), kept(3)), [2]),
        ((kept(1, pinned=True), kept(2)), []),
        ((kept(1, expiring="old"), kept(2)), []),
    ],
)
def test_for_space_one_goes_at_a_time_and_never_the_newest(
    disks: tuple[Revision, ...], expected: list[int]
) -> None:
    state = state_of(*shelf(*disks))
    assert due(state, command=SHORT) == [(number, "space") for number in expected]


def test_nothing_goes_for_space_while_something_goes_anyway() -> None:
    assert due(state_of(*shelf(*THREE)), keep=2, command=SHORT) == [(1, "count")]


@pytest.mark.parametrize(
    "state",
    [
        state_of(),
        state_of(*shelf(*THREE, operation="op-1")),
        state_of(replica_set(0, "deleted", snapshots=(1,)), kept(1)),
    ],
)
def test_nothing_is_given_up_of_what_is_busy_or_not_there(state: State) -> None:
    assert due(state, keep=0, command=SHORT) == []
    assert oldest_removable(state) is None


def test_the_words_for_people_have_the_figures_in_them() -> None:
    state = state_of(*shelf(*AGED))
    on = facts(keep_revisions=2, keep_us=7 * DAY_US)
    assert due_to_expire(state, on, 13 * DAY_US, EXPIRE) == (
        SnapshotExpired("foo", 1, "count", "2 newer ones are kept"),
        SnapshotExpired("foo", 2, "age", "kept for 8 days, longer than 7"),
    )
    assert due_to_expire(state, facts(), 0, SHORT) == (
        SnapshotExpired("foo", 1, "space", LITTLE),
    )


def test_of_all_sets_the_oldest_goes_first_for_space() -> None:
    bar = shelf(
        *(kept(n, days, name="bar") for n, days in ((1, 3), (2, 9))), name="bar", base_image="b"
    )
    only_one = shelf(kept(1, days=0, name="baz"), name="baz")
    state = state_of(*shelf(kept(1, days=5), kept(2, days=6)), *bar, *only_one)
    found = oldest_removable(state)
    assert found is not None
    assert (found.name, found.number) == ("bar", 1)


# -- pins -------------------------------------------------------------------------------------

HISTORY: tuple[Command, ...] = (run(), patch(), patch())
UPPER = facts(carry="upper", clones_share_blocks=True, keep_revisions=1)


@pytest.mark.parametrize(
    ("reason", "words", "history", "command"),
    [
        (Reason.REPLICA_SET_NOT_FOUND, (), (), PinRevision("foo", 1)),
        (Reason.REPLICA_SET_NOT_FOUND, (), (), UnpinRevision("foo", 1)),
        (Reason.OPERATION_IN_PROGRESS, (), (unfinished(run()),), PinRevision("foo", 1)),
        (Reason.OPERATION_IN_PROGRESS, (), (unfinished(run()),), UnpinRevision("foo", 1)),
        (Reason.REVISION_NOT_FOUND, ("no version 9", "1, 2"), HISTORY, PinRevision("foo", 9)),
        (Reason.REVISION_NOT_FOUND, ("no version 9", "1, 2"), HISTORY, UnpinRevision("foo", 9)),
        (
            Reason.SYSTEM_DISK_GONE,
            ("foo-1", "that are: 2"),
            (*HISTORY, EXPIRE),
            PinRevision("foo", 1),
        ),
        (
            Reason.SYSTEM_DISK_GONE,
            ("foo-1", "that are: 2"),
            (*HISTORY, unfinished(EXPIRE)),
            PinRevision("foo", 1),
        ),
        (
            Reason.SYSTEM_DISK_GONE,
            ("that are: none",),
            (run(), DeleteReplicaSet("foo"), run()),
            PinRevision("foo", 1),
        ),
    ],
)
def test_a_pin_is_refused(
    reason: Reason, words: tuple[str, ...], history: tuple[Command | Step, ...], command: Command
) -> None:
    given(*history, on=UPPER).when(command).rejected(reason, *words)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_is_kept_or_current_can_be_pinned_and_again(version: int) -> None:
    decided = given(*HISTORY, on=UPPER).when(PinRevision("foo", version))
    assert decided.events[0] == RevisionPinned("foo", version)
    assert decided.operation.state == "succeeded"
    assert decided.state.revisions["foo", version].pinned
    again = decided.world.send(PinRevision("foo", version))
    assert isinstance(again, tuple)


def test_what_is_unpinned_is_kept_as_long_as_any_other() -> None:
    world = given(*HISTORY, PinRevision("foo", 1), on=UPPER)
    world.when(EXPIRE).rejected(Reason.NOTHING_NEW)
    decided = world.when(UnpinRevision("foo", 1))
    assert decided.events[0] == RevisionUnpinned("foo", 1)
    assert decided.operation.state == "succeeded"
    world.when(EXPIRE).then(SnapshotExpired("foo", 1, "count", "1 newer ones are kept"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_went_on_is_pinned_where_its_disk_is(version: int) -> None:
    history = (run(memory_bytes=GIB), patch(memory_bytes=2 * GIB))
    world = given(*history, on=UPPER)
    decided = world.when(PinRevision("foo", version))
    assert decided.events[0] == RevisionPinned("foo", 2)
    world = given(*history, patch(), PinRevision("foo", version), on=UPPER)
    assert world.world.state.revisions["foo", 2].pinned
    assert world.when(UnpinRevision("foo", version)).events[0] == RevisionUnpinned("foo", 2)


def test_the_pin_of_the_current_version_holds_when_it_is_superseded() -> None:
    world = given(run(), PinRevision("foo", 1), patch(), patch(), patch(), on=UPPER)
    decided = world.when(EXPIRE)
    decided.then(SnapshotExpired("foo", 2, "count", "1 newer ones are kept"))


def test_a_pinned_set_can_be_deleted() -> None:
    world = given(*HISTORY, PinRevision("foo", 1), on=UPPER).world
    done = steps(world, DeleteReplicaSet("foo"))
    assert done[-3:] == ["drop-snapshot-foo-1", "drop-snapshot-foo-2", "settle"]
