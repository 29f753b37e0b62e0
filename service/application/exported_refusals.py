"""What an export of the audit says was refused, held against the refusals in it.

Each row is compared with the refusal of its number, and each refusal that the export is about has
to have a row. That the refusals are all and as they were written is for others to see.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from events.codec import show_time
from service.application.audit import AuditRow, Wanted, of_refusal
from service.application.refusal_check import told
from service.audit_ports import Noted, NotedEntry

Row = Mapping[str, Any]


class RefusedClaimed:
    """Takes the refusals in their order; then says which row does not agree with them."""

    def __init__(self, rows: Iterable[Row], wanted: Wanted) -> None:
        self._wanted = wanted
        self._rows: dict[int, Row] = {}
        self._fault = ""
        for row in rows:
            if row.get("result") != "refused":
                continue
            number = row.get("number")
            if not isinstance(number, int) or number in self._rows:
                self._fault = f"a row of a refusal has the number {number!r}"
            else:
                self._rows[number] = row

    def take(self, number: int, noted: Noted) -> None:
        """The next refusal."""
        expected = of_refusal(NotedEntry(number, noted))
        row = self._rows.pop(number, None)
        if self._fault:
            return
        if row is None:
            if self._wanted.takes(expected):
                self._fault = f"{told(noted)} has no row"
            return
        for field, value in _shown(expected).items():
            if row.get(field) != value:
                said = f"says {field} {row.get(field)!r}, and it {value!r}"
                self._fault = f"the row of {told(noted)} {said}"
                return

    def fault(self) -> str:
        """The first that is wrong; "" where none is."""
        if not self._fault and self._rows:
            return f"the row of refusal number {min(self._rows)} has no refusal"
        return self._fault


def _shown(row: AuditRow) -> dict[str, Any]:
    """As the answers of the service show it."""
    one = row.refusal
    return {
        "time": show_time(row.at_us),
        "seq": row.seq,
        "actor": row.actor,
        "tenant": row.tenant,
        "remote": row.remote,
        "kind": row.kind,
        "name": row.name,
        "verb": row.verb,
        "times": row.times,
        "operationId": row.operation_id,
        "reason": row.reason,
        "message": row.message,
        "refusal": None
        if one is None
        else {
            "id": one.id,
            "code": one.code,
            "status": one.status,
            "method": one.method,
            "route": one.route,
            "requestId": one.request_id,
            "token": one.token,
        },
    }
