"""DockerEngine: the container engine on docker-py's low-level client.

docker-py blocks, so every call runs in a thread of one of three bounded pools, and none can
starve another: `quick` (questions), `slow` (whatever changes something, a stop may take as long
as its timeout) and `streams` (pull and exec, which end when they end). Only the stream of events
needs no thread: see docker_events.

Containers and volumes that another owner made are left alone: every call that would change one
looks at its owner label first, and goes on by id, not by name.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

import docker
import requests
from docker.errors import APIError, NotFound
from docker.utils import parse_repository_tag

from events.labels import LABEL_OWNER
from service.adapters import docker_objects as objects
from service.adapters import docker_squash, docker_streams
from service.adapters.docker_connection import DockerConnection
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.adapters.docker_events import EngineEvents
from service.adapters.docker_info import engine_info
from service.adapters.docker_start import require_command
from service.errors import EngineRefused, EngineUnavailable
from service.ports import (
    EngineInfo,
    ExecOutcome,
    ImageInfo,
    ObservedContainer,
    Progress,
)

PING_TIMEOUT_S = 2.0
COMMIT_TIMEOUT_S = 3600.0
"""A commit copies the system disk, at 0.3 to 0.6 GB/s: an hour is over 1 TB."""

T = TypeVar("T")


class DockerEngine:
    """The port `ContainerEngine` on a Docker engine, API 1.41 (Docker 20.10) and later.

    `base_url` as docker-py takes it; None is the local socket. `owner` is what the owner label
    of our objects says. Nothing is connected until the first call. Thread counts are per pool.
    """

    def __init__(
        self,
        base_url: str | None,
        *,
        owner: str,
        pool_size: int = 16,
        timeout_s: float = 60.0,
    ) -> None:
        self._owner = owner
        self._connection = DockerConnection(base_url, timeout_s, pool_size * 3)
        self._quick = ThreadPoolExecutor(pool_size, "docker-quick")
        self._slow = ThreadPoolExecutor(pool_size, "docker-slow")
        self._streams = ThreadPoolExecutor(pool_size, "docker-streams")
        self._listening: set[docker_streams.Listening] = set()
        self._events = EngineEvents(base_url, owner=owner)

    async def close(self) -> None:
        """Stop listening to streams and let go of the connections; calls under way may finish."""
        for listening in tuple(self._listening):
            listening.close()
        self._events.close()
        for pool in (self._quick, self._slow, self._streams):
            pool.shutdown(wait=False, cancel_futures=True)
        self._connection.forget()

    async def info(self) -> EngineInfo:
        def call(client: docker.APIClient) -> EngineInfo:
            return engine_info(client.info(), client.api_version, local=self._connection.local)

        return await self._run(self._quick, call)

    async def ping(self) -> None:
        def call(client: docker.APIClient) -> None:
            client.get(f"{client.base_url}/_ping", timeout=PING_TIMEOUT_S).raise_for_status()

        try:
            # The first call negotiates too, and the pool may be full of calls that hang.
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._run(self._quick, call)
        except TimeoutError as error:
            raise EngineUnavailable(f"Docker did not answer in {PING_TIMEOUT_S:g} s") from error

    async def inspect_image(self, image: str) -> ImageInfo | None:
        return await self._run(self._quick, lambda client: objects.image_or_none(client, image))

    async def pull_image(self, image: str, on_progress: Callable[[Progress], None]) -> ImageInfo:
        loop = asyncio.get_running_loop()

        def progress(moved: Progress) -> None:
            loop.call_soon_threadsafe(on_progress, moved)

        def call(client: docker.APIClient, listening: docker_streams.Listening) -> ImageInfo:
            docker_streams.pull(client, image, progress, listening)
            info = objects.image_or_none(client, image)
            if info is None:
                raise EngineRefused(
                    f"image {image} was fetched, but is not there", "image_not_found"
                )
            return info

        return await self._listen(call)

    async def refusal_of_pull(self, image: str) -> str | None:
        return await self._run(self._slow, lambda client: objects.refusal_of_pull(client, image))

    async def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        return await self._run(self._slow, lambda client: objects.create(client, name, config))

    async def start_container(self, name: str) -> str:
        def call(client: docker.APIClient) -> str:
            seen = self._ours(client, name)
            state = seen["State"]
            if not state["Running"]:
                client.start(seen["Id"])
                state = require_command(client, seen["Id"])
            return objects.instant(state["StartedAt"])

        return await self._run(self._slow, call)

    async def stop_container(self, name: str, timeout_s: int) -> ObservedContainer | None:
        def call(client: docker.APIClient) -> ObservedContainer | None:
            seen = self._ours_or_none(client, name)
            if seen is None:
                return None
            try:
                client.stop(seen["Id"], timeout=timeout_s)
            except NotFound:
                return None
            seen = objects.inspect(client, seen["Id"])
            return None if seen is None else objects.observed(seen)

        return await self._run(self._slow, call)

    async def remove_container(self, name: str) -> None:
        """Its anonymous volumes go with it; a running container is killed."""

        def call(client: docker.APIClient) -> None:
            seen = self._ours_or_none(client, name)
            if seen is None:
                return
            try:
                client.remove_container(seen["Id"], v=True, force=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != requests.codes.conflict:
                    raise
                # "removal already in progress": somebody else began it, so see it through.
                objects.await_removal(client, seen["Id"])

        await self._run(self._slow, call)

    async def inspect_container(self, name: str) -> ObservedContainer | None:
        def call(client: docker.APIClient) -> ObservedContainer | None:
            seen = objects.inspect(client, name)
            return None if seen is None else objects.observed(seen)

        return await self._run(self._quick, call)

    async def list_containers(self, labels: Mapping[str, str]) -> tuple[ObservedContainer, ...]:
        def call(client: docker.APIClient) -> tuple[ObservedContainer, ...]:
            # The list lacks exit codes and start times, hence a look at each (0.5 ms).
            listed = client.containers(all=True, filters=objects.label_filter(labels))
            seen = (objects.inspect(client, entry["Id"]) for entry in listed)
            return tuple(objects.observed(one) for one in seen if one is not None)

        return await self._run(self._quick, call)

    def changes(self) -> AsyncGenerator[str, None]:
        """On connections of its own, without a thread."""
        return self._events.changes()

    async def update_container(self, name: str, resources: Mapping[str, Any]) -> None:
        def call(client: docker.APIClient) -> None:
            # docker-py's own method cannot send NanoCpus.
            container_id = quote(self._ours(client, name)["Id"])
            objects.post(
                client, f"/containers/{container_id}/update", resources, {}, client.timeout
            )

        await self._run(self._slow, call)

    async def rename_container(self, name: str, new_name: str) -> None:
        def call(client: docker.APIClient) -> None:
            seen = self._ours_or_none(client, name)
            if seen is None:
                there = objects.inspect(client, new_name)
                labels = there["Config"].get("Labels") if there else None
                if (labels or {}).get(LABEL_OWNER) != self._owner:
                    raise EngineRefused(f"No such container: {name}", "no_such_container")
            elif objects.observed(seen).name != new_name:
                client.rename(seen["Id"], new_name)

        await self._run(self._slow, call)

    async def commit_container(
        self, name: str, image: str, labels: Mapping[str, str], *, pause: bool
    ) -> ImageInfo:
        def call(client: docker.APIClient) -> ImageInfo:
            repository, tag = parse_repository_tag(image)
            params = {
                "container": self._ours(client, name)["Id"],
                "repo": repository,
                "tag": tag,
                "pause": int(pause),
            }
            # A commit can overwrite labels, never drop them: the caller sends them all.
            body = {"Labels": dict(labels)}
            image_id = objects.post(client, "/commit", body, params, COMMIT_TIMEOUT_S)["Id"]
            return objects.image_info(client.inspect_image(image_id))

        return await self._run(self._slow, call)

    async def tag_image(self, image: str, name: str) -> ImageInfo:
        def call(client: docker.APIClient) -> ImageInfo:
            repository, tag = parse_repository_tag(objects.require_image_name(name))
            client.tag(objects.require_image_name(image), repository, tag)
            return objects.image_info(client.inspect_image(name))

        return await self._run(self._slow, call)

    async def squash_image(self, image: str, base: str) -> ImageInfo:
        """Needs free space in the temporary folder for what is above `base`, twice."""
        return await self._listen(
            lambda client, listening: docker_squash.squash(client, image, base, listening)
        )

    async def remove_image(self, image: str) -> None:
        def call(client: docker.APIClient) -> None:
            try:
                client.remove_image(objects.require_image_name(image))
            except NotFound:
                return

        await self._run(self._slow, call)

    async def list_images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        def call(client: docker.APIClient) -> tuple[ImageInfo, ...]:
            listed = client.images(filters=objects.label_filter(labels))
            seen = (objects.image_or_none(client, entry["Id"]) for entry in listed)
            return tuple(image for image in seen if image is not None and image.tags)

        return await self._run(self._quick, call)

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        """A missing program is an outcome: exit code 126 or 127 and Docker's words on stdout.

        `output_bytes_max` bounds stdout and stderr each. A caller who gives up ends the
        reading; the command in the container goes on.
        """

        def call(client: docker.APIClient, listening: docker_streams.Listening) -> ExecOutcome:
            container_id = self._ours(client, name)["Id"]
            return docker_streams.execute(
                client, container_id, cmd, work_dir, output_bytes_max, listening
            )

        return await self._listen(call)

    async def create_volume(
        self, name: str, options: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        def call(client: docker.APIClient) -> None:
            # Docker answers 201 and the old volume when the name is taken.
            made = client.create_volume(name, "local", dict(options), dict(labels))
            if not objects.same_origin(made.get("Labels"), labels):
                raise EngineRefused(
                    f"volume {name} exists already and was made by somebody else", "name_taken"
                )

        await self._run(self._slow, call)

    async def remove_volume(self, name: str) -> None:
        def call(client: docker.APIClient) -> None:
            try:
                seen = client.inspect_volume(name)
                self._require_ours(f"volume {name}", seen.get("Labels"))
                client.remove_volume(name)
            except NotFound:
                return

        await self._run(self._slow, call)

    async def list_volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        def call(client: docker.APIClient) -> tuple[str, ...]:
            listed = client.volumes(filters=objects.label_filter(labels))["Volumes"] or ()
            return tuple(sorted(volume["Name"] for volume in listed))

        return await self._run(self._quick, call)

    def _ours(self, client: docker.APIClient, name: str) -> dict[str, Any]:
        seen = self._ours_or_none(client, name)
        if seen is None:
            raise EngineRefused(f"No such container: {name}", "no_such_container")
        return seen

    def _ours_or_none(self, client: docker.APIClient, name: str) -> dict[str, Any] | None:
        seen = objects.inspect(client, name)
        if seen is not None:
            self._require_ours(f"container {name}", seen["Config"].get("Labels"))
        return seen

    def _require_ours(self, what: str, labels: Mapping[str, str] | None) -> None:
        if (labels or {}).get(LABEL_OWNER) != self._owner:
            raise EngineRefused(
                f"{what} does not belong to this installation: its label {LABEL_OWNER} is not"
                f" {self._owner!r}. It was left alone.",
                "not_ours",
            )

    async def _listen(self, call: Callable[[docker.APIClient, docker_streams.Listening], T]) -> T:
        listening = docker_streams.Listening()
        self._listening.add(listening)
        try:
            return await self._run(self._streams, lambda client: call(client, listening))
        finally:
            # Also when the caller was cancelled: the thread must not go on waiting.
            listening.close()
            self._listening.discard(listening)

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[docker.APIClient], T]) -> T:
        def work() -> T:
            try:
                return call(self._connection.client())
            except FOREIGN_ERRORS as foreign:
                error = map_error(foreign)
                if isinstance(error, EngineUnavailable):
                    self._connection.forget()
                raise error from foreign

        return await asyncio.get_running_loop().run_in_executor(pool, work)
