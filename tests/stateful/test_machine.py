"""The store against the reference model: every step of random work, in every order.

One step is one call of the store (a flush may hold several outcomes); after each, every task,
every result, the counts and all invariants are compared.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ripieno.domain.errors import AlreadyExistsError, ConflictError, SessionStepError, SubmissionStoppedError
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Completed, Failed, Failure, Outcome, SubTasks, Ticket
from ripieno.domain.statuses import ResultStatus, SessionStatus, SessionStep, TaskStatus
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.attempts import mark_started_if_owned, release_if_owned
from ripieno.store.attempts.claim import Claimed
from ripieno.store.database.database import Database, NotPlainError
from ripieno.store.reading.lookup import find_tasks
from ripieno.store.reading.sanity import broken_invariants
from ripieno.store.results.client_results import ClientResults, NewResult
from ripieno.store.results.deletion import delete_data
from ripieno.store.sessions.counts import fold_counts
from ripieno.store.submitting.submission import submit, submit_and_claim
from stateful.model import Broken, CancelledError, Model, Ok, StepError, TakenError
from store.world import AGENT, World

T = TypeVar("T")

SESSIONS = ["s1", "s2"]
FAILURES = {
    Failure.ATTEMPT: Broken(TaskStatus.ERROR),
    Failure.TIMEOUT: Broken(TaskStatus.TIMEOUT),
    Failure.OUTPUT: Broken(TaskStatus.ERROR, may_retry=False),
}

EMPTY = """
    truncate sessions, options, tasks, states, earlier_attempts, results, dependencies, blobs, session_counts,
        pending_cuts, pending_promotions, pending_cancellations, pending_revivals, pending_sweeps, deleted_sessions,
        unowned_results, timers
"""


#: What options say of times -> their entries of the free map.
TIMES = {
    "delay": ("ripieno.delay", "3600"),
    "deadline": ("ripieno.deadline", "7200"),
    "pause": ("ripieno.retry.first_delay", "60"),
}
KINDS = {"start": 1, "deadline": 2}


def options(retries: int, priority: int, times: frozenset[str]) -> TaskOptions:
    """Options of tasks that have these times."""
    return TaskOptions(1_000_000, retries, priority, dict(TIMES[name] for name in sorted(times)))


class StoreMachine(RuleBasedStateMachine):
    """Random calls on the store and on the model."""

    def __init__(self, database: Database, runner: asyncio.Runner) -> None:
        super().__init__()
        self.database = database
        self.runner = runner
        self.model = Model()
        self.world = World(database)
        self.tickets: list[tuple[str, Ticket]] = []
        self.names = 0
        self.clients = ClientResults(database)
        #: Keys that clients have created, each with its session.
        self.created: list[tuple[str, str]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def begin(self) -> None:
        self.run(self.database.fetch(EMPTY))
        self.world = World(self.database)
        for session_id in SESSIONS:
            self.run(self.world.session(session_id, TaskOptions(1_000_000, 1, 50)))

    @initialize(data=st.data())
    def fills(self, data: st.DataObject) -> None:
        """Something to work on from the start."""
        self.begin()
        for session_id in SESSIONS:
            self.submit(session_id, self.draw_tasks(data, most=4, delegable=[]), 50, 2)

    def draw_tasks(self, data: st.DataObject, *, most: int, delegable: list[str], keyed: bool = False) -> list[NewTask]:
        """New tasks: mostly with names of their own, some that clash, some that wait for later ones."""
        tasks = []
        for _ in range(data.draw(st.integers(1, most), label="tasks")):
            self.names += 1
            name = self.names if data.draw(st.integers(0, 9), label="clash") else data.draw(st.integers(1, self.names))
            outputs = [f"k{name}"][: data.draw(st.integers(0, 5), label="outputs")]
            delegated = data.draw(st.booleans(), label="delegated")
            if delegable and delegated:
                outputs.append(delegable.pop())
            near = st.integers(max(1, name - 4), name + 2).map("k{}".format)
            named: list[str] = data.draw(st.lists(near, max_size=3), label="needs")
            needs = [key for key in named if key not in outputs and data.draw(st.booleans(), label="needed")]
            payload_key = None
            if self.created and data.draw(st.integers(0, 2), label="of a client") == 0:
                key = data.draw(st.sampled_from(self.created), label="created")[1]
                use = data.draw(st.sampled_from(["needs", "makes", "payload"]), label="use")
                if use == "makes":
                    outputs.append(key)
                elif use == "needs":
                    needs.append(key)
                elif keyed:
                    payload_key = key
            tasks.append(NewTask(f"t{name}", outputs, needs, b"" if payload_key else b"%d" % name, payload_key))
        return tasks

    @rule(
        data=st.data(),
        session_id=st.sampled_from(SESSIONS),
        priority=st.sampled_from([1, 50, 99]),
        retries=st.integers(0, 2),
        times=st.one_of(st.just(frozenset[str]()), st.frozensets(st.sampled_from(sorted(TIMES)))),
    )
    def submits(self, data: st.DataObject, session_id: str, priority: int, retries: int, times: frozenset[str]) -> None:
        self.submit(session_id, self.draw_tasks(data, most=3, delegable=[], keyed=True), priority, retries, times)

    @rule(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
    @precondition(lambda self: any(task.is_early or task.has_deadline for task in self.model.tasks.values()))
    def time_passes(self, data: st.DataObject, kind: str) -> None:
        """For some tasks that have a timer; for all of them now and then."""
        due = sorted(
            task_id
            for task_id, task in self.model.tasks.items()
            if (task.is_early if kind == "start" else task.has_deadline)
        )
        if due:
            ids = data.draw(st.lists(st.sampled_from(due), min_size=1, unique=True), label="due")
            self.run(self._time_passes(KINDS[kind], ids))
            self.model.come(kind, ids)

    async def _time_passes(self, kind: int, ids: Sequence[str]) -> None:
        await self.database.fetch(
            "update timers i set due_at = now() - interval '1 second' from tasks t"
            " where t.task_no = i.task_no and i.kind = $1 and t.id = any($2::text[])",
            kind,
            ids,
        )
        await self.world.fire()

    @rule(data=st.data(), session_id=st.sampled_from(SESSIONS), complete=st.booleans())
    def creates_a_result(self, data: st.DataObject, session_id: str, complete: bool) -> None:
        if self.model.sessions[session_id].status is SessionStatus.DELETED:
            return
        self.run(self._create_result(session_id, complete))

    async def _create_result(self, session_id: str, complete: bool) -> None:
        session = await self.world.sessions.find(session_id)
        try:
            [key], changes = await self.clients.create(session, [NewResult("", b"" if complete else None)])
        except SubmissionStoppedError:
            with pytest.raises(CancelledError):
                self.model.create_result(session_id, "never", complete=complete)
            return
        assert set(changes.completed) == ({session.session_no} if complete else set())
        self.model.create_result(session_id, key, complete=complete)
        self.created.append((session_id, key))

    @rule(data=st.data())
    @precondition(lambda self: self.created)
    def uploads(self, data: st.DataObject) -> None:
        """Also what is there already, what a task makes, and what was aborted or deleted."""
        session_id, key = data.draw(st.sampled_from(self.created))
        if self.model.sessions[session_id].status is not SessionStatus.DELETED:
            self.run(self._upload(session_id, key))

    async def _upload(self, session_id: str, key: str) -> None:
        session = await self.world.sessions.find(session_id)
        expected = self.model.upload(session_id, key)
        try:
            await self.world.finish_cuts(await self.clients.complete(session, key, b""))
        except ConflictError:
            assert not expected
        else:
            assert expected

    @rule(data=st.data(), session_id=st.sampled_from(SESSIONS))
    @precondition(lambda self: self.model.results)
    def deletes_data(self, data: st.DataObject, session_id: str) -> None:
        own = sorted(key for of, key in self.model.results if of == session_id)
        if own and self.model.sessions[session_id].status is not SessionStatus.DELETED:
            keys = data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=3), label="deleted")
            self.run(self._delete_data(session_id, keys))

    async def _delete_data(self, session_id: str, keys: Sequence[str]) -> None:
        session = await self.world.sessions.find(session_id)
        expected = self.model.delete_data(session_id, keys)
        deleted: set[str] = set()
        async for gone, changes in delete_data(self.database, session, keys):
            deleted.update(gone)
            await self.world.finish_cuts(changes)
        assert deleted == expected

    def submit(
        self,
        session_id: str,
        tasks: list[NewTask],
        priority: int,
        retries: int,
        times: frozenset[str] = frozenset(),
    ) -> None:
        if self.model.sessions[session_id].status is SessionStatus.DELETED:
            return
        call = self.run(self.world.call(tasks, session_id, options(retries, priority, times)))
        [fault], changes = self.run(submit(self.database, [call]))
        self.run(self.world.finish_cuts(changes))  # on a busy machine the step beside the submission is short
        try:
            self.model.submit(session_id, tasks, priority, retries, times)
        except TakenError:
            assert isinstance(fault, AlreadyExistsError)
        except CancelledError:
            assert isinstance(fault, SubmissionStoppedError)
        else:
            assert fault is None

    @rule(data=st.data(), session_id=st.sampled_from(SESSIONS))
    def submits_and_claims(self, data: st.DataObject, session_id: str) -> None:
        """Without dependencies; whatever clashes is not plain, and nothing happens."""
        tasks = [
            task._replace(data_dependencies=(), payload_key=None)
            for task in self.draw_tasks(data, most=2, delegable=[])
        ]
        if self.model.sessions[session_id].status is SessionStatus.DELETED:
            return
        call = self.run(self.world.call(tasks, session_id))
        try:
            _, claimed = self.run(submit_and_claim(self.database, [call], [AGENT] * len(tasks)))
        except NotPlainError:
            return
        self.model.submit(session_id, tasks, 50, 1)
        self.took({each.task_id: each for each in claimed})

    @rule(data=st.data())
    @precondition(lambda self: self.model.tasks)
    def submits_again(self, data: st.DataObject) -> None:
        """What exists already: a success that changes nothing."""
        known = self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]
        if self.model.sessions[known.session].status is SessionStatus.PURGED:
            return  # nobody knows any more what its payload was
        of = options(known.max_retries, known.priority, known.times)
        self.run(self.world.submit(known.submitted, session_id=known.session, of=of))

    def claim(self, limit: int) -> list[tuple[str, Ticket]]:
        claimed = self.run(self.world.claim(limit))
        assert list(claimed) == self.model.claim(limit)
        return self.took(claimed)

    def took(self, claimed: Mapping[str, Claimed]) -> list[tuple[str, Ticket]]:
        for task_id, each in claimed.items():
            self.model.move(task_id, TaskStatus.DISPATCHED)
            self.model.tasks[task_id].claim = each.ticket.claim
            assert each.retry == self.model.tasks[task_id].retry
            self.model.tasks[task_id].was_held = True
            self.check_payload(task_id, each)
        fresh = [(task_id, each.ticket) for task_id, each in claimed.items()]
        self.tickets += fresh
        return fresh

    def check_payload(self, task_id: str, claimed: Claimed) -> None:
        task = self.model.tasks[task_id]
        key = task.submitted.payload_key
        needs = list(task.submitted.data_dependencies)
        if key is None:
            assert (claimed.payload, list(claimed.data_dependencies)) == (task.submitted.payload, needs)
            return
        result = self.model.results[task.session, key]
        if result.status is ResultStatus.DELETED:  # which the agent finds out
            assert (claimed.payload, list(claimed.data_dependencies)) == (b"", [*needs, key])
        else:
            made = b"" if result.owner is None else f"{key} by {result.owner}".encode()
            assert (claimed.payload, list(claimed.data_dependencies)) == (made, needs)

    @rule(limit=st.integers(1, 5))
    @precondition(lambda self: self.model.claim(1))
    def claims(self, limit: int) -> None:
        self.claim(limit)

    @rule(data=st.data(), limit=st.integers(1, 5))
    @precondition(lambda self: self.model.claim(1))
    def works(self, data: st.DataObject, limit: int) -> None:
        """Claim, and commit all of it in one flush, with something older now and then."""
        flush = self.claim(limit)
        older = data.draw(st.sampled_from(self.tickets), label="older")
        if older not in flush:
            flush.insert(data.draw(st.integers(0, len(flush)), label="place"), older)
        self.flush(data, flush)

    def draw_outcome(self, data: st.DataObject, task_id: str) -> tuple[Completed | Failed, Ok | Broken]:
        kind = data.draw(st.sampled_from(["ok", "ok", "ok", *FAILURES]), label="outcome")
        if isinstance(kind, Failure):
            return Failed(kind, "it failed"), FAILURES[kind]
        left = list(self.model.tasks[task_id].submitted.expected_output_keys)
        sends = [left.pop() for _ in list(left) if data.draw(st.integers(0, 3), label="sent")]
        sub_tasks = self.draw_tasks(data, most=3, delegable=left) if data.draw(st.booleans(), label="children") else []
        sub_tasks = _given_once(sub_tasks, set(sends), self.model.tasks[task_id].submitted.expected_output_keys)
        batches = [SubTasks(None, sub_tasks)] if sub_tasks else []
        results = [(key, f"{key} by {task_id}".encode()) for key in sends]
        return Completed(results, batches), Ok(sends, sub_tasks)

    @rule(data=st.data(), size=st.integers(1, 4))
    @precondition(lambda self: self.tickets)
    def commits(self, data: st.DataObject, size: int) -> None:
        """One flush of outcomes, of owners and of others."""
        picked = data.draw(
            st.lists(st.sampled_from(self.tickets), min_size=1, max_size=size, unique=True), label="flush"
        )
        self.flush(data, picked)

    def flush(self, data: st.DataObject, picked: list[tuple[str, Ticket]]) -> None:
        drawn = [(task_id, ticket, *self.draw_outcome(data, task_id)) for task_id, ticket in picked]
        outcomes = [Outcome(ticket, how) for _, ticket, how, _ in drawn]
        changes, lost = self.run(self.world.committer.commit(outcomes))
        self.run(self.world.finish_cuts(changes))
        # Sub-tasks of one flush are numbered in the order of their parents' numbers.
        drawn.sort(key=lambda each: each[1].task_no)
        owners = [(task_id, how) for task_id, ticket, _, how in drawn if self.model.owns(task_id, ticket.claim)]
        assert set(lost) == {ticket for task_id, ticket, *_ in drawn if not self.model.owns(task_id, ticket.claim)}
        for task_id, how in sorted(owners, key=lambda owner: isinstance(owner[1], Ok) and bool(owner[1].sub_tasks)):
            self.model.end(task_id, how)
        for results in changes.completed.values():
            assert all(by.startswith(key.encode()) for key, by in results.items() if isinstance(by, bytes))

    @rule(data=st.data())
    @precondition(lambda self: self.tickets)
    def starts(self, data: st.DataObject) -> None:
        task_id, ticket = data.draw(st.sampled_from(self.tickets))
        self.run(mark_started_if_owned(self.database, [(ticket, 1_000_000, "w")]))
        if self.model.owns(task_id, ticket.claim) and self.model.tasks[task_id].status is TaskStatus.DISPATCHED:
            self.model.move(task_id, TaskStatus.PROCESSING)

    @rule(data=st.data())
    @precondition(lambda self: self.tickets)
    def releases(self, data: st.DataObject) -> None:
        task_id, ticket = data.draw(st.sampled_from(self.tickets))
        _, refused = self.run(release_if_owned(self.database, [ticket]))
        assert refused == ([] if self.model.release(task_id, ticket.claim) else [ticket])

    @rule(data=st.data())
    @precondition(lambda self: self.model.tasks)
    def cancels_tasks(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model.tasks)), min_size=1, max_size=3))
        self.run(self.world.cancel(*ids))
        self.model.cancel(dict.fromkeys(ids))

    @rule(session_id=st.sampled_from(SESSIONS), step=st.sampled_from([SessionStep.PAUSE, SessionStep.RESUME]))
    def pauses_or_resumes(self, session_id: str, step: SessionStep) -> None:
        self.step(session_id, step)

    @rule(session_id=st.sampled_from(SESSIONS), step=st.sampled_from(SessionStep), really=st.integers(0, 5))
    def goes_on_in_its_life(self, session_id: str, step: SessionStep, really: int) -> None:
        if not really:
            self.step(session_id, step)

    def step(self, session_id: str, step: SessionStep) -> None:
        if self.model.sessions[session_id].status is SessionStatus.DELETED:
            return
        refused = False
        try:
            self.run(self.world.live(step, session_id))
        except SessionStepError:
            refused = True
        try:
            self.model.step(session_id, step)
        except StepError:
            assert refused
        else:
            assert not refused
        self.tickets = [(task_id, ticket) for task_id, ticket in self.tickets if task_id in self.model.tasks]

    @rule(session_id=st.sampled_from(SESSIONS), client=st.booleans(), really=st.integers(0, 5))
    def stops_submission(self, session_id: str, client: bool, really: int) -> None:
        session = self.model.sessions[session_id]
        if not really and session.status is not SessionStatus.DELETED:
            self.run(self.world.stop_submission(session_id, client=client, worker=not client))
            session.takes_of_clients &= not client
            session.takes_of_workers &= client

    @rule(data=st.data(), session_id=st.sampled_from(SESSIONS))
    @precondition(lambda self: self.model.tasks)
    def retries(self, data: st.DataObject, session_id: str) -> None:
        """Some tasks, whatever their statuses, or all that failed."""
        own = sorted(task_id for task_id, task in self.model.tasks.items() if task.session == session_id)
        if not own or data.draw(st.booleans(), label="all"):
            ids, everything = own, True
        else:
            ids, everything = data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=3, unique=True)), False
        try:
            expected = self.model.retry(session_id, ids)
        except CancelledError:
            with pytest.raises(SubmissionStoppedError):
                self.run(self.world.retry(*ids, session_id=session_id, everything=everything))
        else:
            assert self.run(self.world.retry(*ids, session_id=session_id, everything=everything)) == expected

    @rule()
    def folds(self) -> None:
        self.run(fold_counts(self.database))

    @invariant()
    def agrees(self) -> None:
        self.run(self._agree())

    async def _agree(self) -> None:
        rows = await self.database.fetch("select t.id, s.status, s.retry from states s join tasks t using (task_no)")
        assert {row["id"]: (row["status"], row["retry"]) for row in rows} == self.model.statuses()
        rows = await self.database.fetch(
            "select t.id, i.kind from timers i join tasks t using (task_no) join states s using (task_no)"
            " where i.kind = 1 and s.status = 1 or i.kind = 2 and s.status < 4"
        )
        unfinished = {each: task for each, task in self.model.tasks.items() if task.status < TaskStatus.CANCELLING}
        assert {(row["id"], row["kind"]) for row in rows} == {
            *((each, 1) for each, task in unfinished.items() if task.is_early),
            *((each, 2) for each, task in unfinished.items() if task.has_deadline),
        }
        rows = await self.database.fetch(
            "select s.id as session_id, r.key, r.status, t.id as owner_id, b.data from results r"
            " join sessions s using (session_no) left join tasks t on t.task_no = r.owner_no"
            " left join blobs b on b.blob_no = r.blob_no where r.status > 0"
        )
        assert {(row["session_id"], row["key"]): (row["owner_id"], row["status"]) for row in rows} == {
            key: (result.owner, result.status) for key, result in self.model.results.items()
        }
        for row in rows:
            if row["data"] is not None and row["owner_id"] is not None:
                assert row["data"] == f"{row['key']} by {row['owner_id']}".encode()
        assert await broken_invariants(self.database) == []

    def teardown(self) -> None:
        """Whatever was going on, everything can be brought to an end."""
        for session_id in {task.session for task in self.model.tasks.values()}:
            if self.model.sessions[session_id].status is SessionStatus.PURGED:
                continue
            changes = self.run(self.world.cancel_session(session_id))
            over = [Outcome(ticket, Failed(Failure.ATTEMPT, "late")) for _, ticket in changes.cancelled]
            self.run(self.world.committer.commit(over))
        unfinished = self.run(find_tasks(self.database, list(self.model.tasks)))
        stopping = [each for each in unfinished.values() if not each.status.final]
        assert all(each.status is TaskStatus.CANCELLING for each in stopping)


def _given_once(sub_tasks: list[NewTask], given: set[str], own: Sequence[str]) -> list[NewTask]:
    """A clashing name may bring along a key of the parent: not one that it has sent or delegated already.

    (An agent refuses that; committed all the same, it is another fault than the clash, and the first to count.)
    """
    kept = []
    for task in sub_tasks:
        outputs = [key for key in task.expected_output_keys if key not in given]
        given.update(key for key in outputs if key in own)
        kept.append(task._replace(expected_output_keys=outputs))
    return kept


@pytest.mark.parametrize("examples", [30, pytest.param(400, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_the_store_does_what_the_model_does(database_url: str, examples: int) -> None:
    with asyncio.Runner() as runner:
        opened = Database.open(database_url, pool_size=2)
        database = runner.run(opened.__aenter__())
        try:

            class Machine(StoreMachine):
                def __init__(self) -> None:
                    super().__init__(database, runner)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                    # Making a failure smaller takes minutes against a real database: in the long run only.
                    phases=[Phase.generate, Phase.shrink] if examples > 100 else [Phase.generate],
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
        assert database.crossings == 0
