"""The key that the secrets of webhooks are made with: a file of its owner only.

It is not in the ledger, as that is given to subscribers and to backups.
"""

import os
import re
import secrets
from pathlib import Path

from service.errors import SettingsError

FILE = "webhooks.key"
KEY_BYTES = 32

_HEX = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")


def webhook_key(data_dir: Path) -> bytes:
    """The installation's key, made when there is none. Blocks. Raises SettingsError."""
    path = data_dir / FILE
    try:
        if not path.exists():
            _write(path, secrets.token_hex(KEY_BYTES))
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}, the key of webhooks, cannot be used ({error})") from error
    if not _HEX.fullmatch(text):
        raise SettingsError(
            f"{path}, the key of webhooks, is damaged: put it right from a copy; or delete it, and"
            " give every webhook a new secret (gpuledger webhook rotate)"
        )
    return bytes.fromhex(text)


def _write(path: Path, text: str) -> None:
    """All of it or nothing, and on disk: a secret that was told must be made again."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
