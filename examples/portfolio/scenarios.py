"""From single positions to what the book may gain or lose until tomorrow.

Every position brings its value tomorrow on a ladder of moves of its share. Ladders of
one share add up, and a smooth curve through the sum prices thousands of scenarios of
joint moves at once, curvature included, without pricing a single option again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from examples.portfolio.book import Contract, Market
from examples.portfolio.pricing import LADDER, NAMES, Array, Valuation

TRADING_DAYS_PER_YEAR = 252.0
SCENARIOS = 50_000
#: Fits the ladder of a whole book to a small part of a typical profit or loss; higher ones begin to swing.
_DEGREE = 8


@dataclass(slots=True)
class Exposure:
    """All positions in one share, in USD.

    Attributes:
        contracts: How many positions.
        estimates: Sums over positions of shares times the estimate of ``Greeks``.
        variance: Of the sum of values: seeds differ by contract, so errors are independent.
        ladder: Value tomorrow for each move of ``LADDER``.
    """

    contracts: int = 0
    estimates: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    variance: float = 0.0
    ladder: list[float] = field(default_factory=lambda: [0.0] * len(LADDER))

    def add(self, contract: Contract, valuation: Valuation) -> None:
        """Add one position."""
        self.contracts += 1
        for name in NAMES:
            self.estimates[name] += contract.shares * valuation.estimates[name]
        self.variance += (contract.shares * valuation.errors["value"]) ** 2
        self.ladder = [
            sum_ + contract.shares * value for sum_, value in zip(self.ladder, valuation.ladder, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Risk:
    """The report's figures.

    Attributes:
        exposures: By share, in the market's order.
        profits: Of the book until tomorrow, one for each scenario, rounded to whole USD.
    """

    exposures: Mapping[str, Exposure]
    profits: list[int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"exposures": {name: asdict(value) for name, value in self.exposures.items()}, "profits": self.profits}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What ``to_json`` made."""
        return cls({name: Exposure(**value) for name, value in raw["exposures"].items()}, raw["profits"])


def assess(market: Market, positions: Iterable[tuple[Contract, Valuation]], scenarios: int = SCENARIOS) -> Risk:
    """Exposures by share, and the distribution of tomorrow's profit and loss."""
    exposures = {name: Exposure() for name in market.underlyings}
    for contract, valuation in positions:
        exposures[contract.underlying].add(contract, valuation)
    moves, shifts = draw_moves(market, scenarios)
    profits = np.zeros(scenarios)
    for column, exposure in enumerate(exposures.values()):
        profits += _profits(exposure, moves[:, column], shifts[:, column])
    return Risk(exposures, np.rint(profits).astype(int).tolist())


def draw_moves(market: Market, scenarios: int) -> tuple[Array, Array]:
    """Joint one-day moves, (scenarios, shares): relative moves of prices, shifts of volatilities.

    Prices follow a multivariate Student t distribution, scaled to each share's
    volatility, since days of 5 standard deviations do happen; volatilities tend to rise
    where prices fall. Seeded by the day, so the same market has the same scenarios.
    """
    generator = np.random.default_rng(market.valued_on.toordinal())
    root = np.linalg.cholesky(np.array(market.correlations))
    shape = (scenarios, len(market.underlyings))
    normals = generator.standard_normal(shape) @ root.T
    freedom = market.degrees_of_freedom
    # Scaled to unit variance: a Student t variable has variance freedom / (freedom - 2).
    fat = normals * np.sqrt((freedom - 2.0) / generator.chisquare(freedom, (scenarios, 1)))
    daily = np.array([share.volatility for share in market.underlyings.values()]) / np.sqrt(TRADING_DAYS_PER_YEAR)
    correlation = market.spot_volatility_correlation
    own = np.sqrt(1.0 - correlation**2) * generator.standard_normal(shape)
    return fat * daily, market.volatility_move * (correlation * fat + own)


def value_at_risk(profits: Array, level: float) -> float:
    """The loss, as a positive number, that is exceeded on a part ``1 - level`` of days."""
    return -float(np.quantile(profits, 1.0 - level))


def expected_shortfall(profits: Array, level: float) -> float:
    """The mean loss, as a positive number, of the days beyond ``value_at_risk``."""
    worst = profits[profits <= -value_at_risk(profits, level)]
    return -float(worst.mean())


def _profits(exposure: Exposure, moves: Array, shifts: Array) -> Array:
    curve = np.polynomial.Chebyshev.fit(LADDER, exposure.ladder, _DEGREE)
    # Beyond the ladder's ends a polynomial knows nothing; such days are one in many thousands.
    tomorrow = curve(np.clip(moves, LADDER[0], LADDER[-1]))
    profits: Array = tomorrow - exposure.estimates["value"] + exposure.estimates["vega"] * shifts
    return profits
