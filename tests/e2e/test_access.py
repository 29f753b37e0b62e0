"""Who may reach the service as users run it: what it starts as, tokens, TLS, what is withheld."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.access_ports import Role
from service.bootstrap.access import create_token
from service.settings import Settings
from tests.e2e.conftest import serving
from tests.kit.certificates import self_signed
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

ANYWHERE = ["--addr", "0.0.0.0:0"]
NO_DOCKER = "unix:///no/such/docker.sock"
"""Where nothing is done with Docker: the service starts without it."""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    return self_signed(tmp_path, "own")


def tls(pair: tuple[Path, Path]) -> list[str]:
    return ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]


def made(service: ServiceProcess, name: str, role: Role, tenant: str = "") -> str:
    """A new token, as `gpuledger token create` makes it."""
    settings = Settings.from_mapping({}, data_dir=service.data_dir)
    return create_token(settings, name, role, tenant, None)[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestStart:
    """What it refuses to start as, in one line that says how it would."""

    def refused(self, service: ServiceProcess) -> str:
        ended = service.serve_in_vain()
        assert (ended.returncode, ended.stdout) == (2, "")
        (line,) = ended.stderr.splitlines()
        return line

    def test_beyond_loopback_without_tokens(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        for flags in (ANYWHERE, [*ANYWHERE, *tls(pair)]):
            line = self.refused(ServiceProcess(tmp_path / "data", NO_DOCKER, flags=flags))
            assert "error: --addr 0.0.0.0:0 can be reached from other hosts" in line
            for way in ("gpuledger token create", "127.0.0.1", "--insecure"):
                assert way in line

    def test_beyond_loopback_with_tokens_without_tls(self, tmp_path: Path) -> None:
        service = ServiceProcess(tmp_path / "data", NO_DOCKER, flags=ANYWHERE)
        made(service, "ci", "viewer")
        line = self.refused(service)
        for way in ("--tls-cert and --tls-key", "127.0.0.1", "--insecure"):
            assert way in line

    def test_with_a_certificate_that_is_none(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        wrong = tls((tmp_path / "no-such.pem", pair[1]))
        line = self.refused(ServiceProcess(tmp_path / "data", NO_DOCKER, flags=wrong))
        assert f"--tls-cert: {tmp_path / 'no-such.pem'} cannot be read" in line

    def test_insecure_is_allowed_and_says_so(self, tmp_path: Path) -> None:
        flags = [*ANYWHERE, "--insecure"]
        with ServiceProcess(tmp_path / "data", NO_DOCKER, flags=flags) as service:
            assert "INSECURE: no token is asked for" in "\n".join(service.banner)
            url = service.url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.get(f"{url}/api/v1/node", headers={"Host": "gpu"}).status_code == 200

    def test_on_loopback_it_says_that_no_token_is_asked_for(self, tmp_path: Path) -> None:
        with ServiceProcess(tmp_path / "data", NO_DOCKER) as service:
            assert "NO TOKEN is asked for" in "\n".join(service.banner)
            named = service.send("GET", "/node", headers={"Host": "evil.example"})
            assert named.status_code == 403
        made(service, "ci", "viewer")
        service.start()
        assert "NO TOKEN" not in "\n".join(service.banner)
        service.stop()


class TestTokens:
    @pytest.fixture
    def bare(self, tmp_path: Path) -> Iterator[ServiceProcess]:
        """A service without Docker: it answers reads."""
        with ServiceProcess(tmp_path / "data", NO_DOCKER) as service:
            yield service

    def test_they_come_and_go_while_it_runs(self, bare: ServiceProcess) -> None:
        assert bare.get("/node").status == 200
        where = ("--data-dir", str(bare.data_dir))
        done = bare.cli("token", "create", "--name", "ci", "--role", "viewer", *where)
        token = done.stdout.strip()
        assert bare.call("GET", "/node", headers=bearer(token)).status == 200
        eventually(lambda: bare.get("/node").status == 401)
        bare.get("/node").refused(1111, 401, "gpuledger token create")
        bare.call("DELETE", "/volumes/x", headers=bearer(token)).refused(
            1112, 403, "ci is viewer", "--role operator"
        )
        for path, status in (("/ping", 200), ("/healthz", 200), ("/readyz", 401), ("/docs", 401)):
            assert bare.page(path).status_code == status
        other = made(bare, "other", "operator")
        assert bare.cli("token", "revoke", "ci", *where).returncode == 0
        eventually(lambda: bare.call("GET", "/node", headers=bearer(token)).status == 401)
        assert bare.call("GET", "/node", headers=bearer(other)).status == 200

    def test_the_command_line_sends_one(self, bare: ServiceProcess, tmp_path: Path) -> None:
        token = made(bare, "ci", "viewer")
        refused = bare.cli("ps")
        assert (refused.returncode, "(code 1111)" in refused.stderr) == (1, True)
        assert bare.cli("ps", "--token", token).returncode == 0
        (tmp_path / "gpuledger").mkdir()
        (tmp_path / "gpuledger" / "token").write_text(f"{token}\n")
        in_home = {"XDG_CONFIG_HOME": str(tmp_path)}
        with ServiceProcess(tmp_path / "other", NO_DOCKER, env=in_home) as service:
            assert service.cli("ps", "--server", bare.url).returncode == 0


def test_tls(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    service = ServiceProcess(tmp_path / "data", NO_DOCKER, flags=[*ANYWHERE, *tls(pair)])
    token = made(service, "ci", "viewer")
    with service:
        assert service.url.startswith("https://0.0.0.0:")
        service.url = service.url.replace("0.0.0.0", "127.0.0.1")
        trusted = ssl.create_default_context(cafile=pair[0])
        node = f"{service.url}/api/v1/node"
        with httpx.Client(verify=trusted) as client:
            assert client.get(node).status_code == 401
            assert client.get(node, headers=bearer(token)).status_code == 200
        args = ("version", "--token", token)
        assert service.cli(*args, "--ca-cert", str(pair[0])).stdout.count("out of reach") == 0
        stranger = service.cli("ps", "--token", token)
        assert stranger.returncode == 3
        assert "is not trusted" in stranger.stderr
        assert "--ca-cert" in stranger.stderr


def test_records_name_the_sender_and_nothing_tells_a_secret(
    tmp_path: Path, dockerd: PrivateDockerd
) -> None:
    flags = ["--log-level", "debug"]
    with serving(tmp_path / "data", dockerd, flags=flags) as service:
        token = made(service, "ci", "operator", "vision")
        admin = made(service, "root", "admin")
        body = {
            "imageName": "busybox:test",
            "replicaSetName": "foo",
            "env": ["DB_PASSWORD=hunter2", "COLOUR=blue"],
        }
        as_ci = bearer(token)
        service.call("POST", "/replicaSet", body, as_ci).ok()
        bad = {**body, "replicaSetName": "bad", "cmd": ["/no/such"]}
        service.call("POST", "/replicaSet", bad, as_ci).refused(1004, 422)
        patch = {"env": ["API_KEY=hunter2"]}
        service.call("PATCH", "/replicaSet/foo", patch, as_ci).ok()
        shell = {"cmd": ["sh", "-c", "echo $DB_PASSWORD; grep NoNewPrivs /proc/self/status"]}
        done = service.call("POST", "/replicaSet/foo/execute", shell, as_ci).ok()
        assert done["stdout"].split() == ["hunter2", "NoNewPrivs:", "1"]
        for path in ("/replicaSet/foo", "/replicaSet/foo/history"):
            assert "hunter2" not in str(service.call("GET", path, headers=as_ci).ok())
            assert "hunter2" in str(service.call("GET", path, headers=bearer(admin)).ok())
        operations = service.call("GET", "/operations", headers=as_ci).ok()["operations"]
        assert {one["actor"] for one in operations} == {"ci"}
        accepted = [record for record in service.records() if record.actor == "ci"]
        assert len(accepted) == len(operations)
        assert {record.tenant for record in accepted} == {"vision"}
    log = service.log_path.read_text()
    assert "accepted" in log
    for secret in ("hunter2", token, admin):
        assert secret not in log


def test_what_rules_the_host_cannot_be_mounted(tmp_path: Path, dockerd: PrivateDockerd) -> None:
    flags = ["--bind-root", "/"]
    with serving(tmp_path / "data", dockerd, flags=flags) as service:
        socket = Path(dockerd.url.removeprefix("unix://"))
        for path in (socket, socket.parent, service.data_dir, service.data_dir / "ledger"):
            answer = service.run("foo", binds=[{"src": str(path), "dest": "/mnt"}])
            answer.refused(1004, 422, "whatever --bind-root says")
        answer = service.run("foo", fileStorage={"hostPath": str(service.data_dir)})
        answer.refused(1004, 422, "whatever --bind-root says")
        (tmp_path / "beside").mkdir()
        service.run("foo", binds=[{"src": str(tmp_path / "beside"), "dest": "/mnt"}]).ok()


def test_a_caller_that_asks_too_fast_is_told_when_to_come_again(tmp_path: Path) -> None:
    flags = ["--rate-limit", "1"]
    with ServiceProcess(tmp_path / "data", NO_DOCKER, flags=flags) as service:

        def refused() -> httpx.Response | None:
            answer = service.send("GET", "/node")
            return answer if answer.status_code == 429 else None

        assert refused() is refused() is None, "two at once are not too fast"
        answer = eventually(refused)
        assert answer is not None
        assert answer.headers["Retry-After"] == "1"
