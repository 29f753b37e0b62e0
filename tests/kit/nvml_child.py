"""NvmlProbe in a child process, since the stub driver must be there when a process starts.

`ProbeInChild` is a DeviceProbe like any other: it asks the child over pipes, one line of JSON for
a question and one for its answer. Run as a module, this file is that child.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from service.adapters.nvml import NvmlProbe
from service.errors import DeviceProbeError
from service.ports import GpuError, GpuHealth
from tests.kit.nvml_stub import NvmlStub

PROJECT = Path(__file__).parents[2]


class Answer(msgspec.Struct, frozen=True):
    """What the child sends back."""

    health: GpuHealth = GpuHealth()
    errors: tuple[GpuError, ...] = ()
    line: str = ""
    error: str | None = None


class ProbeInChild:
    """DeviceProbe that asks a real NvmlProbe, which asks the stub."""

    def __init__(self, stub: NvmlStub, timeout_s: float = 10.0) -> None:
        self._env = {**os.environ, **stub.env}
        self._timeout_s = timeout_s
        self._child: Process | None = None

    async def __aenter__(self) -> Self:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            str(self._timeout_s),
            stdin=PIPE,
            stdout=PIPE,
            cwd=PROJECT,
            env=self._env,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        code = await self.leave()
        assert code == 0, f"the child ended with {code}"

    @property
    def pid(self) -> int:
        """Of the child."""
        assert self._child is not None
        return self._child.pid

    async def leave(self) -> int:
        """Close the child's input, which ends it; return its exit code."""
        assert self._child is not None
        if self._child.stdin is not None:
            self._child.stdin.close()
        return await self._child.wait()

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        return (await self._ask("health", let_go)).health

    async def errors(self) -> tuple[GpuError, ...]:
        return (await self._ask("errors")).errors

    async def describe(self) -> str:
        return (await self._ask("describe")).line

    async def close(self) -> None:
        await self._ask("close")

    async def _ask(self, question: str, let_go: Collection[str] = ()) -> Answer:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{' '.join([question, *let_go])}\n".encode())
        answer = msgspec.json.decode(await self._child.stdout.readline(), type=Answer)
        if answer.error is not None:
            raise DeviceProbeError(answer.error)
        return answer


async def _serve(timeout_s: float) -> None:
    probe = NvmlProbe(timeout_s)
    while question := await asyncio.to_thread(sys.stdin.readline):
        try:
            match question.split():
                case ["health", *let_go]:
                    answer = Answer(health=await probe.health(let_go))
                case ["errors"]:
                    answer = Answer(errors=await probe.errors())
                case ["close"]:
                    await probe.close()
                    answer = Answer()
                case _:
                    answer = Answer(line=await probe.describe())
        except DeviceProbeError as error:
            answer = Answer(error=str(error))
        print(msgspec.json.encode(answer).decode(), flush=True)
    await probe.close()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
