"""One story, told back by every reader of the log with the same facts; and a host made again.

Two tenants run, patch, crash, roll back, resize and delete. What `audit`, `explain`, `diff`,
`bill` and `replay` say of it must be the same, each down to the records that it is from.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from events.outcomes import ContainerStarted, ContainerStopped
from events.record import Record
from events.replica_sets import RevisionDeclared
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from tests.e2e.conftest import at_rest, clean, serving
from tests.e2e.test_access import bearer, made
from tests.e2e.test_recovery import TOLD, command
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

EVER = ("--from", "2020-01-01", "--to", "2100-01-01")
READS = ("/replicaSet", "/replicaSet/foo", "/volumes", "/resources/gpus", "/resources/ports")


class Admin:
    """Somebody who may ask a service everything."""

    def __init__(self, service: ServiceProcess, token: str) -> None:
        self.service = service
        self.token = token

    def asked(self, path: str) -> Any:
        """What the API tells."""
        return self.service.call("GET", path, headers=bearer(self.token)).ok()

    def answers(self) -> dict[str, bytes]:
        """What two hosts must tell alike."""
        bodies = {
            path: self.service.send("GET", path, headers=bearer(self.token)).content
            for path in READS
        }
        return {path: TOLD.sub(b"", body) for path, body in bodies.items()}

    def cli(self, *args: str) -> Result:
        """In this process: to start one takes longer than what it does."""
        given = {"GPULEDGER_SERVER": self.service.url, "GPULEDGER_TOKEN": self.token}
        surroundings = Surroundings(
            {**given, "HOME": "/nonexistent"}, "test", False, lambda: 0.0, lambda: "k"
        )
        return CliRunner().invoke(build_app(), list(args), obj=surroundings)

    def told(self, *args: str) -> Any:
        """What a command says as JSON; it must end well."""
        done = self.cli(*args, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    @property
    def of_log(self) -> tuple[str, ...]:
        """Where commands that read the log itself find it."""
        return "--data-dir", str(self.service.data_dir), "--node", "test"


class Story(Admin):
    """A service with two tenants, and what they did."""

    def __init__(self, service: ServiceProcess) -> None:
        super().__init__(service, made(service, "root", "admin"))
        self.ann = bearer(made(service, "ann", "operator", "vision"))
        self.bob = bearer(made(service, "bob", "operator", "speech"))
        self.deeds: dict[str, str] = {}
        """What was asked for, and the id of the operation."""
        self.records: list[Record] = []

    def act(self, deed: str, who: dict[str, str], method: str, path: str, body: Any) -> None:
        """A command of somebody, to its end."""
        self.deeds[deed] = self.service.begin(method, path, body, who)
        self.see_done(deed)

    def see_done(self, deed: str) -> None:
        path = f"/operations/{self.deeds[deed]}"
        eventually(lambda: self.asked(path)["state"] != "running")
        assert self.asked(path)["state"] == "succeeded"

    def seq(self, deed: str) -> int:
        """The record that accepted it."""
        ids = [record.command_id for record in self.records]
        return 1 + ids.index(self.deeds[deed])

    def declared(self, deed: str) -> RevisionDeclared:
        """The revision that it led to, as that record has it."""
        events = self.records[self.seq(deed) - 1].events
        return next(event for event in events if isinstance(event, RevisionDeclared))


def play(story: Story) -> None:
    """Run, patch, crash, rollback, resize, delete; and one who is refused."""
    sleeping = {"imageName": "busybox:test", "cmd": ["sleep", "100000"]}
    foo = {"replicaSetName": "foo", "gpuCount": 1, "containerPorts": ["80"]}
    disk = {"dataDisk": {"size": "32MB"}}
    story.act("run foo", story.ann, "POST", "/replicaSet", {**sleeping, **foo, **disk})
    bar = {"replicaSetName": "bar", "gpuCount": 2}
    story.act("run bar", story.bob, "POST", "/replicaSet", {**sleeping, **bar})
    baz = {**sleeping, "replicaSetName": "baz", "gpuCount": 2}
    story.service.call("POST", "/replicaSet", baz, story.bob).refused(1013, 409)
    eventually(lambda: story.told("audit", "ls", "--result", "refused")["rows"])
    two = {"gpuPatch": {"gpuCount": 2}}
    patch = story.service.begin("PATCH", "/replicaSet/foo", two, story.ann)
    story.deeds["patch foo"] = patch
    story.service.crash()
    story.see_done("patch foo")
    back = {"version": 1}
    story.act("rollback foo", story.ann, "PATCH", "/replicaSet/foo/rollback", back)
    story.act("resize foo", story.ann, "PATCH", "/volumes/foo/size", {"size": "64MB"})
    story.act("delete bar", story.bob, "DELETE", "/replicaSet/bar", {})
    at_rest(story.service)
    story.records = story.service.records()


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, dockerd: PrivateDockerd
) -> Iterator[Story]:
    """The story, once it is over; the service goes on."""
    with serving(tmp_path_factory.mktemp("story") / "data", dockerd) as service:
        story = Story(service)
        play(story)
        yield story


def test_the_audit_names_who_did_what(story: Story) -> None:
    rows = story.told("audit", "ls")["rows"]
    done = {f"{row['verb']} {row['name']}": row for row in rows if row["result"] == "succeeded"}
    assert done.keys() == story.deeds.keys()
    for deed, row in done.items():
        record = story.records[row["seq"] - 1]
        assert (row["seq"], row["operationId"]) == (story.seq(deed), story.deeds[deed])
        assert (row["actor"], row["tenant"]) == (record.actor, record.tenant)
        assert row["remote"] == record.remote == "127.0.0.1"
        assert story.records[row["finishedSeq"] - 1].operation_id == story.deeds[deed]
    assert done["patch foo"]["actor"] == "ann"
    assert (done["delete bar"]["actor"], done["delete bar"]["tenant"]) == ("bob", "speech")


def test_who_was_refused_learns_why(story: Story) -> None:
    (row,) = story.told("audit", "ls", "--result", "refused")["rows"]
    assert (row["actor"], row["name"], row["refusal"]["code"]) == ("bob", "baz", 1013)
    assert story.seq("run bar") < row["seq"] < story.seq("patch foo")
    said, count, *against = story.told("explain", "refusal", row["refusal"]["id"])["answer"]
    assert said["text"].startswith("run of baz by bob was refused with code 1013")
    assert count["text"] == "1 of 4 GPUs could be had"
    assert {fact["seq"] for fact in against} == {story.seq("run foo"), story.seq("run bar")}


def test_explain_tells_each_thing_by_its_record(story: Story) -> None:
    answer = {fact["text"]: fact["seq"] for fact in story.told("explain", "foo")["answer"]}
    assert answer["foo is foo-3, by rollback"] == story.seq("rollback foo")
    assert answer["it has GPU 0"] == story.seq("rollback foo")
    (gpu,) = story.declared("rollback foo").gpus
    assert story.told("explain", "gpu", gpu)["answer"][0]["seq"] == story.seq("rollback foo")
    # The patch went on after the crash, and is told as one.
    chain = story.told("explain", "op", story.deeds["patch foo"])["chain"]
    of_patch = [
        seq
        for seq, record in enumerate(story.records, 1)
        if record.operation_id == story.deeds["patch foo"]
    ]
    assert [link["seq"] for link in chain] == of_patch
    (grounds,) = (link["decidedFrom"] for link in chain if link["verb"] == "patch")
    assert {fact["seq"] for fact in grounds if "bar-1 has it" in fact["text"]} == {
        story.seq("run bar")
    }


def test_diff_is_what_the_records_between_say(story: Story) -> None:
    before, after = story.seq("run foo"), story.seq("patch foo")
    changed = story.told("diff", str(before), str(after))
    holders = {
        gpu["name"]: change["new"]
        for gpu in changed["gpus"]
        for change in gpu["changes"]
        if change["field"] == "holder"
    }
    bars = dict.fromkeys(story.declared("run bar").gpus, "bar-1")
    assert holders == bars | dict.fromkeys(story.declared("patch foo").gpus, "foo-2")
    (foo,) = (one for one in changed["replicaSets"] if one["name"] == "foo")
    counts = next(change for change in foo["changes"] if change["field"] == "gpuCount")
    assert (counts["old"], counts["new"]) == ("1", "2")


def test_each_line_of_the_bill_is_from_a_start_to_an_end(story: Story) -> None:
    lines = story.told("bill", *EVER, "--group-by", "tenant,name,interval")["lines"]
    gpus = [line for line in lines if line["meter"] == "gpu"]
    used: dict[str, float] = {}
    for line in gpus:
        ((opened, closed),) = line["records"]
        (began,) = story.records[opened - 1].events
        assert isinstance(began, ContainerStarted)
        assert began.name == line["group"]["name"]
        if closed is not None:
            (ended,) = (
                event
                for event in story.records[closed - 1].events
                if isinstance(event, ContainerStopped)
            )
            assert (ended.name, ended.revision) == (began.name, began.revision)
        tenant = line["group"]["tenant"]
        assert tenant == story.records[story.seq(f"run {began.name}") - 1].tenant
        used[tenant] = used.get(tenant, 0) + float(line["seconds"])
    # bar's two GPUs were used from its start to its end, which Docker tells.
    cited = {tuple(line["records"][0]) for line in gpus if line["group"]["tenant"] == "speech"}
    ((opened, closed),) = cited
    assert opened < story.seq("patch foo") < story.seq("delete bar") < closed
    totals = story.told("bill", *EVER, "--group-by", "tenant")["lines"]
    of_speech = [line for line in totals if line["meter"] == "gpu"]
    (speech,) = (line for line in of_speech if line["group"]["tenant"] == "speech")
    assert float(speech["seconds"]) == pytest.approx(used["speech"], abs=1e-5)


def test_replay_shows_the_same_records_and_decides_them_again(story: Story) -> None:
    done = story.cli("replay", *story.of_log, "--json")
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert {step["decided"] for step in steps} == {"same"}
    by_seq = {step["seq"]: step for step in steps}
    for deed in story.deeds:
        step = by_seq[story.seq(deed)]
        assert f"{step['verb']} {step['name']}" == deed
        assert step["operationId"] == story.deeds[deed]
    patched = by_seq[story.seq("patch foo")]
    assert (patched["before"]["gpus_free"], patched["after"]["gpus_free"]) == (1, 0)
    stopped = story.cli("replay", *story.of_log, "--break", "gpus > 0 and gpus_free == 0", "--json")
    last = json.loads(stopped.stdout.splitlines()[-1])
    assert last["seq"] == story.seq("patch foo")
    verified = story.told("replay", "--verify", *story.of_log)
    counts = (verified["same"], verified["otherwise"], verified["undecidable"])
    assert counts == (len(story.records), 0, 0)


def test_one_byte_of_a_record_is_found(story: Story, tmp_path: Path) -> None:
    whole = story.told("audit", "verify", *story.of_log)
    assert (whole["fault"], whole["unchained"]) == (None, 0)
    ledger = story.service.data_dir
    copy = tmp_path / "copy"
    story.service.stop()
    try:
        shutil.copytree(ledger, copy, symlinks=True, ignore=shutil.ignore_patterns("volumes"))
    finally:
        story.service.start()
    (block,) = (copy / "ledger").rglob("LEDGER/msgs/*.blk")
    content = bytearray(block.read_bytes())
    at = content.index(f'"id":"{story.deeds["patch foo"]}"'.encode())
    content[content.index(b'"gpu_count":2', at) + 12] = ord("3")
    block.write_bytes(content)
    found = story.cli("audit", "verify", "--data-dir", str(copy), "--node", "test", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["fault"]["seq"] == story.seq("patch foo")


def test_an_empty_host_is_made_again_and_gives_the_same_answers(
    story: Story, dockerd: PrivateDockerd, tmp_path: Path
) -> None:
    service, backup, new_dir = story.service, tmp_path / "backup", tmp_path / "new"

    before = story.answers()
    bill = story.told("bill", *EVER, "--group-by", "interval")["lines"]
    assert story.cli("backup", str(backup), *story.of_log).exit_code == 0
    service.stop()
    with dockerd.client() as client:
        for container in client.containers.list(all=True):
            container.remove(force=True)
        for volume in client.volumes.list():
            volume.remove(force=True)
    new_dir.mkdir()
    shutil.copy(service.data_dir / "tokens.json", new_dir)
    volumes = service.data_dir / "volumes"
    subprocess.run(["cp", "-a", "--sparse=always", volumes, new_dir / "volumes"], check=True)
    new = ServiceProcess(new_dir, dockerd.url)
    done = new.cli(*command(new, backup), "--execute", "--accept-losses")
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        with new:
            again = Admin(new, story.token)
            assert again.answers() == before
            ended = [line for line in bill if line["records"][0][1] is not None]
            lines = again.told("bill", *EVER, "--group-by", "interval")["lines"]
            assert [line for line in ended if line not in lines] == []
            assert again.told("replay", "--verify", *again.of_log)["otherwise"] == 0
            assert again.told("audit", "verify", *again.of_log)["fault"] is None
    finally:
        clean(dockerd, new_dir)
        service.start()
