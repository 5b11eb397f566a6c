"""The files of the book and the market: what is refused, and that they are what the script makes."""

from dataclasses import replace
from pathlib import Path

import pytest

from examples.portfolio import make_book
from examples.portfolio.book import BookError, Contract, Kind, Market, read_book, write_book


def test_a_book_that_was_written_is_read_back(tmp_path: Path, call: Contract, average_put: Contract) -> None:
    write_book(tmp_path / "book.csv", [call, average_put])
    assert read_book(tmp_path / "book.csv") == [call, average_put]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("type", "straddle"),
        ("kind", "american"),
        ("strike", "-1"),
        ("strike", "nan"),
        ("volatility", "0"),
        ("expiry", "tomorrow"),
        ("paths", "7"),
        ("paths", "2"),
        ("fixings", "0"),
        ("fixings", "3"),
        ("quantity", "many"),
    ],
)
def test_a_row_that_is_no_contract_is_refused_with_its_id(call: Contract, column: str, value: str) -> None:
    with pytest.raises(BookError, match="E0001"):
        Contract.from_row(call.to_row() | {column: value})


def test_an_id_may_stand_once(tmp_path: Path, call: Contract) -> None:
    write_book(tmp_path / "book.csv", [call, replace(call, strike=400.0)])
    with pytest.raises(BookError, match="'E0001' stands twice"):
        read_book(tmp_path / "book.csv")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.504, 0.406", "0.505, 0.406"),  # not symmetric
        ("0.504", "1.504"),  # not positive definite
        ("[1.0, 0.504", "[1.0, 1.0, 0.504"),
        ("[1.0, 0.504", "[0.9, 0.504"),
        ('"spot": 402.75', '"spot": -402.75'),
        ('"degrees_of_freedom": 5.0', '"degrees_of_freedom": 2.0'),
        ('"rates"', '"raten"'),
        ('"dividend_yield"', '"dividend"'),
        ("2026-06-30", "2026-06-31"),
        ("{", "{{"),
    ],
)
def test_a_market_that_cannot_be_is_refused(market_data: bytes, old: str, new: str) -> None:
    broken = market_data.decode().replace(old, new)
    assert broken != market_data.decode()
    with pytest.raises(BookError, match="market"):
        Market.from_json(broken.encode())


def test_rates_are_linear_between_their_points(market: Market) -> None:
    assert market.rate(0.75) == pytest.approx((market.rate(0.5) + market.rate(1.0)) / 2)
    assert market.rate(50.0) == market.rates[-1][1]


def test_the_committed_files_are_what_the_script_makes(
    tmp_path: Path, portfolio: Path, market: Market, market_data: bytes
) -> None:
    assert make_book.market_text().encode() == market_data
    write_book(tmp_path / "book.csv", make_book.make_contracts(market))
    assert (tmp_path / "book.csv").read_bytes() == (portfolio / "book.csv").read_bytes()


def test_the_book_is_large_and_plausible(portfolio: Path, market: Market) -> None:
    contracts = read_book(portfolio / "book.csv")
    assert len(contracts) >= 2_000
    assert {contract.underlying for contract in contracts} == set(market.underlyings)
    assert {contract.kind for contract in contracts} == set(Kind)
    assert {contract.sign for contract in contracts} == {-1, 1}
    assert all(0.1 < contract.volatility < 0.8 for contract in contracts)
    assert all(0.02 < market.years_to(contract.expiry) < 2.1 for contract in contracts)
    assert all(0.2 < contract.strike / market.underlyings[contract.underlying].spot < 4.0 for contract in contracts)
