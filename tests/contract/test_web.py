"""The web layer on a real socket, over an Intake in memory: commands, refusals, waiting."""

import asyncio
import gzip
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from events.values import ContainerSpec
from service.domain.commands import PatchReplicaSet, RunReplicaSet
from service.domain.rejections import Reason, Rejected
from service.errors import EngineUnavailable, LedgerUnavailable, ServiceBusy
from service.ports import ExecOutcome
from service.telemetry import start_tracing
from service.web.app import ROUTES
from service.web.middleware import BODY_BYTES_MAX
from tests.kit.web_site import RUN, Answer, Site

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


class TestCommands:
    @pytest.mark.parametrize(
        ("method", "path", "body", "data"),
        [
            ("POST", "/replicaSet", RUN, {"name": "foo-1"}),
            ("POST", "/replicaSet/foo/commit", {"newImageName": "a:1"}, {"imageName": "saved:1"}),
            ("PATCH", "/replicaSet/foo", {}, {"containerName": "foo-2"}),
            ("PATCH", "/replicaSet/foo/rollback", {"version": 1}, {"containerName": "foo-3"}),
            (
                "POST",
                "/replicaSet/foo/debug",
                {"version": 3, "as": "bug"},
                {"name": "bug-1", "debugOf": "foo@3"},
            ),
            ("PATCH", "/replicaSet/foo/pin", {"version": 1}, None),
            ("PATCH", "/replicaSet/foo/unpin", {"version": 1}, None),
            ("PATCH", "/replicaSet/foo/stop", None, None),
            ("PATCH", "/replicaSet/foo/restart", None, {"containerName": "foo-4"}),
            ("PATCH", "/replicaSet/foo/pause", None, None),
            ("PATCH", "/replicaSet/foo/continue", None, None),
            ("DELETE", "/replicaSet/foo", None, None),
            ("DELETE", "/replicaSet/foo", {"force": True}, None),
            (
                "POST",
                "/volumes",
                {"name": "bar", "size": "20GB"},
                {"name": "bar-1", "size": "20GB"},
            ),
            ("PATCH", "/volumes/bar/size", {"size": "30GB"}, {"name": "bar-2", "size": "30GB"}),
            ("DELETE", "/volumes/bar", None, None),
        ],
    )
    async def test_every_command_waits_and_answers_as_the_contract_says(
        self, site: Site, method: str, path: str, body: Any, data: Any
    ) -> None:
        answer = await site.send(method, f"/api/v1{path}", json=body)
        assert (answer.status, answer.json) == (200, {"code": 200, "msg": "success", "data": data})
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert len(site.intake.submitted) == 1

    async def test_the_command_and_the_body_reach_the_intake(self, site: Site) -> None:
        await site.run(json={**RUN, "gpuCount": 2})
        submitted = site.intake.submitted[0]
        assert submitted.command == RunReplicaSet("foo", ContainerSpec("ubuntu:24.04", 2))
        assert submitted.request == {**RUN, "gpuCount": 2}
        assert submitted.caller.actor == "anonymous"

    async def test_patch_reaches_the_intake_as_a_patch(self, site: Site) -> None:
        await site.send("PATCH", "/api/v1/replicaSet/foo", json={"gpuPatch": {"gpuCount": 0}})
        assert site.intake.submitted[0].command == PatchReplicaSet("foo", gpu_count=0)

    async def test_what_could_not_come_along_is_named(self, site: Site) -> None:
        result = {"containerName": "foo-2", "notCarried": ["sockets"]}
        site.intake.results["patch"] = result
        answer = await site.send("PATCH", "/api/v1/replicaSet/foo", json={})
        assert answer.data == result

    async def test_a_content_type_is_not_asked_for(self, site: Site) -> None:
        answer = await site.run(json=None, data=json.dumps(RUN).encode())
        assert answer.status == 200

    async def test_execute_gives_what_was_written(self, site: Site) -> None:
        site.intake.next_output = ExecOutcome(3, b"hi\xff", b"oh", 3, 2)
        answer = await self._execute(site)
        data = {"stdout": "hi�", "stderr": "oh", "exitCode": 3, "truncated": False}
        assert (answer.status, answer.code, answer.data) == (200, 200, data)

    async def test_execute_says_what_was_cut_off(self, site: Site) -> None:
        site.intake.next_output = ExecOutcome(0, b"x" * 10, b"", 99, 0)
        answer = await self._execute(site)
        assert answer.data["truncated"] is True
        assert "stdout was cut off after 10 of 99 bytes" in answer.json["msg"]

    async def test_execute_without_the_output_has_the_exit_code(self, site: Site) -> None:
        answer = await self._execute(site)
        assert answer.data == {"stdout": "", "stderr": "", "exitCode": 3, "truncated": False}
        assert "no longer kept" in answer.json["msg"]

    async def _execute(self, site: Site) -> Answer:
        return await site.send("POST", "/api/v1/replicaSet/foo/execute", json={"cmd": ["x"]})

    async def test_a_failed_operation_answers_in_docker_s_words(self, site: Site) -> None:
        site.intake.failure = ("bad_command", 'exec: "nope": not found')
        answer = await site.run()
        assert (answer.status, answer.code) == (422, 1004)
        assert answer.json["msg"] == 'exec: "nope": not found'
        assert answer.data == {"reason": "bad_command", "operationId": "op-1"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("rejected", "status", "code"),
        [
            (Rejected(Reason.GPUS_EXHAUSTED, "3 GPUs asked for, 2 free"), 409, 1013),
            (Rejected(Reason.REPLICA_SET_EXISTS, "foo exists"), 409, 1008),
            (EngineUnavailable("Docker is away"), 503, 1104),
            (LedgerUnavailable("the log is away"), 503, 1105),
            (ServiceBusy("too many"), 503, 500),
        ],
    )
    async def test_code_status_and_message(
        self, site: Site, rejected: Rejected | Exception, status: int, code: int
    ) -> None:
        site.intake.answers.append(rejected)
        answer = await site.run()
        assert (answer.status, answer.code) == (status, code)
        assert answer.json["msg"]
        assert answer.data["reason"]
        assert ("Retry-After" in answer.headers) == (status == 503)

    async def test_what_nobody_foresaw_is_500_and_in_the_log(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.intake.answers.append(ZeroDivisionError("a bug"))
        with caplog.at_level(logging.ERROR):
            answer = await site.run(headers={"X-Request-Id": "mine"})
        assert (answer.status, answer.code) == (500, 500)
        assert "a bug" not in answer.json["msg"]
        assert "mine" in answer.json["msg"]
        assert "ZeroDivisionError: a bug" in caplog.text

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("/replicaSet/foo-2", 1003),
            ("/replicaSet/foo.bar", 1000),
            ("/replicaSet/foo%2Fbar", 1000),
            ("/replicaSet/%ff", 1000),
            ("/replicaSet/*", 1000),
            (f"/replicaSet/{'x' * 1000}", 1000),
            ("/volumes/b-ar", 1031),
            ("/volumes/%2Fbar", 1032),
        ],
    )
    async def test_a_bad_name_in_the_path(self, site: Site, path: str, code: int) -> None:
        for method in ("GET", "DELETE"):
            answer = await site.send(method, f"/api/v1{path}")
            assert (answer.status, answer.code) == (400, code)
            assert answer.data["field"] == "name"
        assert site.intake.submitted == []


class TestAsync:
    async def test_respond_async_answers_202_at_once(self, site: Site) -> None:
        site.intake.held = True
        answer = await site.run(headers=ASYNC)
        assert (answer.status, answer.code) == (202, 200)
        assert answer.data == {"operationId": "op-1", "seq": 1}
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert answer.headers["Location"] == "/api/v1/operations/op-1"
        followed = await site.get(answer.headers["Location"])
        assert (followed.data["state"], followed.data["request"]) == ("running", RUN)

    async def test_wait_is_a_limit_to_the_waiting(self, site: Site) -> None:
        site.intake.held = True
        answer = await site.run(headers={"Prefer": "respond-async, wait=0"})
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async, wait=0"

    async def test_an_operation_that_takes_longer_than_the_setting_goes_on(
        self, site: Site
    ) -> None:
        site.intake.held = True
        answer = await site.run(headers={"Prefer": "wait=0"})
        assert answer.status == 202
        assert "goes on" in answer.json["msg"]

    async def test_a_caller_that_goes_away_ends_only_its_waiting(self, site: Site) -> None:
        site.intake.held = True
        request = asyncio.create_task(site.run())
        await site.intake.waiting.wait()
        request.cancel()
        await asyncio.wait_for(site.intake.abandoned.wait(), 5)
        site.intake.finish("op-1")
        answer = await site.get("/api/v1/operations/op-1")
        assert answer.data["state"] == "succeeded"

    async def test_the_idempotency_key_reaches_the_intake(self, site: Site) -> None:
        headers = {"Idempotency-Key": "key-1"}
        first = await site.run(headers=headers)
        again = await site.run(headers=headers)
        assert first.json == again.json
        assert [s.caller.idempotency_key for s in site.intake.submitted] == ["key-1"] * 2
        other = await site.send("PATCH", "/api/v1/replicaSet/foo", json={}, headers=headers)
        assert (other.status, other.code) == (422, 1101)

    @pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schlüssel"])
    async def test_a_bad_idempotency_key_is_refused(self, site: Site, key: str) -> None:
        answer = await site.run(headers={"Idempotency-Key": key})
        assert (answer.status, answer.code) == (400, 1000)
        assert answer.data["field"] == "Idempotency-Key"
        assert site.intake.submitted == []


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b'{"imageName": "\xff"}',
            b'{"imageName":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            b'{"a":' * 10_000,
        ],
    )
    async def test_a_body_that_is_no_such_json(self, site: Site, body: bytes) -> None:
        answer = await site.run(json=None, data=body)
        assert (answer.status, answer.code) == (400, 1000)
        assert answer.data["field"]
        assert site.intake.submitted == []

    async def test_a_body_over_the_limit(self, site: Site) -> None:
        answer = await site.run(json=None, data=io.BytesIO(b" " * (BODY_BYTES_MAX + 1)))
        assert (answer.status, answer.code) == (413, 1000)
        assert str(BODY_BYTES_MAX) in answer.json["msg"]

    async def test_a_small_body_that_unpacks_to_a_large_one(self, site: Site) -> None:
        body = gzip.compress(b" " * (8 * BODY_BYTES_MAX))
        answer = await site.run(json=None, data=body, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.code) == (413, 1000)

    async def test_a_body_that_does_not_unpack(self, site: Site) -> None:
        headers = {"Content-Encoding": "gzip"}
        answer = await site.run(json=None, data=b"this is not gzip", headers=headers)
        assert (answer.status, answer.code) == (400, 1000)

    async def test_a_caller_that_goes_away_in_mid_body_hurts_nobody(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST /api/v1/replicaSet HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()
        assert await reader.read() == b""
        assert (await site.get("/ping")).status == 200
        assert caplog.records == []


class TestRouting:
    async def test_an_unknown_route_answers_in_the_envelope(self, site: Site) -> None:
        answer = await site.get("/api/v1/nothing")
        assert (answer.status, answer.code) == (404, 1107)
        assert answer.data == {"reason": "route_not_found"}

    async def test_a_wrong_method_says_which_are_right(self, site: Site) -> None:
        answer = await site.send("PUT", "/api/v1/replicaSet/foo")
        assert (answer.status, answer.code) == (405, 1107)
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, PATCH"
        assert answer.data == {"reason": "method_not_allowed"}

    async def test_options_is_no_method_of_ours(self, site: Site) -> None:
        answer = await site.send("OPTIONS", "/api/v1/replicaSet")
        assert (answer.status, answer.code) == (405, 1107)

    async def test_head_is_get_without_a_body(self, site: Site) -> None:
        answer = await site.send("HEAD", "/api/v1/node")
        assert (answer.status, answer.body) == (200, b"")

    async def test_every_route_is_served(self, site: Site) -> None:
        for route in ROUTES:
            path = route.path.replace("{name}", "foo").replace("{id}", "op-0")
            path = path.replace("{uuid}", "GPU-0").replace("{month}", "2026-11")
            path = path.replace("{kind}", "replicaSet").replace("{what}", "foo")
            path += "?follow=0" if route.streams else ""
            answer = await site.send(route.method, path, json={})
            assert answer.headers["X-Request-Id"]
            assert answer.status < 500
            if route.enveloped and answer.status != 200:
                assert answer.code != 1107

    async def test_the_documents_are_there(self, site: Site) -> None:
        document = (await site.get("/api/v1/openapi.json")).json
        assert document["openapi"] == "3.1.0"
        page = await site.get("/docs")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"/api/v1/replicaSet/{name}/rollback" in page.body

    async def test_the_request_id_is_the_caller_s_or_a_new_one(self, site: Site) -> None:
        given = await site.send("GET", "/ping", headers={"X-Request-Id": "abc"})
        assert given.headers["X-Request-Id"] == "abc"
        for bad in ("x" * 200, "ü"):
            made = await site.send("GET", "/ping", headers={"X-Request-Id": bad})
            assert made.headers["X-Request-Id"].startswith("id-")


class TestTraces:
    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def test_the_caller_s_trace_context_goes_into_the_record(self, site: Site) -> None:
        await site.run(headers={"traceparent": self.PARENT})
        await site.run(headers={"traceparent": "00-nonsense"})
        assert [s.caller.traceparent for s in site.intake.submitted] == [self.PARENT, ""]

    async def test_with_spans_on_the_record_belongs_to_the_request_s_span(self, site: Site) -> None:
        exporter = InMemorySpanExporter()
        stop = start_tracing(node="n1", exporter=exporter)
        try:
            await site.run(headers={"traceparent": self.PARENT})
        finally:
            await asyncio.to_thread(stop)
        (span,) = exporter.get_finished_spans()
        assert span.name == "POST /api/v1/replicaSet"
        assert span.context is not None
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == self.PARENT.split("-")[2]
        _, trace_id, span_id, _ = site.intake.submitted[0].caller.traceparent.split("-")
        assert (trace_id, span_id) == (
            f"{span.context.trace_id:032x}",
            f"{span.context.span_id:016x}",
        )
