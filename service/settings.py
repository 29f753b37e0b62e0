"""Settings: everything that can be set, read once, checked, and handed on as one value.

A setting has a flag of `gpuledger serve` and an environment variable; the flag wins, an empty
variable counts as unset. Nothing here reads the environment: it is handed in as a mapping.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, get_args

from msgspec import Struct

from events.values import GPU_COUNT_MAX
from service import settings_text as parse
from service.errors import SettingsError
from service.settings_text import GpuRuntimeChoice, LogLevel, SystemDiskChoice

T = TypeVar("T")


class Setting(Struct, frozen=True):
    """One setting as people see it: how it is spelled, what it is, what is allowed."""

    flags: tuple[str, ...]
    about: str
    allowed: str
    default: str = ""
    """What holds when nobody says anything; empty when that depends on the host."""
    default_text: str = ""
    """The default in words, where it depends on the host."""

    @property
    def env(self) -> str:
        """The environment variable: GPULEDGER_ and the (first) flag's name."""
        return "GPULEDGER_" + self.flags[0].removeprefix("--").replace("-", "_").upper()

    @property
    def help(self) -> str:
        """A line for --help."""
        return f"{self.about} (default: {self.default or self.default_text}; env {self.env})"


SETTINGS: Mapping[str, Setting] = {
    "addr": Setting(
        ("--addr",),
        "Where to listen",
        "HOST:PORT, such as 127.0.0.1:2378 or [::1]:2378; 0.0.0.0:2378 is every interface",
        "127.0.0.1:2378",
    ),
    "data_dir": Setting(
        ("--data-dir",),
        "Where the ledger and the read store are kept",
        "a path",
        default_text="~/.local/share/gpuledger; as root /var/lib/gpuledger",
    ),
    "nats": Setting(
        ("--nats",),
        "The NATS server that holds the ledger",
        '"embedded" (an own nats-server as a child process) or nats://HOST:PORT, several of '
        "one cluster separated by commas; also tls://, ws:// and wss://",
        "embedded",
    ),
    "nats_credentials": Setting(
        ("--nats-credentials",),
        "A NATS credentials file",
        "the path of a .creds file, together with --nats nats://…",
        default_text="none",
    ),
    "port_range": Setting(
        ("--port-range", "--portRange"),
        "The host ports to lend",
        f"FIRST-LAST with 1 <= FIRST <= LAST <= {parse.PORT_MAX}, such as 40000-65535",
        "40000-65535",
    ),
    "docker": Setting(
        ("--docker",),
        "The Docker engine",
        "unix:///path, the path of a socket, tcp://HOST:PORT or http(s)://HOST:PORT",
        default_text="DOCKER_HOST, else the default socket",
    ),
    "node": Setting(
        ("--node",),
        "The name of this host in the ledger; keep it once there are records",
        "letters, digits, '.', '_' and '-', beginning with a letter or digit",
        default_text="the host name",
    ),
    "gpus": Setting(
        ("--gpus",),
        "Which GPUs to lend",
        f"auto (ask the NVIDIA driver), none, or simulated:N with N from 1 to {GPU_COUNT_MAX}",
        "auto",
    ),
    "gpu_runtime": Setting(
        ("--gpu-runtime",),
        "How GPUs are handed to Docker",
        ", ".join(get_args(GpuRuntimeChoice)),
        "auto",
    ),
    "system_disk": Setting(
        ("--system-disk",),
        "How a container's own layer is carried to its next version",
        "auto (upper where the engine lets us, else commit), upper (move and clone its directory),"
        " commit (as an image)",
        "auto",
    ),
    "log_level": Setting(
        ("--log-level", "--logLevel"),
        "What is logged at least",
        ", ".join(get_args(LogLevel)),
        "info",
    ),
    "data_disk_path": Setting(
        ("--data-disk-path",),
        "Where a container has its data disk",
        "an absolute path in the container other than /",
        "/root/foo-tmp",
    ),
    "file_storage_path": Setting(
        ("--file-storage-path",),
        "Where a container has the shared file storage",
        "an absolute path in the container other than / and that of the data disk",
        "/root/foo-fs",
    ),
    "wait_timeout": Setting(
        ("--wait-timeout",),
        "Seconds that a request waits for its outcome at most",
        f"seconds, above 0 and up to {parse.WAIT_TIMEOUT_S_MAX}",
        "600",
    ),
    "stop_timeout": Setting(
        ("--stop-timeout",),
        "Seconds that a container has to end before it is killed",
        f"whole seconds from 0 to {parse.STOP_TIMEOUT_S_MAX}",
        "10",
    ),
    "otlp_endpoint": Setting(
        ("--otlp-endpoint",),
        "An OpenTelemetry collector to send spans to",
        "http(s)://HOST:PORT",
        default_text="none",
    ),
}


class Settings(Struct, frozen=True):
    """What the service was told. Build it with `from_mapping`, once."""

    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int
    """0 lets the system choose a free one."""
    data_dir: Path
    nats: str
    """"embedded", or the URLs of servers, separated by commas."""
    nats_credentials: Path | None
    port_first: int
    port_last: int
    docker: str | None
    """A URL; None is the default socket."""
    node: str
    gpus: str
    """"auto", "none" or "simulated:N"; see `simulated_gpus`."""
    gpu_runtime: GpuRuntimeChoice
    system_disk: SystemDiskChoice
    log_level: LogLevel
    data_disk_path: str
    file_storage_path: str
    wait_timeout_s: float
    stop_timeout_s: int
    otlp_endpoint: str | None

    @classmethod
    def from_mapping(
        cls,
        env: Mapping[str, str],
        *,
        host_name: str = "localhost",
        superuser: bool = False,
        **overrides: object,
    ) -> "Settings":
        """Read the settings from an environment, with flags (named as in SETTINGS) on top.

        An override that is None was not given. `host_name` is the default for `node`;
        `superuser` says whose data directory is the default. Raises SettingsError that names
        the flag and the variable of the first setting that makes no sense.
        """
        if unknown := overrides.keys() - SETTINGS.keys():
            raise TypeError(f"there is no setting named {', '.join(sorted(unknown))}")
        source = _Source(env, overrides)
        host, port = source.read("addr", parse.addr)
        port_first, port_last = source.read("port_range", parse.port_range)
        data_disk_path = source.read("data_disk_path", parse.container_path)
        nats = source.read("nats", parse.nats)
        return cls(
            host=host,
            port=port,
            data_dir=source.read_or("data_dir", parse.host_path, lambda: _data_dir(env, superuser)),
            nats=nats,
            nats_credentials=source.read_or(
                "nats_credentials", lambda text: parse.nats_credentials(text, nats), lambda: None
            ),
            port_first=port_first,
            port_last=port_last,
            docker=source.read_or("docker", parse.docker, lambda: _docker_host(env)),
            node=source.read_or("node", parse.node, lambda: parse.node_of_host(host_name)),
            gpus=source.read("gpus", parse.gpus),
            gpu_runtime=source.read("gpu_runtime", parse.gpu_runtime),
            system_disk=source.read("system_disk", parse.system_disk),
            log_level=source.read("log_level", parse.log_level),
            data_disk_path=data_disk_path,
            file_storage_path=source.read(
                "file_storage_path", lambda text: parse.container_path(text, data_disk_path)
            ),
            wait_timeout_s=source.read("wait_timeout", parse.wait_timeout),
            stop_timeout_s=source.read("stop_timeout", parse.stop_timeout),
            otlp_endpoint=source.read_or("otlp_endpoint", parse.otlp_endpoint, lambda: None),
        )

    @property
    def simulated_gpus(self) -> int:
        """How many GPUs to simulate; 0 when they are not simulated."""
        return int(self.gpus.removeprefix("simulated:")) if ":" in self.gpus else 0

    @property
    def addr(self) -> str:
        """Host and port as one writes them in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Source:
    """Where a setting's text comes from, so that an error can name it."""

    def __init__(self, env: Mapping[str, str], overrides: Mapping[str, object]) -> None:
        self._env = env
        self._overrides = overrides

    def read(self, name: str, parser: Callable[[str], T]) -> T:
        given = self._given(name)
        setting = SETTINGS[name]
        return _parsed(setting, setting.default if given is None else given, parser)

    def read_or(self, name: str, parser: Callable[[str], T], default: Callable[[], T]) -> T:
        given = self._given(name)
        return default() if given is None else _parsed(SETTINGS[name], given, parser)

    def _given(self, name: str) -> str | None:
        override = self._overrides.get(name)
        if override is not None:
            return str(override)
        return self._env.get(SETTINGS[name].env) or None


def _parsed(setting: Setting, text: str, parser: Callable[[str], T], names: str = "") -> T:
    try:
        return parser(text)
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        spelled = names or f"{' / '.join(setting.flags)} (or {setting.env})"
        raise SettingsError(f"{spelled} is {text!r}{why}; allowed: {setting.allowed}") from None


def _docker_host(env: Mapping[str, str]) -> str | None:
    setting = SETTINGS["docker"]
    names = f"DOCKER_HOST (--docker and {setting.env} go before it)"
    given = env.get("DOCKER_HOST")
    return _parsed(setting, given, parse.docker, names) if given else None


def _data_dir(env: Mapping[str, str], superuser: bool) -> Path:
    if superuser:
        return Path("/var/lib/gpuledger")
    if (xdg := env.get("XDG_DATA_HOME", "")).startswith("/"):
        # The XDG specification: a relative path is to be ignored.
        return Path(xdg, "gpuledger")
    if home := env.get("HOME"):
        return Path(home, ".local", "share", "gpuledger")
    setting = SETTINGS["data_dir"]
    raise SettingsError(f"there is no HOME: say where to keep data with --data-dir ({setting.env})")
