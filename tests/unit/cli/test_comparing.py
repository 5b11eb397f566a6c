"""How results and reasons are compared."""

import io
import pickle

import pytest

from ripieno.cli.replaying.comparing import compare_bytes, compare_reasons


def lines(recorded: bytes, now: bytes, *, pickled: bool = False) -> tuple[bool, list[str]]:
    compared = compare_bytes(io.BytesIO(recorded), io.BytesIO(now), pickled=pickled)
    return compared.same, list(compared.lines)


def test_equal_bytes() -> None:
    assert lines(b"", b"") == (True, ["the same (0 bytes)"])
    assert lines(b"x" * 3_000_000, b"x" * 3_000_000) == (True, ["the same (3,000,000 bytes)"])


@pytest.mark.parametrize("length", [1_000, 3_000_000])
def test_the_first_difference_is_found(length: int) -> None:
    same, said = lines(b"\xff" * length, b"\xff" * (length - 1) + b"\0")
    assert not same
    assert said[0] == f"different from byte {length - 1:,} on ({length:,} bytes recorded, {length:,} now)"
    assert said[1].startswith("recorded: ff ff")
    assert "ff 00  (from byte" in said[2]
    _, said = lines(b"\xff" * length, b"\xff" * (length + 5))
    assert said[0].startswith(f"different from byte {length:,} on")


def test_texts_are_compared_by_lines() -> None:
    same, said = lines(b"a\nb\nc\n", b"a\nx\x1b\nc\n")
    assert not same
    assert said[1:] == ["--- recorded", "+++ now", "@@ -1,3 +1,3 @@", " a", "-b", "+x\\x1b", " c"]
    _, said = lines(b"a\n" * 100, b"b\n" * 100)
    assert said[-1].endswith("more lines]")


def test_pickles_are_compared_by_their_values() -> None:
    old = pickle.dumps({"a": 1}, 4)
    assert lines(old, pickle.dumps({"a": 1}, 5), pickled=True) == (True, ["an equal value, of other bytes"])
    same, said = lines(old, pickle.dumps({"a": 2}, 4), pickled=True)
    assert not same
    assert said[1:] == ["recorded: {'a': 1}", "now:      {'a': 2}"]
    assert not lines(old, b"no pickle", pickled=True)[0]


def test_reasons() -> None:
    assert compare_reasons("a\nE: x", "a\nE: x").same
    moved = compare_reasons("line 1\nE: x", "line 2\nE: x")
    assert (moved.same, moved.lines[0]) == (True, "it fails with the same last line, from another place:")
    other = compare_reasons("E: x", "E: y")
    assert (other.same, list(other.lines[-2:])) == (False, ["-E: x", "+E: y"])
