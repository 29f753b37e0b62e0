"""What is crashed: a set-up, and one deed whose every step is a place to die at."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from events.gpu_health import GpuError
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.commands import (
    BindAt,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    Request,
    ResizeVolume,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    StopReplicaSet,
    UnpinRevision,
)
from service.domain.orphan_commands import RemoveOrphan
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from tests.kit.builders import GIB, IMAGE, PORT_FIRST, patch, resize, run
from tests.kit.memory_disks import KeptDisk
from tests.kit.simulated_programs import NO_SUCH_COMMAND
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.clients import MISSING, PULLED

Deed = Request | Callable[[SimulatedHost], None]
"""A command of a caller, or something that happens on the host."""

UPPER: dict[str, Any] = {"system_disk": "auto"}
COMMIT: dict[str, Any] = {"system_disk": "commit"}
COPIED: dict[str, Any] = {"system_disk": "auto", "clones_share_blocks": False}
WAYS = {"upper": UPPER, "copied": COPIED, "commit": COMMIT}
"""How a system disk is carried."""

MAIN_WAYS = ("upper", "commit")
"""Where copying ahead and compacting take no other steps."""

SMALL_BYTES = 16 << 20


class Scenario(Struct, frozen=True):
    """`deed` is done after `before`; without both, the first start of all is what is crashed.

    What happens to the host at the head of `before` happens before that start.
    """

    name: str
    before: tuple[Deed, ...]
    deed: Deed | None
    host: dict[str, Any] = {}
    """What the host is, if it is to be a special one."""
    look_s: float = 1.0
    """So long it takes at most until the service notices what happens on the host."""
    grace_s: float = 0.0
    """So long nothing is done about it after a start."""
    same_end: bool = True
    """A crash changes nothing of what comes of it. Not so of a command that was being executed,
    which is not executed again; of an error that the driver tells once; and of a container that
    ended as one does with its host, when nobody was there to look."""


def write(path: str = "/data/mine") -> ExecuteInReplicaSet:
    """A file in the system disk, which every later one has to have."""
    return ExecuteInReplicaSet("foo", ("sh", "-c", f"echo mine > {path}"))


def carried(
    name: str,
    before: tuple[Deed, ...],
    deed: Deed,
    ways: Iterable[str] = WAYS,
    **host: Any,
) -> tuple[Scenario, ...]:
    """A scenario for each way to carry a system disk."""
    return tuple(
        Scenario(f"{name}, {way}", before, deed, {**WAYS[way], **host}) for way in ways
    )


def many_layers(host: SimulatedHost) -> None:
    """The image has so many layers that what is committed on it is squashed."""
    image = host.world.images[IMAGE]
    image.layers = (*image.layers, *(host.world.digest("sha256:") for _ in range(100)))


def port_taken(host: SimulatedHost) -> None:
    """Another process listens on the first port that there is to lend."""
    host.world.listeners = {PORT_FIRST}


def no_room(host: SimulatedHost) -> None:
    """The disk of the containers is full."""
    host.disks.free = 0


def offline(host: SimulatedHost) -> None:
    """Volumes cannot grow while they are mounted."""
    host.volumes.online = False


def full_volume(host: SimulatedHost) -> None:
    """The volume cannot be made smaller than this."""
    host.volumes.disks["vol"].files["big"] = bytes(SMALL_BYTES)


def orphaned(host: SimulatedHost) -> None:
    """A kept disk of a replica set that no record knows."""
    host.disks.kept["old-1-op"] = KeptDisk("gone", "sha256:x", {"/f": b"abc"}, frozenset())


def ends(exit_code: int, name: str = "foo-1") -> Callable[[SimulatedHost], None]:
    """A container ends by itself."""
    return lambda host: host.world.end(name, exit_code)


def vanishes(host: SimulatedHost) -> None:
    """`docker rm -f`."""
    host.world.remove("foo-1")


def goes_unseen(host: SimulatedHost) -> None:
    """The container went with its host, which nobody has noticed."""
    host.world.containers.pop("foo-1")


def is_started(host: SimulatedHost) -> None:
    """`docker start`, by somebody else."""
    host.world.begin(host.world.containers["foo-1"])


def no_gpu_access(host: SimulatedHost) -> None:
    """`systemctl daemon-reload`: a running container may not open its GPUs any more."""
    host.world.containers["foo-1"].gpu_access = False


def gpu_lost(host: SimulatedHost) -> None:
    """The driver does not show it any more."""
    host.probe.shown.pop()


def gpu_fails(host: SimulatedHost) -> None:
    """The driver reports an error of the hardware."""
    host.probe.fail(GpuError("gpu-0", 79))


BROKEN = (NO_SUCH_COMMAND,)
VOLUME = (CreateVolume("vol", GIB), run(mounts=("vol-1",)))
STOPPED = (run(), write(), StopReplicaSet("foo"))
ONE_PORT = patch(container_ports=("22/tcp",))
NOT_KEPT_UP = run(cmd=("false",), on_exit="restart", max_retries=2)
HOOK = RegisterWebhook("hook", "https://ci.example/hook", "key")
KEPT = (run(), write(), patch(), write("/data/more"))

RUNS = (
    Scenario("the first start", (), None),
    Scenario("run", (), run()),
    Scenario("run with GPUs and ports", (), run("foo", 2, 2)),
    Scenario("run that pulls", (), run(image=PULLED), {"pullable": [PULLED]}),
    Scenario("run of no image", (), run("foo", 1, 1, (), GIB, image=MISSING)),
    Scenario("run with a data disk", (), run(data_disk_bytes=GIB)),
    Scenario("run with a volume", VOLUME[:1], VOLUME[1]),
    Scenario("run that cannot start", (), run("foo", 1, 1, (), GIB, cmd=BROKEN)),
    Scenario("run on a taken port", (port_taken,), run("foo", 1, 2)),
    Scenario("run again", (run(), DeleteReplicaSet("foo")), run()),
)

PATCHES = (
    *carried("patch of GPUs", (run("foo", 1, 1), write()), patch(gpu_count=2)),
    *carried("patch that cannot start", (run("foo", 1), write()), patch(cmd=BROKEN, gpu_count=2)),
    *carried("patch of one stopped", STOPPED, patch(gpu_count=1), MAIN_WAYS),
    *carried("patch on a taken port", (run(), port_taken), ONE_PORT, MAIN_WAYS),
    Scenario("patch of the image", (run(),), patch(image=PULLED), {**UPPER, "pullable": [PULLED]}),
    Scenario("patch to no image", (run(),), patch(image=MISSING), UPPER),
    Scenario("patch of binds", (run(), VOLUME[0]), patch(binds=(BindAt("vol-1", "/x"),))),
    Scenario("patch in place", (run(), write()), patch(memory_bytes=GIB)),
    Scenario("patch in place, no limits", (run(),), patch(on_exit="restart", max_retries=2)),
    Scenario("patch in place, refused", (run(),), patch(memory_bytes=1)),
    Scenario("patch of limits, anew", (run(memory_bytes=GIB), write()), patch(memory_bytes=0)),
    Scenario("patch of many layers", (many_layers, run(), write(), patch()), patch(), COMMIT),
    Scenario("patch over a full disk", (run(), write(), no_room), patch(), COPIED),
)

ROLLBACKS = (
    *carried("rollback", KEPT, RollBackReplicaSet("foo", 1)),
    *carried("restart", (run("foo", 1, 1), write()), RestartReplicaSet("foo"), MAIN_WAYS),
    Scenario(
        "rollback in place",
        (run(memory_bytes=GIB), patch(memory_bytes=2 * GIB)),
        RollBackReplicaSet("foo", 1),
    ),
)

DEBUG = DebugReplicaSet("bug", "foo", 1)
BROKEN_DEBUG = DebugReplicaSet("bug", "foo", 1, gpu_count=1, cmd=BROKEN)

DEBUGS = (
    *carried("debug of a kept version", KEPT, DEBUG),
    *carried("debug of what runs", (run(), write()), DEBUG, MAIN_WAYS),
    *carried("debug that cannot start", KEPT, BROKEN_DEBUG, MAIN_WAYS),
    *carried("delete of a debug copy", (*KEPT, DEBUG), DeleteReplicaSet("bug"), MAIN_WAYS),
    *carried("delete of what was debugged", (*KEPT, DEBUG), DeleteReplicaSet("foo"), MAIN_WAYS),
    *carried("restart of a debug copy", (*KEPT, DEBUG), RestartReplicaSet("bug"), MAIN_WAYS),
)

OTHERS = (
    Scenario("stop", (run("foo", 1, 1),), StopReplicaSet("foo")),
    Scenario("pause", (run("foo", 1, 1),), PauseReplicaSet("foo")),
    Scenario("continue", (run("foo", 1, 1), PauseReplicaSet("foo")), ContinueReplicaSet("foo")),
    Scenario("commit", (run(), write()), CommitReplicaSet("foo", "saved:1")),
    Scenario(
        "commit of one stopped", (run(), StopReplicaSet("foo")), CommitReplicaSet("foo", "saved:1")
    ),
    Scenario("execute", (run(),), write(), same_end=False),
    Scenario("delete", (run("foo", 1, 1),), DeleteReplicaSet("foo")),
    Scenario("delete with a data disk", (run(data_disk_bytes=GIB),), DeleteReplicaSet("foo")),
    *carried("delete of kept disks", (*KEPT, patch()), DeleteReplicaSet("foo"), MAIN_WAYS),
    Scenario("delete of one removed", (run("foo", 1, 1), vanishes), DeleteReplicaSet("foo")),
    Scenario("pin", KEPT, PinRevision("foo", 1), UPPER),
    Scenario("unpin", (*KEPT, PinRevision("foo", 1)), UnpinRevision("foo", 1), UPPER),
    Scenario("orphan removed", (run(), orphaned), RemoveOrphan("system_disk-old-1-op")),
    Scenario("price", (), SetPrice("gpu", "2.5", "EUR", 0)),
    Scenario("close of a month", (SetPrice("gpu", "2", "EUR", 0),), CloseMonth("2025-12")),
    Scenario("webhook", (), HOOK),
    Scenario("webhook rotated", (HOOK,), RotateWebhook("hook", "key")),
    Scenario("webhook disabled", (HOOK,), DisableWebhook("hook", "it moves")),
    Scenario(
        "webhook enabled", (HOOK, DisableWebhook("hook", "it moves")), EnableWebhook("hook")
    ),
    Scenario("webhook removed", (HOOK,), RemoveWebhook("hook")),
    Scenario("quarantine", (run("foo", 1),), QuarantineGpu("gpu-0", "noisy")),
    Scenario("restore", (QuarantineGpu("gpu-0", "noisy"),), RestoreGpu("gpu-0")),
)

VOLUMES = (
    Scenario("volume create", (), CreateVolume("vol", GIB)),
    Scenario("volume grows", VOLUME, resize("vol", 2)),
    Scenario("volume grows, users halted", (offline, *VOLUME), resize("vol", 2)),
    Scenario("volume shrinks, users halted", VOLUME, ResizeVolume("vol", SMALL_BYTES * 2)),
    Scenario("volume cannot shrink", (*VOLUME, full_volume), ResizeVolume("vol", SMALL_BYTES - 1)),
    Scenario("volume delete", (VOLUME[0], resize("vol", 2)), DeleteVolume("vol")),
)

LOST = (
    Scenario(
        "recover",
        (run("foo", 1, 1), goes_unseen),
        RecoverReplicaSet("foo"),
        same_end=False,  # noticed after a crash, it is taken for removed by somebody
    ),
    Scenario("recover a volume", VOLUME[:1], RecoverVolume("vol", disk=True)),
)

ORPHANS: dict[str, Any] = {"orphan_grace_s": 60.0}
GIVEN_BACK = run("foo", 1, 1, on_gpu_lost="restart")

HAPPENINGS = (
    *carried("retention by count", KEPT, patch(), keep_revisions=1),
    Scenario("retention by space", (*KEPT, patch()), no_room, UPPER, look_s=61),
    Scenario("an end", (run("foo", 1, 1),), ends(1)),
    Scenario("an end and a retry", (run("foo", 1, 1, on_exit="restart"),), ends(1)),
    Scenario("an end by SIGKILL", (run("foo", 1, 1),), ends(137), same_end=False),
    Scenario("retries that are given up", (), NOT_KEPT_UP),
    Scenario("a container removed", (run("foo", 1, 1),), vanishes),
    Scenario("a paused one started", (run("foo", 1), PauseReplicaSet("foo")), is_started),
    Scenario("orphan expires", (run(),), orphaned, ORPHANS, look_s=700, grace_s=700),
    Scenario("GPUs taken away", (GIVEN_BACK,), no_gpu_access, look_s=130),
    Scenario("a GPU lost", (run("foo", 1),), gpu_lost, look_s=11),
    Scenario("a GPU fails", (run("foo", 1),), gpu_fails, same_end=False),
)

SCENARIOS = (*RUNS, *PATCHES, *ROLLBACKS, *DEBUGS, *OTHERS, *VOLUMES, *LOST, *HAPPENINGS)
