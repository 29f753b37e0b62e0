"""The few programs that a simulated container can run, working on its files."""

import re
from collections.abc import Mapping, Sequence

NO_SUCH_COMMAND = "no-such-command"
"""The one program that no container has, real ones included."""

ENVIRONMENT_FILE = "/proc/1/environ"

_WRITE = re.compile(r"echo (?P<text>.*) > (?P<path>/\S+)")
_EXIT = re.compile(r"exit (?P<code>\d{1,3})")


def missing_program(cmd: Sequence[str]) -> str | None:
    """Docker's words when the command cannot be found, else None."""
    if cmd and cmd[0] == NO_SUCH_COMMAND:
        return (
            "failed to create shim task: OCI runtime create failed: runc create failed:"
            f' unable to start container process: exec: "{cmd[0]}":'
            " executable file not found in $PATH: unknown"
        )
    return None


def run_program(
    cmd: Sequence[str], files: dict[str, bytes], environment: Mapping[str, str]
) -> tuple[int | None, bytes]:
    """Exit code (None: runs until it is stopped) and stdout; writes and removes in `files`."""
    words = missing_program(cmd)
    if words is not None:
        return 127, words.encode()
    match list(cmd):
        case ["true"]:
            return 0, b""
        case ["false"]:
            return 1, b""
        case ["echo", *parts]:
            return 0, " ".join(parts).encode() + b"\n"
        case ["cat", path] if path == ENVIRONMENT_FILE:
            return 0, b"".join(f"{k}={v}\0".encode() for k, v in environment.items())
        case ["cat", path]:
            return (0, files[path]) if path in files else (1, b"")
        case ["rm", path]:
            return (0, b"") if files.pop(path, None) is not None else (1, b"")
        case ["sh", "-c", script]:
            return _run_script(script, files)
    return None, b""


def _run_script(script: str, files: dict[str, bytes]) -> tuple[int | None, bytes]:
    if write := _WRITE.fullmatch(script):
        files[write["path"]] = write["text"].encode() + b"\n"
        return 0, b""
    if end := _EXIT.fullmatch(script):
        return int(end["code"]), b""
    return None, b""
