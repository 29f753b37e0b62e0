"""What a plan says of each replica set and volume: all of it, before anything is done."""

from typing import Any

import pytest
from msgspec.structs import replace

from projections.state import State
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    ObserveGpus,
    PauseReplicaSet,
    PinRevision,
    StopReplicaSet,
)
from service.domain.effects import CreateContainer, EnsureImage, StartContainer
from service.domain.observing_commands import RetryReplicaSet
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from service.domain.recovery_plan import Plan, RecoveryReport, Step, plan
from service.domain.recovery_sight import HostSight, SeenOwner
from tests.kit.builders import GIB, IMAGE, IMAGE_ID, OWNER, facts, gpu, patch, resize, run
from tests.kit.gwt import Step as Past
from tests.kit.gwt import failing, given, unfinished
from tests.kit.sightings import ended, gone

UPPER = facts(carry="upper")

BARE = HostSight({}, frozenset(), frozenset(), frozenset(), {}, {IMAGE: "manifest unknown"})
"""A host that has nothing, and fetches nothing."""

WITH_IMAGE = replace(BARE, images={IMAGE: IMAGE_ID, IMAGE_ID: IMAGE_ID}, unfetchable={})

KEPT = "foo-1-foo.2"
"""How the system disk of version 1 is called that the patch `foo.2` kept."""

ANEW = f"its system disk begins anew from {IMAGE}: what was changed in it is gone"
AS_LEFT = "its system disk begins as foo-1 left it: what was changed since is gone"
NO_WAY_BACK = f"no going back to version 1: its kept system disk {KEPT} is not here"


def planned(state: State, sight: HostSight = WITH_IMAGE) -> Plan:
    """The plan; the state is as it was."""
    before = state.replica_sets.copy()
    made = plan(state, sight, UPPER, now_us=1)
    assert state.replica_sets == before
    return made


def after(*history: Command | Past, gpus: int = 2) -> State:
    return given(*history, gpus=gpus, on=UPPER).world.state


def there(*names: str, owner: str = OWNER, of: str = "foo") -> dict[str, SeenOwner]:
    return {name: SeenOwner(owner, of) for name in names}


RUNS = after(run("foo", 1, 1))
PATCHED = after(run("foo", 1, 1), patch("foo"))

ROWS: list[tuple[str, State, HostSight, Step]] = [
    (
        "on its image",
        RUNS,
        WITH_IMAGE,
        Step("replica_set", "foo-1", "loss", "made again and started", (ANEW,)),
    ),
    (
        "it is here",
        RUNS,
        replace(WITH_IMAGE, containers=there("foo-1")),
        Step("replica_set", "foo-1", "here", "as it is"),
    ),
    (
        "an image that can be fetched",
        RUNS,
        replace(BARE, unfetchable={}),
        Step(
            *("replica_set", "foo-1", "loss", "made again and started"),
            (ANEW,),
            (f"image {IMAGE} is fetched",),
        ),
    ),
    (
        "an image that cannot",
        RUNS,
        BARE,
        Step(
            *("replica_set", "foo-1", "cannot", "cannot be made again"),
            (ANEW, f"image {IMAGE} is not here and cannot be fetched: manifest unknown"),
        ),
    ),
    (
        "a host directory that is not there",
        after(run("foo", mounts=("/data",))),
        replace(WITH_IMAGE, unmountable={"/data": "/data is not there", "/x": "nobody's"}),
        Step(
            *("replica_set", "foo-1", "cannot", "cannot be made again"),
            (ANEW, "/data is not there"),
        ),
    ),
    (
        "an image of the same name",
        RUNS,
        replace(BARE, images={IMAGE: "sha256:other"}),
        Step(
            *("replica_set", "foo-1", "loss", "made again and started"),
            (ANEW, f"image {IMAGE} is another here than the one it was made of ({IMAGE_ID})"),
        ),
    ),
    (
        "a kept system disk",
        PATCHED,
        replace(WITH_IMAGE, kept=frozenset({KEPT})),
        Step("replica_set", "foo-2", "loss", "made again and started", (AS_LEFT,)),
    ),
    (
        "a kept system disk that is gone",
        PATCHED,
        WITH_IMAGE,
        Step("replica_set", "foo-2", "loss", "made again and started", (NO_WAY_BACK, ANEW)),
    ),
    (
        "a kept system disk without its image",
        PATCHED,
        replace(BARE, kept=frozenset({KEPT}), unfetchable={}),
        Step(
            *("replica_set", "foo-2", "loss", "made again and started", (ANEW,)),
            (f"image {IMAGE} is fetched",),
        ),
    ),
    (
        "only a kept system disk is gone",
        PATCHED,
        replace(WITH_IMAGE, containers=there("foo-2")),
        Step("replica_set", "foo-2", "loss", "as it is", (NO_WAY_BACK,)),
    ),
    (
        "paused",
        after(run("foo", 1), PauseReplicaSet("foo")),
        WITH_IMAGE,
        Step("replica_set", "foo-1", "loss", "made again, paused", (ANEW,)),
    ),
    (
        "stopped",
        after(run("foo", 1), StopReplicaSet("foo")),
        WITH_IMAGE,
        Step("replica_set", "foo-1", "loss", "made again, stopped", (ANEW,)),
    ),
    (
        "one that never ran",
        after(run("foo"), StopReplicaSet("foo"), RecoverReplicaSet("foo", images=(IMAGE_ID,))),
        WITH_IMAGE,
        Step("replica_set", "foo-1", "whole", "made again, stopped"),
    ),
    (
        "other GPUs",
        after(run("foo", 1), ObserveGpus((gpu(4),))),
        WITH_IMAGE,
        Step(
            *("replica_set", "foo-1", "loss", "made again and started", (ANEW,)),
            ("GPUs gpu-4 in place of gpu-0",),
        ),
    ),
    (
        "no GPU",
        after(run("foo", 1), ObserveGpus(())),
        WITH_IMAGE,
        Step(
            *("replica_set", "foo-1", "loss", "made again, stopped"),
            (ANEW, "it was running and is stopped: 1 GPUs asked for, 0 free"),
        ),
    ),
    (
        "a commit was going on",
        after(run("foo"), unfinished(CommitReplicaSet("foo", "saved:1"))),
        WITH_IMAGE,
        Step(
            *("replica_set", "foo-1", "loss", "made again and started", (ANEW,)),
            ("its commit (operation foo.2) ends as failed",),
        ),
    ),
    (
        "a patch was going on",
        after(run("foo"), unfinished(patch("foo"), 1)),
        WITH_IMAGE,
        Step(
            *("replica_set", "foo-2", "loss", "made again and started", (ANEW,)),
            ("its patch (operation foo.2) goes on",),
        ),
    ),
    (
        "a deletion was going on",
        after(run("foo"), unfinished(DeleteReplicaSet("foo"))),
        WITH_IMAGE,
        Step(
            *("replica_set", "foo-1", "here", "as it is", ()),
            ("its delete (operation foo.2) goes on",),
        ),
    ),
    (
        "a volume and its disk",
        after(CreateVolume("bar", GIB)),
        BARE,
        Step(
            *("volume", "bar-1", "loss", "made again, empty"),
            ("its disk is not here: its data is gone",),
        ),
    ),
    (
        "a volume was being resized",
        after(CreateVolume("bar", GIB), unfinished(resize("bar", 2))),
        BARE,
        Step(
            *("volume", "bar-2", "loss", "made again, empty"),
            ("its disk is not here: its data is gone",),
            ("its resize (operation bar.2) goes on",),
        ),
    ),
    (
        "a volume, and its disk is here",
        after(CreateVolume("bar", GIB)),
        replace(BARE, disks=frozenset({"bar"})),
        Step("volume", "bar-1", "whole", "made again on its disk"),
    ),
]


@pytest.mark.parametrize(
    ("state", "sight", "step"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_each_is_told(state: State, sight: HostSight, step: Step) -> None:
    assert planned(state, sight).steps == (step,)


def test_a_patch_that_had_failed_is_undone_first() -> None:
    def undoing(world: Any) -> None:
        unfinished(patch("foo", cmd=("bad",)))(world)
        while not isinstance(effect := world.due()[0], StartContainer):
            world.succeed(effect)
        world.fail(effect)

    (step,) = planned(after(run("foo"), undoing)).steps
    assert step.what == "made again once what had failed is undone"
    assert step.notes == ("its patch (operation foo.2) goes on",)


def test_nothing_is_said_of_what_is_as_it_was() -> None:
    """A volume that is there, one that was deleted, and a container that was removed before."""
    state = after(run("foo"), gone("foo"), run("old"), DeleteReplicaSet("old"))
    assert planned(state) == Plan((), (), ())
    volume = after(CreateVolume("bar", GIB))
    sight = replace(BARE, disks=frozenset({"bar"}), volumes=frozenset({"bar-1"}))
    assert planned(volume, sight) == Plan((), (), ())


def test_a_pinned_version_that_is_gone_is_pinned_no_more() -> None:
    decided = given(run("foo"), patch("foo"), PinRevision("foo", 1), on=UPPER).when(
        RecoverReplicaSet("foo")
    )
    assert not decided.state.revisions["foo", 1].pinned
    decided.then_driven()


def test_a_command_that_was_running_ends() -> None:
    state = after(run("foo"), unfinished(ExecuteInReplicaSet("foo", ("true",))))
    world = given(run("foo"), unfinished(ExecuteInReplicaSet("foo", ("true",))), on=UPPER)
    assert planned(state).steps[0].what == "made again and started"
    decided = world.when(RecoverReplicaSet("foo")).then_driven()
    execution = decided.state.operations["foo.2"]
    assert (execution.state, execution.reason) == ("failed", "host_lost")


def test_gpus_are_kept_by_those_whose_are_there() -> None:
    """Who is looked at first takes none that another one had."""
    state = after(run("bar", 1), run("foo", 1), ObserveGpus((gpu(1), gpu(5))))
    made = planned(state)
    assert [step.notes for step in made.steps] == [("GPUs gpu-5 in place of gpu-0",), ()]


def test_volumes_come_before_those_who_use_them() -> None:
    state = after(CreateVolume("zoo", GIB), run("foo", mounts=("zoo-1",)))
    commands = planned(state).commands
    assert [type(one) for one in commands] == [RecoverVolume, RecoverReplicaSet]


@pytest.mark.parametrize(
    ("containers", "words"),
    [
        (there("foo-1", owner="other"), "foo-1 was made by somebody else"),
        (there("foo-1", owner=""), "foo-1 was made by somebody else"),
        (there("foo-2"), "foo-2 is of this installation, and not in this log"),
        (there("foo-1", of="bar"), "foo-1 is of this installation, and not in this log"),
    ],
)
def test_what_is_in_the_way(containers: dict[str, SeenOwner], words: str) -> None:
    made = planned(RUNS, replace(WITH_IMAGE, containers=containers))
    assert len(made.in_the_way) == 1
    assert words in made.in_the_way[0]
    assert not RecoveryReport("n1", 1, made).is_well


def test_losses_name_whose_they_are() -> None:
    assert planned(RUNS).losses == (f"foo-1: {ANEW}",)


def test_a_report_is_well_when_all_can_be() -> None:
    assert RecoveryReport("n1", 1, planned(RUNS)).is_well
    assert not RecoveryReport("n1", 1, planned(RUNS, BARE)).is_well


@pytest.mark.parametrize("begun", [True, False])
def test_one_that_was_to_be_started_again_is_made_and_started(begun: bool) -> None:
    waits = (run("foo", on_exit="restart"), ended("foo", 1))
    past = (*waits, unfinished(RetryReplicaSet("foo", 1))) if begun else waits
    decided = given(*past, on=UPPER).when(RecoverReplicaSet("foo"))
    decided.then_due(EnsureImage).then_driven()
    foo, version = decided.state.replica_sets["foo"], decided.state.revisions["foo", 1]
    assert (foo.retry_due_us, version.retrying, version.container) == (0, 0, "running")


def test_an_image_that_is_here_with_its_content_is_not_asked_for_by_name() -> None:
    decided = given(run("foo"), on=UPPER).when(RecoverReplicaSet("foo", images=(IMAGE_ID,)))
    decided.then_due(CreateContainer).then_driven()
    assert decided.state.revisions["foo", 1].base_image == IMAGE_ID


@pytest.mark.parametrize("fails", [True, False])
def test_a_start_that_fails_leaves_it_paused_and_whole(fails: bool) -> None:
    past = (failing(RecoverReplicaSet("foo"), StartContainer),) if fails else ()
    state = after(run("foo", 1), *past)
    foo, version = state.replica_sets["foo"], state.revisions["foo", 1]
    expected = ("paused", "created") if fails else ("running", "running")
    assert (foo.phase, version.container) == expected

