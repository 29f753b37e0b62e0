"""Refusals: values, not exceptions. The order of `Reason` is the order of precedence."""

from enum import StrEnum

from msgspec import Struct


class Reason(StrEnum):
    """Why a well-formed command may not be done. The words are stable: clients match on them."""

    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    REPLICA_SET_NOT_FOUND = "replica_set_not_found"
    VOLUME_NOT_FOUND = "volume_not_found"
    GPU_NOT_FOUND = "gpu_not_found"
    ORPHAN_NOT_FOUND = "orphan_not_found"
    WEBHOOK_NOT_FOUND = "webhook_not_found"
    REPLICA_SET_EXISTS = "replica_set_exists"
    VOLUME_EXISTS = "volume_exists"
    WEBHOOK_EXISTS = "webhook_exists"
    OPERATION_IN_PROGRESS = "operation_in_progress"
    REVISION_NOT_FOUND = "revision_not_found"
    ALREADY_AT_REVISION = "already_at_revision"
    NOTHING_TO_PATCH = "nothing_to_patch"
    DEBUG_COPY = "debug_copy"
    HOST_PATH_REFUSED = "host_path_refused"
    BIND_NOT_FOUND = "bind_not_found"
    BIND_TARGET_TAKEN = "bind_target_taken"
    SYSTEM_DISK_GONE = "system_disk_gone"
    ENV_NOT_FOUND = "env_not_found"
    NOT_RUNNING = "not_running"
    STOPPED = "stopped"
    SAME_SIZE = "same_size"
    VOLUME_IN_USE = "volume_in_use"
    VOLUME_BUSY = "volume_busy"
    GPUS_EXHAUSTED = "gpus_exhausted"
    PORTS_EXHAUSTED = "ports_exhausted"
    WEBHOOKS_EXHAUSTED = "webhooks_exhausted"
    MONTH_CLOSED = "month_closed"
    MONTH_NOT_OVER = "month_not_over"
    CURRENCY_DIFFERS = "currency_differs"
    STALE_OUTCOME = "stale_outcome"
    NOTHING_NEW = "nothing_new"


class Rejected(Struct, frozen=True):
    """The command may not be done: nothing is recorded, nothing changes."""

    reason: Reason
    message: str
    """For people: what, to what, what to do."""
