"""`explain refusal`: why a request was refused, told from the state and the records behind it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from tests.kit.simulated_site import SimulatedSite

VOLUME = {"name": "vol", "size": "1GB"}


@pytest.fixture(scope="module")
def site() -> Iterator[SimulatedSite]:
    with SimulatedSite() as site:
        with httpx.Client(base_url=f"{site.url}/api/v1") as http:
            http.post("/volumes", json=VOLUME).raise_for_status()
        yield site


def refused(site: SimulatedSite, method: str, path: str, body: object) -> str:
    """The id of a refusal."""
    answer = httpx.request(method, f"{site.url}/api/v1{path}", json=body)
    assert answer.json()["code"] != 200
    return answer.headers["X-Refusal-Id"]


def cli(site: SimulatedSite, *args: str) -> Result:
    env = {"GPULEDGER_SERVER": site.url, "HOME": "/nonexistent"}
    surroundings = Surroundings(env, "rig", False, lambda: 0.0, lambda: "k")
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


def explain(site: SimulatedSite, refusal_id: str) -> list[dict[str, object]]:
    done = cli(site, "explain", "refusal", refusal_id, "--json")
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout)["answer"])


def test_who_is_refused_is_told_how_to_ask_why(site: SimulatedSite) -> None:
    again = ("volume", "create", "vol", "1GB")
    told = cli(site, *again)
    assert (told.exit_code, told.stdout) == (1, "")
    said, _, ask = told.stderr.rstrip("\n").rpartition("; why: gpuledger ")
    assert said.endswith(" (code 1026)")
    why = cli(site, *ask.split())
    assert why.exit_code == 0, why.output
    assert "create of vol by anonymous was refused" in why.stdout
    told = cli(site, *again, "--json")
    error = json.loads(told.stdout)["error"]
    assert error["code"] == 1026
    assert f"gpuledger explain refusal {error['refusal']}\n" in told.stderr
    assert explain(site, error["refusal"])


def test_what_is_no_refusal_has_no_id(site: SimulatedSite) -> None:
    told = cli(site, "volume", "info", "nix", "--json")
    assert (told.exit_code, "why" in told.stderr) == (4, False)
    assert json.loads(told.stdout)["error"]["refusal"] is None


def test_what_stood_against_it_is_told_with_its_record(site: SimulatedSite) -> None:
    said, fact = explain(site, refused(site, "POST", "/volumes", VOLUME))
    assert str(said["text"]).startswith("create of vol by anonymous was refused with code ")
    assert fact["text"] == "volume vol is vol-1 with 1GB"
    cited = httpx.get(f"{site.url}/api/v1/explain/record/{fact['seq']}").json()["data"]
    assert "create of volume vol was accepted" in str(cited["chain"])


def test_one_that_no_rule_refused_is_said_by_its_message(site: SimulatedSite) -> None:
    (said,) = explain(site, refused(site, "POST", "/volumes", {"name": "vol"}))
    assert str(said["text"]).startswith("create of volume by anonymous was refused with code 1000")


def test_it_is_found_once_it_is_kept(site: SimulatedSite) -> None:
    refusal_id = refused(site, "DELETE", "/volumes/nix", {})
    rows: list[dict[str, Any]] = []
    while not any((row["refusal"] or {}).get("id") == refusal_id for row in rows):
        answer = httpx.get(f"{site.url}/api/v1/audit", params={"result": "refused"})
        rows = answer.json()["data"]["rows"]
    _, fact = explain(site, refusal_id)
    assert fact == {"text": "no record made a volume of that name", "seq": None}


def test_one_that_there_is_not(site: SimulatedSite) -> None:
    answer = httpx.get(f"{site.url}/api/v1/explain/refusal/nix")
    assert answer.status_code == 404
    assert answer.json()["data"]["field"] == "id"
