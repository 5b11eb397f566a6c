"""Being process 1, as in a container that was started with nothing but our command.

Process 1 inherits all orphans of its container, and has to take note of their ends, or their
entries pile up until no process can be started. It also gets no signal that it has no handler
for. Neither is for a server to do beside its work: so process 1 stays behind as a small parent that
passes signals on and takes note of ends, and the server is its child.
"""

import os
import signal
import sys

#: Those that the kernel sends for what the process itself did, and those nobody can catch.
_OWN = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGTTIN,
    signal.SIGTTOU,
}


def leave_first_process() -> None:
    """Go on as the child of process 1, if that is what this process is; else do nothing.

    Call it before any thread is started.
    """
    if os.getpid() != 1 or not hasattr(signal, "sigwaitinfo"):
        return
    # Blocked signals wait until they are asked for.
    waited_for: set[int] = {number for number in signal.valid_signals() if number not in _OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    sys.exit(_stay_behind(child, waited_for))


def _stay_behind(child: int, waited_for: set[int]) -> int:
    """Pass signals on and take note of ends until the server ends; its exit code, as a shell tells it."""
    while True:
        received = signal.sigwaitinfo(waited_for)
        if received.si_signo == signal.SIGCHLD:
            status = _take_note(child)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif received.si_code <= 0:  # sent by a process; what a terminal sends, the child gets itself
            try:
                os.kill(child, received.si_signo)
            except ProcessLookupError:
                continue


def _take_note(child: int) -> int | None:
    """Take note of all that have ended; the status of the child if it is among them."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended
