"""The rules for commands that put a revision in place: run, patch, restart, roll back."""

import pytest
from msgspec.structs import replace

from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased, PortsLeased
from events.values import Bind, PortBinding
from service.domain.commands import (
    BindAt,
    Command,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ObserveGpus,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    StopContainer,
    TakeSnapshot,
)
from service.domain.rejections import Reason
from tests.kit.builders import (
    GIB,
    IMAGE,
    PORT_FIRST,
    facts,
    gpu,
    mount,
    patch,
    remount,
    resize,
    run,
    spec,
)
from tests.kit.gwt import Step, failing, given, unfinished

DISK = CreateVolume("disk", GIB)

# In each row everything that later rows of the same command refuse would be refused as well,
# wherever one command can be wrong in both ways: the rows are the order of precedence.
RUN_REFUSALS: list[tuple[Reason, tuple[Command | Step, ...], Command]] = [
    (
        Reason.REPLICA_SET_EXISTS,
        (run(data_disk_bytes=GIB),),
        run(gpu_count=9, mounts=("gone-1",), data_disk_bytes=GIB),
    ),
    (
        Reason.VOLUME_EXISTS,
        (CreateVolume("foo", GIB),),
        run(gpu_count=9, mounts=("gone-1",), data_disk_bytes=GIB),
    ),
    (Reason.VOLUME_NOT_FOUND, (), run(gpu_count=9, mounts=("gone-1",))),
    (Reason.VOLUME_NOT_FOUND, (DISK,), run(gpu_count=9, mounts=("disk-2",))),
    (Reason.VOLUME_NOT_FOUND, (unfinished(DISK),), run(gpu_count=9, mounts=("disk-1",))),
    (Reason.VOLUME_NOT_FOUND, (DISK, DeleteVolume("disk")), run(mounts=("disk-1",))),
    (
        Reason.VOLUME_BUSY,
        (DISK, unfinished(resize("disk", 2))),
        run(gpu_count=9, mounts=("disk-1",)),
    ),
    (Reason.GPUS_EXHAUSTED, (run("bar", 1),), run(gpu_count=2, ports=9)),
    (Reason.PORTS_EXHAUSTED, (run("bar", ports=3),), run(gpu_count=2, ports=2)),
]


@pytest.mark.parametrize(("reason", "history", "command"), RUN_REFUSALS)
def test_run_is_refused(
    reason: Reason, history: tuple[Command | Step, ...], command: Command
) -> None:
    given(*history).when(command).rejected(reason)


SUCCESSION_REFUSALS: list[tuple[Reason, tuple[Command | Step, ...], Command]] = [
    (Reason.REPLICA_SET_NOT_FOUND, (), patch(gpu_count=9)),
    (Reason.REPLICA_SET_NOT_FOUND, (), RestartReplicaSet("foo")),
    (Reason.REPLICA_SET_NOT_FOUND, (run(), DeleteReplicaSet("foo")), RollBackReplicaSet("foo", 1)),
    (Reason.OPERATION_IN_PROGRESS, (unfinished(run()),), patch(gpu_count=9)),
    (Reason.OPERATION_IN_PROGRESS, (unfinished(run()),), RestartReplicaSet("foo")),
    (Reason.OPERATION_IN_PROGRESS, (unfinished(run()),), RollBackReplicaSet("foo", 7)),
    (
        Reason.VOLUME_BUSY,
        (DISK, run(mounts=("disk-1",)), unfinished(resize("disk", 2))),
        RollBackReplicaSet("foo", 7),
    ),
    (Reason.REVISION_NOT_FOUND, (run(), patch()), RollBackReplicaSet("foo", 3)),
    (Reason.REVISION_NOT_FOUND, (run(), failing(patch(), CreateContainer)), RollBackReplicaSet(
        "foo", 2
    )),
    (Reason.ALREADY_AT_REVISION, (run(),), RollBackReplicaSet("foo", 1)),
    (Reason.NOTHING_TO_PATCH, (run(gpu_count=1),), patch(gpu_count=1)),
    (Reason.NOTHING_TO_PATCH, (run(memory_bytes=GIB),), patch(memory_bytes=GIB)),
    (Reason.NOTHING_TO_PATCH, (run(mounts=("/a",)),), remount(mount("/a"), mount("/a"))),
    (Reason.NOTHING_TO_PATCH, (run(),), patch(image=IMAGE)),
    (Reason.NOTHING_TO_PATCH, (run(env=("A=1",)),), patch(env=("A=1",))),
    (Reason.NOTHING_TO_PATCH, (run(),), patch(memory_bytes=0)),
    (Reason.NOTHING_TO_PATCH, (run(mounts=("/a",)),), patch(binds=(BindAt("/a", "/mnt/a"),))),
    (Reason.ENV_NOT_FOUND, (run(env=("A=1",)),), patch(gpu_count=9, env=("B",))),
    (Reason.BIND_NOT_FOUND, (run(),), patch(gpu_count=9, binds=(BindAt("", "/mnt/a"),))),
    (Reason.VOLUME_NOT_FOUND, (run(),), patch(gpu_count=9, binds=(BindAt("gone-1", "/a"),))),
    (
        Reason.VOLUME_BUSY,
        (DISK, run(), unfinished(resize("disk", 2))),
        patch(gpu_count=9, binds=(BindAt("disk-1", "/a"),)),
    ),
    (Reason.BIND_NOT_FOUND, (run(mounts=("/a",)),), remount(mount("/b"), mount("gone-1"))),
    (
        Reason.BIND_TARGET_TAKEN,
        (run(mounts=("/a", "/b")),),
        remount(mount("/a"), mount("gone-1", "/mnt/b")),
    ),
    (Reason.VOLUME_NOT_FOUND, (run(mounts=("/a",)),), remount(mount("/a"), mount("gone-1"))),
    (
        Reason.VOLUME_BUSY,
        (DISK, run(mounts=("/a",)), unfinished(resize("disk", 2))),
        remount(mount("/a"), mount("disk-1")),
    ),
    (
        Reason.SYSTEM_DISK_GONE,
        (run(gpu_count=2), DeleteReplicaSet("foo"), run(), run("bar", 1)),
        RollBackReplicaSet("foo", 1),
    ),
    (
        Reason.VOLUME_NOT_FOUND,
        (
            DISK,
            run(mounts=("disk-1",)),
            remount(mount("disk-1"), mount("/a")),
            DeleteVolume("disk"),
        ),
        RollBackReplicaSet("foo", 1),
    ),
    (Reason.GPUS_EXHAUSTED, (run(gpu_count=1),), patch(gpu_count=3)),
    (
        Reason.PORTS_EXHAUSTED,
        (run(ports=1),),
        patch(container_ports=("1/tcp", "2/tcp", "3/tcp", "4/tcp", "5/tcp")),
    ),
    (
        Reason.GPUS_EXHAUSTED,
        (run(gpu_count=2), patch(gpu_count=0), run("bar", 1)),
        RollBackReplicaSet("foo", 1),
    ),
    (
        Reason.GPUS_EXHAUSTED,
        (run(gpu_count=1), StopReplicaSet("foo"), run("bar", 2)),
        RestartReplicaSet("foo"),
    ),
    (
        Reason.PORTS_EXHAUSTED,
        (run(ports=2), StopReplicaSet("foo"), run("bar", ports=3)),
        RestartReplicaSet("foo"),
    ),
]


@pytest.mark.parametrize(("reason", "history", "command"), SUCCESSION_REFUSALS)
def test_a_next_revision_is_refused(
    reason: Reason, history: tuple[Command | Step, ...], command: Command
) -> None:
    given(*history).when(command).rejected(reason)


def test_a_refusal_says_how_many_gpus_there_are() -> None:
    given(run("bar", 1)).when(run(gpu_count=2)).rejected(
        Reason.GPUS_EXHAUSTED, "2 GPUs asked for, 1 free"
    )


def test_run_leases_what_it_declares() -> None:
    decided = given(run("bar", 1, ports=1)).when(run(gpu_count=1, ports=2))
    ports = (PortBinding("22/tcp", PORT_FIRST + 1), PortBinding("23/tcp", PORT_FIRST + 2))
    decided.then(
        RevisionDeclared(
            name="foo",
            number=1,
            cause="run",
            spec=spec(1, 2),
            gpus=("gpu-1",),
            ports=ports,
            gpu_runtime="nvidia",
        ),
        GpusLeased("foo", 1, ("gpu-1",)),
        PortsLeased("foo", 1, ports),
    )


def test_a_refused_allocation_keeps_nothing() -> None:
    """Predecessor: a refused allocation of n GPUs keeps the ones already marked."""
    decided = given(run("bar", 1)).when(run(gpu_count=2, ports=1))
    decided.rejected(Reason.GPUS_EXHAUSTED)
    assert decided.state.gpus["gpu-1"].holder is None
    assert list(decided.state.replica_sets) == ["bar"]
    assert not decided.state.ports


def test_of_two_who_ask_for_the_last_gpu_one_gets_it() -> None:
    world = given(unfinished(run("bar", 1)), gpus=1)
    world.when(run(gpu_count=1)).rejected(Reason.GPUS_EXHAUSTED)


def test_the_same_history_chooses_the_same_gpus_and_ports() -> None:
    """Predecessor: which GPUs are chosen is random. Here the driver's order does not matter."""
    shown = [gpu(index) for index in range(4)]
    chosen = []
    for order in (shown, shown[::-1], shown[2:] + shown[:2]):
        decided = given(ObserveGpus(tuple(order)), gpus=0).when(run(gpu_count=2, ports=2))
        chosen.append(decided.events)
    assert chosen[0] == chosen[1] == chosen[2]


def test_a_run_cannot_mount_a_version_of_its_data_disk_that_will_never_be() -> None:
    given().when(run(mounts=("foo-7",), data_disk_bytes=GIB)).rejected(Reason.VOLUME_NOT_FOUND)


def test_a_patch_keeps_host_ports_and_the_gpus_that_both_revisions_have() -> None:
    decided = given(run("bar", 1), run(gpu_count=2, ports=2), gpus=4).when(patch(gpu_count=1))
    before, after = (decided.state.revisions["foo", number] for number in (1, 2))
    assert after.ports == before.ports
    assert after.gpus == before.gpus[:1]
    leases = {uuid: unit.revisions for uuid, unit in decided.state.gpus.items()}
    assert leases == {"gpu-0": (1,), "gpu-1": (1, 2), "gpu-2": (1,), "gpu-3": ()}
    decided.then_driven()
    leases = {uuid: unit.revisions for uuid, unit in decided.state.gpus.items()}
    assert leases == {"gpu-0": (1,), "gpu-1": (2,), "gpu-2": (), "gpu-3": ()}


def test_a_patch_differs_in_what_was_patched_and_in_nothing_else() -> None:
    first = run(
        gpu_count=1,
        ports=1,
        mounts=("/data", "/more"),
        env=("A=1",),
        cmd=("train",),
        labels={"team": "a"},
        shm_bytes=GIB,
    )
    decided = given(first).when(remount(mount("/data"), Bind("/other", "/root/x")))
    binds = (Bind("/other", "/root/x"), mount("/more"))
    assert decided.state.revisions["foo", 2].spec == replace(first.spec, binds=binds)


def test_ports_can_be_patched_and_those_that_stay_keep_their_host_ports() -> None:
    decided = given(run(ports=2)).when(patch(container_ports=("80/tcp", "23/tcp"))).then_driven()
    before, after = (decided.state.revisions["foo", number].ports for number in (1, 2))
    assert [binding.container_port for binding in after] == ["80/tcp", "23/tcp"]
    assert after[1] == before[1]
    assert set(decided.state.ports) == {binding.host_port for binding in after}


def test_a_roll_back_to_a_directory_that_cannot_be_reached_now_is_refused() -> None:
    world = given(run(), patch(), on=facts(carry="upper"))
    world.world.facts = facts(carry="commit")
    world.when(RollBackReplicaSet("foo", 1)).rejected(Reason.SYSTEM_DISK_GONE, "/readyz")


def test_an_empty_patch_creates_the_same_again() -> None:
    decided = given(run(gpu_count=1, ports=1)).when(patch()).then_driven()
    first, second = (decided.state.revisions["foo", number] for number in (1, 2))
    assert (first.spec, first.gpus, first.ports) == (second.spec, second.gpus, second.ports)
    assert decided.operation.result["containerName"] == "foo-2"


@pytest.mark.parametrize("command", [patch(gpu_count=1), patch(), RestartReplicaSet("foo")])
def test_a_cardless_one_can_be_changed(command: Command) -> None:
    """Predecessor: patching a cardless one fails with an index error."""
    decided = given(run()).when(command).then_driven()
    assert decided.operation.state == "succeeded"


def test_a_roll_back_to_a_cardless_version_gives_the_gpus_back() -> None:
    """Predecessor: fails with an index error."""
    decided = given(run(), patch(gpu_count=2)).when(RollBackReplicaSet("foo", 1)).then_driven()
    assert decided.operation.result["containerName"] == "foo-3"
    assert decided.state.revisions["foo", 3].rolled_back_to == 1
    assert {unit.holder for unit in decided.state.gpus.values()} == {None}


def test_a_roll_back_starts_from_the_disk_of_that_name_and_version() -> None:
    """Predecessor: snapshots are keyed by version alone, so two sets overwrite each other's."""
    world = given(run("foo"), run("bar"), patch("foo"), patch("bar"))
    snapshots = {
        name: world.world.state.revisions[name, 1].snapshot for name in ("foo", "bar")
    }
    assert snapshots["foo"] != snapshots["bar"]
    decided = world.when(RollBackReplicaSet("foo", 1))
    for _ in ("stop", "snapshot"):
        decided.world.succeed(decided.world.due()[0])
    (create,) = decided.world.due()
    assert isinstance(create, CreateContainer)
    assert create.config["Image"] == snapshots["foo"]


def test_a_restart_applies_for_gpus_anew() -> None:
    world = given(run("bar", 1), run(gpu_count=1), StopReplicaSet("bar"))
    decided = world.when(RestartReplicaSet("foo"))
    assert decided.state.revisions["foo", 2].gpus == ("gpu-0",)
    decided.then_driven()
    assert decided.state.gpus["gpu-1"].holder is None


def test_a_restart_of_a_stopped_one_takes_what_is_free_by_now() -> None:
    history = (run(gpu_count=1, ports=1), StopReplicaSet("foo"), run("bar", 1, ports=4))
    given(*history).when(RestartReplicaSet("foo")).rejected(Reason.PORTS_EXHAUSTED)
    history = (run(gpu_count=1, ports=1), StopReplicaSet("foo"), run("bar", 1, ports=3))
    decided = given(*history).when(RestartReplicaSet("foo")).then_driven()
    assert decided.state.gpus["gpu-0"].holder == "bar"
    assert decided.state.gpus["gpu-1"].holder == "foo"


def test_the_new_container_waits_until_the_old_one_stands_still() -> None:
    decided = given(run(gpu_count=1), gpus=1).when(patch()).then_due(StopContainer)
    decided.world.succeed(decided.world.due()[0])
    decided.then_due(TakeSnapshot)


def test_a_name_never_uses_a_version_twice_after_a_deletion() -> None:
    decided = given(run(), patch(), DeleteReplicaSet("foo")).when(run())
    assert decided.state.replica_sets["foo"].current == 3


def test_a_run_with_a_data_disk_takes_the_next_version_of_that_volume() -> None:
    history = (run(data_disk_bytes=GIB), DeleteReplicaSet("foo"), DeleteVolume("foo"))
    decided = given(*history).when(run(data_disk_bytes=GIB))
    path = facts().data_disk_path
    assert decided.state.revisions["foo", 2].spec.binds == (Bind("foo-2", path),)
