"""Webhooks in the state."""

from msgspec import Struct

from events.webhooks import Wanted


class Webhook(Struct, frozen=True, gc=False, omit_defaults=True):
    """One that is registered."""

    name: str
    url: str
    secret_id: str
    key_id: str
    """Of the key that its secret is made with."""
    seq: int
    """The record that registered it: the same name may come again."""
    after_seq: int
    """The record that it begins after."""
    created_us: int
    actor: str
    """Who registered it."""
    wanted: Wanted = Wanted()
    old_secret_id: str = ""
    """The secret before, made with the same key; empty when there is none that counts."""
    old_until_us: int = 0
    disabled: str = ""
    """Why nothing is sent to it; empty when it is enabled."""

    def secret_ids(self, at_us: int) -> tuple[str, ...]:
        """The secrets that count at an instant, the newest first."""
        old = self.old_secret_id if at_us < self.old_until_us else ""
        return (self.secret_id, old) if old else (self.secret_id,)
