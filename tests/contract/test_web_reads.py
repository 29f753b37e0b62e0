"""The web layer on a real socket, over a read model in memory: everything there is to read."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.values import Bind, ContainerSpec, PortBinding
from projections.state import (
    GpuUnit,
    Operation,
    PortLease,
    ReplicaSet,
    Revision,
    Step,
    Volume,
    VolumeVersion,
)
from service.application.health import Component
from service.domain.commands import DeleteVolume
from service.domain.rejections import Reason, Rejected
from tests.kit.web_site import RUN, Site

GPU = "GPU-00000000-0000-0000-0000-000000000000"
SENT_AT_US = 1_700_000_000_000_000
SENT_AT = "2023-11-14T22:13:20.000000Z"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


def revision(number: int, **changes: Any) -> Revision:
    spec = ContainerSpec(
        "ubuntu:24.04", 1, (Bind("bar-1", "/data"),), ("A=1",), ("sh",), ("22/tcp",)
    )
    fields: dict[str, Any] = {
        "name": "foo",
        "number": number,
        "cause": "run",
        "spec": spec,
        "gpus": (GPU,),
        "ports": (PortBinding("22/tcp", 40000),),
        "gpu_runtime": "nvidia",
        "created_us": SENT_AT_US,
        "container": "running",
    }
    return Revision(**(fields | changes))


class TestReplicaSetReads:
    async def test_info_is_as_docker_spells_it(self, site: Site) -> None:
        site.reads.sets["foo"] = ReplicaSet("foo", current=2)
        site.reads.versions["foo"] = [revision(1), revision(2)]
        info = (await site.get("/api/v1/replicaSet/foo")).data["info"]
        assert (info["version"], info["containerName"]) == (2, "foo-2")
        assert info["createTime"] == SENT_AT
        assert info["platform"] is None
        assert info["config"]["Image"] == "ubuntu:24.04"
        assert "CONTAINER_VERSION=2" in info["config"]["Env"]
        assert "HostConfig" not in info["config"]
        assert info["hostConfig"]["PortBindings"]["22/tcp"][0]["HostPort"] == "40000"
        assert info["hostConfig"]["DeviceRequests"][0]["DeviceIDs"] == [GPU]
        assert info["networkingConfig"] == {}

    async def test_history_is_newest_first_and_outlives_the_replica_set(self, site: Site) -> None:
        site.reads.sets["foo"] = ReplicaSet("foo", phase="deleted", current=0, newest=2)
        site.reads.versions["foo"] = [revision(1), revision(2)]
        history = (await site.get("/api/v1/replicaSet/foo/history")).data["history"]
        assert [line["version"] for line in history] == [2, 1]
        assert history[0]["status"]["containerName"] == "foo-2"
        gone = await site.get("/api/v1/replicaSet/foo")
        assert (gone.status, gone.code) == (404, 1016)

    async def test_an_unknown_name(self, site: Site) -> None:
        info = await site.get("/api/v1/replicaSet/nobody")
        assert (info.status, info.code) == (404, 1016)
        assert info.data == {"reason": "replica_set_not_found"}
        history = await site.get("/api/v1/replicaSet/nobody/history")
        assert (history.status, history.code) == (404, 1017)

    async def test_the_list_comes_in_pages(self, site: Site) -> None:
        for name in ("a", "b", "c"):
            site.reads.sets[name] = ReplicaSet(name, current=1, operation="op-9")
            site.reads.versions[name] = [revision(1, name=name)]
        first = (await site.get("/api/v1/replicaSet?limit=2")).data
        assert [row["name"] for row in first["replicaSets"]] == ["a", "b"]
        assert first["next"] == "b"
        row = first["replicaSets"][0]
        assert (row["containerName"], row["phase"], row["container"]) == (
            *("a-1", "running", "running"),
        )
        assert (row["gpus"], row["operationId"]) == ([GPU], "op-9")
        rest = (await site.get("/api/v1/replicaSet?limit=2&after=b")).data
        assert [row["name"] for row in rest["replicaSets"]] == ["c"]
        assert rest["next"] is None

    async def test_what_ended_by_itself_says_how(self, site: Site) -> None:
        ended = {"container": "exited", "exit_code": 137, "oom_killed": True}
        alone = {**ended, "ended_alone": True, "finished_at": "2026-01-01T00:00:00.5Z"}
        waits = ReplicaSet("b", current=1, retry=2, retry_due_us=SENT_AT_US)
        site.reads.sets = {"a": ReplicaSet("a", "stopped", 1), "b": waits}
        site.reads.versions["a"] = [revision(1, name="a", **ended)]
        site.reads.versions["b"] = [revision(1, name="b", **alone)]
        one, other = (await site.get("/api/v1/replicaSet")).data["replicaSets"]
        info = (await site.get("/api/v1/replicaSet/b")).data["info"]
        history = (await site.get("/api/v1/replicaSet/b/history")).data["history"]
        fields = ("exitCode", "oomKilled", "finishedTime", "retry")
        # What we stopped ourselves says nothing, whatever its exit code was.
        assert [field for field in fields if field in one or field in history[0]["status"]] == []
        for told in (other, info):
            assert [told[field] for field in fields] == [
                *(137, True, "2026-01-01T00:00:00.5Z"),
                {"attempt": 2, "dueTime": SENT_AT},
            ]
        assert not any("gpuAccessLostTime" in told for told in (one, other, info))
        site.reads.versions["b"] = [revision(1, name="b", gpu_access_lost_us=SENT_AT_US)]
        for told in (
            (await site.get("/api/v1/replicaSet")).data["replicaSets"][1],
            (await site.get("/api/v1/replicaSet/b")).data["info"],
        ):
            assert (told["gpuAccessLostTime"], "exitCode" in told) == (SENT_AT, False)
            assert told["retry"]["attempt"] == 2
        site.reads.sets["b"] = ReplicaSet("b", "stopped", 1, retry=2)
        assert "retry" not in (await site.get("/api/v1/replicaSet/b")).data["info"]

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "", "٣", "9" * 30])
    async def test_a_limit_out_of_bounds(self, site: Site, limit: str) -> None:
        for path in ("replicaSet", "operations"):
            answer = await site.get(f"/api/v1/{path}?limit={limit}")
            assert (answer.status, answer.code) == (400, 1000)
            assert answer.data["field"] == "limit"


class TestVolumeReads:
    @pytest.fixture(autouse=True)
    def volume(self, site: Site) -> None:
        versions = (
            VolumeVersion(1, 20 << 30, "create", SENT_AT_US, made=True),
            VolumeVersion(2, 30 << 30, "resize", SENT_AT_US, made=True),
        )
        site.reads.volume_rows["bar"] = Volume("bar", current=2, newest=2, versions=versions)

    @pytest.mark.parametrize("name", ["bar", "bar-2"])
    async def test_info_by_name_and_by_version(self, site: Site, name: str) -> None:
        answer = await site.get(f"/api/v1/volumes/{name}")
        assert answer.data["info"] == {
            "version": 2,
            "createTime": SENT_AT,
            "opt": {"Driver": "local", "DriverOpts": {"size": "30GB"}, "Name": "bar-2"},
        }

    @pytest.mark.parametrize("name", ["bar-1", "bar-3", "baz", "baz-1"])
    @pytest.mark.parametrize(
        ("method", "rest", "code"),
        [("GET", "", 1033), ("GET", "/history", 1034), ("PATCH", "/size", 1035)],
    )
    async def test_another_version_or_name_is_not_found(
        self, site: Site, name: str, method: str, rest: str, code: int
    ) -> None:
        site.intake.answers.append(Rejected(Reason.VOLUME_NOT_FOUND, "there is no such volume"))
        path = f"/api/v1/volumes/{name}{rest}"
        answer = await site.send(method, path, json={"size": "1GB"})
        assert (answer.status, answer.code) == (404, code)
        assert answer.data["reason"] == "volume_not_found"

    async def test_history_list_and_delete(self, site: Site) -> None:
        history = (await site.get("/api/v1/volumes/bar/history")).data["history"]
        assert [line["version"] for line in history] == [2, 1]
        assert history[1]["status"]["opt"]["DriverOpts"] == {"size": "20GB"}
        rows = (await site.get("/api/v1/volumes")).data["volumes"]
        assert [(row["volumeName"], row["sizeBytes"]) for row in rows] == [("bar-2", 30 << 30)]
        assert (await site.send("DELETE", "/api/v1/volumes/bar-2")).status == 200
        assert site.intake.submitted[0].command == DeleteVolume("bar")


class TestOtherReads:
    async def test_gpus_keep_the_contract_s_map(self, site: Site) -> None:
        site.reads.gpu_rows = [
            GpuUnit("GPU-a", 0, "H100", 80 << 30, "0:1", None, True, "foo", (1, 2)),
            GpuUnit("GPU-b", 1, "H100", 80 << 30, "0:2", None, True),
            GpuUnit("GPU-c", 2, "H100", 80 << 30, "0:3", None, False),
        ]
        data = (await site.get("/api/v1/resources/gpus")).data
        assert data["gpus"] == {"GPU-a": 1, "GPU-b": 0}
        assert [gpu["holder"] for gpu in data["details"]] == ["foo-2", None, None]
        assert all(gpu["simulated"] for gpu in data["details"])
        node = (await site.get("/api/v1/node")).data
        assert (node["node"], node["owner"], node["gpuRuntime"]) == ("n1", "owner-1", "simulated")
        assert node["versions"] == {"docker": "26.1.5"}
        assert node["gpus"] == data["details"]

    async def test_ports_count_only_the_range(self, site: Site) -> None:
        site.reads.port_rows = [
            PortLease(40001, "foo", (1,), "22/tcp"),
            PortLease(50000, "foo", (1,), "80/tcp"),
        ]
        ports = (await site.get("/api/v1/resources/ports")).data["ports"]
        assert (ports["StartPort"], ports["EndPort"]) == (40000, 40009)
        assert ports["AvailableCount"] == 9
        assert ports["UsedPortSet"] == {"40001": {}, "50000": {}}
        assert ports["details"][0]["holder"] == "foo-1"

    async def test_operations_come_in_pages_and_in_full(self, site: Site) -> None:
        for seq in (1, 2, 3):
            site.reads.operation_rows[f"op-{seq}"] = Operation(
                *(f"op-{seq}", seq, "run", "replica_set", "foo", SENT_AT_US, RUN),
                steps=(Step(SENT_AT_US, "image is there"),),
                progress_step="pull",
                progress_done_bytes=5,
                progress_total_bytes=10,
            )
        page = (await site.get("/api/v1/operations?limit=2&name=foo")).data
        assert [one["id"] for one in page["operations"]] == ["op-3", "op-2"]
        assert page["next"] == 2
        assert "request" not in page["operations"][0]
        rest = (await site.get("/api/v1/operations?before=2")).data
        assert [one["id"] for one in rest["operations"]] == ["op-1"]
        assert rest["next"] is None
        one = (await site.get("/api/v1/operations/op-1")).data
        assert one["steps"] == [{"at": SENT_AT, "text": "image is there"}]
        assert one["progress"] == {"step": "pull", "doneBytes": 5, "totalBytes": 10, "message": ""}
        assert (one["code"], one["reason"], one["result"]) == (None, None, None)

    async def test_a_failed_operation_has_the_code_that_a_waiting_caller_got(
        self, site: Site
    ) -> None:
        site.intake.failure = ("image_not_found", "no image nope")
        waited = await site.run()
        data = (await site.get("/api/v1/operations/op-1")).data
        assert data["state"] == "failed"
        assert (data["code"], data["message"]) == (waited.code, waited.json["msg"])

    async def test_an_unknown_operation(self, site: Site) -> None:
        for name in ("nope", "x" * 500):
            answer = await site.get(f"/api/v1/operations/{name}")
            assert (answer.status, answer.code) == (404, 1106)


class TestHealth:
    async def test_ping_is_as_the_predecessor_s(self, site: Site) -> None:
        assert (await site.get("/ping")).json == {"message": "pong"}
        assert (await site.get("/healthz")).data == {"alive": True}

    async def test_ready_names_what_is_not_well(self, site: Site) -> None:
        ready = await site.get("/readyz")
        assert (ready.status, ready.code, ready.data["ready"]) == (200, 200, True)
        site.health.components["docker"] = Component(False, "Docker did not answer")
        answer = await site.get("/readyz")
        assert (answer.status, answer.code) == (503, 500)
        assert answer.data["components"]["docker"] == {
            "ok": False,
            "detail": "Docker did not answer",
        }
        assert "docker: Docker did not answer" in answer.json["msg"]

    async def test_metrics_are_given_to_whoever_cannot_say_in_which_form(self, site: Site) -> None:
        accept = {"Accept": "application/openmetrics-text; version=one"}
        answer = await site.send("GET", "/metrics", headers=accept)
        assert (answer.status, answer.headers["Content-Type"][:10]) == (200, "text/plain")

    async def test_metrics_count_by_pattern_never_by_path(self, site: Site) -> None:
        await site.get("/api/v1/replicaSet/nobody")
        await site.get("/no/such/path")
        answer = await site.get("/metrics")
        text = answer.body.decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
        line = 'gpuledger_http_request_duration_seconds_count{method="GET",route='
        assert f'{line}"/api/v1/replicaSet/{{name}}",status="404"}} 1.0' in text
        assert 'method="any",route="unknown",status="404"} 1.0' in text
        assert "/no/such" not in text
        assert "process_resident_memory_bytes" in text
