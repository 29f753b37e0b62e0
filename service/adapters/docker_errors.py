"""Docker's errors, mapped to ours: the one place that knows what docker-py raises.

    no answer (connection, timeout, broken stream, gateway)   -> EngineUnavailable
    an answer that says no (any other HTTP status)            -> EngineRefused, Docker's words

The reason comes from the status code. Where Docker uses one code for many things (it answers
500 for a taken port and for a missing GPU alike), it comes from the text; the fragments below
were seen from engines 20.10 to 26.1.
"""

from http import HTTPStatus

import requests
import urllib3
from docker.errors import APIError, DockerException, StreamParseError

from service.errors import EngineError, EngineRefused, EngineUnavailable

FOREIGN_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    DockerException,
    StreamParseError,
    OSError,
)
"""Everything that docker-py lets through, APIError included."""

_FRAGMENTS = (
    ("address already in use", "port_taken"),
    ("port is already allocated", "port_taken"),
    ("no space left on device", "no_space"),
    ("max depth exceeded", "layer_limit"),
    ("no such container", "no_such_container"),
    ("no such image", "image_not_found"),
    ("no such volume", "no_such_volume"),
    ("is already in use by container", "name_taken"),
    ("is not running", "not_running"),
    ("volume is in use", "volume_in_use"),
    ("is using its referenced image", "image_in_use"),
    ("image is being used by", "image_in_use"),
    ("could not select device driver", "device_unavailable"),
    ("cdi device injection failed", "device_unavailable"),
    ("nvidia-container-cli", "device_unavailable"),
    ("invalid mount config", "mount_failed"),
    ("failed to mount local volume", "mount_failed"),
    ("error mounting", "mount_failed"),
    ('exec: "', "bad_command"),
)

_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "not_allowed",
    HTTPStatus.FORBIDDEN: "not_allowed",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.CONFLICT: "conflict",
}

# A proxy in front of the engine's socket says these when the engine itself is not there.
_GATEWAY = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def reason_of(text: str, status: int | None = None) -> str:
    """The stable word for Docker's text and HTTP status; `refused` when neither is known."""
    lowered = text.lower()
    for fragment, reason in _FRAGMENTS:
        if fragment in lowered:
            return reason
    if status is None:
        return "refused"
    return _BY_STATUS.get(HTTPStatus(status), "refused")


def map_error(error: BaseException) -> EngineError:
    """The error of ours that stands for one of FOREIGN_ERRORS."""
    if isinstance(error, APIError) and error.status_code not in _GATEWAY:
        text = str(error.explanation or error).strip()
        return EngineRefused(text, reason_of(text, error.status_code))
    return EngineUnavailable(f"Docker did not answer, is it running? ({error})")
