"""How a container ended that nobody asked to end, and when it is started again, in answers."""

from typing import Any

from msgspec import Struct

from events.codec import show_time
from projections.state import ReplicaSet, Revision


class RetryData(Struct, frozen=True, rename="camel"):
    """An ended container is to be started again, for the n-th time in a row."""

    attempt: int
    due_time: str


def end_of(replica_set: ReplicaSet, revision: Revision) -> dict[str, Any]:
    """The fields of an answer that tell of it; empty when it did not end by itself."""
    if not revision.ended_alone:
        return {}
    fields: dict[str, Any] = {
        "exit_code": revision.exit_code,
        "oom_killed": revision.oom_killed,
        "finished_time": revision.finished_at,
    }
    if replica_set.retry_due_us:
        due = show_time(replica_set.retry_due_us)
        fields["retry"] = RetryData(replica_set.retry, due)
    return fields
