"""Record a ledger of today's version: `python -m tests.replay.record FILE`, as root.

A real service goes through every verb, with what Docker refuses among it; its records are written
as they are stored, one a line. Done once for each released version, and never changed afterwards.
"""

import asyncio
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from events.codec import decode, encode
from events.observations import ContainerFoundRunning, GpuAccessLost, GpuAccessRestored
from events.operations import OperationProgressed
from events.orphans import OrphanExpired, OrphanRemoved, OrphanSpared
from events.outcomes import (
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskPrecopied,
    SystemDiskPutBack,
)
from events.record import Event, Record
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
from events.replica_sets import SnapshotExpired
from events.resources import (
    GpuDisappeared,
    GpuErrorReported,
    GpuFellIll,
    GpuOccupied,
    GpuRecovered,
    GpuVacated,
)
from events.values import PortBinding
from service.bootstrap.ledger import visit_ledger
from service.settings import Settings
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

GPU = "GPU-00000000-51ab-4000-8000-000000000000"
SLEEPING = {"cmd": ["sleep", "100000"]}


def story(service: ServiceProcess) -> None:
    """All that callers can ask for, and some that is refused."""

    def act(method: str, path: str, body: Any = None) -> int:
        return service.call(method, path, body).code

    service.run("foo", 1, containerPorts=["22"], dataDisk={"size": "32MB"}, **SLEEPING).ok()
    service.run("bar", 0, env=["A=1"], cpus=0.5, memory="64MB", labels={"team": "a"}, **SLEEPING)
    service.run("bad", 1, cmd=["/no/such"], dataDisk={"size": "32MB"})
    act("POST", "/volumes", {"name": "disk", "size": "32MB"})
    act("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}})
    act("PATCH", "/replicaSet/foo", {"cpus": 4096})
    act("POST", "/replicaSet/foo/execute", {"cmd": ["true"]})
    act("POST", "/replicaSet/foo/commit", {"newImageName": "saved:1"})
    act("PATCH", "/replicaSet/foo/rollback", {"version": 1})
    act("PATCH", "/replicaSet/foo/pause")
    act("PATCH", "/replicaSet/foo/continue")
    act("PATCH", "/volumes/foo/size", {"size": "64MB"})
    act("PATCH", "/volumes/foo/size", {"size": "1000TB"})
    qux = ("/replicaSet/qux", "/replicaSet/qux/pin", "/replicaSet/qux/unpin")
    service.run("qux", 0, env=["A=1"], memory="64MB", **SLEEPING).ok()
    act("POST", f"{qux[0]}/debug", {"version": 1, "as": "bug"})
    act("PATCH", "/replicaSet/bug", {"env": ["A=2"]})
    act("DELETE", "/replicaSet/bug")
    act("PATCH", qux[0], {"memory": "128MB"})
    act("PATCH", qux[0], {"env": ["A", "B=2"], "cmd": ["sleep", "1000"], "pidsLimit": 99})
    act("PATCH", qux[1], {"version": 1})
    act("PATCH", qux[0], {"containerPorts": ["80"]})
    act("PATCH", "/replicaSet/qux/rollback", {"version": 1})
    act("POST", f"{qux[0]}/debug", {"version": 2, "as": "bug", "gpuCount": 1, **SLEEPING})
    act("DELETE", "/replicaSet/bug")
    act("PATCH", qux[0], {"imageName": "saved:1"})
    act("PATCH", qux[0], {"cmd": ["/no/such"]})
    act("PATCH", qux[2], {"version": 2})
    act("PATCH", "/replicaSet/bar/stop")
    act("PATCH", "/replicaSet/bar/restart")
    act("DELETE", "/replicaSet/bar")
    act("DELETE", "/volumes/disk")


def observed(service: ServiceProcess, engine: PrivateDockerd) -> None:
    """What becomes of containers and ports without anybody asking the service for it."""

    def row(name: str) -> Any:
        rows = service.get("/replicaSet").ok()["replicaSets"]
        return next(one for one in rows if one["name"] == name)

    def becomes(name: str, **expected: str) -> None:
        eventually(lambda: all(row(name)[key] == value for key, value in expected.items()))

    def outside(do: Callable[[Any], None]) -> None:
        with engine.client() as client:
            do(client.containers)

    once = ["sh", "-c", "[ -e /root/f ] && exec sleep 100000; touch /root/f; sleep 1; exit 3"]
    service.run("foo", 1, cmd=once).ok()
    becomes("foo", phase="stopped", container="exited")
    service.run("bar", 1, cmd=once, onExit="restart", maxRetries=3).ok()
    eventually(lambda: row("bar").get("retry"))
    eventually(lambda: (row("bar")["container"], "retry" in row("bar")) == ("running", False))
    with socket.create_server(("127.0.0.1", service.port_first)):
        service.run("baz", 0, containerPorts=["80"], **SLEEPING).ok()
    service.call("PATCH", "/replicaSet/baz/pause").ok()
    outside(lambda containers: containers.get("baz-1").start())
    eventually(lambda: any(isinstance(e, ContainerFoundRunning) for e in events_of(service)))
    becomes("baz", phase="paused", container="exited")
    service.run("qux", 1, **SLEEPING).ok()
    outside(lambda containers: containers.get("qux-1").remove(force=True))
    becomes("qux", phase="stopped", container="removed")
    gpu = service.get("/resources/gpus").ok()["details"][3]["uuid"]
    service.call("POST", f"/resources/gpus/{gpu}/quarantine", {"why": "its fan"}).ok()
    service.call("DELETE", f"/resources/gpus/{gpu}/quarantine").ok()
    price = {"meter": "gpu", "price": "2.40", "currency": "EUR", "validFrom": "2025-01-01"}
    service.call("POST", "/prices", price).ok()
    service.call("POST", "/months/2025-01/close").ok()
    wanted = {"kind": "replica_set", "types": ["container.exited.v1"]}
    body = {"webhookName": "ci", "url": "https://ci.invalid/hook", "events": wanted, "after": 0}
    service.call("POST", "/webhooks", body).ok()
    for verb, asked in (("rotate", None), ("disable", {"why": "it moves"}), ("enable", None)):
        service.call("POST", f"/webhooks/ci/{verb}", asked).ok()
    service.call("DELETE", "/webhooks/ci").ok()


def events_of(service: ServiceProcess) -> list[Event]:
    """Of all records up to now."""
    return [event for record in service.records() for event in record.events]


async def stored(settings: Settings) -> list[bytes]:
    """Every record of a running service's ledger, as it is stored."""
    async with visit_ledger(settings) as ledger:
        last_seq = await ledger.last_seq()
        return [e.body async for entries in ledger.read(0, last_seq) for e in entries]


def told(settings: Settings) -> list[bytes]:
    """The records, once all that expired was removed."""
    bodies = asyncio.run(stored(settings))
    events = [event for body in bodies for event in decode(body).events]
    expired = {(e.name, e.revision) for e in events if isinstance(e, SnapshotExpired)}
    removed = {(e.name, e.revision) for e in events if isinstance(e, SnapshotRemoved)}
    return bodies if expired and expired <= removed else []


def rare() -> list[bytes]:
    """Records of what the story may not come to: a slow pull, a lost GPU, a lost host, a disk put
    back, and what is only done where a file system cannot share blocks."""
    events: tuple[Event, ...] = (
        OperationProgressed("op-1", "EnsureImage", 1 << 20, 1 << 30),
        GpuDisappeared(GPU),
        SystemDiskPutBack("foo", 1, "foo-1-op"),
        SystemDiskPrecopied("foo", 2, 1 << 30),
        SystemDiskPrecopied("foo", 2, 0, "no room"),
        SnapshotCompacted("foo", 2, "foo-2-op", 1 << 20),
        SnapshotTaken("foo", 3, "gpuledger/snapshot:foo-3-op", 1 << 30, squashed=True),
        SnapshotExpired("foo", 2, "space", "1GB were free, 2GB must be"),
        GpuErrorReported(GPU, 13, (4242,), "foo"),
        GpuFellIll(GPU, "xid", "XID 79: GPU has fallen off the bus", 79, "boot-1", "foo"),
        GpuRecovered(GPU, "xid", 79),
        GpuOccupied(GPU, (4242, 4243)),
        GpuVacated(GPU),
        GpuAccessLost("foo", 1, "open(/dev/nvidia0): Operation not permitted"),
        GpuAccessRestored("foo", 1),
        OrphanExpired("volume-old-1", "volume", "old-1", "no volume of this name", of="old"),
        OrphanSpared("volume-old-1", "volume", "old-1", "volume_in_use", "volume is in use"),
        OrphanRemoved("volume-old-1", "volume", "old-1"),
        ContainerLost("foo", 1, "running"),
        RecoveryBegun("foo", 1, "running", (GPU,), (PortBinding("80/tcp", 40000),), "cdi", 1),
        VolumeLost("disk", 1, empty=True),
    )
    return [
        encode(Record(f"rare-{number}", "test", "replica_set", "foo", "outcome", number, (event,)))
        for number, event in enumerate(events)
    ]


def main() -> None:
    """Play the stories, the first for each way to carry a system disk, and write the records."""
    Path(f"{sys.argv[1]}-rare.jsonl").write_bytes(b"\n".join(rare()) + b"\n")
    with tempfile.TemporaryDirectory() as folder, PrivateDockerd() as engine:
        engine.import_busybox_image()
        for carry in ("upper", "commit"):
            data_dir = Path(folder, carry)
            flags = ["--system-disk", carry, "--keep-revisions", "1"]
            with ServiceProcess(data_dir, engine.url, flags=flags) as service:
                story(service)
                settings = Settings.from_mapping({}, data_dir=str(data_dir))
                bodies = eventually(partial(told, settings))
                for name in ("foo", "qux"):
                    service.call("DELETE", f"/replicaSet/{name}").ok()
                service.call("DELETE", "/volumes/foo").ok()
            Path(f"{sys.argv[1]}-{carry}.jsonl").write_bytes(b"\n".join(bodies) + b"\n")
        data_dir = Path(folder, "observed")
        with ServiceProcess(data_dir, engine.url) as service:
            observed(service, engine)
            bodies = asyncio.run(stored(Settings.from_mapping({}, data_dir=str(data_dir))))
        Path(f"{sys.argv[1]}-observed.jsonl").write_bytes(b"\n".join(bodies) + b"\n")


if __name__ == "__main__":
    main()
