"""The embedded server: keeps what it acknowledged, dies with its parent, guards its store."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import JetStreamRefused, NatsAddress, NatsConnection
from service.adapters.jetstream_stream import STREAM, create_stream, wanted_config
from service.adapters.nats_child import NATS_CONF, RESTARTS_MAX, NatsChild, server_binary
from service.errors import LedgerDamaged, LedgerUnavailable, SettingsError
from service.ports import Entry, StoredEntry

PATIENCE_S = 60.0


def entry(seq: int) -> Entry:
    return Entry("ledger.node.replica_set.name.run", f"id-{seq}", b"%d" % seq)


async def exit_of(pid: int) -> None:
    """Wait until the process ends, also when it is not a child of ours."""
    loop = asyncio.get_running_loop()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def kill(child: NatsChild) -> int:
    assert child.pid is not None
    pid = child.pid
    os.kill(pid, signal.SIGKILL)
    return pid


async def append_stubbornly(ledger: JetStreamLedger, seq: int) -> None:
    """As a writer does: the same append again until the ledger confirms it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                assert await ledger.append([entry(seq)], seq - 1) == seq
                return
            except LedgerUnavailable:
                await asyncio.sleep(0.01)


async def test_a_killed_child_is_restarted_and_nothing_is_lost(
    nats_child: NatsChild, nats_ledger: JetStreamLedger
) -> None:
    url = nats_child.url
    read: list[StoredEntry] = []

    async def follow() -> None:
        async for batch in nats_ledger.read(0, 300):
            read.extend(batch)

    following = asyncio.create_task(follow())
    for seq in range(1, 301):
        if seq in (50, 200):
            kill(nats_child)
        await append_stubbornly(nats_ledger, seq)
    async with asyncio.timeout(PATIENCE_S):
        await following
    assert [(found.seq, found.message_id) for found in read] == [
        (seq, f"id-{seq}") for seq in range(1, 301)
    ]
    assert nats_child.url == url
    assert nats_child.failure is None


async def test_a_child_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with NatsChild(tmp_path, on_failed=failed.set_result) as child:
        # A file where the store was: every restart fails at once.
        (tmp_path / "ledger" / "jetstream").rename(tmp_path / "aside")
        (tmp_path / "ledger" / "jetstream").touch()
        kill(child)
        async with asyncio.timeout(PATIENCE_S):
            reason = await failed
        assert f"{RESTARTS_MAX + 1} times" in reason
        assert child.failure == reason
        assert child.pid is None


async def test_the_ledger_survives_a_restart_of_the_service(tmp_path: Path) -> None:
    for start in range(3):
        async with (
            NatsChild(tmp_path) as child,
            JetStreamLedger(child.service, child.admin) as ledger,
        ):
            assert await ledger.last_seq() == 40 * start
            batch = [entry(seq) for seq in range(40 * start, 40 * start + 40)]
            await ledger.append(batch, 40 * start)


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("service", ""), ("service", "wrong"), ("admin", None), ("nobody", "x")],
)
async def test_who_has_no_credential_is_refused(
    nats_child: NatsChild, user: str | None, password: str | None
) -> None:
    with pytest.raises(LedgerUnavailable, match=r"(?i)authorization"):
        async with JetStreamLedger(NatsAddress((nats_child.url,), user, password)):
            pass


def listening_addresses(pid: int) -> list[str]:
    """Where a process listens, as the kernel writes addresses."""
    sockets = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    ]
    listens = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [row[1].partition(":")[0] for row in listens]


async def test_it_listens_on_loopback_only(nats_child: NatsChild) -> None:
    """In both address families."""
    assert nats_child.pid is not None
    listening = await asyncio.to_thread(listening_addresses, nats_child.pid)
    assert listening == ["0100007F"], "127.0.0.1, as the kernel writes it"


async def test_a_second_instance_on_the_same_directory_is_refused(nats_child: NatsChild) -> None:
    data_dir = nats_child.data_dir
    with pytest.raises(LedgerUnavailable) as refused:
        await NatsChild(data_dir).__aenter__()
    told = f"{data_dir}: another gpuledger runs on this data directory; stop it first"
    assert str(refused.value) == told


PARENT = """
import asyncio, sys
from pathlib import Path
from service.adapters.nats_child import NatsChild

async def main():
    async with NatsChild(Path(sys.argv[1])) as child:
        print(child.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def parent_process(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Another process that runs a NatsChild, and the pid of that child."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(data_dir)),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    child_pid = int(await parent.stdout.readline())
    try:
        yield parent, child_pid
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.communicate()
        await exit_of(child_pid)


async def test_the_child_dies_with_a_killed_parent_and_frees_the_store(tmp_path: Path) -> None:
    async with parent_process(tmp_path) as (parent, child_pid):
        parent.kill()
        await parent.wait()
        await exit_of(child_pid)
    async with NatsChild(tmp_path) as child:
        assert child.pid is not None


async def test_the_child_holds_the_lock_by_itself(tmp_path: Path) -> None:
    async with parent_process(tmp_path) as (parent, child_pid):
        os.kill(child_pid, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        with (tmp_path / "ledger" / "lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(child_pid, signal.SIGCONT)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_child(nats_child: NatsChild) -> None:
    assert nats_child.pid is not None
    assert os.getsid(nats_child.pid) == nats_child.pid != os.getsid(0)


def read_command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def test_passwords_are_not_on_the_command_line(nats_child: NatsChild) -> None:
    assert nats_child.pid is not None
    command_line = read_command_line(nats_child.pid)
    assert str(NATS_CONF) in command_line
    for address in (nats_child.service, nats_child.admin):
        assert address.password is not None
        assert address.password not in command_line
        assert address.password not in repr(address)


async def test_a_wrong_password_is_refused(nats_child: NatsChild) -> None:
    wrong = NatsAddress((nats_child.url,), "service", "wrong")
    with pytest.raises(LedgerUnavailable, match="Authorization Violation"):
        await JetStreamLedger(wrong).__aenter__()


async def test_the_server_syncs_every_record(tmp_path: Path) -> None:
    """Asked of the server itself, run with our file and a monitoring port beside."""
    server = await asyncio.create_subprocess_exec(
        *(server_binary(), "--config", str(NATS_CONF), "-m", "-1", "--net", "127.0.0.1"),
        env={
            "NATS_LISTEN": "127.0.0.1:-1",
            "NATS_STORE_DIR": str(tmp_path),
            "NATS_SERVICE_PASSWORD": "service",
            "NATS_ADMIN_PASSWORD": "admin",
            "NATS_SUBSCRIBER_PASSWORD": "subscriber",
        },
        stderr=subprocess.PIPE,
    )
    assert server.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"http monitor" not in (line := await server.stderr.readline()):
                assert line, "the server ended"
        url = f"http://{line.decode().split()[-1]}/varz"
        varz = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()))
    finally:
        server.terminate()
        await server.communicate()
    assert varz["jetstream"]["config"]["sync_always"] is True
    assert varz["max_payload"] == 1024 * 1024


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("STREAM.DELETE", None),
        ("STREAM.PURGE", None),
        ("STREAM.UPDATE", {"name": STREAM, "discard": "old", "max_msgs": 1}),
        ("STREAM.MSG.DELETE", {"seq": 1}),
    ],
)
async def test_the_service_may_not_touch_what_is_stored(
    nats_child: NatsChild, nats_ledger: JetStreamLedger, api: str, body: object
) -> None:
    await nats_ledger.append([entry(1), entry(2)], 0)
    async with NatsConnection.open(nats_child.service) as connection:
        with pytest.raises(LedgerUnavailable, match="no answer") as refused:
            await connection.call(f"{api}.{STREAM}", body, timeout_s=0.2)
        assert not isinstance(refused.value, JetStreamRefused)
    assert await nats_ledger.find("id-1", 0) == 1


async def test_a_stream_that_could_lose_records_is_refused(nats_child: NatsChild) -> None:
    async with NatsConnection.open(nats_child.admin) as admin:
        config = await create_stream(admin, 1)
        config |= {"discard": "old", "max_msgs": 10}
        await admin.call(f"STREAM.UPDATE.{STREAM}", config)
    with pytest.raises(SettingsError, match="discard is 'old' instead of 'new'; max_msgs is 10"):
        await JetStreamLedger(nats_child.service).__aenter__()


async def test_a_rolled_stream_is_read_from_where_it_begins(nats_child: NatsChild) -> None:
    async with NatsConnection.open(nats_child.admin) as admin:
        await admin.call(f"STREAM.CREATE.{STREAM}", {**wanted_config(1), "first_seq": 101})
    async with JetStreamLedger(nats_child.service) as ledger:
        assert await ledger.last_seq() == 100
        assert await ledger.append([entry(101), entry(102)], 100) == 102
        batches = [batch async for batch in ledger.read(100, 102)]
        assert [found.seq for batch in batches for found in batch] == [101, 102]
        with pytest.raises(LedgerDamaged, match="seq 100 of the ledger is missing"):
            await ledger.find("id-101", 99)


@pytest.mark.parametrize("lost_seq", [1, 40, 100])
async def test_a_lost_record_is_noticed_wherever_it_was(tmp_path: Path, lost_seq: int) -> None:
    """One flipped bit in the file: the server drops that record at its next start, silently."""
    async with NatsChild(tmp_path) as child, JetStreamLedger(child.service, child.admin) as ledger:
        await ledger.append([entry(seq) for seq in range(1, 101)], 0)
    flip_a_bit(tmp_path, f"id-{lost_seq}\r\n".encode())
    async with NatsChild(tmp_path) as child, JetStreamLedger(child.service) as ledger:
        with pytest.raises(LedgerDamaged, match=f"seq {lost_seq} of the ledger is missing"):
            await ledger.find("nobody", 0)


def flip_a_bit(data_dir: Path, where: bytes) -> None:
    (block,) = (data_dir / "ledger").rglob("msgs/*.blk")
    content = bytearray(block.read_bytes())
    content[content.index(where)] ^= 1
    block.write_bytes(content)
