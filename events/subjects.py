"""Subjects: `ledger.<node>.<kind>.<name>.<verb>`, so that subscribers filter on the server."""

import re

from events.record import Record

STREAM = "LEDGER"
PREFIX = "ledger"
ALL = f"{PREFIX}.>"

_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_-]")


def token(text: str) -> str:
    """A text as one token of a subject; what a token cannot hold becomes `_`."""
    return _NOT_A_TOKEN.sub("_", text) or "_"


def subject_of(record: Record) -> str:
    """The subject that a record is stored under."""
    return f"{PREFIX}.{token(record.node)}.{record.kind}.{token(record.name)}.{record.verb}"
