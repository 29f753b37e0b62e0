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
from service.application.refusals import RefusalMetrics, Refusals
from service.application.supervisor import Supervisor
from service.bootstrap.ledger import OpenLedger
from service.ports import Clock
from service.settings import Settings
from service.telemetry import Metrics


class OpenAudit:
    """What notes refusals, what signs checkpoints, and what answers about both."""

    def __init__(self, refusals: Refusals, audit: Audit) -> None:
        self.refusals = refusals
        self.audit = audit

    def component(self) -> Component:
        """For /readyz. A service without an audit for a while is ready; one whose ledger is not
        what was signed before is not."""
        signing = self.audit.signing
        troubles = [text for text in (self.refusals.trouble, signing.trouble) if text]
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

    refusals = Refusals(kept, clock, last_seq, RefusalMetrics(metrics.registry))
    signing = Checkpointing(
        opened.ledger,
        CheckpointFiles(settings.data_dir, elsewhere),
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
    return OpenAudit(refusals, Audit(store, kept, opened.ledger, signing))
