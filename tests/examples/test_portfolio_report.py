"""What a person sees: the check's verdict, the tables, the picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from examples.portfolio.book import Contract, Market
from examples.portfolio.check import SAMPLE, Check, check_sample
from examples.portfolio.closed_form import Terms, geometric_greeks
from examples.portfolio.pricing import NAMES, Valuation
from examples.portfolio.report import check_table, draw_profits, exposure_table, risk_summary
from examples.portfolio.scenarios import Exposure, Risk


def with_deviations(market: Market, contracts: list[Contract], deviations: list[float]) -> dict[str, Valuation]:
    """Valuations that are off by so many standard errors of 0.1."""
    made = {}
    for contract, deviation in zip(contracts, deviations, strict=True):
        truth = geometric_greeks(Terms.of(contract, market))
        estimates = {name: getattr(truth, name) + 0.1 * deviation for name in NAMES}
        made[contract.id] = Valuation(contract.id, estimates, dict.fromkeys(NAMES, 0.1), ())
    return made


@pytest.fixture
def contracts(call: Contract) -> list[Contract]:
    return [replace(call, id=f"E{number:04d}", strike=300.0 + number) for number in range(250)]


def normal(count: int, seed: int = 3) -> list[float]:
    draws: list[float] = np.random.default_rng(seed).standard_normal(count).clip(-3.5, 3.5).tolist()
    return draws


def test_right_estimates_pass(market: Market, contracts: list[Contract]) -> None:
    checks = check_sample(market, contracts, with_deviations(market, contracts, normal(250)))
    assert [check.name for check in checks] == list(NAMES)
    for check in checks:
        assert check.passed
        assert len(check.deviations) == SAMPLE
        assert 0.90 < check.within(2) / SAMPLE < 0.99


def test_one_wrong_estimate_fails(market: Market, contracts: list[Contract]) -> None:
    valuations = with_deviations(market, contracts, normal(250))
    sampled = next(iter(check_sample(market, contracts, valuations)[0].deviations))
    index = [contract.id for contract in contracts].index(sampled)
    deviations = normal(250)
    deviations[index] = -4.6
    checks = check_sample(market, contracts, with_deviations(market, contracts, deviations))
    assert not any(check.passed for check in checks)
    contract_id, deviation = checks[0].worst
    assert contract_id == sampled
    assert deviation == pytest.approx(-4.6)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_errors_that_are_stated_wrong_fail(factor: float) -> None:
    draws = np.clip(np.array(normal(200)) * factor, -3.9, 3.9)
    assert not Check("value", {str(number): float(draw) for number, draw in enumerate(draws)}).passed


def test_large_contracts_are_not_sampled(market: Market, call: Contract, average_put: Contract) -> None:
    valuations = with_deviations(market, [call], [1.0])
    assert list(check_sample(market, [average_put, call], valuations)[0].deviations) == [call.id]


@pytest.fixture
def risk(market: Market) -> Risk:
    exposures = {
        name: Exposure(2, {"value": 1000.0, "delta": 50.0, "gamma": -2.0, "vega": 300.0, "theta": -7.0}, 9.0)
        for name in market.underlyings
    }
    return Risk(exposures, np.random.default_rng(1).normal(0.0, 1e5, 5_000).astype(int).tolist())


def rendered(*renderables: object) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def test_the_table_is_in_desk_units_and_adds_up(market: Market, risk: Risk) -> None:
    text = rendered(exposure_table(market, risk))
    oak = next(line for line in text.splitlines() if "OAK" in line).split()
    # Delta: 50 x 1 % of 402.75; gamma: -2 x (4.0275)²; vega: 300 x 0.01.
    assert oak == ["OAK", "2", "1,000", "3", "201", "-32", "3", "-7"]
    book = next(line for line in text.splitlines() if "book" in line).split()
    assert book[:4] == ["book", "24", "12,000", "10"]


def test_the_summary_and_the_check_name_their_figures(risk: Risk) -> None:
    assert "VaR 95 %" in risk_summary(risk)
    text = rendered(check_table([Check("gamma", {"E0001": 0.5, "E0002": -4.6})]))
    assert "-4.60 E0002" in text
    assert "FAILED" in text
    assert "1 = 50.0%" in text


def test_the_picture_is_a_png_with_something_on_it(market: Market, risk: Risk, tmp_path: Path) -> None:
    path = tmp_path / "made" / "pnl.png"
    draw_profits(risk, market, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= 1_000
        colours = image.convert("RGB").getcolors(maxcolors=1_000_000)
    assert colours is not None
    assert len(colours) > 50
