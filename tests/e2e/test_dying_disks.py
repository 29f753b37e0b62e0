"""The files that a service lives on, damaged, lost and out of room: while it runs and at a start.

No engine is needed for it: to put a GPU in quarantine is a command like any other.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.nats_child import NatsChild
from service.adapters.newest_block import FOLDER
from service.ports import Entry
from tests.kit.damage import block_of, flip, place_of
from tests.kit.full_disk import FullDisk
from tests.kit.service_process import Answer, ServiceProcess, eventually


def service_on(data_dir: Path) -> ServiceProcess:
    return ServiceProcess(data_dir, f"unix://{data_dir.parent}/nobody.sock")


def gpus_of(service: ServiceProcess) -> dict[str, Any]:
    """By UUID, who says that a GPU is not lent."""
    details = service.get("/resources/gpus").ok()["details"]
    return {gpu["uuid"]: gpu["quarantine"] for gpu in details}


def quarantine(service: ServiceProcess, uuid: str) -> Answer:
    return service.call("POST", f"/resources/gpus/{uuid}/quarantine", {"why": "a test"})


def component(service: ServiceProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = service.page("/readyz").json()["data"]["components"][name]
    return found


def refusal(service: ServiceProcess, code: int) -> str:
    """The one line that a start ends with, and no other."""
    ended = service.serve_in_vain()
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert (ended.returncode, len(lines), ended.stdout) == (code, 1, ""), ended.stderr
    return lines[0]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service without an engine, whose first GPU is in quarantine."""
    with service_on(tmp_path / "data") as service:
        quarantine(service, next(iter(gpus_of(service)))).ok()
        yield service


def end_uncleanly(service: ServiceProcess) -> None:
    """As a power loss does: nobody has time to write anything down."""
    child = service.nats_pid
    os.kill(service.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGKILL)
    service.kill()


@pytest.mark.parametrize("how", ["gone", "garbage"])
def test_the_read_store_is_lost_while_it_is_in_use(alone: ServiceProcess, how: str) -> None:
    before = gpus_of(alone)
    for file in list(alone.data_dir.glob("read.db*")):
        if how == "gone":
            file.unlink()
            continue
        with file.open("r+b") as written_over:
            written_over.write(b"this is no database\n" * (file.stat().st_size // 20))

    def whole_again() -> bool:
        answer = alone.get("/resources/gpus")
        assert answer.status in (200, 503), answer  # never a 500, and never something else
        ready = component(alone, "projector")["ok"]
        return answer.status == 200 and ready and "written anew" in alone.log_path.read_text()

    eventually(whole_again)
    assert gpus_of(alone) == before
    *_, last = before
    quarantine(alone, last).ok()
    assert alone.stop() == 0
    alone.start()
    assert gpus_of(alone) == {**before, last: "hand"}
    assert "begins anew" not in alone.log_tail(20)


def test_a_disk_that_is_full_refuses_and_recovers(tmp_path: Path) -> None:
    with FullDisk(tmp_path / "disk", 40) as disk:
        service = service_on(disk.path / "data")
        with service:
            before = gpus_of(service)
            disk.fill()
            # What still fits into a block of the disk is taken, and is not forgotten.
            *some, last = before
            taken = []
            for uuid in some:
                if (tried := quarantine(service, uuid)).status == 503:
                    tried.refused(1105, 503)
                    break
                taken.append(uuid)
            else:
                pytest.fail("it was never refused")
            assert component(service, "nats")["ok"] is False
            assert service.get("/resources/gpus").status == 200
            assert service.page("/healthz").status_code == 200
            disk.make_room()
            eventually(lambda: quarantine(service, last).code == 200)
            eventually(lambda: component(service, "projector")["ok"])
            assert "nats" not in service.page("/readyz").json()["data"]["components"]
            after = {**before, **dict.fromkeys((*taken, last), "hand")}
            assert gpus_of(service) == after
            assert service.stop() == 0
            disk.fill()
            assert "(No space left on device): 8 MB must be free" in refusal(service, 2)
            disk.make_room()
            disk.remount("ro")
            assert "cannot be written to" in refusal(service, 2)
            disk.remount("rw")
            service.start()
            assert gpus_of(service) == after
            records = [(record.name, record.verb) for record in service.records()]
            assert records.count((last, "quarantine")) == 1


def test_a_damaged_ledger_after_a_crash(alone: ServiceProcess) -> None:
    count = alone.last_seq()
    end_uncleanly(alone)
    data_dir = alone.data_dir
    flip(block_of(data_dir), place_of(data_dir, 2))
    whole = block_of(data_dir)
    content = whole.read_bytes()
    line = refusal(alone, 1)
    assert f"has seen record {count}, but the ledger ends at 1" in line
    assert "could not read the record at byte" in line
    # Nobody can tell any more, but it is not passed over; nothing is made up or appended.
    for file in data_dir.glob("read.db*"):
        file.unlink()
    assert "move that file away" in refusal(alone, 1)
    (kept,) = (data_dir / FOLDER).glob("*.blk")
    assert kept.read_bytes() == content
    # The disk was repaired: what was kept is put back.
    whole.write_bytes(content)
    flip(whole, place_of(data_dir, 2))
    for index in (data_dir / "ledger").rglob("index.db"):
        index.unlink()
    kept.unlink()
    alone.start()
    assert alone.last_seq() == count
    assert list(gpus_of(alone).values()).count("hand") == 1


def test_a_record_that_cannot_be_read(alone: ServiceProcess) -> None:
    count = alone.last_seq()
    alone.stop()

    async def append() -> None:
        async with (
            NatsChild(alone.data_dir) as child,
            JetStreamLedger(child.service, child.admin) as ledger,
        ):
            body = b'{"specversion":"1.0","type":"gpu.repainted.v1"}'
            await ledger.append([Entry("ledger.test.gpu.x.repaint", "id", body)], count)

    asyncio.run(append())
    said = f"record {count + 1} cannot be read: gpu.repainted.v1"
    assert said in refusal(alone, 1)
    rebuilt = alone.cli("rebuild", *alone.common_flags)
    assert (rebuilt.returncode, len(rebuilt.stderr.splitlines())) == (1, 1), rebuilt.stderr
    assert said in rebuilt.stderr
