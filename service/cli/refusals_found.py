"""What was found of refusals, in the words of the commands that look at them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from service.cli.show import plural

if TYPE_CHECKING:
    from service.audit_ports import RefusalsVerified


def refusals_lines(found: "RefusalsVerified | None") -> Iterator[str]:
    """What is to be said of them, for people; None is where there are none to say it of."""
    if found is None:
        yield "it holds no refusals: those of before 0.6.0 are in no backup"
        return
    if found.fault:
        yield f"refusals are NOT as they were written: {found.fault}"
        return
    yield f"{plural(found.refusals, 'refusal')}: all is as it was written"
    if found.forgotten:
        yield f"{found.forgotten} before them were forgotten, as they were too many or too old"
    if found.unchained:
        yield f"{found.unchained} of them are from before 0.6.0: nothing proves those"
    if found.vouched:
        yield f"checkpoints prove {found.vouched} of them"
    if unproven := found.refusals - found.unchained - found.vouched:
        yield f"no checkpoint proves {unproven} of them: the newest ones of each caller"


def refusals_data(found: "RefusalsVerified | None") -> dict[str, Any] | None:
    """The same as JSON."""
    if found is None:
        return None
    return {
        "refusals": found.refusals,
        "unchained": found.unchained,
        "forgotten": found.forgotten,
        "vouched": found.vouched,
        "fault": found.fault or None,
    }
