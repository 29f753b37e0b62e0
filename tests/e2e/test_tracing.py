"""One trace from the caller's request through the record to what Docker was asked."""

from pathlib import Path

from tests.e2e.conftest import clean
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess
from tests.kit.span_sink import SpanSink

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


def test_what_docker_does_is_in_the_trace_of_the_request(
    tmp_path: Path, dockerd: PrivateDockerd
) -> None:
    with SpanSink() as sink:
        flags = ["--otlp-endpoint", sink.url]
        with ServiceProcess(tmp_path / "data", dockerd.url, flags=flags) as service:
            body = {"imageName": "busybox:test", "replicaSetName": "foo", "gpuCount": 0}
            header = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
            service.call("POST", "/replicaSet", body, header).ok()
    clean(dockerd, tmp_path / "data")
    ours = [span for span in sink.spans if span.trace_id == TRACE_ID]
    request = next(span for span in ours if span.parent_id == CALLER)
    below = {span.name for span in ours if span.parent_id == request.span_id}
    assert {"EnsureImage", "CreateContainer", "StartContainer", "Settle"} <= below
