"""Routes of webhooks: who is told of events, what was sent, and what was not taken."""

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from events.codec import show_time
from events.messages import Place
from events.values import NAME_LENGTH_MAX, is_name
from projections.state import Operation
from projections.webhook_book import Webhook
from service.application.webhooks import OTHER_KEY
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from service.settings_text import is_loopback
from service.web import schemas_checks as check
from service.web import schemas_webhooks as schemas
from service.web.context import CONTEXT, WebContext
from service.web.envelope import answer
from service.web.event_filters import checked
from service.web.problems import Action, BadRequest, Code
from service.web.routes import API, Query, Route, number_in
from service.web.submission import Outcome, submit
from service.webhook_ports import Attempt, Delivery, Standing

LIMIT_MAX = 1000
LIMIT = 100

_TAG = "Webhooks"
_ALL = f"{API}/webhooks"
_ONE = f"{_ALL}/{{name}}"
_DEAD = f"{_ONE}/deadLetters"
_REGISTER: Action = ("webhook", "register")
_ROTATE: Action = ("webhook", "rotate")
_DISABLE: Action = ("webhook", "disable")
_ENABLE: Action = ("webhook", "enable")
_REMOVE: Action = ("webhook", "remove")
_NOW = "what was sent stands in no ledger"

_URL = re.compile(r"[!-~]+")
_ID = re.compile(r"[0-9]{1,18}\.[0-9]{1,9}")

_body = msgspec.json.Decoder(schemas.WebhookBody)
_disable_body = msgspec.json.Decoder(schemas.DisableBody)
_dead_body = msgspec.json.Decoder(schemas.DeadLettersBody)


async def _register(request: web.Request) -> web.Response:
    asked = check.decode(_body, await request.read())
    context, events = request.app[CONTEXT], asked.events
    if asked.after is not None and not 0 <= asked.after <= context.feed.last_seq:
        raise check.bad("after", f"is no record: the ledger ends at {context.feed.last_seq}")
    command = RegisterWebhook(
        name=_checked(asked.webhook_name, "webhookName"),
        url=_url(asked.url, insecure=asked.insecure),
        key_id=context.webhooks.signer.key_id,
        wanted=checked(events.kind, events.name, events.tenant, events.types, "events."),
        after_seq=asked.after,
    )
    body = msgspec.to_builtins(asked)
    return await submit(request, _REGISTER, command, body, _secret)


async def _rotate(request: web.Request) -> web.Response:
    key_id = request.app[CONTEXT].webhooks.signer.key_id
    command = RotateWebhook(_name(request), key_id)
    return await submit(request, _ROTATE, command, {}, _secret)


async def _disable(request: web.Request) -> web.Response:
    asked = check.decode(_disable_body, await request.read())
    if not asked.why.strip() or len(asked.why) > 200 or not asked.why.isprintable():
        raise check.bad("why", "must be a line of text, up to 200 characters")
    command, body = DisableWebhook(_name(request), asked.why), {"why": asked.why}
    return await submit(request, _DISABLE, command, body)


async def _enable(request: web.Request) -> web.Response:
    return await submit(request, _ENABLE, EnableWebhook(_name(request)), {})


async def _remove(request: web.Request) -> web.Response:
    return await submit(request, _REMOVE, RemoveWebhook(_name(request)), {})


def _secret(context: WebContext, operation: Operation) -> Outcome:
    """The secret that an operation made: it is nowhere else to be seen."""
    secret = context.webhooks.signer.secret(operation.name, operation.id)
    return schemas.SecretData(operation.name, secret), "success"


async def _list(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    found = await context.reads.webhooks()
    return answer(schemas.WebhooksData([await _shown(context, one) for one in found]))


async def _info(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    return answer(await _shown(context, await _found(request)))


async def _deliveries(request: web.Request) -> web.Response:
    webhook, limit = await _found(request), number_in(request, "limit", LIMIT, 1, LIMIT_MAX)
    found = await request.app[CONTEXT].webhooks.deliveries.attempts(webhook.name, limit)
    return answer(schemas.AttemptsData([_attempt(one) for one in found]))


async def _dead_letters(request: web.Request) -> web.Response:
    webhook, limit = await _found(request), number_in(request, "limit", LIMIT, 1, LIMIT_MAX)
    found = await request.app[CONTEXT].webhooks.deliveries.dead(webhook.name, limit)
    return answer(schemas.DeadLettersData([_dead(one) for one in found]))


async def _redeliver(request: web.Request) -> web.Response:
    name, ids = await _named(request)
    return _counted(await request.app[CONTEXT].webhooks.revive(name, ids), ids)


async def _discard(request: web.Request) -> web.Response:
    name, ids = await _named(request)
    return _counted(await request.app[CONTEXT].webhooks.discard(name, ids), ids)


async def _ping(request: web.Request) -> web.Response:
    webhooks, webhook = request.app[CONTEXT].webhooks, await _found(request)
    if not webhooks.signer.knows(webhook):
        raise BadRequest(Code.WEBHOOK_FAILED, OTHER_KEY, status=409, reason="webhook_other_key")
    return answer(_attempt(await webhooks.ping(webhook)))


def _name(request: web.Request) -> str:
    return _checked(request.match_info["name"], "name")


def _checked(text: str, field: str) -> str:
    if not is_name(text):
        raise check.bad(
            field,
            f"is {check.shown(text)}; allowed are letters, digits and _ (not first),"
            f" {NAME_LENGTH_MAX} at most",
        )
    return text


async def _found(request: web.Request) -> Webhook:
    """The webhook in the path. Raises BadRequest (404)."""
    name = _name(request)
    found = await request.app[CONTEXT].reads.webhook(name)
    if found is None:
        raise _missing(f"there is no webhook {name}", "webhook_not_found")
    return found


async def _named(request: web.Request) -> tuple[str, list[str]]:
    """Of which webhook, and which dead letters."""
    webhook = await _found(request)
    asked = check.decode(_dead_body, await request.read())
    if len(asked.ids) > schemas.IDS_MAX:
        raise check.bad("ids", f"are more than {schemas.IDS_MAX}")
    for one in asked.ids:
        if not _ID.fullmatch(one):
            raise check.bad("ids", f"has {check.shown(one)}, which is no id such as 17.0")
    return webhook.name, asked.ids


def _counted(count: int, ids: list[str]) -> web.Response:
    if ids and not count:
        raise _missing("none of these is a dead letter", "dead_letter_not_found")
    return answer(schemas.CountData(count))


def _missing(text: str, reason: str) -> BadRequest:
    return BadRequest(Code.WEBHOOK_NOT_FOUND, text, status=404, reason=reason)


def _url(text: str, *, insecure: bool) -> str:
    """An address that events may be sent to. Raises BadRequest."""
    if not _URL.fullmatch(text) or len(text) > schemas.URL_LENGTH_MAX:
        raise check.bad("url", f"must be ASCII, up to {schemas.URL_LENGTH_MAX} characters")
    no_address = check.bad("url", f"is {check.shown(text)}; allowed: https://HOST[:PORT]/PATH")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise no_address from None
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        raise no_address
    if "@" in parts.netloc or "#" in text:
        raise check.bad(
            "url",
            "must have no user, password or fragment: it stands in the ledger, and the signature"
            " says who sends",
        )
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise check.bad(
            "url", "must be https, as events can be read on their way; or allow it with insecure"
        )
    return text


async def _shown(context: WebContext, webhook: Webhook) -> schemas.WebhookData:
    standing: Standing | None = None
    if not context.is_past:
        standing = await context.webhooks.deliveries.standing(webhook.name)
    wanted, until_us = webhook.wanted, webhook.old_until_us
    return schemas.WebhookData(
        name=webhook.name,
        url=webhook.url,
        events=schemas.WantedData(wanted.kind, wanted.name, wanted.tenant, list(wanted.types)),
        enabled=not webhook.disabled,
        disabled_why=webhook.disabled or None,
        create_time=show_time(webhook.created_us),
        created_by=webhook.actor,
        seq=webhook.seq,
        old_secret_until_time=show_time(until_us) if until_us else None,
        delivery=None if standing is None else _delivery(context, webhook, standing),
    )


def _delivery(context: WebContext, webhook: Webhook, standing: Standing) -> schemas.DeliveryData:
    return schemas.DeliveryData(
        place=_place(standing.place),
        behind=max(0, context.feed.last_seq - standing.place.seq),
        pending=standing.pending,
        dead=standing.dead,
        next_time=show_time(standing.due_us) if standing.due_us is not None else None,
        last=_attempt(standing.last) if standing.last is not None else None,
        trouble=context.webhooks.trouble(webhook),
    )


def _place(place: Place) -> str:
    return str(place.seq) if place.index < 0 else f"{place.seq + 1}.{place.index}"


def _attempt(one: Attempt) -> schemas.AttemptData:
    return schemas.AttemptData(
        id=one.id,
        type=one.type,
        attempt=one.number,
        time=show_time(one.at_us),
        duration_ms=one.duration_us / 1000,
        status=one.status or None,
        error=one.error,
        outcome=one.outcome,
    )


def _dead(one: Delivery) -> schemas.DeadLetterData:
    return schemas.DeadLetterData(
        id=one.id,
        type=one.type,
        attempts=one.attempts,
        first_time=show_time(one.first_us),
        dead_time=show_time(one.due_us),
        status=one.status or None,
        error=one.error,
    )


def _route(method: str, path: str, handler: Any, summary: str, data: Any, **more: Any) -> Route:
    codes = (Code.BAD_REQUEST, *more.pop("codes", (Code.WEBHOOK_NOT_FOUND,)))
    return Route(
        method, path, handler, summary, _TAG, data, codes=codes, **{"role": "admin", **more}
    )


_LIMIT = Query("limit", "So many at most.", "integer", least=1, most=LIMIT_MAX)

ROUTES = (
    _route(
        *("POST", _ALL, _register, "Register a webhook; its secret is shown this once"),
        schemas.SecretData,
        body=schemas.WebhookBody,
        codes=(Code.WEBHOOK_EXISTS,),
        action=_REGISTER,
    ),
    _route("GET", _ALL, _list, "List the webhooks", schemas.WebhooksData, codes=()),
    _route("GET", _ONE, _info, "Show a webhook, and where it is", schemas.WebhookData),
    _route(
        *("POST", f"{_ONE}/rotate", _rotate, "Make a new secret, which is shown this once"),
        schemas.SecretData,
        action=_ROTATE,
    ),
    _route(
        *("POST", f"{_ONE}/disable", _disable, "Send nothing until it is enabled", None),
        body=schemas.DisableBody,
        action=_DISABLE,
    ),
    _route(
        *("POST", f"{_ONE}/enable", _enable, "Go on from where it was", None),
        action=_ENABLE,
    ),
    _route("DELETE", _ONE, _remove, "Remove a webhook", None, action=_REMOVE),
    _route("POST", f"{_ONE}/ping", _ping, "Send a test message now", schemas.AttemptData),
    _route(
        *("GET", f"{_ONE}/deliveries", _deliveries, "Show the newest requests to it"),
        schemas.AttemptsData,
        queries=(_LIMIT,),
        now=_NOW,
    ),
    _route(
        *("GET", _DEAD, _dead_letters, "List the events that were given up"),
        schemas.DeadLettersData,
        queries=(_LIMIT,),
        now=_NOW,
    ),
    _route(
        *("POST", f"{_DEAD}/redeliver", _redeliver, "Send dead letters again", schemas.CountData),
        body=schemas.DeadLettersBody,
    ),
    _route(
        *("POST", f"{_DEAD}/discard", _discard, "Forget dead letters", schemas.CountData),
        body=schemas.DeadLettersBody,
    ),
)
