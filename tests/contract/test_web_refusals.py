"""What is refused is noted: who asked what, from where, and what was answered. On a real socket."""

import asyncio
import hashlib
import io
import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from yarl import URL

from service.adapters.system import SystemClock
from service.application.intake import Accepted, Caller
from service.application.refusals import LISTED_MAX, UNKNOWN_MAX, WAITING_MAX
from service.audit_ports import Noted, Refusal, RefusalsLost
from service.domain.commands import Request
from service.domain.rejections import Reason, Rejected
from service.errors import EngineUnavailable, LedgerUnavailable, ServiceBusy
from tests.kit.scripted_intake import ScriptedIntake
from tests.kit.web_site import RUN, Site

RUN_PATH = "/api/v1/replicaSet"
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


class SlowIntake(ScriptedIntake):
    """Decides only when it is told to."""

    def __init__(self, scripted: ScriptedIntake) -> None:
        self._scripted = scripted
        self.reached = asyncio.Event()
        self.decides = asyncio.Event()

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        self.reached.set()
        await self.decides.wait()
        return await self._scripted.submit(command, request, caller)


async def noted(site: Site) -> list[Noted]:
    await site.audit.refusals.keep()
    return site.audit.kept.noted


async def only(site: Site) -> Refusal:
    (one,) = await noted(site)
    assert isinstance(one, Refusal)
    return one


class TestWhatIsNoted:
    @pytest.mark.parametrize(
        ("answer", "code", "status", "reason"),
        [
            (Rejected(Reason.GPUS_EXHAUSTED, "3 GPUs asked for"), 1013, 409, "gpus_exhausted"),
            (EngineUnavailable("no Docker"), 1104, 503, "engine_unavailable"),
            (LedgerUnavailable("no ledger"), 1105, 503, "ledger_unavailable"),
            (ServiceBusy("too much"), 500, 503, "service_busy"),
            (ZeroDivisionError("a fault"), 500, 500, "internal_error"),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_a_command_that_is_refused(
        self, answer: Any, code: int, status: int, reason: str
    ) -> None:
        async with Site() as site:
            headers = {**site.grant("operator", "ci", "vision"), "X-Request-Id": "req-9"}
            site.intake.answers.append(answer)
            answered = await site.run(headers=headers)
            one = await only(site)
        assert answered.headers["X-Refusal-Id"] == one.id
        assert (one.code, one.status, one.reason) == (code, status, reason)
        assert one.message == answered.json["msg"]
        assert (one.kind, one.name, one.verb) == ("replica_set", "foo", "run")
        assert (one.actor, one.tenant, one.remote) == ("ci", "vision", "127.0.0.1")
        assert (one.method, one.route, one.request_id) == ("POST", RUN_PATH, "req-9")
        assert (one.at_us, one.seq, one.times) == (site.now_us, 7, 1)
        assert one.operation_id == site.intake.submitted[0].caller.command_id != ""

    async def test_the_operation_of_a_key_is_named_by_the_key(self) -> None:
        async with Site() as site:
            site.intake.answers.append(LedgerUnavailable("it may be stored"))
            await site.run(headers={"Idempotency-Key": "once"})
            digest = hashlib.sha256(b"\0once").hexdigest()
            assert (await only(site)).operation_id == f"key-{digest[:32]}"

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "name"),
        [
            ("POST", RUN_PATH, b"{", 400, ""),
            ("PATCH", f"{RUN_PATH}/a-b", b"{}", 400, "a-b"),
            ("DELETE", "/api/v1/nothing", b"", 404, ""),
            ("PUT", RUN_PATH, b"", 405, ""),
            ("POST", RUN_PATH, b" " * ((1 << 20) + 1), 413, ""),
        ],
    )
    async def test_what_makes_no_sense(
        self, method: str, path: str, body: bytes, status: int, name: str
    ) -> None:
        async with Site() as site:
            answered = await site.send(method, path, data=io.BytesIO(body))
            one = await only(site)
        assert (answered.status, one.status, one.name) == (status, status, name)
        assert answered.headers["X-Refusal-Id"] == one.id

    async def test_a_body_is_never_quoted(self) -> None:
        """What the caller is told of it may be a password."""
        async with Site() as site:
            answered = await site.run(json={**RUN, "env": ["hunter2"]})
            assert "hunter2" in answered.json["msg"]
            one = await only(site)
        assert "hunter2" not in str(one)
        assert one.message.startswith("env[0]: ")

    @pytest.mark.parametrize("path", ["%1B%5B2J", "%ff%fe", "%E2%80%AE", "a" * 5000])
    async def test_what_a_path_holds_is_text_that_does_nothing(self, path: str) -> None:
        async with Site() as site:
            url = URL(f"http://127.0.0.1:{site.port}/api/v1/volumes/{path}", encoded=True)
            async with site.client.delete(url) as answered:
                assert answered.status == 400
            await site.send("POST", f"/api/v1/nothing/{path[:50]}")
            found = await noted(site)
        assert len(found) == 2
        for one in found:
            assert isinstance(one, Refusal)
            assert one.name.isprintable()
            assert one.message.isprintable()
            assert len(msgspec.json.encode(one)) < 1500

    async def test_who_is_not_let_in_also_to_look(self) -> None:
        async with Site() as site:
            viewer = site.grant("viewer", "screen")
            await site.get("/api/v1/node")
            await site.run(headers=viewer)
            await site.send("GET", "/api/v1/audit", headers=viewer)
            found = [one for one in await noted(site) if isinstance(one, Refusal)]
        assert [(one.code, one.status, one.actor) for one in found] == [
            (1111, 401, ""),
            (1112, 403, "screen"),
            (1112, 403, "screen"),
        ]

    async def test_a_page_of_another_site(self) -> None:
        async with Site() as site:
            await site.run(headers={"Origin": "https://evil.example"})
            assert (await only(site)).code == 1114

    async def test_too_many_requests(self) -> None:
        async with Site(rate_limit=1) as site:
            headers = site.grant("operator", "ci")
            for _ in range(5):
                await site.run(headers=headers)
            found = [one for one in await noted(site) if isinstance(one, Refusal)]
        assert [(one.code, one.actor, one.times) for one in found] == [
            (1113, "ci", 1),
            (1113, "ci", 2),
        ]

    @pytest.mark.parametrize("text", [f"gpuledger_{'a' * 43}", "hunter2", "gpuledger_short"])
    async def test_a_token_is_never_kept(self, text: str) -> None:
        """A hint of one of ours finds it in tokens.json; of a password it would be a help."""
        async with Site() as site:
            site.grant("admin")
            await site.run(headers={"Authorization": f"Bearer {text}"})
            one = await only(site)
        assert text not in str(one)
        hint = hashlib.sha256(text.encode()).hexdigest()[:8]
        assert one.token == (hint if len(text) == 53 else "")

    async def test_reads_and_operations_that_failed_are_not(self) -> None:
        async with Site() as site:
            site.intake.failure = ("bad_command", "no")
            failed = await site.run()
            missing = await site.get(f"{RUN_PATH}/nix")
            assert (failed.status, missing.status) == (422, 404)
            assert "X-Refusal-Id" not in {**failed.headers, **missing.headers}
            assert await noted(site) == []

    async def test_a_caller_that_does_not_wait_for_the_answer(self) -> None:
        site = Site()
        slow = SlowIntake(site.intake)
        site.context = replace(site.context, intake=slow)
        site.intake.answers.append(Rejected(Reason.GPUS_EXHAUSTED, "none"))
        async with site:
            asking = asyncio.create_task(site.run())
            await slow.reached.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(60):
                while site.connections:
                    await SystemClock().sleep(0)
                slow.decides.set()
                while not await noted(site):
                    await SystemClock().sleep(0)
            assert (await only(site)).code == 1013


class TestAsStored:
    async def test_page_by_page(self) -> None:
        async with Site() as site:
            await site.audit.chain.keep([refusal(str(number)) for number in range(12)])
            first = await site.get("/api/v1/audit/refusals?after=3&until=9")
            rest = await site.get("/api/v1/audit/refusals?after=9")
            end = await site.get("/api/v1/audit/refusals?after=12")
        assert [one["seq"] for one in first.data["refusals"]] == [4, 5, 6, 7, 8, 9]
        assert (first.data["next"], end.data) == (None, {"refusals": [], "next": None})
        assert [one["seq"] for one in rest.data["refusals"]] == [10, 11, 12]
        stored = site.audit.kept.entries[9]
        assert rest.data["refusals"][0] == {
            "seq": 10,
            "subject": "refusals.unknown",
            "id": stored.message_id,
            "body": stored.body.decode(),
        }

    @pytest.mark.parametrize("query", ["firstRefusal=1", "lastRefusal=1", "firstRefusal=x"])
    async def test_one_end_of_a_part_is_none(self, query: str) -> None:
        async with Site() as site:
            answered = await site.get(f"/api/v1/audit/checkpoint?{query}")
        assert (answered.status, answered.code) == (400, 1000)


class TestTrouble:
    async def test_an_audit_without_its_refusals_is_not_given(self) -> None:
        async with Site() as site:
            site.audit.kept.away = "no server"
            answered = await site.get("/api/v1/audit")
        assert (answered.status, answered.code) == (503, 1105)

    async def test_a_ledger_that_was_changed_is_not_signed(self) -> None:
        async with Site() as site:
            answered = await site.get("/api/v1/audit/checkpoint")
        assert (answered.status, answered.code) == (409, 1130), "record 7 is gone"
        assert answered.data == {"reason": "ledger_changed"}


class TestWhere:
    @pytest.mark.parametrize(
        ("proxies", "header", "remote"),
        [
            ((), "192.0.2.9", "127.0.0.1"),
            (LOOPBACK, "192.0.2.9", "192.0.2.9"),
            (LOOPBACK, "198.51.100.1, 192.0.2.9", "192.0.2.9"),
            (LOOPBACK, "198.51.100.1, 192.0.2.9, 127.0.0.7", "192.0.2.9"),
            (LOOPBACK, "192.0.2.9:4711", "192.0.2.9"),
            (LOOPBACK, "[2001:db8::9]:4711", "2001:db8::9"),
            (LOOPBACK, "::ffff:192.0.2.9", "192.0.2.9"),
            (LOOPBACK, "192.0.2.9, unknown", "127.0.0.1"),
            (LOOPBACK, "", "127.0.0.1"),
            (LOOPBACK, "127.0.0.3, 127.0.0.4", "127.0.0.3"),
            ([ipaddress.ip_network("10.0.0.0/8")], "192.0.2.9", "127.0.0.1"),
        ],
    )
    async def test_only_a_proxy_that_is_trusted_is_believed(
        self, proxies: Any, header: str, remote: str
    ) -> None:
        async with Site(proxies=proxies) as site:
            await site.run(headers={"X-Forwarded-For": header})
            assert site.intake.submitted[0].caller.remote == remote
            site.intake.answers.append(Rejected(Reason.GPUS_EXHAUSTED, "none"))
            await site.run(headers={"X-Forwarded-For": header})
            assert (await only(site)).remote == remote

    async def test_limits_count_who_is_behind_the_proxy(self) -> None:
        async with Site(proxies=LOOPBACK, rate_limit=1) as site:
            statuses = [
                (await site.run(headers={"X-Forwarded-For": address})).status
                for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2")
            ]
        assert statuses == [200, 200, 429, 200]


class TestFloods:
    async def test_ten_thousand_of_one_caller_are_two(self) -> None:
        async with Site() as site:
            site.grant("admin")
            ids = {(await site.run()).headers["X-Refusal-Id"] for _ in range(300)}
            for _ in range(9_700):
                site.audit.refusals.note(refusal("one"))
            found = [one for one in await noted(site) if isinstance(one, Refusal)]
            assert await site.ledger.last_seq() == 0
        assert [one.times for one in found] == [1, 1, 299, 9_699]
        assert ids == {found[0].id, found[2].id}

    async def test_many_that_differ_are_counted(self) -> None:
        async with Site() as site:
            for number in range(10_000):
                site.audit.refusals.note(replace(refusal(str(number)), actor="ci"))
            assert site.audit.refusals.note(refusal("one more")) == ""
            found = await noted(site)
        assert len(found) == LISTED_MAX + 1
        assert found[-1] == RefusalsLost(1, 7, 10_001 - LISTED_MAX)
        text = site.context.metrics.expose()[0].decode()
        assert f"gpuledger_refusals_not_listed_total {10_001.0 - LISTED_MAX}" in text
        assert 'gpuledger_refusals_total{code="1013"} 10001.0' in text

    async def test_who_is_not_known_crowds_out_nobody_who_is(self) -> None:
        async with Site() as site:
            for number in range(10_000):
                site.audit.refusals.note(refusal(str(number)))
            assert site.audit.refusals.note(replace(refusal("known"), actor="ci")) == "known"
            found = await noted(site)
        assert len(found) == UNKNOWN_MAX + 2
        assert found[-2:] == [
            replace(refusal("known"), actor="ci", seq=7),
            RefusalsLost(1, 7, 10_000 - UNKNOWN_MAX),
        ]

    async def test_a_log_that_is_away_holds_nobody_up_and_what_is_too_much_is_counted(
        self,
    ) -> None:
        async with Site() as site:
            site.audit.kept.away = "no answer"
            for second in range(200):
                for number in range(LISTED_MAX):
                    one = replace(refusal(f"{second}-{number}"), actor="ci")
                    site.audit.refusals.note(one)
                assert not await site.audit.refusals.keep()
            assert "no answer" in (site.audit.refusals.trouble or "")
            assert "X-Refusal-Id" not in (await site.send("POST", "/api/v1/nothing")).headers
            site.audit.kept.away = ""
            found = await noted(site)
            assert site.audit.refusals.trouble is None
            await site.audit.refusals.keep()
            found = await noted(site)
        listed = [one for one in found if isinstance(one, Refusal)]
        lost = [one for one in found if isinstance(one, RefusalsLost)]
        assert len(listed) == WAITING_MAX
        assert len(listed) + sum(one.times for one in lost) == 200 * LISTED_MAX + 1


def refusal(remote: str) -> Refusal:
    return Refusal(
        id=remote,
        at_us=1,
        seq=0,
        code=1013,
        status=409,
        reason="gpus_exhausted",
        message="none",
        method="POST",
        route=RUN_PATH,
        remote=remote,
    )
