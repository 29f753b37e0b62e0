"""Debug copies: what may be copied, what a copy is, and that its source is left as it is."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.debug_copies import DebugCopyBegun
from events.labels import LABEL_DEBUG_OF
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased
from events.values import Bind, Carry, Nfs
from projections.debug_copy import Loan
from service.domain.commands import (
    BindAt,
    Command,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    PauseReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    FillDisk,
    MakeDebugImage,
)
from service.domain.rejections import Reason
from tests.kit.builders import GIB, IMAGE_ID, facts, patch, resize, run
from tests.kit.gwt import Step, failing, given, steps, unfinished
from tests.kit.sightings import ended, gone
from tests.kit.world import World

KEPT = (run(), patch())
"""The disk of foo-1 is kept, and foo-2 runs."""

UPPER, COMMIT = facts(carry="upper"), facts(carry="commit")
IMAGE = "gpuledger/snapshot:bug-1-bug.1"
"""The image of the first copy called bug."""


def debug(
    version: int = 1, name: str = "bug", of: str = "foo", **more: Any
) -> DebugReplicaSet:
    """The command that runs a copy."""
    return DebugReplicaSet(name, of, version, **more)


def carried_by(carry: Carry) -> Step:
    """From now on system disks are carried so."""

    def step(world: World) -> None:
        world.facts = replace(world.facts, carry=carry)

    return step


def creation(world: World) -> CreateContainer:
    """That of the copy, once it is due."""
    while not isinstance(effect := world.due()[-1], CreateContainer):
        world.succeed(effect)
    return effect


@pytest.mark.parametrize(
    ("history", "command", "reason", "words"),
    [
        ((), debug(), Reason.REPLICA_SET_NOT_FOUND, "no replica set foo"),
        (
            (*KEPT, DeleteReplicaSet("foo")),
            debug(),
            Reason.REPLICA_SET_NOT_FOUND,
            "foo was deleted, and the system disks of its versions with it",
        ),
        ((*KEPT, run("bug")), debug(), Reason.REPLICA_SET_EXISTS, "bug exists as bug-1"),
        (KEPT, debug(name="foo"), Reason.REPLICA_SET_EXISTS, "foo exists as foo-2"),
        ((run(), unfinished(patch())), debug(), Reason.OPERATION_IN_PROGRESS, "with a patch"),
        (KEPT, debug(9), Reason.REVISION_NOT_FOUND, "no version 9; versions that can be debugged"),
        (
            (*KEPT, ExpireSnapshots("foo")),
            debug(),
            Reason.SYSTEM_DISK_GONE,
            "foo@1 is not kept any more (0 newer ones are kept); versions that can be debugged: 2",
        ),
        (
            (*KEPT, DeleteReplicaSet("foo"), run()),
            debug(),
            Reason.SYSTEM_DISK_GONE,
            "foo@1 is not kept any more (it was removed with its container)",
        ),
        (
            (run(), gone("foo")),
            debug(),
            Reason.SYSTEM_DISK_GONE,
            "(its container was removed by somebody else); versions that can be debugged: none",
        ),
        (
            (*KEPT, carried_by("commit")),
            debug(),
            Reason.SYSTEM_DISK_GONE,
            "foo@1 is kept as a directory of the engine, which the service cannot reach now",
        ),
        (
            (
                *(CreateVolume("disk", GIB), run(mounts=("disk-1",))),
                *(patch(binds=(BindAt("", "/mnt/disk-1"),)), DeleteVolume("disk")),
            ),
            debug(),
            Reason.VOLUME_NOT_FOUND,
            "no volume disk-1 to mount",
        ),
        (KEPT, debug(gpu_count=3), Reason.GPUS_EXHAUSTED, "3 GPUs asked for, 2 free"),
    ],
)
def test_what_cannot_be_debugged(
    history: tuple[Command | Step, ...], command: Command, reason: Reason, words: str
) -> None:
    on = replace(UPPER, keep_revisions=0)
    given(*history, on=on).when(command).rejected(reason, words)


def test_a_copy_is_harmless_and_in_nobodys_way() -> None:
    nfs = Bind("", "/nfs", Nfs("10.0.0.7", "/export"))
    binds = (Bind("/data", "/data"), Bind("foo-1", "/disk"), nfs)
    history = (
        CreateVolume("foo", GIB),
        run(gpu_count=2, ports=2, binds=binds, on_exit="restart", max_retries=3, env=("A=1",)),
        patch(on_gpu_lost="restart", gpu_count=1),
        resize("foo", 2),
    )
    decided = given(*history, on=UPPER).when(debug(gpu_count=1, cmd=("sleep", "infinity")))
    declared, leased, begun = decided.events
    assert isinstance(declared, RevisionDeclared)
    assert leased == GpusLeased("bug", 1, ("gpu-1",))
    assert begun == DebugCopyBegun("bug", 1, "foo", 1, "directory")
    spec = declared.spec
    assert (declared.ports, spec.container_ports) == ((), ())
    assert [(b.source, b.target) for b in spec.binds] == [
        ("/data", "/data"),
        ("foo-2", "/disk"),
        ("", "/nfs"),
    ]
    assert all(bind.read_only for bind in spec.binds)
    assert (spec.on_exit, spec.max_retries, spec.on_gpu_lost) == ("none", 0, "none")
    assert (spec.gpu_count, spec.cmd, spec.env) == (1, ("sleep", "infinity"), ("A=1",))
    config = creation(decided.world).config
    assert config["Labels"][LABEL_DEBUG_OF] == "foo@1"
    assert config["HostConfig"]["PortBindings"] == {}
    assert [mount["ReadOnly"] for mount in config["HostConfig"]["Mounts"]] == [True] * 3


def test_without_a_command_of_its_own_it_runs_that_of_the_version() -> None:
    world = given(run(cmd=("train",)), patch(cmd=("other",)), on=UPPER).world
    world.send(debug())
    assert world.state.revisions["bug", 1].spec.cmd == ("train",)
    world.send(debug(name="bag", cmd=()))
    assert world.state.revisions["bag", 1].spec.cmd == ()


@pytest.mark.parametrize(
    ("on", "version", "steps_of_copy", "steps_of_end"),
    [
        (UPPER, 1, ["create-bug-1", "fill-bug-1"], []),
        (COMMIT, 1, ["image-bug-1", "create-bug-1"], ["drop-image-bug-1"]),
        (UPPER, 2, ["image-bug-1", "create-bug-1"], ["drop-image-bug-1"]),
        (COMMIT, 2, ["image-bug-1", "create-bug-1"], ["drop-image-bug-1"]),
    ],
)
def test_its_disk_is_a_copy_and_goes_with_it(
    on: Any, version: int, steps_of_copy: list[str], steps_of_end: list[str]
) -> None:
    world = given(*KEPT, on=on).world
    before = world.state.replica_sets["foo"], world.state.revisions["foo", version]
    assert steps(world, debug(version)) == [*steps_of_copy, "start-bug-1", "settle"]
    end = ["stop-bug-1", "remove-bug-1", *steps_of_end, "settle"]
    assert steps(world, DeleteReplicaSet("bug")) == end
    assert (world.state.replica_sets["foo"], world.state.revisions["foo", version]) == before
    assert world.state.replica_sets["bug"].debug_image == ""


@pytest.mark.parametrize(
    ("history", "version", "expected"),
    [
        (KEPT, 1, (False, False, "gpuledger/snapshot:foo-1-foo.2")),
        (KEPT, 2, (True, True, "foo-2")),
        ((*KEPT, PauseReplicaSet("foo")), 2, (True, False, "foo-2")),
        ((run(), ended("foo")), 1, (True, False, "foo-1")),
        ((*KEPT, unfinished(ExecuteInReplicaSet("foo", ("true",)))), 2, (True, False, "foo-2")),
    ],
)
def test_what_its_image_is_made_of(
    history: tuple[Command | Step, ...], version: int, expected: tuple[bool, bool, str]
) -> None:
    """What runs stands still for it, unless something is being executed in there."""
    decided = given(*history, on=COMMIT).when(debug(version))
    (making,) = [e for e in decided.world.due() if isinstance(e, MakeDebugImage)]
    assert (making.live, making.pause, making.source) == expected
    assert making.image == IMAGE


def test_a_directory_on_an_image_of_its_source_needs_both() -> None:
    """Of a replica set whose disk was carried by commit before."""
    history = (run(), patch(), carried_by("upper"), patch())
    world = given(*history, on=COMMIT).world
    done = steps(world, debug(2))
    assert done == ["image-bug-1", "create-bug-1", "fill-bug-1", "start-bug-1", "settle"]
    copy = world.state.revisions["bug", 1]
    assert (copy.base_image, copy.origin) == (IMAGE, IMAGE_ID)
    assert steps(world, DeleteReplicaSet("foo"))[-1] == "settle"


def test_what_a_commit_bakes_in_is_taken_out_of_a_copy_as_of_any() -> None:
    history = (run(env=("A=1",), cmd=("a",)), patch(env=("A",)))
    decided = given(*history, on=COMMIT).when(debug())
    assert creation(decided.world).config["Image"] == IMAGE
    world = given(*history, on=COMMIT).world
    steps(world, debug(2))
    assert world.state.revisions["bug", 1].baked_env == ("A",)
    assert world.state.revisions["bug", 1].baked_cmd


def test_the_disk_of_a_version_that_went_on_in_place_is_that_of_the_later_one() -> None:
    history = (run(memory_bytes=GIB), patch(memory_bytes=2 * GIB))
    decided = given(*history, on=UPPER).when(debug(1))
    assert decided.state.revisions["bug", 1].spec.memory_bytes == GIB
    assert decided.state.replica_sets["foo"].loans == (Loan(2, "bug", "bug.1", live=True),)


@pytest.mark.parametrize(
    ("on", "effect"),
    [(COMMIT, MakeDebugImage), (COMMIT, CreateContainer), (UPPER, FillDisk)],
)
def test_one_that_fails_leaves_nothing(on: Any, effect: type[FillDisk]) -> None:
    world = given(*KEPT, failing(debug(gpu_count=1), effect), on=on).world
    state = world.state
    assert state.live("bug") is None
    assert ("bug", 1) not in state.revisions
    assert state.replica_sets["bug"].debug_image == ""
    assert state.replica_sets["foo"].loans == ()
    assert {unit.holder for unit in state.gpus.values()} == {None}
    assert steps(world, debug())[-1] == "settle"


def test_one_that_does_not_start_is_undone_whole() -> None:
    world = given(*KEPT, on=COMMIT).world
    undone = ["remove-bug-1", "drop-image-bug-1", "settle"]
    done = steps(world, debug(), lambda effect: "start" in effect.effect_id)
    assert done == ["image-bug-1", "create-bug-1", "start-bug-1!", *undone]


def test_it_stays_what_it_is() -> None:
    given(*KEPT, debug(), on=UPPER).when(patch("bug", 1)).rejected(
        Reason.DEBUG_COPY,
        "bug is a debug copy of foo@1 and stays as it was made; delete it and debug foo@1 again"
        " with what is to be other",
    )


def test_it_is_restarted_and_rolled_back_as_what_it_is() -> None:
    world = given(*KEPT, debug(), DeleteReplicaSet("foo"), on=COMMIT).world
    steps(world, RestartReplicaSet("bug"))
    steps(world, RollBackReplicaSet("bug", 1))
    current = world.state.revisions["bug", 3]
    assert (current.debug_of, current.copied) == ("foo@1", None)
    done = steps(world, DeleteReplicaSet("bug"))
    assert done[-2:] == ["drop-image-bug-3", "settle"]


def test_a_name_that_a_copy_had_is_no_copy_any_more() -> None:
    world = given(*KEPT, debug(), DeleteReplicaSet("bug"), run("bug"), on=UPPER).world
    assert world.state.replica_sets["bug"].debug_of == ""
    assert world.state.revisions["bug", 2].debug_of == ""
    assert world.state.revisions["bug", 1].debug_of == "foo@1"


def test_what_could_not_be_carried_is_told() -> None:
    result = given(*KEPT, on=UPPER).when(debug()).then_driven().operation.result
    assert result == {"name": "bug-1", "debugOf": "foo@1"}
    live = given(*KEPT, on=UPPER).when(debug(2)).then_driven().operation.result
    assert live["debugOf"] == "foo@2"
    assert "sockets" in live["notCarried"]
