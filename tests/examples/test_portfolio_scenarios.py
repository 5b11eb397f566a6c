"""From positions to the distribution of profit and loss."""

from dataclasses import replace

import numpy as np
import pytest

from examples.portfolio.book import Contract, Market
from examples.portfolio.closed_form import Terms, geometric_greeks, geometric_value
from examples.portfolio.pricing import LADDER, NAMES, Valuation
from examples.portfolio.scenarios import Risk, assess, draw_moves, expected_shortfall, value_at_risk


def exact(contract: Contract, market: Market) -> Valuation:
    """A valuation without simulation."""
    terms = Terms.of(contract, market)
    greeks = geometric_greeks(terms)
    ladder = [geometric_value(terms.tomorrow().at_spot(terms.spot * (1.0 + move))) for move in LADDER]
    return Valuation(
        contract.id,
        {name: getattr(greeks, name) for name in NAMES},
        dict.fromkeys(NAMES, 0.01),
        tuple(ladder),
    )


def test_profits_are_those_of_pricing_every_scenario_anew(market: Market, call: Contract) -> None:
    put = replace(call, id="E0002", sign=-1, strike=380.0, quantity=-30)
    positions = [(contract, exact(contract, market)) for contract in (call, put)]
    risk = assess(market, positions, scenarios=400)
    moves, shifts = draw_moves(market, 400)
    column = list(market.underlyings).index("OAK")
    anew = np.zeros(400)
    for contract, valuation in positions:
        terms = Terms.of(contract, market).tomorrow()
        for number in range(400):
            moved = terms.at_spot(terms.spot * (1.0 + moves[number, column]))
            change = geometric_value(moved) - valuation.estimates["value"]
            anew[number] += contract.shares * (change + valuation.estimates["vega"] * shifts[number, column])
    assert np.array(risk.profits) == pytest.approx(anew, abs=0.01 * float(anew.std()))


def test_exposures_are_sums_by_share(market: Market, call: Contract, average_put: Contract) -> None:
    again = replace(call, id="E0002", quantity=-3)
    risk = assess(market, [(contract, exact(contract, market)) for contract in (call, again, average_put)], 10)
    oak = risk.exposures["OAK"]
    assert oak.contracts == 2
    assert oak.estimates["delta"] == pytest.approx(900 * exact(call, market).estimates["delta"])
    assert oak.variance == pytest.approx((1200 * 0.01) ** 2 + (300 * 0.01) ** 2)
    assert [name for name, exposure in risk.exposures.items() if exposure.contracts] == ["ELM", "OAK"]
    assert list(risk.exposures) == list(market.underlyings)


def test_moves_have_the_markets_volatilities_and_correlations(market: Market) -> None:
    moves, shifts = draw_moves(market, 200_000)
    daily = np.array([share.volatility for share in market.underlyings.values()]) / np.sqrt(252.0)
    assert moves.std(axis=0) == pytest.approx(daily, rel=0.03)
    assert np.corrcoef(moves.T) == pytest.approx(np.array(market.correlations), abs=0.03)
    assert shifts.std(axis=0) == pytest.approx(np.full(len(daily), market.volatility_move), rel=0.03)
    correlation = np.corrcoef(moves[:, 0], shifts[:, 0])[0, 1]
    assert correlation == pytest.approx(market.spot_volatility_correlation, abs=0.02)


def test_measures_of_a_known_distribution() -> None:
    profits = np.arange(-500.0, 501.0)
    assert value_at_risk(profits, 0.95) == pytest.approx(450.0)
    assert expected_shortfall(profits, 0.95) == pytest.approx(475.0)


def test_a_risk_travels_as_json(market: Market, call: Contract) -> None:
    risk = assess(market, [(call, exact(call, market))], scenarios=50)
    assert Risk.from_json(risk.to_json()) == risk
