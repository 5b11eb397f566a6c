"""Resetting what a process inherits from the one that started it: signals, standard error, process id 1."""

import os
import signal

from ripieno.cli.process.first_process import leave_first_process


def prepare_server() -> None:
    """Reset inherited process state for a server; a command that serves calls this first.

    * Signals that were ignored or blocked by the starting process work again. SIGHUP stays
      ignored where it was, which is what ``nohup`` is for.
    * Writing to standard error never blocks.
    * As process 1 of a container, the server becomes a child (see ``first_process``).
    """
    prepare_process()
    if os.name == "posix":
        from ripieno.telemetry.stderr import install_patient_stderr

        install_patient_stderr()


def prepare_process() -> None:
    """Reset inherited process state for a worker: as ``prepare_server``, but standard error stays as it is."""
    if os.name == "posix":
        take_default_signals()
        leave_first_process()


def take_default_signals() -> None:
    """Undo the signal state that ``exec`` passes on.

    An ignored SIGCHLD would hide how children end, a blocked SIGTERM the request to stop.
    """
    for number, action in (
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGCHLD, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a server to drain: SIGINT, SIGTERM, and SIGHUP unless it is ignored."""
    hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hang_up)
