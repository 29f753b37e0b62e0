"""When an event that a receiver did not take is sent again, and when it is given up."""

import hashlib

RETRY_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800)
"""So long after each attempt comes the next one; after the last it is a dead letter. In all it is
tried ten times within 16 to 20 hours: over a night, not over a holiday."""

JITTER = 0.25
"""Up to so much is added to each, so that what failed together does not come back together."""

RETRY_AFTER_S_MAX = 3600
"""A receiver that asks for more gets no more."""


def retry_after_us(webhook: str, message_id: str, number: int, asked_s: int = 0) -> int | None:
    """How long after attempt `number` (from 1) the next one is; None when there is none.

    At least what the receiver asked for. The same in every run: chance is made of the names.
    """
    if number > len(RETRY_S):
        return None
    digest = hashlib.sha256(f"{webhook} {message_id} {number}".encode()).digest()
    jitter = JITTER * int.from_bytes(digest[:4]) / (1 << 32)
    asked_s = min(asked_s, RETRY_AFTER_S_MAX)
    return round(max(RETRY_S[number - 1], asked_s) * (1 + jitter) * 1e6)
