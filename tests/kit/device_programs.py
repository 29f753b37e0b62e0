"""Control groups of version 2 whose devices are ruled as systemd and runc do it: by a program."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYSCALL = {"x86_64": 321, "aarch64": 280}
"""The number of bpf(2)."""

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2

_EXIT = bytes((0x95, *[0] * 7))


def version_2() -> Path | None:
    """Where groups of version 2 are mounted, beside others or alone."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 ") and before.split()[3] == "/":
            return Path(before.split()[4])
    return None


@contextmanager
def group(parent: Path, name: str) -> Iterator[Path]:
    """A group without processes; it must have none at the end."""
    made = parent / name
    made.mkdir()
    try:
        yield made
    finally:
        made.rmdir()


def deny_devices(of: Path) -> None:
    """No process of this group may open any device from now on."""
    deny = bytes((0xB7, *[0] * 7)) + _EXIT  # r0 = 0, which is no
    code, licence = ctypes.create_string_buffer(deny, len(deny)), ctypes.c_char_p(b"GPL")
    load = _packed(_TYPE_CGROUP_DEVICE, len(deny) // 8) + _pointer(code) + _pointer(licence)
    program = _bpf(_PROG_LOAD, load)
    folder = os.open(of, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _bpf(_PROG_ATTACH, _packed(folder, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(folder)
        os.close(program)


def _packed(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def _pointer(to: ctypes.Array[ctypes.c_char] | ctypes.c_char_p) -> bytes:
    address = ctypes.cast(to, ctypes.c_void_p).value or 0
    return address.to_bytes(8, "little")


def _bpf(command: int, attributes: bytes) -> int:
    attributes = attributes.ljust(128, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALL[platform.machine()]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(libc.syscall(number, command, buffer, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return result
