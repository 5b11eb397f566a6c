"""What stands between an agent and a worker: starts it clean, keeps what it prints, ends all that came of it."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ripieno.agent.workers import supervisor, warden
from ripieno.agent.workers.supervisor import WorkerProcess, Workshop
from unit.agent.wardens import minded, outcome, printed, python, until_gone

#: Starts children in four ways, prints their numbers and its own, each with whether it left the group, and waits.
FAMILY = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(300)"]
pids = [subprocess.Popen(sleeper).pid, subprocess.Popen(sleeper, start_new_session=True).pid]
forked = os.fork()
if forked == 0:
    os.setsid()
    if os.fork() == 0:  # a daemon, as the books tell to make one
        os.write(1, b"left %d\\n" % os.getpid())
        time.sleep(300)
    os._exit(0)
os.waitpid(forked, 0)
shell = subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; nohup sleep 300 >/dev/null 2>&1 & echo in $!; wait"])
for where, pid in zip(["in", "left", "in", "in"], [*pids, shell.pid, os.getpid()]):
    os.write(1, f"{where} {pid}\\n".encode())
time.sleep(300)
"""
FAMILY_SIZE = 6


@pytest.mark.parametrize("how", ["agent gone", "warden killed", "worker killed", "stopped", "killed"])
async def test_nothing_that_came_of_a_worker_outlives_it(tmp_path: Path, how: str) -> None:
    async with minded(python(FAMILY), tmp_path) as process:
        family = {int(pid): where for where, pid in map(str.split, await printed(tmp_path, FAMILY_SIZE))}
        pids = list(family)
        assert len(pids) == FAMILY_SIZE and process.pid in pids
        if how == "agent gone":
            process._close_orders()
        elif how == "warden killed":
            process._process.kill()
        elif how == "worker killed":
            os.kill(process.pid, signal.SIGKILL)
        elif how == "killed":
            process.kill("the reason")
        else:
            await process.stop()
        if how == "warden killed":
            # Nobody adopts what left the group then; the worker and its group go.
            await until_gone(*(pid for pid in pids if family[pid] == "in"))
            for pid in pids:
                with_suppressed_kill(pid)
        await until_gone(*pids)


def with_suppressed_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (python("import sys; sys.exit(3)"), "the worker process ended with exit code 3"),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), "the worker process was ended by SIGSEGV"),
        (python("import os; os.abort()"), "the worker process was ended by SIGABRT"),
        (python("import sys; sys.exit('no licence')"), "ended with exit code 1; it printed last:\nno licence"),
        (
            python("import os; os.write(1, b'\\xff\\x00 odd'); os._exit(4)"),
            "exit code 4; it printed last:\n\\xff\\x00 odd",
        ),
        (["no-such-command", "x"], "the worker cannot be started: no-such-command: No such file or directory"),
        (["/etc/passwd"], "the worker cannot be started: /etc/passwd: Permission denied"),
        (["/"], "the worker cannot be started: /: Permission denied"),
    ],
    ids=["exit", "segfault", "abort", "message", "bytes", "missing", "not executable", "directory"],
)
async def test_an_end_is_told_with_the_last_words(tmp_path: Path, command: list[str], said: str) -> None:
    assert (await outcome(command, tmp_path)).endswith(said)


async def test_of_a_flood_the_end_is_told(tmp_path: Path) -> None:
    told = await outcome(python("print('x' * 10_000_000 + ' the end')"), tmp_path)
    assert told.endswith("x the end")
    assert len(told) < 2 * supervisor.LAST_WORDS_BYTES


async def test_a_reason_given_with_a_kill_is_the_one_that_counts(tmp_path: Path) -> None:
    async with minded(python("import time; time.sleep(300)"), tmp_path) as process:
        assert process.kill("it did not yield")
        async with asyncio.timeout(10):
            assert await process.ended() == "it did not yield"


async def test_a_worker_starts_with_default_signals_and_three_descriptors(tmp_path: Path) -> None:
    """Whatever its agent ignores, blocks or has open."""
    program = (
        "import json, os, resource, signal;"
        "print(json.dumps([[int(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],"
        " [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())], sorted(map(int, os.listdir('/proc/self/fd')))[:-1],"
        " resource.getrlimit(resource.RLIMIT_NOFILE), os.getsid(0) == os.getpid(), os.read(0, 1) == b'']))"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ignored = (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    with tempfile.TemporaryFile() as inheritable:
        os.set_inheritable(inheritable.fileno(), True)
        try:
            async with minded(python(program), tmp_path, open_files=(min(soft, 200), hard)) as process:
                await process.ended()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
            for number, action in before.items():
                signal.signal(number, action)
    ignored_there, blocked, descriptors, open_files, leads, at_end = json.loads((await printed(tmp_path, 1))[0])
    # Python itself ignores these two when it starts.
    assert set(ignored_there) <= {signal.SIGPIPE, signal.SIGXFSZ}
    assert (blocked, descriptors, open_files, leads, at_end) == ([], [0, 1, 2], [min(soft, 200), hard], True, True)


async def test_a_worker_asked_to_end_gets_the_signal_once(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time;"
        "signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(0)));"
        "print('there', flush=True); time.sleep(300)"
    )
    async with minded(python(program), tmp_path) as process:
        await printed(tmp_path, 1)
        await process.stop()
    assert await printed(tmp_path, 2) == ["there", "asked"]


async def test_what_is_printed_is_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_LIMIT_BYTES", 200_000)
    await outcome(python("import os\nfor n in range(200): os.write(1, (b'%d ' % n) * 10_000)"), tmp_path)
    log, old = tmp_path / "worker-0.log", tmp_path / "worker-0.log.1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0.log", "worker-0.log.1"]
    assert log.read_bytes().endswith(b"199 ")
    assert old.stat().st_size <= 300_000 and log.stat().st_size <= 300_000


async def test_a_worker_goes_on_printing_when_its_file_cannot_be_written(tmp_path: Path) -> None:
    assert "exit code 5" in await outcome(
        python("import os\nfor n in range(500): os.write(1, b'x' * 10_000)\nos._exit(5)"), tmp_path / "missing"
    )


async def test_a_worker_goes_on_printing_when_nobody_reads(tmp_path: Path) -> None:
    """Without a directory for logs it goes to standard error, which may be a pipe that nobody reads."""
    order = Workshop(python("import os\nfor n in range(500): os.write(1, b'x' * 10_000)\nos._exit(5)"))
    reading, writing = os.pipe()
    with subprocess.Popen(  # noqa: ASYNC220 - as the agent starts it
        [sys.executable, "-I", "-S", warden.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(order.order(f"unix:{tmp_path}/w.sock", 0))
        process.stdin.flush()
        report = await asyncio.to_thread(process.stdout.read)
        assert b"\nended 5\n" in report
    os.close(reading)
    os.close(writing)


async def test_a_process_that_cannot_be_started_is_an_error_of_that_moment(tmp_path: Path) -> None:
    """The agent's descriptors are used up; with one free again the next start works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    held = []
    try:
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        with pytest.raises(OSError, match="Too many open files"):
            WorkerProcess.start(Workshop(["true"]), f"unix:{tmp_path}/w.sock", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    assert "exit code 0" in await outcome(["true"], tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="zombies are counted in /proc")
async def test_orphans_that_end_are_no_zombies(tmp_path: Path) -> None:
    program = (
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(0.05)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('done', flush=True); time.sleep(300)"
    )
    async with minded(python(program), tmp_path) as process:
        await printed(tmp_path, 1)
        family = psutil.Process(process._process.pid)
        async with asyncio.timeout(10):
            while [child.pid for child in family.children(recursive=True)] != [process.pid]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_worker_that_stopped_its_warden_is_killed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "WARDEN_END_S", 0.2)
    program = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(300)"
    async with minded(python(program), tmp_path) as process, asyncio.timeout(20):
        while psutil.Process(process._process.pid).status() != psutil.STATUS_STOPPED or not process.pid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.kill("the reason")
        assert await process.ended() == "the reason"
        await until_gone(process.pid)


async def test_a_socket_that_cannot_be_removed_is_left(tmp_path: Path) -> None:
    program = "import os; os.mkdir(os.environ['RIPIENO_WORKER_ADDRESS'].removeprefix('unix:'))"
    assert "exit code 0" in await outcome(python(program), tmp_path)
    assert (tmp_path / "w.sock").is_dir()
