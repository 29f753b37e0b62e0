"""A thread for a call that may never come back, and that nobody can end: nobody waits for it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_daemon_thread(name: str, call: Callable[[], T]) -> Future[T]:
    """Begin a call. Not in a ThreadPoolExecutor: the interpreter joins its threads at exit, so a
    call that hangs would keep a stopping service alive."""
    future: Future[T] = Future()
    # Running from the start: nobody can cancel it, so it is done only when the thread is.
    future.set_running_or_notify_cancel()

    def body() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, name=name, daemon=True).start()
    return future
