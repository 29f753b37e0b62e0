"""Random commands by several clients, on the real parts, while everything goes wrong.

Lost replies, refusals, calls that hang or are answered late or twice, an engine and a ledger that
are away, GPUs that fall ill, come and go, containers that end, and crashes at any moment, after
which the service starts again on what is left. One seed is one history; `--seed N` plays it again.
"""

from collections import Counter

from tests.simulation.conftest import BATCH
from tests.simulation.play import EVENTS, play


def test_whatever_happens_the_ledger_is_right(seeds: range) -> None:
    met: Counter[str] = Counter()
    for seed in seeds:
        met += play(seed)
    if len(seeds) == BATCH:
        assert met.keys() >= EVENTS, f"never met: {sorted(EVENTS - met.keys())}"
