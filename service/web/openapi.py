"""The OpenAPI 3.1 document, made from the routes and the very types that they decode and encode."""

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from service.domain.explaining import SUBJECT_KINDS
from service.domain.months import MONTH_PATTERN
from service.web.past import AT
from service.web.problems import OWN_CODES, Code
from service.web.routes import API, NAME_PATTERN, UUID_PATTERN, Query, Route
from service.web.schemas_responses import AcceptedData, Refusal
from service.web.submission import IDEMPOTENCY_KEY_LENGTH_MAX

_REFS = "#/components/schemas/{name}"

_INTRODUCTION = """\
Runs GPU containers from an append-only ledger. Every answer but those of /ping and /metrics is
an envelope `{"code", "msg", "data"}`; `code` 200 is success, `msg` says what to do about a
refusal, and the HTTP status says the same in HTTP's words. A command waits for its outcome;
with `Prefer: respond-async` it is answered 202 as soon as it is stored. A version of `foo` is
a container named `foo-1`, `foo-2`, ... As soon as a token exists, one is needed for all but
/ping and /healthz, sent as `Authorization: Bearer ...`; a caller that sends too much is answered
429. A read with `at` is answered as it was at that point of the ledger, and says in
`X-Ledger-Seq` which record that is. A refusal that the audit keeps is named in
`X-Refusal-Id`. Values of the environment whose key says that they are
secret are shown to admins only."""

_AWAY = (Code.ENGINE_UNAVAILABLE, Code.LEDGER_UNAVAILABLE)
"""What is no refusal: the service would, and cannot."""

_BEHIND: tuple[Code, ...] = (*_AWAY, Code.AUDIT_UNAVAILABLE)
"""The same, with what no command needs."""

_ACCESS = (Code.TOKEN_NEEDED, Code.ROLE_TOO_SMALL, Code.TOO_MANY_REQUESTS, Code.OTHER_SITE)
"""Why a request can be turned away before it is looked at."""

_IN_PATHS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "pattern": NAME_PATTERN},
    "uuid": {"type": "string", "pattern": UUID_PATTERN},
    "id": {"type": "string", "minLength": 1},
    "month": {"type": "string", "pattern": MONTH_PATTERN},
    "kind": {"enum": list(SUBJECT_KINDS)},
    "what": {"type": "string", "minLength": 1},
}
"""What the parts of a path that are left open may be."""

_BEARER = "token"
"""The name of the security scheme."""

_COMMAND_HEADERS = (
    {
        "name": "Prefer",
        "in": "header",
        "description": "`respond-async`: answer 202 with an operation id as soon as the command"
        " is stored. `wait=N`: wait N seconds for the outcome, then answer 202.",
        "schema": {"type": "string"},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key twice is the same command once, also after a restart.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": IDEMPOTENCY_KEY_LENGTH_MAX,
            "pattern": "^[!-~]+$",
        },
    },
)


def _sent_header(name: str, about: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": about,
        "schema": {"type": "string"},
    }


_WEBHOOKS = {
    "event": {
        "post": {
            "summary": "An event, sent to the address of a webhook",
            "description": "One of the CloudEvents that /api/v1/asyncapi.json describes.",
            "parameters": [
                _sent_header("Webhook-Id", "The event's id, the same at every try."),
                _sent_header("Webhook-Timestamp", "When it is sent: seconds since the epoch."),
                _sent_header(
                    "Webhook-Signature",
                    "`v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`; after a"
                    " rotation two, with a blank between.",
                ),
            ],
            "requestBody": {
                "required": True,
                "content": {"application/cloudevents+json": {"schema": {"type": "object"}}},
            },
            "responses": {
                "2XX": {"description": "It was taken."},
                "410": {"description": "Do not come again: the webhook is disabled."},
                "default": {"description": "It is sent again later."},
            },
        }
    }
}
"""What is asked of those who registered a webhook."""


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document for these routes, ready for JSON."""
    types = [kind for route in routes for kind in (route.body, route.data) if kind is not None]
    unique = list(dict.fromkeys([*types, AcceptedData, Refusal]))
    references, components = msgspec.json.schema_components(unique, ref_template=_REFS)
    schemas = dict(zip(unique, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpuledger",
            "version": version("gpuledger"),
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "webhooks": _WEBHOOKS,
        "components": {
            "schemas": components,
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}},
        },
        # The empty one: while there is no token, none is needed.
        "security": [{_BEARER: []}, {}],
        "x-codes": {str(code.value): code.meaning for code in Code},
    }


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
    }
    if route.needs is None:
        operation["security"] = []
    else:
        operation["description"] = f"Needs the role {route.needs}."
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
    return operation


def _operation_id(route: Route) -> str:
    """Such as patchReplicaSetNameRollback; stable as long as the route is."""
    words = re.findall(r"[A-Za-z]+", route.path.removeprefix("/api/v1"))
    return route.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATHS[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    found += [
        {
            "name": query.name,
            "in": "query",
            "required": query.needed,
            "description": query.about,
            "schema": _query_schema(query),
        }
        for query in (*route.queries, *((AT,) if route.has_past else ()))
    ]
    return [*found, *_COMMAND_HEADERS] if route.action is not None else found


def _query_schema(query: Query) -> dict[str, Any]:
    known = {"minimum": query.least, "maximum": query.most, "pattern": query.pattern or None}
    return {"type": query.kind, **{key: value for key, value in known.items() if value is not None}}


def _responses(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    data = {"type": "null"} if route.data is None else schemas[route.data]
    if route.media_type != "application/json":
        found = {"200": {"description": "success", "content": {route.media_type: {}}}}
        if route.streams:
            listed = _listed((*route.codes, *_ACCESS))
            found["4XX"] = _response(listed, _enveloped(schemas[Refusal]))
            found["5XX"] = _response(_listed([Code.SERVER_BUSY]), _enveloped(schemas[Refusal]))
        return found
    if not route.enveloped:
        return {"200": _response("success", data)}
    found = {"200": _response("success", _enveloped(data))}
    refusal = _enveloped(schemas[Refusal])
    refusals = [code for code in route.codes if code not in _BEHIND]
    errors = [Code.SERVER_BUSY, *(code for code in route.codes if code in _BEHIND)]
    if route.path.startswith(API):  # a query parameter that is not known, for one
        refusals.insert(0, Code.BAD_REQUEST)
    if route.action is not None:
        found["202"] = _response(
            "accepted; the operation goes on", _enveloped(schemas[AcceptedData])
        )
        own = OWN_CODES[route.action]
        refusals += [own, Code.OPERATION_IN_PROGRESS, Code.IDEMPOTENCY_KEY_REUSED]
        errors += [own, *_AWAY]
    if route.needs is not None:
        refusals += _ACCESS
    if refusals:
        found["4XX"] = _response(_listed(refusals), refusal)
    found["5XX"] = _response(_listed(errors), refusal)
    return found


def _listed(codes: Iterable[Code]) -> str:
    unique = sorted(set(codes))
    return "; ".join(f"{code.value} {code.meaning}" for code in unique)


def _response(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _enveloped(data: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["code", "msg", "data"],
        "properties": {
            "code": {"type": "integer"},
            "msg": {"type": "string"},
            "data": data,
        },
    }
