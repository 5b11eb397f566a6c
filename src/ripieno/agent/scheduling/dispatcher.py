"""The dispatcher: assigns attempts to workers and decides how each ends. A reactor without I/O.

Events come in as calls (from ``uplink``: assigned, cancelled, lost; from ``inputs``:
prepared; from the lanes: up, down, left, finish, withdrawn; from a clock: tick). Their
consequences go to the lanes and to the ``Outbox``.

    assigned --> preparing --> waiting --> in a worker's inbox --> over
                    (data)                  | first in it: it runs
                                            '-- withdrawn --> waiting

Invariants:

* Each attempt ends exactly once: ``finish`` removes it from ``attempts`` and reports it.
* A ``verdict`` outweighs whatever the worker still says.
* At most the first attempt of an inbox runs. Whether one behind it has begun, only the
  worker knows: it is taken back by ``withdraw``, never by assumption.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from ripieno.agent.attempts.attempt import Attempt, Verdict
from ripieno.agent.attempts.endings import Ticketed
from ripieno.agent.scheduling.credit import busy_for_long, more_wanted
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.pace import Pace
from ripieno.agent.scheduling.placement import STUCK_S, place
from ripieno.agent.scheduling.slots import Lane, Slot, set_places
from ripieno.agent.scheduling.waiting import Waiting
from ripieno.domain.outcomes import Completed, Failed, Failure

#: An attempt that runs longer than this is reported as started (users see PROCESSING in 100 ms).
REPORT_S = 0.030
#: Waiting attempts are given back once no worker has served for this long.
UNSERVED_S = 3.0
#: Bound on inline data of attempts in this process's memory, beside one attempt for each worker. Attempts beyond
#: it that have not begun are given back.
HELD_BYTES = 64 * 1024 * 1024


class Dispatcher:
    """Holds all attempts of the agent. Belongs to the event loop's thread.

    Attributes:
        attempts: All attempts that were assigned and are not over, by claim.
        prepare: Called with attempts that need data; ``prepared`` or ``unprepared`` follows.
        dispose: Called with each attempt that is over and held more than its own message.
        busy, idle: Events: set while any attempt is in hand, and while none is.
        held_bytes: Bytes of inline data of all attempts in hand.
        fit: Whether this machine can hold work (see ``data.disk``).
    """

    def __init__(
        self, outbox: Outbox, slots: list[Slot], cancel_grace_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.attempts: dict[int, Attempt] = {}
        self.slots = slots
        self.pace = Pace()
        self.prepare: Callable[[list[Attempt]], None] = lambda attempts: None
        self.dispose: Callable[[Attempt], None] = lambda attempt: None
        self.draining = False
        self.fit = True
        self.held_bytes = 0
        self._outbox = outbox
        self._grace_s = cancel_grace_s
        self._clock = clock
        self._waiting = Waiting()
        self._served_at = clock()
        self.busy = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    # ------------------------------------------------------------------ from the control plane

    def assigned(self, attempts: Sequence[Attempt]) -> None:
        """Take in new attempts, which use up credit.

        They are given back at once while the agent drains or is not fit, and if their credit was revoked.
        """
        revoked = self._outbox.revoking
        if not revoked:
            self._outbox.credit_out = max(0, self._outbox.credit_out - len(attempts))
        needing = []
        size = held = 0
        for attempt in attempts:
            self.attempts[attempt.claim] = attempt
            payload = attempt.payload
            if attempt.data_dependencies or not isinstance(payload, bytes):
                size += attempt.size
                needing.append(attempt)
            else:
                attempt.weight = weight = len(payload)
                held += weight
                self._waiting.add(attempt)
        size += held
        self.held_bytes += held
        if attempts:
            self.idle.clear()
            self.busy.set()
            self.pace.sized(size, len(attempts))
        if self.draining or revoked or not self.fit:
            self._release(attempts)
            return
        if self.held_bytes > HELD_BYTES:
            self._lighten()
        if needing:
            self.prepare([attempt for attempt in needing if not attempt.over])
        self.pump()

    def cancelled(self, tickets: Sequence[Ticketed]) -> None:
        """Cancel attempts for a user: those that have not begun never do, the others are interrupted.

        The control plane may repeat this until it has heard how each attempt ended. An attempt that is
        not here, and whose end is not on its way to the control plane either, is reported as given back.
        """
        for ticket in tickets:
            if ticket.claim not in self.attempts and not self._outbox.tells_of(ticket.claim):
                self._outbox.released(ticket)
        self._condemn([ticket.claim for ticket in tickets], Verdict.CANCELLED, "cancelled")

    def urgent(self, priority: int) -> None:
        """Give back waiting attempts that are less urgent than ``priority``: such tasks wait elsewhere."""
        less = [attempt for attempt in self._waiting if attempt.options.priority < priority]
        if less:
            self._release(less)
            self.pump()

    def lost(self, claims: Iterable[int]) -> None:
        """End attempts whose claim is no longer this agent's; their outcomes would be refused, so none is reported."""
        self._condemn(claims, Verdict.LOST, "lost")

    # ------------------------------------------------------------------ from the data side

    def prepared(self, attempt: Attempt) -> None:
        """Let an attempt wait for a worker: all its data is at hand. Call ``pump`` after the last of several."""
        if not attempt.over:
            self.pace.sized(attempt.size, 1)
            self.held_bytes -= attempt.weight
            attempt.weight = attempt.inline_bytes
            self.held_bytes += attempt.weight
            self._waiting.add(attempt)

    def unprepared(self, attempt: Attempt, detail: str, *, for_good: bool = False) -> None:
        """Fail an attempt whose data cannot be obtained; ``for_good`` if the next attempt's cannot be either."""
        self.finish(attempt, Failed(Failure.OUTPUT if for_good else Failure.ATTEMPT, detail))

    # ------------------------------------------------------------------ from the lanes

    def up(self, slot: Slot, lane: Lane) -> None:
        """Give attempts to a slot from now on: its worker serves, and is reached over ``lane``."""
        slot.lane = lane
        self.pump()

    def has_places(self, slot: Slot, places: int) -> None:
        """Give a worker that has just come up so many slots; ``up`` follows for the new ones. The control plane is told.

        The slots outlast the worker, since the next one will have as many.
        """
        before = len(self.slots)
        set_places(self.slots, slot, places)
        if len(self.slots) != before:
            self._outbox.resized(len(self.slots))

    def paused(self, slot: Slot) -> None:
        """Give no more attempts to the slots of a worker. Those in their inboxes stay there until ``down``."""
        for each in slot.group:
            self._unserve(each)

    def down(self, slot: Slot, detail: str, *, blameless: bool = False) -> None:
        """End or requeue the attempts in the inboxes of a worker that is gone.

        With one attempt in an inbox, that one ran and failed. With several, it is unknown which
        one ended the worker: they run again, each alone, and no attempt is used up. If the first
        had a verdict, it is taken to be the cause, and the others need not run alone; those in other
        inboxes of the worker run again, and no attempt is used up either.

        Args:
            slot: The worker's own slot.
            detail: Why the worker is gone.
            blameless: None of the attempts can have begun (the lane was never served).
        """
        inboxes = [list(each.inbox) for each in slot.group]
        caused = any(inbox and inbox[0].verdict is not None for inbox in inboxes)
        for each in slot.group:
            if each.inbox and not blameless:
                each.mark_begun()
            each.inbox.clear()
            self._unserve(each)
        again = []
        for inbox in inboxes:
            for attempt in inbox:
                attempt.withdrawing = False
                if attempt.verdict is not None or (len(inbox) == 1 and not blameless and not caused):
                    self.finish(attempt, Failed(Failure.ATTEMPT, detail))
                else:
                    attempt.alone |= not blameless and not caused
                    again.append(attempt)
        self._requeue(again)
        self.pump()

    def restart_clock(self, slot: Slot) -> None:
        """Count the run time of the inbox's first attempt from now, not from when it was sent."""
        slot.head_since, slot.head_since_us = self._clock(), time.time_ns() // 1_000

    def left(self, slot: Slot, attempt: Attempt, now: float, now_us: int) -> None:
        """Remove an attempt that a worker is done with from its inbox; the next one begins.

        Args:
            slot: The worker's slot.
            attempt: The attempt; ``finish`` reports how it ended.
            now: Monotonic time in seconds.
            now_us: Microseconds since the epoch.
        """
        inbox = slot.inbox
        if inbox and inbox[0] is attempt:
            inbox.popleft()
        elif attempt in inbox:
            inbox.remove(attempt)
        if not attempt.started_at_us:
            attempt.started_at_us, attempt.worker = slot.head_since_us, slot.name
        if inbox and inbox[0].verdict is Verdict.CANCELLED:
            self._outbox.interrupting(inbox[0])
        slot.head_since = now
        slot.head_since_us = now_us
        slot.stuck = False

    def progressed(self, busy_s: float, ended: int) -> None:
        """Learn that ``ended`` attempts left one worker within ``busy_s`` seconds. Call once for each message."""
        self.pace.ran(busy_s, ended)
        self.pump()

    def finish(self, attempt: Attempt, how: Completed | Failed) -> None:
        """End an attempt and report it. No-op if it has ended. It left its inbox before, or its worker is stuck."""
        if self.attempts.pop(attempt.claim, None) is None:
            return
        attempt.over = True
        self.held_bytes -= attempt.weight
        self._outbox.over(attempt, how)
        if attempt.data_dependencies or attempt.uploading or not isinstance(attempt.payload, bytes):
            self.dispose(attempt)
        if not self.attempts:
            self.busy.clear()
            self.idle.set()

    def withdrawn(self, slot: Slot, attempts: Sequence[Attempt]) -> None:
        """Requeue attempts that a worker gave back without having begun them."""
        again = [attempt for attempt in attempts if self._take_back(slot, attempt)]
        self._requeue(again)
        self.pump()

    def refused(self, slot: Slot, attempt: Attempt) -> bool:
        """Take an attempt out of the inbox of a worker that cannot hold it. The caller has to end it.

        Returns:
            False if the attempt is over already, or not in the inbox.
        """
        return self._take_back(slot, attempt)

    def _take_back(self, slot: Slot, attempt: Attempt) -> bool:
        """Take an attempt that has not begun out of an inbox. False if it is not there, or its verdict ended it."""
        if attempt not in slot.inbox:
            return False
        was_head = slot.inbox[0] is attempt
        slot.inbox.remove(attempt)
        if was_head:
            slot.head_since = self._clock()
            slot.head_since_us = time.time_ns() // 1_000
        attempt.withdrawing = False
        attempt.started_at_us = 0
        if attempt.verdict is None:
            return True
        self.finish(attempt, Failed(Failure.ATTEMPT, attempt.detail))
        return False

    def condemn(self, attempt: Attempt, verdict: Verdict, detail: str) -> None:
        """Set an attempt's verdict: end it now if no worker has it, else interrupt its worker.

        A verdict that was set before stays unless the new one outweighs it.
        """
        interrupted = attempt.verdict is not None
        if attempt.over or (interrupted and not verdict.outweighs(attempt.verdict)):
            if verdict is attempt.verdict is Verdict.CANCELLED:
                self._confirm(attempt)  # cancelled again: the first report may have been lost on its way
            return
        attempt.verdict, attempt.detail = verdict, detail
        slot = next((slot for slot in self.slots if attempt in slot.inbox), None)
        if slot is None:
            # The attempt has not begun, or its worker is done and its data is being stored.
            if attempt in self._waiting:
                self._waiting.remove(attempt)
            self.finish(attempt, Failed(Failure.ATTEMPT, detail))
            return
        if verdict is Verdict.CANCELLED:
            self._confirm(attempt)
        if interrupted or slot.lane is None:
            return
        attempt.interrupted_at = self._clock()
        slot.lane.interrupt(attempt)

    def _confirm(self, attempt: Attempt) -> None:
        """Report that a cancelled attempt is being interrupted, if it is the first of an inbox."""
        if not attempt.over and any(slot.inbox and slot.inbox[0] is attempt for slot in self.slots):
            self._outbox.interrupting(attempt)

    # ------------------------------------------------------------------ by the clock

    def tick(self, now: float) -> None:
        """Enforce time limits and move attempts that wait too long. Call every 10 ms or so while ``busy`` is set."""
        serving = [slot for slot in self.slots if slot.serves]
        for slot in self.slots:
            if slot.inbox and slot.serves:
                self._look_after(slot, now)
        if serving:
            self._served_at = now
        elif self._waiting and now - self._served_at > UNSERVED_S:
            self._release(self._waiting)
        self.pump()

    def ask_anew(self) -> None:
        """Revoke the credit if a worker is idle, so that it is granted anew: the grant may have been lost."""
        if not self._waiting and any(slot.serves and not slot.inbox for slot in self.slots):
            self._outbox.revoke()

    def stood_still(self, late_s: float) -> None:
        """Exclude ``late_s`` seconds, in which this process or its whole machine did not run, from all time limits.

        What workers sent meanwhile has not been read yet, and they may have stood still as well.
        """
        now = self._clock()
        for slot in self.slots:
            slot.head_since = min(now, slot.head_since + late_s)
            for attempt in slot.inbox:
                attempt.interrupted_at = min(now, attempt.interrupted_at + late_s)
        self._served_at = min(now, self._served_at + late_s)

    def _look_after(self, slot: Slot, now: float) -> None:
        head = slot.inbox[0]
        running_s = now - slot.head_since
        if head.verdict is not None:
            if now - max(head.interrupted_at, slot.head_since) > self._grace_s:
                self._overdue(slot, head)
            return
        if running_s > head.options.max_duration_s:
            limit = head.options.max_duration_s
            self.condemn(head, Verdict.TIMEOUT, f"ran longer than max_duration ({limit:g} s)")
        elif running_s > REPORT_S and not head.reported:
            head.reported = True
            slot.mark_begun()
            self._outbox.started(head)
        if running_s > STUCK_S and len(slot.inbox) > 1:
            behind = len(slot.inbox) - 1
            urgent = bool(self._waiting) and self._waiting[0].options.priority > slot.inbox[-1].options.priority
            if urgent or any(other.serves and len(other.inbox) < behind for other in self.slots):
                self._withdraw_behind(slot)

    def _overdue(self, slot: Slot, head: Attempt) -> None:
        lane = slot.lane
        assert lane is not None
        if lane.kill(f"its worker did not yield within {self._grace_s:g} s: {head.detail}"):
            return  # `down` follows
        slot.stuck = True
        slot.mark_begun()
        self._withdraw_behind(slot)
        self.finish(head, Failed(Failure.ATTEMPT, head.detail))

    def _lighten(self) -> None:
        """Give back the least urgent waiting attempts until half of ``HELD_BYTES`` or one for each worker is left.

        Credit counts attempts. It was computed from the sizes of earlier attempts, and those that came
        are much larger.
        """
        self._outbox.revoke()  # the attempts still owed would be as large
        back: list[Attempt] = []
        left = self.held_bytes
        for attempt in reversed(self._waiting):
            if left <= HELD_BYTES // 2 or len(self._waiting) - len(back) <= len(self.slots):
                break
            back.append(attempt)
            left -= attempt.weight
        self._release(back)

    def _give_back(self) -> None:
        """Give back waiting attempts and revoke credit: another agent, or an urgent task, may use the time better."""
        self._outbox.revoke()
        for slot in self.slots:
            self._withdraw_behind(slot)
        if self._waiting:
            self._release(self._waiting)

    def _withdraw_behind(self, slot: Slot) -> None:
        behind = slot.behind()
        if behind and slot.lane is not None:
            for attempt in behind:
                attempt.withdrawing = True
            slot.lane.withdraw(behind)

    def _unserve(self, slot: Slot) -> None:
        if slot.lane is not None:
            self._served_at = self._clock()
        slot.lane, slot.stuck = None, False

    # ------------------------------------------------------------------ draining

    def drain(self) -> None:
        """Take no more work, and give back all attempts that have not begun."""
        self.draining = True
        self._outbox.draining()
        self._give_back_unbegun()

    def becomes_fit(self, fit: bool) -> None:
        """Set whether this machine can hold work. While it cannot, only attempts that run already go on."""
        self.fit = fit
        if fit:
            self.pump()
        else:
            self._outbox.revoke()
            self._give_back_unbegun()

    def _give_back_unbegun(self) -> None:
        in_inbox = {attempt.claim for slot in self.slots for attempt in slot.inbox}
        self._release([a for a in self.attempts.values() if a.claim not in in_inbox and not a.started_at_us])
        for slot in self.slots:
            self._withdraw_behind(slot)

    def interrupt_all(self) -> None:
        """Interrupt and give back all attempts: the time to drain is over."""
        for attempt in list(self.attempts.values()):
            self.condemn(attempt, Verdict.RELEASED, "the agent is shutting down")

    # ------------------------------------------------------------------ placing

    @property
    def stocked(self) -> bool:
        """Whether at least one attempt for each worker waits here, beside those in the inboxes."""
        return len(self._waiting) >= len(self.slots)

    def pump(self) -> None:
        """Give waiting attempts to workers that have room, and grant credit for more."""
        waiting, now = self._waiting, self._clock()
        if self.draining or not self.fit:
            if waiting:
                self._release(waiting)
            return
        if (running_s := busy_for_long(self.slots, self.pace, now)) is not None:
            self.pace.runs(running_s)
            self._give_back()
            return
        while waiting and not self._outbox.full:
            if waiting[0].solitary:
                idle = next((slot for slot in self.slots if slot.serves and not slot.inbox), None)
                if idle is None:
                    break
                self._start(idle, [waiting.popleft()])
            else:
                placed = place(waiting, self.slots, self.pace, now)
                if not placed:
                    break
                for slot, attempts in placed:
                    self._start(slot, attempts)
        self._grant()

    def _start(self, slot: Slot, attempts: list[Attempt]) -> None:
        assert slot.lane is not None
        if not slot.inbox:
            slot.head_since = self._clock()
            slot.head_since_us = time.time_ns() // 1_000
        slot.inbox.extend(attempts)
        slot.lane.start(attempts)

    def _grant(self) -> None:
        outbox = self._outbox
        if outbox.revoking:
            return
        owed = len(self.attempts) + outbox.credit_out
        more = more_wanted(self.slots, self.pace, owed, self._clock(), congested=outbox.congested)
        if self.held_bytes > HELD_BYTES // 2:
            more = min(more, len(self.slots) - owed)  # no more than one attempt for each worker
        if more > 0:
            outbox.grant(more)

    # ------------------------------------------------------------------ ending

    def _condemn(self, claims: Iterable[int], verdict: Verdict, detail: str) -> None:
        for claim in claims:
            attempt = self.attempts.get(claim)
            if attempt is not None:
                self.condemn(attempt, verdict, detail)
        self.pump()

    def _release(self, attempts: Iterable[Attempt]) -> None:
        for attempt in list(attempts):
            if attempt.verdict is None:
                attempt.verdict = Verdict.RELEASED
            self.finish(attempt, Failed(Failure.ATTEMPT, attempt.detail))
        self._waiting.drop_over()

    def _requeue(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            attempt.started_at_us = attempt.place = 0
            attempt.conversation = attempt.output = attempt.progress = None
        self._waiting.put_back(attempts)
