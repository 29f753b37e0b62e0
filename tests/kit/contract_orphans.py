"""The contract server's routes for orphans."""

from aiohttp import web

from tests.kit.contract_gpus import ok
from tests.kit.contract_world import CREATED, Refused, World


class OrphanRoutes:
    """The handlers. A removal is done at once."""

    def __init__(self, world: World) -> None:
        self.world = world

    def table(self) -> list[web.RouteDef]:
        """Every route with its handler."""
        return [
            web.get("/api/v1/orphans", self.listing),
            web.delete("/api/v1/orphans/{id}", self.remove),
        ]

    async def listing(self, request: web.Request) -> web.Response:
        default = {"why": "unknown", "sizeBytes": None, "sinceTime": CREATED.isoformat()}
        return ok({"orphans": [{**default, **one} for one in self.world.orphans], "unseen": []})

    async def remove(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        for orphan in self.world.orphans:
            if orphan["id"] == wanted:
                self.world.orphans.remove(orphan)
                return ok({"kind": orphan["kind"], "name": orphan["name"]})
        raise Refused(404, 1117, f"there is no orphan {wanted}")
