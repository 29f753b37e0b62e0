"""Checks of single values: each gives the value as the domain takes it, or raises BadRequest.

Every message names the field, says what is wrong with it, and what is allowed. A value is shown
shortened, so that ten kilobytes sent are not ten kilobytes sent back.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec

from events.values import (
    GPU_COUNT_MAX,
    NAME_LENGTH_MAX,
    SIZE_BYTES_MAX,
    SIZE_UNITS,
    Kind,
    is_image,
    is_name,
    parse_size,
    show_size,
    size_unit,
    split_versioned,
)
from service.web.problems import BadRequest, Code
from service.web.schemas_allowed import allowed
from service.web.schemas_fields import (
    CMD_BYTES_MAX,
    CMD_COUNT_MAX,
    CPUS_MAX,
    CPUS_MIN,
    ENV_BYTES_MAX,
    ENV_COUNT_MAX,
    LABEL_KEY_BYTES_MAX,
    LABEL_VALUE_BYTES_MAX,
    LABELS_MAX,
    PATH_BYTES_MAX,
    PIDS_MAX,
    PORTS_MAX,
    RETRIES_MAX,
    VERSION_MAX,
)

T = TypeVar("T")

RESERVED_ENV: Final = ("CONTAINER_VERSION", "NVIDIA_VISIBLE_DEVICES")
RESERVED_LABELS: Final = "gpuledger."

_SHOWN_MAX = 48
_PORT = re.compile(r"([0-9]{1,6})(?:/(tcp|udp))?")
_NFS_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}")
_NFS_OPTIONS = re.compile(r"[A-Za-z0-9_.:=,/@%+-]{0,256}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AT = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING = re.compile(r"Object missing required field `(\w+)`")

# A name that was left out is an empty name to the predecessor.
_MISSING_CODES = {
    "imageName": Code.IMAGE_NAME_EMPTY,
    "newImageName": Code.IMAGE_NAME_EMPTY,
    "replicaSetName": Code.NAME_EMPTY,
    "name": Code.VOLUME_NAME_EMPTY,
}


def shown(text: str) -> str:
    """A caller's text for a message: quoted, control characters escaped, shortened."""
    return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…")


def bad(field: str, message: str, code: Code = Code.BAD_REQUEST) -> BadRequest:
    """A refusal of one field; the message is put behind its name."""
    return BadRequest(code, f"{field} {message}", field)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The body as its type. Raises BadRequest that names the field, whatever the bytes are."""
    if not body:
        raise BadRequest(Code.BAD_REQUEST, "the body is empty; a JSON object is expected", "body")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), decoder.type) from None
    except UnicodeDecodeError:
        raise BadRequest(Code.BAD_REQUEST, "the body is not valid UTF-8", "body") from None
    except msgspec.DecodeError as error:
        raise BadRequest(Code.BAD_REQUEST, f"the body is not JSON: {error}", "body") from None
    except RecursionError:
        raise BadRequest(Code.BAD_REQUEST, "the body is nested too deep", "body") from None


def _misfit(text: str, kind: object) -> BadRequest:
    """What msgspec says of a body that does not fit its type, with the field's name."""
    at = _AT.search(text)
    what, where = (text[: at.start()], at[1]) if at else (text, "")
    prefix = f"{where}." if where else ""
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown[1][:_SHOWN_MAX]
        return bad(f"{prefix}{name}", "is not a field that is known here")
    if missing := _MISSING.fullmatch(what):
        code = _MISSING_CODES.get(missing[1], Code.BAD_REQUEST)
        return bad(f"{prefix}{missing[1]}", "is missing", code)
    if where == "gpuCount" and "out of range" in what:
        return _too_many_gpus(where)
    return bad(where or "body", f"does not fit: {what.replace('`', '')}{allowed(kind, where)}")


def name(text: str, field: str, kind: Kind = "replica_set") -> str:
    """The name of a replica set or volume."""
    volume = kind == "volume"
    if not text:
        raise bad(field, "is empty", Code.VOLUME_NAME_EMPTY if volume else Code.NAME_EMPTY)
    if volume and text.startswith("/"):
        raise bad(field, f"begins with /: {shown(text)}", Code.VOLUME_NAME_IS_PATH)
    if is_name(text):
        return text
    if "-" in text and is_name(text.replace("-", "")):
        code = Code.VOLUME_NAME_HAS_DASH if volume else Code.NAME_HAS_DASH
        raise bad(
            field, f"is {shown(text)}: no dash is allowed, it stands before the version", code
        )
    raise bad(
        field,
        f"is {shown(text)}; allowed are letters, digits and _ (not first),"
        f" {NAME_LENGTH_MAX} at most",
    )


def image(text: str, field: str) -> str:
    """An image reference."""
    if not text:
        raise bad(field, "is empty", Code.IMAGE_NAME_EMPTY)
    if not is_image(text):
        raise bad(field, f"is {shown(text)}, which is no image reference such as ubuntu:24.04")
    return text


def gpu_count(count: int, field: str) -> int:
    """A number of GPUs. One that no host has is a shortage, not a misspelling."""
    if count < 0:
        raise bad(field, f"is {count}, which is negative", Code.GPU_COUNT_NEGATIVE)
    if count > GPU_COUNT_MAX:
        raise _too_many_gpus(field)
    return count


def _too_many_gpus(field: str) -> BadRequest:
    return BadRequest(
        Code.GPUS_SHORT,
        f"{field} asks for more than {GPU_COUNT_MAX} GPUs, which no host has",
        field,
        status=HTTPStatus.CONFLICT,
        reason="gpus_exhausted",
    )


def version(number: int, field: str) -> int:
    """A version number; whether there is such a version is for the rule."""
    if number < 0:
        raise bad(field, f"is {number}, which is negative", Code.VERSION_NEGATIVE)
    if number > VERSION_MAX:
        raise bad(field, f"is above {VERSION_MAX}")
    return number


def size(text: str, field: str, bytes_min: int = 1) -> int:
    """Bytes of a size text such as "20GB"."""
    units = ", ".join(SIZE_UNITS)
    bytes_ = parse_size(text)
    if bytes_ is None:
        unit = size_unit(text)
        if text and unit not in SIZE_UNITS:
            raise bad(
                field, f"is {shown(text)}; give it a unit, one of {units}", Code.SIZE_UNIT_UNKNOWN
            )
        largest = show_size(SIZE_BYTES_MAX)
        raise bad(field, f'is {shown(text)}; a size is like "20GB", above 0, {largest} at most')
    if bytes_ < bytes_min:
        raise bad(field, f"is {shown(text)}; the least is {show_size(bytes_min)}")
    return bytes_


def cpus(count: float, field: str) -> int:
    """Billionths of a CPU, as Docker counts them."""
    if not CPUS_MIN <= count <= CPUS_MAX:
        raise bad(field, f"is {count:g}; allowed is {CPUS_MIN} to {CPUS_MAX}")
    return round(count * 1e9)


def pids_limit(count: int, field: str) -> int:
    """How many processes a container may have."""
    if not 1 <= count <= PIDS_MAX:
        raise bad(field, f"is {count}; allowed is 1 to {PIDS_MAX}")
    return count


def path(text: str, field: str) -> str:
    """An absolute path other than "/", in its shortest spelling."""
    if not text.startswith("/"):
        raise bad(field, f"is {shown(text)}; an absolute path is expected")
    if len(text.encode()) > PATH_BYTES_MAX:
        raise bad(field, f"is longer than {PATH_BYTES_MAX} bytes")
    if _CONTROL.search(text):
        raise bad(field, f"is {shown(text)}; control characters are not allowed")
    if ".." in text.split("/"):
        raise bad(field, f'is {shown(text)}; ".." is not allowed')
    shortest = "/" + posixpath.normpath(text).lstrip("/")
    if shortest == "/":
        raise bad(field, f"is {shown(text)}; / itself cannot be mounted")
    return shortest


def bind_source(text: str, field: str) -> str:
    """A host path, or a volume with its version."""
    if text.startswith("/"):
        return path(text, field)
    if split_versioned(text) is not None:
        return text
    if is_name(text.replace("-", "").replace("_", "")):
        raise bad(
            field,
            f'is {shown(text)}; a volume is named with its version, such as "bar-1"',
            Code.VOLUME_WITHOUT_VERSION,
        )
    raise bad(field, f'is {shown(text)}; give a host path or a volume such as "bar-1"')


def nfs_server(text: str, field: str) -> str:
    """A host name or address; it becomes part of a list of mount options."""
    if not _NFS_SERVER.fullmatch(text):
        raise bad(field, f"is {shown(text)}; a host name or an address is expected")
    return text


def nfs_path(text: str, field: str) -> str:
    """The absolute path of an export; "/" is one."""
    return "/" if text == "/" else path(text, field)


def nfs_options(text: str, field: str) -> str:
    """Mount options. The server is a field of its own, so `addr` would contradict it."""
    if not _NFS_OPTIONS.fullmatch(text):
        raise bad(field, f"is {shown(text)}; mount options such as nfsvers=4.2,ro are expected")
    if any(option.strip().startswith("addr=") for option in text.split(",")):
        raise bad(field, "contains addr=; give the address as server")
    return text


def _bounded(items: Sequence[str], field: str, count_max: int, bytes_max: int) -> None:
    """Refuse too many texts, too long ones, and NULs, which end a text for the kernel."""
    if len(items) > count_max:
        raise bad(field, f"has {len(items)} entries; {count_max} are allowed")
    if sum(len(item.encode()) for item in items) > bytes_max:
        raise bad(field, f"is longer than {bytes_max} bytes in all")
    for place, item in enumerate(items):
        if "\0" in item:
            raise bad(f"{field}[{place}]", "contains a NUL character")


def env(items: Sequence[str], field: str) -> tuple[str, ...]:
    """Environment entries, K=V each."""
    _bounded(items, field, ENV_COUNT_MAX, ENV_BYTES_MAX)
    for place, item in enumerate(items):
        key, equals, _ = item.partition("=")
        if not equals or not key:
            raise bad(f"{field}[{place}]", f"is {shown(item)}; K=V is expected")
        if key in RESERVED_ENV:
            raise bad(f"{field}[{place}]", f"sets {key}, which is set by the service")
    return tuple(items)


def env_changes(items: Sequence[str], field: str) -> tuple[str, ...]:
    """Changes of an environment: K=V sets, a bare K takes away."""
    _bounded(items, field, ENV_COUNT_MAX, ENV_BYTES_MAX)
    seen: dict[str, int] = {}
    for place, item in enumerate(items):
        here, key = f"{field}[{place}]", item.partition("=")[0]
        if not key:
            raise bad(here, f"is {shown(item)}; K=V to set or K to take away is expected")
        if key in RESERVED_ENV:
            raise bad(here, f"names {key}, which is set by the service")
        if key in seen:
            raise bad(here, f"names {shown(key)}, and so does {field}[{seen[key]}]")
        seen[key] = place
    return tuple(items)


def cmd(items: Sequence[str], field: str) -> tuple[str, ...]:
    """A command's arguments."""
    _bounded(items, field, CMD_COUNT_MAX, CMD_BYTES_MAX)
    return tuple(items)


def max_retries(count: int, field: str) -> int:
    """How many times in a row an ended container is started again; 0 is any number."""
    if not 0 <= count <= RETRIES_MAX:
        raise bad(field, f"is {count}; 0 to {RETRIES_MAX} is expected")
    return count


def container_ports(items: Sequence[str | int], field: str) -> tuple[str, ...]:
    """Ports of a container, as "22/tcp"."""
    if len(items) > PORTS_MAX:
        raise bad(field, f"has {len(items)} entries; {PORTS_MAX} are allowed")
    ports: dict[str, int] = {}
    for place, item in enumerate(items):
        here = f"{field}[{place}]"
        match = _PORT.fullmatch(str(item))
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise bad(here, f'is {shown(str(item))}; a port is "22" or "53/udp", 1 to 65535')
        port = f"{int(match[1])}/{match[2] or 'tcp'}"
        if port in ports:
            raise bad(here, f"is {port}, and so is {field}[{ports[port]}]")
        ports[port] = place
    return tuple(ports)


def labels(pairs: dict[str, str], field: str) -> dict[str, str]:
    """Labels of the caller's own."""
    if len(pairs) > LABELS_MAX:
        raise bad(field, f"has {len(pairs)} entries; {LABELS_MAX} are allowed")
    for key, value in pairs.items():
        if not key or len(key.encode()) > LABEL_KEY_BYTES_MAX or _CONTROL.search(key):
            raise bad(
                field,
                f"has the key {shown(key)}; 1 to {LABEL_KEY_BYTES_MAX} bytes,"
                " no control characters",
            )
        if key.startswith(RESERVED_LABELS):
            raise bad(field, f"has the key {shown(key)}; {RESERVED_LABELS} is the service's own")
        if len(value.encode()) > LABEL_VALUE_BYTES_MAX or "\0" in value:
            raise bad(
                field,
                f"has a value at {shown(key)} that is longer than"
                f" {LABEL_VALUE_BYTES_MAX} bytes or contains a NUL character",
            )
    return pairs


def distinct_targets(targets: Iterable[tuple[str, str]]) -> None:
    """Refuse two mounts at one path; `targets` are (field, path)."""
    seen: dict[str, str] = {}
    for field, target in targets:
        if target in seen:
            raise bad(field, f"is {target}, where {seen[target]} is mounted already")
        seen[target] = field
