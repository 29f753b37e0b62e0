"""Rows from aggregates, and the state back from rows. Pure: no database is touched here."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct

from events.record import Record
from projections.evolve_replica_sets import index_users
from projections.price_book import Month, Price
from projections.state import (
    GpuUnit,
    Node,
    Operation,
    PortLease,
    ReplicaSet,
    Revision,
    State,
    Volume,
)
from projections.usage import GpuUntil, Opened, Usage
from projections.webhook_book import Webhook

Value = str | int | bytes | None
Row = tuple[Value, ...]

_encode = msgspec.json.Encoder().encode


class Batch(Struct, frozen=True):
    """What a run of records changed in the read store."""

    after_seq: int
    """The position it was made from; it can only be applied there."""
    seq: int
    """The position afterwards."""
    changed: dict[str, list[Any]]
    """By table: the aggregates as they are now."""
    gone: dict[str, list[Row]]
    """By table: the keys of rows that are no more."""
    history: list[Row]


def take_batch(state: State, usage: Usage, after_seq: int, history: list[Row]) -> Batch:
    """What was touched since the last call, as it is now; nothing is touched afterwards."""
    changed: dict[str, list[Any]] = {}
    gone: dict[str, list[Row]] = {}
    for table, name, number in state.touched:
        aggregate = _find(state, table, name, number)
        if aggregate is not None:
            changed.setdefault(table, []).append(aggregate)
        else:
            gone.setdefault(table, []).append((name, number) if number else (name,))
    state.forget_touched()
    changed["usage"], changed["gpus_used"] = usage.take()
    return Batch(after_seq, state.seq, changed, gone, history)


def _find(state: State, table: str, name: Any, number: int) -> Any:
    """The aggregate with a key; None when there is none any more."""
    if table == "operations":
        return state.operations.get(name) or state.evicted.get(name)
    if table == "revisions":
        return state.revisions.get((name, number))
    if table == "prices":
        return state.prices.get((name, number))
    if table == "node":
        return state.node
    return getattr(state, table).get(name)


def _node_row(node: Node) -> Row:
    return 1, node.node, node.owner, node.port_cursor, _encode(node)


def _replica_set_row(one: ReplicaSet) -> Row:
    return one.name, one.phase, one.current, one.operation, one.updated_us, _encode(one)


def _revision_row(one: Revision) -> Row:
    return (
        one.name,
        one.number,
        one.created_us,
        one.cause,
        one.spec.image,
        one.container,
        _encode(one),
    )


def _volume_row(one: Volume) -> Row:
    sizes = (v.size_bytes for v in reversed(one.versions) if v.number == one.current)
    return one.name, one.current, next(sizes, 0), int(one.deleted), _encode(one)


def _gpu_row(one: GpuUnit) -> Row:
    return (
        one.uuid,
        one.index,
        one.name,
        one.memory_bytes,
        one.pci_bus_id,
        int(one.present),
        one.holder,
        _encode(one),
    )


def _port_row(one: PortLease) -> Row:
    return one.host_port, one.holder, one.container_port, _encode(one)


def _operation_row(one: Operation) -> Row:
    return (
        one.seq,
        one.id,
        one.verb,
        one.kind,
        one.name,
        one.state,
        one.accepted_us,
        one.finished_seq,
        _encode(one),
    )


def _price_row(one: Price) -> Row:
    return one.scope, one.valid_from_us, one.price, one.currency, _encode(one)


def _month_row(one: Month) -> Row:
    return one.name, one.seq, one.totals.total, one.totals.currency, _encode(one)


def _webhook_row(one: Webhook) -> Row:
    return one.name, one.seq, one.url, one.disabled, _encode(one)


def _usage_row(one: Opened) -> Row:
    return one.seq, one.intervals[0].name, one.begun_us, one.ended_us, _encode(one)


def _gpu_used_row(one: GpuUntil) -> Row:
    return one.uuid, one.until_us


ROW_OF: dict[str, Callable[[Any], Row]] = {
    "node": _node_row,
    "replica_sets": _replica_set_row,
    "revisions": _revision_row,
    "volumes": _volume_row,
    "gpus": _gpu_row,
    "ports": _port_row,
    "operations": _operation_row,
    "prices": _price_row,
    "months": _month_row,
    "webhooks": _webhook_row,
    "usage": _usage_row,
    "gpus_used": _gpu_used_row,
}
"""By table of aggregates: the row of one, columns as in `schema.COLUMNS`."""


def history_row(seq: int, record: Record) -> Row:
    """The line of a record in the history of what it is about."""
    return (
        seq,
        record.kind,
        record.name,
        record.at_us,
        record.verb,
        str(record.events[0].__struct_config__.tag),
        record.actor,
        record.operation_id,
    )


read_node = msgspec.json.Decoder(Node).decode
read_replica_set = msgspec.json.Decoder(ReplicaSet).decode
read_revision = msgspec.json.Decoder(Revision).decode
read_volume = msgspec.json.Decoder(Volume).decode
read_gpu = msgspec.json.Decoder(GpuUnit).decode
read_port = msgspec.json.Decoder(PortLease).decode
read_operation = msgspec.json.Decoder(Operation).decode
read_price = msgspec.json.Decoder(Price).decode
read_month = msgspec.json.Decoder(Month).decode
read_webhook = msgspec.json.Decoder(Webhook).decode
read_opened = msgspec.json.Decoder(Opened).decode


def load_state(seq: int, bodies: dict[str, list[bytes]], finished: list[bytes]) -> State:
    """The state at `seq` from the bodies of its rows, by table. Raises msgspec.DecodeError.

    `finished` are the last FINISHED_OPERATIONS_MAX operations that ended, in that order.
    """
    state = State()
    state.seq = seq
    state.node = next(map(read_node, bodies["node"]), None)
    replica_sets = map(read_replica_set, bodies["replica_sets"])
    state.replica_sets = {one.name: one for one in replica_sets}
    revisions = map(read_revision, bodies["revisions"])
    state.revisions = {(one.name, one.number): one for one in revisions}
    state.volumes = {one.name: one for one in map(read_volume, bodies["volumes"])}
    state.gpus = {one.uuid: one for one in map(read_gpu, bodies["gpus"])}
    state.ports = {one.host_port: one for one in map(read_port, bodies["ports"])}
    prices = map(read_price, bodies["prices"])
    state.prices = {(one.scope, one.valid_from_us): one for one in prices}
    state.months = {one.name: one for one in map(read_month, bodies["months"])}
    state.webhooks = {one.name: one for one in map(read_webhook, bodies["webhooks"])}
    operations = map(read_operation, chain(bodies["operations"], finished))
    state.operations = {one.id: one for one in operations}
    state.finished.extend(id for id, one in state.operations.items() if one.finished_seq)
    for name in state.replica_sets:
        index_users(state, name)
    return state


def load_usage(seq: int, rows: list[bytes], gpus: list[tuple[str, int]]) -> Usage:
    """The usage at `seq` from the bodies of the rows that are open. Raises msgspec.DecodeError."""
    usage = Usage()
    usage.load(seq, map(read_opened, rows), (GpuUntil(*gpu) for gpu in gpus))
    return usage
