"""What a run found, and how it is printed."""

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from tests.chaos.faults import KINDS, NOT_OURS, Fault
from tests.chaos.kills import Damage, Recovery
from tests.chaos.load import Told


class Report(Struct):
    """Everything that is printed of a run."""

    seed: int
    clients: int
    told: Sequence[Told]
    damage: Damage
    seconds: float = 0.0
    rest_s: float = 0.0
    """How long it took until all that was accepted had ended, once nobody asked for more."""
    records: int = 0
    succeeded: int = 0
    failed: int = 0
    writes: int = 0
    containers: int = 0
    volumes: int = 0
    looks: int = 0
    starts_in_vain: Sequence[str] = ()
    faults: Sequence[Fault] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong with the service."""
        return all(fault.kind == NOT_OURS for fault in self.faults)

    def lines(self) -> Iterator[str]:
        """For people, the faults last."""
        damage = self.damage
        verdicts = Counter(one.verdict for one in self.told)
        verbs = Counter(one.asked.verb for one in self.told if one.verdict == "acknowledged")
        yield f"seed {self.seed}, {self.clients} clients, {self.seconds:.0f} s"
        yield (
            f"commands    {len(self.told):,} sent: {verdicts['acknowledged']:,} acknowledged,"
            f" {verdicts['refused']:,} refused, {verdicts['unanswered']:,} unanswered"
        )
        yield "            " + ", ".join(f"{n} {verb}" for verb, n in verbs.most_common())
        yield (
            f"kills       {damage.kills}: {damage.service} of the service"
            f" ({damage.service_starting} while it started), {damage.nats_server} of nats-server,"
            f" {damage.engine} of dockerd; dockerd frozen {damage.freezes} times,"
            f" {damage.frozen_s:.0f} s"
        )
        yield from _recovery_lines(damage.recoveries)
        if self.starts_in_vain:
            reasons = Counter(self.starts_in_vain)
            yield f"            {len(self.starts_in_vain)} starts of the service in vain:"
            yield from (f"            {n} times: {reason}" for reason, n in reasons.most_common())
        yield (
            f"ledger      {self.records:,} records; operations: {self.succeeded:,} succeeded,"
            f" {self.failed:,} failed; nothing was in progress after {self.rest_s:.0f} s"
        )
        yield (
            f"data        {self.writes:,} acknowledged writes; {self.containers} containers and"
            f" {self.volumes} volumes looked into"
        )
        yield f"watch       {self.looks:,} looks at all running containers"
        for kind in (*KINDS, NOT_OURS):
            named = sorted(fault.text for fault in self.faults if fault.kind == kind)
            yield f"{kind + ':':<14}{len(named)}"
            yield from (f"    {text}" for text in named)


def _recovery_lines(recoveries: Sequence[Recovery]) -> Iterator[str]:
    """All together, then by what was killed."""
    yield f"recovery    {_percentiles([one.seconds for one in recoveries])}"
    for after in sorted({one.after for one in recoveries}):
        of_kind = [one.seconds for one in recoveries if one.after == after]
        yield f"            {_percentiles(of_kind)} after {after}"


def _percentiles(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    if not ordered:
        return "none was measured"
    median, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return f"p50 {median:.2f} s, p99 {high:.2f} s, max {ordered[-1]:.2f} s ({len(ordered)})"
