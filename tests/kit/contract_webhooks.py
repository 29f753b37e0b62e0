"""The contract server's routes for webhooks."""

from typing import Any

from aiohttp import web

from tests.kit.contract_gpus import ok
from tests.kit.contract_world import BODY, CREATED, Refused, World

ATTEMPT: dict[str, Any] = {
    "id": "17.0",
    "type": "container.exited.v1",
    "attempt": 2,
    "time": CREATED.isoformat(),
    "durationMs": 12.4,
    "status": 204,
    "error": "",
    "outcome": "delivered",
}
DEAD: dict[str, Any] = {
    "id": "9.1",
    "type": "container.exited.v1",
    "attempts": 10,
    "firstTime": CREATED.isoformat(),
    "deadTime": CREATED.isoformat(),
    "status": 500,
    "error": "HTTP 500: broken",
}
DELIVERY: dict[str, Any] = {
    "place": "17.0",
    "behind": 0,
    "pending": 0,
    "dead": 0,
    "nextTime": None,
    "last": None,
    "trouble": "",
}


class WebhookRoutes:
    """The handlers. A command is done at once."""

    def __init__(self, world: World) -> None:
        self.world = world

    def table(self) -> list[web.RouteDef]:
        """Every route with its handler."""
        one = "/api/v1/webhooks/{name}"
        return [
            web.get("/api/v1/webhooks", self.listing),
            web.post("/api/v1/webhooks", self.register),
            web.get(one, self.info),
            web.delete(one, self.remove),
            web.post(f"{one}/rotate", self.rotate),
            web.post(one + "/{verb:enable|disable}", self.switch),
            web.post(f"{one}/ping", self.ping),
            web.get(f"{one}/deliveries", self.deliveries),
            web.get(f"{one}/deadLetters", self.dead_letters),
            web.post(f"{one}/deadLetters/" + "{verb:redeliver|discard}", self.take_up),
        ]

    async def listing(self, request: web.Request) -> web.Response:
        return ok({"webhooks": list(self.world.webhooks.values())})

    async def register(self, request: web.Request) -> web.Response:
        body = request[BODY]
        name = body["webhookName"]
        if name in self.world.webhooks:
            raise Refused(409, 1123, f"there is a webhook {name} already")
        self.world.webhooks[name] = {
            "name": name,
            "url": body["url"],
            "events": {"kind": "", "name": "", "tenant": "", "types": [], **body.get("events", {})},
            "enabled": True,
            "disabledWhy": None,
            "createTime": CREATED.isoformat(),
            "createdBy": "ann",
            "seq": 5,
            "oldSecretUntilTime": None,
            "delivery": DELIVERY,
        }
        return self._secret(name)

    async def info(self, request: web.Request) -> web.Response:
        return ok(self._found(request))

    async def remove(self, request: web.Request) -> web.Response:
        del self.world.webhooks[self._found(request)["name"]]
        return ok(None)

    async def rotate(self, request: web.Request) -> web.Response:
        return self._secret(self._found(request)["name"])

    async def switch(self, request: web.Request) -> web.Response:
        enabled = request.match_info["verb"] == "enable"
        self._found(request)["enabled"] = enabled
        self._found(request)["disabledWhy"] = None if enabled else request[BODY]["why"]
        return ok(None)

    async def ping(self, request: web.Request) -> web.Response:
        self._found(request)
        return ok({**ATTEMPT, **self.world.ping})

    async def deliveries(self, request: web.Request) -> web.Response:
        self._found(request)
        return ok({"deliveries": self.world.attempts})

    async def dead_letters(self, request: web.Request) -> web.Response:
        self._found(request)
        return ok({"deadLetters": self.world.dead_letters})

    async def take_up(self, request: web.Request) -> web.Response:
        self._found(request)
        letters, ids = self.world.dead_letters, request[BODY]["ids"]
        left = [one for one in letters if ids and one["id"] not in ids]
        count = len(letters) - len(left)
        letters[:] = left
        return ok({"count": count})

    def _secret(self, name: str) -> web.Response:
        return ok({"name": name, "secret": f"whsec_{name}"})

    def _found(self, request: web.Request) -> dict[str, Any]:
        name = request.match_info["name"]
        if name not in self.world.webhooks:
            raise Refused(404, 1124, f"there is no webhook {name}")
        return self.world.webhooks[name]
