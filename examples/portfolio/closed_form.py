"""Prices that need no simulation, in the model of Black and Scholes (1973).

One formula serves two options. The geometric mean of n prices of a share that follows
a geometric Brownian motion is itself lognormal, so an option on it has a closed price
of the Black-Scholes kind (Kemna and Vorst 1990; for discrete fixings Glasserman 2003,
section 3.2.2). With one fixing, at expiry, that option is the European one.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from examples.portfolio.book import DAYS_PER_YEAR, BookError, Contract, Market

DAY = 1.0 / DAYS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Terms:
    """What a price depends on. Times in years, rates and volatility per year.

    Attributes:
        sign: +1 a call, -1 a put.
        fixings: Equally spaced prices that are averaged, the last at expiry.
    """

    spot: float
    strike: float
    years: float
    rate: float
    dividend_yield: float
    volatility: float
    sign: int
    fixings: int = 1

    @classmethod
    def of(cls, contract: Contract, market: Market) -> Self:
        """The terms of a contract in a market.

        Raises:
            BookError: the market does not know the share, or the contract does not live
                beyond tomorrow (so it has no value tomorrow).
        """
        share = market.underlyings.get(contract.underlying)
        if share is None:
            raise BookError(f"contract {contract.id!r}: the market has no price of {contract.underlying!r}")
        years = market.years_to(contract.expiry)
        if years <= DAY:
            raise BookError(f"contract {contract.id!r}: expires on {contract.expiry}, not beyond tomorrow")
        return cls(
            spot=share.spot,
            strike=contract.strike,
            years=years,
            rate=market.rate(years),
            dividend_yield=share.dividend_yield,
            volatility=contract.volatility,
            sign=contract.sign,
            fixings=contract.fixings,
        )

    def tomorrow(self) -> Self:
        """The same, one calendar day later."""
        return replace(self, years=self.years - DAY)

    def at_spot(self, spot: float) -> Self:
        """The same at another price of the share."""
        return replace(self, spot=spot)

    @property
    def discount(self) -> float:
        """Value now of 1 paid at expiry."""
        return math.exp(-self.rate * self.years)

    @property
    def drift(self) -> float:
        """Of the logarithm of the price, a year."""
        return self.rate - self.dividend_yield - 0.5 * self.volatility**2


@dataclass(frozen=True, slots=True)
class Greeks:
    """Value of an option on one share, and what moves it.

    Attributes:
        delta: Per 1 of spot.
        gamma: Of delta, per 1 of spot.
        vega: Per 1.00 of volatility.
        theta: Value tomorrow less value today, all else the same.
    """

    value: float
    delta: float
    gamma: float
    vega: float
    theta: float


def _cumulative(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def geometric_value(terms: Terms) -> float:
    """Price of the option on the geometric mean of the fixings."""
    forward, deviation, _ = _mean(terms)
    d1 = math.log(forward / terms.strike) / deviation + 0.5 * deviation
    in_forward = forward * _cumulative(terms.sign * d1)
    in_strike = terms.strike * _cumulative(terms.sign * (d1 - deviation))
    return terms.discount * terms.sign * (in_forward - in_strike)


def geometric_greeks(terms: Terms) -> Greeks:
    """Price and Greeks of the option on the geometric mean; of the European option if it has one fixing."""
    forward, deviation, convexity = _mean(terms)
    d1 = math.log(forward / terms.strike) / deviation + 0.5 * deviation
    per_forward = terms.discount * terms.sign * _cumulative(terms.sign * d1)
    density = terms.discount * forward * _density(d1)
    value = geometric_value(terms)
    return Greeks(
        value=value,
        delta=per_forward * forward / terms.spot,
        gamma=density / (terms.spot**2 * deviation),
        # Volatility moves the forward of the mean (not of a price) and the deviation.
        vega=per_forward * forward * 2.0 * terms.volatility * convexity + density * deviation / terms.volatility,
        theta=geometric_value(terms.tomorrow()) - value,
    )


def _mean(terms: Terms) -> tuple[float, float, float]:
    """Of the geometric mean: its forward, the deviation of its logarithm, and its convexity.

    A mean of logarithms grows more slowly than the logarithm of a mean: the convexity times
    the squared volatility is that difference; 0 for one fixing.
    """
    n = terms.fixings
    mean_time = terms.years * (n + 1) / (2 * n)
    variance_time = terms.years * (n + 1) * (2 * n + 1) / (6 * n * n)
    convexity = 0.5 * (variance_time - mean_time)
    carry = (terms.rate - terms.dividend_yield) * mean_time
    forward = terms.spot * math.exp(carry + terms.volatility**2 * convexity)
    return forward, terms.volatility * math.sqrt(variance_time), convexity
