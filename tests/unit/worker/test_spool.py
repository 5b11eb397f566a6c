import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripieno.worker.conversation.spool import SPOOL_LIMIT_BYTES, Spool


@given(st.lists(st.binary(max_size=20)), st.booleans())
@settings(max_examples=50)
def test_what_went_in_comes_out(chunks: list[bytes], large: bool) -> None:
    if large:
        chunks = [bytes(SPOOL_LIMIT_BYTES), *chunks, b"!"]
    spool = Spool()
    for chunk in chunks:
        spool.append(chunk)
    whole = b"".join(chunks)
    assert spool.size == len(whole)
    assert spool.spilled == large
    assert spool.read() == whole
    with spool.open() as first, spool.open() as second:
        assert first.read(5) + second.read(5) + first.read() == whole[:5] + whole[:5] + whole[5:]
    spool.close()


def test_a_reader_over_a_file_seeks() -> None:
    spool = Spool(bytes(SPOOL_LIMIT_BYTES))
    spool.append(b"the end")
    with spool.open() as reader:
        assert reader.seekable()
        assert reader.seek(-3, io.SEEK_END) == SPOOL_LIMIT_BYTES + 4
        assert reader.read() == b"end"
        assert reader.seek(SPOOL_LIMIT_BYTES) == SPOOL_LIMIT_BYTES
        reader.seek(1, io.SEEK_CUR)
        assert (reader.read(2), reader.tell()) == (b"he", SPOOL_LIMIT_BYTES + 3)
        with pytest.raises(ValueError, match="before the start"):
            reader.seek(-1)
    spool.close()
