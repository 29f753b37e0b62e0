"""What becomes of kept system disks: given up beside whatever goes on, or sharing their files."""

from typing import Any

import pytest

from events.replica_sets import SnapshotExpired
from service.domain.commands import (
    Command,
    DeleteReplicaSet,
    ExpireSnapshots,
    PinRevision,
    RestartReplicaSet,
    RollBackReplicaSet,
)
from service.domain.effects import CompactSnapshot, PutBackDisk, RemoveSnapshot, StartContainer
from service.domain.rejections import Reason
from service.domain.retention import DAY_US
from tests.kit.builders import GIB, facts, patch, run
from tests.kit.gwt import Step, at, given, steps, unfinished

EXPIRE = ExpireSnapshots("foo")
HISTORY: tuple[Command, ...] = (run(), patch(), patch())
UPPER = facts(carry="upper", clones_share_blocks=True, keep_revisions=1)

# -- giving up --------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", ["upper", "commit"])
def test_what_expired_is_removed_beside_whatever_else_goes_on(carry: str) -> None:
    on = facts(carry=carry, clones_share_blocks=True, keep_revisions=0)
    world = given(*HISTORY, patch(), unfinished(EXPIRE), on=on).world
    first, *_ = removes = [e for e in world.due() if isinstance(e, RemoveSnapshot)]
    assert [effect.operation_id for effect in removes] == [""] * len(removes)
    assert first.effect_id == f"expire/{first.image}"
    assert first.carry == carry
    world.send(RestartReplicaSet("foo"))
    while others := [e for e in world.due() if not isinstance(e, RemoveSnapshot)]:
        world.succeed(others[0])
        assert [e for e in world.due() if isinstance(e, RemoveSnapshot)] == removes
    world.drive()
    gone = world.state.revisions["foo", 1]
    assert (gone.snapshot, gone.expiring, gone.gone) == (None, "", "0 newer ones are kept")
    assert world.state.replica_sets["foo"].expiring == ()


def test_a_set_that_is_deleted_meanwhile_removes_each_disk_once() -> None:
    world = given(*HISTORY, patch(), unfinished(EXPIRE), on=UPPER).world
    assert steps(world, DeleteReplicaSet("foo")) == [
        "expire foo-1",
        "expire foo-2",
        "stop-foo-4",
        "remove-foo-4",
        "drop-snapshot-foo-3",
        "settle",
    ]


def test_a_deletion_waits_for_a_disk_that_is_being_removed() -> None:
    world = given(*HISTORY, patch(), unfinished(EXPIRE), on=UPPER).world
    world.send(DeleteReplicaSet("foo"))
    while others := [e for e in world.due() if not e.effect_id.startswith("expire/")]:
        world.succeed(others[0])
    assert len(world.due()) == 2
    assert world.state.live("foo") is not None
    world.drive()
    assert world.state.live("foo") is None


@pytest.mark.parametrize("expire", [unfinished(EXPIRE), EXPIRE])
def test_a_roll_back_to_what_was_given_up_is_refused_with_why_and_what_there_is(
    expire: Command | Step,
) -> None:
    world = given(*HISTORY, patch(), expire, on=UPPER)
    world.when(RollBackReplicaSet("foo", 1)).rejected(
        Reason.SYSTEM_DISK_GONE, "foo-1", "(1 newer ones are kept)", "roll back to: 3"
    )
    assert world.when(RollBackReplicaSet("foo", 3)).then_driven().operation.state == "succeeded"


def test_a_roll_back_that_is_going_on_keeps_what_it_needs() -> None:
    world = given(*HISTORY, patch(), unfinished(RollBackReplicaSet("foo", 1)), on=UPPER)
    world.when(EXPIRE).rejected(Reason.NOTHING_NEW)


def test_the_image_that_the_container_lies_on_is_never_given_up() -> None:
    on = facts(keep_revisions=0)
    world = given(run(), patch(), patch(), on=on)
    base = world.world.state.revisions["foo", 3].base_image
    assert base == world.world.state.revisions["foo", 2].snapshot
    world.when(EXPIRE).then(SnapshotExpired("foo", 1, "count", "0 newer ones are kept"))


def test_age_is_counted_from_when_it_was_kept() -> None:
    on = facts(carry="upper", keep_us=7 * DAY_US)
    world = given(at(DAY_US), run(), at(3 * DAY_US), patch(), at(9 * DAY_US), on=on)
    assert world.world.state.revisions["foo", 1].kept_us == 3 * DAY_US
    world.when(EXPIRE).rejected(Reason.NOTHING_NEW)
    world.world.now_us = 11 * DAY_US
    world.when(EXPIRE).then(SnapshotExpired("foo", 1, "age", "kept for 8 days, longer than 7"))


# -- sharing files ----------------------------------------------------------------------------

COPIES = facts(carry="upper", keep_revisions=1)


def compacted(*history: Command, on: Any = COPIES) -> list[tuple[int, str]]:
    """Which versions share files after the last command, each with what."""
    world = given(*history[:-1], on=on).world
    world.send(history[-1])
    found = []
    while world.due():
        effect = world.due()[0]
        if isinstance(effect, CompactSnapshot):
            found.append((effect.number, effect.other))
        world.succeed(effect)
    return found


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ((run(), patch()), []),
        ((run(), patch(), patch()), [(2, "foo-1-foo.2")]),
        ((run(), patch(), patch(), patch()), [(3, "foo-2-foo.3")]),
        ((run(), patch(), patch(image="b:1"), patch()), []),
        ((run(), patch(image="b:1"), RollBackReplicaSet("foo", 1), patch()), [(3, "foo-1-foo.2")]),
        ((run(), patch(), patch(), EXPIRE, patch()), [(3, "foo-2-foo.3")]),
        (
            (run(), patch(), patch(memory_bytes=GIB), patch(memory_bytes=2 * GIB), patch()),
            [(4, "foo-1-foo.2")],
        ),
    ],
)
def test_a_kept_disk_shares_files_with_the_one_kept_before_it_on_the_same_image(
    history: tuple[Command, ...], found: list[tuple[int, str]]
) -> None:
    assert compacted(*history) == found


def test_nothing_is_compacted_where_clones_share_blocks_or_disks_are_images() -> None:
    for on in (facts(carry="upper", clones_share_blocks=True), facts()):
        assert compacted(run(), patch(), patch(), on=on) == []


def test_what_is_given_up_is_not_compacted_any_more_nor_compacted_with() -> None:
    world = given(run(), patch(), patch(), unfinished(patch(), 8), on=COPIES).world
    (compact,) = world.due()
    assert isinstance(compact, CompactSnapshot)
    assert (compact.number, compact.other) == (3, "foo-2-foo.3")
    world.send(EXPIRE)
    assert [type(effect) for effect in world.due()] == [RemoveSnapshot, RemoveSnapshot]
    world.drive()


def test_what_is_given_up_itself_is_not_compacted_any_more() -> None:
    on = facts(carry="upper", keep_revisions=0)
    world = given(run(), patch(), PinRevision("foo", 1), unfinished(patch(), 8), on=on).world
    (compact,) = world.due()
    assert isinstance(compact, CompactSnapshot)
    assert (compact.number, compact.other) == (2, "foo-1-foo.2")
    world.send(EXPIRE)
    assert [(type(effect), effect.number) for effect in world.due()] == [(RemoveSnapshot, 2)]
    world.drive()


def test_an_image_is_not_compacted_with_a_directory_kept_before() -> None:
    world = given(run(), patch(), on=COPIES).world
    world.facts = facts(carry="commit", clones_share_blocks=False)
    world.send(patch())
    world.drive()
    assert not world.state.revisions["foo", 3].copies
    assert world.state.replica_sets["foo"].to_compact == ()


def test_a_disk_that_was_put_back_is_not_compacted() -> None:
    world = given(run(), patch(), patch(), on=COPIES).world
    world.send(patch())
    seen = []
    while world.due():
        effect = world.due()[0]
        seen.append(type(effect))
        failing = isinstance(effect, StartContainer) and effect.number == 4
        if failing:
            world.fail(effect)
        else:
            world.succeed(effect)
    assert PutBackDisk in seen
    assert CompactSnapshot not in seen
