"""Health, metrics, logs, traces and the API's own description, on the running service."""

import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from events.operations import OperationAccepted
from tests.kit.service_process import ServiceProcess, eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def metrics(service: ServiceProcess) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of /metrics, by name and labels."""
    response = service.page("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_count_what_happens(shared: ServiceProcess) -> None:
    before = metrics(shared)
    shared.run("counted", 2, containerPorts=["22"]).ok()
    assert shared.run("greedy", 9).code == 1013
    after = metrics(shared)

    def rise(name: str, **labels: str) -> float:
        key = name, tuple(sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert rise("gpuledger_commands_total", verb="run", outcome="accepted") == 1
    assert rise("gpuledger_commands_total", verb="run", outcome="refused") == 1
    assert rise("gpuledger_effects_total", effect="CreateContainer", outcome="succeeded") == 1
    assert rise("gpuledger_effect_duration_seconds_count", effect="StartContainer") == 1
    route = {"method": "POST", "route": "/api/v1/replicaSet"}
    request = "gpuledger_http_request_duration_seconds_count"
    assert rise(request, **route, status="200") == 1
    assert rise(request, **route, status="409") == 1
    assert rise("gpuledger_append_duration_seconds_count") >= 4
    assert rise("gpuledger_gpus", state="leased") == 2
    assert rise("gpuledger_gpus", state="free") == -2
    assert rise("gpuledger_host_ports_leased") == 1
    assert after["gpuledger_operations_in_progress", ()] == 0
    assert after["gpuledger_projector_lag_records", ()] == 0
    assert after["gpuledger_ledger_seq", ()] == shared.last_seq()


def test_a_scan_of_names_makes_no_series(shared: ServiceProcess) -> None:
    for number in range(20):
        shared.get(f"/replicaSet/scan{number}")
        shared.page(f"/nothing/{number}")
        shared.send("GET", f"/strange{number}", {})
    text = shared.page("/metrics").text
    assert "scan1" not in text
    assert "nothing" not in text
    assert 'route="unknown"' in text


def test_health_pages(shared: ServiceProcess) -> None:
    assert shared.page("/ping").json() == {"message": "pong"}
    alive = shared.page("/healthz")
    assert (alive.status_code, alive.json()["data"]) == (200, {"alive": True})
    ready = shared.page("/readyz")
    assert ready.status_code == 200
    components = ready.json()["data"]["components"]
    assert {"ledger", "projector", "docker", "gpus"} <= set(components)
    assert all(part["ok"] and part["detail"] for part in components.values())


def test_the_document_and_its_page(shared: ServiceProcess) -> None:
    document = shared.page("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    assert {"post", "get"} <= set(paths["/api/v1/replicaSet"])
    assert {"get", "patch", "delete"} <= set(paths["/api/v1/replicaSet/{name}"])
    assert "patch" in paths["/api/v1/volumes/{name}/size"]
    page = shared.page("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    # Nothing of the page comes from anywhere else.
    for word in ('src="http', 'href="http', "url(http", "@import", "//cdn"):
        assert word not in page.text
    for path in paths:
        assert path in page.text


def test_every_documented_read_answers(shared: ServiceProcess) -> None:
    paths = shared.page("/api/v1/openapi.json").json()["paths"]
    reads = [path for path, methods in paths.items() if "get" in methods and "{" not in path]
    assert len(reads) > 8
    # What goes on while one listens is asked for what there is; what needs a point gets one.
    queries = {"/api/v1/events": "?follow=0", "/api/v1/changes": "?from=1"}
    asked = [path + queries.get(path, "") for path in reads]
    assert {path: shared.page(path).status_code for path in asked} == dict.fromkeys(asked, 200)


def test_the_trace_of_a_request_is_in_its_records(shared: ServiceProcess) -> None:
    body = {"imageName": "busybox:test", "replicaSetName": "traced"}
    shared.call("POST", "/replicaSet", body, {"traceparent": TRACE}).ok()
    stored = [record for record in shared.records() if record.name == "traced"]
    assert len(stored) > 3
    # The command's own record and those of what was done about it.
    assert {record.traceparent for record in stored} == {TRACE}
    accepted = stored[0].events[0]
    assert isinstance(accepted, OperationAccepted)
    assert accepted.request == body
    shared.call(
        "POST", "/replicaSet/traced/execute", {"cmd": ["true"]}, {"traceparent": "nonsense"}
    )
    assert shared.records()[-1].traceparent == ""


def test_logs_are_json(shared: ServiceProcess) -> None:
    header = {"X-Request-Id": "asked-by-me"}
    response = shared.send("POST", "/replicaSet/traced/execute", {"cmd": ["true"]}, header)
    assert response.headers["X-Request-Id"] == "asked-by-me"
    lines = [json.loads(line) for line in shared.log_path.read_text().splitlines()]
    assert lines
    for line in lines:
        assert {"timestamp", "level", "logger", "message"} <= set(line)


def test_logs_name_the_record_and_the_command(shared: ServiceProcess) -> None:
    operation = shared.begin("POST", "/volumes", {"name": "logged", "size": "32MB"})
    shared.ended(operation)

    def about_it() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in shared.log_path.read_text().splitlines()]
        return [line for line in lines if line.get("command_id") == operation]

    found = eventually(about_it)
    assert all(isinstance(line["seq"], int) for line in found)


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "*/*"])
def test_metrics_in_the_form_that_is_asked_for(shared: ServiceProcess, accept: str) -> None:
    response = httpx.get(f"{shared.url}/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert ("openmetrics" in response.headers["Content-Type"]) == ("openmetrics" in accept)
    assert response.text.endswith("# EOF\n") == ("openmetrics" in accept)
