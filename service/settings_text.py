"""The texts of settings, parsed: one function for each, ValueError for what is not allowed.

The error's text says what is wrong (empty where "allowed: …" says it all); `settings` adds the
names of the flag and the variable. Pure, apart from the working directory of a relative path.
"""

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from events.values import GPU_COUNT_MAX, parse_size

PORT_MAX = 65535
WAIT_TIMEOUT_S_MAX = 86_400
STOP_TIMEOUT_S_MAX = 3_600
KEEP_REVISIONS_MAX = 10_000
KEEP_DAYS_MAX = 36_500
ORPHAN_GRACE_S_MAX = 31_536_000
TOKEN_NAME_LENGTH_MAX = 64
RATE_LIMIT_MAX = 1_000_000
WAITING_LIMIT_MAX = 1_000_000

SystemDiskChoice = Literal["auto", "upper", "commit"]
VolumeBackendChoice = Literal["auto", "loop", "btrfs", "quota"]
FileSystemChoice = Literal["ext4", "xfs"]
LogLevel = Literal["debug", "info", "warning", "error"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
GpuRuntimeChoice = Literal["auto", "nvidia", "cdi"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


def addr(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:2378" or "[::1]:2378"."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        # ":2378" is every interface to some programs and loopback to others: not guessed.
        raise ValueError("the host is missing" if colon else "the port is missing")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError("an IPv6 address goes in brackets")
    elif not _HOST.fullmatch(host):
        raise ValueError("this is no host name")
    return host, _number(port, 0, PORT_MAX)


def host_path(text: str) -> Path:
    """An absolute path on this host; a relative one is taken from the working directory."""
    if "\0" in text or not text:
        raise ValueError("a path is not empty and has no NUL in it")
    path = Path(text)
    return path if path.is_absolute() else Path.cwd() / path


def nats(text: str) -> str:
    """ "embedded", or URLs separated by commas."""
    if text == "embedded":
        return text
    for url in text.split(","):
        _check_url(url, ("nats", "tls", "ws", "wss"))
    return text


def nats_credentials(text: str, server: str) -> Path:
    """The path of a credentials file for `server`, which cannot be the embedded one."""
    if server == "embedded":
        raise ValueError("the embedded server needs none")
    return host_path(text)


def port_range(text: str) -> tuple[int, int]:
    """First and last port of "40000-65535"."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError("this is no range")
    ports = _number(first.strip(), 1, PORT_MAX), _number(last.strip(), 1, PORT_MAX)
    if ports[0] > ports[1]:
        raise ValueError("the first port is above the last")
    return ports


def docker(text: str) -> str:
    """The engine's URL; the bare path of a socket becomes one."""
    if text.startswith("/"):
        return f"unix://{text}"
    if text.startswith("unix://"):
        if not text.startswith("unix:///"):
            raise ValueError("the path of a socket is absolute")
    else:
        _check_url(text, ("tcp", "http", "https"))
    return text


def node(text: str) -> str:
    """A node's name."""
    if not _NODE.fullmatch(text):
        raise ValueError
    return text


def token_name(text: str) -> str:
    """What a token, or its tenant, is named."""
    if len(text) > TOKEN_NAME_LENGTH_MAX or not _NODE.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name; allowed: letters, digits, '.', '_' and '-', beginning with a"
            f" letter or digit, up to {TOKEN_NAME_LENGTH_MAX}"
        )
    return text


def node_of_host(host_name: str) -> str:
    """The host's name as a node's; what a node's name cannot hold becomes `-`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host_name).lstrip("._-")[:253] or "localhost"


def gpus(text: str) -> str:
    """ "auto", "none" or "simulated:N"."""
    kind, colon, count = text.partition(":")
    if colon and kind == "simulated":
        return f"simulated:{_number(count, 1, GPU_COUNT_MAX)}"
    return _one_of(text, ("auto", "none"))


def gpu_runtime(text: str) -> GpuRuntimeChoice:
    """One of the ways to hand a GPU to Docker."""
    return cast(GpuRuntimeChoice, _one_of(text, get_args(GpuRuntimeChoice)))


def system_disk(text: str) -> SystemDiskChoice:
    """One of the ways to carry a system disk."""
    return cast(SystemDiskChoice, _one_of(text, get_args(SystemDiskChoice)))


def keep_revisions(text: str) -> int:
    """A number of versions."""
    return _number(text, 0, KEEP_REVISIONS_MAX)


def keep_days(text: str) -> float:
    """Days; fractions are fine."""
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", text) or float(text) > KEEP_DAYS_MAX:
        raise ValueError
    return float(text)


def orphan_grace(text: str) -> int:
    """Whole seconds."""
    return _number(text, 0, ORPHAN_GRACE_S_MAX)


def space(text: str) -> int:
    """Bytes of a size with its unit."""
    size_bytes = parse_size(text)
    if size_bytes is None:
        raise ValueError
    return size_bytes


def volume_backend(text: str) -> VolumeBackendChoice:
    """One of the ways to give a volume its size."""
    return cast(VolumeBackendChoice, _one_of(text, get_args(VolumeBackendChoice)))


def volume_file_system(text: str) -> FileSystemChoice:
    """One of the file systems that a loop volume can have."""
    return cast(FileSystemChoice, _one_of(text, get_args(FileSystemChoice)))


def yes_or_no(text: str) -> bool:
    """A plain word."""
    return _one_of(text, ("yes", "no")) == "yes"


def bind_roots(text: str) -> tuple[Path, ...]:
    """Absolute paths separated by colons; "none" is none."""
    if text == "none":
        return ()
    for path in text.split(":"):
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError(f"{path!r} is no absolute path")
    return tuple(Path(path) for path in text.split(":"))


def default_bind_roots(host: str) -> tuple[Path, ...]:
    """Any path for those who are on this host anyway, none for whoever reaches it from outside."""
    return (Path("/"),) if is_loopback(host) else ()


def is_loopback(host: str) -> bool:
    """Can only this host itself connect to it?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def rate_limit(text: str) -> int:
    """Requests in a second; 0 is no limit."""
    return _number(text, 0, RATE_LIMIT_MAX)


def waiting_limit(text: str) -> int:
    """Requests at the same time; 0 is no limit."""
    return _number(text, 0, WAITING_LIMIT_MAX)


def cors_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers write them, separated by commas; "none" is none."""
    if text == "none":
        return ()
    origins = tuple(origin.strip() for origin in text.split(","))
    for origin in origins:
        # A browser writes no slash at the end, no capitals, and no port that goes without saying.
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin")
    return origins


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas; "none" is none."""
    if text == "none":
        return ()
    return tuple(ipaddress.ip_network(network.strip()) for network in text.split(","))


def log_level(text: str) -> LogLevel:
    """A level in any case; "warn" is "warning", as the predecessor's users write it."""
    word = {"warn": "warning"}.get(text.lower(), text.lower())
    return cast(LogLevel, _one_of(word, get_args(LogLevel)))


def container_path(text: str, taken: str = "") -> str:
    """An absolute path in a container, without a slash at its end, that is not `taken`."""
    path = text.rstrip("/")
    parts = path.split("/")[1:]
    if not text.startswith("/") or not parts or any(part in ("", ".", "..") for part in parts):
        raise ValueError
    if path == taken:
        raise ValueError("this is where the data disk is")
    return path


def wait_timeout(text: str) -> float:
    """Seconds, above 0; fractions are fine."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text) or not 0 < float(text) <= WAIT_TIMEOUT_S_MAX:
        raise ValueError
    return float(text)


def stop_timeout(text: str) -> int:
    """Whole seconds: Docker takes no fractions."""
    return _number(text, 0, STOP_TIMEOUT_S_MAX)


def otlp_endpoint(text: str) -> str:
    """The URL of a collector."""
    _check_url(text, ("http", "https"))
    return text


def _number(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise ValueError(f"{text!r} is no whole number from {least} to {most}")
    return int(text)


def _one_of(text: str, words: tuple[Any, ...]) -> str:
    if text not in words:
        raise ValueError
    return text


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"{url!r} does not begin with {schemes[0]}://")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host")
    if parts.port == 0:
        raise ValueError(f"{url!r} has port 0")
