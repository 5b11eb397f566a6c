"""Makes book.csv and market.json: invented shares, plausible numbers, the same every time.

Run it from the repository's root::

    python -m examples.portfolio.make_book
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from examples.portfolio.book import Contract, Kind, Market, write_book
from examples.portfolio.closed_form import Terms, geometric_greeks

HERE = Path(__file__).parent
SEED = 20_260_630
VALUED_ON = date(2026, 6, 30)

EUROPEAN_COUNT = 2_352
ASIAN_COUNT = 48
#: Enough for about 1 % of error on an option near the money, in some 6 ms.
EUROPEAN_PATHS = 80_000
#: Of 52 fixings each: some 0.3 s, so it is split.
ASIAN_PATHS = 250_000

#: What a trader lets the value of the positions in one share move, in USD a per cent of the share's move.
DELTA_LIMIT = 20_000.0

#: name: (spot, dividend yield, volatility of a year, weight of the whole market in its moves)
SHARES = {
    "ALDER": (42.18, 0.021, 0.31, 0.70),
    "ASPEN": (118.40, 0.008, 0.38, 0.72),
    "BIRCH": (76.05, 0.034, 0.22, 0.58),
    "CEDAR": (251.30, 0.012, 0.27, 0.78),
    "ELM": (18.92, 0.000, 0.52, 0.55),
    "HAZEL": (63.77, 0.028, 0.24, 0.62),
    "LARCH": (154.60, 0.005, 0.41, 0.68),
    "MAPLE": (88.21, 0.031, 0.19, 0.66),
    "OAK": (402.75, 0.015, 0.23, 0.84),
    "PINE": (33.46, 0.040, 0.29, 0.50),
    "ROWAN": (209.15, 0.000, 0.46, 0.71),
    "WILLOW": (97.83, 0.019, 0.26, 0.64),
}
RATES = ((0.08, 0.0361), (0.25, 0.0358), (0.5, 0.0352), (1.0, 0.0341), (2.0, 0.0330))


def market_text() -> str:
    """The market as JSON that people can read; nothing in it is random."""
    weights = np.array([weight for *_, weight in SHARES.values()])
    correlations = np.outer(weights, weights).round(4)  # one common factor moves all
    np.fill_diagonal(correlations, 1.0)
    shares = (
        f'"{name}": ' + json.dumps({"spot": spot, "dividend_yield": dividend_yield, "volatility": volatility})
        for name, (spot, dividend_yield, volatility, _) in SHARES.items()
    )
    return f"""{{
  "valued_on": "{VALUED_ON.isoformat()}",
  "rates": [
    {_lines(json.dumps(point) for point in RATES)}
  ],
  "underlyings": {{
    {_lines(shares)}
  }},
  "correlations": [
    {_lines(json.dumps(row) for row in correlations.tolist())}
  ],
  "degrees_of_freedom": 5.0,
  "volatility_move": 0.008,
  "spot_volatility_correlation": -0.65
}}
"""


def _lines(entries: Iterable[str]) -> str:
    return ",\n    ".join(entries)


def make_contracts(market: Market) -> list[Contract]:
    """The large contracts first, so that on a cluster they begin first."""
    generator = np.random.default_rng(SEED)
    expiries = _third_fridays(VALUED_ON, 24)
    deltas = dict.fromkeys(market.underlyings, 0.0)
    contracts = []
    for kind, count in ((Kind.ASIAN, ASIAN_COUNT), (Kind.EUROPEAN, EUROPEAN_COUNT)):
        for number in range(1, count + 1):
            contract = _make_contract(generator, market, expiries, kind, number)
            contracts.append(_within_limit(contract, market, deltas))
    return contracts


def _within_limit(contract: Contract, market: Market, deltas: dict[str, float]) -> Contract:
    """Takes the other side where this one would carry the share's delta past the limit and away from zero.

    ``deltas``, in USD a per cent of move, is brought up to date.
    """
    terms = Terms.of(contract, market)  # of an Asian option: that on the geometric mean, near enough here
    change = contract.shares * geometric_greeks(terms).delta * terms.spot * 0.01
    before = deltas[contract.underlying]
    if abs(before + change) > DELTA_LIMIT and before * change > 0.0:
        contract, change = replace(contract, quantity=-contract.quantity), -change
    deltas[contract.underlying] = before + change
    return contract


def _make_contract(
    generator: np.random.Generator, market: Market, expiries: list[date], kind: Kind, number: int
) -> Contract:
    asian = kind is Kind.ASIAN
    name = str(generator.choice(list(market.underlyings)))
    share = market.underlyings[name]
    # Listed options crowd into the near months; averages are agreed for half a year and more.
    month = int(generator.integers(5, len(expiries))) if asian else int(len(expiries) * generator.beta(0.9, 2.2))
    expiry = expiries[month]
    years = market.years_to(expiry)
    deviation = share.volatility * math.sqrt(years)
    moneyness = float(np.clip(generator.normal(0.0, 0.6), -1.4, 1.4)) * deviation
    strike = _on_grid(share.spot * math.exp(moneyness), share.spot)
    # Below the money more is asked for than above, the more the nearer the expiry.
    in_deviations = math.log(strike / share.spot) / deviation
    volatility = share.volatility * (1.0 - 0.06 * in_deviations + 0.02 * in_deviations**2)
    is_put = generator.random() < (0.65 if strike < share.spot else 0.3)
    # A dealer's book: customers buy protection, so out-of-the-money puts are mostly sold to them.
    sold = generator.random() < (0.68 if is_put and strike < share.spot else 0.52)
    quantity = max(int(generator.lognormal(3.0, 0.8) * 100.0 / share.spot), 1) * (5 if asian else 1)
    return Contract(
        id=f"{'A' if asian else 'E'}{number:04d}",
        underlying=name,
        kind=kind,
        sign=-1 if is_put else 1,
        strike=strike,
        expiry=expiry,
        volatility=round(volatility, 4),
        quantity=-quantity if sold else quantity,
        fixings=52 if asian else 1,
        paths=ASIAN_PATHS if asian else EUROPEAN_PATHS,
    )


def _on_grid(strike: float, spot: float) -> float:
    """Strikes are listed in round steps of about one or two per cent."""
    step = 0.5 if spot < 50.0 else 1.0 if spot < 100.0 else 2.5 if spot < 250.0 else 5.0
    return round(strike / step) * step


def _third_fridays(after: date, months: int) -> list[date]:
    found: list[date] = []
    year, month = after.year, after.month
    while len(found) < months:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        first = date(year, month, 1)
        found.append(first + timedelta(days=(4 - first.weekday()) % 7 + 14))
    return found


def main() -> None:
    """Write both files next to this one."""
    market = market_text()
    contracts = make_contracts(Market.from_json(market.encode()))
    (HERE / "market.json").write_text(market)
    write_book(HERE / "book.csv", contracts)
    print(f"{len(contracts)} contracts on {len(SHARES)} shares")


if __name__ == "__main__":
    main()
