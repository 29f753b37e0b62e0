"""Docker's objects: how they are asked for and what their bodies mean to us. Everything blocks."""

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, Any

import docker
import requests
from docker.errors import APIError, NotFound, create_api_error_from_http_exception

from events.labels import LABEL_EFFECT, LABEL_OWNER
from events.values import is_image
from service.adapters.docker_errors import reason_of
from service.errors import EngineRefused, EngineUnavailable
from service.ports import ImageInfo, ObservedContainer

CREATE_ATTEMPTS_MAX = 3
"""Each attempt finds the name taken by a container that is gone when looked at."""

REMOVAL_TIMEOUT_S = 60.0
"""How long a removal that somebody else has begun may take."""

_GO_MODE_DIR = 1 << 31
"""Go's fs.ModeDir."""

NEVER = "0001-01-01T00:00:00Z"
"""Docker's way of writing that something has not happened."""


def post(
    client: docker.APIClient,
    path: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    timeout_s: float,
) -> dict[str, Any]:
    """POST to the negotiated version of the API where docker-py's own method falls short."""
    response = client.post(_url(client, path), json=dict(body), params=params, timeout=timeout_s)
    _require_success(response)
    answer: dict[str, Any] = response.json()
    return answer


def post_stream(client: docker.APIClient, path: str, body: Mapping[str, Any]) -> requests.Response:
    """POST whose answer is read as it comes, however slowly; the caller closes it."""
    response: requests.Response = client.post(
        _url(client, path), json=dict(body), stream=True, timeout=(client.timeout, None)
    )
    _require_success(response)
    return response


def get_stream(
    client: docker.APIClient, path: str, params: Mapping[str, Any], timeout_s: float
) -> requests.Response:
    """GET whose answer is read as it comes, no piece later than `timeout_s` after another.

    The caller closes it.
    """
    response: requests.Response = client.get(
        _url(client, path), params=params, stream=True, timeout=(client.timeout, timeout_s)
    )
    _require_success(response)
    return response


def load_image(client: docker.APIClient, archive: IO[bytes], timeout_s: float) -> None:
    """Load what `docker save` would have written. Raises EngineRefused with Docker's words."""
    headers = {"Content-Type": "application/x-tar"}
    with client.post(
        _url(client, "/images/load"),
        data=archive,
        params={"quiet": 1},
        headers=headers,
        stream=True,
        timeout=(client.timeout, timeout_s),
    ) as response:
        _require_success(response)
        for line in response.iter_lines():
            words = json.loads(line).get("error") if line else None
            if words:
                raise EngineRefused(str(words), reason_of(str(words)))


def _url(client: docker.APIClient, path: str) -> str:
    return f"{client.base_url}/v{client.api_version}{path}"


def _require_success(response: requests.Response) -> None:
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        create_api_error_from_http_exception(error)


def inspect(client: docker.APIClient, name: str) -> dict[str, Any] | None:
    """The body of a container by name or id; None when there is none."""
    try:
        seen: dict[str, Any] = client.inspect_container(name)
    except NotFound:
        return None
    return seen


def create(client: docker.APIClient, name: str, config: Mapping[str, Any]) -> str:
    """Make a container, or adopt the one that the same effect made; its id.

    Raises docker-py's own errors, and EngineUnavailable when the name is neither free nor taken.
    """
    for _ in range(CREATE_ATTEMPTS_MAX):
        try:
            return str(client.create_container_from_config(dict(config), name)["Id"])
        except APIError as error:
            if error.status_code != requests.codes.conflict:
                raise
            seen = inspect(client, name)
            if seen is None:
                continue
            if not same_origin(seen["Config"].get("Labels"), config.get("Labels") or {}):
                raise
            if seen["State"]["Status"] not in ("removing", "dead"):
                return str(seen["Id"])
            await_removal(client, seen["Id"])
    raise EngineUnavailable(f"the container name {name} is taken and free by turns")


def await_removal(client: docker.APIClient, container_id: str) -> None:
    """Return when the container is gone; docker-py's timeout error when that takes too long."""
    try:
        client.wait(container_id, timeout=REMOVAL_TIMEOUT_S, condition="removed")
    except NotFound:
        return


def is_folder(client: docker.APIClient, container_id: str, path: str) -> bool:
    """Is there a directory in a container, running or not? No symbolic link is followed."""
    response = client.head(
        _url(client, f"/containers/{container_id}/archive"),
        params={"path": path},
        timeout=client.timeout,
    )
    if response.status_code == HTTPStatus.NOT_FOUND:
        return False
    _require_success(response)
    seen = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
    return bool(seen["mode"] & _GO_MODE_DIR)


def require_image_name(image: str) -> str:
    """What may be put into a path of the engine's API as an image. Raises EngineRefused.

    With ".." in it a path leads to something else: a record of before 0.6.0 may hold such a name.
    """
    if not is_image(image):
        raise EngineRefused(f"{image!r} is no image reference", "image_not_found")
    return image


def image_or_none(client: docker.APIClient, image: str) -> ImageInfo | None:
    """An image by reference or id, as it is in the engine; nothing is fetched."""
    try:
        return image_info(client.inspect_image(require_image_name(image)))
    except NotFound:
        return None


def image_info(seen: Mapping[str, Any]) -> ImageInfo:
    """From the body of GET /images/{name}/json."""
    config = seen.get("Config") or {}
    return ImageInfo(
        id=seen["Id"],
        tags=tuple(seen.get("RepoTags") or ()),
        size_bytes=seen.get("Size", 0),
        env=tuple(config.get("Env") or ()),
        labels=config.get("Labels") or {},
        cmd=tuple(config.get("Cmd") or ()),
        layers=len(diff_ids(seen)),
    )


def diff_ids(seen: Mapping[str, Any]) -> list[str]:
    """The digests of an image's layers, the lowest first, from the same body."""
    return list((seen.get("RootFS") or {}).get("Layers") or ())


def observed(seen: Mapping[str, Any]) -> ObservedContainer:
    """From the body of GET /containers/{id}/json."""
    state = seen["State"]
    return ObservedContainer(
        id=seen["Id"],
        name=seen["Name"].lstrip("/"),
        status=state["Status"],
        labels=seen["Config"].get("Labels") or {},
        exit_code=state["ExitCode"],
        error=state.get("Error") or "",
        started_at=instant(state["StartedAt"]),
        finished_at=instant(state["FinishedAt"]),
        image_id=seen["Image"],
        oom_killed=bool(state.get("OOMKilled")),
    )


def instant(text: str) -> str:
    """Docker's RFC 3339 text, empty for what never happened."""
    return "" if text == NEVER else text


def label_filter(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The list filter for objects that carry all these labels."""
    return {"label": [f"{key}={value}" for key, value in labels.items()]}


def same_origin(there: Mapping[str, str] | None, wanted: Mapping[str, str]) -> bool:
    """Was it made by the same effect of the same owner? Then it is what a crash left of ours."""
    there = there or {}
    return LABEL_OWNER in wanted and all(
        there.get(key) == wanted.get(key) for key in (LABEL_OWNER, LABEL_EFFECT)
    )


def refusal_of_pull(client: docker.APIClient, image: str) -> str | None:
    """Why a registry would not give an image, in its own words; None when it would."""
    try:
        client.inspect_distribution(require_image_name(image))
    except APIError as error:
        return str(error.explanation or error).strip()
    return None
