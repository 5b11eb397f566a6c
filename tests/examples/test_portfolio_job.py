"""The job: how the book is cut, and what each step does, without a cluster.

``FakeTask`` stands for a task of the worker SDK; ``run_all`` for the cluster: it runs
what is ready, and knows of sub-tasks only what they declare.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest

from examples.portfolio.book import Contract, Market
from examples.portfolio.closed_form import Terms
from examples.portfolio.pricing import Moments, finish, simulate
from examples.portfolio.steps import (
    CONTRACTS_PER_TASK,
    MARKET,
    REPORT,
    SLICE_PATHS,
    Plan,
    decode_risk,
    decode_valuations,
    encode,
    plan,
    slice_steps,
)
from examples.portfolio.worker import handle
from ripieno.worker import SubTask, Task, TaskError


class FakeTask:
    """What the handler needs of a task."""

    def __init__(self, payload: bytes, data: Mapping[str, bytes]) -> None:
        self.payload = payload
        self.data = data
        self.submitted: list[SubTask] = []

    def submit(self, sub_tasks: list[SubTask]) -> list[SubTask]:
        self.submitted += sub_tasks
        return sub_tasks


def run(payload: bytes, data: Mapping[str, bytes]) -> tuple[bytes | None, list[SubTask]]:
    task = FakeTask(payload, data)
    return handle(cast("Task", task)), task.submitted


def run_all(job: Plan) -> dict[str, bytes]:
    """Run a whole job here; returns every result by key."""
    waiting = [
        SubTask(step.payload, [step.key], step.dependencies) for step in (job.report, *job.positions, job.market)
    ]
    results: dict[str, bytes] = {}
    while waiting:
        ready = [task for task in waiting if set(task.data_dependencies) <= results.keys()]
        assert ready, f"nobody makes what {waiting} wait for"
        waiting = [task for task in waiting if task not in ready]
        for task in ready:
            result, submitted = run(task.payload, {key: results[key] for key in task.data_dependencies})
            waiting += submitted
            (key,) = task.expected_output_keys
            if result is None:
                assert [sub for sub in submitted if key in sub.expected_output_keys], f"{key} was not delegated"
            else:
                assert key not in results
                results[key] = result
    return results


@pytest.fixture
def contracts(call: Contract, average_put: Contract) -> list[Contract]:
    small = [replace(call, id=f"E{number:04d}", paths=2_000, strike=350.0 + 5 * number) for number in range(1, 21)]
    return [average_put, *small]


def test_a_book_is_cut_into_tasks_of_a_few_contracts(market_data: bytes, contracts: list[Contract]) -> None:
    job = plan(market_data, contracts)
    assert [step.key for step in job.positions] == ["A0001", "E0001..E0008", "E0009..E0016", "E0017..E0020"]
    assert [step.contracts for step in job.positions] == [1, CONTRACTS_PER_TASK, CONTRACTS_PER_TASK, 4]
    assert all(step.dependencies == (MARKET,) for step in job.positions)
    assert job.market.dependencies == ()
    assert job.report.dependencies == (MARKET, *(step.key for step in job.positions))


def test_a_large_contract_is_sliced_and_merged_under_its_own_key(average_put: Contract) -> None:
    slices, merge = slice_steps(average_put)
    assert [json.loads(step.payload)["paths"] for step in slices] == [SLICE_PATHS, SLICE_PATHS, 30_000]
    assert merge.key == average_put.id
    assert merge.dependencies == (MARKET, "A0001/1", "A0001/2", "A0001/3")


def test_the_whole_job(market_data: bytes, market: Market, contracts: list[Contract]) -> None:
    job = plan(market_data, contracts)
    results = run_all(job)
    assert results[MARKET] == market_data
    valuations = {
        valuation.contract_id: valuation for step in job.positions for valuation in decode_valuations(results[step.key])
    }
    assert list(valuations) == [contract.id for contract in contracts]
    risk = decode_risk(results[REPORT])
    assert sum(exposure.contracts for exposure in risk.exposures.values()) == len(contracts)
    assert risk.exposures["ELM"].estimates["value"] == pytest.approx(-4_000 * valuations["A0001"].estimates["value"])

    large = contracts[0]
    terms = Terms.of(large, market)
    parts = [simulate(large, terms, paths, number) for number, paths in ((1, 50_000), (2, 50_000), (3, 30_000))]
    assert valuations["A0001"] == finish(large, terms, Moments.sum(parts))


def test_what_cannot_be_valued_is_a_final_error(market_data: bytes, call: Contract, average_put: Contract) -> None:
    data = {MARKET: market_data}
    with pytest.raises(TaskError, match="market"):
        run(encode("market", market="{}"), {})
    with pytest.raises(TaskError, match=r"E0001.*no price of 'YEW'"):
        run(encode("price", contracts=[replace(call, underlying="YEW").to_row()]), data)
    with pytest.raises(TaskError, match=r"A0001.*no price of 'YEW'"):
        run(encode("split", contract=replace(average_put, underlying="YEW").to_row()), data)
    with pytest.raises(TaskError, match="0 valuations do not cover the 1 contracts"):
        run(encode("report", contracts=[call.to_row()]), data)
