"""A client of a published port: it asks every few milliseconds and notes when it was answered.

A connection alone proves nothing, since docker-proxy takes it before there is anybody to pass it
to; so what counts is an answer.
"""

import socket
import threading
from itertools import pairwise
from time import perf_counter
from types import TracebackType
from typing import Self

POLL_S = 0.005
ATTEMPT_S = 0.25
"""An attempt that takes longer is given up: docker-proxy may hold it while nobody is there."""

ANSWER_TIMEOUT_S = 30.0


class PortWatch:
    """Watches one port of this host while entered; it must be answering by then, or soon.

    Raises TimeoutError when nobody answers for ANSWER_TIMEOUT_S before or after.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: list[float] = []
        self._answered = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._await_answer()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._await_answer()
        finally:
            self._end()

    @property
    def downtime_s(self) -> float:
        """The longest time between two answers that followed one another."""
        return max(after - before for before, after in pairwise(self._answers))

    def _await_answer(self) -> None:
        """Return when an answer came to what was asked from now on."""
        begun = perf_counter()
        with self._answered:
            seen = self._answered.wait_for(
                lambda: bool(self._answers) and self._answers[-1] > begun + ATTEMPT_S,
                ANSWER_TIMEOUT_S,
            )
        if not seen:
            raise TimeoutError(f"port {self._port} gave no answer in {ANSWER_TIMEOUT_S:g} s")

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            if self._is_answered():
                with self._answered:
                    self._answers.append(perf_counter())
                    self._answered.notify_all()

    def _is_answered(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), ATTEMPT_S) as connection:
                connection.settimeout(ATTEMPT_S)
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return bool(connection.recv(1))
        except OSError:
            return False
