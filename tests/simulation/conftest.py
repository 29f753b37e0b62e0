"""How many simulations, and which: `pytest tests/simulation --seeds 5000`, `… --seed 17`."""

import pytest

SEEDS = 1500
"""As many as take somewhat over a minute on one core."""

BATCH = 500
"""So many are one test: one of its own for each takes longer than the seed itself. In so many
everything is met that a simulation can meet."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=SEEDS, help="how many seeds to simulate")
    group.addoption("--seed", type=int, default=None, help="simulate this seed only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `seeds` runs once for each batch."""
    if "seeds" in metafunc.fixturenames:
        # The options are unknown where this file was not named on the command line.
        only: int | None = metafunc.config.getoption("--seed", None)
        count: int = metafunc.config.getoption("--seeds", SEEDS)
        batches = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
        if only is not None:
            batches = [range(only, only + 1)]
        ids = [f"{batch.start}-{batch.stop - 1}" for batch in batches]
        metafunc.parametrize("seeds", batches, ids=ids)
