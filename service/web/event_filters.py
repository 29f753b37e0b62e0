"""What a reader of events, or a webhook, may ask for."""

from collections.abc import Sequence
from typing import get_args

from events.asyncapi import EVENTS, tag_of
from events.values import NAME_LENGTH_MAX, Kind
from events.webhooks import Wanted
from service.web.problems import BadRequest, Code

KINDS = (*get_args(Kind), "node")
TYPES = {tag_of(event) for event in EVENTS}

WORD_LENGTH_MAX = 4 * NAME_LENGTH_MAX


def checked(kind: str, name: str, tenant: str, types: Sequence[str], within: str = "") -> Wanted:
    """What is asked for; an empty type is none. Raises BadRequest that names the field, with
    `within` before it."""
    asked = set(filter(None, types))
    if unknown := sorted(asked - TYPES):
        field = f"{within}types" if within else "type"
        raise _bad(field, f"names no type of event: {unknown[0][:128]!r}")
    if kind and kind not in KINDS:
        raise _bad(f"{within}kind", f"is one of {', '.join(KINDS)}")
    for field, text in (("name", name), ("tenant", tenant)):
        if len(text) > WORD_LENGTH_MAX:
            raise _bad(f"{within}{field}", f"is longer than {WORD_LENGTH_MAX}")
    return Wanted(kind, name, tenant, tuple(sorted(asked)))


def _bad(field: str, text: str) -> BadRequest:
    return BadRequest(Code.BAD_REQUEST, f"{field} {text}", field)
