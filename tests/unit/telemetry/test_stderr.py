"""Standard error for a process whose starter may not read it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ripieno.telemetry import stderr
from ripieno.telemetry.stderr import HELD_BYTES, PatientStderr


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def everything(reading: int, writing: int) -> bytes:
    """What comes until the other end is closed."""
    os.close(writing)
    data = b""
    while more := os.read(reading, 65_536):
        data += more
    return data


def test_what_is_written_comes_in_order_and_whole(pipe: tuple[int, int]) -> None:
    patient = PatientStderr(pipe[1], "utf-8")
    for number in range(1000):
        print(number, file=patient)
    patient.drain(5)
    assert everything(*pipe).decode().splitlines() == [str(number) for number in range(1000)]


def test_nobody_waits_for_a_reader_who_does_not_read(pipe: tuple[int, int]) -> None:
    patient = PatientStderr(pipe[1], "utf-8")
    began = time.monotonic()
    for _ in range(100):
        patient.write("x" * 99_999 + "\n")
        patient.flush()
    assert time.monotonic() - began < 2
    began = time.monotonic()
    patient.drain(0.2)
    assert 0.1 < time.monotonic() - began < 2
    assert patient._held_bytes <= HELD_BYTES
    # Somebody reads after all: what waited comes, and how much did not.
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.extend(iter(lambda: os.read(pipe[0], HELD_BYTES), b"")))
    reader.start()
    patient.drain(5)
    patient.write("later\n")
    patient.drain(5)
    os.close(pipe[1])
    reader.join(5)
    before, told, after = b"".join(taken).decode().partition("[")
    assert (
        told
        and after == f"{100 * 100_000 - len(before)} bytes of this were dropped: nobody read them in time]\nlater\n"
    )


def test_a_reader_that_went_away_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    patient = PatientStderr(pipe[1], "utf-8")
    patient.write("to nobody\n")
    patient.drain(5)
    assert patient._held_bytes == 0


@pytest.mark.parametrize(("encoding", "written"), [("ascii", b"caf\\xe9 \\udce9"), ("utf-8", b"caf\xc3\xa9 \\udce9")])
def test_characters_that_the_encoding_lacks_are_written_out(
    pipe: tuple[int, int], encoding: str, written: bytes
) -> None:
    patient = PatientStderr(pipe[1], encoding)
    patient.write("café \udce9")
    patient.drain(5)
    assert everything(*pipe) == written


@pytest.mark.parametrize("end", ["", "raise ValueError('the end')", "sys.exit('the end')"])
def test_the_last_words_of_a_process_are_written(end: str) -> None:
    program = f"import sys; from {stderr.__name__} import install_patient_stderr as install; install(); install(); print('said', file=sys.stderr); {end}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr.startswith("said\n")
    assert ("the end" in ended.stderr) == bool(end)
