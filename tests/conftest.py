"""Set-up for all tests: the kit's fixtures, and in CI no test may be skipped.

A skipped test in CI is a test that nobody runs: there it counts as a failure (CI=true).
"""

import gc
import os
import signal

import pytest

# A shell that runs the tests in the background lets them ignore Ctrl-C, and they would hand that on
# to the programs that they start, some of which are to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Modules that assert for several tests; before anything imports them.
pytest.register_assert_rewrite("tests.kit", "tests.simulation.checks", "tests.simulation.town")
pytest.register_assert_rewrite("tests.simulation.webhook_checks", "tests.simulation.long_after")
pytest.register_assert_rewrite("tests.crashes.life", "tests.crashes.play", "tests.crashes.walk")

pytest_plugins = ["tests.kit.fixtures", "tests.kit.nats_server"]


LONGEST_FIRST = ("simulation", "property", "e2e")
"""Folders with files that take a minute and more: whoever begins one of them at the end is waited
for by all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        parts = item.path.parts
        found = (n for n, folder in enumerate(LONGEST_FIRST) if folder in parts)
        return next(found, len(LONGEST_FIRST))

    items.sort(key=rank)  # all else stays in its order


def pytest_collection_finish() -> None:
    """What was collected stays to the end: spare the garbage collector to go through it each time,
    which stops a test for up to half a second."""
    gc.collect()
    gc.freeze()


def _skipped_in_ci(config: pytest.Config) -> int:
    """How many tests were skipped; always 0 outside of CI and in a worker process."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None or hasattr(config, "workerinput"):
        return 0
    return len(reporter.stats.get("skipped", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped_in_ci(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if count := _skipped_in_ci(config):
        terminalreporter.write_line(
            f"FAILED: {count} skipped with CI=true; give this machine what they need", red=True
        )
