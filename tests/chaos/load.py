"""The load: clients that send commands, each in a thread, and note every answer that they got."""

import threading
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import httpx
from msgspec import Struct

from tests.chaos.asking import Asked, View, random_command

Verdict = Literal["acknowledged", "refused", "unanswered"]

ANSWER_S = 40.0
"""So long a client waits for an answer; no part of the service takes that long to refuse."""
TRIES_MAX = 20
REFRESH_EVERY = 2
LEDGER_UNAVAILABLE = 1105
"""The one code that says that nobody knows whether the command was stored."""


class Told(Struct):
    """What a client was told of one command. Its trace id is found again in the ledger."""

    trace_id: str
    asked: Asked
    key: bool
    """It was sent with an idempotency key, so it could be sent again after no answer."""
    tries: int = 0
    verdict: Verdict = "unanswered"
    operation_id: str = ""
    """Known of what was answered before its end, and of what failed."""
    ended: Literal["", "succeeded", "failed"] = ""
    said: str = ""
    """The last answer, for people."""


class Client:
    """Sends one command after the other until it is told to stop."""

    def __init__(self, number: int, seed: int, url: Callable[[], str]) -> None:
        self._number = number
        self._rng = Random(f"{seed}/client/{number}")
        self._url = url
        self._http = httpx.Client(timeout=ANSWER_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client-{number}")
        self._view = View()
        self.told: list[Told] = []

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more; what was sent is still waited for, see `join`."""
        self._stop.set()

    def join(self) -> None:
        """Return when the last answer is there, or its time is up."""
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            if len(self.told) % REFRESH_EVERY == 0:
                self._look()
            number = len(self.told)
            ticket = f"{self._number:02d}{number:06d}"
            asked = random_command(self._rng, self._view, ticket)
            told = Told(f"{int(ticket) + 1:032x}", asked, key=self._rng.random() < 0.7)
            self.told.append(told)
            self._send(told)
            self._stop.wait(self._rng.choice((0.0, 0.1, 0.3, 0.6)))

    def _send(self, told: Told) -> None:
        """Once; with a key again until there is an answer."""
        wait = self._rng.choice(("respond-async", "wait=1", "wait=4"))
        headers = {
            "Prefer": wait if told.key else "respond-async",
            "traceparent": f"00-{told.trace_id}-00000000000000aa-01",
            "Content-Type": "application/json",
        }
        if told.key:
            headers["Idempotency-Key"] = f"ticket-{told.trace_id}"
        while True:
            told.tries += 1
            try:
                answer = self._http.request(
                    told.asked.method,
                    f"{self._url()}/api/v1{told.asked.path}",
                    headers=headers,
                    content=told.asked.content,
                )
            except httpx.HTTPError as error:
                told.said = type(error).__name__
            else:
                _note(told, answer.status_code, answer.json())
            if told.verdict != "unanswered" or not told.key or told.tries == TRIES_MAX:
                return
            if self._stop.wait(0.25):
                return

    def _look(self) -> None:
        """See what there is; without an answer it is as it was."""
        try:
            sets = self._http.get(f"{self._url()}/api/v1/replicaSet").json()["data"]
            volumes = self._http.get(f"{self._url()}/api/v1/volumes").json()["data"]
        except httpx.HTTPError:
            return
        if "replicaSets" in sets and "volumes" in volumes:
            rows = sets["replicaSets"]
            self._view.phases = {row["name"]: row["phase"] for row in rows}
            self._view.versions = {row["name"]: row["version"] for row in rows}
            self._view.busy = {row["name"] for row in rows if row["operationId"]}
            self._view.volumes = {row["name"]: row["version"] for row in volumes["volumes"]}


def _note(told: Told, status: int, envelope: dict[str, Any]) -> None:
    data = envelope["data"] if isinstance(envelope["data"], dict) else {}
    told.said = f"{status} {envelope['code']} {envelope['msg']}"
    if status == httpx.codes.ACCEPTED:
        told.verdict, told.operation_id = "acknowledged", data["operationId"]
    elif status == httpx.codes.OK:
        told.verdict, told.ended = "acknowledged", "succeeded"
    elif operation_id := data.get("operationId"):
        told.verdict, told.ended, told.operation_id = "acknowledged", "failed", operation_id
    elif envelope["code"] != LEDGER_UNAVAILABLE:
        told.verdict = "refused"
