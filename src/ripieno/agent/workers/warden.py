"""Runs one worker for an agent, and ends every process that the worker leaves.

It is a program of its own, started by path with ``-I -S``: it imports nothing of this project, starts
in about 15 ms and takes about 8 MiB. One warden stands between the agent and each worker::

    agent ── order, then bytes ──> warden ──── starts, signals ───> worker ──> its children
          <── lines of a report ──        <─── what they print ────

* The worker starts with default signals, in a session of its own, with no descriptor beyond 0, 1
  and 2, and with the agent's original limit of open files.
* The output of the worker and its children is always read at once, so that they never wait for a reader.
  It goes into a file that is put aside at a size, or to standard error, and its end into the report.
  Standard output and standard error have a pipe each. Where the kernel has anonymous files (Linux), the end of
  each is in shared memory too, for whoever wants to know what was printed when (``ripieno.printed``).
* When the agent is gone (its pipe ends), or the worker is, all processes below are killed: where the
  kernel lets this process adopt orphans (Linux), also children that left the worker's group.
  When this process is killed, the kernel kills the worker, and the agent the worker's group.

The order is one ``marshal`` of a dictionary (see ``supervisor.Workshop.order``) after its length. Later
``t`` asks the worker to end (SIGTERM) and ``k`` ends it. The report is ``started PID WHERE`` (where what is
printed is kept; nothing if nowhere), then
``ended CODE`` (negative: minus the signal), or ``failed TEXT`` alone, a line each; after ``ended``
follows the end of the output.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes longer to import than all the rest
    from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
READ_BYTES = 64 * 1024
#: How much of the end of the output the report gives.
TAIL_BYTES = 2 * 1024
#: How much output is still read from the pipe after the worker's end.
LEFT_OVER_BYTES = 1024 * 1024
#: How long to wait for processes after SIGKILL. Those that live longer hang in the kernel, and nothing can be done.
KILL_LIMIT_S = 5.0
#: How long output is dropped after a file could not be written, before the next try.
DISK_PAUSE_S = 1.0
#: The shared memory, as ``ripieno.printed`` describes it: places of words, where the rings begin, the name of the
#: variable that tells the worker of it.
VERSION, STDOUT, RING_BYTES, LIMIT_BYTES = 0, 1, 3, 4
RINGS_AT = 4096
PRINTED_VARIABLE = "RIPIENO_PRINTED"
#: A ring holds the end of an attempt's output, and what is read until that end has been taken.
RING_ROOM_BYTES = 4 * READ_BYTES


def prctl(option: int, value: int) -> bool:
    """Call the kernel's ``prctl``. Returns False where there is no such call or the kernel refuses."""
    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


class FilePrinter:
    """Writes a worker's output into a file. Beyond a size the file is put aside, replacing the older one."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self.path, self.limit_bytes = path, limit_bytes
        self.file, self.size, self.dropped, self.again_at = -1, 0, 0, 0.0

    def write(self, data: bytes) -> None:
        """Write ``data``. Bytes that the disk does not take are dropped, and their number is written later."""
        if time.monotonic() < self.again_at:
            self.dropped += len(data)
            return
        try:
            self.open()
            if self.dropped:
                self.put(b"\n[%d bytes could not be written here]\n" % self.dropped)
                self.dropped = 0
            self.put(data)
        except OSError:
            self.dropped += len(data)
            self.again_at = time.monotonic() + DISK_PAUSE_S
            self.close()

    def open(self) -> None:
        """Open the file, or the next one when this one is full."""
        if self.file >= 0 and self.size > self.limit_bytes:
            self.close()
            os.replace(self.path, self.path + ".1")
        if self.file < 0:
            self.file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self.file).st_size

    def put(self, data: bytes) -> None:
        """Write all of ``data`` to the open file.

        Raises:
            OSError: if the disk does not take it.
        """
        self.size += len(data)
        while data:
            data = data[os.write(self.file, data) :]

    def close(self) -> None:
        """Close the file."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1


class TerminalPrinter:
    """Writes a worker's output to standard error from a thread, and drops output that is not taken in time."""

    HELD_BYTES = 1024 * 1024

    def __init__(self) -> None:
        # Imported here, because it takes a third of the time of a start and only this printer needs it.
        import threading

        self.waiting: list[bytes] = []
        self.held, self.dropped = 0, 0
        self.change = threading.Condition()
        threading.Thread(target=self.run, daemon=True).start()

    def write(self, data: bytes) -> None:
        """Pass ``data`` to the thread. Beyond ``HELD_BYTES`` it is dropped, and the number of bytes printed later."""
        with self.change:
            if self.held + len(data) > self.HELD_BYTES:
                self.dropped += len(data)
                return
            if self.dropped:
                data = b"\n[%d bytes that nobody took in time were dropped]\n" % self.dropped + data
                self.dropped = 0
            self.waiting.append(data)
            self.held += len(data)
            self.change.notify_all()

    def run(self) -> None:
        """Write the waiting output to standard error. Runs in the thread, without end."""
        while True:
            with self.change:
                self.change.wait_for(lambda: self.waiting)
                rest = b"".join(self.waiting)
                self.waiting.clear()
            taken = len(rest)
            try:
                while rest:
                    rest = rest[os.write(2, rest) :]
            except OSError:
                pass  # standard error is closed, so output is lost, as with any program
            with self.change:
                self.held -= taken
                self.change.notify_all()

    def close(self) -> None:
        """Give the thread 0.2 s to write the rest."""
        with self.change:
            self.change.wait_for(lambda: not self.held, timeout=0.2)


class Memory:
    """The end of what a worker prints, and how much it was, in memory that the agent and the worker can read.

    Its size is fixed, and it takes room only as far as something was printed.
    """

    def __init__(self, limit_bytes: int) -> None:
        # Imported here, because most of a start's time goes into imports and not every worker needs it.
        import mmap

        self.ring_bytes = (limit_bytes + READ_BYTES - 1) // READ_BYTES * READ_BYTES + RING_ROOM_BYTES
        self.descriptor = os.memfd_create("printed", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, RINGS_AT + 2 * self.ring_bytes)
        self.map = mmap.mmap(self.descriptor, RINGS_AT + 2 * self.ring_bytes)
        self.words = memoryview(self.map)[:RINGS_AT].cast("Q")
        self.words[RING_BYTES], self.words[LIMIT_BYTES] = self.ring_bytes, limit_bytes

    def read(self, pipe: int, stream: int) -> bytes:
        """Read what is in a pipe, up to ``READ_BYTES``, and note it. ``stream`` is 0 or 1.

        Raises:
            BlockingIOError: if nothing is in the pipe.
        """
        words = self.words
        words[VERSION] += 1
        try:
            data = os.read(pipe, READ_BYTES)
            at = words[STDOUT + stream]
            self.put(stream, at, data)
            words[STDOUT + stream] = at + len(data)
        finally:
            words[VERSION] += 1
        return data

    def put(self, stream: int, at: int, data: bytes) -> None:
        """Write data that begins at position ``at`` of a stream into the stream's ring."""
        begin, ring_at = at % self.ring_bytes, RINGS_AT + stream * self.ring_bytes
        first = min(len(data), self.ring_bytes - begin)
        self.map[ring_at + begin : ring_at + begin + first] = data[:first]
        if first < len(data):
            self.map[ring_at : ring_at + len(data) - first] = data[first:]


class Warden:
    """Runs one worker, from its start to the end of the last process that descends from it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        #: The pipes of the worker's standard output and standard error that are not at their end, with 0 and 1.
        self.printed: dict[int, int] = {}
        self.tail = b""
        self.memory: Memory | None = None
        self.printer: FilePrinter | TerminalPrinter | None = None
        self.worker = 0
        self.code: int | None = None
        #: Pipe that becomes readable when a child ends.
        self.wake, wake = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Start the worker and return when it and all its descendants have ended."""
        trouble = self.start()
        if trouble:
            report("failed " + trouble)
            return
        report(f"started {self.worker} {self.order['environment'].get(PRINTED_VARIABLE, '')}")
        try:
            self.mind()
        finally:
            self.end_all()
        for pipe in self.printed:
            self.take_from(pipe, LEFT_OVER_BYTES)
        if self.printer is not None:
            self.printer.close()
        report(f"ended {-signal.SIGKILL if self.code is None else self.code}", self.tail)

    def start(self) -> str:
        """Start the worker. Returns the error as text if it cannot be started, else an empty text."""
        pipes = os.pipe(), os.pipe()
        self.printed = {pipes[0][0]: 0, pipes[1][0]: 1}
        self.remember(pipes[0][0], pipes[1][0])
        fault, told = os.pipe()
        parent = os.getpid()
        try:
            self.worker = os.fork()
        except OSError as error:
            return f"cannot start a process: {error.strerror}"
        if self.worker == 0:
            become(self.order, parent, pipes[0][1], pipes[1][1], told)
        for descriptor in (pipes[0][1], pipes[1][1], told):
            os.close(descriptor)
        for descriptor in self.printed:
            os.set_blocking(descriptor, False)
        with open(fault, "rb") as reader:
            said = reader.read()  # ends when the worker's program runs
        return said.decode("utf-8", "backslashreplace")

    def remember(self, stdout: int, stderr: int) -> None:
        """Have what is printed kept in shared memory, and tell the worker where; no-op where that cannot be."""
        limit_bytes = self.order["output_bytes"]
        if limit_bytes and hasattr(os, "memfd_create"):
            try:
                self.memory = Memory(limit_bytes)
            except OSError:
                return  # no memory, or no descriptor: the worker runs without
            where = (os.getpid(), self.memory.descriptor, stdout, stderr)
            self.order["environment"][PRINTED_VARIABLE] = ",".join(map(str, where))

    def mind(self) -> None:
        """Pass on the worker's output and obey the agent until either is gone."""
        poll = select.poll()
        for descriptor in (0, *self.printed, self.wake):
            poll.register(descriptor, select.POLLIN)
        while self.code is None:
            for descriptor, _ in poll.poll():
                if descriptor in self.printed:
                    if not self.take_from(descriptor, READ_BYTES):
                        poll.unregister(descriptor)  # all processes that could print have closed it
                        del self.printed[descriptor]
                elif descriptor == self.wake:
                    os.read(self.wake, 512)
                    self.reap()
                elif not self.obey(os.read(0, 64)):
                    return

    def obey(self, asked: bytes) -> bool:
        """Obey what the agent wrote to the pipe. Returns False to end everything: ``k``, or the pipe's end."""
        if not asked or b"k" in asked:
            return False
        if b"t" in asked and self.code is None:
            os.kill(self.worker, signal.SIGTERM)
        return True

    def reap(self) -> bool:
        """Reap children that have ended. Returns False when no children are left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.worker:
                self.code = os.waitstatus_to_exitcode(status)

    def take_from(self, pipe: int, limit_bytes: int) -> bool:
        """Pass on output that is ready in a pipe, up to ``limit_bytes`` or a little more. Returns False at its end."""
        taken = 0
        while taken < limit_bytes:
            try:
                data = self.memory.read(pipe, self.printed[pipe]) if self.memory else os.read(pipe, READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            taken += len(data)
            self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
            if self.printer is None:
                log = self.order["log"]
                self.printer = FilePrinter(log, self.order["log_bytes"]) if log else TerminalPrinter()
            self.printer.write(data)
        return True

    def end_all(self) -> None:
        """Kill the worker's group and all other descendants until none is left, or ``KILL_LIMIT_S`` have passed."""
        deadline = time.monotonic() + KILL_LIMIT_S
        while time.monotonic() < deadline:
            try:
                os.killpg(self.worker, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            for pid in descendants(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
            if not self.reap():
                return
            select.select([self.wake], [], [], 0.01)
            try:
                os.read(self.wake, 512)
            except BlockingIOError:
                pass


def become(order: dict[str, Any], parent: int, stdout: int, stderr: int, told: int) -> NoReturn:
    """Turn the forked child into the worker's program. Does not return; errors are written to ``told``."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)  # the warden ended before the line above took effect
        try:
            os.setsid()
        except OSError:
            os.setpgid(0, 0)  # in a sandbox that allows no sessions
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except OSError:
                    pass  # the C library keeps this signal for itself
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        if order["open_files"]:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, order["open_files"])
        command = order["command"]
        os.execvpe(command[0], command, order["environment"])
    except BaseException as error:
        text = getattr(error, "strerror", None) or repr(error)
        os.write(told, f"{order['command'][0]}: {text}".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(127)


def descendants(root: int) -> list[int]:
    """Return the ids of all descendants of a process, as far as /proc lists them."""
    below: list[int] = []
    parents: dict[int, list[int]] = {}
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return below
    for pid in listed:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parents.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(pid)
        except (OSError, IndexError, ValueError):
            continue
    level = [root]
    while level:
        level = [child for parent in level for child in parents.get(parent, ())]
        below += level
    return below


def report(line: str, rest: bytes = b"") -> None:
    """Write a line of the report, then ``rest``. No-op if the agent is gone."""
    try:
        os.write(1, line.encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n" + rest)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EBADF):
            raise


def read_order() -> dict[str, Any] | None:
    """Read the agent's order from standard input. Returns None if the agent is gone before it is complete."""

    def read(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(0, size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    try:
        order: dict[str, Any] = marshal.loads(read(int.from_bytes(read(8), "big")))
    except EOFError:
        return None
    return order


def main() -> None:
    """Run a warden until its worker and all descendants have ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # only the agent ends a warden, through the pipe
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    order = read_order()
    if order is not None:
        Warden(order).run()


if __name__ == "__main__":
    main()
    os._exit(0)  # at once, without waiting for a thread that writes
