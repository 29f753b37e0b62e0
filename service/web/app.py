"""The application: one table of routes, for the routing and for the OpenAPI document alike."""

from importlib.metadata import version

import msgspec
from aiohttp import web

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
    """The documents are the same for every request: made once, as bytes."""
    described = document(ROUTES)
    as_json = msgspec.json.encode(described)
    as_page = render(described).encode()
    of_events = msgspec.json.encode(asyncapi.document(version("gpuledger")))

    async def openapi(request: web.Request) -> web.Response:
        return web.Response(body=as_json, headers={"Content-Type": CONTENT_TYPE})

    async def docs(request: web.Request) -> web.Response:
        return web.Response(body=as_page, headers={"Content-Type": "text/html; charset=utf-8"})

    async def asyncapi_document(request: web.Request) -> web.Response:
        return web.Response(body=of_events, headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get(f"{API}/openapi.json", openapi)
    app.router.add_get(f"{API}/asyncapi.json", asyncapi_document)
    app.router.add_get("/docs", docs)
