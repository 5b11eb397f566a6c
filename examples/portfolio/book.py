"""The book (what is held) and the market (what it is worth in), as they lie in files.

A contract travels as the row of the CSV file it came from, so a file and a payload
are read by the same code.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np

DAYS_PER_YEAR = 365.0
#: Shares that one option contract stands for.
MULTIPLIER = 100

COLUMNS = (
    "id",
    "underlying",
    "kind",
    "type",
    "strike",
    "expiry",
    "volatility",
    "quantity",
    "fixings",
    "paths",
)

Row = Mapping[str, str]


class BookError(ValueError):
    """A contract or a market that cannot be valued; says which and why."""


class Kind(StrEnum):
    """What the payoff looks at: the last price, or the mean of the fixings."""

    EUROPEAN = "european"
    ASIAN = "asian"


@dataclass(frozen=True, slots=True)
class Contract:
    """One position: so many contracts of one option.

    Attributes:
        sign: +1 a call, -1 a put.
        volatility: Quoted for this strike and expiry; 0.25 is 25 % a year.
        quantity: Contracts held; negative if sold.
        fixings: Equally spaced prices, the last at expiry, whose mean is paid on; 1 for
            a European option.
        paths: Monte Carlo paths to spend on it; even.
    """

    id: str
    underlying: str
    kind: Kind
    sign: int
    strike: float
    expiry: date
    volatility: float
    quantity: int
    fixings: int
    paths: int

    @property
    def shares(self) -> int:
        """Shares that the position stands for."""
        return self.quantity * MULTIPLIER

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read one row of the book.

        Raises:
            BookError: naming the contract and the value that cannot be.
        """
        try:
            contract = cls(
                id=row["id"],
                underlying=row["underlying"],
                kind=Kind(row["kind"]),
                sign={"call": 1, "put": -1}[row["type"]],
                strike=float(row["strike"]),
                expiry=date.fromisoformat(row["expiry"]),
                volatility=float(row["volatility"]),
                quantity=int(row["quantity"]),
                fixings=int(row["fixings"]),
                paths=int(row["paths"]),
            )
        except (KeyError, ValueError) as error:
            raise BookError(f"contract {row.get('id')!r}: {error!r} in row {dict(row)}") from error
        for name, value in (("strike", contract.strike), ("volatility", contract.volatility)):
            if not 0.0 < value < float("inf"):
                raise BookError(f"contract {contract.id!r}: {name} {value} is not a positive number")
        if contract.paths < 4 or contract.paths % 2:
            raise BookError(f"contract {contract.id!r}: paths {contract.paths} is not an even number from 4 on")
        if contract.fixings < 1 or (contract.kind is Kind.EUROPEAN and contract.fixings != 1):
            raise BookError(f"contract {contract.id!r}: {contract.fixings} fixings do not suit a {contract.kind}")
        return contract

    def to_row(self) -> dict[str, str]:
        """The row that ``from_row`` reads back."""
        return {
            "id": self.id,
            "underlying": self.underlying,
            "kind": str(self.kind),
            "type": "call" if self.sign > 0 else "put",
            "strike": f"{self.strike:g}",
            "expiry": self.expiry.isoformat(),
            "volatility": f"{self.volatility:.4f}",
            "quantity": str(self.quantity),
            "fixings": str(self.fixings),
            "paths": str(self.paths),
        }


@dataclass(frozen=True, slots=True)
class Underlying:
    """A share: its price now, its dividend yield, and how much it moves in a year."""

    spot: float
    dividend_yield: float
    volatility: float


@dataclass(frozen=True, slots=True)
class Market:
    """All that is the same for every contract.

    Attributes:
        rates: (years, continuously compounded rate), by rising years.
        underlyings: In the order of the rows and columns of ``correlations``.
        degrees_of_freedom: Of the Student t distribution of one-day moves: how fat the tails are.
        volatility_move: Standard deviation of a one-day shift of implied volatilities.
        spot_volatility_correlation: Between a share's move and the shift of its volatility.
    """

    valued_on: date
    rates: tuple[tuple[float, float], ...]
    underlyings: Mapping[str, Underlying]
    correlations: tuple[tuple[float, ...], ...]
    degrees_of_freedom: float
    volatility_move: float
    spot_volatility_correlation: float

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read and check a market.

        Raises:
            BookError: not such a market, or correlations that no random numbers can have.
        """
        try:
            raw: dict[str, Any] = json.loads(data)
            market = cls(
                valued_on=date.fromisoformat(raw["valued_on"]),
                rates=tuple((float(years), float(rate)) for years, rate in raw["rates"]),
                underlyings={name: Underlying(**values) for name, values in raw["underlyings"].items()},
                correlations=tuple(tuple(float(value) for value in row) for row in raw["correlations"]),
                degrees_of_freedom=float(raw["degrees_of_freedom"]),
                volatility_move=float(raw["volatility_move"]),
                spot_volatility_correlation=float(raw["spot_volatility_correlation"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BookError(f"market: {error!r}") from error
        market._check()
        return market

    def _check(self) -> None:
        for name, share in self.underlyings.items():
            if share.spot <= 0.0 or share.volatility <= 0.0:
                raise BookError(f"market: spot and volatility of {name!r} are to be positive, not {share}")
        if self.degrees_of_freedom <= 2.0:
            raise BookError(f"market: degrees_of_freedom {self.degrees_of_freedom} gives moves no variance; above 2 do")
        size = len(self.underlyings)
        if any(len(row) != size for row in (self.correlations, *self.correlations)):
            raise BookError(f"market: correlations are not {size} rows of {size}, one for each underlying")
        matrix = np.array(self.correlations)
        if not (np.array_equal(matrix, matrix.T) and np.all(np.diag(matrix) == 1.0)):
            raise BookError("market: correlations are not symmetric with 1 on the diagonal")
        if np.linalg.eigvalsh(matrix)[0] <= 0.0:
            raise BookError("market: correlations are not positive definite: no random numbers have them")

    def rate(self, years: float) -> float:
        """The rate for a time from now, linear between the points given and flat beyond."""
        at, rates = zip(*self.rates, strict=True)
        return float(np.interp(years, at, rates))

    def years_to(self, day: date) -> float:
        """From the valuation to a day, in years of 365 days."""
        return (day - self.valued_on).days / DAYS_PER_YEAR


def read_book(path: Path) -> list[Contract]:
    """Read a book, in the order of its file.

    Raises:
        BookError: a row that is no contract, or an id that stands twice.
    """
    with path.open(newline="") as file:
        contracts = [Contract.from_row(row) for row in csv.DictReader(file)]
    seen: set[str] = set()
    for contract in contracts:
        if contract.id in seen:
            raise BookError(f"contract {contract.id!r} stands twice in {path}")
        seen.add(contract.id)
    return contracts


def write_book(path: Path, contracts: Iterable[Contract]) -> None:
    """Write a book that ``read_book`` reads back."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(contract.to_row() for contract in contracts)
