"""How many second crashes: `pytest tests/crashes --pairs` dies at every pair of points."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crashes")
    group.addoption(
        "--pairs", action="store_true", help="after each crash, die at each step of the recovery"
    )


@pytest.fixture(scope="session")
def all_pairs(pytestconfig: pytest.Config) -> bool:
    """Every pair of points, and not only some of them."""
    # The option is unknown where this folder was not named on the command line.
    return bool(pytestconfig.getoption("--pairs", False))
