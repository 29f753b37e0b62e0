"""The audit on a real log server: refusals that outlive a crash, and a log that is verified."""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from service.adapters.checkpoint_files import elsewhere_in, read_checkpoints
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from tests.kit.service_process import ServiceProcess, eventually

NO_DOCKER = "unix:///nonexistent/docker.sock"
RUN = {"imageName": "busybox", "replicaSetName": "foo", "env": ["PASSWORD=hunter2"]}


def cli(service: ServiceProcess, *args: str) -> Result:
    """In this process: to start one takes longer than what it does."""
    env = {"GPULEDGER_SERVER": service.url, "HOME": "/nonexistent"}
    surroundings = Surroundings(env, "test", False, lambda: 0.0, lambda: "k")
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


def told(service: ServiceProcess, *args: str) -> str:
    done = cli(service, *args)
    assert done.exit_code == 0, done.output
    return done.stdout


def listed(service: ServiceProcess) -> list[dict[str, Any]]:
    return list(json.loads(told(service, "audit", "ls", "--json"))["rows"])


def test_refusals_and_proofs(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    flags = ["--audit-dir", str(elsewhere), "--trusted-proxy", "127.0.0.1"]
    out, key, mirror = tmp_path / "out", tmp_path / "audit.pub", elsewhere_in(elsewhere, "test")
    with ServiceProcess(tmp_path / "data", NO_DOCKER, flags=flags) as service:
        sent = {"X-Forwarded-For": "192.0.2.7"}
        service.call("POST", "/replicaSet", RUN, sent).refused(1104, 503)
        (kept,) = eventually(lambda: listed(service))
        assert (kept["result"], kept["name"], kept["verb"]) == ("refused", "foo", "run")
        assert (kept["remote"], kept["refusal"]["code"]) == ("192.0.2.7", 1104)
        assert "hunter2" not in str(kept)
        eventually(mirror.exists)
        service.crash()
        assert listed(service) == [kept]
        told(service, "audit", "export", "--records", "--out", str(out))
        key.write_text(told(service, "audit", "key"))
        verify = ["audit", "verify", "--data-dir", str(service.data_dir), "--node", "test"]
        beside = told(service, *verify, "--audit-dir", str(elsewhere))
        assert "all is as it was written" in beside
        assert "checkpoints compared" in beside
        assert "1 refusal: all is as it was written" in beside
        well = service.page("/readyz").json()["data"]["components"]["audit"]
        assert well == {"ok": True, "detail": "refusals are kept"}
        text = service.page("/metrics").text
        assert "gpuledger_audit_checkpoint_seq" in text
    alone = told(service, "audit", "verify", "--export", str(out), "--key", str(key))
    assert "1 checkpoint compared" in alone
    assert "checkpoints prove 1 of them" in alone
    backup = str(tmp_path / "backup")
    told(service, "backup", backup, "--data-dir", str(service.data_dir), "--node", "test")
    copied = told(service, "audit", "verify", "--file", backup, "--key", str(key))
    assert "1 refusal: all is as it was written" in copied
    away = json.loads(told(service, *verify, "--checkpoint", str(mirror), "--json"))
    assert (away["fault"], away["vouchedSeq"]) == (None, away["lastSeq"])
    newest = read_checkpoints(mirror)[-1]
    mirror.write_bytes(msgspec.json.encode(replace(newest, seq=newest.seq + 1)))
    forged = cli(service, *verify, "--checkpoint", str(mirror))
    assert (forged.exit_code, "forged" in forged.stderr) == (1, True)
