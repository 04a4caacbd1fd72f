"""Fixtures: the server under test, as a program that is started and stopped. And what was measured, told at the end of the run."""

import pytest

import patience
from own_network import enter_own_network
from sluice import Server

MISSED, KEPT = "measured: missed", "measured: kept"


def pytest_configure(config):
    # The process that only hands tests to others needs none.
    if not config.getoption("numprocesses", None):
        enter_own_network()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    patience.measured.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [(KEPT if is_kept else MISSED, text) for text, is_kept in patience.measured]


def pytest_terminal_summary(terminalreporter):
    reports = [report for results in terminalreporter.stats.values() for report in results if isinstance(report, pytest.TestReport)]
    measured = [entry for report in reports if report.when == "call" for entry in report.user_properties]
    for title, chosen in [("Measured", KEPT), ("Measured, and not as promised on an idle machine: no failure", MISSED)]:
        lines = [text for name, text in measured if name == chosen]
        if lines:
            terminalreporter.section(title)
            terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="module")
def server():
    """One server for all tests of a file."""
    with Server() as server:
        yield server


@pytest.fixture
def own_server():
    """A server of the test's own, which it may stop and start."""
    with Server() as server:
        yield server
