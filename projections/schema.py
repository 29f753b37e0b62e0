"""The tables of the read store, and the statements that change them.

`body` is the whole aggregate as JSON (`SELECT CAST(body AS TEXT)` shows it); the other columns
are what queries select and order by, and what a person at a SQL prompt wants to see. All of it
can be deleted at any time: the ledger brings it back.
"""

from functools import cache

SCHEMA_VERSION = 6
"""Raised with every change to a table or to an aggregate's shape: another version is rebuilt."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "position": ("seq",),
    "node": ("id", "node", "owner", "port_cursor", "body"),
    "replica_sets": ("name", "phase", "revision", "operation", "updated_us", "body"),
    "revisions": ("name", "number", "created_us", "cause", "image", "container", "body"),
    "volumes": ("name", "version", "size_bytes", "deleted", "body"),
    "gpus": ("uuid", "idx", "name", "memory_bytes", "pci_bus_id", "present", "holder", "body"),
    "ports": ("host_port", "holder", "container_port", "body"),
    "operations": (
        "seq",
        "id",
        "verb",
        "kind",
        "name",
        "state",
        "accepted_us",
        "finished_seq",
        "body",
    ),
    "history": ("seq", "kind", "name", "at_us", "verb", "type", "actor", "operation_id"),
    "prices": ("scope", "valid_from_us", "price", "currency", "body"),
    "months": ("month", "seq", "total", "currency", "body"),
    "webhooks": ("name", "seq", "url", "disabled", "body"),
    "usage": ("seq", "name", "begun_us", "ended_us", "body"),
    "gpus_used": ("uuid", "until_us"),
}
"""The columns of every table, in the order of the row tuples."""

KEYS: dict[str, tuple[str, ...]] = {
    "position": ("seq",),
    "node": ("id",),
    "replica_sets": ("name",),
    "revisions": ("name", "number"),
    "volumes": ("name",),
    "gpus": ("uuid",),
    "ports": ("host_port",),
    "operations": ("seq",),
    "history": ("seq",),
    "prices": ("scope", "valid_from_us"),
    "months": ("month",),
    "webhooks": ("name",),
    "usage": ("seq",),
    "gpus_used": ("uuid",),
}
"""The primary key of every table; rows are dumped in this order."""

# The long tables are keyed by seq (an operation's is that of the record that accepted it, which
# no other shares): new rows go to the end of the table, and "the newest 50" needs no index.
DDL: tuple[str, ...] = (
    "CREATE TABLE position (seq INTEGER NOT NULL)",
    "INSERT INTO position VALUES (0)",
    """CREATE TABLE node (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        node TEXT NOT NULL,
        owner TEXT NOT NULL,
        port_cursor INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE replica_sets (
        name TEXT PRIMARY KEY,
        phase TEXT NOT NULL,
        revision INTEGER NOT NULL,
        operation TEXT,
        updated_us INTEGER NOT NULL,
        body BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE revisions (
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        cause TEXT NOT NULL,
        image TEXT NOT NULL,
        container TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (name, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        body BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE gpus (
        uuid TEXT PRIMARY KEY,
        idx INTEGER NOT NULL,
        name TEXT NOT NULL,
        memory_bytes INTEGER NOT NULL,
        pci_bus_id TEXT NOT NULL,
        present INTEGER NOT NULL,
        holder TEXT,
        body BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE ports (
        host_port INTEGER PRIMARY KEY,
        holder TEXT NOT NULL,
        container_port TEXT NOT NULL,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE operations (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        verb TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        accepted_us INTEGER NOT NULL,
        finished_seq INTEGER,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE history (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        verb TEXT NOT NULL,
        type TEXT NOT NULL,
        actor TEXT NOT NULL,
        operation_id TEXT NOT NULL
    )""",
    """CREATE TABLE prices (
        scope TEXT NOT NULL,
        valid_from_us INTEGER NOT NULL,
        price TEXT NOT NULL,
        currency TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (scope, valid_from_us)
    ) WITHOUT ROWID""",
    """CREATE TABLE months (
        month TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        total TEXT NOT NULL,
        currency TEXT NOT NULL,
        body BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE webhooks (
        name TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        url TEXT NOT NULL,
        disabled TEXT NOT NULL,
        body BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE usage (
        seq INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        begun_us INTEGER NOT NULL,
        ended_us INTEGER,
        body BLOB NOT NULL
    )""",
    """CREATE TABLE gpus_used (
        uuid TEXT PRIMARY KEY,
        until_us INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

INDEXES: tuple[str, ...] = (
    "CREATE UNIQUE INDEX operations_by_id ON operations (id)",
    "CREATE INDEX operations_by_name ON operations (name)",
    "CREATE INDEX operations_by_end ON operations (finished_seq)",
    "CREATE INDEX history_by_name ON history (kind, name)",
    "CREATE INDEX usage_by_end ON usage (ended_us)",
)
"""A rebuild makes them when all rows are there, which is much cheaper."""

MOVE_POSITION = "UPDATE position SET seq = ? WHERE seq = ?"
"""To where, from where: changes no row when another projector moved it."""


@cache
def upsert(table: str, rows: int) -> str:
    """The statement that writes so many rows of a table at once."""
    columns = COLUMNS[table]
    place = f"({', '.join('?' * len(columns))})"
    # Only the columns that change are set, so that an index on the others is left alone.
    rest = [column for column in columns if column not in KEYS[table]]
    changes = ", ".join(f"{column} = excluded.{column}" for column in rest)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([place] * rows)}"
        f" ON CONFLICT ({', '.join(KEYS[table])}) DO UPDATE SET {changes}"
    )


def delete(table: str) -> str:
    """The statement that deletes the row with a key."""
    return f"DELETE FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in KEYS[table])}"


STATE_BODIES: dict[str, str] = {
    "node": "SELECT body FROM node",
    "replica_sets": "SELECT body FROM replica_sets",
    "revisions": "SELECT body FROM revisions",
    "volumes": "SELECT body FROM volumes",
    "gpus": "SELECT body FROM gpus",
    "ports": "SELECT body FROM ports",
    "operations": "SELECT body FROM operations WHERE finished_seq IS NULL",
    "prices": "SELECT body FROM prices",
    "months": "SELECT body FROM months",
    "webhooks": "SELECT body FROM webhooks",
}
"""What a state is loaded from; the operations that go on are in it, the ended ones are not."""

FINISHED_BODIES = """
    SELECT body FROM (
        SELECT finished_seq, seq, body FROM operations WHERE finished_seq IS NOT NULL
        ORDER BY finished_seq DESC, seq DESC LIMIT ?
    ) ORDER BY finished_seq, seq
"""
"""The operations that ended last, in the order in which the state queues them."""


OPEN_USAGE = "SELECT body FROM usage WHERE ended_us IS NULL ORDER BY seq"
"""What records opened of which something goes on, in their order."""

GPUS_USED = "SELECT uuid, until_us FROM gpus_used"


def select_all(table: str) -> str:
    """The statement that reads a whole table in the order of its key."""
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table} ORDER BY {', '.join(KEYS[table])}"
