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

KINDS = IDLE, FOLDED, LOADED = "idle", "folded from the ledger", "loaded from the rows"
READ_STORE_FILES = ("read.db", "read.db-wal", "read.db-shm")


def measure(folder: Path, rounds: int) -> list[Figure]:
    """All three starts in turns."""
    full = folder / "memory-full"
    fill(full, NODE_RECORDS + SETS * NAMES_RUN_RECORDS, SETS)
    service: dict[str, list[float]] = {kind: [] for kind in KINDS}
    nats: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            data_dir, gpus = full, SETS
            if kind == IDLE:
                data_dir, gpus = folder / f"memory-idle-{number}", 0
            if kind == FOLDED:
                _drop_rows(full)
            flags = ("--node", NODE, "--shown-gpus", str(gpus), "--log-level", "error")
            with ServiceChild(SIMULATED_SERVICE, data_dir, *flags) as child:
                service[kind].append(child.resident_mib())
                nats[kind].append(child.nats_resident_mib())
    return [
        *(Figure(LETTER, f"service, {kind}", service[kind], "MiB") for kind in KINDS),
        *(Figure(LETTER, f"nats-server, {kind}", nats[kind], "MiB") for kind in KINDS),
    ]


def _drop_rows(data_dir: Path) -> None:
    for name in READ_STORE_FILES:
        (data_dir / name).unlink(missing_ok=True)
