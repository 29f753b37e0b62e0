"""What is hidden in answers: values of the environment whose key says that they are secret.

They stay in the ledger, since the containers need them; only an admin is shown them.
"""

import re
from collections.abc import Iterable, Mapping
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


def hidden_env(env: Iterable[str]) -> list[str]:
    """Entries "K=V" of an environment, without the values that are secret."""
    return [_hidden_entry(entry) for entry in env]


def hidden_changes(changes: Iterable[SpecChange]) -> list[SpecChange]:
    """The same for differences between two specs: that a secret differs is none."""
    return [_hidden_change(change) for change in changes]


def hidden_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the body of a command."""
    env = request.get("env")
    return dict(request) if env is None else {**request, "env": hidden_env(env)}


def _hidden_entry(entry: str) -> str:
    key, equals, _value = entry.partition("=")
    return f"{key}={HIDDEN}" if equals and _SECRET_KEY.search(key) else entry


def _hidden_change(change: SpecChange) -> SpecChange:
    field, _dot, key = change.field.partition(".")
    if field != "env" or not _SECRET_KEY.search(key):
        return change
    return replace(change, old=change.old and HIDDEN, new=change.new and HIDDEN)
