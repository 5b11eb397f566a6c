"""The tasks of the job: what each is called, what it reads, and what its payload says.

::

    market ──┬──> E0001..E0008 (eight contracts) ───────────────┐
             ├──> E0009..E0016 ─────────────────────────────────┤
             ├──> ...                                           ├──> report
             └──> A0001 (large) ┄┄> A0001/1, A0001/2, ...       │
                        ┆                  │                    │
                        ┆                  v                    │
                        └┄┄ its key ┄┄> A0001/merge ────────────┘

A solid line is a data dependency. The dotted ones are made while the job runs: the task
of a large contract submits its slices and a merge that takes over its key, so ``report``
waits for ``A0001`` and never learns that somebody else made it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from examples.portfolio.book import Contract, Kind
from examples.portfolio.pricing import Valuation
from examples.portfolio.scenarios import Risk

MARKET = "market"
REPORT = "report"

CONTRACTS_PER_TASK = 8
#: What a path costs beside its prices (payoffs, Greeks, the ladder), in prices.
_PATH_WORK = 3
#: Paths of one slice of a large contract: some 50 ms of work.
SLICE_PATHS = 50_000


@dataclass(frozen=True, slots=True)
class Step:
    """One task to be submitted.

    Attributes:
        key: Its single expected output, unique in the session.
        dependencies: Keys of the results that it reads.
        contracts: How many contracts are priced once it is done.
        prices: How many prices it simulates.
        work: How long it takes, in the time that one price of many on a path takes.
    """

    key: str
    payload: bytes
    dependencies: tuple[str, ...] = ()
    contracts: int = 0
    prices: int = 0
    work: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps that the client submits."""

    market: Step
    positions: tuple[Step, ...]
    report: Step


def plan(market: bytes, contracts: Sequence[Contract]) -> Plan:
    """Cut a book into tasks; the order of the book is the order of the tasks."""
    groups = _groups(contracts)
    positions = tuple(_position_step(group) for group in groups)
    return Plan(
        market=Step(MARKET, encode("market", market=market.decode())),
        positions=positions,
        report=Step(
            REPORT,
            encode("report", contracts=[contract.to_row() for contract in contracts]),
            (MARKET, *(step.key for step in positions)),
        ),
    )


def slice_steps(contract: Contract) -> tuple[list[Step], Step]:
    """The slices of a large contract, and the step that merges them into the contract's own key."""
    slices = [
        Step(
            f"{contract.id}/{number}",
            encode("slice", contract=contract.to_row(), number=number, paths=min(SLICE_PATHS, contract.paths - begin)),
            (MARKET,),
        )
        for number, begin in enumerate(range(0, contract.paths, SLICE_PATHS), start=1)
    ]
    merge = Step(
        contract.id,
        encode("merge", contract=contract.to_row()),
        (MARKET, *(step.key for step in slices)),
    )
    return slices, merge


def encode(step: str, **fields: Any) -> bytes:
    """The payload of a task: which step it is, and what that step needs to know."""
    return json.dumps({"step": step, **fields}, separators=(",", ":")).encode()


def encode_valuations(valuations: Sequence[Valuation]) -> bytes:
    """The result of a position's task."""
    return json.dumps([valuation.to_json() for valuation in valuations], separators=(",", ":")).encode()


def decode_valuations(data: bytes) -> list[Valuation]:
    """What ``encode_valuations`` made."""
    return [Valuation.from_json(raw) for raw in json.loads(data)]


def encode_risk(risk: Risk) -> bytes:
    """The result of the report's task."""
    return json.dumps(risk.to_json(), separators=(",", ":")).encode()


def decode_risk(data: bytes) -> Risk:
    """What ``encode_risk`` made."""
    return Risk.from_json(json.loads(data))


def _groups(contracts: Sequence[Contract]) -> list[list[Contract]]:
    """A large contract alone, the others by eight."""
    groups: list[list[Contract]] = []
    small: list[Contract] = []
    for contract in contracts:
        if contract.kind is Kind.ASIAN:
            groups.append([contract])
            continue
        if not small:
            groups.append(small)
        small.append(contract)
        if len(small) == CONTRACTS_PER_TASK:
            small = []
    return groups


def _position_step(group: list[Contract]) -> Step:
    first = group[0]
    if first.kind is Kind.ASIAN:
        key, payload = first.id, encode("split", contract=first.to_row())
    else:
        key = f"{first.id}..{group[-1].id}"
        payload = encode("price", contracts=[contract.to_row() for contract in group])
    return Step(
        key,
        payload,
        (MARKET,),
        contracts=len(group),
        prices=sum(contract.paths * contract.fixings for contract in group),
        work=sum(contract.paths * (contract.fixings + _PATH_WORK) for contract in group),
    )
