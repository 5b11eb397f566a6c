"""What attempts print, by whichever lane and in whichever way: each attempt's own, all of it up to the limit."""

import asyncio

import pytest

from agreement.scripts import task
from agreement.stage import Stage, unique
from ripieno.client import Client, NotFoundError, TaskOutput, TaskStatus

#: Pieces of Python that print, and what comes of it.
WAYS: dict[str, tuple[bytes, bytes]] = {
    "print('by print')": (b"by print\n", b""),
    "print('no newline', end='')": (b"no newline", b""),
    "import sys; print('an error', file=sys.stderr)": (b"", b"an error\n"),
    "import os; os.write(1, bytes([255, 0, 10])); os.write(2, b'both')": (b"\xff\x00\n", b"both"),
    "import subprocess; subprocess.run(['sh', '-c', 'echo from a child; echo its error >&2'])": (
        b"from a child\n",
        b"its error\n",
    ),
    "import ctypes; ctypes.CDLL(None).printf(b'from C')": (b"from C", b""),
    "pass": (b"", b""),
    "import sys; sys.stdout.write('x' * 100_000)": (b"x" * 65_536, b""),
}


def output(stdout: bytes = b"", stderr: bytes = b"", *, attempt: int = 0, left_out: int = 0) -> TaskOutput:
    return TaskOutput(attempt, stdout, stderr, left_out, 0, over=True)


async def test_each_attempt_has_what_it_printed_itself(stage: Stage) -> None:
    """Many are sent ahead to one worker and run one after the other, the silent ones too."""
    session = await stage.session()
    codes = list(WAYS) * 4
    handles = await session.submit_many([task(unique("print"), ["run", code]) for code in codes])
    assert await session.wait() == {TaskStatus.COMPLETED: len(codes)}
    for handle, code in zip(handles, codes, strict=True):
        stdout, stderr = WAYS[code]
        left_out = 34_464 if "100_000" in code else 0
        assert await handle.output() == output(stdout, stderr, left_out=left_out), code


async def test_a_retry_has_an_output_of_its_own(stage: Stage) -> None:
    session = await stage.session(max_retries=2)
    code = "print('attempt', task.task_id.partition('###')[2] or 0)"
    handle = await session.submit(task(unique("retry"), ["run", code], ["fail", "boom", 2], ["give", "done"]))
    assert await handle.result(timeout=60) == b"done"
    for attempt in range(3):
        assert await handle.output(attempt) == output(f"attempt {attempt}\n".encode(), attempt=attempt)
    assert await handle.output() == output(b"attempt 2\n", attempt=2)
    assert (await session.output(f"{handle.id}###1")).attempt == 1


async def test_a_worker_that_dies_leaves_its_last_words(stage: Stage) -> None:
    session = await stage.session()
    handle = await session.submit(task(unique("dies"), ["run", "import os; os.write(2, b'last words'); os._exit(3)"]))
    assert (await stage.seen(handle)).status is TaskStatus.ERROR
    assert await handle.output() == output(b"", b"last words")


async def test_an_attempt_that_takes_too_long_leaves_what_it_printed(stage: Stage) -> None:
    session = await stage.session(max_duration=0.5)
    code = "import time; print('begun', flush=True); time.sleep(60)"
    handle = await session.submit(task(unique("slow"), ["run", code]))
    assert (await stage.seen(handle)).status is TaskStatus.TIMEOUT
    assert (await handle.output()).stdout == b"begun\n"


async def test_closed_and_redirected_descriptors_lose_only_their_own(stage: Stage) -> None:
    session = await stage.session()
    for code, stdout in [
        ("import os; os.write(1, b'before'); os.close(1)", b"before"),
        ("import os; kept = os.dup(1); f = os.open('/dev/null', 1); os.dup2(f, 1); os.write(1, b'nowhere')", b""),
    ]:
        handle = await session.submit(task(unique("descriptors"), ["run", code]))
        assert await handle.result(timeout=60) == b"ran"
        assert (await handle.output()).stdout == stdout, code


async def test_what_is_printed_while_nothing_runs_is_nobodys(one_stage: Stage) -> None:
    """A thread that a handler has left behind prints when its attempt is over, and before the next one begins."""
    stage, gate = one_stage, one_stage.gate()
    session = await stage.session()
    code = f"""
import os, pathlib, threading, time
def later():
    while not pathlib.Path({str(gate.path)!r}).exists():
        time.sleep(0.001)
    os.write(1, b"late")
    pathlib.Path({str(gate.path)!r} + ".printed").touch()
threading.Thread(target=later, daemon=True).start()
print("mine")
"""
    first = await session.submit(task(unique("leaves"), ["run", code]))
    assert await first.result(timeout=60) == b"ran"
    gate.open()
    async with asyncio.timeout(60):
        while not gate.path.with_name(gate.path.name + ".printed").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    others = await session.submit_many([task(unique("after"), ["run", "print('own')"]) for _ in range(4)])
    await session.wait()
    assert (await first.output()).stdout == b"mine\n"
    assert [(await other.output()).stdout for other in others] == [b"own\n"] * 4


async def test_what_an_attempt_prints_is_followed_while_it_runs(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    name = unique("followed")
    hold = ["hold", str(gate.path)]
    code = "import sys; print('first', flush=True); print('error', end='', file=sys.stderr, flush=True)"
    handle = await session.submit(task(name, ["run", code], hold, ["run", "print('second')"]))
    pieces = session.follow_output(handle)
    seen: list[TaskOutput] = []
    async with asyncio.timeout(60):
        async for piece in pieces:
            seen.append(piece)
            if not gate.path.exists() and b"".join(each.stdout for each in seen) == b"first\n":
                assert not piece.over
                now = await handle.output()
                assert (now.stdout, now.stderr, now.over) == (b"first\n", b"error", False)
                gate.open()
    assert b"".join(each.stdout for each in seen) == b"first\nsecond\n"
    assert b"".join(each.stderr for each in seen) == b"error"
    assert [each.over for each in seen] == [False] * (len(seen) - 1) + [True]
    assert await handle.output() == output(b"first\nsecond\n", b"error")


async def test_what_is_not_there_is_told(one_stage: Stage) -> None:
    session = await one_stage.session()
    handle = await session.submit(task(unique("one"), ["give", "x"]))
    await handle.result(timeout=60)
    assert await handle.output() == output()
    with pytest.raises(NotFoundError, match=rf"task '{handle.id}' has no attempt 1; its latest is 0"):
        await handle.output(1)
    with pytest.raises(NotFoundError, match="there is no task 'unknown'"):
        await session.output("unknown")
    assert [piece async for piece in session.follow_output(handle)] == [output()]


async def test_a_program_without_an_event_loop_is_told_the_same(one_stage: Stage) -> None:
    session = await one_stage.session()
    handle = await session.submit(task(unique("blocking"), ["run", "print('printed')"]))
    await handle.result(timeout=60)

    def ask() -> list[TaskOutput]:
        with Client(one_stage.process.address) as client:
            blocking = client.open_session(session.id)
            return [blocking.output(handle.id), *blocking.follow_output(handle.id, 0)]

    assert await asyncio.to_thread(ask) == [output(b"printed\n")] * 2


async def test_a_flood_costs_no_memory_and_holds_nobody_up(one_stage: Stage) -> None:
    """Far more than any buffer on the way, from Python and from a child at once; the end of each is right."""
    session = await one_stage.session(max_duration=60)
    code = """
import os, subprocess
child = subprocess.Popen("head -c 50000000 /dev/zero >&2; echo the end of the child >&2", shell=True)
for number in range(1000):
    os.write(1, (b"%07d\\n" % number) * 12_500)
child.wait()
"""
    handles = await session.submit_many([task(unique("flood"), ["run", code])])
    before = resident_bytes(one_stage)
    assert await handles[0].result(timeout=60) == b"ran"
    found = await handles[0].output()
    assert found.stdout == b"0000999\n" * 8192
    assert found.stdout_left_out == 100_000_000 - 65_536
    assert found.stderr.endswith(b"\0the end of the child\n")
    assert found.stderr_left_out + len(found.stderr) == 50_000_021
    assert resident_bytes(one_stage) - before < 64 * 1024 * 1024


def resident_bytes(stage: Stage) -> int:
    """The memory of all processes of the cluster."""
    return sum(each.memory_info().rss for each in stage.process.tree())


async def test_a_log_of_a_task_is_part_of_what_its_attempt_prints(stage: Stage) -> None:
    session = await stage.session(max_retries=1)
    code = "task.log.info('attempt %d', task.attempt); print('printed')"
    handles = [
        await session.submit(task(unique("log"), ["run", code], ["fail", "boom", 1], ["give", "x"])) for _ in range(2)
    ]
    for handle in handles:
        assert await handle.result(timeout=60) == b"x"
        for attempt in (0, 1):
            told = await handle.output(attempt)
            [line] = told.stderr.decode().splitlines()
            assert line.endswith(f"Z INFO attempt {attempt}") and told.stdout == b"printed\n"
