"""NvmlProbe in a child process, since the stub driver must be there when a process starts.

`ProbeInChild` is a DeviceProbe like any other: it asks the child over pipes, one line of JSON for
a question and one for its answer. Run as a module, this file is that child.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from service.adapters.nvml import NvmlProbe
from service.errors import DeviceProbeError
from service.ports import Gpu
from tests.kit.nvml_stub import NvmlStub

PROJECT = Path(__file__).parents[2]


class Answer(msgspec.Struct, frozen=True):
    """What the child sends back."""

    gpus: tuple[Gpu, ...] = ()
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

    async def leave(self) -> int:
        """Close the child's input, which ends it; return its exit code."""
        assert self._child is not None
        if self._child.stdin is not None:
            self._child.stdin.close()
        return await self._child.wait()

    async def gpus(self) -> tuple[Gpu, ...]:
        return (await self._ask("gpus")).gpus

    async def describe(self) -> str:
        return (await self._ask("describe")).line

    async def _ask(self, question: str) -> Answer:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{question}\n".encode())
        answer = msgspec.json.decode(await self._child.stdout.readline(), type=Answer)
        if answer.error is not None:
            raise DeviceProbeError(answer.error)
        return answer


async def _serve(timeout_s: float) -> None:
    probe = NvmlProbe(timeout_s)
    while question := await asyncio.to_thread(sys.stdin.readline):
        try:
            if question.strip() == "gpus":
                answer = Answer(gpus=await probe.gpus())
            else:
                answer = Answer(line=await probe.describe())
        except DeviceProbeError as error:
            answer = Answer(error=str(error))
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
