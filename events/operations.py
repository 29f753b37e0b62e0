"""Facts about operations: what a caller asked for, and how it went."""

from typing import Any

from msgspec import Struct

from events.values import Kind, Verb


class OperationAccepted(
    Struct, frozen=True, tag_field="type", tag="operation.accepted.v1", omit_defaults=True
):
    """A caller's command was accepted; its id is the id of the record it stands in."""

    operation_id: str
    verb: Verb
    kind: Kind
    name: str
    request: dict[str, Any]
    """What was asked, in the words of the API."""
    fingerprint: str = ""
    """Hash of the request, so that an idempotency key cannot be used for something else."""


class OperationProgressed(
    Struct, frozen=True, tag_field="type", tag="operation.progressed.v1", omit_defaults=True
):
    """A long step got further. Recorded at most every few seconds."""

    operation_id: str
    step: str
    done_bytes: int
    total_bytes: int
    message: str = ""


class OperationSucceeded(
    Struct, frozen=True, tag_field="type", tag="operation.succeeded.v1", omit_defaults=True
):
    """All that was asked for is so, and was seen to be so."""

    operation_id: str
    result: dict[str, Any] = {}


class OperationFailed(
    Struct, frozen=True, tag_field="type", tag="operation.failed.v1", omit_defaults=True
):
    """What was asked for cannot be had; what had been begun was undone."""

    operation_id: str
    reason: str
    """A stable snake_case word."""
    message: str
    """For people; where Docker refused, Docker's own words."""
