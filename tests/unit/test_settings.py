"""Settings: every variable, every flag, what wins, and what is refused in which words."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.errors import SettingsError
from service.settings import AccessSettings, Settings
from service.settings_table import SETTINGS

HOME = {"HOME": "/home/ada"}


def access(**changes: Any) -> AccessSettings:
    """What holds about access when nobody says anything, but for these."""
    default = AccessSettings(
        tls=None,
        insecure=False,
        rate_limit=100,
        waiting_limit=256,
        cors_origins=(),
        trusted_proxies=(),
    )
    return replace(default, **changes)


VALUES = [
    ("addr", "0.0.0.0:80", {"host": "0.0.0.0", "port": 80, "addr": "0.0.0.0:80"}),
    ("addr", "[::1]:2378", {"host": "::1", "port": 2378, "addr": "[::1]:2378"}),
    ("addr", "localhost:0", {"host": "localhost", "port": 0}),
    ("data_dir", "/srv/ledger", {"data_dir": Path("/srv/ledger")}),
    ("nats", "nats://a:4222,tls://b:4222", {"nats": "nats://a:4222,tls://b:4222"}),
    ("port_range", "30000-30010", {"port_first": 30000, "port_last": 30010}),
    ("port_range", "7-7", {"port_first": 7, "port_last": 7}),
    ("docker", "tcp://10.0.0.1:2375", {"docker": "tcp://10.0.0.1:2375"}),
    ("docker", "/run/other.sock", {"docker": "unix:///run/other.sock"}),
    ("node", "rack-1.example.org", {"node": "rack-1.example.org"}),
    ("gpus", "none", {"gpus": "none", "simulated_gpus": 0}),
    ("gpus", "simulated:8", {"gpus": "simulated:8", "simulated_gpus": 8}),
    ("gpu_runtime", "cdi", {"gpu_runtime": "cdi"}),
    ("system_disk", "commit", {"system_disk": "commit"}),
    ("keep_revisions", "0", {"keep_revisions": 0}),
    ("keep_days", "1.5", {"keep_days": 1.5}),
    ("free_space", "20GB", {"free_bytes_min": 20 << 30}),
    ("orphan_grace", "0", {"orphan_grace_s": 0}),
    ("volume_backend", "btrfs", {"volume_backend": "btrfs"}),
    ("volume_file_system", "xfs", {"volume_file_system": "xfs"}),
    ("over_commit", "no", {"over_commit": False}),
    ("bind_root", "/srv:/mnt/data", {"bind_roots": (Path("/srv"), Path("/mnt/data"))}),
    ("bind_root", "none", {"bind_roots": ()}),
    ("insecure", "yes", {"access": access(insecure=True)}),
    ("rate_limit", "0", {"access": access(rate_limit=0)}),
    ("waiting_limit", "1000", {"access": access(waiting_limit=1000)}),
    (
        "cors_origin",
        "https://a.example,http://localhost:3000, http://[::1]:80",
        {
            "access": access(
                cors_origins=("https://a.example", "http://localhost:3000", "http://[::1]:80")
            )
        },
    ),
    (
        "trusted_proxy",
        "10.0.0.0/8, ::1",
        {"access": access(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1")))},
    ),
    ("audit_dir", "/mnt/audit", {"audit_dir": Path("/mnt/audit")}),
    ("log_level", "WARN", {"log_level": "warning"}),
    ("data_disk_path", "/data/", {"data_disk_path": "/data"}),
    ("file_storage_path", "/mnt/fs", {"file_storage_path": "/mnt/fs"}),
    ("wait_timeout", "0.5", {"wait_timeout_s": 0.5}),
    ("stop_timeout", "0", {"stop_timeout_s": 0}),
    ("otlp_endpoint", "http://collector:4318", {"otlp_endpoint": "http://collector:4318"}),
]

BAD = [
    ("addr", ":2378", "the host is missing"),
    ("addr", "localhost", "the port is missing"),
    ("addr", "::1:2378", "in brackets"),
    ("addr", "[10.0.0.1]:2378", "10.0.0.1"),
    ("addr", "127.0.0.1:70000", "70000"),
    ("addr", "a b:80", "no host name"),
    ("data_dir", "a\0b", "NUL"),
    ("nats", "http://x", "nats://"),
    ("nats", "nats://", "names no host"),
    ("nats", "nats://a:4222,", "nats://"),
    ("nats_credentials", "/etc/creds", "embedded"),
    ("port_range", "40000", "no range"),
    ("port_range", "0-10", "'0'"),
    ("port_range", "50-40", "above"),
    ("port_range", "1-65536", "65536"),
    ("docker", "npipe://x", "tcp://"),
    ("docker", "unix://relative", "absolute"),
    ("node", "a.*.b", "letters"),
    ("gpus", "simulated", "simulated:N"),
    ("gpus", "simulated:0", "'0'"),
    ("gpus", "simulated:99999", "99999"),
    ("gpu_runtime", "rocm", "auto, nvidia, cdi"),
    ("system_disk", "copy", "upper"),
    ("keep_revisions", "-1", "0 to 10000"),
    ("keep_days", "a week", "0 to 36500"),
    ("free_space", "20", "20GB"),
    ("orphan_grace", "1h", "0 to 31536000"),
    ("volume_backend", "zfs", "auto (what works best here), loop"),
    ("volume_file_system", "ntfs", "ext4, xfs"),
    ("over_commit", "maybe", "yes (they take"),
    ("bind_root", "srv", "'srv' is no absolute path"),
    ("bind_root", "/srv/../etc", "'/srv/../etc' is no absolute path"),
    ("tls_cert", "a\0b", "NUL"),
    ("tls_key", "a\0b", "NUL"),
    ("insecure", "perhaps", "yes or no"),
    ("rate_limit", "-1", "'-1'"),
    ("waiting_limit", "many", "'many'"),
    ("cors_origin", "*", "'*' is no origin"),
    ("cors_origin", "https://a.example/", "'https://a.example/' is no origin"),
    ("cors_origin", "https://A.example", "is no origin"),
    ("trusted_proxy", "proxy.example", "proxy.example"),
    ("trusted_proxy", "10.0.0.1/8", "has host bits set"),
    ("audit_dir", "a\0b", "NUL"),
    ("log_level", "loud", "debug, info, warning, error"),
    ("data_disk_path", "root/x", "absolute"),
    ("data_disk_path", "/", "absolute"),
    ("data_disk_path", "/a/../b", "absolute"),
    ("file_storage_path", "/root/foo-tmp", "data disk"),
    ("wait_timeout", "0", "above 0"),
    ("wait_timeout", "10s", "seconds"),
    ("stop_timeout", "-1", "'-1'"),
    ("stop_timeout", "1.5", "'1.5'"),
    ("otlp_endpoint", "collector:4318", "http://"),
]


def settings(env: dict[str, str] | None = None, **overrides: Any) -> Settings:
    return Settings.from_mapping({**HOME, **(env or {})}, host_name="rig", **overrides)


def test_defaults() -> None:
    got = settings()
    assert (got.host, got.port) == ("127.0.0.1", 2378)
    assert got.data_dir == Path("/home/ada/.local/share/gpuledger")
    assert (got.nats, got.nats_credentials, got.docker) == ("embedded", None, None)
    assert (got.port_first, got.port_last) == (40000, 65535)
    assert (got.node, got.gpus, got.gpu_runtime) == ("rig", "auto", "auto")
    assert (got.data_disk_path, got.file_storage_path) == ("/root/foo-tmp", "/root/foo-fs")
    assert (got.wait_timeout_s, got.stop_timeout_s) == (600, 10)
    assert (got.log_level, got.otlp_endpoint) == ("info", None)
    assert got.access == access()


@pytest.mark.parametrize(("name", "text", "expected"), VALUES)
def test_every_setting_by_variable_and_by_flag(
    name: str, text: str, expected: dict[str, object]
) -> None:
    variable = SETTINGS[name].env
    for got in (settings({variable: text}), settings({variable: "bad value"}, **{name: text})):
        assert {field: getattr(got, field) for field in expected} == expected


def test_every_setting_is_covered() -> None:
    by_twos = {"nats_credentials", "tls_cert", "tls_key"}
    assert {name for name, *_ in VALUES} | by_twos == set(SETTINGS)
    assert {name for name, *_ in BAD} == set(SETTINGS)


@pytest.mark.parametrize(("name", "text", "why"), BAD)
def test_a_bad_value_is_refused_by_name(name: str, text: str, why: str) -> None:
    setting = SETTINGS[name]
    for env, overrides in (({setting.env: text}, {}), ({}, {name: text})):
        with pytest.raises(SettingsError, match=re.escape(why)) as error:
            settings(env, **overrides)
        assert setting.env in str(error.value)
        assert all(flag in str(error.value) for flag in setting.flags)
        assert setting.allowed in str(error.value)


@pytest.mark.parametrize("name", ["nats", "docker", "otlp_endpoint"])
@pytest.mark.parametrize("end", ["nats:0", ":4222", "nats:99999", "h,nat://a:hunter3@h:1"])
@pytest.mark.parametrize("begin", ["nats://a:hunter2", "nats//a:hunter2", "nats://a:hun/ter2"])
def test_no_password_is_said(name: str, begin: str, end: str) -> None:
    """What is said at a start that is refused is in the log of whatever starts the service."""
    given: dict[str, Any] = {name: f"{begin}@{end}"}
    with pytest.raises(SettingsError, match=re.escape("is '***@")) as error:
        settings(**given)
    assert "hun" not in str(error.value)


def test_variables_are_named_after_the_flags() -> None:
    assert SETTINGS["port_range"].env == "GPULEDGER_PORT_RANGE"
    assert SETTINGS["addr"].env == "GPULEDGER_ADDR"
    assert SETTINGS["otlp_endpoint"].env == "GPULEDGER_OTLP_ENDPOINT"


def test_an_empty_variable_is_unset_but_an_empty_flag_is_not() -> None:
    assert settings({"GPULEDGER_ADDR": ""}).port == 2378
    with pytest.raises(SettingsError, match="--addr"):
        settings(addr="")


def test_credentials_go_with_a_server() -> None:
    got = settings(nats="nats://a:4222", nats_credentials="/etc/x.creds")
    assert got.nats_credentials == Path("/etc/x.creds")


def test_a_certificate_goes_with_its_key() -> None:
    both: dict[str, Any] = {"tls_cert": "/tls/cert.pem", "tls_key": "/tls/key.pem"}
    got = settings(**both)
    assert got.access == access(tls=(Path("/tls/cert.pem"), Path("/tls/key.pem")))
    for name, path in both.items():
        with pytest.raises(SettingsError, match=r"--tls-cert and --tls-key go together"):
            settings(**{name: path})


@pytest.mark.parametrize(
    ("env", "superuser", "expected"),
    [
        ({"HOME": "/root"}, True, "/var/lib/gpuledger"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/data"}, False, "/data/gpuledger"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "rel"}, False, "/home/a/.local/share/gpuledger"),
    ],
)
def test_data_directory(env: dict[str, str], superuser: bool, expected: str) -> None:
    assert Settings.from_mapping(env, superuser=superuser).data_dir == Path(expected)


def test_a_relative_data_directory_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings(data_dir="here").data_dir == tmp_path / "here"


def test_no_home_and_no_data_directory_is_refused() -> None:
    with pytest.raises(SettingsError, match="--data-dir"):
        Settings.from_mapping({})


def test_docker_host_is_the_fallback() -> None:
    assert settings({"DOCKER_HOST": "unix:///x.sock"}).docker == "unix:///x.sock"
    both = {"DOCKER_HOST": "unix:///x.sock", "GPULEDGER_DOCKER": "/y.sock"}
    assert settings(both).docker == "unix:///y.sock"
    with pytest.raises(SettingsError, match=r"DOCKER_HOST.*--docker"):
        settings({"DOCKER_HOST": "ssh://host"})


@pytest.mark.parametrize(("host", "node"), [("gpu_1", "gpu_1"), ("-a b", "a-b"), ("", "localhost")])
def test_a_node_is_named_after_its_host(host: str, node: str) -> None:
    assert Settings.from_mapping(HOME, host_name=host).node == node


def test_an_unknown_override_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="colour"):
        settings(colour="blue")


@pytest.mark.parametrize(
    ("addr", "roots"),
    [
        ("127.0.0.1:2378", (Path("/"),)),
        ("[::1]:2378", (Path("/"),)),
        ("localhost:2378", (Path("/"),)),
        ("0.0.0.0:2378", ()),
        ("gpu-1.example.org:2378", ()),
    ],
)
def test_who_comes_from_outside_may_mount_nothing(addr: str, roots: tuple[Path, ...]) -> None:
    assert settings(HOME, addr=addr).bind_roots == roots
