"""Who is let in by the web layer, on a real socket: tokens, roles, sites, limits, secrets."""

import asyncio
import logging
from typing import Any

import pytest

from projections.state import ReplicaSet
from service.web.app import ROUTES
from service.web.routes import Route
from tests.kit.builders import revision, spec
from tests.kit.web_site import RUN, Answer, Site

PAGE = "https://gpus.example.org"
DOCUMENTS = ("/docs", "/api/v1/openapi.json", "/api/v1/asyncapi.json", "/api/v1/nothing")


def path_of(route: Route) -> str:
    path = route.path.replace("{name}", "foo").replace("{id}", "op-1").replace("{uuid}", "GPU-1")
    path = path.replace("{month}", "2026-11")
    return f"{path}?follow=0" if route.streams else path


class TestTokens:
    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
    async def test_every_route_asks_for_its_role_and_no_more(self, route: Route) -> None:
        async with Site() as site:
            headers = {role: site.grant(role) for role in ("viewer", "operator", "admin")}
            statuses = {"none": (await site.send(route.method, path_of(route), json={})).status}
            for role, sent in headers.items():
                answer = await site.send(route.method, path_of(route), json={}, headers=sent)
                statuses[role] = answer.status
        refused = {role: status for role, status in statuses.items() if status in (401, 403)}
        expected = {
            None: {},
            "viewer": {"none": 401},
            "operator": {"none": 401, "viewer": 403},
            "admin": {"none": 401, "viewer": 403, "operator": 403},
        }
        assert refused == expected[route.needs]

    def test_only_what_tells_nothing_is_open(self) -> None:
        assert {route.path for route in ROUTES if route.needs is None} == {"/ping", "/healthz"}

    def test_what_changes_something_is_for_operators(self) -> None:
        wrong = [r.path for r in ROUTES if r.method != "GET" and r.needs in (None, "viewer")]
        assert wrong == []

    @pytest.mark.parametrize("path", DOCUMENTS)
    async def test_documents_and_what_is_no_route_need_a_viewer(self, path: str) -> None:
        async with Site() as site:
            viewer = site.grant("viewer")
            assert (await site.get(path)).status == 401
            assert (await site.send("GET", path, headers=viewer)).status != 401
            assert (await site.send("OPTIONS", path)).status == 401

    async def test_head_is_get(self) -> None:
        async with Site() as site:
            viewer = site.grant("viewer")
            path = "/api/v1/node"
            assert (await site.send("HEAD", path)).status == 401
            assert (await site.send("HEAD", path, headers=viewer)).status == 200

    @pytest.mark.parametrize(
        "header",
        [
            *("token-0", "Basic token-0", "Bearer", "Bearer  ", "Bearer token-1"),
            *("Bearer token-0 token-0", "Bearer tökén", f"Bearer {'x' * 5000}"),
        ],
    )
    async def test_what_is_no_valid_token_is_told_what_to_do(
        self, header: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Site() as site:
            site.grant("admin")
            with caplog.at_level(logging.DEBUG):
                answer = await site.run(headers={"Authorization": header})
        assert (answer.status, answer.code) == (401, 1111)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gpuledger"'
        assert "gpuledger token create" in answer.json["msg"]
        assert site.intake.submitted == []
        assert "no valid token" in caplog.text
        assert not any(word in caplog.text for word in header.split()[1:])

    async def test_a_scheme_is_known_in_any_case(self) -> None:
        async with Site() as site:
            site.grant("viewer")
            sent = {"Authorization": "bearer token-0"}
            assert (await site.send("GET", "/api/v1/node", headers=sent)).status == 200

    async def test_a_role_that_is_too_small_is_told_which_is_needed(self) -> None:
        async with Site() as site:
            answer = await site.run(headers=site.grant("viewer", "screen"))
        assert (answer.status, answer.code) == (403, 1112)
        assert "screen is viewer" in answer.json["msg"]
        assert "--role operator" in answer.json["msg"]
        assert site.intake.submitted == []

    async def test_the_record_names_who_sent_it(self) -> None:
        async with Site() as site:
            await site.run(headers=site.grant("operator", "ci", "vision"))
            caller = site.intake.submitted[0].caller
        assert (caller.actor, caller.tenant) == ("ci", "vision")

    async def test_from_the_first_token_on_one_is_needed(self) -> None:
        async with Site() as site:
            assert (await site.run()).status == 200
            assert site.intake.submitted[0].caller.actor == "anonymous"
            headers = site.grant("operator")
            assert (await site.run()).status == 401
            assert (await site.run(headers=headers)).status == 200

    async def test_where_it_may_not_be_open_nobody_is_let_in_without_tokens(self) -> None:
        async with Site(may_be_open=False, local=False) as site:
            assert (await site.get("/api/v1/node")).status == 401
            assert (await site.get("/ping")).status == 200
            headers = site.grant("viewer")
            assert (await site.send("GET", "/api/v1/node", headers=headers)).status == 200


class TestSites:
    """What the browser of someone on this host may be made to send by a page."""

    @pytest.mark.parametrize(
        "host",
        [
            *("localhost", "localhost:2378", "127.0.0.1", "127.9.9.9:1", "[::1]:2378"),
            *("LOCALHOST:80", "gpu.localhost:2378"),
        ],
    )
    async def test_names_of_this_host_are_answered(self, host: str) -> None:
        async with Site() as site:
            assert (await site.send("GET", "/api/v1/node", headers={"Host": host})).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", "evil.example:2378", "localhost.evil.example", "10.0.0.1:2378"),
            *("127.0.0.1.evil.example", "[2001:db8::1]", "a@localhost:1", "localhost/x"),
            *("notlocalhost", "localhost evil", "[", "0.0.0.0"),
        ],
    )
    async def test_another_name_is_refused_while_no_token_is_asked_for(self, host: str) -> None:
        async with Site() as site:
            answer = await site.run(headers={"Host": host})
            assert (answer.status, answer.code) == (403, 1114)
            assert "localhost" in answer.json["msg"]
            assert site.intake.submitted == []
            headers = {**site.grant("operator"), "Host": host}
            assert (await site.run(headers=headers)).status == 200, "a page has no token"

    async def test_beyond_loopback_any_name_can_be_the_right_one(self) -> None:
        async with Site(local=False) as site:
            assert (await site.run(headers={"Host": "gpu-1.example"})).status == 200

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["]
    )
    async def test_a_page_of_another_site_is_refused(self, origin: str) -> None:
        """Without asking first a browser sends a POST of text, and that is all that a run is."""
        for local in (True, False):
            async with Site(local=local) as site:
                answer = await site.run(headers={"Origin": origin, "Content-Type": "text/plain"})
                assert (answer.status, answer.code) == (403, 1114)
                assert "--cors-origin" in answer.json["msg"]
                assert site.intake.submitted == []

    async def test_a_page_of_ours_is_let_in(self) -> None:
        async with Site(origins=[PAGE]) as site:
            assert (await site.run(headers={"Origin": PAGE})).status == 200
            own = f"http://127.0.0.1:{site.port}"
            assert (await site.run(headers={"Origin": own})).status == 200


class TestCors:
    async def test_a_listed_page_may_ask_and_read(self) -> None:
        async with Site(origins=[PAGE]) as site:
            headers = site.grant("viewer")
            asked = await self.preflight(site, PAGE)
            assert asked.status == 204
            assert asked.headers["Access-Control-Allow-Origin"] == PAGE
            assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
            assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
            for sent, status in (({**headers, "Origin": PAGE}, 200), ({"Origin": PAGE}, 401)):
                answer = await site.send("GET", "/api/v1/node", headers=sent)
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == PAGE
                assert answer.headers["Vary"] == "Origin"
                assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil", "null"])
    async def test_another_may_not(self, origin: str) -> None:
        async with Site(origins=[PAGE]) as site:
            headers = site.grant("viewer")
            asked = await self.preflight(site, origin)
            assert asked.status == 401
            answer = await site.send("GET", "/api/v1/node", headers={**headers, "Origin": origin})
            for one in (asked, answer):
                assert "Access-Control-Allow-Origin" not in one.headers
                assert one.headers["Vary"] == "Origin"

    async def test_without_a_list_there_is_nothing_of_it(self) -> None:
        async with Site() as site:
            headers = site.grant("viewer")
            answer = await site.send("GET", "/api/v1/node", headers={**headers, "Origin": PAGE})
            assert answer.status == 200
            assert not {"Access-Control-Allow-Origin", "Vary"} & set(answer.headers)

    async def preflight(self, site: Site, origin: str) -> Answer:
        headers = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        return await site.send("OPTIONS", "/api/v1/replicaSet/foo", headers=headers)


class TestPrivileges:
    @pytest.mark.parametrize(
        "field",
        ["privileged", "capAdd", "devices", "pidMode", "networkMode", "securityOpt", "user"],
    )
    async def test_there_is_no_way_to_ask_for_any(self, field: str) -> None:
        async with Site() as site:
            for method, path, body in (
                ("POST", "/api/v1/replicaSet", RUN),
                ("PATCH", "/api/v1/replicaSet/foo", {}),
            ):
                answer = await site.send(method, path, json={**body, field: True})
                assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, field)
            assert site.intake.submitted == []


class TestLimits:
    async def test_too_many_requests_in_a_second(self) -> None:
        async with Site(rate_limit=2) as site:
            statuses = [(await site.get("/api/v1/node")).status for _ in range(4)]
            assert statuses == [200] * 4, "twice as many at once"
            answer = await site.get("/api/v1/node")
            assert (answer.status, answer.code) == (429, 1113)
            assert answer.headers["Retry-After"] == "1"
            assert answer.data == {"reason": "too_many_requests"}
            site.now_s += 0.5
            assert (await site.get("/api/v1/node")).status == 200
            assert (await site.get("/api/v1/node")).status == 429
            assert (await site.get("/healthz")).status == 200

    async def test_every_token_has_its_own_limit_and_so_has_an_address(self) -> None:
        async with Site(rate_limit=1) as site:
            first, second = site.grant("viewer", "first"), site.grant("viewer", "second")
            for headers in (first, second, {}):
                statuses = [
                    (await site.send("GET", "/api/v1/node", headers=headers)).status
                    for _ in range(3)
                ]
                assert statuses[:2] == [200, 200] if headers else [401, 401]
                assert statuses[2] == 429

    async def test_too_many_that_wait(self) -> None:
        async with Site(waiting_limit=1) as site:
            one, other = site.grant("operator", "one"), site.grant("operator", "other")
            site.intake.held = True
            waiting = asyncio.create_task(site.run(headers=one))
            await site.intake.waiting.wait()
            answer = await site.run(headers=one)
            assert (answer.status, answer.code) == (429, 1113)
            assert "waiting" in answer.json["msg"]
            assert int(answer.headers["Retry-After"]) > 0
            assert (await site.send("GET", "/api/v1/node", headers=other)).status == 200
            site.intake.finish("op-1")
            assert (await waiting).status == 200
            assert len(site.intake.submitted) == 1
            assert (await site.send("GET", "/api/v1/node", headers=one)).status == 200

    async def test_who_went_away_does_not_count(self) -> None:
        async with Site(waiting_limit=1) as site:
            site.intake.held = True
            waiting = asyncio.create_task(site.run())
            await site.intake.waiting.wait()
            waiting.cancel()
            await asyncio.wait_for(site.intake.abandoned.wait(), 5)
            assert (await site.get("/api/v1/node")).status == 200


ENV = ("LANG=C", "DB_PASSWORD=hunter2=", "api_key=hunter2", "MyTokens=", "HOME=/x")
HIDDEN = ["LANG=C", "DB_PASSWORD=***", "api_key=***", "MyTokens=***", "HOME=/x"]


class TestSecrets:
    PATHS = ("", "/history", "/diff?from=1&files=0")

    async def test_a_patch_that_takes_one_away_shows_as_it_was(self) -> None:
        async with Site() as site:
            headers = site.grant("operator")
            body = {"env": ["DB_PASSWORD", "API_KEY=x"]}
            await site.send("PATCH", "/api/v1/replicaSet/foo", json=body, headers=headers)
            shown = await site.send("GET", "/api/v1/operations/op-1", headers=headers)
        assert shown.data["request"] == {"env": ["DB_PASSWORD", "API_KEY=***"]}

    async def test_what_is_marked_is_hidden_wherever_it_is_sent_again(self) -> None:
        async with Site() as site:
            headers = site.grant("operator")
            marked = spec(env=("LICENSE=hunter1", "LANG=C"), secret_env=("LICENSE",))
            site.reads.sets["foo"] = ReplicaSet("foo", current=1, newest=1)
            site.reads.versions["foo"] = [
                revision(0, spec=spec(env=())),
                revision(1, spec=marked, supersedes=0),
            ]
            body = {"env": ["LICENSE=hunter2", "LANG=C"], "secretEnv": ["SEED=hunter3"]}
            await site.send("PATCH", "/api/v1/replicaSet/foo", json=body, headers=headers)
            paths = ("operations/op-1", "replicaSet/foo", "replicaSet/foo/history")
            answers = [await site.send("GET", f"/api/v1/{p}", headers=headers) for p in paths]
        assert "hunter" not in str([answer.data for answer in answers])
        expected = {"env": ["LICENSE=***", "LANG=C"], "secretEnv": ["SEED=***"]}
        assert answers[0].data["request"] == expected

    async def shown(self, role: str | None) -> dict[str, Any]:
        """All that can be read of a container with secrets, as one with this role sees it."""
        async with Site() as site:
            old = revision(1, spec=spec(env=("API_KEY=old-hunter",)))
            new = revision(2, spec=spec(env=ENV), supersedes=1)
            site.reads.sets["foo"] = ReplicaSet("foo", current=2, newest=2)
            site.reads.versions["foo"] = [old, new]
            assert (await site.run(json={**RUN, "env": list(ENV)})).status == 200
            headers = {} if role is None else site.grant(role)  # type: ignore[arg-type]
            answers = {
                path: await site.send("GET", f"/api/v1/replicaSet/foo{path}", headers=headers)
                for path in self.PATHS
            }
            path = "/api/v1/operations/op-1"
            answers["operation"] = await site.send("GET", path, headers=headers)
            assert {answer.status for answer in answers.values()} == {200}
            return {path: answer.data for path, answer in answers.items()}

    @pytest.mark.parametrize("role", ["viewer", "operator"])
    async def test_they_are_hidden(self, role: str) -> None:
        shown = await self.shown(role)
        assert "hunter" not in str(shown)
        assert shown["operation"]["request"]["env"] == HIDDEN
        assert shown[""]["info"]["config"]["Env"][: len(HIDDEN)] == HIDDEN
        changes = {one["field"]: (one["old"], one["new"]) for one in shown[self.PATHS[2]]["spec"]}
        assert changes["env.API_KEY"] == ("***", "")
        assert changes["env.DB_PASSWORD"] == ("", "***")
        assert changes["env.LANG"] == ("", "C")

    @pytest.mark.parametrize("role", ["admin", None])
    async def test_an_admin_sees_them(self, role: str | None) -> None:
        shown = await self.shown(role)
        assert shown["operation"]["request"]["env"] == list(ENV)
        for path in ("", "/history", "/diff?from=1&files=0"):
            assert "hunter2" in str(shown[path])
