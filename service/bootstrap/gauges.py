"""Gauges: what /metrics tells of the state."""

from projections.projector import Projector
from service.telemetry import Metrics


def show_gauges(metrics: Metrics, projector: Projector) -> None:
    """Gauges are read from the fold when somebody scrapes."""
    metrics.ledger_seq.set_function(lambda: projector.folded_seq)
    metrics.projector_lag.set_function(lambda: projector.folded_seq - projector.stored_seq)
    metrics.host_ports_leased.set_function(lambda: len(projector.state.ports))
    metrics.operations_in_progress.set_function(
        lambda: sum(o.state == "running" for o in projector.state.operations.values())
    )
    metrics.gpus.labels("free").set_function(
        lambda: sum(g.present and g.holder is None for g in projector.state.gpus.values())
    )
    metrics.gpus.labels("leased").set_function(
        lambda: sum(g.holder is not None for g in projector.state.gpus.values())
    )
    metrics.gpus.labels("absent").set_function(
        lambda: sum(not g.present for g in projector.state.gpus.values())
    )
