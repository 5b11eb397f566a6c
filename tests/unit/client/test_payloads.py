from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.client.submitting.payloads import can_be_read_again, normal_payload, payload_chunks


@given(pieces=st.lists(st.binary(max_size=60)), limit=st.integers(1, 25))
async def test_pieces_become_even_chunks(pieces: list[bytes], limit: int) -> None:
    chunks = [chunk async for chunk in payload_chunks(pieces, limit)]
    assert b"".join(chunks) == b"".join(pieces)
    assert all(len(chunk) == limit for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= limit for chunk in chunks)


async def test_an_iterable_is_read_no_further_than_needed() -> None:
    read = 0

    def pieces() -> object:
        nonlocal read
        for _ in range(100):
            read += 1
            yield bytes(1024 * 1024)

    chunks = payload_chunks(pieces(), 84_000)  # type: ignore[arg-type]
    await anext(chunks)
    assert read <= 2
    await chunks.aclose()  # type: ignore[attr-defined]


def test_what_can_be_read_again(tmp_path: Path) -> None:
    assert can_be_read_again(b"ab")
    assert can_be_read_again(normal_payload(tmp_path))
    assert can_be_read_again([b"ab"])
    assert not can_be_read_again(iter([b"ab"]))


def test_a_path_of_any_kind_is_a_file() -> None:
    assert normal_payload(Path("x")) == Path("x")
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        normal_payload("x")  # type: ignore[arg-type]
