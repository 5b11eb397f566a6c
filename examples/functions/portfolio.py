"""What a small book of options may lose until tomorrow: priced under 10,000 scenarios, some hundred a task.

    python portfolio.py

Needs numpy, here and where the workers run. examples/portfolio does the same for a large book, with handlers
of bytes, sub-tasks and a report.
"""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

import ripieno

Array = npt.NDArray[np.float64]

SCENARIOS = 10_000
PER_TASK = 500
_erf = np.vectorize(erf, otypes=[float])


@dataclass(frozen=True)
class Option:
    """A position in European options on one share; a negative quantity is short."""

    share: int
    call: bool
    strike: float
    years: float
    quantity: float


@dataclass(frozen=True)
class Market:
    """Prices and yearly volatilities of the shares, and how they move together."""

    spots: Array
    volatilities: Array
    correlations: Array


MARKET = Market(
    spots=np.array([100.0, 50.0, 20.0]),
    volatilities=np.array([0.2, 0.35, 0.5]),
    correlations=np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 1.0]]),
)
BOOK = [
    Option(share, call, float(MARKET.spots[share]) * strike, years, quantity)
    for share in range(3)
    for call, quantity in ((True, 100.0), (False, -150.0))
    for strike in (0.9, 1.0, 1.1)
    for years in (0.25, 1.0)
]


def price(option: Option, spots: Array, volatility: float, years: float) -> Array:
    """The Black-Scholes value of a position for each price of its share; interest is zero."""
    spread = volatility * sqrt(years)
    d1 = np.log(spots / option.strike) / spread + spread / 2
    sign = 1.0 if option.call else -1.0
    near, far = (0.5 * (1 + _erf(sign * d / sqrt(2))) for d in (d1, d1 - spread))
    value: Array = option.quantity * sign * (spots * near - option.strike * far)
    return value


@ripieno.task(max_retries=2, max_duration=60)
def profits(first: int, count: int, market: Market, book: list[Option]) -> Array:
    """What the book gains by tomorrow, in each of some scenarios."""
    day = 1 / 252
    generator = np.random.default_rng(first)  # the same scenarios, whichever worker draws them
    normals = generator.standard_normal((count, len(market.spots))) @ np.linalg.cholesky(market.correlations).T
    tomorrow = market.spots * np.exp(market.volatilities * sqrt(day) * normals - market.volatilities**2 * day / 2)
    gains = np.zeros(count)
    for option in book:
        volatility = float(market.volatilities[option.share])
        today = price(option, market.spots[option.share : option.share + 1], volatility, option.years)
        gains += price(option, tomorrow[:, option.share], volatility, option.years - day) - today
    return gains


if __name__ == "__main__":
    with ripieno.connect() as cluster:
        market, book = cluster.put(MARKET), cluster.put(BOOK)
        parts = [cluster.submit(profits, first, PER_TASK, market, book) for first in range(0, SCENARIOS, PER_TASK)]
        gains = np.concatenate(cluster.gather(parts))
    worst = np.quantile(gains, 0.01)
    print(f"{len(BOOK)} positions, {len(gains):,} scenarios, {len(parts)} tasks")
    print(
        f"mean {gains.mean():,.0f}, value at risk (99 %) {-worst:,.0f}, shortfall {-gains[gains <= worst].mean():,.0f}"
    )
