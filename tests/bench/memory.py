"""(e) Resident memory of the service, idle and with many replica sets; nats-server's apart.

Idle: an empty ledger. Many: each set has run, holds a GPU and two ports, and its operation has
ended; once with the state loaded from rows, as at any start, and once folded from the ledger,
when the rows are gone. The writer decides on a state of its own beside the projector's, so the
aggregates' keys are held twice and the aggregates themselves once.
"""

from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.ledgers import NAMES_RUN_RECORDS, NODE_RECORDS, fill
from tests.bench.processes import SIMULATED_SERVICE, ServiceChild
from tests.kit.histories import NODE

LETTER = "e"
SETS = 10_000
TITLE = f"resident memory, idle and with {SETS:,} replica sets"

READ_STORE_FILES = ("read.db", "read.db-wal", "read.db-shm")


def measure(folder: Path, rounds: int) -> list[Figure]:
    """All three starts in turns."""
    full = folder / "memory-full"
    fill(full, NODE_RECORDS + SETS * NAMES_RUN_RECORDS, SETS)
    kinds = {
        "idle": (lambda n: folder / f"memory-idle-{n}", 0),
        f"{SETS:,} sets, folded from the ledger": (lambda n: _without_rows(full), SETS),
        f"{SETS:,} sets, loaded from the rows": (lambda n: full, SETS),
    }
    service: dict[str, list[float]] = {what: [] for what in kinds}
    nats: dict[str, list[float]] = {what: [] for what in kinds}
    for number in range(rounds):
        for what, (make, gpus) in kinds.items():
            flags = ("--node", NODE, "--shown-gpus", str(gpus), "--log-level", "error")
            with ServiceChild(SIMULATED_SERVICE, make(number), *flags) as child:
                service[what].append(child.resident_mib())
                nats[what].append(child.nats_resident_mib())
    return [
        *(Figure(LETTER, f"service, {what}", service[what], "MiB") for what in kinds),
        *(Figure(LETTER, f"nats-server, {what}", nats[what], "MiB") for what in kinds),
    ]


def _without_rows(data_dir: Path) -> Path:
    for name in READ_STORE_FILES:
        (data_dir / name).unlink(missing_ok=True)
    return data_dir
