"""The key that signs an installation's checkpoints: Ed25519, in a file of the data directory.

Made at the first start. The file is PKCS 8 in PEM, as `openssl pkey` reads it.
"""

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from service.audit_ports import Checkpoint
from service.errors import AuditError

KEY_FILE = "audit.key"

_PRIVATE = 0o600


class KeyFile:
    """The port `Signer` on a file, which is made where it is missing. Making one blocks."""

    def __init__(self, data_dir: Path) -> None:
        """Raises AuditError when the key can be neither read nor made."""
        self._path = data_dir / KEY_FILE
        self._key = _read(self._path) or _make(self._path)
        self._public = self._key.public_key()

    @property
    def key_id(self) -> str:
        """As the port says."""
        return key_id_of(self._public)

    @property
    def public_pem(self) -> str:
        """As the port says."""
        return self._public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def signature(self, text: bytes) -> str:
        """As the port says."""
        return base64.b64encode(self._key.sign(text)).decode()


def key_id_of(key: Ed25519PublicKey) -> str:
    """What checkpoints name a key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def read_public(path: Path) -> Ed25519PublicKey:
    """A public key in PEM, or that of a private one. Raises AuditError."""
    try:
        text = path.read_bytes()
        if b"PRIVATE KEY" in text:
            key: object = serialization.load_pem_private_key(text, None)
            if isinstance(key, Ed25519PrivateKey):
                return key.public_key()
        else:
            key = serialization.load_pem_public_key(text)
            if isinstance(key, Ed25519PublicKey):
                return key
    except OSError as error:
        raise AuditError(f"the key {path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise AuditError(f"{path} is no key: {error}") from error
    raise AuditError(f"{path} is no Ed25519 key")


def see_signed(checkpoint: Checkpoint, key: Ed25519PublicKey) -> None:
    """Raises AuditError when the key did not sign it as it is."""
    try:
        signature = base64.b64decode(checkpoint.signature, validate=True)
        key.verify(signature, checkpoint.signed_text())
    except (ValueError, InvalidSignature) as error:
        raise AuditError(
            f"the checkpoint of seq {checkpoint.seq} is forged, or of another key: it was not"
            f" signed by {key_id_of(key)}"
        ) from error


def _read(path: Path) -> Ed25519PrivateKey | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"the key {path} cannot be read ({error.strerror})") from error
    try:
        key = serialization.load_pem_private_key(text, None)
    except (ValueError, TypeError) as error:
        raise AuditError(
            f"{path} is damaged ({error}): put it back from a copy, or take it away for a new one,"
            " whose public key is to be handed out anew"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"{path} is no Ed25519 key")
    return key


def _make(path: Path) -> Ed25519PrivateKey:
    """On disk before anything is signed with it; whole, or not there."""
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, _PRIVATE), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise AuditError(f"the key {path} cannot be written ({error.strerror})") from error
    return key
