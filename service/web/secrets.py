"""What is hidden in answers: values of the environment that are marked as secret, or whose key
says that they are.

They stay in the ledger, since the containers need them; only an admin is shown them.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from service.domain.changes import SpecChange
from service.web.access import GRANT

HIDDEN = "***"

_SECRET_KEY = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE|CREDENTIAL", re.IGNORECASE)


def shows_secrets(request: web.Request) -> bool:
    """May the caller see them?"""
    return request[GRANT].role == "admin"


def hidden_env(env: Iterable[str], marked: Collection[str]) -> list[str]:
    """Entries "K=V" of an environment, without the values that are secret."""
    return [_hidden_entry(entry, marked) for entry in env]


def hidden_changes(changes: Iterable[SpecChange], marked: Collection[str]) -> list[SpecChange]:
    """The same for differences between two specs: that a secret differs is none."""
    return [_hidden_change(change, marked) for change in changes]


def hidden_request(request: Mapping[str, Any], marked: Collection[str]) -> dict[str, Any]:
    """The same for the body of a command, `marked` being all that its container ever had."""
    shown = dict(request)
    for field in ("env", "secretEnv"):
        if (env := request.get(field)) is not None:
            keys = {entry.partition("=")[0] for entry in env} if field == "secretEnv" else ()
            shown[field] = hidden_env(env, {*marked, *keys})
    if isinstance(url := request.get("url"), str):
        shown["url"] = hidden_url(url)
    return shown


def hidden_url(url: str) -> str:
    """Where a webhook leads, without what may be a secret: many have one in their path."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/{HIDDEN}"


def _is_secret(key: str, marked: Collection[str]) -> bool:
    return key in marked or _SECRET_KEY.search(key) is not None


def _hidden_entry(entry: str, marked: Collection[str]) -> str:
    key, equals, _value = entry.partition("=")
    return f"{key}={HIDDEN}" if equals and _is_secret(key, marked) else entry


def _hidden_change(change: SpecChange, marked: Collection[str]) -> SpecChange:
    field, _dot, key = change.field.partition(".")
    if field != "env" or not _is_secret(key, marked):
        return change
    return replace(change, old=change.old and HIDDEN, new=change.new and HIDDEN)
