"""What runs on the cluster: one handler for all tasks of the job.

Start a cluster with it from the repository's root::

    ripieno up --worker "ripieno worker examples.portfolio.worker:handle"
"""

import json
from collections.abc import Callable
from typing import Any

from examples.portfolio.book import BookError, Contract, Market
from examples.portfolio.closed_form import Terms
from examples.portfolio.pricing import Moments, finish, simulate
from examples.portfolio.scenarios import assess
from examples.portfolio.steps import MARKET, Step, decode_valuations, encode_risk, encode_valuations, slice_steps
from ripieno.worker import SubTask, Task, TaskError

Fields = dict[str, Any]


def handle(task: Task) -> bytes | None:
    """Run one task; its payload says which step it is.

    Returns:
        The result, or None where a sub-task took over making it.

    Raises:
        TaskError: a contract or a market that cannot be valued: final, since another
            attempt would find the same.
    """
    fields = json.loads(task.payload)
    try:
        return _STEPS[fields["step"]](task, fields)
    except BookError as error:
        raise TaskError(str(error)) from error


def _check_market(task: Task, fields: Fields) -> bytes:
    """Every other task reads this result, so a bad market stops the whole job here, once."""
    market: bytes = fields["market"].encode()
    Market.from_json(market)
    return market


def _price(task: Task, fields: Fields) -> bytes:
    market = _market(task)
    valuations = []
    for row in fields["contracts"]:
        contract = Contract.from_row(row)
        terms = Terms.of(contract, market)
        valuations.append(finish(contract, terms, simulate(contract, terms, contract.paths)))
    return encode_valuations(valuations)


def _split(task: Task, fields: Fields) -> None:
    """Delegate: the merge owns this task's key from the commit of this task on."""
    contract = Contract.from_row(fields["contract"])
    Terms.of(contract, _market(task))  # refused here, once, rather than in every slice
    slices, merge = slice_steps(contract)
    task.submit([_sub_task(step) for step in (*slices, merge)])


def _slice(task: Task, fields: Fields) -> bytes:
    contract = Contract.from_row(fields["contract"])
    terms = Terms.of(contract, _market(task))
    moments = simulate(contract, terms, fields["paths"], fields["number"])
    return json.dumps(moments.to_json()).encode()


def _merge(task: Task, fields: Fields) -> bytes:
    contract = Contract.from_row(fields["contract"])
    terms = Terms.of(contract, _market(task))
    parts = [Moments.from_json(json.loads(data)) for key, data in task.data.items() if key != MARKET]
    return encode_valuations([finish(contract, terms, Moments.sum(parts))])


def _report(task: Task, fields: Fields) -> bytes:
    contracts = {row["id"]: Contract.from_row(row) for row in fields["contracts"]}
    valuations = [
        valuation for key, data in task.data.items() if key != MARKET for valuation in decode_valuations(data)
    ]
    if contracts.keys() != {valuation.contract_id for valuation in valuations}:
        raise TaskError(f"{len(valuations)} valuations do not cover the {len(contracts)} contracts of the book")
    risk = assess(_market(task), [(contracts[valuation.contract_id], valuation) for valuation in valuations])
    return encode_risk(risk)


_STEPS: dict[str, Callable[[Task, Fields], bytes | None]] = {
    "market": _check_market,
    "price": _price,
    "split": _split,
    "slice": _slice,
    "merge": _merge,
    "report": _report,
}


def _market(task: Task) -> Market:
    return Market.from_json(task.data[MARKET])


def _sub_task(step: Step) -> SubTask:
    return SubTask(step.payload, expected_output_keys=[step.key], data_dependencies=step.dependencies)
