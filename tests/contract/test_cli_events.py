"""`gpuledger events`: the events of a whole service, and of one whose connections break."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import events
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from tests.kit.simulated_site import SimulatedSite

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

REFUSED = b'{"code":1000,"msg":"enough of that"}'


def run(url: str, *args: str) -> Result:
    surroundings = Surroundings({"GPULEDGER_SERVER": url}, "rig", False, lambda: 0.0, lambda: "k")
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


@pytest.fixture(scope="module")
def site() -> Iterator[SimulatedSite]:
    with SimulatedSite() as site:
        yield site


def message(place: str, kind: str = "operation.progressed.v1", **data: Any) -> bytes:
    """A message as the service sends it."""
    known = {"id": place, "type": kind, "subject": "replica_set/foo", "data": data}
    text = json.dumps({**known, "time": "2026-11-22T11:58:05.000001Z"})
    return f"id: {place}\nevent: {kind}\ndata: {text}\n\n".encode()


@contextmanager
def breaking(*answers: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer to each connection, and what was asked of it."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                connection.settimeout(60)
                with connection:
                    asked.append(connection.recv(65536).decode())
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(10)


def test_every_event_is_a_line(site: SimulatedSite) -> None:
    result = run(site.url, "events")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  \d+\.\d+  \S+/\S+  [a-z_.]+\.v1(  .+)?")
    assert [one for one in lines if not line.fullmatch(one)] == []
    assert lines[0].split()[2] == "1.0"
    assert any("  replica_set/foo  container.started.v1  revision=1" in one for one in lines)


def test_json_is_a_line_for_each(site: SimulatedSite) -> None:
    result = run(site.url, "events", "--json", "--name", "foo", "--type", "container.started.v1")
    (started,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (started["type"], started["subject"]) == ("container.started.v1", "replica_set/foo")
    after = run(site.url, "events", "--json", "--name", "foo", "--after", started["id"])
    assert after.stdout
    assert all(json.loads(line)["seq"] >= started["seq"] for line in after.stdout.splitlines())
    assert started["id"] not in [json.loads(line)["id"] for line in after.stdout.splitlines()]


def test_a_refusal_is_told(site: SimulatedSite) -> None:
    result = run(site.url, "events", "--kind", "cat")
    assert result.exit_code == 1
    assert "kind is one of" in result.stderr


def test_a_lost_connection_is_made_again_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had not come as a whole comes again; a place without an event counts too."""
    monkeypatch.setattr(events, "AGAIN_S", 0.01)
    answers = (
        HEAD + message("1.0") + message("1.1")[:-1],
        HEAD + message("1.1") + b": nothing new\nid: 7\n\n",
        HEAD + message("8.0"),
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(REFUSED) + REFUSED,
    )
    with breaking(*answers) as (url, asked):
        result = run(url, "events", "-f", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["1.0", "1.1", "8.0"]
    places = [re.findall(r"(?i)last-event-id: (\S+)", one) for one in asked]
    assert places == [[], ["1.0"], ["7"], ["8.0"]]


def test_what_a_container_says_does_not_act_on_the_terminal() -> None:
    spiked = message("1.0", message="\x1b]0;owned\x07\x9b31m")
    with breaking(HEAD + spiked) as (url, _):
        result = run(url, "events")
    assert "\\u001b" in result.stdout
    assert not set(result.stdout) & {"\x1b", "\x07", "\x9b"}


def test_the_document_needs_no_service() -> None:
    result = run("http://127.0.0.1:1", "asyncapi")
    assert json.loads(result.stdout)["asyncapi"] == "3.0.0"
