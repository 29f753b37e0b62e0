"""The contract server's routes for GPUs: who has which, and which are in quarantine."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.kit.contract_world import BODY, CREATED, ENVELOPE, GPUS, Refused, World, uuid_of


def ok(data: Any, status: int = 200) -> web.Response:
    """A success in its envelope."""
    response = web.Response(status=status)
    response[ENVELOPE] = {"code": 200, "msg": "success", "data": data}
    return response


class GpuRoutes:
    """The handlers. A quarantine is done at once, whether the caller wants to wait or not."""

    def __init__(self, world: World, holder_of: Callable[[str], str | None]) -> None:
        self.world = world
        self._holder_of = holder_of

    def table(self) -> list[web.RouteDef]:
        """Every route with its handler."""
        one = "/api/v1/resources/gpus/{uuid}/quarantine"
        return [
            web.get("/api/v1/resources/gpus", self.gpus),
            web.post(one, self.quarantine),
            web.delete(one, self.restore),
        ]

    async def gpus(self, request: web.Request) -> web.Response:
        details = [self._detail(index) for index in range(GPUS)]
        used = {d["uuid"]: int(bool(d["holder"] or d["why"])) for d in details}
        return ok({"gpus": used, "details": details})

    async def quarantine(self, request: web.Request) -> web.Response:
        self.world.quarantined[self._uuid(request, 1115)] = request[BODY]["why"]
        return ok(None)

    async def restore(self, request: web.Request) -> web.Response:
        self.world.quarantined.pop(self._uuid(request, 1116), None)
        return ok(None)

    def _uuid(self, request: web.Request, code: int) -> str:
        uuid = request.match_info["uuid"]
        if uuid not in map(uuid_of, range(GPUS)):
            raise Refused(404, code, f"there is no GPU {uuid}")
        return uuid

    def _detail(self, index: int) -> dict[str, Any]:
        uuid = uuid_of(index)
        why = self.world.quarantined.get(uuid, "")
        detail = {
            "uuid": uuid,
            "index": index,
            "name": "Simulated GPU" if self.world.simulated else "NVIDIA H100",
            "memoryBytes": 80 << 30,
            "present": True,
            "holder": self._holder_of(uuid),
            "simulated": self.world.simulated,
            "health": "healthy",
            "ailments": [],
            "quarantine": "hand" if why else "nobody",
            "why": why,
            "since": CREATED.isoformat() if why else None,
            "occupants": [],
        }
        return detail | self.world.gpus_shown.get(uuid, {})
