"""The table of all settings, as people see them: flags, help, and what is allowed."""

from collections.abc import Mapping
from typing import get_args

from msgspec import Struct

from events.values import GPU_COUNT_MAX
from service import settings_text as parse
from service.settings_text import (
    FileSystemChoice,
    GpuRuntimeChoice,
    LogLevel,
)


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
        """What --help says of it."""
        default = self.default or self.default_text
        return f"{self.about}: {self.allowed} (default: {default}; env {self.env})"


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
    "keep_revisions": Setting(
        ("--keep-revisions",),
        "How many earlier versions of a container can be had back, beside pinned ones",
        f"a number from 0 to {parse.KEEP_REVISIONS_MAX}",
        "10",
    ),
    "keep_days": Setting(
        ("--keep-days",),
        "For how many days an earlier version can be had back; 0 is no limit",
        f"days, from 0 to {parse.KEEP_DAYS_MAX}",
        "0",
    ),
    "free_space": Setting(
        ("--free-space",),
        "What must stay free on the disks of volumes and of containers",
        'a size such as "20GB"; units are KB, MB, GB and TB',
        "1GB",
    ),
    "orphan_grace": Setting(
        ("--orphan-grace",),
        "For how many seconds what no record accounts for is only listed; 0 is for ever",
        f"whole seconds from 0 to {parse.ORPHAN_GRACE_S_MAX}",
        "3600",
    ),
    "volume_backend": Setting(
        ("--volume-backend",),
        "How volumes are given their size",
        "auto (what works best here), loop (an image file and its loop device), btrfs (a subvolume"
        " with a limit), quota (a directory with a project quota)",
        "auto",
    ),
    "volume_file_system": Setting(
        ("--volume-file-system",),
        "What new volumes of the backend loop are formatted with",
        ", ".join(get_args(FileSystemChoice)),
        "ext4",
    ),
    "over_commit": Setting(
        ("--over-commit",),
        "May all volumes together be larger than the disk they are on",
        "yes (they take what is written to them) or no (their space is set aside)",
        "yes",
    ),
    "bind_root": Setting(
        ("--bind-root",),
        "Directories of the host below which containers may mount",
        "absolute paths, several separated by colons; / is any path, none is none",
        default_text="/ when --addr is a loopback address, else none",
    ),
    "tls_cert": Setting(
        ("--tls-cert",),
        "The certificate to serve https with",
        "the path of a PEM file with the certificate and those that signed it, with --tls-key",
        default_text="none, which is http",
    ),
    "tls_key": Setting(
        ("--tls-key",),
        "The certificate's key",
        "the path of a PEM file without a password, together with --tls-cert",
        default_text="none",
    ),
    "insecure": Setting(
        ("--insecure",),
        "Listen beyond loopback also without tokens, or without TLS",
        "yes or no; the flag has no value",
        "no",
    ),
    "rate_limit": Setting(
        ("--rate-limit",),
        "Requests that one token, or one address without, may send in a second",
        f"a number from 0 to {parse.RATE_LIMIT_MAX}; twice as many at once; 0 is no limit",
        "100",
    ),
    "waiting_limit": Setting(
        ("--waiting-limit",),
        "Requests of one token, or one address without, that may wait at the same time",
        f"a number from 0 to {parse.WAITING_LIMIT_MAX}; 0 is no limit",
        "256",
    ),
    "cors_origin": Setting(
        ("--cors-origin",),
        "Sites whose pages may call the API from a browser",
        "origins such as https://gpus.example.org, several separated by commas, or none",
        "none",
    ),
    "trusted_proxy": Setting(
        ("--trusted-proxy",),
        "Proxies whose X-Forwarded-For says where a request comes from",
        "addresses and networks such as 10.0.0.0/8, several separated by commas, or none",
        "none",
    ),
    "audit_dir": Setting(
        ("--audit-dir",),
        "Where signed checkpoints of the log are kept a second time: best on another machine",
        "the path of a directory that is there",
        default_text="only in the data directory",
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
