"""The tree of operational errors: what can go wrong outside of the rules.

    GpuledgerError
    ├── SettingsError               a setting is missing or makes no sense
    ├── TokenFileError              the tokens cannot be read or changed
    ├── AuditError                  a checkpoint or its key cannot be read, written or believed
    ├── ServiceBusy                 too many commands are waiting; nothing was stored
    ├── LedgerError
    │   ├── LedgerUnavailable       nothing was stored, or it is not known whether it was
    │   ├── LedgerConflict          somebody else appended first (the expectation was stale)
    │   └── LedgerDamaged           a record is missing, unreadable or out of order
    ├── EngineError
    │   ├── EngineUnavailable       Docker did not answer: the effect may or may not have happened
    │   └── EngineRefused           Docker answered no; the message is Docker's own
    ├── VolumeStoreError
    │   └── VolumeBelowUsed         the new size is below what the data needs
    ├── SystemDiskError             a container's layer could not be kept, carried or dropped
    │   └── SystemDiskFull          the disk cannot hold what was to be written; nothing was begun
    ├── DeliveriesUnavailable       what is to be sent to webhooks cannot be read or written
    └── DeviceProbeError            the driver is there, but did not answer as it should

A refusal by a rule is no error: it is a value, `service.domain.rejections.Rejected`.
Foreign errors (nats, docker, OSError, NVML) are mapped once, in the adapter that meets them.
"""


class GpuledgerError(Exception):
    """Base of every operational error. The text is for people: what, to what, what to do."""


class SettingsError(GpuledgerError):
    """A setting is missing or makes no sense."""


class TokenFileError(GpuledgerError):
    """The tokens cannot be read or changed. The text says why."""


class AuditError(GpuledgerError):
    """A checkpoint or its key cannot be read, written or believed. The text says why."""


class ServiceBusy(GpuledgerError):
    """Too many commands are waiting. Nothing was stored; send it again in a moment."""


class LedgerError(GpuledgerError):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The ledger did not confirm. The append may or may not be stored: read before retrying."""


class LedgerConflict(LedgerError):
    """The ledger's last sequence was not the expected one; nothing was stored."""


class LedgerDamaged(LedgerError):
    """A record is missing, unreadable or out of order. Nothing may be skipped."""


class EngineError(GpuledgerError):
    """The container engine could not do what was asked."""


class EngineUnavailable(EngineError):
    """The engine did not answer. Whether the effect happened is not known."""


class EngineRefused(EngineError):
    """The engine answered no.

    `reason` is a stable snake_case word: `image_not_found`, `name_taken`, `not_ours`,
    `port_taken`, `bad_command`, `device_unavailable`, `mount_failed`, `image_in_use`,
    `volume_in_use`, `layer_limit`, `no_space`, `no_such_container`, `not_running`, `bad_request`
    or, of what has no name, `refused`. The text is Docker's own.
    """

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason


class VolumeStoreError(GpuledgerError):
    """A sized volume could not be made, grown, shrunk or removed. The text says why."""

    reason = "volume_store"


class VolumeBelowUsed(VolumeStoreError):
    """The new size is below what the data in the volume needs. Nothing was changed."""

    reason = "volume_below_used"


class SystemDiskError(GpuledgerError):
    """A container's layer could not be kept, carried or dropped. The text says why."""

    reason = "system_disk"


class SystemDiskFull(SystemDiskError):
    """The disk cannot hold what was to be written to it. Nothing was begun."""

    reason = "no_space"


class DeviceProbeError(GpuledgerError):
    """The GPU driver is present but did not answer as it should."""


class DeliveriesUnavailable(GpuledgerError):
    """What is to be sent to webhooks, and what was, cannot be read or written. Nothing is lost."""


class NoSuchPoint(GpuledgerError):
    """There is no such point of the ledger, or not yet. The text says which there are."""
