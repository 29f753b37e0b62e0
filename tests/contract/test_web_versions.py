"""The web layer on a real socket: the versions of a replica set, and how two of them differ."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.values import ContainerSpec
from projections.state import ReplicaSet, Revision
from service.application.disk_diff import FILES_LISTED_MAX
from service.disk_ports import DiskRef, FileChange, FileChanges
from service.domain.commands import PinRevision, UnpinRevision
from service.domain.rejections import Reason, Rejected
from service.errors import EngineUnavailable, SystemDiskError
from tests.kit.web_site import Answer, Site

HISTORY = "/api/v1/replicaSet/foo/history"
DIFF = "/api/v1/replicaSet/foo/diff"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


def revision(number: int, spec: ContainerSpec | None = None, **changes: Any) -> Revision:
    """A version whose container is gone, and its system disk kept as a directory."""
    fields: dict[str, Any] = {
        "name": "foo",
        "number": number,
        "cause": "patch",
        "spec": spec or ContainerSpec("ubuntu:24.04", number),
        "gpus": (),
        "ports": (),
        "gpu_runtime": "simulated",
        "created_us": 0,
        "supersedes": number - 1 or None,
        "container": "removed",
        "snapshot": f"kept-{number}",
        "snapshot_carry": "upper",
        "snapshot_bytes": 1000 * number,
    }
    return Revision(**(fields | changes))


def running(number: int, **changes: Any) -> Revision:
    """The version that counts."""
    return revision(number, **{"container": "running", "snapshot": None, **changes})


def there_are(site: Site, *revisions: Revision, current: int | None = None) -> None:
    newest = revisions[-1].number
    counts = newest if current is None else current
    site.reads.sets["foo"] = ReplicaSet("foo", current=counts, newest=newest)
    site.reads.versions["foo"] = list(revisions)


async def history(site: Site) -> dict[int, Any]:
    lines = (await site.get(HISTORY)).data["history"]
    return {line["version"]: line for line in lines}


class TestHistory:
    async def test_what_changed_from_the_version_before(self, site: Site) -> None:
        first = ContainerSpec("ubuntu:24.04", 1, env=("A=1", "B=2"))
        second = ContainerSpec("ubuntu:24.04", 3, env=("A=1",), pids_limit=64)
        there_are(
            site,
            revision(1, first, cause="run"),
            revision(2, second),
            running(3, spec=first, cause="rollback", rolled_back_to=1),
        )
        lines = await history(site)
        assert lines[1]["changed"] == []
        assert lines[2]["changed"] == [
            {"field": "gpuCount", "old": "1", "new": "3"},
            {"field": "pidsLimit", "old": "", "new": "64"},
            {"field": "env.B", "old": "2", "new": ""},
        ]
        assert [change["new"] for change in lines[3]["changed"]] == ["1", "", "2"]
        assert "rolledBackTo" not in lines[2]
        assert lines[3]["rolledBackTo"] == 1

    async def test_a_version_after_a_deletion_took_no_other_s_place(self, site: Site) -> None:
        there_are(site, revision(1), running(2, supersedes=None, cause="run"))
        assert (await history(site))[2]["changed"] == []

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            ({}, (True, 1000, False, "")),
            ({"pinned": True}, (True, 1000, True, "")),
            ({"snapshot_bytes": 0}, (True, 0, False, "")),
            ({"expiring": "10 newer ones"}, (False, None, False, "10 newer ones")),
            ({"snapshot": None, "gone": "too old"}, (False, None, False, "too old")),
            (
                {"snapshot": None},
                (False, None, False, "it was removed with its container"),
            ),
            ({"snapshot": None, "container": "running"}, (False, None, False, "")),
            ({"snapshot": None, "container": "exited"}, (False, None, False, "")),
            ({"snapshot": None, "container": "absent"}, (False, None, False, "")),
        ],
    )
    async def test_what_became_of_the_system_disk(
        self, site: Site, changes: dict[str, Any], shown: tuple[Any, ...]
    ) -> None:
        there_are(site, revision(1, **changes), running(2))
        line = (await history(site))[1]
        assert (line["diskKept"], line["diskBytes"], line["pinned"], line["diskGone"]) == shown
        assert line["diskWith"] is None

    @pytest.mark.parametrize(
        ("holder", "shown"),
        [
            (running(3), (False, None, False, "", 3)),
            (revision(3, pinned=True), (True, 3000, True, "", 3)),
            (revision(3, snapshot=None, gone="too old"), (False, None, False, "too old", 3)),
        ],
    )
    async def test_a_container_that_went_on_as_another_version_has_its_disk_there(
        self, site: Site, holder: Revision, shown: tuple[Any, ...]
    ) -> None:
        before: dict[str, Any] = {"snapshot": None, "snapshot_bytes": 0}
        there_are(
            site,
            revision(1, continued_as=2, **before),
            revision(2, continued_as=3, **before),
            holder,
        )
        lines = await history(site)
        for number in (1, 2):
            line = lines[number]
            assert shown == (
                *(line["diskKept"], line["diskBytes"], line["pinned"]),
                *(line["diskGone"], line["diskWith"]),
            )
        assert lines[3]["diskWith"] is None


class TestPin:
    async def test_pin_and_unpin_reach_the_intake(self, site: Site) -> None:
        for verb in ("pin", "unpin"):
            path = f"/api/v1/replicaSet/foo/{verb}"
            assert (await site.send("PATCH", path, json={"version": 2})).status == 200
        commands = [submitted.command for submitted in site.intake.submitted]
        assert commands == [PinRevision("foo", 2), UnpinRevision("foo", 2)]

    @pytest.mark.parametrize(
        ("verb", "reason", "status", "code"),
        [
            ("pin", Reason.REVISION_NOT_FOUND, 404, 1108),
            ("pin", Reason.SYSTEM_DISK_GONE, 422, 1102),
            ("unpin", Reason.REVISION_NOT_FOUND, 404, 1109),
            ("unpin", Reason.REPLICA_SET_NOT_FOUND, 404, 1109),
        ],
    )
    async def test_refusals(
        self, site: Site, verb: str, reason: Reason, status: int, code: int
    ) -> None:
        site.intake.answers.append(Rejected(reason, "why"))
        path = f"/api/v1/replicaSet/foo/{verb}"
        answer = await site.send("PATCH", path, json={"version": 2})
        assert (answer.status, answer.code, answer.data["reason"]) == (status, code, reason.value)


class TestDiff:
    @pytest.fixture(autouse=True)
    def versions(self, site: Site) -> None:
        there_are(site, revision(1), revision(2), running(3))

    async def test_the_spec_and_the_files(self, site: Site) -> None:
        files = (FileChange("/a", "added", 5), FileChange("/b", "deleted"))
        site.directories.answer = FileChanges(files, 1, 0, 1)
        answer = await site.get(f"{DIFF}?from=1&to=2")
        assert answer.data == {
            "name": "foo",
            "from": 1,
            "to": 2,
            "spec": [{"field": "gpuCount", "old": "1", "new": "2"}],
            "files": {
                "added": 1,
                "changed": 0,
                "deleted": 1,
                "listed": [
                    {"path": "/a", "kind": "added", "sizeBytes": 5},
                    {"path": "/b", "kind": "deleted", "sizeBytes": 0},
                ],
                "truncated": False,
            },
        }
        refs = DiskRef("directory", "kept-1"), DiskRef("directory", "kept-2")
        assert site.directories.asked == [(*refs, FILES_LISTED_MAX)]

    async def test_the_newer_one_is_the_current_one(self, site: Site) -> None:
        answer = await site.get(f"{DIFF}?from=2")
        assert (answer.data["from"], answer.data["to"]) == (2, 3)
        assert site.directories.asked[0][1] == DiskRef("container", "foo-3")

    async def test_what_was_kept_by_commit_is_compared_as_images(self, site: Site) -> None:
        there_are(site, revision(1, snapshot_carry="commit"), running(2))
        assert (await site.get(f"{DIFF}?from=1")).status == 200
        assert site.images.asked[0][0] == DiskRef("image", "kept-1")
        assert site.directories.asked == []

    async def test_more_files_than_are_listed(self, site: Site) -> None:
        site.directories.answer = FileChanges((FileChange("/a", "added", 5),), 1, 1, 0)
        assert (await site.get(f"{DIFF}?from=1")).data["files"]["truncated"] is True

    async def test_a_name_that_is_no_text(self, site: Site) -> None:
        site.directories.answer = FileChanges((FileChange("/\udcff", "added"),), 1, 0, 0)
        listed = (await site.get(f"{DIFF}?from=1")).data["files"]["listed"]
        assert listed[0]["path"] == "/\\xff"

    async def test_without_files_no_disk_is_looked_at(self, site: Site) -> None:
        there_are(site, revision(1, snapshot=None), running(2))
        answer = await site.get(f"{DIFF}?from=1&files=0")
        assert (answer.data["files"], answer.data["spec"][0]["field"]) == (None, "gpuCount")
        assert site.directories.asked == []

    async def test_specs_of_a_replica_set_that_was_deleted(self, site: Site) -> None:
        there_are(site, revision(1), revision(2), current=0)
        assert (await site.get(f"{DIFF}?from=1&to=2&files=0")).status == 200
        answer = await site.get(f"{DIFF}?from=1&files=0")
        self._refused(answer, 404, 1017, "foo was deleted")

    async def test_a_disk_that_is_gone(self, site: Site) -> None:
        there_are(site, revision(1, snapshot=None, gone="too old"), running(2))
        for query in ("from=1", "from=2&to=1"):
            answer = await site.get(f"{DIFF}?{query}")
            self._refused(answer, 422, 1102, "of foo-1 is not kept any more (too old)")
        there_are(site, revision(1, expiring="10 newer ones"), running(2))
        answer = await site.get(f"{DIFF}?from=1")
        self._refused(answer, 422, 1102, "(10 newer ones)")
        assert answer.data == {"reason": "system_disk_gone"}
        assert site.directories.asked == []

    async def test_disks_that_cannot_be_compared(self, site: Site) -> None:
        site.directories.answer = SystemDiskError("they lie on different images")
        answer = await site.get(f"{DIFF}?from=1")
        self._refused(answer, 422, 1110, "they lie on different images")
        assert answer.data == {"reason": "disks_not_comparable"}

    async def test_docker_out_of_reach(self, site: Site) -> None:
        site.directories.answer = EngineUnavailable("Docker did not answer")
        self._refused(await site.get(f"{DIFF}?from=1"), 503, 1104, "Docker did not answer")

    @pytest.mark.parametrize(
        ("query", "status", "code", "word"),
        [
            ("", 400, 1000, "from is missing"),
            ("to=1", 400, 1000, "from is missing"),
            ("from=x", 400, 1000, "from must be"),
            ("from=0", 400, 1000, "from must be"),
            ("from=-1", 400, 1000, "from must be"),
            ("from=1&to=", 400, 1000, "to must be"),
            ("from=1&files=2", 400, 1000, "files must be"),
            ("from=9", 404, 1017, "foo has no version 9"),
            ("from=1&to=9", 404, 1017, "foo has no version 9"),
        ],
    )
    async def test_a_bad_question(
        self, site: Site, query: str, status: int, code: int, word: str
    ) -> None:
        self._refused(await site.get(f"{DIFF}?{query}"), status, code, word)
        assert site.directories.asked == []

    async def test_an_unknown_name(self, site: Site) -> None:
        for name, status, code in (("nobody", 404, 1017), ("foo-2", 400, 1003)):
            answer = await site.get(f"/api/v1/replicaSet/{name}/diff?from=1")
            assert (answer.status, answer.code) == (status, code)

    def _refused(self, answer: Answer, status: int, code: int, word: str) -> None:
        assert (answer.status, answer.code) == (status, code), answer.json
        assert word in answer.json["msg"]
