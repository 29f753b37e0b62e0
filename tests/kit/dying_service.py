"""The service, which kills itself with SIGKILL at a crash point.

    python -m tests.kit.dying_service --arm foo.patch --die-at after:SystemDisks.keep:1 FLAGS

FLAGS are those of `gpuledger serve`. It counts from the append of the first record whose subject
ends with what `--arm` says. A point is a call of a port (see `crash_points`) or, below that, what
Python tells an audit hook of before it is done: requests to Docker that change something, programs
that are run, and changes of files; of those every side is `before`. `--calls` is a file that gets
a line for each call when it comes.
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from events.values import GpuRuntime
from projections.store import ReadStore
from service.bootstrap.host import Closing, Host
from service.bootstrap.ledger import OpenLedger
from service.bootstrap.maintaining import READ_STORE
from service.bootstrap.serving import serve
from service.disk_ports import HostPaths, SystemDisks, VolumeStore
from service.ports import ContainerEngine, DeviceProbe, Entry, Ledger
from service.settings import Settings
from service.settings_table import SETTINGS
from tests.kit.crash_points import COMMIT, Count, Point, Side, watched

T = TypeVar("T")

ON_FILES = {
    *("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "fcntl.ioctl"),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_REQUEST = re.compile(rb"(POST|PUT|DELETE) /(?:v[\d.]+/)?(\w+)(?:/[^/? ]+)?(?:/(\w+))?")


class Fate(Count):
    """Counts the calls, and at one of them it is over."""

    def __init__(self, arm: str, at: Point | None, calls: Path | None) -> None:
        super().__init__()
        self._arm = arm
        self._at = at
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._told = os.open(calls, flags, 0o600) if calls is not None else -1
        self._lock = threading.Lock()
        sys.addaudithook(self._hear)

    def see(self, entries: Sequence[Entry]) -> None:
        """It begins to count with the record that it waits for."""
        self.armed = self.armed or any(one.subject.endswith(f".{self._arm}") for one in entries)

    async def cross(self, call: str, doing: bool, do: Callable[[], Awaitable[T]]) -> T:
        """See `Watch`."""
        number = self.count(call) if doing else 0
        self.pass_by(call, number, "before")
        try:
            return await do()
        finally:
            self.pass_by(call, number, "after")

    def count(self, call: str) -> int:
        """The call's number, told to whoever reads along; from any thread."""
        with self._lock:
            number = self.next(call)
        if number and self._told >= 0:
            os.write(self._told, f"{call}:{number}\n".encode())
        return number

    def pass_by(self, call: str, number: int, side: Side) -> None:
        """Or not."""
        if number and Point(call, number, side) == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.armed and (call := _audited(event, args)):
            self.pass_by(call, self.count(call), "before")


def _audited(event: str, args: tuple[Any, ...]) -> str:
    """The name of the call that an audit event is of; empty of one that changes nothing."""
    if event == "http.client.send":
        found = _REQUEST.match(bytes(args[1]) if isinstance(args[1], bytes) else b"")
        return " ".join(part.decode() for part in found.groups() if part) if found else ""
    if event == "subprocess.Popen":
        return f"run {Path(os.fsdecode(args[0])).name}"
    if event == "open":
        is_file = isinstance(args[0], str | bytes | os.PathLike) and args[0] != os.devnull
        return "open for writing" if is_file and args[2] & WRITES else ""
    return event if event in ON_FILES else ""


class ArmingLedger:
    """A ledger that tells its fate what is about to be appended."""

    def __init__(self, ledger: Ledger, fate: Fate) -> None:
        self._ledger = watched(Ledger, ledger, fate)
        self._fate = fate

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """As the port says."""
        self._fate.see(entries)
        return await self._ledger.append(entries, expected_last_seq)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


class DyingConnection:
    """A connection whose commits are points."""

    def __init__(self, connection: sqlite3.Connection, fate: Fate) -> None:
        self._connection = connection
        self._fate = fate

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """As the connection's."""
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        number = self._fate.count(COMMIT)
        self._fate.pass_by(COMMIT, number, "before")
        done = self._connection.execute(sql, *values)
        self._fate.pass_by(COMMIT, number, "after")
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class DyingStore(ReadStore):
    """A read store whose commits are points."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    def _connect(self) -> sqlite3.Connection:
        return cast(sqlite3.Connection, DyingConnection(super()._connect(), self._fate))


class DyingHost(Host):
    """The real host, with a watch at every port."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def ledger(
        self,
        settings: Settings,
        on_failed: Callable[[str], None],
        on_full: Callable[[str], None],
    ) -> AbstractAsyncContextManager[OpenLedger]:
        """As the host's."""
        return self._ledger(settings, on_failed, on_full)

    @asynccontextmanager
    async def _ledger(
        self,
        settings: Settings,
        on_failed: Callable[[str], None],
        on_full: Callable[[str], None],
    ) -> AsyncGenerator[OpenLedger, None]:
        async with super().ledger(settings, on_failed, on_full) as opened:
            armed = cast(Ledger, ArmingLedger(opened.ledger, self._fate))
            yield msgspec.structs.replace(opened, ledger=armed)

    def read_store(self, settings: Settings) -> ReadStore:
        """As the host's."""
        return DyingStore(settings.data_dir / READ_STORE, self._fate)

    def engine(self, settings: Settings, owner: str) -> Closing[ContainerEngine]:
        """As the host's."""
        engine, close = super().engine(settings, owner)
        return watched(ContainerEngine, engine, self._fate), close

    def disks(self, settings: Settings, owner: str) -> Closing[SystemDisks]:
        """As the host's."""
        disks, close = super().disks(settings, owner)
        return watched(SystemDisks, disks, self._fate), close

    def paths(self, settings: Settings) -> HostPaths:
        """As the host's."""
        return watched(HostPaths, super().paths(settings), self._fate)

    async def volumes(self, settings: Settings) -> VolumeStore:
        """As the host's."""
        return watched(VolumeStore, await super().volumes(settings), self._fate)

    def probe(self, settings: Settings) -> tuple[DeviceProbe, GpuRuntime | None]:
        """As the host's."""
        probe, handed_over = super().probe(settings)
        return watched(DeviceProbe, probe, self._fate), handed_over


def main() -> None:
    """Serve until told to stop, or until it is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arm", default="")
    parser.add_argument("--die-at", type=Point.parse)
    parser.add_argument("--calls", type=Path)
    for name, setting in SETTINGS.items():
        parser.add_argument(*setting.flags, dest=name)
    given = vars(parser.parse_args())
    fate = Fate(given.pop("arm"), given.pop("die_at"), given.pop("calls"))
    settings = Settings.from_mapping(
        os.environ, host_name=socket.gethostname(), superuser=os.geteuid() == 0, **given
    )
    # Not on uvloop, which starts programs without telling an audit hook.
    sys.exit(asyncio.run(serve(settings, partial(print, flush=True), DyingHost(fate))))


if __name__ == "__main__":
    main()
