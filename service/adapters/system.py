"""The system's clock, and ids that never come twice."""

import asyncio
import time
from random import Random


class SystemClock:
    """Implements the Clock port."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds since some instant; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without holding anything up."""
        await asyncio.sleep(seconds)


class TimedIds:
    """Implements the Ids port with UUIDv7 (RFC 9562): 48 bits of milliseconds, then chance.

    Nothing is to be had by guessing one: they are no secrets, so the chance needs no system call.
    """

    def __init__(self) -> None:
        self._random = Random()

    def new(self) -> str:
        """An id that sorts after those made earlier."""
        milliseconds = time.time_ns() // 1_000_000
        chance = self._random.getrandbits(74)
        high = chance >> 62
        low = chance & ((1 << 62) - 1)
        number = milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
