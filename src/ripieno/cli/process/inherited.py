"""What a server does about what it inherits from whoever started it."""

import os
import signal

from ripieno.cli.process.first_process import leave_first_process


def prepare_server() -> None:
    """Start as a server should; call it first in a command that serves.

    * Signals that were ignored or blocked for the starter's own reasons work again. SIGHUP stays
      ignored where it was: that is what ``nohup`` is for.
    * Standard error never makes the process wait.
    * As process 1 of a container, the server becomes a child (see ``first_process``).
    """
    prepare_process()
    if os.name == "posix":
        from ripieno.telemetry.stderr import install_patient_stderr

        install_patient_stderr()


def prepare_process() -> None:
    """The same for a worker, whose standard error belongs to its handlers."""
    if os.name == "posix":
        take_default_signals()
        leave_first_process()


def take_default_signals() -> None:
    """Undo what ``exec`` passes on: an ignored SIGCHLD hides how children end, a blocked SIGTERM the wish to stop."""
    for number, action in (
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGCHLD, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a server to drain."""
    hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hang_up)
