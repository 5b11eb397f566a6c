"""Runs a command that must not outlive the agent: ``python tether.py PARENT_PID COMMAND...``.

On Linux the kernel is asked to kill the command when the thread that spawned it is gone
(PR_SET_PDEATHSIG), and this program becomes the command. Elsewhere it stays, reads its
standard input, a pipe that only the agent holds open, and kills the process group when
that ends. Either way the command itself is tied, not what it may have spawned: children
of a worker that outlive their parent are the worker's own business on Linux.

Started by path with ``-I -S``, so it imports nothing of this project and starts in
about ten milliseconds.
"""

import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1


def _become(parent: int, command: list[str]) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the agent is gone")  # it went before the line above took effect
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point


def _watch(command: list[str]) -> None:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    pid = os.getpid()

    import threading

    def until_agent_gone() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(os.getpgid(pid), signal.SIGKILL)

    threading.Thread(target=until_agent_gone, daemon=True).start()
    sys.exit(child.wait() & 0xFF)


def main(arguments: list[str]) -> None:
    """Run the command; does not return."""
    watch = arguments[0] == "--watch" or not sys.platform.startswith("linux")
    parent, *command = arguments[arguments[0] == "--watch" :]
    try:
        if watch:
            _watch(command)
        _become(int(parent), command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
