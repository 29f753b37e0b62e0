"""The application: one table of routes, for the routing and for the OpenAPI document alike."""

import asyncio
from functools import cache
from importlib.metadata import version

import msgspec
from aiohttp import web
from msgspec import Struct

from events import asyncapi
from service.web import (
    audit,
    billing,
    changes,
    event_stream,
    explain,
    gpu_quarantine,
    health,
    operations,
    orphans,
    replica_sets,
    resources,
    revisions,
    volumes,
    webhooks,
)
from service.web.context import CONTEXT, WebContext
from service.web.docs_page import render
from service.web.envelope import CONTENT_TYPE
from service.web.middleware import BODY_BYTES_MAX, NEEDS, STREAMS, edge
from service.web.openapi import document
from service.web.past import BY_PATTERN
from service.web.routes import API, Route

ROUTES: tuple[Route, ...] = (
    *replica_sets.ROUTES,
    *revisions.ROUTES,
    *volumes.ROUTES,
    *resources.ROUTES,
    *gpu_quarantine.ROUTES,
    *orphans.ROUTES,
    *billing.ROUTES,
    *operations.ROUTES,
    *event_stream.ROUTES,
    *webhooks.ROUTES,
    *changes.ROUTES,
    *explain.ROUTES,
    *audit.ROUTES,
    *health.ROUTES,
)


def make_app(context: WebContext) -> web.Application:
    """The application over what `context` gives it.

    Run it with `handler_cancellation=True`, so that a caller that goes away ends its waiting;
    what it asked for goes on all the same.
    """
    app = web.Application(middlewares=[edge], client_max_size=BODY_BYTES_MAX)
    app[CONTEXT] = context
    app[NEEDS] = {(route.method, route.path): route.needs for route in ROUTES}
    app[STREAMS] = frozenset(route.path for route in ROUTES if route.streams)
    app[BY_PATTERN] = {(route.method, route.path): route for route in ROUTES}
    app.on_response_prepare.append(context.access.cors.on_prepare)
    app.on_shutdown.append(event_stream.end_streams)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # answers HEAD as well
        else:
            app.router.add_route(route.method, route.path, route.handler)
    _add_documents(app)
    return app


def _add_documents(app: web.Application) -> None:
    async def openapi(request: web.Request) -> web.Response:
        body = (await asyncio.to_thread(_documents)).openapi
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def docs(request: web.Request) -> web.Response:
        body = (await asyncio.to_thread(_documents)).page
        return web.Response(body=body, headers={"Content-Type": "text/html; charset=utf-8"})

    async def asyncapi_document(request: web.Request) -> web.Response:
        body = (await asyncio.to_thread(_documents)).asyncapi
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get(f"{API}/openapi.json", openapi)
    app.router.add_get(f"{API}/asyncapi.json", asyncapi_document)
    app.router.add_get("/docs", docs)


class _Documents(Struct, frozen=True):
    """The same for every request."""

    openapi: bytes
    page: bytes
    asyncapi: bytes


@cache
def _documents() -> _Documents:
    """Made when the first is asked for: that takes 50 ms, which nobody should wait for at a
    start, and in a thread, so that nothing else waits for it either."""
    described = document(ROUTES)
    return _Documents(
        msgspec.json.encode(described),
        render(described).encode(),
        msgspec.json.encode(asyncapi.document(version("gpuledger"))),
    )
