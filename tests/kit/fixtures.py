"""The fixtures that all tests share: a Docker engine, a stub driver, a watch over the loop."""

import asyncio
import asyncio.constants
import gc
import inspect
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from time import monotonic

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.nvml_stub import NvmlStub

SLOW_CALLBACK_S = 1.0
"""Long enough for what a test itself does on the loop, also while others use the disk."""

# Debug mode notes where each callback came from. One frame is enough to find it by, and ten, as by
# default, took a fifth of the time of all that such tests do.
asyncio.constants.DEBUG_STACK_DEPTH = 1  # type: ignore[misc]


@pytest.fixture(scope="session")
def root() -> None:
    """For a test that makes engines of its own: skip without root, and fail where CI=true."""
    if os.geteuid() != 0:
        reason = "a private Docker engine needs root: run the tests as root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def dockerd(root: None) -> Iterator[PrivateDockerd]:
    """A Docker engine of this worker's own, started when first asked for, with busybox:test.

    A test that kills it starts it again; one that needs a fresh engine makes its own.
    """
    with PrivateDockerd() as engine:
        engine.import_busybox_image()
        yield engine


@pytest.fixture(params=["docker", "simulated"])
def any_dockerd(request: pytest.FixtureRequest) -> PrivateDockerd | None:
    """A real one, and None for the simulated one. To start the real one takes too long for a
    loop, so it is done here."""
    return request.getfixturevalue("dockerd") if request.param == "docker" else None


@pytest.fixture
def nvml_stub(tmp_path: Path) -> NvmlStub:
    """A pretended NVIDIA driver with four GPUs, for processes that the test starts."""
    return NvmlStub(tmp_path / "nvml")


@pytest.fixture(autouse=True)
def never_block_the_loop(request: pytest.FixtureRequest) -> None:
    """Watch the loop of every test that is a coroutine; the others have no loop to block."""
    function = getattr(request.node, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_watched_loop")


@pytest.fixture
async def _watched_loop() -> AsyncIterator[None]:
    """Fail the test when one callback held the loop for SLOW_CALLBACK_S.

    What the garbage collector took of it does not count, which late in a run has a million objects
    to go through, nor what the thread waited for a processor.

    By code: PYTHONASYNCIODEBUG has no effect on the loops that pytest-asyncio makes.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = SLOW_CALLBACK_S
    watch = _SlowCallbacks()
    logger = logging.getLogger("asyncio")
    logger.addHandler(watch)
    gc.callbacks.append(watch.collecting)
    try:
        yield
    finally:
        gc.callbacks.remove(watch.collecting)
        logger.removeHandler(watch)
    if watch.seen:
        pytest.fail("the event loop was blocked: " + "; ".join(watch.seen), pytrace=False)


class _SlowCallbacks(logging.Handler):
    """Keeps what asyncio's debug mode says of callbacks that took too long."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.seen: list[str] = []
        self._collection_began_s = 0.0
        self._collected_s = 0.0
        self._excused_s = _awaited_processor_s()

    def collecting(self, phase: str, info: Mapping[str, int]) -> None:
        """Hears of the garbage collector's begin and end, in any thread: all stand still."""
        if phase == "start":
            self._collection_began_s = monotonic()
        else:
            self._collected_s += monotonic() - self._collection_began_s

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Executing ") and isinstance(record.args, tuple):
            excused_s = self._collected_s + _awaited_processor_s()
            # All of it since the last look: part of it may have been before the callback.
            took_s = float(str(record.args[1])) - (excused_s - self._excused_s)
            self._excused_s = excused_s
            if took_s >= SLOW_CALLBACK_S:
                self.seen.append(record.getMessage())


def _awaited_processor_s() -> float:
    """How long this thread was ready to run and did not, so far."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
