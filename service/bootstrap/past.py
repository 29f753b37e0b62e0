"""The way back: where the checkpoints are, and what keeps them."""

from pathlib import Path

from projections.checkpoints import Checkpoints
from projections.projector import Projector
from projections.store import ReadStore
from projections.timeline import ReadBetween, Timeline
from service.adapters.system import SystemClock
from service.application.explainer import Explainer
from service.application.past import Past
from service.application.supervisor import Supervisor
from service.bootstrap.ledger import OpenLedger
from service.settings import Settings

CHECKPOINTS = "checkpoints"
"""The folder below the data directory."""


def timeline_in(data_dir: Path, read: ReadBetween) -> Timeline:
    """The timeline of a ledger, with its checkpoints in the data directory."""
    return Timeline(read, Checkpoints(data_dir / CHECKPOINTS))


def open_past(
    data_dir: Path,
    opened: OpenLedger,
    projector: Projector,
    store: ReadStore,
    supervisor: Supervisor,
) -> Past:
    """The past of a running service; the projector has caught up."""
    timeline = timeline_in(data_dir, opened.ledger.read)
    timeline.follow(projector)
    supervisor.start("timeline", timeline.run(lambda: projector.folded_seq))
    return Past(timeline, store, projector, SystemClock())


def open_explainer(
    settings: Settings, opened: OpenLedger, store: ReadStore, past: Past
) -> Explainer:
    """Who says why, at any point of that past."""
    ports = settings.port_first, settings.port_last
    return Explainer(past, store, opened.ledger.read, *ports)
