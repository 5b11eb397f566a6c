"""The load of ``ripieno bench``: many tasks submitted together, and tasks one at a time."""

import pickle
import time
from dataclasses import dataclass, field

from ripieno.cli.bench import bench_task
from ripieno.client import Client, RipienoError, Session

#: A cluster that does not answer within this many seconds is taken for absent.
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """The tasks that one run of the benchmark submits.

    Attributes:
        tasks: Number of tasks submitted together, 1,000 a call.
        singles: Number of tasks run one at a time, beforehand, on the cluster as it is.
        payload: Payload of every task; None for a function of ours that the default Python worker runs.
        task_s: How long that function sleeps.
        payload_bytes, result_bytes: Sizes for that function.
        partition: Partition to run in; None is the default one.
        limit_s: Time limit of the whole run; tasks that have not ended then are cancelled.
    """

    tasks: int
    singles: int
    payload: bytes | None
    task_s: float
    payload_bytes: int
    result_bytes: int
    partition: str | None
    limit_s: float

    def encoded(self) -> bytes:
        """Return the payload of one task."""
        if self.payload is not None:
            return self.payload
        call: tuple[object, ...] = (bench_task.run, (self.task_s, self.result_bytes, b"p" * self.payload_bytes), {})
        return pickle.dumps(call)


@dataclass(slots=True)
class Measured:
    """Measurements of one run, in seconds; those of the tasks together count from their first call.

    Attributes:
        singles_s: Time of each single task, from its submission to its result.
        submitted_s: When all tasks were submitted.
        arrivals_s: When each result came, in order of arrival.
        ran: When and where tasks ran, as far as their results say.
        result_bytes: Size of all results together.
        failed: Number of tasks that failed.
        first_failure: Reason of the first failure; empty if there was none.
    """

    singles_s: list[float] = field(default_factory=list)
    submitted_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    ran: list[bench_task.Ran] = field(default_factory=list)
    result_bytes: int = 0
    failed: int = 0
    first_failure: str = ""


class OutOfTimeError(Exception):
    """The time limit of the run passed; the text says how many tasks had ended."""


def run_load(address: str, load: Load) -> Measured:
    """Run a load in a session of its own, which is cancelled at the end, also when interrupted.

    Raises:
        OutOfTimeError: if the load's time limit passed.
        RipienoError: if the cluster refused something, or none answered.
    """
    give_up_at = time.monotonic() + load.limit_s
    measured = Measured()
    with Client(address, patience=PATIENCE_S) as client:
        session = client.session(max_retries=0, max_duration=max(60.0, 10 * load.task_s), partition=load.partition)
        try:
            _one_at_a_time(session, load, give_up_at, measured)
            _together(session, load, give_up_at, measured)
        except TimeoutError:
            came = f"{len(measured.singles_s)} single tasks and {len(measured.arrivals_s)} of {load.tasks} others"
            raise OutOfTimeError(f"{came} had ended after {load.limit_s:g} s; the rest was cancelled") from None
        finally:
            session.cancel()
    return measured


def _one_at_a_time(session: Session, load: Load, give_up_at: float, measured: Measured) -> None:
    payload = load.encoded()
    for number in range(load.singles + 1 if load.singles else 0):
        began = time.perf_counter()
        task = session.submit(payload)
        try:
            task.result(timeout=_left(give_up_at))
        except RipienoError as error:
            _note_failure(measured, error)
        # The first task is not counted: it connects, and may meet a worker that is still loading.
        if number:
            measured.singles_s.append(time.perf_counter() - began)


def _together(session: Session, load: Load, give_up_at: float, measured: Measured) -> None:
    payload = load.encoded()
    began = time.perf_counter()
    tasks = session.submit_many([payload] * load.tasks)
    measured.submitted_s = time.perf_counter() - began
    results = []
    for result in session.results(tasks, timeout=_left(give_up_at)):
        measured.arrivals_s.append(time.perf_counter() - began)
        results.append(result)
    for result in results:
        if result.error is not None:
            _note_failure(measured, result.error)
            continue
        measured.result_bytes += len(result.data)
        if ran := bench_task.read(result.data):
            measured.ran.append(ran)


def _left(give_up_at: float) -> float:
    return max(give_up_at - time.monotonic(), 0.001)


def _note_failure(measured: Measured, error: RipienoError) -> None:
    measured.failed += 1
    measured.first_failure = measured.first_failure or str(error)
