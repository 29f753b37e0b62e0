"""Routes for those who look after the service: is it alive, is it ready, what does it count."""

from http import HTTPStatus

from aiohttp import web

from service.web import schemas_responses as responses
from service.web.context import CONTEXT
from service.web.envelope import CONTENT_TYPE, answer, encode, plain
from service.web.problems import Code
from service.web.routes import Route

_TAG = "Health"


async def _ping(request: web.Request) -> web.Response:
    return plain(responses.PongData("pong"))


async def _alive(request: web.Request) -> web.Response:
    return answer(responses.AliveData(alive=True))


async def _ready(request: web.Request) -> web.Response:
    components = await request.app[CONTEXT].health.report()
    bad = [f"{name}: {part.detail}" for name, part in components.items() if not part.ok]
    data = responses.ReadyData(not bad, components)
    if not bad:
        return answer(data, message="ready")
    return web.Response(
        body=encode(Code.SERVER_BUSY, f"not ready; {'; '.join(bad)}", data),
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Content-Type": CONTENT_TYPE},
    )


async def _metrics(request: web.Request) -> web.Response:
    body, content_type = request.app[CONTEXT].metrics.expose(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


ROUTES = (
    Route(
        *("GET", "/ping", _ping, "Answer, as the predecessor does", _TAG),
        data=responses.PongData,
        enveloped=False,
        open=True,
    ),
    Route(
        *("GET", "/healthz", _alive, "Is the process alive?", _TAG),
        data=responses.AliveData,
        open=True,
    ),
    Route(
        *("GET", "/readyz", _ready, "Is every part there that an operation needs?", _TAG),
        data=responses.ReadyData,
    ),
    Route(
        *("GET", "/metrics", _metrics, "Metrics, as Prometheus reads them", _TAG),
        enveloped=False,
        media_type="text/plain",
    ),
)
