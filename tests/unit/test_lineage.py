"""Where a system disk comes from, and what commits left in the image below it."""

from typing import Any

import pytest

from events.values import Carry
from projections.lineage import Base, base_of, disk_holder, kept_before
from projections.state import Revision
from service.domain.commands import Command, RollBackReplicaSet
from service.domain.effects import CreateContainer, TakeSnapshot
from tests.kit.builders import (
    IMAGE,
    IMAGE_CMD,
    IMAGE_ENV,
    IMAGE_ID,
    facts,
    patch,
    replica_set,
    revision,
    run,
    spec,
    state_of,
)
from tests.kit.gwt import Step, given
from tests.kit.world import World, image_id_of


def test_the_holder_of_a_disk_is_at_the_end_of_the_chain() -> None:
    state = state_of(
        revision(1, continued_as=2), revision(2, continued_as=4), revision(3), revision(4)
    )
    holders = [disk_holder(state, state.revisions["foo", n]).number for n in (1, 2, 3, 4)]
    assert holders == [4, 4, 3, 4]


def kept(number: int, base_image: str = "a", **changes: Any) -> Revision:
    """A revision whose disk is kept as a directory."""
    fields: dict[str, Any] = {
        "snapshot": f"foo-{number}-op",
        "snapshot_carry": "upper",
        "base_image": base_image,
    }
    return revision(number, container="removed", **(fields | changes))


@pytest.mark.parametrize(
    ("others", "number", "found"),
    [
        ((), 3, None),
        ((kept(1), kept(2)), 3, 2),
        ((kept(1), kept(2, expiring="old")), 3, 1),
        ((kept(1), kept(2, "b")), 3, 1),
        ((kept(1), kept(2, snapshot_carry="commit")), 3, 1),
        ((kept(1), kept(4)), 3, 1),
        ((kept(4),), 3, None),
    ],
)
def test_the_disk_kept_before_is_the_newest_older_directory_on_the_same_image(
    others: tuple[Revision, ...], number: int, found: int | None
) -> None:
    numbers = tuple(sorted({*(one.number for one in others), number}))
    state = state_of(replica_set(5, snapshots=numbers), kept(number), *others)
    before = kept_before(state, "foo", number)
    assert (None if before is None else before.number) == found


def carrying(carry: Carry) -> Step:
    """From now on system disks are carried like this."""

    def step(world: World) -> None:
        world.facts = facts(carry=carry, clones_share_blocks=True)

    return step


UPPER, COMMIT = carrying("upper"), carrying("commit")
SNAPSHOT = "gpuledger/snapshot:foo-{}-foo.{}"


def base(image: str, env: tuple[str, ...] = (), cmd: bool = False) -> Base:
    """A base that began with the image of every test, and what commits left in it."""
    return Base(image, IMAGE_ID, IMAGE_ENV, IMAGE_CMD, env, cmd)


WITH_A = run(env=("A=1",), cmd=("train",))


@pytest.mark.parametrize(
    ("history", "command", "expected"),
    [
        ((COMMIT,), WITH_A, base(IMAGE_ID)),
        ((COMMIT, run()), patch(), base(SNAPSHOT.format(1, 2))),
        ((COMMIT, WITH_A), patch(), base(SNAPSHOT.format(1, 2), ("A",), cmd=True)),
        (
            (COMMIT, WITH_A, patch(env=("A", "B=2"), cmd=())),
            patch(env=("B",)),
            base(SNAPSHOT.format(2, 3), ("A", "B"), cmd=True),
        ),
        (
            (COMMIT, WITH_A, patch(env=("A", "B=2"), cmd=()), patch(env=("B",))),
            RollBackReplicaSet("foo", 1),
            base(SNAPSHOT.format(1, 2), ("A",), cmd=True),
        ),
        ((UPPER, WITH_A), patch(), base(IMAGE_ID)),
        ((UPPER, WITH_A, patch()), patch(env=("A",)), base(IMAGE_ID)),
        (
            (UPPER, WITH_A, COMMIT, patch(env=("A", "B=2"))),
            UPPER,
            base(SNAPSHOT.format(1, 2), ("A",), cmd=True),
        ),
        (
            (UPPER, WITH_A, patch(), COMMIT, patch(env=("A",)), UPPER, patch(cmd=())),
            patch(),
            base(SNAPSHOT.format(2, 3), ("A",), cmd=True),
        ),
    ],
)
def test_what_a_container_is_made_of(
    history: tuple[Command | Step, ...], command: Command | Step, expected: Base
) -> None:
    world = given(*history).world
    if callable(command):
        command(world)
        command = patch()
    world.send(command)
    while not isinstance(effect := world.due()[0], CreateContainer):
        world.succeed(effect)
    state = world.state
    newest = state.revisions["foo", state.replica_sets["foo"].current]
    assert base_of(state, newest) == expected
    assert effect.config["Image"] == expected.image
    world.succeed(effect)
    made = world.state.revisions["foo", newest.number]
    assert made.base_image == expected.image
    assert (made.origin, made.origin_env, made.origin_cmd) == (IMAGE_ID, IMAGE_ENV, IMAGE_CMD)
    assert (made.baked_env, made.baked_cmd) == (expected.baked_env, expected.baked_cmd)
    world.drive()


def test_what_a_patch_took_away_is_away_however_often_it_was_committed() -> None:
    world = given(WITH_A, patch(env=("A",), cmd=()), patch()).world
    world.send(patch(env=("PATH=/x",)))
    while not isinstance(effect := world.due()[0], CreateContainer):
        world.succeed(effect)
    env = effect.config["Env"]
    assert env[:2] == ["PATH=/x", "A"]
    assert effect.config["Cmd"] == list(IMAGE_CMD)
    world.drive()
    world.send(patch(env=("PATH",)))
    while not isinstance(effect := world.due()[0], CreateContainer):
        world.succeed(effect)
    assert effect.config["Env"][:2] == ["A", "PATH=/bin"]


def test_another_image_is_a_lineage_of_its_own() -> None:
    world = given(WITH_A, patch(), patch(image="b:1", env=("A",)), patch()).world
    other = image_id_of("b:1")
    third, fourth = (world.state.revisions["foo", number] for number in (3, 4))
    assert (third.disk_from, third.base_image, third.origin) == (None, other, other)
    assert third.baked_env == ()
    assert (fourth.base_image, fourth.origin) == (third.snapshot, other)
    assert world.state.replica_sets["foo"].snapshots == (1, 2, 3)
    world.send(RollBackReplicaSet("foo", 2))
    world.drive()
    fifth = world.state.revisions["foo", 5]
    assert (fifth.disk_from, fifth.origin, fifth.spec.image) == (2, IMAGE_ID, IMAGE)


def test_an_image_below_all_commits_is_what_layers_are_squashed_onto() -> None:
    world = given(run(), patch(), patch()).world
    world.send(patch())
    while not isinstance(effect := world.due()[0], TakeSnapshot):
        world.succeed(effect)
    assert effect.squash_onto == IMAGE_ID


def test_before_its_image_is_known_it_is_called_by_its_name() -> None:
    state = state_of(replica_set(), revision(1, spec=spec(), container="absent"))
    assert base_of(state, state.revisions["foo", 1]) == Base(IMAGE, "", (), ())
