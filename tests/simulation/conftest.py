"""How many simulations, and which: `pytest tests/simulation --seeds 2000`, `… --seed 17`."""

import pytest

SEEDS = 150
"""As many as take well under a minute on one core."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=SEEDS, help="how many seeds to simulate")
    group.addoption("--seed", type=int, default=None, help="simulate this seed only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `seed` runs once for each."""
    if "seed" in metafunc.fixturenames:
        # The options are unknown where this file was not named on the command line.
        only: int | None = metafunc.config.getoption("--seed", None)
        count: int = metafunc.config.getoption("--seeds", SEEDS)
        metafunc.parametrize("seed", range(count) if only is None else [only])
