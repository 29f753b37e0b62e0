"""Gauges: what /metrics tells of the state."""

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import Gauge

from projections.projector import Projector
from projections.state import GpuUnit
from service.application.event_feed import EventFeed
from service.telemetry import Metrics

GPU_STATES: Mapping[str, Callable[[GpuUnit], bool]] = {
    "free": lambda gpu: gpu.is_free,
    "leased": lambda gpu: gpu.holder is not None,
    "absent": lambda gpu: not gpu.present,
    "quarantined": lambda gpu: gpu.quarantine is not None,
    "sick": lambda gpu: bool(gpu.ailments),
    "occupied": lambda gpu: bool(gpu.occupants),
}
"""What /metrics counts GPUs by; one GPU may count in several."""


def show_gauges(metrics: Metrics, projector: Projector, feed: EventFeed) -> None:
    """Gauges are read from the fold, and the feed, when somebody scrapes."""
    metrics.ledger_seq.set_function(lambda: projector.folded_seq)
    metrics.projector_lag.set_function(lambda: projector.folded_seq - projector.stored_seq)
    metrics.host_ports_leased.set_function(lambda: len(projector.state.ports))
    metrics.operations_in_progress.set_function(
        lambda: sum(o.state == "running" for o in projector.state.operations.values())
    )
    for state, is_so in GPU_STATES.items():
        metrics.gpus.labels(state).set_function(partial(_count, projector, is_so))
    readers = Gauge(
        "gpuledger_event_readers",
        "Readers of /api/v1/events at the moment",
        registry=metrics.registry,
    )
    readers.set_function(lambda: feed.readers)


def _count(projector: Projector, is_so: Callable[[GpuUnit], bool]) -> int:
    return sum(map(is_so, projector.state.gpus.values()))
