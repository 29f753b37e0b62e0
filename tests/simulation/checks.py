"""What must be so when a simulation has come to rest, whatever happened on the way."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from events.codec import decode
from events.operations import OperationAccepted, OperationFailed, OperationSucceeded
from events.outcomes import CommandExecuted, ContainerStarted
from events.record import Record
from events.replica_sets import ExecutionRequested, RevisionDeclared
from events.values import versioned
from projections.projector import Projector
from projections.state import State
from service.application.check import compare_engine
from service.domain.invariants import check
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from service.ports import Ledger
from tests.kit.inline_store import InlineStore
from tests.kit.logs import content
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.clients import Told
from tests.simulation.line import Seen
from tests.simulation.town import due


class Disk(Struct):
    """The system disk of one revision, by what the ledger says was written."""

    parent: "Disk | None" = None
    written: set[str] = {}  # type: ignore[assignment]
    perhaps: set[str] = {}  # type: ignore[assignment]


async def records_of(ledger: Ledger) -> list[Record]:
    """Everything in the ledger."""
    last_seq = await ledger.last_seq()
    return [
        decode(entry.body) async for batch in ledger.read(0, last_seq) for entry in batch
    ]
