"""The rules for orphans: what no record accounts for, and when it may be removed."""

import pytest
from msgspec.structs import replace

from events.operations import OperationFailed, OperationSucceeded
from events.orphans import OrphanExpired, OrphanRemoved, OrphanSpared
from events.values import OrphanKind
from projections.state import State
from service.domain.commands import CreateVolume, DeleteReplicaSet, Failed
from service.domain.effects import DropOrphan
from service.domain.orphan_commands import ExpireOrphan, RemoveOrphan, Thing
from service.domain.orphans import orphans
from service.domain.rejections import Reason
from tests.kit.builders import GIB, OWNER, facts, patch, resize, run
from tests.kit.gwt import Given, Step, given, unfinished
from tests.kit.world import World

HOUR_US = 3_600_000_000
GONE_PATCH = "foo-1-foo.9"
"""A system disk that a patch kept which the ledger has forgotten."""


def thing(kind: OrphanKind, name: str, of: str = "", number: int = 0, owner: str = OWNER) -> Thing:
    return Thing(f"{kind}-{name}", kind, name, owner, f"id of {name}", of, number)


def found(state: State, *seen: Thing) -> list[str]:
    """The names of those that are orphans."""
    return [one.thing.name for one in orphans(state, seen, {}, now_us=0, grace_us=0)]


CONTAINER = thing("container", "foo-7", "foo", 7)
UNDER_WAY: tuple[Step, ...] = tuple(unfinished(patch("foo"), done) for done in range(8))


@pytest.mark.parametrize(
    ("seen", "orphan"),
    [
        (CONTAINER, True),
        (thing("container", "foo-1", "foo", 1), False),
        # Somebody gave it another name, or another one its name.
        (thing("container", "bar-9", "foo", 1), False),
        (thing("container", "foo-2", "bar", 9), False),
        (thing("container", "stray"), True),
        (replace(CONTAINER, owner="owner-2"), False),
        (replace(CONTAINER, owner=""), False),
        (thing("volume", "vol-2", "vol", 2), False),
        (thing("volume", "vol-3", "vol", 3), True),
        (thing("volume", "old-1", "old", 1), True),
        (thing("volume_disk", "vol", "vol"), False),
        (thing("volume_disk", "old", "old"), True),
        (thing("system_disk", "foo-1-foo.2", "foo", 1), False),
        (thing("system_disk", GONE_PATCH, "foo", 1), True),
        (thing("system_disk", "old-1-op", "old", 1), True),
        (thing("image", "gpuledger/snapshot:foo-1-foo.9", "foo", 1), True),
    ],
)
def test_what_no_record_accounts_for(seen: Thing, orphan: bool) -> None:
    on = facts(carry="upper")
    world = given(CreateVolume("vol", GIB), resize("vol", 2), run(), patch(), on=on).world
    assert found(world.state, seen) == [seen.name] * orphan
    assert found(State(), seen) == []


def test_an_image_that_a_container_lies_on_is_accounted_for() -> None:
    world = given(run(), patch(), patch(), DeleteReplicaSet("foo"), run(), patch()).world
    image = world.state.revisions["foo", 5].base_image
    assert image.startswith("gpuledger/snapshot:foo-4-")
    assert found(world.state, thing("image", image, "foo", 4)) == []
    gone = "gpuledger/snapshot:foo-1-foo.2"
    assert found(world.state, thing("image", gone, "foo", 1)) == []


@pytest.mark.parametrize("step", UNDER_WAY)
def test_what_an_operation_makes_is_no_orphan_at_any_step(step: Step) -> None:
    state = given(run(), step, on=facts(carry="upper")).world.state
    operation = state.replica_sets["foo"].operation
    seen = (
        thing("container", "foo-2", "foo", 2),
        thing("system_disk", f"foo-1-{operation or 'foo.2'}", "foo", 1),
    )
    assert found(state, *seen) == []


def test_a_volume_under_way_is_no_orphan() -> None:
    state = given(unfinished(CreateVolume("vol", GIB))).world.state
    seen = thing("volume", "vol-1", "vol", 1), thing("volume_disk", "vol", "vol")
    assert found(state, *seen) == []


def test_those_that_use_others_come_first_and_the_grace_begins_when_one_is_seen() -> None:
    state = given().world.state
    kinds: tuple[OrphanKind, ...] = ("volume_disk", "image", "volume", "system_disk", "container")
    seen = [thing(kind, f"old-{place}") for place, kind in enumerate(kinds)]
    all_ = orphans(state, seen, {"volume-old-2": 5}, now_us=9, grace_us=10)
    order = [one.thing.kind for one in all_]
    assert order == ["container", "volume", "image", "system_disk", "volume_disk"]
    assert [(one.since_us, one.due_us) for one in all_[:2]] == [(9, 19), (5, 15)]
    assert all_[-1].due_us == 0
    assert {one.due_us for one in orphans(state, seen, {}, now_us=9, grace_us=0)} == {0}


# -- to be rid of it --------------------------------------------------------------------------


def with_orphan(seen: Thing | None = CONTAINER) -> Given:
    """A world in which foo-1 runs, and this was just seen."""
    return given(run(), on=facts(orphan=seen))


def expire(seen: Thing = CONTAINER, since_us: int = 0, grace_us: int = HOUR_US) -> ExpireOrphan:
    return ExpireOrphan(seen.id, seen, since_us, grace_us)


def drop(world: World) -> DropOrphan:
    (effect,) = world.due()
    assert isinstance(effect, DropOrphan)
    return effect


def test_no_time_takes_somebodys_data() -> None:
    disk = thing("volume_disk", "old", "old")
    with_orphan(disk).when(expire(disk, since_us=-HOUR_US)).rejected(Reason.NOTHING_NEW)
    with_orphan(disk).when(RemoveOrphan(disk.id)).then_due(DropOrphan)


def test_a_caller_waits_until_it_is_gone() -> None:
    decided = with_orphan().when(RemoveOrphan(CONTAINER.id))
    world = decided.world
    effect = drop(world)
    assert (effect.kind, effect.thing, effect.object_id) == ("container", "foo-7", "id of foo-7")
    (orphan,) = world.state.node.expiring if world.state.node else ()
    operation = world.state.operations[orphan.operation_id]
    assert (operation.state, operation.kind, operation.verb) == ("running", "orphan", "remove")
    assert world.succeed(effect) == (
        OrphanRemoved(CONTAINER.id, "container", "foo-7"),
        OperationSucceeded(operation.id, {"kind": "container", "name": "foo-7"}),
    )
    world.check_ended()


def test_one_that_cannot_be_removed_is_spared_and_may_be_asked_for_again() -> None:
    world = with_orphan().when(RemoveOrphan(CONTAINER.id)).world
    effect = drop(world)
    spared = world.report(effect, Failed("volume_in_use", "no"))
    assert spared == (
        OrphanSpared(CONTAINER.id, "container", "foo-7", "volume_in_use", "no"),
        OperationFailed(effect.operation_id, "volume_in_use", "no"),
    )
    world.check_ended()
    world.send(RemoveOrphan(CONTAINER.id))
    assert drop(world).effect_id != effect.effect_id


def test_the_service_removes_it_when_the_grace_is_over() -> None:
    ready = with_orphan()
    ready.world.now_us = HOUR_US - 1
    ready.when(expire()).rejected(Reason.NOTHING_NEW, "grace")
    ready.world.now_us = 2 * HOUR_US
    ready.when(expire(grace_us=0)).rejected(Reason.NOTHING_NEW)
    decided = ready.when(expire())
    why = "the ledger knows no version foo-7; it was one for 7200 s, and 3600 s are its grace"
    decided.then(
        OrphanExpired(CONTAINER.id, "container", "foo-7", why, object_id="id of foo-7", of="foo")
    )
    world = decided.world
    assert world.succeed(drop(world)) == (OrphanRemoved(CONTAINER.id, "container", "foo-7"),)


@pytest.mark.parametrize(
    "seen",
    [None, thing("container", "foo-1", "foo", 1), replace(CONTAINER, owner="owner-2")],
)
def test_what_is_none_stays(seen: Thing | None) -> None:
    with_orphan(seen).when(RemoveOrphan("container-x")).rejected(Reason.ORPHAN_NOT_FOUND)
    if seen is not None:
        ready = with_orphan()
        ready.world.now_us = 2 * HOUR_US
        ready.when(expire(seen)).rejected(Reason.ORPHAN_NOT_FOUND)


def test_one_that_is_going_is_not_removed_twice_and_its_name_waits() -> None:
    going = with_orphan().when(RemoveOrphan(CONTAINER.id)).world
    again = Given(going)
    again.when(RemoveOrphan(CONTAINER.id)).rejected(Reason.OPERATION_IN_PROGRESS, "already")
    again.when(patch("foo")).rejected(Reason.OPERATION_IN_PROGRESS, "container foo-7")
    going.send(run("bar"))
    going.succeed(next(e for e in going.due() if isinstance(e, DropOrphan)))
    assert again.when(patch("foo")).decision
