"""Is the simulation right? A sample of its estimates against the closed formula.

An unbiased estimate lies within 2 of its standard errors of the truth in 95.4 % of
cases, within 3 in 99.7 %. So a sample shows more than that nothing is far off: errors
that are stated too large or too small show as well.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.portfolio.book import Contract, Kind, Market
from examples.portfolio.closed_form import Terms, geometric_greeks
from examples.portfolio.pricing import NAMES, Valuation

SAMPLE = 200
#: No estimate may be further off, in standard errors. Of 200 right ones the furthest is
#: beyond 4 for one book in 80, beyond 4.5 for one in 700.
LIMIT = 4.5
#: How far the root mean square of all deviations may be from 1, in its own standard
#: errors: it is that of a chi distribution, about 1 / sqrt(2 n).
ROOT_LIMIT = 4.0


@dataclass(frozen=True, slots=True)
class Check:
    """One estimate (value, delta...) over the sample.

    Attributes:
        deviations: By contract id: (estimate less truth) / standard error.
    """

    name: str
    deviations: Mapping[str, float]

    def within(self, errors: float) -> int:
        """How many lie within so many standard errors."""
        return sum(abs(deviation) <= errors for deviation in self.deviations.values())

    @property
    def root_mean_square(self) -> float:
        """Typical size of a deviation, in standard errors."""
        return math.sqrt(sum(deviation**2 for deviation in self.deviations.values()) / len(self.deviations))

    @property
    def worst(self) -> tuple[str, float]:
        """The contract that is furthest off, and its deviation."""
        return max(self.deviations.items(), key=lambda item: abs(item[1]))

    @property
    def passed(self) -> bool:
        """Whether the simulation may be trusted in this respect."""
        allowed = ROOT_LIMIT / math.sqrt(2.0 * len(self.deviations))
        return abs(self.worst[1]) < LIMIT and abs(self.root_mean_square - 1.0) < allowed


def check_sample(
    market: Market, contracts: Sequence[Contract], valuations: Mapping[str, Valuation], seed: int = 1
) -> list[Check]:
    """Compare 200 European contracts, drawn by the seed, with Black and Scholes."""
    european = [contract for contract in contracts if contract.kind is Kind.EUROPEAN]
    sample = random.Random(seed).sample(european, min(SAMPLE, len(european)))
    deviations: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    for contract in sample:
        truth = geometric_greeks(Terms.of(contract, market))
        valuation = valuations[contract.id]
        for name in NAMES:
            difference = valuation.estimates[name] - getattr(truth, name)
            deviations[name][contract.id] = difference / valuation.errors[name]
    return [Check(name, of_name) for name, of_name in deviations.items()]
