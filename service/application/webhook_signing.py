"""How what is sent to webhooks is signed: as https://www.standardwebhooks.com has it.

A secret is made of the installation's key and the id of the operation that asked for it, so it
stands nowhere: neither in the ledger nor in a file.
"""

import hashlib
import hmac
from base64 import b64encode

from events.webhook_messages import WebhookHeaders
from projections.webhook_book import Webhook

SECRET_PREFIX = "whsec_"
_KEY_ID_LENGTH = 16


class Signer:
    """Makes secrets and signatures with the installation's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hashlib.sha256(b"gpuledger webhooks\0" + key).hexdigest()[:_KEY_ID_LENGTH]
        """Tells one key from another, and nothing about it."""

    def knows(self, webhook: Webhook) -> bool:
        """Can its secret be made with this key?"""
        return webhook.key_id == self.key_id

    def secret(self, webhook: str, secret_id: str) -> str:
        """A secret as its receiver is given it: `whsec_` and the key for HMAC in base64."""
        return SECRET_PREFIX + b64encode(self._secret(webhook, secret_id)).decode()

    def headers(self, webhook: Webhook, message_id: str, at_us: int, body: bytes) -> dict[str, str]:
        """The headers that say which message it is, when it is sent, and that it is ours."""
        timestamp = str(at_us // 1_000_000)
        signed = f"{message_id}.{timestamp}.".encode() + body
        secrets = (self._secret(webhook.name, one) for one in webhook.secret_ids(at_us))
        digests = (hmac.digest(secret, signed, "sha256") for secret in secrets)
        signature = " ".join(f"v1,{b64encode(one).decode()}" for one in digests)
        return WebhookHeaders(message_id, timestamp, signature).as_dict()

    def _secret(self, webhook: str, secret_id: str) -> bytes:
        return hmac.digest(self._key, f"{webhook}\0{secret_id}".encode(), "sha256")
