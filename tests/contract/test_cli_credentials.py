"""How the command line says who it is, and tokens made on the service's host."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.adapters.token_file import TokenFile, digest_of
from service.cli.app import build_app
from service.cli.credentials import token_of, trust
from service.cli.failures import CliFailure
from service.cli.surroundings import Surroundings
from tests.kit.certificates import self_signed
from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer

NOW_S = 1_767_323_045.0
DAY_S = 24 * 3600


def invoke(*args: str, now_s: float = NOW_S, **env: str) -> Result:
    surroundings = Surroundings({"HOME": "/nowhere", **env}, "rig", False, lambda: now_s, str)
    return CliRunner().invoke(build_app(), list(args), obj=surroundings)


class TestWhichToken:
    @pytest.fixture
    def home(self, tmp_path: Path) -> dict[str, str]:
        """An environment with a token file."""
        path = tmp_path / ".config" / "gpuledger" / "token"
        path.parent.mkdir(parents=True)
        path.write_text("of-file\n")
        return {"HOME": str(tmp_path)}

    def test_the_flag_then_the_variable_then_the_file(self, home: dict[str, str]) -> None:
        both = {**home, "GPULEDGER_TOKEN": "of-env"}
        assert token_of("of-flag", both) == "of-flag"
        assert token_of(None, both) == "of-env"
        assert token_of(None, {**home, "GPULEDGER_TOKEN": ""}) == "of-file"
        assert token_of(None, {"HOME": "/nowhere"}) is None
        assert token_of(None, {}) is None

    def test_the_file_can_be_elsewhere(self, home: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "xdg" / "gpuledger").mkdir(parents=True)
        (tmp_path / "xdg" / "gpuledger" / "token").write_text("of-xdg")
        assert token_of(None, {**home, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == "of-xdg"
        assert token_of(None, {**home, "XDG_CONFIG_HOME": "relative"}) == "of-file"

    def test_what_is_no_token_is_refused_and_not_shown(self, home: dict[str, str]) -> None:
        path = Path(home["HOME"], ".config", "gpuledger", "token")
        path.write_text("two words")
        with pytest.raises(CliFailure, match="no token") as error:
            token_of(None, home)
        assert "words" not in str(error.value)
        path.write_text(" \n")
        assert token_of(None, home) is None
        path.unlink()
        path.mkdir()
        with pytest.raises(CliFailure, match=r"cannot be read \(Is a directory\)"):
            token_of(None, home)

    def test_who_is_trusted(self, tmp_path: Path) -> None:
        cert, key = self_signed(tmp_path, "one")
        assert trust(None, {}) is True
        for given, env in ((str(cert), {}), (None, {"GPULEDGER_CA_CERT": str(cert)})):
            found = trust(given, env)
            assert isinstance(found, ssl.SSLContext)
            assert found.get_ca_certs()[0]["serialNumber"]
        for bad in (str(key), "/no/such"):
            with pytest.raises(CliFailure, match="--ca-cert"):
                trust(bad, {})

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        with ContractServer() as server:
            yield Rig(server)

    @pytest.mark.parametrize(
        "args",
        [
            *(["--token", "secret", "ps"], ["ps", "--token", "secret"]),
            *(["volume", "--token", "secret", "ls"], ["volume", "ls", "--token", "secret"]),
        ],
    )
    def test_it_is_sent_wherever_it_stands(self, rig: Rig, args: list[str]) -> None:
        assert rig(*args).exit_code == 0
        assert rig.world.authorizations[-1] == "Bearer secret"

    def test_without_one_none_is_sent(self, rig: Rig) -> None:
        assert rig("ps").exit_code == 0
        assert rig.world.authorizations[-1] == ""

    def test_a_service_that_asks_to_slow_down_is_asked_again(self, rig: Rig) -> None:
        rig.world.slow_downs = 2
        result = rig("ps")
        assert result.exit_code == 0, result.output
        assert len(rig.world.requests) == 3


class TestTokens:
    def test_made_listed_and_revoked(self, tmp_path: Path) -> None:
        where = ("--data-dir", str(tmp_path / "data"))
        made = invoke("token", "create", "--name", "ci", "--role", "operator", *where)
        assert made.exit_code == 0, made.output
        text = made.stdout.strip()
        assert text.startswith("gpuledger_")
        assert len(text) >= 50, "256 random bits"
        assert "ci is operator" in made.stderr
        (kept,) = TokenFile(tmp_path / "data").tokens()
        assert (kept.name, kept.role, kept.tenant, kept.expires_us) == ("ci", "operator", "", None)
        assert kept.sha256 == digest_of(text)
        listed = invoke("token", "ls", *where)
        assert "ci    operator" in listed.stdout
        assert "never" in listed.stdout
        assert text not in listed.stdout
        revoked = invoke("token", "revoke", "ci", *where)
        assert (revoked.exit_code, revoked.stdout) == (0, "ci is revoked\n")
        assert "no token is left" in revoked.stderr
        assert invoke("token", "ls", *where).stdout == f"no tokens in {tmp_path / 'data'}\n"
        assert invoke("token", "revoke", "ci", *where).exit_code == 4

    def test_a_tenant_and_an_end(self, tmp_path: Path) -> None:
        where = ("--data-dir", str(tmp_path))
        made = invoke(
            *("token", "create", "--name", "ci", "--role", "viewer", "--tenant", "vision"),
            *("--expires-days", "0.5", "--json", *where),
        )
        data = json.loads(made.stdout)
        assert (data["name"], data["role"], data["tenant"]) == ("ci", "viewer", "vision")
        (kept,) = TokenFile(tmp_path).tokens()
        assert kept.expires_us is not None
        assert kept.expires_us - kept.created_us == DAY_S * 500_000
        end_s = kept.expires_us / 1e6
        before, after = (invoke("token", "ls", *where, now_s=end_s + d).stdout for d in (-1, 0))
        assert "expired" not in before
        assert "expired" in after
        shown = json.loads(invoke("token", "ls", "--json", *where).stdout)["tokens"]
        assert shown == [{key: value for key, value in data.items() if key != "token"}]

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--name", "ci", "--role", "root"), "viewer, operator, admin"),
            (("--name", "a b", "--role", "viewer"), "no name"),
            (("--name", "x" * 65, "--role", "viewer"), "no name"),
            (("--name", "a", "--role", "viewer", "--tenant", "/"), "no name"),
            (("--name", "a", "--role", "viewer", "--expires-days", "0"), "--expires-days"),
            (("--role", "viewer"), "--name"),
        ],
    )
    def test_what_makes_no_sense_is_wrong_usage(
        self, args: tuple[str, ...], words: str, tmp_path: Path
    ) -> None:
        result = invoke("token", "create", *args, "--data-dir", str(tmp_path))
        assert result.exit_code == 2
        # The message is folded, in a frame.
        assert words in " ".join(result.stderr.replace("│", " ").split())
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_is_taken(self, tmp_path: Path) -> None:
        args = ("--role", "viewer", "--data-dir", str(tmp_path))
        assert invoke("token", "create", "--name", "ci", *args).exit_code == 0
        again = invoke("token", "create", "--name", "ci", *args)
        assert (again.exit_code, again.stdout) == (1, "")
        assert "there is a token ci already" in again.stderr
        own = invoke("token", "create", "--name", "executor", *args)
        assert own.exit_code == 1
        assert "records name the service so" in own.stderr

    def test_no_two_are_the_same(self, tmp_path: Path) -> None:
        made = {
            invoke(
                *("token", "create", "--name", name, "--role", "viewer"),
                *("--data-dir", str(tmp_path)),
            ).stdout
            for name in ("a", "b")
        }
        assert len(made) == 2

    def test_as_a_process(self, tmp_path: Path) -> None:
        """Only the token is on stdout: T=$(gpuledger token create …)."""
        made = subprocess.run(
            [
                *(sys.executable, "-m", "service", "token", "create", "--name", "ci"),
                *("--role", "admin", "--data-dir", str(tmp_path)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        (line,) = made.stdout.splitlines()
        assert digest_of(line) == TokenFile(tmp_path).tokens()[0].sha256
