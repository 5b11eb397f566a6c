"""Running as process 1, as in a container that was started with nothing but our command.

Process 1 inherits all orphans of its container and has to reap them, or their entries pile up until
no process can be started. It also gets no signal that it has no handler for. A server should do
neither beside its work: so process 1 stays behind as a small parent that passes signals on and
reaps processes, and the server is its child.
"""

import os
import signal
import sys

#: Signals that the kernel sends for what the process itself did, and those that cannot be caught.
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
    """Fork and go on in the child, if this process is process 1; else do nothing.

    Must be called before any thread is started.
    """
    if os.getpid() != 1 or not hasattr(signal, "sigwaitinfo"):
        return
    # Blocked signals stay pending until `sigwaitinfo` takes them.
    waited_for: set[int] = {number for number in signal.valid_signals() if number not in _OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    sys.exit(_stay_behind(child, waited_for))


def _stay_behind(child: int, waited_for: set[int]) -> int:
    """Pass signals on and reap processes until the server ends; return its exit code, as a shell reports it."""
    while True:
        received = signal.sigwaitinfo(waited_for)
        if received.si_signo == signal.SIGCHLD:
            status = _take_note(child)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif received.si_code <= 0:  # sent by a process; signals of a terminal reach the child directly
            try:
                os.kill(child, received.si_signo)
            except ProcessLookupError:
                continue


def _take_note(child: int) -> int | None:
    """Reap all processes that have ended; return the wait status of `child` if it is among them."""
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
