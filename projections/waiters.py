"""Waiting for the projector to come to a sequence."""

import asyncio
import heapq
from itertools import count


class Waiters:
    """Those who wait for a sequence, the lowest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    async def wait(self, seq: int) -> None:
        """Return when the sequence was reached; raises what `fail` was given."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (seq, next(self._arrivals), future))
        await future

    def reached(self, seq: int) -> None:
        """Wake all who wait for this one, or one before it."""
        while self._heap and self._heap[0][0] <= seq:
            future = heapq.heappop(self._heap)[2]
            if not future.done():  # cancelled ones stay in the heap until their turn
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Wake all with an error."""
        for _, _, future in self._heap:
            if not future.done():
                future.set_exception(error)
        self._heap.clear()
