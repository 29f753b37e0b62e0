"""The audit of a running service: it is always on, as no setting says otherwise."""

import asyncio
from contextlib import AsyncExitStack

from projections.projector import Projector
from projections.store import ReadStore
from service.adapters.audit_key import KeyFile
from service.adapters.checkpoint_files import CheckpointFiles, elsewhere_in
from service.adapters.jetstream_refusals import JetStreamRefusals
from service.application.audit import Audit
from service.application.checkpointing import Checkpointing
from service.application.health import Component
from service.application.refusal_chain import RefusalChain
from service.application.refusals import RefusalMetrics, Refusals
from service.application.supervisor import Supervisor
from service.bootstrap.ledger import OpenLedger
from service.ports import Clock
from service.settings import Settings
from service.telemetry import Metrics


class OpenAudit:
    """What notes refusals, what signs checkpoints, and what answers about both."""

    def __init__(self, refusals: Refusals, chain: RefusalChain, audit: Audit) -> None:
        self.refusals = refusals
        self._chain = chain
        self.audit = audit

    def component(self) -> Component:
        """For /readyz. A service without an audit for a while is ready; one whose ledger is not
        what was signed before is not."""
        signing = self.audit.signing
        parts = (self.refusals, self._chain, signing)
        troubles = [part.trouble for part in parts if part.trouble]
        return Component(not signing.broken, "; ".join(troubles) or "refusals are kept")


async def open_audit(
    stack: AsyncExitStack,
    settings: Settings,
    opened: OpenLedger,
    projector: Projector,
    store: ReadStore,
    clock: Clock,
    owner: str,
    metrics: Metrics,
    failures: dict[str, str],
) -> OpenAudit:
    """Open it, and keep it going until the stack is left. Raises AuditError without a key."""
    signer = await asyncio.to_thread(KeyFile, settings.data_dir)
    kept = await stack.enter_async_context(JetStreamRefusals(opened.address, opened.admin))
    folder = settings.audit_dir
    elsewhere = elsewhere_in(folder, settings.node) if folder is not None else None

    def last_seq() -> int:
        return projector.folded_seq

    book = CheckpointFiles(settings.data_dir, elsewhere)
    chain = RefusalChain(kept, book.last)
    refusals = Refusals(chain, clock, last_seq, RefusalMetrics(metrics.registry))
    signing = Checkpointing(
        opened.ledger,
        book,
        chain,
        signer,
        clock,
        last_seq,
        settings.node,
        owner,
        metrics.registry,
    )
    # Stopped before what it stands on is closed.
    at_work = await stack.enter_async_context(Supervisor(failures))
    at_work.start("refusals", refusals.run())
    at_work.start("checkpoints", signing.run())
    return OpenAudit(refusals, chain, Audit(store, kept, opened.ledger, signing))
