"""What became of a container that nobody asked for, and when it is started again, in answers."""

from typing import Any

from msgspec import Struct

from events.codec import show_time
from projections.state import ReplicaSet, Revision


class RetryData(Struct, frozen=True, rename="camel"):
    """A container is to be started again, for the n-th time in a row."""

    attempt: int
    due_time: str


def end_of(replica_set: ReplicaSet, revision: Revision) -> dict[str, Any]:
    """The fields of an answer that tell of it; empty while all is as it was asked for."""
    fields: dict[str, Any] = {}
    if revision.ended_alone:
        fields |= {
            "exit_code": revision.exit_code,
            "oom_killed": revision.oom_killed,
            "finished_time": revision.finished_at,
        }
    if revision.gpu_access_lost_us:
        fields["gpu_access_lost_time"] = show_time(revision.gpu_access_lost_us)
    if replica_set.retry_due_us:
        due = show_time(replica_set.retry_due_us)
        fields["retry"] = RetryData(replica_set.retry, due)
    return fields
