"""The ledger of an installation: an embedded server of our own, or somebody's."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from service.adapters.disk_room import ROOM_BYTES, take_room
from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.nats_child import NatsChild
from service.errors import LedgerUnavailable, SettingsError
from service.ports import Ledger
from service.settings import Settings

LEDGER = "ledger"
"""The folder of the embedded server's streams, in the data directory."""

ADDRESS_FILE = "nats.json"
"""How to reach the embedded ledger of a running service; only its owner may read it."""

SUBSCRIBER_FILE = "nats-subscriber.json"
"""The same for those who only read; what they read has secrets in it as well."""


class OpenLedger(Struct):
    """A ledger in use, how to reach it, and a line for people that says where it is."""

    ledger: Ledger
    address: NatsAddress
    where: str
    admin: NatsAddress | None = None
    """For what has to be made on the server; None where that is for the same user."""


@asynccontextmanager
async def open_ledger(
    settings: Settings,
    on_failed: Callable[[str], None] = lambda reason: None,
    on_full: Callable[[str], None] = lambda reason: None,
) -> AsyncIterator[OpenLedger]:
    """The ledger, for the one service of this data directory.

    Raises LedgerUnavailable and SettingsError, with a line for people.
    """
    make_data_dir(settings.data_dir)
    await asyncio.to_thread(_require_room, settings.data_dir)
    if settings.nats != "embedded":
        address = address_of(settings)
        with only_one(settings.data_dir):
            async with JetStreamLedger(address) as ledger:
                yield OpenLedger(ledger, address, repr(address))  # which leaves passwords out
        return
    async with NatsChild(settings.data_dir, on_failed, on_full) as child:
        address_file = settings.data_dir / ADDRESS_FILE
        subscriber_file = settings.data_dir / SUBSCRIBER_FILE
        await asyncio.to_thread(_write_private, address_file, msgspec.json.encode(child.service))
        await asyncio.to_thread(
            _write_private, subscriber_file, msgspec.json.encode(child.subscriber)
        )
        try:
            async with JetStreamLedger(
                child.service, child.admin, on_silence=child.revive
            ) as ledger:
                where = f"{settings.data_dir / 'ledger'} (embedded, {child.url})"
                yield OpenLedger(ledger, child.service, where, child.admin)
        finally:
            address_file.unlink(missing_ok=True)
            subscriber_file.unlink(missing_ok=True)


@asynccontextmanager
async def visit_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger for reading: also beside a service that is running on it."""
    async with visit(settings) as opened:
        yield opened.ledger


@asynccontextmanager
async def visit(settings: Settings) -> AsyncIterator[OpenLedger]:
    """The same, with how to reach what else is on its server."""
    if settings.nats != "embedded":
        address = address_of(settings)
        async with JetStreamLedger(address) as ledger:
            yield OpenLedger(ledger, address, repr(address))
        return
    address_file = settings.data_dir / ADDRESS_FILE
    if not address_file.exists():
        async with open_ledger(settings) as opened:
            yield opened
        return
    address = msgspec.json.decode(
        await asyncio.to_thread(address_file.read_bytes), type=NatsAddress
    )
    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(JetStreamLedger(address))
            found = OpenLedger(ledger, address, repr(address))
        except LedgerUnavailable:
            # The service that wrote the file was killed, and its server went with it.
            found = await stack.enter_async_context(open_ledger(settings))
        yield found


def require_log(settings: Settings, instead: str = "") -> None:
    """Raises SettingsError where there is no log to read; `instead` says what else could be meant.

    To visit a ledger makes its folder, so who only looks asks first.
    """
    if settings.nats == "embedded" and not (settings.data_dir / LEDGER).is_dir():
        raise SettingsError(
            f"{settings.data_dir} has no log; name its folder with --data-dir{instead}"
        )


def address_of(settings: Settings) -> NatsAddress:
    """Where somebody's own NATS server is, and with which credentials."""
    credentials = settings.nats_credentials
    return NatsAddress(
        tuple(url.strip() for url in settings.nats.split(",")),
        credentials_file=str(credentials) if credentials else None,
    )


def make_data_dir(data_dir: Path) -> None:
    """The data directory, for its owner only. Raises SettingsError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the data directory {data_dir} cannot be made ({error.strerror});"
            " choose another with --data-dir"
        ) from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise SettingsError(
            f"the data directory {data_dir} cannot be written to; choose another with --data-dir"
        )


def _require_room(data_dir: Path) -> None:
    """Neither the server nor the read store says in a line that it cannot begin."""
    try:
        take_room(data_dir)
    except OSError as error:
        raise SettingsError(
            f"the data directory {data_dir} cannot be written to ({error.strerror}):"
            f" {ROOM_BYTES >> 20} MB must be free there; make room, or choose another with"
            " --data-dir"
        ) from error


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Nobody else is on the data directory; the embedded server has a lock of its own.

    Raises LedgerUnavailable at once when somebody is: the kernel lets go of a dead process' lock.
    """
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerUnavailable(
                f"{data_dir}: another gpuledger runs on this data directory; stop it first"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _write_private(path: Path, body: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)

