"""The client's side: submits the job, hears of results as they finish."""

from collections.abc import Callable
from dataclasses import dataclass

from examples.portfolio.book import Contract
from examples.portfolio.pricing import Valuation
from examples.portfolio.scenarios import Risk
from examples.portfolio.steps import Plan, Step, decode_risk, decode_valuations, plan
from ripieno.client import Client, Session, TaskDefinition
from ripieno.domain.errors import RipienoError, UnavailableError

#: Of one attempt. A task takes a fraction of a second; a machine that is busy with other things may need more.
MAX_DURATION_S = 120.0
#: Of the whole job, which takes half a minute on two cores: a cluster without workers is found out some day.
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        contracts: Priced so far.
        done: Work of what is finished.
        total: Work of the whole job.
    """

    contracts: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """What the job made.

    Attributes:
        valuations: By contract id.
        tasks: How many tasks it took, sub-tasks included.
        prices: How many prices were simulated.
    """

    valuations: dict[str, Valuation]
    risk: Risk
    tasks: int
    prices: int


def run(client: Client, market: bytes, contracts: list[Contract], on_progress: Callable[[Progress], None]) -> Finished:
    """Submit the whole job at once, then read results in the order in which they finish.

    Args:
        on_progress: Called once at the beginning and once for each result of a position.

    Raises:
        TaskFailedError: a task failed for good, which its reason explains. What is left of
            the job is cancelled.
        TimeoutError: the job took longer than 15 minutes; it is cancelled.
    """
    job = plan(market, contracts)
    session = client.session(max_retries=2, max_duration=MAX_DURATION_S)
    try:
        return _follow(session, job, on_progress)
    except UnavailableError:
        raise  # nobody there to be told
    except (RipienoError, TimeoutError, KeyboardInterrupt):
        session.cancel()
        raise


def _follow(session: Session, job: Plan, on_progress: Callable[[Progress], None]) -> Finished:
    session.submit_many([_definition(step) for step in (job.market, *job.positions, job.report)])
    by_key = {step.key: step for step in job.positions}
    progress = Progress(0, 0, sum(step.work for step in job.positions))
    on_progress(progress)
    valuations: dict[str, Valuation] = {}
    for result in session.results(list(by_key), timeout=TIMEOUT_S):
        valuations.update((valuation.contract_id, valuation) for valuation in decode_valuations(result.data))
        progress = Progress(len(valuations), progress.done + by_key[result.key].work, progress.total)
        on_progress(progress)
    risk = decode_risk(session.result(job.report.key, timeout=TIMEOUT_S))
    prices = sum(step.prices for step in job.positions)
    return Finished(valuations, risk, sum(session.counts().values()), prices)


def _definition(step: Step) -> TaskDefinition:
    return TaskDefinition(step.payload, expected_outputs=step.key, dependencies=step.dependencies)
