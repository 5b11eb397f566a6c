"""What a process has freed goes back to the system, also where something in use lies between."""

import subprocess
import sys

import pytest

MIB = 1024 * 1024

#: Run in a process of its own: what other tests have left there, or their threads do, would be measured too.
PROGRAM = """
import asyncio
from ripieno.memory import Memory, resident_bytes

async def main():
    memory = Memory()
    assert memory._trim is not None
    before = resident_bytes()
    pieces = [b"x" * (100_000 + n) for n in range(1_000)]
    held = [bytearray(1_000) for _ in range(1_000)]
    taken = resident_bytes() - before
    del pieces
    await memory._look()
    print(taken, resident_bytes() - before, len(held))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked to give memory back")
def test_what_was_freed_between_what_is_in_use_goes_back() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    taken, left, held = map(int, ended.stdout.split())
    assert taken > 80 * MIB
    assert left < 40 * MIB
    assert held == 1_000
