"""`gpuledger audit` against the whole service: what is listed, exported, signed and verified."""

import asyncio
import csv
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.adapters.ledger_backup import BackupFolder, Manifest
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from service.ports import StoredEntry
from tests.kit.builders import NODE, OWNER
from tests.kit.simulated_site import SimulatedSite

AUDIT = "/api/v1/audit"


@pytest.fixture(scope="module")
def site() -> Iterator[SimulatedSite]:
    """A service on which some things were done and some were refused."""
    with SimulatedSite() as site:
        with httpx.Client(base_url=site.url) as http:
            play(http)
        yield site


def play(http: httpx.Client) -> None:
    """Eight commands, of which five are refused, three of them alike."""
    for size in ("1GB", "1GB"):
        http.post("/api/v1/volumes", json={"name": "vol", "size": size})
    http.post("/api/v1/replicaSet", json={"imageName": "nix:1", "replicaSetName": "bad"})
    for _ in range(3):
        http.patch("/api/v1/replicaSet/nix/stop", headers={"X-Forwarded-For": "192.0.2.1"})
    http.delete("/api/v1/volumes/=cmd")
    http.delete("/api/v1/volumes/vol")
    settle(http)


def settle(http: httpx.Client) -> None:
    """Until every operation has ended and every refusal is kept."""
    while True:
        rows = http.get(AUDIT, params={"limit": 1000}).json()["data"]["rows"]
        refused = sum(row["times"] for row in rows if row["result"] == "refused")
        if refused == 5 and not [row for row in rows if row["result"] == "accepted"]:
            return
        threading.Event().wait(0.05)


def run(url: str, *args: str) -> Result:
    env = {"GPULEDGER_SERVER": url, "HOME": "/nonexistent"}
    surroundings = Surroundings(env, "rig", False, lambda: 0.0, lambda: "k")
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def rows(site: SimulatedSite, *args: str) -> list[dict[str, Any]]:
    found = json.loads(done(run(site.url, "audit", "ls", "--json", *args)).stdout)["rows"]
    return list(found)


class TestListing:
    def test_who_did_what_with_what_result_newest_first(self, site: SimulatedSite) -> None:
        once = [row for row in rows(site) if row["times"] == 1]
        assert [(row["verb"], row["name"], row["result"]) for row in once] == [
            ("delete", "vol", "succeeded"),
            ("delete", "=cmd", "refused"),
            ("stop", "nix", "refused"),
            ("run", "bad", "failed"),
            ("create", "vol", "refused"),
            ("create", "vol", "succeeded"),
            ("run", "foo", "succeeded"),
            ("create", "disk", "succeeded"),
        ]
        newest = rows(site)[0]
        assert (newest["actor"], newest["remote"]) == ("anonymous", "127.0.0.1")
        assert newest["finishedSeq"] > newest["seq"]

    def test_refusals_that_are_like_the_first_are_one(self, site: SimulatedSite) -> None:
        stops = rows(site, "--verb", "stop")
        assert [stop["times"] for stop in stops] == [2, 1]
        assert {stop["refusal"]["code"] for stop in stops} == {1010}
        lines = done(run(site.url, "audit", "ls", "--verb", "stop")).stdout.splitlines()
        assert "refused x2" in lines[1]
        assert "(code 1010)" in lines[1]
        for line, stop in zip(lines[1:], stops, strict=True):
            assert stop["refusal"]["id"] in line.split(), "to be copied"

    def test_a_flood_of_refusals_leaves_the_log_alone(self) -> None:
        with SimulatedSite() as flooded, httpx.Client(base_url=flooded.url) as http:
            before = len(flooded.host.ledger.entries)
            for _ in range(500):
                assert http.delete("/api/v1/volumes/nix").status_code == 404
            while sum(one.times for one in flooded.audit.kept.noted) < 500:
                threading.Event().wait(0.05)
            assert len(flooded.audit.kept.noted) <= 10
            assert len(flooded.host.ledger.entries) == before

    @pytest.mark.parametrize(
        ("flags", "count"),
        [
            (("--name", "vol"), 3),
            (("--verb", "run"), 2),
            (("--result", "refused"), 4),
            (("--result", "failed"), 1),
            (("--result", "accepted"), 0),
            (("--actor", "anonymous"), 9),
            (("--actor", "nobody"), 0),
            (("--tenant", "none"), 0),
            (("--limit", "3"), 3),
            (("--to", "2"), 0),
        ],
    )
    def test_filters(self, site: SimulatedSite, flags: tuple[str, ...], count: int) -> None:
        assert len(rows(site, *flags)) == count

    def test_what_the_service_did_itself_is_shown_when_it_is_asked_for(
        self, site: SimulatedSite
    ) -> None:
        own = [row for row in rows(site, "--all") if row not in rows(site)]
        assert "register" in [row["verb"] for row in own]
        assert {row["result"] for row in own} == {"succeeded"}
        assert {row["operationId"] for row in own} == {""}

    def test_from_and_to(self, site: SimulatedSite) -> None:
        everything = rows(site)
        failed = next(row for row in everything if row["result"] == "failed")
        later = rows(site, "--from", str(failed["seq"]))
        assert later == everything[: everything.index(failed) + 1]
        assert rows(site, "--from", failed["time"])[-1]["seq"] >= failed["seq"]
        earlier = rows(site, "--to", str(failed["seq"]))
        assert [row["seq"] for row in earlier if row["seq"] > failed["seq"]] == []
        assert failed in earlier

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_pages_are_the_whole(self, site: SimulatedSite, size: int) -> None:
        query: dict[str, Any] = {"limit": size, "all": 1}
        paged: list[Any] = []
        with httpx.Client(base_url=site.url) as http:
            while True:
                data = http.get(AUDIT, params=query).json()["data"]
                paged.extend(data["rows"])
                if data["next"] is None:
                    break
                query["before"] = data["next"]
            whole = http.get(AUDIT, params={"limit": 1000, "all": 1}).json()["data"]["rows"]
        assert paged == whole

    @pytest.mark.parametrize(
        "query", ["before=1", "before=x", "result=maybe", "all=2", "from=nix", "at=1", "limit=0"]
    )
    def test_what_makes_no_sense_is_refused(self, site: SimulatedSite, query: str) -> None:
        answer = httpx.get(f"{site.url}{AUDIT}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, 1000)


class TestProof:
    def test_a_checkpoint_is_signed_and_kept_in_a_file(
        self, site: SimulatedSite, tmp_path: Path
    ) -> None:
        out = tmp_path / "checkpoints"
        for seq in ("3", "5"):
            done(run(site.url, "audit", "checkpoint", "--seq", seq, "--out", str(out)))
        one = json.loads(done(run(site.url, "audit", "checkpoint")).stdout)
        assert one["seq"] == len(site.host.ledger.entries)
        assert [json.loads(line)["seq"] for line in out.read_text().splitlines()] == [3, 5]
        refused = run(site.url, "audit", "checkpoint", "--seq", "99999")
        assert (refused.exit_code, "1 to" in refused.stderr) == (1, True)

    def test_a_checkpoint_that_cannot_be_kept_is_not_given(self) -> None:
        with SimulatedSite() as full:
            full.audit.book.full = "the disk is full"
            answered = httpx.get(f"{full.url}{AUDIT}/checkpoint")
        assert (answered.status_code, answered.json()["code"]) == (503, 1129)
        assert answered.json()["msg"] == "the disk is full"

    def test_an_export_is_verified(
        self, site: SimulatedSite, key: Path, tmp_path: Path
    ) -> None:
        instant = next(row["time"] for row in rows(site) if row["refusal"])
        for flags in (
            *((), ("--from", "4"), ("--to", "9"), ("--from", "4", "--to", "9")),
            *(("--from", instant), ("--to", instant), ("--to", "2")),
        ):
            out = exported(site, tmp_path, "--records", *flags)
            assert out.stat().st_mode & 0o777 == 0o600
            out.chmod(0o644)  # one that is there already is closed as well
            out = exported(site, tmp_path, "--records", *flags)
            result = done(verify(key, "--export", str(out)))
            assert "all is as it was written" in result.stdout
            assert "1 checkpoint compared" in result.stdout
            refused = out.read_text().count('{"refusal":')
            assert f"{refused} refusals: all is as it was written" in result.stdout
            assert not refused or f"checkpoints prove {refused} of them" in result.stdout
            assert out.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        ("also", "told"), [("refusal", "vouches for them"), ("", "has no row")]
    )
    def test_what_was_refused_taken_out_of_an_export_is_found(
        self, key: Path, lines: list[dict[str, Any]], tmp_path: Path, also: str, told: str
    ) -> None:
        out = tmp_path / "out"
        left = [
            line
            for line in lines
            if also not in line and not ("row" in line and line["row"]["refusal"])
        ]
        out.write_text("".join(f"{json.dumps(line)}\n" for line in left))
        result = verify(key, "--export", str(out))
        assert (result.exit_code, told in result.stdout) == (1, True)

    @pytest.mark.parametrize(
        ("what", "change"),
        [
            ("row", lambda row: {**row, "actor": "mallory"}),
            ("row", lambda row: {**row, "remote": "192.0.2.66"}),
            ("row", lambda row: {**row, "result": "succeeded", "message": ""}),
            ("row", lambda row: None),
            ("record", lambda record: {**record, "body": record["body"].replace("vol", "lov")}),
            ("record", lambda record: {**record, "subject": "ledger.x.y.z.a"}),
            ("record", lambda record: None),
            ("refusal", lambda refusal: {**refusal, "body": refusal["body"].replace(":4", ":5")}),
            ("refusal", lambda refusal: {**refusal, "subject": "refusals.known.ci"}),
            ("refusal", lambda refusal: {**refusal, "seq": refusal["seq"] + 100}),
            ("refusal", lambda refusal: None),
            ("checkpoint", lambda proof: {**proof, "hash": "0" * 64}),
            ("checkpoint", lambda proof: {**proof, "seq": proof["seq"] - 1}),
            ("checkpoint", lambda proof: {**proof, "refusals": []}),
            ("checkpoint", lambda proof: {**proof, "at": "2026-01-01T00:00:00.000000Z"}),
            ("checkpoint", lambda proof: None),
            ("export", lambda about: {**about, "first": about["first"] - 1}),
        ],
    )
    def test_a_tampered_export_is_found(
        self,
        key: Path,
        lines: list[dict[str, Any]],
        tmp_path: Path,
        what: str,
        change: Callable[[Any], Any],
    ) -> None:
        places = [
            place
            for place, line in enumerate(lines)
            if what in line and change(line[what]) != line[what]
        ]
        for place in {places[0], places[len(places) // 2], places[-1]}:
            value = change(lines[place][what])
            changed = [*lines[:place], *([{what: value}] if value else []), *lines[place + 1 :]]
            out = tmp_path / "out"
            out.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
            result = verify(key, "--export", str(out))
            assert result.exit_code == 1, (place, lines[place], result.output)

    @pytest.mark.parametrize("made_up", [{"actor": "mallory"}, {"seq": None}, {"seq": 5}])
    def test_a_row_that_was_put_in_is_found(
        self, key: Path, lines: list[dict[str, Any]], tmp_path: Path, made_up: dict[str, Any]
    ) -> None:
        first = next(line for line in lines if "row" in line and not line["row"]["refusal"])
        out = tmp_path / "out"
        put_in = [lines[0], {"row": {**first["row"], **made_up}}, *lines[1:]]
        out.write_text("".join(f"{json.dumps(line)}\n" for line in put_in))
        assert verify(key, "--export", str(out)).exit_code == 1

    def test_an_export_without_records_proves_nothing(
        self, site: SimulatedSite, key: Path, tmp_path: Path
    ) -> None:
        out = exported(site, tmp_path)
        result = verify(key, "--export", str(out))
        assert (result.exit_code, "--records" in result.stderr) == (1, True)

    def test_a_table_holds_no_formula(self, site: SimulatedSite, tmp_path: Path) -> None:
        out = exported(site, tmp_path, "--format", "csv")
        with out.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert [row["name"] for row in found if "cmd" in row["name"]] == ["'=cmd"]
        assert found[0]["verb"] == "create"
        proof = json.loads(out.with_name("out.checkpoint.json").read_text())
        assert proof["seq"] == len(site.host.ledger.entries)

    def test_a_backup_is_verified(
        self, site: SimulatedSite, key: Path, tmp_path: Path
    ) -> None:
        """Only its chain: the folder needs no installation, and no fold."""
        entries = list(site.host.ledger.entries)
        folder = asyncio.run(backed_up(tmp_path / "backup", entries))
        checkpoints = tmp_path / "checkpoints"
        done(run(site.url, "audit", "checkpoint", "--out", str(checkpoints)))
        unproven = done(verify(key, "--file", str(folder)))
        assert "no checkpoint proves seq 1 to" in unproven.stdout
        flags = ("--file", str(folder), "--checkpoint", str(checkpoints))
        result = done(verify(key, *flags))
        assert f"proves seq 1 to {len(entries)}" in result.stdout
        short = asyncio.run(backed_up(tmp_path / "short", entries[:-2]))
        result = verify(key, "--file", str(short), "--checkpoint", str(checkpoints))
        assert (result.exit_code, "it is missing" in result.stdout) == (1, True)
        (part,) = short.glob("*.gz")
        part.write_bytes(part.read_bytes()[:-20])
        result = verify(key, "--file", str(short))
        assert (result.exit_code, part.name in result.stdout) == (1, True)
        (short / "manifest.json").unlink()
        assert verify(key, "--file", str(short)).exit_code == 1


async def backed_up(folder: Path, entries: Sequence[StoredEntry]) -> Path:
    """A backup that its checksums vouch for, whatever stands in it."""

    async def batch() -> AsyncIterator[Sequence[StoredEntry]]:
        yield entries

    async with BackupFolder(folder) as backup:
        parts, end = await backup.write(batch()), entries[-1].seq
        await backup.commit(Manifest(1, NODE, OWNER, 1, end, "", "0.5.0", "", 0, parts))
    return folder


@pytest.fixture(scope="module")
def lines(site: SimulatedSite, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """An export with records, as it is."""
    out = exported(site, tmp_path_factory.mktemp("export"), "--records", "--from", "4")
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def key(site: SimulatedSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public key of the site."""
    path = tmp_path_factory.mktemp("key") / "audit.pub"
    path.write_text(done(run(site.url, "audit", "key")).stdout)
    return path


def exported(site: SimulatedSite, folder: Path, *flags: str) -> Path:
    out = folder / "out"
    done(run(site.url, "audit", "export", "--out", str(out), *flags))
    return out


def verify(key: Path, *flags: str) -> Result:
    return run("http://nowhere", "audit", "verify", "--key", str(key), *flags)
