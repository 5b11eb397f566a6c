"""What a person sees at the end: two tables and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from examples.portfolio.book import Market
from examples.portfolio.check import LIMIT, Check
from examples.portfolio.pricing import Array
from examples.portfolio.scenarios import Exposure, Risk, expected_shortfall, value_at_risk

_INK, _MUTED, _GRID = "#1f2a36", "#5b6775", "#dde2e8"
_BODY, _LOSS, _TAIL = "#9db4c8", "#d98a3a", "#b83a22"


def exposure_table(market: Market, risk: Risk) -> Table:
    """Value and Greeks by share, in the units of a trading desk; fits 80 columns."""
    table = _table("Value and Greeks by underlying, in USD", "\nshare")
    for heading in (
        "\npositions",
        "\nvalue",
        "\n± s.e.",
        "delta\nper +1 %",
        "gamma\nper +1 %",
        "vega\nper point",
        "theta\nper day",
    ):
        table.add_column(heading, justify="right")
    rows = [_desk_units(exposure, market.underlyings[name].spot) for name, exposure in risk.exposures.items()]
    for name, row in zip(risk.exposures, rows, strict=True):
        table.add_row(name, *map(_amount, row))
    table.add_section()
    totals = [sum(column) for column in zip(*rows, strict=True)]
    totals[2] = float(np.sqrt(sum(row[2] ** 2 for row in rows)))
    table.add_row("book", *map(_amount, totals), style="bold")
    return table


def check_table(checks: Sequence[Check]) -> Table:
    """Monte Carlo against Black and Scholes; fits 80 columns."""
    size = len(checks[0].deviations)
    table = _table(
        f"Monte Carlo against Black-Scholes: {size} European contracts,\n"
        "deviations in standard errors of the estimate (s.e.)",
        "\nestimate",
    )
    for heading in (
        "within 2 s.e.\n(95.4 % due)",
        "within 3 s.e.\n(99.7 % due)",
        "root mean\nsquare (1 due)",
        f"furthest off\n(limit {LIMIT:g})",
    ):
        table.add_column(heading, justify="right")
    table.add_column("")
    for check in checks:
        contract_id, deviation = check.worst
        table.add_row(
            check.name,
            f"{check.within(2)} = {check.within(2) / size:.1%}",
            f"{check.within(3)} = {check.within(3) / size:.1%}",
            f"{check.root_mean_square:.2f}",
            f"{deviation:+.2f} {contract_id}",
            Text("ok", "green") if check.passed else Text("FAILED", "bold red"),
        )
    return table


def _table(title: str, first: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(first)
    return table


def risk_summary(risk: Risk) -> str:
    """The distribution in a few words."""
    profits = np.array(risk.profits, dtype=float)
    return (
        f"One day ahead, {len(profits):,} scenarios, USD: standard deviation {profits.std():,.0f},\n"
        f"VaR 95 % {value_at_risk(profits, 0.95):,.0f}, VaR 99 % {value_at_risk(profits, 0.99):,.0f}, "
        f"expected shortfall 99 % {expected_shortfall(profits, 0.99):,.0f}"
    )


def draw_profits(risk: Risk, market: Market, path: Path) -> None:
    """Draw the distribution of one day's profit and loss as a PNG file."""
    profits = np.array(risk.profits, dtype=float) / 1e3
    low, high = np.quantile(profits, [0.001, 0.9999])
    edges = np.linspace(low, high, 101)
    var_95, var_99 = value_at_risk(profits, 0.95), value_at_risk(profits, 0.99)

    figure = Figure(figsize=(10.0, 5.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    heights = np.histogram(profits, edges)[0] * (100.0 / len(profits))
    left = edges[:-1]
    colours = np.select([left < -var_99, left < -var_95], [_TAIL, _LOSS], _BODY)
    axes.bar(left, heights, np.diff(edges), align="edge", color=colours.tolist(), edgecolor="white", linewidth=0.4)
    top = float(heights.max())
    _mark(axes, -var_99, top * 0.45, f"VaR 99 %\n-{var_99:,.0f} k", _TAIL)
    _mark(axes, -var_95, top * 0.70, f"VaR 95 %\n-{var_95:,.0f} k", _LOSS)
    _dress(axes, edges, top)
    contracts = sum(exposure.contracts for exposure in risk.exposures.values())
    axes.set_title(
        f"One-day profit and loss of {contracts:,} option contracts",
        loc="left",
        fontsize=15,
        fontweight="bold",
        color=_INK,
        pad=28,
    )
    outside = int(np.sum((profits < low) | (profits > high)))
    axes.text(
        0.0,
        1.03,
        f"{len(profits):,} joint moves of {len(market.underlyings)} shares and their volatilities, from "
        f"{market.valued_on:%d %B %Y} on; Student t with {market.degrees_of_freedom:g} degrees of freedom; "
        f"{outside} are outside the picture",
        transform=axes.transAxes,
        fontsize=9,
        color=_MUTED,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _mark(axes: Axes, at: float, height: float, label: str, colour: str) -> None:
    axes.plot([at, at], [0.0, height], color=colour, linewidth=1.4)
    axes.annotate(
        label,
        (at, height),
        (-6, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=11,
        fontweight="bold",
        color=colour,
    )


def _dress(axes: Axes, edges: Array, top: float) -> None:
    axes.axvline(0.0, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0.0, top * 1.05)
    axes.set_xlabel("Profit and loss until tomorrow (thousand USD)", color=_INK, fontsize=11)
    axes.set_ylabel(f"Scenarios (% in each bar of {edges[1] - edges[0]:.0f} thousand USD)", color=_INK, fontsize=11)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_MUTED, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)


def _desk_units(exposure: Exposure, spot: float) -> list[float]:
    """Contracts, value, its error, and the Greeks for moves of 1 % of the spot and 0.01 of volatility."""
    of: Mapping[str, float] = exposure.estimates
    per_cent = 0.01 * spot
    return [
        float(exposure.contracts),
        of["value"],
        float(np.sqrt(exposure.variance)),
        of["delta"] * per_cent,
        of["gamma"] * per_cent**2,
        of["vega"] * 0.01,
        of["theta"],
    ]


def _amount(value: float) -> str:
    return f"{value:,.0f}"
