"""A figure: a number, its unit, what it should be, and how it was taken."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OURS = "ripieno"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach.

    Attributes:
        bound: In the figure's unit.
        at_least: Whether larger is better; otherwise it is the most that it may be.
    """

    bound: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Whether the value reaches it."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        """For instance ``>= 15,000``."""
        return f"{'>=' if self.at_least else '<='} {self.bound:,.10g}"


def at_least(bound: float) -> Target:
    """Larger is better."""
    return Target(bound, at_least=True)


def at_most(bound: float) -> Target:
    """Smaller is better."""
    return Target(bound, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: What was measured; the same for ours and a peer's.
        value: The middle one where there were several rounds.
        unit: ``tasks/s``, ``ms``, ``%``...
        how: How it was taken (BENCH-3).
        target: What it should be; None where it is only told.
        lowest, highest: Over the rounds; None where there was one.
        system: Whose figure it is.
        subject: ``P1`` and so on; the harness fills it in.
    """

    name: str
    value: float
    unit: str
    how: str
    target: Target | None = None
    lowest: float | None = None
    highest: float | None = None
    system: str = OURS
    subject: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing without a target."""
        if self.target is None:
            return ""
        return "met" if self.target.met_by(self.value) else "missed"

    def to_json(self) -> dict[str, Any]:
        """As it is kept in a file."""
        return asdict(self) | {"verdict": self.verdict}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Figure":
        """Read what ``to_json`` wrote."""
        fields = {name: value for name, value in row.items() if name != "verdict"}
        if fields["target"] is not None:
            fields["target"] = Target(**fields["target"])
        return cls(**fields)


def of_rounds(name: str, values: Sequence[float], unit: str, how: str, target: Target | None = None) -> Figure:
    """The middle of several rounds, with the lowest and the highest beside it."""
    return Figure(name, statistics.median(values), unit, how, target, lowest=min(values), highest=max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-round(share * 1e6) * len(ordered) // 1_000_000) - 1))]
