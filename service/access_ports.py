"""Who may do what: roles, tokens, and the port that knows which tokens there are."""

from typing import Literal, Protocol, get_args

from msgspec import Struct

Role = Literal["viewer", "operator", "admin"]

ROLES: tuple[Role, ...] = get_args(Role)
"""The smallest first: each may do what those before it may."""


class Grant(Struct, frozen=True):
    """Who a caller is, and what it may do."""

    actor: str
    """As records name it: the token's name."""
    tenant: str
    role: Role

    def covers(self, needed: Role) -> bool:
        """Is this role enough where `needed` is asked for?"""
        return ROLES.index(self.role) >= ROLES.index(needed)


class Token(Struct, frozen=True):
    """A token as it is kept: what it grants, and the hash by which it is known again."""

    name: str
    role: Role
    tenant: str
    sha256: str
    """Of the token, in hexadecimal digits. It has 256 random bits: no salt makes that harder."""
    created_us: int
    expires_us: int | None = None
    """From this instant on it grants nothing; None is never. Microseconds since the epoch."""

    def expired(self, now_us: int) -> bool:
        """Is it of no use any more?"""
        return self.expires_us is not None and now_us >= self.expires_us


class Tokens(Protocol):
    """The tokens that there are, as they are now: made and revoked while the service runs."""

    async def any(self) -> bool:
        """Is there one at all, an expired one included?"""
        ...

    async def find(self, presented: str) -> Grant | None:
        """What a token grants; None when it is unknown, revoked or expired."""
        ...
