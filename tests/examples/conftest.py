"""A small market and book for the tests of the example."""

from datetime import date
from pathlib import Path

import pytest

from examples.portfolio.book import Contract, Kind, Market


@pytest.fixture(scope="session")
def portfolio() -> Path:
    """The directory of the example."""
    return Path(__file__).parents[2] / "examples" / "portfolio"


@pytest.fixture(scope="session")
def market_data(portfolio: Path) -> bytes:
    """The market that the example comes with, as bytes."""
    return (portfolio / "market.json").read_bytes()


@pytest.fixture(scope="session")
def market(market_data: bytes) -> Market:
    """The same, read."""
    return Market.from_json(market_data)


@pytest.fixture
def call() -> Contract:
    """A European call near the money."""
    return Contract("E0001", "OAK", Kind.EUROPEAN, 1, 410.0, date(2027, 3, 19), 0.24, 12, 1, 40_000)


@pytest.fixture
def average_put() -> Contract:
    """A large contract: an Asian put."""
    return Contract("A0001", "ELM", Kind.ASIAN, -1, 19.0, date(2027, 6, 18), 0.5, -40, 12, 130_000)
