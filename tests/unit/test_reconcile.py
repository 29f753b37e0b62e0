"""Desired less observed: which effects are due, in which order, under which ids."""

import pytest

from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    Execute,
    PreCopyDisk,
    RemoveVolume,
    Settle,
    StartContainer,
    StopContainer,
    TakeSnapshot,
    kind_of,
)
from service.domain.reconcile import COPY_AHEAD_BYTES_MIN, reconcile
from tests.kit.builders import GIB, facts, patch, resize, run
from tests.kit.exhaust import all_paths
from tests.kit.gwt import given, steps, unfinished
from tests.kit.world import image_id_of

SUCCESSION = ("stop-foo-1", "snapshot-foo-1", "create-foo-2", "start-foo-2", "remove-foo-1")


RUNNING: tuple[Command, ...] = (run("foo", 1, 1),)


@pytest.mark.parametrize(
    ("history", "command", "expected"),
    [
        ((), RUNNING[0], ("image-foo-1", "create-foo-1", "start-foo-1", "settle")),
        (
            (),
            run(data_disk_bytes=GIB),
            ("make-foo-1", "image-foo-1", "create-foo-1", "start-foo-1", "settle"),
        ),
        (RUNNING, patch(), (*SUCCESSION, "settle")),
        (RUNNING, RestartReplicaSet("foo"), (*SUCCESSION, "settle")),
        (
            (*RUNNING, patch()),
            RollBackReplicaSet("foo", 1),
            (
                "stop-foo-2",
                "snapshot-foo-2",
                "create-foo-3",
                "start-foo-3",
                "remove-foo-2",
                "settle",
            ),
        ),
        ((*RUNNING, StopReplicaSet("foo")), patch(), (*SUCCESSION[1:], "settle")),
        ((*RUNNING, PauseReplicaSet("foo")), patch(), (*SUCCESSION[1:], "settle")),
        (RUNNING, StopReplicaSet("foo"), ("stop-foo-1", "settle")),
        (RUNNING, PauseReplicaSet("foo"), ("stop-foo-1", "settle")),
        ((*RUNNING, PauseReplicaSet("foo")), ContinueReplicaSet("foo"), ("start-foo-1", "settle")),
        (RUNNING, CommitReplicaSet("foo", "saved:1"), ("commit-foo-1", "settle")),
        (RUNNING, DeleteReplicaSet("foo"), ("stop-foo-1", "remove-foo-1", "settle")),
        (
            (*RUNNING, patch()),
            DeleteReplicaSet("foo"),
            ("stop-foo-2", "remove-foo-2", "drop-snapshot-foo-1", "settle"),
        ),
        ((), CreateVolume("disk", GIB), ("make-disk-1", "settle")),
        ((CreateVolume("disk", GIB),), resize("disk", 2), ("size-disk-2", "settle")),
        ((CreateVolume("disk", GIB),), DeleteVolume("disk"), ("remove-disk", "settle")),
        (
            (CreateVolume("disk", GIB), run(mounts=("disk-1",))),
            resize("disk", 2),
            ("stop-foo-1", "size-disk-2", "start-foo-1", "settle"),
        ),
    ],
)
def test_the_steps_of_a_command(
    history: tuple[Command, ...], command: Command, expected: tuple[str, ...]
) -> None:
    assert tuple(steps(given(*history).world, command)) == expected


UPPER = (
    *("create-foo-2", "stop-foo-1", "snapshot-foo-1"),
    *("fill-foo-2", "start-foo-2", "remove-foo-1"),
)
AHEAD = (UPPER[0], "precopy-foo-2", *UPPER[1:])
OTHER_IMAGE = ("image-foo-2", *(step for step in UPPER if step != "fill-foo-2"))


@pytest.mark.parametrize(
    ("history", "command", "shares", "expected"),
    [
        (RUNNING, patch(), True, UPPER),
        (RUNNING, patch(), False, AHEAD),
        (RUNNING, RestartReplicaSet("foo"), False, AHEAD),
        ((*RUNNING, PauseReplicaSet("foo")), patch(), False, (UPPER[0], *UPPER[2:])),
        (RUNNING, patch(image="b:1"), True, OTHER_IMAGE),
        (RUNNING, patch(image="b:1"), False, OTHER_IMAGE),
        (
            (*RUNNING, patch()),
            RollBackReplicaSet("foo", 1),
            False,
            (
                "create-foo-3",
                "stop-foo-2",
                "snapshot-foo-2",
                "fill-foo-3",
                "start-foo-3",
                "remove-foo-2",
                "compact foo-2",
            ),
        ),
    ],
)
def test_the_steps_of_a_command_that_carries_a_directory(
    history: tuple[Command, ...], command: Command, shares: bool, expected: tuple[str, ...]
) -> None:
    """It is copied ahead only of what runs, and only where it is what will be cloned."""
    world = given(*history, on=facts(carry="upper", clones_share_blocks=shares)).world
    done = steps(world, command)
    settle = len(done) - (2 if "compact" in done[-1] else 1)
    assert done.pop(settle) == "settle"
    assert tuple(done) == expected


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        ("create-foo-2", ("create-foo-2!", "remove-foo-2")),
        (
            "snapshot-foo-1",
            (*AHEAD[:3], "snapshot-foo-1!", "remove-foo-2", "start-foo-1"),
        ),
        (
            "fill-foo-2",
            (*AHEAD[:4], "fill-foo-2!", "remove-foo-2", "put-back-foo-1", "start-foo-1"),
        ),
        (
            "start-foo-2",
            (*AHEAD[:5], "start-foo-2!", "remove-foo-2", "put-back-foo-1", "start-foo-1"),
        ),
        ("precopy-foo-2", (AHEAD[0], "precopy-foo-2!", "remove-foo-2")),
    ],
)
def test_a_patch_that_carries_a_directory_is_undone_from_wherever_it_failed(
    fails: str, expected: tuple[str, ...]
) -> None:
    """Where not even the copy ahead has room, the old container is never stopped."""
    world = given(*RUNNING, on=facts(carry="upper")).world
    done = steps(world, patch(), lambda effect: effect.effect_id.endswith(fails))
    assert tuple(done) == (*expected, "settle")


def test_what_is_copied_ahead_is_what_still_runs() -> None:
    world = given(*RUNNING, unfinished(patch(), 1), on=facts(carry="upper")).world
    assert world.due() == (
        PreCopyDisk(
            "foo.2/precopy-foo-2",
            "foo.2",
            "foo",
            2,
            container="foo-2",
            source="foo-1",
            least_bytes=COPY_AHEAD_BYTES_MIN,
        ),
    )


def test_a_patch_to_another_image_keeps_the_disk_and_starts_with_a_bare_one() -> None:
    world = given(*RUNNING, patch(image="b:1")).world
    second = world.state.revisions["foo", 2]
    assert (second.disk_from, second.spec.image) == (None, "b:1")
    assert second.base_image == second.image_id == image_id_of("b:1")
    assert world.state.replica_sets["foo"].snapshots == (1,)


@pytest.mark.parametrize("carry", ["upper", "commit"])
def test_a_patch_to_an_image_that_is_not_there_leaves_everything_as_it_was(carry: str) -> None:
    world = given(*RUNNING, on=facts(carry=carry)).world
    before = world.state.revisions["foo", 1]
    done = steps(world, patch(image="b:1"), lambda effect: "/image" in effect.effect_id)
    assert done == ["image-foo-2!", "remove-foo-2", "settle"]
    assert world.state.revisions["foo", 1] == before


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        ("snapshot-foo-1", ("stop-foo-1", "snapshot-foo-1!", "remove-foo-2", "start-foo-1")),
        (
            "create-foo-2",
            (
                *SUCCESSION[:2],
                "create-foo-2!",
                "remove-foo-2",
                "drop-snapshot-foo-1",
                "start-foo-1",
            ),
        ),
        (
            "start-foo-2",
            (
                *SUCCESSION[:3],
                "start-foo-2!",
                "remove-foo-2",
                "drop-snapshot-foo-1",
                "start-foo-1",
            ),
        ),
    ],
)
def test_a_patch_is_undone_from_wherever_it_failed(
    fails: str, expected: tuple[str, ...]
) -> None:
    done = steps(given(*RUNNING).world, patch(), lambda effect: effect.effect_id.endswith(fails))
    assert tuple(done) == (*expected, "settle")


def test_the_first_image_is_pinned_and_the_next_revision_starts_from_the_kept_disk() -> None:
    world = given(*RUNNING, unfinished(patch(), 2)).world
    (create,) = world.due()
    assert isinstance(create, CreateContainer)
    assert create.config["Image"] == world.state.revisions["foo", 1].snapshot


def test_a_container_is_started_only_if_it_was_not_started_since() -> None:
    """After a crash the executor compares the instant, so one that ended at once runs once."""
    world = given(*RUNNING, PauseReplicaSet("foo"), unfinished(ContinueReplicaSet("foo"))).world
    (start,) = world.due()
    assert isinstance(start, StartContainer)
    assert start.last_started_at == world.state.revisions["foo", 1].started_at != ""


def test_snapshots_are_named_by_set_version_and_operation() -> None:
    """Predecessor: they are keyed by version alone. And a failed patch may leave an image."""
    images = []
    for name in ("foo", "bar"):
        world = given(run(name)).world
        world.send(patch(name))
        for _ in range(2):  # the first patch fails, and the second takes its own snapshot
            world.succeed(world.due()[0])
            (snapshot,) = world.due()
            assert isinstance(snapshot, TakeSnapshot)
            images.append(snapshot.image)
            world.fail(snapshot)
            world.drive()
            world.send(patch(name))
    assert len(set(images)) == 4


def test_the_snapshot_is_taken_of_a_container_that_stands_still() -> None:
    world = given(*RUNNING, unfinished(patch(), 1)).world
    assert isinstance(world.due()[0], TakeSnapshot)
    assert world.state.revisions["foo", 1].container == "exited"


def test_what_is_due_depends_on_nothing_but_the_state() -> None:
    world = given(*RUNNING, unfinished(patch(), 2)).world
    again = world.copy()
    assert world.due() == again.due()
    assert reconcile(world.state, "replica_set", "foo") == world.due()


@pytest.mark.parametrize("kind", ["replica_set", "volume"])
def test_nothing_is_due_for_a_name_that_is_not_known(kind: str) -> None:
    assert reconcile(given().world.state, kind, "nobody") == ()


def test_at_most_one_effect_of_a_name_is_due_beside_its_executions() -> None:
    command = ExecuteInReplicaSet("foo", ("true",))
    world = given(*RUNNING, unfinished(command), unfinished(command)).world
    world.send(StopReplicaSet("foo"))
    assert [type(effect) for effect in world.due()] == [Execute, Execute, StopContainer]


def test_effects_belong_to_what_they_are_done_to() -> None:
    disk = RemoveVolume("1/remove-d", "1", "d", 1, ("d-1",), with_disk=True)
    assert kind_of(disk) == "volume"
    assert kind_of(Settle("1/settle", "1", "d", 1, "volume")) == "volume"
    assert kind_of(StopContainer("1/stop-d-1", "1", "d", 1, "d-1")) == "replica_set"


def test_whatever_fails_in_whatever_order_two_patches_and_a_delete_come_to_an_end() -> None:
    """Every path: each effect that may fail does so or not, for two names side by side."""
    paths = 0
    for choose in all_paths():
        world = given(run("foo", 1), run("bar", 1)).world
        world.send(patch("foo", 0))
        world.send(DeleteReplicaSet("bar"))
        while world.due():
            effect = choose.one_of(world.due())
            may_fail = isinstance(effect, CreateContainer | StartContainer | TakeSnapshot)
            if may_fail and choose.yes():
                world.fail(effect)
            else:
                world.succeed(effect)
        world.check_ended()
        assert world.state.gpus["gpu-1"].holder is None
        paths += 1
    assert paths > 100


def test_it_is_told_apart_which_paths_were_taken() -> None:
    seen = [
        (first, choose.yes() if first else None, choose.taken)
        for choose in all_paths()
        for first in (choose.below(2),)
    ]
    assert seen == [(0, None, (0,)), (1, False, (1, 0)), (1, True, (1, 1))]
