"""What an export of the audit says, held against the records and the checkpoint in it.

Of each row about an operation that has its record there, who, what, from where and when are
compared with the record, and the result with that of its end where that is there too. Rows of
refusals have no record: see `exported_refusals`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from events.codec import CloudEvent, record_of, show_time
from events.operations import OperationAccepted, OperationFailed, OperationSucceeded
from events.record import Record

Row = Mapping[str, Any]


class RowsClaimed:
    """Takes the records in their order; then says which row does not agree with them."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[int, Row] = {}
        self._fault: tuple[int, str] | None = None
        for row in rows:
            if row.get("result") != "refused":
                self._claim(row)
        self._seqs: dict[str, int] = {}
        self._facts: dict[int, dict[str, Any]] = {}

    def take(self, seq: int, event: CloudEvent) -> None:
        """The next record."""
        record = record_of(event)
        for one in record.events:
            if isinstance(one, OperationAccepted):
                self._seqs[one.operation_id] = seq
                self._facts[seq] = _accepted(seq, record, one)
            elif isinstance(one, OperationSucceeded | OperationFailed):
                begun = self._seqs.get(one.operation_id)
                if begun is not None:
                    self._facts[begun].update(_ended(seq, record, one))

    def _claim(self, row: Row) -> None:
        seq = row.get("seq")
        if not isinstance(seq, int):
            self._fault = 0, "a row names no record"
        elif seq in self._rows:
            self._fault = seq, "two rows are about it"
        else:
            self._rows[seq] = row

    def fault(self, last_seq: int) -> tuple[int, str] | None:
        """The first record whose row says something else, or is not there, or is too many."""
        if self._fault is not None:
            return self._fault
        for seq in sorted({*self._rows, *self._facts}):
            row, facts = self._rows.get(seq), self._facts.get(seq)
            if row is None:
                return seq, "it began an operation, and no row says so"
            if facts is None:
                return seq, "a row says that an operation began there, and none did"
            for field, value in facts.items():
                if row.get(field) != value:
                    return seq, f"its row says {field} {row.get(field)!r}, the record {value!r}"
            end = row.get("finishedSeq")
            if "finishedSeq" in facts or (row.get("result") == "accepted" and end is None):
                continue
            if not isinstance(end, int) or end <= last_seq:
                return seq, f"its row says that it ended at seq {end}, and it did not"
        return None


def _accepted(seq: int, record: Record, event: OperationAccepted) -> dict[str, Any]:
    return {
        "seq": seq,
        "time": show_time(record.at_us),
        "actor": record.actor,
        "tenant": record.tenant,
        "remote": record.remote,
        "kind": event.kind,
        "name": event.name,
        "verb": event.verb,
        "operationId": event.operation_id,
    }


def _ended(
    seq: int, record: Record, event: OperationSucceeded | OperationFailed
) -> dict[str, Any]:
    failed = isinstance(event, OperationFailed)
    return {
        "finishedSeq": seq,
        "finishedTime": show_time(record.at_us),
        "result": "failed" if failed else "succeeded",
        "reason": event.reason if isinstance(event, OperationFailed) else "",
        "message": event.message if isinstance(event, OperationFailed) else "",
    }
