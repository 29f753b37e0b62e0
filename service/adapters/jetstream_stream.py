"""The stream that holds the ledger: what it must be, made once, looked at on every start."""

import asyncio
from typing import Any

from service.adapters.jetstream_connection import JetStreamRefused, NatsConnection
from service.errors import SettingsError

STREAM = "LEDGER"
SUBJECTS = ("ledger.>",)
MESSAGE_BYTES_MAX = 1024 * 1024
"""Headers and body. Equal to `max_payload` in compose/nats.conf, and NATS's own default."""

NO_STREAM = 10059
"""JetStream's err_code for a stream that is not there."""
NO_STORE = 10049
"""And for one whose files could not be made."""

CREATE_S = 10.0
"""So long a server may take to make a stream."""
AGAIN_S = 0.05

_IMMUTABLE: dict[str, Any] = {
    "retention": "limits",
    "storage": "file",
    # A full disk refuses what is new; it never drops what is old.
    "discard": "new",
    "max_age": 0,
    "max_msgs": -1,
    "max_msgs_per_subject": -1,
    "deny_delete": True,
    "deny_purge": True,
    "sealed": False,
    "allow_rollup_hdrs": False,
    "allow_msg_ttl": False,
    "allow_atomic": True,
}
"""What the ledger's promises rest on; a stream that differs in one of these is refused."""

_OURS: dict[str, Any] = {
    **_IMMUTABLE,
    "name": STREAM,
    "subjects": list(SUBJECTS),
    "allow_direct": True,
    "max_msg_size": MESSAGE_BYTES_MAX,
    # Half a million ids cost the server some 95 MB: an hour is plenty at our rates. A record
    # re-sent later is recognised by the fold, which knows the command ids.
    "duplicate_window": 3600 * 10**9,
}
"""What we make. Limits beyond `_IMMUTABLE` may differ on a server of the user's own."""


async def find_stream(connection: NatsConnection) -> dict[str, Any] | None:
    """The stream's configuration, None when it is not there. Raises LedgerUnavailable."""
    try:
        info = await connection.call(f"STREAM.INFO.{STREAM}")
    except JetStreamRefused as refused:
        if refused.err_code == NO_STREAM:
            return None
        raise
    config: dict[str, Any] = info["config"]
    return config


def wanted_config(replicas: int) -> dict[str, Any]:
    """What a ledger's stream is made with."""
    return {**_OURS, "num_replicas": replicas}


async def create_stream(connection: NatsConnection, replicas: int) -> dict[str, Any]:
    """Make the stream, or find it made with the same settings; return its configuration.

    Raises LedgerUnavailable, also when this user may not: the server answers such a call with
    silence, and its reason is in the log.
    """
    wanted = wanted_config(replicas)
    info = await connection.call(f"STREAM.CREATE.{STREAM}", wanted, CREATE_S)
    config: dict[str, Any] = info["config"]
    return config


async def create_anew(connection: NatsConnection, config: dict[str, Any]) -> dict[str, Any]:
    """Make a stream that was deleted a moment ago; its configuration. Raises LedgerUnavailable.

    The server goes on deleting the files after it has answered (2.15), and until that is done the
    new stream's may not be made: then it is asked again.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + CREATE_S
    while True:
        try:
            info = await connection.call(f"STREAM.CREATE.{config['name']}", config, CREATE_S)
        except JetStreamRefused as refused:
            if refused.err_code != NO_STORE or loop.time() > until_s:
                raise
            await asyncio.sleep(AGAIN_S)
        else:
            made: dict[str, Any] = info["config"]
            return made


def check_stream(config: dict[str, Any], server: str) -> None:
    """Raises SettingsError when the stream could lose a record. It is never changed by us."""
    wrong = [
        f"{key} is {config.get(key)!r} instead of {value!r}"
        for key, value in _IMMUTABLE.items()
        if config.get(key) != value
    ]
    if config.get("persist_mode") == "async":
        wrong.append("persist_mode is 'async', which acknowledges before it writes")
    if not set(SUBJECTS) <= set(config.get("subjects", ())):
        wrong.append(f"subjects are {config.get('subjects')!r} instead of {list(SUBJECTS)!r}")
    if wrong:
        raise SettingsError(f"{server}: stream {STREAM} cannot be a ledger: {'; '.join(wrong)}")
