"""Monte Carlo: value and Greeks of one option, and its value tomorrow at other prices.

All estimates come from the same paths. Value, delta and vega are pathwise estimates;
gamma is the mixed one (likelihood ratio of the value, then pathwise), since the payoff
has a kink (Glasserman 2003, sections 7.2 and 7.3). Theta, and the ladder of tomorrow's
values over moves of the share, price the same random numbers again one day later.

Paths come in antithetic pairs, and errors are those of the pairs. An Asian option is
priced as its difference from the option on the geometric mean, whose price is known
(Kemna and Vorst 1990): what is left to estimate is a few per cent.

Random numbers depend on the contract's id and the slice alone, so a price is the same
whichever worker makes it, and however often.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from examples.portfolio.book import Contract, Kind
from examples.portfolio.closed_form import Greeks, Terms, geometric_greeks, geometric_value

Array = NDArray[np.float64]

NAMES = tuple(field.name for field in fields(Greeks))
#: Moves of the share, relative, for which tomorrow's value is estimated.
LADDER: Array = np.array([-0.20, -0.14, -0.10, -0.07, -0.045, -0.02, 0.0, 0.02, 0.045, 0.07, 0.10, 0.14, 0.20])
#: Random numbers drawn at a time: bounds the memory; more at a time would be no faster.
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over antithetic pairs; those of several slices are added.

    Attributes:
        total: Of each estimate in the order of ``NAMES``.
        square: Of its square.
        ladder: Of tomorrow's value, for each move of ``LADDER``.
    """

    pairs: int
    total: Array
    square: Array
    ladder: Array

    def to_json(self) -> dict[str, Any]:
        """Plain lists, exact to the last bit."""
        return {
            "pairs": self.pairs,
            "total": self.total.tolist(),
            "square": self.square.tolist(),
            "ladder": self.ladder.tolist(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What ``to_json`` made."""
        return cls(raw["pairs"], np.array(raw["total"]), np.array(raw["square"]), np.array(raw["ladder"]))

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> Self:
        """All pairs together."""
        total = cls(0, np.zeros(len(NAMES)), np.zeros(len(NAMES)), np.zeros(len(LADDER)))
        for part in parts:
            total = cls(
                total.pairs + part.pairs,
                total.total + part.total,
                total.square + part.square,
                total.ladder + part.ladder,
            )
        return total


@dataclass(frozen=True, slots=True)
class Valuation:
    """What is known of one option, per share.

    Attributes:
        estimates: By name, see ``Greeks``.
        errors: Standard error of each.
        ladder: Tomorrow's value, for each move of ``LADDER``.
    """

    contract_id: str
    estimates: Mapping[str, float]
    errors: Mapping[str, float]
    ladder: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "contract_id": self.contract_id,
            "estimates": dict(self.estimates),
            "errors": dict(self.errors),
            "ladder": list(self.ladder),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What ``to_json`` made."""
        return cls(raw["contract_id"], raw["estimates"], raw["errors"], tuple(raw["ladder"]))


def simulate(contract: Contract, terms: Terms, paths: int, slice_no: int = 0) -> Moments:
    """Draw ``paths`` paths (an even number); each slice has random numbers of its own."""
    generator = np.random.Generator(np.random.SFC64(_seed(contract.id, slice_no)))
    sample = _sample_asian if contract.kind is Kind.ASIAN else _sample_european
    most = max(_BLOCK // terms.fixings, 1)
    left = paths // 2
    parts = []
    while left:
        pairs = min(left, most)
        normals = generator.standard_normal((pairs, terms.fixings))
        parts.append(sample(terms, np.concatenate((normals, -normals))))
        left -= pairs
    return Moments.sum(parts)


def finish(contract: Contract, terms: Terms, moments: Moments) -> Valuation:
    """From sums to estimates with their errors; adds the known part of an Asian option."""
    mean = moments.total / moments.pairs
    spread = np.maximum(moments.square / moments.pairs - mean**2, 0.0)
    errors = np.sqrt(spread / (moments.pairs - 1))
    ladder = moments.ladder / moments.pairs
    if contract.kind is Kind.ASIAN:
        known = geometric_greeks(terms)
        mean = mean + np.array([getattr(known, name) for name in NAMES])
        tomorrow = terms.tomorrow()
        ladder = ladder + [geometric_value(tomorrow.at_spot(terms.spot * (1.0 + move))) for move in LADDER]
    return Valuation(
        contract.id,
        dict(zip(NAMES, mean.tolist(), strict=True)),
        dict(zip(NAMES, errors.tolist(), strict=True)),
        tuple(ladder.tolist()),
    )


def _seed(contract_id: str, slice_no: int) -> np.random.SeedSequence:
    digest = hashlib.sha256(contract_id.encode()).digest()
    return np.random.SeedSequence([int.from_bytes(digest[:16], "big"), slice_no])


def _sample_european(terms: Terms, normals: Array) -> Moments:
    z = normals[:, 0]
    tomorrow = terms.tomorrow()
    walk = z * np.sqrt(terms.years)
    price = np.exp(terms.drift * terms.years + terms.volatility * walk)
    later = np.exp(tomorrow.drift * tomorrow.years + terms.volatility * np.sqrt(tomorrow.years) * z)
    slope = price * (walk - terms.volatility * terms.years)
    score = z / (terms.volatility * np.sqrt(terms.years))
    return _moments(_estimates(terms, price, slope, score), *_ladder(tomorrow, later))


def _sample_asian(terms: Terms, normals: Array) -> Moments:
    """The arithmetic mean's option less the geometric mean's."""
    tomorrow = terms.tomorrow()
    walk = np.cumsum(normals, axis=1) / np.sqrt(terms.fixings)  # Brownian motion over one unit of time
    steps = np.arange(1, terms.fixings + 1) / terms.fixings
    prices, geometric = _prices(terms, walk, steps)
    later, later_geometric = _prices(tomorrow, walk, steps)
    slopes = walk * np.sqrt(terms.years) - terms.volatility * terms.years * steps
    slope = np.einsum("pf,pf->p", prices, slopes) / terms.fixings
    score = normals[:, 0] / (terms.volatility * np.sqrt(terms.years / terms.fixings))
    ladder, unmoved = _ladder(tomorrow, later.mean(axis=1))
    known_ladder, known_unmoved = _ladder(tomorrow, later_geometric)
    return _moments(
        _estimates(terms, prices.mean(axis=1), slope, score)
        - _estimates(terms, geometric, geometric * slopes.mean(axis=1), score),
        ladder - known_ladder,
        unmoved - known_unmoved,
    )


def _prices(terms: Terms, walk: Array, steps: Array) -> tuple[Array, Array]:
    """Prices relative to the spot, (paths, fixings), and their geometric mean, (paths,)."""
    logs = walk * (terms.volatility * np.sqrt(terms.years))
    logs += terms.drift * terms.years * steps
    geometric = np.exp(logs.mean(axis=1))
    return np.exp(logs, out=logs), geometric


def _estimates(terms: Terms, mean: Array, slope: Array, score: Array) -> Array:
    """(estimates, paths) of an option on a mean of prices, relative to the spot.

    Args:
        mean: Of each path.
        slope: Its derivative in the volatility.
        score: Derivative of the path's log density in the logarithm of the spot.
    """
    gain = terms.sign * (terms.spot * mean - terms.strike)
    paid = np.where(gain > 0.0, terms.discount, 0.0)
    signed = terms.sign * paid
    estimates = np.empty((len(NAMES), len(mean)))
    estimates[0] = paid * gain
    estimates[1] = signed * mean
    estimates[2] = signed * score * (terms.strike / terms.spot**2)
    estimates[3] = signed * slope * terms.spot
    estimates[4] = -estimates[0]  # tomorrow's value is added where the ladder is known
    return estimates


def _ladder(tomorrow: Terms, later: Array) -> tuple[Array, Array]:
    """Tomorrow's discounted payoffs: their sum for each move, (moves,), and those of no move, (paths,)."""
    sums = np.empty(len(LADDER))
    unmoved = np.empty_like(later)
    payoffs = np.empty_like(later)  # used again and again: fresh memory costs more than the arithmetic
    for place, move in enumerate(LADDER):
        np.multiply(later, tomorrow.sign * tomorrow.spot * (1.0 + move), out=payoffs)
        payoffs -= tomorrow.sign * tomorrow.strike
        np.maximum(payoffs, 0.0, out=payoffs)
        sums[place] = payoffs.sum()
        if move == 0.0:
            np.multiply(payoffs, tomorrow.discount, out=unmoved)
    return sums * tomorrow.discount, unmoved


def _moments(estimates: Array, ladder: Array, unmoved: Array) -> Moments:
    """Sums over pairs; the second half of the paths mirrors the first."""
    estimates[4] += unmoved
    pairs = estimates.shape[1] // 2
    means = 0.5 * (estimates[:, :pairs] + estimates[:, pairs:])
    return Moments(pairs, means.sum(axis=1), np.einsum("ep,ep->e", means, means), 0.5 * ladder)
