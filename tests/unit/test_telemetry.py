"""Telemetry: nothing while nobody looks, and the right thing when somebody does."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.telemetry import (
    REQUEST_ID,
    Metrics,
    checked_traceparent,
    configure_logging,
    current_traceparent,
    span_from,
    start_tracing,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    stop = start_tracing(node="n1", exporter=exporter)
    yield exporter
    stop()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged; the loggers are put back as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers, root.level = handlers, level


def test_without_an_endpoint_there_are_no_spans() -> None:
    stop = start_tracing(node="n1")
    with span_from(PARENT, "a") as span:
        assert not span.is_recording()
        assert current_traceparent() == ""
    stop()


def test_a_span_continues_the_trace_that_it_is_given(spans: InMemorySpanExporter) -> None:
    with span_from(PARENT, "outer"):
        outer = current_traceparent()
        with span_from("", "inner"):
            inner = current_traceparent()
    assert current_traceparent() == ""
    assert {text.split("-")[1] for text in (outer, inner)} == {PARENT.split("-")[1]}
    assert len({PARENT, outer, inner}) == 3
    assert checked_traceparent(outer) == outer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-nonsense",
        PARENT.upper(),
        "ff" + PARENT[2:],
        PARENT + "-x",
        PARENT + "\n",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_what_is_no_trace_context_is_dropped(text: str) -> None:
    assert checked_traceparent(text) == ""


def test_a_log_line_is_json_with_what_it_is_about(lines: io.StringIO) -> None:
    token = REQUEST_ID.set("req-1")
    logging.getLogger("gpuledger.test").info("done %d", 7, extra={"seq": 4, "command_id": "c"})
    REQUEST_ID.reset(token)
    line = json.loads(lines.getvalue())
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "gpuledger.test",
        "message": "done 7",
        "seq": 4,
        "command_id": "c",
        "request_id": "req-1",
    }


def test_a_traceback_and_a_trace_id_are_in_the_line(
    lines: io.StringIO, spans: InMemorySpanExporter
) -> None:
    with span_from(PARENT, "a"):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logging.getLogger("x").exception("bad")
    line = json.loads(lines.getvalue())
    assert "ZeroDivisionError" in line["exc_info"]
    assert line["trace_id"] == PARENT.split("-")[1]


def test_a_debug_line_is_left_out_and_chatty_loggers_are_kept_short(lines: io.StringIO) -> None:
    logging.getLogger("x").debug("no")
    logging.getLogger("urllib3.connectionpool").info("no")
    assert lines.getvalue() == ""


def test_metrics_have_the_usual_names_and_two_services_do_not_meet() -> None:
    metrics, other = Metrics(), Metrics()
    metrics.observe_http("GET", "/ping", 200, 0.002)
    metrics.observe_http("GET", "/ping", 200, 0.002)
    metrics.commands.labels("run", "accepted").inc()
    metrics.effects.labels("StartContainer", "succeeded").inc()
    metrics.gpus.labels("free").set(8)
    text = metrics.expose()[0].decode()
    for line in (
        'http_request_duration_seconds_count{method="GET",route="/ping",status="200"} 2.0',
        'commands_total{outcome="accepted",verb="run"} 1.0',
        "append_duration_seconds_count 0.0",
        "ledger_seq 0.0",
        "projector_lag_records 0.0",
        'effects_total{effect="StartContainer",outcome="succeeded"} 1.0',
        'gpus{state="free"} 8.0',
        "host_ports_leased 0.0",
        "operations_in_progress 0.0",
    ):
        assert f"\ngpuledger_{line}\n" in text
    assert 'verb="run"' not in other.expose()[0].decode()


def test_metrics_come_in_the_form_that_is_asked_for() -> None:
    body, content_type = Metrics().expose("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
