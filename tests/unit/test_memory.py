"""What a process has freed goes back to the system, also where something in use lies between."""

import sys

import pytest

from ripieno.memory import Memory, resident_bytes

MIB = 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked to give memory back")
async def test_what_was_freed_between_what_is_in_use_goes_back() -> None:
    memory = Memory()
    assert memory._trim is not None
    memory._trim()  # what other tests have left would be used first
    before = resident_bytes()
    pieces = [b"x" * (100_000 + n) for n in range(1_000)]
    held = [bytearray(1_000) for _ in range(1_000)]
    assert resident_bytes() - before > 80 * MIB
    del pieces
    await memory._look()
    assert resident_bytes() - before < 40 * MIB
    assert held
