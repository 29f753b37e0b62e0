"""Every way to say no: contract codes, HTTP statuses, and which refusal gets which.

The mapping is total: a test asks it for every action with every reason. The code stands in the
body, as clients of the predecessor read it; the status is the honest one of HTTP.
"""

from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus

from msgspec import Struct

from events.codec import RecordTooLarge
from events.values import Kind, Verb
from projections.state import Operation
from service.domain.rejections import Reason, Rejected
from service.errors import (
    AuditError,
    DeliveriesUnavailable,
    EngineError,
    EngineUnavailable,
    GpuledgerError,
    LedgerDamaged,
    LedgerError,
    ServiceBusy,
    SystemDiskError,
)


class Code(IntEnum):
    """The contract's codes with their meanings; our own begin at 1100."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "Code":
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SUCCESS = 200, "success"
    SERVER_BUSY = 500, "server busy, or an error that nobody foresaw"
    BAD_REQUEST = 1000, "the request cannot be read or a value in it makes no sense"
    IMAGE_NAME_EMPTY = 1001, "image name empty"
    NAME_EMPTY = 1002, "container name empty"
    NAME_HAS_DASH = 1003, "container name contains a dash"
    RUN_FAILED = 1004, "run failed"
    DELETE_FAILED = 1005, "delete failed"
    EXECUTE_FAILED = 1006, "execute failed"
    PATCH_FAILED = 1007, "patch failed"
    NAME_EXISTS = 1008, "container exists"
    NOTHING_TO_PATCH = 1009, "nothing to patch"
    STOP_FAILED = 1010, "stop failed"
    RESTART_FAILED = 1011, "restart failed"
    GPU_COUNT_NEGATIVE = 1012, "gpuCount negative"
    GPUS_SHORT = 1013, "not enough GPUs"
    PORTS_SHORT = 1014, "not enough ports"
    COMMIT_FAILED = 1015, "commit failed"
    INFO_NOT_FOUND = 1016, "info: no such container"
    HISTORY_NOT_FOUND = 1017, "history: no such container or version"
    PAUSE_FAILED = 1018, "pause failed"
    CONTINUE_FAILED = 1019, "continue failed"
    VERSION_NEGATIVE = 1020, "version negative"
    ROLLBACK_FAILED = 1021, "rollback failed (unknown version included)"
    ALREADY_AT_VERSION = 1022, "already at that version"
    VOLUME_CREATE_FAILED = 1023, "volume create failed"
    VOLUME_NAME_EMPTY = 1024, "volume name empty"
    VOLUME_DELETE_FAILED = 1025, "volume delete failed"
    VOLUME_EXISTS = 1026, "volume exists"
    VOLUME_WITHOUT_VERSION = 1027, "volume name must carry its version"
    SAME_SIZE = 1028, "same size, nothing to do"
    SIZE_UNIT_UNKNOWN = 1029, "size unit not supported"
    BELOW_USED = 1030, "new size is below what is used"
    VOLUME_NAME_HAS_DASH = 1031, "volume name contains a dash"
    VOLUME_NAME_IS_PATH = 1032, "volume name begins with /"
    VOLUME_INFO_FAILED = 1033, "volume info failed (no such volume)"
    VOLUME_HISTORY_FAILED = 1034, "volume history failed (no such volume)"
    VOLUME_PATCH_FAILED = 1035, "volume patch failed"
    OPERATION_IN_PROGRESS = 1100, "another operation on this name is in progress"
    IDEMPOTENCY_KEY_REUSED = 1101, "the idempotency key was used for another request"
    SYSTEM_DISK_GONE = 1102, "the system disk of that version is no longer kept"
    VOLUME_BUSY = 1103, "volume in use or being changed"
    ENGINE_UNAVAILABLE = 1104, "Docker is out of reach"
    LEDGER_UNAVAILABLE = 1105, "the ledger is out of reach"
    OPERATION_NOT_FOUND = 1106, "no such operation"
    NO_SUCH_ROUTE = 1107, "no such route, or not with this method"
    PIN_FAILED = 1108, "pin failed"
    UNPIN_FAILED = 1109, "unpin failed"
    DISKS_NOT_COMPARABLE = 1110, "the system disks cannot be compared"
    TOKEN_NEEDED = 1111, "a token is needed, or the one sent is wrong, revoked or expired"
    ROLE_TOO_SMALL = 1112, "the token's role does not allow this"
    TOO_MANY_REQUESTS = 1113, "this caller sends too many requests, or has too many waiting"
    OTHER_SITE = 1114, "asked for by a name or by a page that is not ours"
    QUARANTINE_FAILED = 1115, "quarantine failed (no such GPU)"
    RESTORE_FAILED = 1116, "restore failed (no such GPU)"
    ORPHAN_REMOVE_FAILED = 1117, "the orphan could not be removed (it is none any more included)"
    SET_PRICE_FAILED = 1118, "price not set"
    CLOSE_MONTH_FAILED = 1119, "month not closed"
    MONTH_CLOSED = 1120, "the month is closed, and stays as it is"
    MONTH_NOT_FOUND = 1121, "no such month was closed"
    WEBHOOK_FAILED = 1122, "the webhook was not changed"
    WEBHOOK_EXISTS = 1123, "webhook exists"
    WEBHOOK_NOT_FOUND = 1124, "no such webhook, or no such dead letter"
    DEBUG_FAILED = 1125, "debug failed (unknown version included)"
    DEBUG_COPY = 1126, "a debug copy stays as it was made"
    RECOVER_FAILED = 1127, "the container could not be made again"
    VOLUME_RECOVER_FAILED = 1128, "the volume could not be made again"
    AUDIT_UNAVAILABLE = 1129, "checkpoints cannot be kept or read"
    LEDGER_CHANGED = 1130, "the ledger is not what was signed before"


class Problem(Struct, frozen=True):
    """A refusal or an error, ready to be sent."""

    code: Code
    status: int
    message: str
    reason: str
    field: str = ""
    operation_id: str = ""
    retry_after_s: int = 0


class BadRequest(Exception):
    """The request is not well formed: nothing was decided. `field` names what is wrong."""

    def __init__(
        self,
        code: Code,
        message: str,
        field: str = "",
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        reason: str = "bad_request",
    ) -> None:
        super().__init__(message)
        self.problem = Problem(code, status, message, reason, field)


Action = tuple[Kind, Verb]
"""What a caller asked for. "delete" alone does not say of what."""

OWN_CODES: Mapping[Action, Code] = {
    ("replica_set", "run"): Code.RUN_FAILED,
    ("replica_set", "patch"): Code.PATCH_FAILED,
    ("replica_set", "commit"): Code.COMMIT_FAILED,
    ("replica_set", "rollback"): Code.ROLLBACK_FAILED,
    ("replica_set", "debug"): Code.DEBUG_FAILED,
    ("replica_set", "stop"): Code.STOP_FAILED,
    ("replica_set", "restart"): Code.RESTART_FAILED,
    ("replica_set", "pause"): Code.PAUSE_FAILED,
    ("replica_set", "continue"): Code.CONTINUE_FAILED,
    ("replica_set", "execute"): Code.EXECUTE_FAILED,
    ("replica_set", "delete"): Code.DELETE_FAILED,
    ("replica_set", "pin"): Code.PIN_FAILED,
    ("replica_set", "unpin"): Code.UNPIN_FAILED,
    ("volume", "create"): Code.VOLUME_CREATE_FAILED,
    ("volume", "resize"): Code.VOLUME_PATCH_FAILED,
    ("volume", "delete"): Code.VOLUME_DELETE_FAILED,
    ("gpu", "quarantine"): Code.QUARANTINE_FAILED,
    ("gpu", "restore"): Code.RESTORE_FAILED,
    ("orphan", "remove"): Code.ORPHAN_REMOVE_FAILED,
    ("price", "set"): Code.SET_PRICE_FAILED,
    ("month", "close"): Code.CLOSE_MONTH_FAILED,
    ("webhook", "register"): Code.WEBHOOK_FAILED,
    ("webhook", "rotate"): Code.WEBHOOK_FAILED,
    ("webhook", "disable"): Code.WEBHOOK_FAILED,
    ("webhook", "enable"): Code.WEBHOOK_FAILED,
    ("webhook", "remove"): Code.WEBHOOK_FAILED,
    ("replica_set", "recover"): Code.RECOVER_FAILED,
    ("volume", "recover"): Code.VOLUME_RECOVER_FAILED,
}
"""The code "<verb> failed" of every action."""

_NOT_FOUND, _CONFLICT, _RULE = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_UPSTREAM, _AWAY = HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE

# Reasons that have one code whatever was asked for.
_SHARED: Mapping[Reason, tuple[Code, HTTPStatus]] = {
    Reason.IDEMPOTENCY_KEY_REUSED: (Code.IDEMPOTENCY_KEY_REUSED, _RULE),
    Reason.REPLICA_SET_EXISTS: (Code.NAME_EXISTS, _CONFLICT),
    Reason.VOLUME_EXISTS: (Code.VOLUME_EXISTS, _CONFLICT),
    Reason.WEBHOOK_EXISTS: (Code.WEBHOOK_EXISTS, _CONFLICT),
    Reason.WEBHOOK_NOT_FOUND: (Code.WEBHOOK_NOT_FOUND, _NOT_FOUND),
    Reason.OPERATION_IN_PROGRESS: (Code.OPERATION_IN_PROGRESS, _CONFLICT),
    Reason.ALREADY_AT_REVISION: (Code.ALREADY_AT_VERSION, _CONFLICT),
    Reason.NOTHING_TO_PATCH: (Code.NOTHING_TO_PATCH, _RULE),
    Reason.DEBUG_COPY: (Code.DEBUG_COPY, _RULE),
    Reason.SYSTEM_DISK_GONE: (Code.SYSTEM_DISK_GONE, _RULE),
    Reason.SAME_SIZE: (Code.SAME_SIZE, _RULE),
    Reason.VOLUME_IN_USE: (Code.VOLUME_BUSY, _CONFLICT),
    Reason.VOLUME_BUSY: (Code.VOLUME_BUSY, _CONFLICT),
    Reason.GPUS_EXHAUSTED: (Code.GPUS_SHORT, _CONFLICT),
    Reason.PORTS_EXHAUSTED: (Code.PORTS_SHORT, _CONFLICT),
    Reason.MONTH_CLOSED: (Code.MONTH_CLOSED, _CONFLICT),
    # The service's own commands get these, never a caller's: here for the sake of totality.
    Reason.STALE_OUTCOME: (Code.SERVER_BUSY, HTTPStatus.INTERNAL_SERVER_ERROR),
    Reason.NOTHING_NEW: (Code.SERVER_BUSY, HTTPStatus.INTERNAL_SERVER_ERROR),
}

# Reasons that get the action's own code.
_OWN: Mapping[Reason, HTTPStatus] = {
    Reason.REPLICA_SET_NOT_FOUND: _NOT_FOUND,
    Reason.VOLUME_NOT_FOUND: _NOT_FOUND,
    Reason.GPU_NOT_FOUND: _NOT_FOUND,
    Reason.ORPHAN_NOT_FOUND: _NOT_FOUND,
    Reason.REVISION_NOT_FOUND: _NOT_FOUND,
    Reason.HOST_PATH_REFUSED: _RULE,
    Reason.BIND_NOT_FOUND: _RULE,
    Reason.BIND_TARGET_TAKEN: _RULE,
    Reason.ENV_NOT_FOUND: _RULE,
    Reason.NOT_RUNNING: _CONFLICT,
    Reason.STOPPED: _CONFLICT,
    Reason.MONTH_NOT_OVER: _CONFLICT,
    Reason.CURRENCY_DIFFERS: _RULE,
    Reason.WEBHOOKS_EXHAUSTED: _CONFLICT,
}

# What Docker and the disks say when an accepted operation fails. Any word that is not here is
# trouble behind us that the caller cannot put right: 502.
_FAILURES: Mapping[str, HTTPStatus] = {
    "bad_command": _RULE,
    "bad_request": _RULE,
    "image_not_found": _RULE,
    "layer_limit": _RULE,
    "mount_failed": _RULE,
    "no_such_volume": _RULE,
    "not_found": _RULE,
    "conflict": _CONFLICT,
    "image_in_use": _CONFLICT,
    "name_taken": _CONFLICT,
    "no_such_container": _CONFLICT,
    "port_taken": _CONFLICT,
    "no_space": HTTPStatus.INSUFFICIENT_STORAGE,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}

_REASONS: Mapping[str, Reason] = {reason.value: reason for reason in Reason}

_SHARED_FAILURES: Mapping[str, tuple[Code, HTTPStatus]] = {
    "volume_below_used": (Code.BELOW_USED, _RULE),
    "engine_unavailable": (Code.ENGINE_UNAVAILABLE, _AWAY),
}


def code_of_reason(action: Action, reason: Reason) -> tuple[Code, HTTPStatus]:
    """Code and HTTP status of a rule's refusal."""
    shared = _SHARED.get(reason)
    return shared if shared is not None else (OWN_CODES[action], _OWN[reason])


def code_of_failure(action: Action, reason: str) -> tuple[Code, HTTPStatus]:
    """Code and HTTP status of an accepted operation that failed, for any word at all."""
    if (shared := _SHARED_FAILURES.get(reason)) is not None:
        return shared
    if (rule := _REASONS.get(reason)) is not None:
        return code_of_reason(action, rule)
    return OWN_CODES[action], _FAILURES.get(reason, _UPSTREAM)


def of_rejection(action: Action, rejected: Rejected) -> Problem:
    """What to answer when a rule refused."""
    code, status = code_of_reason(action, rejected.reason)
    return Problem(code, status, rejected.message, rejected.reason.value)


def of_failure(operation: Operation) -> Problem:
    """What to answer when an operation ended in failure, in Docker's own words."""
    code, status = code_of_failure((operation.kind, operation.verb), operation.reason)
    message = operation.message or code.meaning
    return Problem(code, status, message, operation.reason, operation_id=operation.id)


def of_error(error: GpuledgerError | RecordTooLarge) -> Problem:
    """What to answer when the world did not play along."""
    text = str(error) or type(error).__name__
    if isinstance(error, RecordTooLarge):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return Problem(Code.BAD_REQUEST, status, f"too much for one record: {text}", "too_large")
    if isinstance(error, EngineUnavailable):
        return Problem(Code.ENGINE_UNAVAILABLE, _AWAY, text, "engine_unavailable", retry_after_s=5)
    if isinstance(error, EngineError):
        return Problem(Code.ENGINE_UNAVAILABLE, _UPSTREAM, text, "engine_refused")
    if isinstance(error, LedgerError):
        return Problem(Code.LEDGER_UNAVAILABLE, _AWAY, text, "ledger_unavailable", retry_after_s=5)
    if isinstance(error, DeliveriesUnavailable):
        return Problem(Code.SERVER_BUSY, _AWAY, text, "deliveries_unavailable", retry_after_s=5)
    if isinstance(error, AuditError):
        return Problem(Code.AUDIT_UNAVAILABLE, _AWAY, text, "audit_unavailable", retry_after_s=5)
    if isinstance(error, ServiceBusy):
        return Problem(Code.SERVER_BUSY, _AWAY, text, "service_busy", retry_after_s=1)
    return Problem(Code.SERVER_BUSY, HTTPStatus.INTERNAL_SERVER_ERROR, text, "internal_error")


def of_reads_away() -> Problem:
    """What to answer while the read store cannot be asked."""
    text = "the read store cannot be asked just now; /readyz says why. Ask again in a moment"
    return Problem(Code.SERVER_BUSY, _AWAY, text, "read_store_away", retry_after_s=1)


def not_found(code: Code, message: str, reason: str) -> Problem:
    """What to answer when a read asks for a name that is not there."""
    return Problem(code, _NOT_FOUND, message, reason)


def ledger_changed(error: LedgerDamaged) -> Problem:
    """What to answer who wants signed what is not what was signed before."""
    return Problem(Code.LEDGER_CHANGED, _CONFLICT, str(error), "ledger_changed")


def disk_gone(message: str) -> Problem:
    """What to answer when a read asks for a system disk that is no longer kept."""
    return Problem(Code.SYSTEM_DISK_GONE, _RULE, message, Reason.SYSTEM_DISK_GONE.value)


def not_comparable(error: SystemDiskError) -> Problem:
    """What to answer when two system disks are there and cannot be compared."""
    return Problem(Code.DISKS_NOT_COMPARABLE, _RULE, str(error), "disks_not_comparable")
