"""ProjectQuota: the kernel's project quotas, as xfs and ext4 have them. Everything blocks.

Called directly, since no tool serves both file systems: quotactl_fd(2) (Linux 5.14) and the
ioctls of ioctl_xfs_fsgetxattr(2).
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.adapters.folder_mounts import mount_of
from service.adapters.folder_volumes import Usage

KINDS = ("xfs", "ext4")

# linux/quota.h, linux/dqblk_xfs.h
_SYS_QUOTACTL_FD = 443
_PRJQUOTA = 2
_Q_XGETQUOTA = 0x5803
_Q_XSETQLIM = 0x5804
_Q_XGETQSTAT = 0x5805
_FS_QUOTA_PDQ_ACCT = 1 << 4
_FS_QUOTA_PDQ_ENFD = 1 << 5
_FS_DQ_BHARD = 1 << 3
_FS_DQUOT_VERSION = 1
_FS_PROJ_QUOTA = 2
_DISK_QUOTA = struct.Struct("=bbHI6Q2i2H4b3QiHh8s")  # struct fs_disk_quota
_QUOTA_STAT_BYTES = 128  # struct fs_quota_stat has 80 of them
_FLAGS_AT = 2
_QUOTA_BLOCK_BYTES = 512

# linux/fs.h
_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
_FS_XFLAG_PROJINHERIT = 0x200
_FSXATTR = struct.Struct("=5I8s")

_LIBC = ctypes.CDLL(None, use_errno=True)


class ProjectQuota:
    """Limits on all files that carry a project's number. Raises OSError."""

    def why_not(self, folder: Path) -> str:
        """Why there are no project quotas in this folder; empty when there are."""
        mount = mount_of(folder)
        if mount.kind not in KINDS:
            return f"{folder} is on {mount.kind}, project quotas need {' or '.join(KINDS)}"
        status = ctypes.create_string_buffer(_QUOTA_STAT_BYTES)
        try:
            with _opened(folder) as descriptor:
                _quotactl(descriptor, _Q_XGETQSTAT, 0, status)
        except OSError as error:
            if error.errno == errno.EPERM:
                return "project quotas need CAP_SYS_ADMIN"
            if error.errno == errno.ENOSYS:
                return f"this kernel has no quotas for {mount.kind} (or is older than 5.14)"
            return f"{mount.point} is not mounted with prjquota ({error.strerror})"
        (flags,) = struct.unpack_from("=H", status, _FLAGS_AT)
        if not flags & _FS_QUOTA_PDQ_ACCT or not flags & _FS_QUOTA_PDQ_ENFD:
            return f"{mount.point} is not mounted with prjquota"
        return ""

    def tag(self, folder: Path, project: int) -> None:
        """Give an empty folder, and all that will ever be in it, to a project."""
        with _opened(folder) as descriptor:
            held = bytearray(_FSXATTR.size)
            fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, held)
            flags, extent, extents, _, cow_extent, padding = _FSXATTR.unpack(held)
            flags |= _FS_XFLAG_PROJINHERIT
            wanted = _FSXATTR.pack(flags, extent, extents, project, cow_extent, padding)
            fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, wanted)

    def set_limit(self, folder: Path, project: int, size_bytes: int) -> None:
        """Of a project on the file system of this folder; 0 takes the limit away."""
        blocks = size_bytes // _QUOTA_BLOCK_BYTES
        head = (_FS_DQUOT_VERSION, _FS_PROJ_QUOTA, _FS_DQ_BHARD, project, blocks)
        rest = (0,) * (len(_DISK_QUOTA.unpack(bytes(_DISK_QUOTA.size))) - len(head) - 1)
        wanted = ctypes.create_string_buffer(_DISK_QUOTA.pack(*head, *rest, b""))
        with _opened(folder) as descriptor:
            _quotactl(descriptor, _Q_XSETQLIM, project, wanted)

    def usage(self, folder: Path, project: int) -> Usage:
        """Of a project on the file system of this folder; one that nobody used has none.

        The kernel counts what is not yet written out, too.
        """
        held = ctypes.create_string_buffer(_DISK_QUOTA.size)
        try:
            with _opened(folder) as descriptor:
                _quotactl(descriptor, _Q_XGETQUOTA, project, held)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return Usage(0, None)
            raise
        fields = _DISK_QUOTA.unpack(held.raw)
        limit_blocks, used_blocks = fields[4], fields[8]
        return Usage(used_blocks * _QUOTA_BLOCK_BYTES, limit_blocks * _QUOTA_BLOCK_BYTES or None)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _quotactl(
    descriptor: int, command: int, project: int, data: "ctypes.Array[ctypes.c_char]"
) -> None:
    """quotactl_fd(2) for project quotas; glibc has no name for it."""
    answer = _LIBC.syscall(
        ctypes.c_long(_SYS_QUOTACTL_FD),
        ctypes.c_uint(descriptor),
        ctypes.c_uint(command << 8 | _PRJQUOTA),
        ctypes.c_uint(project),
        data,
    )
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
