"""Record a ledger of today's version: `python -m tests.replay.record FILE`, as root.

A real service goes through every verb, with what Docker refuses among it; its records are written
as they are stored, one a line. Done once for each released version, and never changed afterwards.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from events.codec import encode
from events.operations import OperationProgressed
from events.outcomes import SystemDiskPutBack
from events.record import Event, Record
from events.resources import GpuDisappeared
from service.bootstrap.ledger import visit_ledger
from service.settings import Settings
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

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
    act("PATCH", "/replicaSet/bar/stop")
    act("PATCH", "/replicaSet/bar/restart")
    act("DELETE", "/replicaSet/bar")
    act("DELETE", "/volumes/disk")


async def stored(settings: Settings) -> list[bytes]:
    """Every record of a running service's ledger, as it is stored."""
    async with visit_ledger(settings) as ledger:
        last_seq = await ledger.last_seq()
        return [e.body async for entries in ledger.read(0, last_seq) for e in entries]


def rare() -> list[bytes]:
    """Records of what the story does not come to: a slow pull, a lost GPU, a disk put back."""
    events: tuple[Event, ...] = (
        OperationProgressed("op-1", "EnsureImage", 1 << 20, 1 << 30),
        GpuDisappeared("GPU-00000000-51ab-4000-8000-000000000000"),
        SystemDiskPutBack("foo", 1, "foo-1-op"),
    )
    return [
        encode(Record(f"rare-{number}", "test", "replica_set", "foo", "outcome", number, (event,)))
        for number, event in enumerate(events)
    ]


def main() -> None:
    """Play the story once for each way to carry a system disk, and write the records."""
    Path(f"{sys.argv[1]}-rare.jsonl").write_bytes(b"\n".join(rare()) + b"\n")
    with tempfile.TemporaryDirectory() as folder, PrivateDockerd() as engine:
        engine.import_busybox_image()
        for carry in ("upper", "commit"):
            data_dir = Path(folder, carry)
            flags = ["--system-disk", carry]
            with ServiceProcess(data_dir, engine.url, flags=flags) as service:
                story(service)
                settings = Settings.from_mapping({}, data_dir=str(data_dir))
                bodies = asyncio.run(stored(settings))
                service.call("DELETE", "/replicaSet/foo").ok()
                service.call("DELETE", "/volumes/foo").ok()
            Path(f"{sys.argv[1]}-{carry}.jsonl").write_bytes(b"\n".join(bodies) + b"\n")


if __name__ == "__main__":
    main()
