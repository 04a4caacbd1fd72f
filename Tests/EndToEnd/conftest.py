"""Fixtures: the server under test, as a program that is started and stopped."""

import pytest

from sluice import Server


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
