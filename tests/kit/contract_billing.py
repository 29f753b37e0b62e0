"""The contract server's routes for money: a usage that a test gives, prices, and closed months."""

from typing import Any

from aiohttp import web

from tests.kit.contract_gpus import ok
from tests.kit.contract_world import BODY, CREATED, Refused, World

LINE: dict[str, Any] = {
    "meter": "gpu",
    "unit": "GPU",
    "exact": "3600000000",
    "seconds": "3600.000000",
    "hours": "1.000000",
    "keptHours": "0.000000",
    "unpricedHours": "0.000000",
    "amount": "2.675000",
    "notes": {},
    "records": [[3, 17], [20, None]],
}
"""A line of a usage, but for its group."""


class BillingRoutes:
    """The handlers. A command is done at once, whether the caller wants to wait or not."""

    def __init__(self, world: World) -> None:
        self.world = world

    def table(self) -> list[web.RouteDef]:
        """Every route with its handler."""
        return [
            web.get("/api/v1/usage", self.usage),
            web.get("/api/v1/prices", self.prices),
            web.post("/api/v1/prices", self.set_price),
            web.get("/api/v1/months", self.months),
            web.get("/api/v1/months/{month}", self.month),
            web.post("/api/v1/months/{month}/close", self.close),
        ]

    async def usage(self, request: web.Request) -> web.Response:
        groups = [group for group in request.query["groupBy"].split(",") if group]
        lines = [{**line, "group": dict.fromkeys(groups, "lab")} for line in self.world.usage]
        return ok(
            {
                "begin": request.query.get("from", "2026-11-01T00:00:00Z"),
                "end": "2026-12-01T00:00:00Z",
                "untilSeq": 20,
                "groupBy": groups,
                "currency": "EUR" if lines else None,
                "total": "2.675000" if lines else None,
                "lines": lines,
            }
        )

    async def prices(self, request: web.Request) -> web.Response:
        return ok({"prices": self.world.prices})

    async def set_price(self, request: web.Request) -> web.Response:
        asked: dict[str, Any] = request[BODY]
        self.world.prices.append({"model": "*", "tenant": "", "seq": 9, **asked})
        return ok(None)

    async def months(self, request: web.Request) -> web.Response:
        return ok({"months": list(self.world.months.values())})

    async def month(self, request: web.Request) -> web.Response:
        summary = self.world.months.get(request.match_info["month"])
        if summary is None:
            raise Refused(404, 1121, "it was not closed")
        line = {k: LINE[k] for k in ("meter", "unit", "exact", "hours", "amount")}
        lines = [{**line, "tenant": "lab", "model": "H100"}]
        later = [{**lines[0], "hours": "2.000000"}] if self.world.month_differs else []
        found = [{"closed": lines[0], "now": now} for now in later]
        return ok({"month": summary, "lines": lines, "differences": found})

    async def close(self, request: web.Request) -> web.Response:
        month = request.match_info["month"]
        if month in self.world.months:
            raise Refused(409, 1120, f"{month} is closed")
        self.world.months[month] = {
            "month": month,
            "total": "2.675000",
            "currency": "EUR",
            "closedTime": CREATED.isoformat(),
            "closedBy": "ann",
            "seq": 21,
            "untilSeq": 20,
        }
        return ok({"month": month, "total": "2.675000", "currency": "EUR"})
