"""Telemetry: spans, metrics and logs, each next to free when nobody looks.

Spans leave by OTLP/HTTP, and only when an endpoint is given; without one, every function here
returns at once and no SDK is loaded. Metrics are read at /metrics (a collector scrapes them
there). Logs are JSON lines on stderr. Trace context is W3C `traceparent`, as text, because it
travels in records and headers.
"""

import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from pythonjsonlogger.msgspec import MsgspecFormatter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

EXPORT_TIMEOUT_S = 3
"""A collector that does not answer may hold up the end of the service this long."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The request being served, for its log lines."""

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NO_SPAN: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)
_PROPAGATOR = TraceContextTextMapPropagator()

# One per process, like OpenTelemetry's own; not its global, which can be set only once.
_tracer: Tracer | None = None


def start_tracing(
    *, node: str, endpoint: str | None = None, exporter: "SpanExporter | None" = None
) -> Callable[[], None]:
    """Begin to send spans to a collector, and return what ends it.

    `endpoint` is the collector's base URL ("http://host:4318"); `exporter` takes its place.
    With neither, spans stay off. The function returned sends what is left; it blocks for
    EXPORT_TIMEOUT_S at most, so call it off the event loop.
    """
    global _tracer
    if endpoint is None and exporter is None:
        return lambda: None
    # Loaded only when spans are on: the SDK and its HTTP client cost start-up time and memory.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        url = f"{(endpoint or '').rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)
    resource = Resource.create({"service.name": "gpuledger", "host.name": node})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("gpuledger")

    def stop() -> None:
        global _tracer
        _tracer = None
        provider.shutdown()

    return stop


def span_from(
    traceparent: str, name: str, kind: SpanKind = SpanKind.INTERNAL
) -> AbstractContextManager[Span]:
    """A span as a context manager; its parent is `traceparent`, or with "" the current span.

    An exception that leaves it is recorded in it. Free of cost while spans are off.
    """
    if _tracer is None:
        return _NO_SPAN
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    return _tracer.start_as_current_span(name, context=parent, kind=kind)


def current_traceparent() -> str:
    """The current span as W3C trace context; "" outside of any span or while spans are off."""
    if _tracer is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def checked_traceparent(text: str) -> str:
    """The text when it is well-formed trace context of version 00, else ""."""
    return text if _TRACEPARENT.fullmatch(text) else ""


_REQUEST_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0),
)
_APPEND_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_EFFECT_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """All metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.http_request_duration = Histogram(
            "gpuledger_http_request_duration_seconds",
            "Time from a request's headers to its response, waiting for the outcome included",
            ("method", "route", "status"),
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        self.commands = Counter(
            "gpuledger_commands",
            "Commands of callers; outcome is accepted or refused",
            ("verb", "outcome"),
            registry=registry,
        )
        self.append_duration = Histogram(
            "gpuledger_append_duration_seconds",
            "Time until the ledger confirmed an append as durable",
            buckets=_APPEND_BUCKETS_S,
            registry=registry,
        )
        self.ledger_seq = Gauge(
            "gpuledger_ledger_seq", "Sequence of the last record in the ledger", registry=registry
        )
        self.projector_lag = Gauge(
            "gpuledger_projector_lag_records",
            "Records in the ledger that the read store does not show yet",
            registry=registry,
        )
        self.effects = Counter(
            "gpuledger_effects",
            "Effects carried out; outcome is succeeded, failed or unknown",
            ("effect", "outcome"),
            registry=registry,
        )
        self.effect_duration = Histogram(
            "gpuledger_effect_duration_seconds",
            "Time that Docker or the disks took for an effect",
            ("effect",),
            buckets=_EFFECT_BUCKETS_S,
            registry=registry,
        )
        self.gpus = Gauge(
            "gpuledger_gpus",
            "GPUs; state is free, or one or more of leased, absent, quarantined, sick, occupied",
            ("state",),
            registry=registry,
        )
        self.host_ports_leased = Gauge(
            "gpuledger_host_ports_leased", "Host ports in use", registry=registry
        )
        self.operations_in_progress = Gauge(
            "gpuledger_operations_in_progress",
            "Operations that were accepted and have not ended",
            registry=registry,
        )
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._http: dict[tuple[str, str, int], Histogram] = {}

    def observe_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request. `route` is the route's pattern, never the path."""
        key = (method, route, status)
        # prometheus_client builds and locks for each lookup by labels; a dict is ten times less.
        child = self._http.get(key)
        if child is None:
            child = self._http[key] = self.http_request_duration.labels(method, route, str(status))
        child.observe(seconds)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the text form that the scraper accepts, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it names a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type


class _JsonLines(MsgspecFormatter):
    """One JSON object a line: timestamp, level, logger, message, then what was given as extra."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp=True,
        )

    def format(self, record: logging.LogRecord) -> str:
        if request_id := REQUEST_ID.get():
            record.request_id = request_id
        if _tracer is not None:
            context = trace.get_current_span().get_span_context()
            if context.is_valid:
                record.trace_id = f"{context.trace_id:032x}"
        return super().format(record)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Log as JSON lines to `stream` (default stderr), from `level` ("info", ...) upwards.

    Say what a line is about with `extra`: seq, command_id, operation_id.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These report every connection and request; ours already says what matters.
    for chatty in ("aiohttp.access", "urllib3", "docker", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
