"""What a worker prints, as its warden keeps it: exact positions, and the end of what is between two of them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ripieno import printed as printed_module
from ripieno.agent.workers import warden
from ripieno.agent.workers.output import output_since
from ripieno.agent.workers.supervisor import WorkerProcess
from ripieno.domain.output import AttemptOutput
from ripieno.printed import Position, Printed
from unit.agent.wardens import minded, python, until_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kept where the kernel has anonymous files")

#: Runs a line of Python for each line in the file ``orders``, and says so in a file of its own.
OBEDIENT = """
import os, subprocess, sys, time
done = 0
while True:
    orders = open("{folder}/orders").read().split("\\n--\\n")[:-1] if os.path.exists("{folder}/orders") else []
    for order in orders[done:]:
        exec(order)
        done += 1
        open("{folder}/done", "w").write(str(done))
    time.sleep(0.001)
"""


class Obedient:
    """A worker that runs what a test says."""

    def __init__(self, process: WorkerProcess, printed: Printed, folder: Path) -> None:
        self.process = process
        self.printed = printed
        self._folder = folder
        self._orders = 0

    async def run(self, order: str) -> None:
        """Have the worker run a piece of Python, and wait until it has."""
        with (self._folder / "orders").open("a") as file:
            file.write(f"{order}\n--\n")
        self._orders += 1
        done = self._folder / "done"
        async with asyncio.timeout(30):
            while not done.exists() or done.read_text() != str(self._orders):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def output_of(self, order: str) -> AttemptOutput | None:
        """What is printed while the worker runs a piece of Python."""
        start = self.printed.position()
        await self.run(order)
        return await output_since(self.printed, start)


@asynccontextmanager
async def obedient(folder: Path, limit_bytes: int = 1000) -> AsyncIterator[Obedient]:
    command = python(OBEDIENT.format(folder=folder))
    async with minded(command, folder, output_bytes=limit_bytes) as process:
        async with asyncio.timeout(20):
            while process.printed is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        yield Obedient(process, process.printed, folder)


def test_both_ends_of_the_memory_mean_the_same() -> None:
    names = ("VERSION", "STDOUT", "RING_BYTES", "LIMIT_BYTES", "RINGS_AT", "PRINTED_VARIABLE")
    for name in names:
        assert getattr(warden, name) == getattr(printed_module, name), name
    assert warden.READ_BYTES == printed_module.STEP_BYTES
    assert warden.RING_ROOM_BYTES >= 2 * printed_module.STEP_BYTES, "else a step may reach into what is being taken"


async def test_what_is_printed_in_any_way_is_between_the_positions(tmp_path: Path) -> None:
    async with obedient(tmp_path) as worker:
        by_print = "print('by print', flush=True); print('an error', file=sys.stderr, flush=True)"
        assert await worker.output_of(by_print) == AttemptOutput(b"by print\n", b"an error\n")
        assert await worker.output_of("os.write(1, b'\\xff no text')") == AttemptOutput(b"\xff no text")
        assert await worker.output_of("subprocess.run(['sh', '-c', 'echo out; echo err >&2'])") == AttemptOutput(
            b"out\n", b"err\n"
        )
        import_ctypes = "import ctypes; ctypes.CDLL(None).write(2, b'from C', 6)"
        assert await worker.output_of(import_ctypes) == AttemptOutput(b"", b"from C")
        assert await worker.output_of("pass") is None


async def test_of_more_than_the_limit_the_end_is_kept_and_the_rest_counted(tmp_path: Path) -> None:
    async with obedient(tmp_path, limit_bytes=1000) as worker:
        assert await worker.output_of("os.write(1, b'a' * 1000)") == AttemptOutput(b"a" * 1000)
        assert await worker.output_of("os.write(1, b'b' + b'c' * 1000)") == AttemptOutput(b"c" * 1000, b"", 1)
        flood = "for n in range(400): os.write(2, (b'%08d' % n) * 8000)"
        assert await worker.output_of(flood) == AttemptOutput(b"", b"00000399" * 125, 0, 400 * 64_000 - 1000)
        assert await worker.output_of("os.write(1, b'small again')") == AttemptOutput(b"small again")


async def test_positions_are_exact_wherever_the_bytes_are(tmp_path: Path) -> None:
    """Also while the warden is stopped: bytes in the pipe count, and what it has not read is left out."""
    async with obedient(tmp_path) as worker:
        start = worker.printed.position()
        assert start is not None
        os.kill(worker.process._process.pid, signal.SIGSTOP)
        try:
            await worker.run("os.write(1, b'12345')")
            assert not worker.printed.quiet()
            end = worker.printed.position()
            assert end == Position(start.stdout + 5, start.stderr)
            assert await output_since(worker.printed, start) == AttemptOutput(b"", b"", 5)
        finally:
            os.kill(worker.process._process.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while not worker.printed.has_read(end):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert worker.printed.between(start, end) == AttemptOutput(b"12345")


async def test_what_was_printed_is_there_when_the_worker_has_died(tmp_path: Path) -> None:
    async with obedient(tmp_path) as worker:
        start = worker.printed.position()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await worker.run("os.write(2, b'last words'); os.abort()")
        await worker.process.ended()
        assert await output_since(worker.printed, start) == AttemptOutput(b"", b"last words")


async def test_a_worker_without_limit_has_no_memory(tmp_path: Path) -> None:
    program = f"import os; open('{tmp_path}/told', 'w').write(os.environ.get('RIPIENO_PRINTED', 'nothing'))"
    async with minded(python(program), tmp_path, output_bytes=0) as process:
        await process.ended()
        assert process.printed is None
    assert (tmp_path / "told").read_text() == "nothing"


async def test_the_memory_of_a_warden_that_is_gone_is_not_found(tmp_path: Path) -> None:
    async with minded(python("import os; print(os.environ['RIPIENO_PRINTED'])"), tmp_path) as process:
        await process.ended()
    where = (tmp_path / "worker-0.log").read_text().strip()
    await until_gone(int(where.split(",")[0]))
    assert Printed.named(where) is None
    assert Printed.named("") is None
    assert Printed.named("1,2,3") is None
