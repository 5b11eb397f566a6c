"""The committed stubs are those of the committed ``.proto`` files."""

from protocol.generate_stubs import generate, stale


def test_stubs_are_current() -> None:
    assert stale(generate()) == []
