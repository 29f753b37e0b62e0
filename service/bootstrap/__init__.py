"""The composition root: the only package that names concrete adapters.

Each entry opens what it needs in order, and leaves it in reverse.
"""

from service.bootstrap.backing_up import BackupSummary, back_up, restore, verify_backup
from service.bootstrap.maintaining import CheckReport, RebuildSummary, check, rebuild
from service.bootstrap.recovering import recover
from service.bootstrap.replaying import copy_backup, copy_log, read_alterations
from service.bootstrap.serving import serve
from service.bootstrap.verifying import verify_audit, verify_backup_chain, verify_export

__all__ = [
    "BackupSummary",
    "CheckReport",
    "RebuildSummary",
    "back_up",
    "check",
    "copy_backup",
    "copy_log",
    "read_alterations",
    "rebuild",
    "recover",
    "restore",
    "serve",
    "verify_audit",
    "verify_backup",
    "verify_backup_chain",
    "verify_export",
]
