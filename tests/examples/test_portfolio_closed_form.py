"""The closed formulas, against published figures, parity, and their own differences."""

import math
from dataclasses import replace

import pytest

from examples.portfolio.book import BookError, Contract, Market
from examples.portfolio.closed_form import DAY, Terms, geometric_greeks, geometric_value

#: Hull's textbook example: a call worth 4.76 and a put worth 0.81.
HULL = Terms(spot=42.0, strike=40.0, years=0.5, rate=0.10, dividend_yield=0.0, volatility=0.20, sign=1)
AVERAGE = Terms(
    spot=100.0, strike=105.0, years=1.4, rate=0.034, dividend_yield=0.02, volatility=0.35, sign=-1, fixings=52
)


def test_the_textbook_prices() -> None:
    assert geometric_value(HULL) == pytest.approx(4.76, abs=0.005)
    assert geometric_value(replace(HULL, sign=-1)) == pytest.approx(0.81, abs=0.005)


def test_call_less_put_is_the_forward() -> None:
    parity = geometric_value(HULL) - geometric_value(replace(HULL, sign=-1))
    assert parity == pytest.approx(HULL.spot - HULL.strike * HULL.discount)


def test_many_fixings_approach_kemna_and_vorst() -> None:
    """Averaged without a break, the mean has a third of the variance and half of the time."""
    many = replace(AVERAGE, fixings=200_000)
    variance = many.volatility**2 * many.years / 3.0
    forward = many.spot * math.exp((many.rate - many.dividend_yield - many.volatility**2 / 6.0) * many.years / 2.0)
    # The same price from the European formula: a share with that forward and that variance.
    carry = math.log(forward / many.spot) / many.years
    same = replace(many, fixings=1, volatility=math.sqrt(variance / many.years), dividend_yield=many.rate - carry)
    assert geometric_value(many) == pytest.approx(geometric_value(same), rel=1e-4)


@pytest.mark.parametrize("terms", [HULL, replace(HULL, sign=-1), AVERAGE, replace(AVERAGE, sign=1)])
def test_greeks_are_the_derivatives_of_the_value(terms: Terms) -> None:
    greeks = geometric_greeks(terms)
    step = terms.spot * 1e-4
    up, down = geometric_value(terms.at_spot(terms.spot + step)), geometric_value(terms.at_spot(terms.spot - step))
    assert greeks.value == geometric_value(terms)
    assert greeks.delta == pytest.approx((up - down) / (2 * step), rel=1e-6)
    assert greeks.gamma == pytest.approx((up - 2 * greeks.value + down) / step**2, rel=1e-4)
    more = geometric_value(replace(terms, volatility=terms.volatility + 1e-5))
    less = geometric_value(replace(terms, volatility=terms.volatility - 1e-5))
    assert greeks.vega == pytest.approx((more - less) / 2e-5, rel=1e-6)
    assert greeks.theta == geometric_value(terms.tomorrow()) - greeks.value


def test_terms_come_from_the_market(market: Market, call: Contract) -> None:
    terms = Terms.of(call, market)
    assert terms.spot == market.underlyings["OAK"].spot
    assert terms.years == pytest.approx(262 / 365)
    assert terms.tomorrow().years == pytest.approx(terms.years - DAY)


def test_a_contract_that_the_market_cannot_value_is_refused(market: Market, call: Contract) -> None:
    with pytest.raises(BookError, match="no price of 'YEW'"):
        Terms.of(replace(call, underlying="YEW"), market)
    with pytest.raises(BookError, match="not beyond tomorrow"):
        Terms.of(replace(call, expiry=market.valued_on), market)
