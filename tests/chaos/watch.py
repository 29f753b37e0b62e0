"""The watch: while all goes on, no two containers run with the same GPU at the same time."""

import threading
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from tests.chaos.faults import Fault

LOOK_EVERY_S = 0.3
TIMEOUT_S = 5


def gpus_of(inspected: dict[str, Any]) -> set[str]:
    """The GPUs that a container was given."""
    wanted = inspected["HostConfig"]["DeviceRequests"] or ()
    return {uuid for request in wanted for uuid in request["DeviceIDs"] or ()}


class Watch:
    """Asks the engine every moment which containers run, when it answers."""

    def __init__(self, url: str) -> None:
        self._client = docker.APIClient(base_url=url, timeout=TIMEOUT_S, version="auto")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.faults: set[Fault] = set()
        self.looks = 0
        """How often all running containers were seen."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._look()
            except (DockerException, requests.RequestException):
                continue  # the engine was killed or frozen: it is asked again

    def _look(self) -> None:
        running: list[dict[str, Any]] = []
        for row in self._client.containers():
            try:
                running.append(self._client.inspect_container(row["Id"]))
            except NotFound:
                continue
        running = [one for one in running if one["State"]["Running"]]
        self.looks += 1
        for number, first in enumerate(running):
            for second in running[number + 1 :]:
                shared = gpus_of(first) & gpus_of(second)
                # Seen one after the other: it counts when the first still ran after the second.
                if shared and self._still_runs(first):
                    names = " and ".join(one["Name"][1:] for one in (first, second))
                    text = f"{names} ran with {', '.join(sorted(shared))} at the same time"
                    self.faults.add(Fault("double lease", text))

    def _still_runs(self, seen: dict[str, Any]) -> bool:
        try:
            now = self._client.inspect_container(seen["Id"])
        except NotFound:
            return False
        started = [one["State"]["StartedAt"] for one in (seen, now)]
        return bool(now["State"]["Running"]) and started[0] == started[1]
