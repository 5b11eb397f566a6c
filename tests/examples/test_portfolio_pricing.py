"""Monte Carlo against closed formulas and brute force. Seeds are fixed, so nothing here is random."""

from dataclasses import replace

import numpy as np
import pytest

from examples.portfolio.book import Contract, Kind, Market
from examples.portfolio.closed_form import Terms, geometric_greeks, geometric_value
from examples.portfolio.pricing import LADDER, NAMES, Moments, Valuation, finish, simulate

#: An estimate further off than this, in its own standard errors, is wrong.
LIMIT = 4.0


def price(contract: Contract, terms: Terms) -> Valuation:
    return finish(contract, terms, simulate(contract, terms, contract.paths))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("strike", [330.0, 400.0, 470.0])
def test_european_estimates_agree_with_the_closed_formula(
    market: Market, call: Contract, sign: int, strike: float
) -> None:
    contract = replace(call, id=f"E{sign}{strike}", sign=sign, strike=strike)
    terms = Terms.of(contract, market)
    truth = geometric_greeks(terms)
    valuation = price(contract, terms)
    for name in NAMES:
        off = valuation.estimates[name] - getattr(truth, name)
        assert abs(off) < LIMIT * valuation.errors[name], name
    # The errors are of use only if they are small, too.
    assert valuation.errors["value"] < 0.05 * truth.value


def test_the_ladder_is_tomorrows_value(market: Market, call: Contract) -> None:
    terms = Terms.of(call, market)
    valuation = price(call, terms)
    for move, value in zip(LADDER, valuation.ladder, strict=True):
        truth = geometric_value(terms.tomorrow().at_spot(terms.spot * (1.0 + move)))
        assert value == pytest.approx(truth, abs=LIMIT * 2.0 * valuation.errors["value"])
    assert valuation.estimates["theta"] == pytest.approx(
        valuation.ladder[int(np.flatnonzero(LADDER == 0.0)[0])] - valuation.estimates["value"]
    )


def test_an_asian_value_agrees_with_plain_simulation(market: Market, average_put: Contract) -> None:
    terms = Terms.of(average_put, market)
    valuation = price(average_put, terms)
    plain, error = brute_force(terms, 200_000)
    assert abs(valuation.estimates["value"] - plain) < LIMIT * np.hypot(error, valuation.errors["value"])
    assert valuation.errors["value"] < 0.2 * error


def test_asian_greeks_are_the_derivatives_of_the_value(market: Market, average_put: Contract) -> None:
    """The same random numbers at neighbouring terms, so differences are exact but for their steps."""
    terms = Terms.of(average_put, market)
    valuation = price(average_put, terms)
    step = 0.01 * terms.spot
    up = price(average_put, terms.at_spot(terms.spot + step)).estimates["value"]
    down = price(average_put, terms.at_spot(terms.spot - step)).estimates["value"]
    more = price(average_put, replace(terms, volatility=terms.volatility + 0.001)).estimates["value"]
    less = price(average_put, replace(terms, volatility=terms.volatility - 0.001)).estimates["value"]
    value = valuation.estimates["value"]
    assert valuation.estimates["delta"] == pytest.approx((up - down) / (2 * step), rel=2e-3)
    assert valuation.estimates["gamma"] == pytest.approx((up - 2 * value + down) / step**2, rel=3e-2)
    assert valuation.estimates["vega"] == pytest.approx((more - less) / 0.002, rel=2e-3)
    tomorrow = price(average_put, terms.tomorrow()).estimates["value"]
    assert valuation.estimates["theta"] == pytest.approx(tomorrow - value, rel=1e-6)


def test_an_average_of_one_fixing_is_the_european_option_exactly(market: Market, call: Contract) -> None:
    contract = replace(call, kind=Kind.ASIAN)
    terms = Terms.of(contract, market)
    valuation = price(contract, terms)
    assert valuation.estimates["value"] == pytest.approx(geometric_value(terms))
    assert valuation.errors["value"] == pytest.approx(0.0, abs=1e-9)


def test_the_same_contract_has_the_same_price_everywhere(market: Market, call: Contract) -> None:
    terms = Terms.of(call, market)
    assert price(call, terms) == price(call, terms)
    other = replace(call, id="E0002")
    assert price(other, terms).estimates["value"] != price(call, terms).estimates["value"]


def test_slices_have_random_numbers_of_their_own_and_add_up(market: Market, average_put: Contract) -> None:
    terms = Terms.of(average_put, market)
    slices = [simulate(average_put, terms, 20_000, number) for number in (1, 2, 3)]
    assert len({part.total[0] for part in slices}) == 3
    whole = Moments.sum(slices)
    assert whole.pairs == 30_000
    merged = finish(average_put, terms, whole)
    means = [finish(average_put, terms, part) for part in slices]
    assert merged.estimates["value"] == pytest.approx(np.mean([part.estimates["value"] for part in means]))
    assert merged.errors["value"] < min(part.errors["value"] for part in means)


def test_moments_and_valuations_travel_as_json(market: Market, call: Contract) -> None:
    terms = Terms.of(call, market)
    moments = simulate(call, terms, 1_000)
    again = Moments.from_json(moments.to_json())
    valuation = finish(call, terms, again)
    assert valuation == finish(call, terms, moments)
    assert Valuation.from_json(valuation.to_json()) == valuation


def brute_force(terms: Terms, paths: int) -> tuple[float, float]:
    """Value and error, path by path and fixing by fixing, with no trick."""
    generator = np.random.default_rng(5)
    step = terms.years / terms.fixings
    price_now = np.full(paths, terms.spot)
    total = np.zeros(paths)
    for _ in range(terms.fixings):
        shocks = generator.standard_normal(paths)
        price_now = price_now * np.exp(terms.drift * step + terms.volatility * np.sqrt(step) * shocks)
        total += price_now
    paid = terms.discount * np.maximum(terms.sign * (total / terms.fixings - terms.strike), 0.0)
    return float(paid.mean()), float(paid.std() / np.sqrt(paths))
