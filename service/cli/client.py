"""The REST API over httpx: envelopes opened, foreign errors mapped, lost replies asked for again.

A command carries an Idempotency-Key, so sending it again after a lost reply is the same command
once, whatever had become of the first sending.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import httpx
import msgspec
from msgspec import Struct

from service.cli.addresses import url_of
from service.cli.failures import CliFailure, NotFound, Unreachable

RETRY_DELAYS_S = (0.1, 0.5, 1.0)
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
SILENCE_S = 45.0
"""On a stream something comes every fifteen seconds, if only that there is nothing."""
SLOW_DOWNS_MAX = 5
SLOW_DOWN_S_MAX = 10

_SUCCESS = 200
_ACCEPTED = 202
_REFUSAL_ID = "X-Refusal-Id"
_FAILURES: dict[int, type[CliFailure]] = {
    httpx.codes.NOT_FOUND: NotFound,
    httpx.codes.SERVICE_UNAVAILABLE: Unreachable,
}


class Answer(Struct, frozen=True):
    """What the service answered: the envelope's `data`, and whether it is only a receipt."""

    data: dict[str, Any] | None
    accepted: bool
    """True for 202: the command is stored, its outcome is still to come."""
    message: str
    """What the service has to say about it."""


class _Envelope(Struct, frozen=True):
    code: int
    msg: str = ""
    data: dict[str, Any] | None = None


class Api:
    """One service, at one address. Raises CliFailure, Unreachable and NotFound."""

    def __init__(
        self,
        server: str,
        new_key: Callable[[], str],
        token: str | None = None,
        trusted: Callable[[], ssl.SSLContext | bool] = lambda: True,
        at: str | None = None,
    ) -> None:
        """`trusted` says by whom the certificate of an https server must be signed; `at` is the
        point of the past that reads are about."""
        self.server = url_of(server)
        self._past = {} if at is None else {"at": at}
        self._new_key = new_key
        self._http = httpx.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # Loading the certificates costs tens of milliseconds; http has no use for them.
            verify=trusted() if self.server.startswith("https:") else False,
            # A proxy for the internet is no way to a service on this or a neighbouring host.
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def get(self, path: str, *, patient: bool = False, **query: str) -> dict[str, Any]:
        """The `data` of a read; `patient` waits for it, however long that takes."""
        read_timeout_s = None if patient else READ_TIMEOUT_S
        timeout = httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S)
        params = {**query, **self._past}
        request = self._http.build_request("GET", path, params=params, timeout=timeout)
        return self._answer(request).data or {}

    def command(
        self, method: str, path: str, body: dict[str, Any] | None, *, wait: bool = False
    ) -> Answer:
        """Send a command. With `wait` the service answers when it has ended, however long."""
        headers = {"Idempotency-Key": self._new_key()}
        if not wait:
            headers["Prefer"] = "respond-async"
        read_timeout_s = None if wait else READ_TIMEOUT_S
        timeout = httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S)
        return self._answer(
            self._http.build_request(method, path, json=body, headers=headers, timeout=timeout)
        )

    def listen(self, path: str, last_id: str | None, query: dict[str, str]) -> Iterator[str]:
        """The lines of an answer that goes on, after an event; Unreachable when it breaks off."""
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            with self._http.stream(
                "GET", path, params=query, headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    response.read()
                    self._opened(response)
                yield from response.iter_lines()
        except httpx.TransportError as error:
            raise Unreachable(f"the connection to {self.server} was lost: {error}") from None

    def _answer(self, request: httpx.Request) -> Answer:
        response = self._let_in(request)
        envelope = self._opened(response)
        return Answer(envelope.data, response.status_code == _ACCEPTED, envelope.msg)

    def _opened(self, response: httpx.Response) -> _Envelope:
        """The envelope of a success. Raises CliFailure, Unreachable and NotFound."""
        try:
            envelope = msgspec.json.decode(response.content, type=_Envelope)
        except msgspec.DecodeError:
            raise Unreachable(
                f"what answers at {self.server} is no gpuledger (HTTP {response.status_code})"
            ) from None
        if response.is_error or envelope.code != _SUCCESS:
            raise _refusal(response, envelope)
        return envelope

    def _let_in(self, request: httpx.Request) -> httpx.Response:
        """Send it, and again when the service wants us to slow down: nothing was done yet."""
        response = self._send(request)
        for _ in range(SLOW_DOWNS_MAX):
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(_retry_after_s(response))
            response = self._send(request)
        return response

    def _send(self, request: httpx.Request) -> httpx.Response:
        reply_lost = False
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                return self._http.send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise Unreachable(
                        f"the certificate of {self.server} is not trusted ({error}); if it is the"
                        " right one, name who signed it with --ca-cert"
                    ) from None
                if "SSL" in str(error):
                    raise Unreachable(
                        f"{self.server} cannot be reached by https ({error}); does it serve http?"
                    ) from None
                # At first: nobody is there. After a lost reply: it may be starting again.
                if not reply_lost:
                    raise Unreachable(
                        f"no gpuledger at {self.server}; start it with: gpuledger serve"
                    ) from None
            except httpx.TransportError:
                reply_lost = True
            if delay_s is not None:
                time.sleep(delay_s)
        raise Unreachable(f"gpuledger at {self.server} does not answer any more")


def _retry_after_s(response: httpx.Response) -> int:
    text = response.headers.get("Retry-After", "")
    return min(int(text), SLOW_DOWN_S_MAX) if text.isdecimal() else 1


def _refusal(response: httpx.Response, envelope: _Envelope) -> CliFailure:
    """What the service said no with; where the audit has it, with how to ask why."""
    text = f"{envelope.msg} (code {envelope.code})"
    refusal_id = response.headers.get(_REFUSAL_ID)
    if refusal_id is not None:
        text = f"{text}; why: gpuledger explain refusal {refusal_id}"
    said = {"code": envelope.code, "message": envelope.msg, "refusal": refusal_id}
    kind = _FAILURES.get(response.status_code, CliFailure)
    return kind(text, {"error": said})
